//! The client's side of SCRAM-SHA-256, written apart from the broker's.

use std::num::NonZeroU32;

use base64ct::{Base64, Encoding};
use ring::{digest, hmac, pbkdf2};

/// One exchange.
pub(crate) struct ScramClient {
    password: &'static str,
    bare: String,
    signed: String,
    server_key: Vec<u8>,
}

impl ScramClient {
    pub(crate) fn new(user_name: &str, password: &'static str) -> Self {
        Self {
            password,
            bare: format!("n={user_name},r=fyko+d2lbbFgONRv9qkxdawL"),
            signed: String::new(),
            server_key: Vec::new(),
        }
    }

    pub(crate) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    /// The answer to the broker's challenge.
    pub(crate) fn last(&mut self, challenge: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let mut parts = challenge.splitn(3, ',');
        let mut part = |name| parts.next().unwrap().strip_prefix(name).unwrap();
        let (nonce, salt, rounds) = (part("r="), part("s="), part("i="));
        let own = self.bare.rsplit_once("r=").unwrap().1;
        assert!(
            nonce.starts_with(own) && nonce.len() > own.len() + 20,
            "{nonce}"
        );
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds.parse::<NonZeroU32>().unwrap(),
            &Base64::decode_vec(salt).unwrap(),
            self.password.as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, b"Client Key");
        self.server_key = sign(&salted, b"Server Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let unproven = format!("c=biws,r={nonce}");
        self.signed = format!("{},{challenge},{unproven}", self.bare);
        let signature = sign(stored_key.as_ref(), self.signed.as_bytes());
        let proof: Vec<_> = client_key
            .iter()
            .zip(signature)
            .map(|(a, b)| a ^ b)
            .collect();
        format!("{unproven},p={}", Base64::encode_string(&proof)).into_bytes()
    }

    /// The broker knows the password too.
    pub(crate) fn check(&self, answer: &[u8]) {
        let signature = sign(&self.server_key, self.signed.as_bytes());
        let expected = format!("v={}", Base64::encode_string(&signature));
        assert_eq!(answer, expected.as_bytes());
    }
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message).as_ref().to_vec()
}
