//! SCRAM-SHA-256, the server's side: messages in, messages out.
//!
//! Owns the messages and their proofs. Nonces and stored keys are arguments; channel binding is not
//! offered, since MQTT names no channel.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64ct::{Base64, Encoding};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use super::password::read_iterations;

/// What is kept of a password to check proofs of SCRAM-SHA-256.
///
/// # Shape
/// As text `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY` with padded base64, as RFC 5803.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

/// The client's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// Who wants to log in.
    pub user_name: String,
    /// `n,,` or the like: returns in the last message.
    gs2_header: &'a str,
    /// All after the header: part of what is signed.
    bare: &'a str,
    nonce: &'a str,
}

/// An exchange that awaits the client's last message.
#[derive(Clone)]
pub struct Exchange {
    verifier: ScramVerifier,
    gs2_header: Box<str>,
    nonce: String,
    /// The first two messages, as they are signed.
    messages: String,
}

/// Why an exchange fails; the client is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// More than any client has a reason to send, or not UTF-8.
    #[error("a SCRAM message must be at most {MESSAGE_BYTES_MAX} bytes of UTF-8")]
    Message,
    /// An attribute is missing, malformed or in the wrong place.
    #[error("the SCRAM message has no valid {0}")]
    Attribute(&'static str),
    /// The client insists on channel binding.
    #[error("channel binding is not offered")]
    ChannelBinding,
    /// The client insists on an extension.
    #[error("mandatory SCRAM extensions are not known")]
    Extension,
    /// The client wants to act for someone else.
    #[error("the authorization identity is not the user")]
    Authorization,
    /// Header or nonce are not those of this exchange.
    #[error("the last SCRAM message belongs to another exchange")]
    OtherExchange,
    /// The password is wrong.
    #[error("wrong proof")]
    Proof,
}

impl ScramVerifier {
    /// What to keep of a password.
    pub fn new(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            password,
            &mut salted,
        );
        Self {
            iterations,
            salt: salt.into(),
            stored_key: sha256(&sign(&salted, b"Client Key")),
            server_key: sign(&salted, b"Server Key"),
        }
    }

    /// What no password fits to and nobody can tell from a real one: the same for each call with
    /// the same secret and name, in the shape of this one.
    pub fn decoy(&self, secret: &[u8], user_name: &str) -> Self {
        let salt = sign(secret, user_name.as_bytes());
        let key = sign(secret, &salt);
        Self {
            iterations: self.iterations,
            salt: salt.iter().copied().cycle().take(self.salt.len()).collect(),
            stored_key: key,
            server_key: key,
        }
    }
}

impl FromStr for ScramVerifier {
    type Err = ScramVerifierError;

    fn from_str(text: &str) -> Result<Self, ScramVerifierError> {
        let (cost, keys) = text
            .strip_prefix("SCRAM-SHA-256$")
            .and_then(|rest| rest.split_once('$'))
            .ok_or(ScramVerifierError)?;
        let (iterations, salt) = cost.split_once(':').ok_or(ScramVerifierError)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(ScramVerifierError)?;
        let salt = Base64::decode_vec(salt).map_err(|_| ScramVerifierError)?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err(ScramVerifierError);
        }
        Ok(Self {
            iterations: read_iterations(iterations).ok_or(ScramVerifierError)?,
            salt: salt.into(),
            stored_key: read_key(stored_key).ok_or(ScramVerifierError)?,
            server_key: read_key(server_key).ok_or(ScramVerifierError)?,
        })
    }
}

/// A text is no verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SCRAM verifier must be SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY with base64, a \
     salt of at most {SALT_BYTES_MAX} bytes and keys of {KEY_BYTES} bytes"
)]
pub struct ScramVerifierError;

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            Base64::encode_string(&self.salt),
            Base64::encode_string(&self.stored_key),
            Base64::encode_string(&self.server_key)
        )
    }
}

/// Not for logs.
impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(..)")
    }
}

