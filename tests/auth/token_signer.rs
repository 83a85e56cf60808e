//! Key files, and tokens with exactly the header and claims that a test wants.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac;
use serde_json::{Value, json};
use tidewire::config::{Jwt, JwtAlgorithm};

pub(crate) const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

/// A file that is gone with its test.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(content: &[u8]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-token-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        Self(path)
    }

    /// A configuration with this file as the key.
    pub(crate) fn jwt(&self, algorithm: JwtAlgorithm) -> Jwt {
        Jwt {
            key_file: Some(self.0.clone()),
            algorithm: Some(algorithm),
            ..Jwt::default()
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) fn signed_with(secret: &[u8], header: &Value, claims: &Value) -> String {
    let part = |json: &Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, message.as_bytes());
    format!(
        "{message}.{}",
        Base64UrlUnpadded::encode_string(signature.as_ref())
    )
}

/// Signed by HS256 with [`SECRET`].
pub(crate) fn signed(claims: &Value) -> String {
    signed_with(SECRET, &json!({"alg": "HS256"}), claims)
}

/// A token of alice that holds for so many seconds.
pub(crate) fn alice(seconds: u64) -> Value {
    json!({"sub": "alice", "exp": unix_seconds() + seconds})
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokens are dated by the calendar"
)]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
