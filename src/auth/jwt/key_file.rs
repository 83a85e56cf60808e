//! Key files: secrets, PEM and JSON Web Key Sets.

use std::io;
use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};
use tokio_rustls::rustls::pki_types::SubjectPublicKeyInfoDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use zeroize::Zeroizing;

use super::super::der::Der;
use super::super::web::AuthoritiesError;
use super::key::Key;
use crate::config::{Jwt, JwtAlgorithm};

/// Why keys are refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read.
    #[error("key file {}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The authorities of a server that publishes keys.
    #[error("auth.jwt.jwks_ca_file {0}")]
    Authorities(#[from] AuthoritiesError),
    /// A server that a running broker is to ask from now on gives no keys.
    #[error("auth.jwt.jwks_url {url}: {problem}")]
    Fetch {
        /// Where it was asked.
        url: String,
        /// What it said.
        problem: String,
    },
    /// Something else than the key that is expected.
    #[error("key file {}: {problem}", file.display())]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// All keys that the configuration names.
///
/// # Errors
/// A file cannot be read, or holds no key that can be used.
pub(super) fn load(config: &Jwt) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    if let (Some(file), Some(algorithm)) = (&config.key_file, config.algorithm) {
        let bytes = read(file)?;
        let key = key_of_file(algorithm, &bytes);
        keys.push(key.map_err(|problem| unfit(file, problem))?);
    }
    if let Some(file) = &config.jwks_file {
        let set = keys_of_set(&read(file)?);
        keys.extend(set.map_err(|problem| unfit(file, problem))?);
    }
    Ok(keys)
}

fn unfit(file: &Path, problem: impl Into<String>) -> KeyError {
    KeyError::Unfit {
        file: file.to_owned(),
        problem: problem.into(),
    }
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = std::fs::read(file).map(Zeroizing::new);
    bytes.map_err(|source| KeyError::Read {
        file: file.to_owned(),
        source,
    })
}

fn key_of_file(algorithm: JwtAlgorithm, bytes: &[u8]) -> Result<Key, &'static str> {
    let is_pem = bytes.trim_ascii_start().starts_with(b"-----BEGIN");
    if algorithm.is_hmac() {
        // A public key is no secret: who knows it could sign.
        if is_pem {
            return Err("is PEM, and HMAC needs a secret");
        }
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let secret = line.strip_suffix(b"\r").unwrap_or(line);
        return Key::secret(algorithm, secret).ok_or("the secret is shorter than its hash");
    }
    let info = SubjectPublicKeyInfoDer::from_pem_slice(bytes)
        .map_err(|_| "has no public key in PEM (`-----BEGIN PUBLIC KEY-----`)")?;
    let key = key_of_info(algorithm, &info);
    key.ok_or("the public key is of another kind than the algorithm, or too short")
}

/// Reads a SubjectPublicKeyInfo.
///
/// # Source
/// RFC 5280 section 4.1, RFC 8017 appendix A.1.1.
fn key_of_info(algorithm: JwtAlgorithm, info: &[u8]) -> Option<Key> {
    let mut whole = Der(Der(info).take(SEQUENCE)?);
    let kind = Der(whole.take(SEQUENCE)?).take(OBJECT_IDENTIFIER)?;
    let (unused, key) = whole.take(BIT_STRING)?.split_first()?;
    if *unused != 0 {
        return None;
    }
    match kind {
        RSA_ENCRYPTION => {
            let mut numbers = Der(Der(key).take(SEQUENCE)?);
            let modulus = numbers.take(INTEGER)?;
            Key::rsa(algorithm, modulus, numbers.take(INTEGER)?)
        }
        EC_PUBLIC_KEY | ED25519 => Key::curve(algorithm, key),
        _ => None,
    }
}

/// Reads a JSON Web Key Set; keys for other purposes and of unknown kinds are passed over.
///
/// # Source
/// RFC 7517 section 5, RFC 7518 section 6, RFC 8037 section 2.
pub(super) fn keys_of_set(bytes: &[u8]) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let entries = set.get("keys").and_then(Value::as_array);
    let entries = entries.ok_or("is no JSON Web Key Set: `keys` is missing")?;
    let mut keys = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let wrong = |problem: &str| format!("keys.{number}: {problem}");
        let entry = entry.as_object().ok_or_else(|| wrong("is no object"))?;
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|it| it != "sig") {
            continue;
        }
        let Some(algorithm) = algorithm_of(entry) else {
            tracing::warn!(number, "a key of the key set is not of a known kind");
            continue;
        };
        let mut key = key_of_entry(algorithm, entry)
            .ok_or_else(|| wrong("does not fit its algorithm, or is too short"))?;
        key.id = text("kid").map(Into::into);
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("has no key that signs tokens".into());
    }
    Ok(keys)
}

/// What the key says, or the only choice for its kind; RS256 for RSA, as most signers do.
fn algorithm_of(entry: &Map<String, Value>) -> Option<JwtAlgorithm> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    if let Some(name) = entry.get("alg") {
        return JwtAlgorithm::of_name(name.as_str()?);
    }
    match (text("kty")?, text("crv")) {
        ("RSA", _) => Some(JwtAlgorithm::Rs256),
        ("EC", Some("P-256")) => Some(JwtAlgorithm::Es256),
        ("EC", Some("P-384")) => Some(JwtAlgorithm::Es384),
        ("OKP", Some("Ed25519")) => Some(JwtAlgorithm::EdDsa),
        _ => None,
    }
}

fn key_of_entry(algorithm: JwtAlgorithm, entry: &Map<String, Value>) -> Option<Key> {
    let bytes = |name: &str| {
        let text = entry.get(name).and_then(Value::as_str)?;
        Base64UrlUnpadded::decode_vec(text).ok()
    };
    match entry.get("kty").and_then(Value::as_str)? {
        "oct" => Key::secret(algorithm, &Zeroizing::new(bytes("k")?)),
        "RSA" => Key::rsa(algorithm, &bytes("n")?, &bytes("e")?),
        "EC" => {
            let point = [vec![UNCOMPRESSED], bytes("x")?, bytes("y")?].concat();
            Key::curve(algorithm, &point)
        }
        "OKP" => Key::curve(algorithm, &bytes("x")?),
        _ => None,
    }
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;
const RSA_ENCRYPTION: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
const EC_PUBLIC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];
/// The first byte of a point with both coordinates.
const UNCOMPRESSED: u8 = 4;