impl<'a> ClientFirst<'a> {
    /// Reads `gs2-header [reserved-mext ","] username "," nonce ["," extensions]`.
    ///
    /// # Errors
    /// The message is malformed, or demands what is not offered.
    ///
    /// # Source
    /// RFC 5802 section 7.
    pub fn read(message: &'a [u8]) -> Result<Self, ScramError> {
        let text = read_text(message)?;
        let (binding, rest) = text
            .split_once(',')
            .ok_or(ScramError::Attribute("header"))?;
        let (authorization, bare) = rest
            .split_once(',')
            .ok_or(ScramError::Attribute("header"))?;
        match binding {
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Attribute("header")),
        }
        if bare.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let mut attributes = bare.split(',');
        let user_name = attribute(attributes.next(), "n=", "user name")?;
        let user_name = read_name(user_name).ok_or(ScramError::Attribute("user name"))?;
        let nonce = attribute(attributes.next(), "r=", "nonce")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Attribute("nonce"));
        }
        if !authorization.is_empty() {
            let name = authorization.strip_prefix("a=").and_then(read_name);
            if name.is_none_or(|name| name != user_name) {
                return Err(ScramError::Authorization);
            }
        }
        Ok(Self {
            user_name,
            gs2_header: text.strip_suffix(bare).unwrap_or_default(),
            bare,
            nonce,
        })
    }
}

impl Exchange {
    /// Answers the first message; `nonce` is new for each exchange and cannot be guessed.
    pub fn begin(first: &ClientFirst<'_>, verifier: ScramVerifier, nonce: &str) -> (Self, String) {
        let nonce = format!("{}{nonce}", first.nonce);
        let salt = Base64::encode_string(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let this = Self {
            verifier,
            gs2_header: first.gs2_header.into(),
            nonce,
            messages: format!("{},{server_first}", first.bare),
        };
        (this, server_first)
    }

    /// Checks the last message and answers it with the broker's own proof.
    ///
    /// # Errors
    /// The message is malformed, of another exchange, or its proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<String, ScramError> {
        let text = read_text(message)?;
        let (unproven, proof) = text
            .rsplit_once(",p=")
            .ok_or(ScramError::Attribute("proof"))?;
        let mut attributes = unproven.split(',');
        let binding = attribute(attributes.next(), "c=", "header")?;
        let nonce = attribute(attributes.next(), "r=", "nonce")?;
        let header = Base64::encode_string(self.gs2_header.as_bytes());
        if binding != header || nonce != self.nonce {
            return Err(ScramError::OtherExchange);
        }
        let proof = read_key(proof).ok_or(ScramError::Attribute("proof"))?;
        let signed = format!("{},{unproven}", self.messages);
        let signature = sign(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = [0; KEY_BYTES];
        for (key, (proof, signature)) in client_key.iter_mut().zip(proof.iter().zip(signature)) {
            *key = proof ^ signature;
        }
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Proof);
        }
        let signature = sign(&self.verifier.server_key, signed.as_bytes());
        Ok(format!("v={}", Base64::encode_string(&signature)))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange(..)")
    }
}

fn read_text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::Message);
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Message)
}

fn attribute<'a>(
    part: Option<&'a str>,
    name: &str,
    what: &'static str,
) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name))
        .ok_or(ScramError::Attribute(what))
}

/// A name in which `=2C` stands for a comma and `=3D` for an equals sign.
fn read_name(text: &str) -> Option<String> {
    let mut parts = text.split('=');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let (sign, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else {
            ('=', part.strip_prefix("3D")?)
        };
        name.push(sign);
        name.push_str(rest);
    }
    (!name.is_empty()).then_some(name)
}

fn read_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    Base64::decode_vec(text).ok()?.try_into().ok()
}

/// HMAC with SHA-256.
pub(super) fn sign(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const SALT_BYTES_MAX: usize = 64;
/// The longest nonces and names in use are far below.
const MESSAGE_BYTES_MAX: usize = 4_096;

#[cfg(test)]
#[path = "scram/tests.rs"]
mod tests;
