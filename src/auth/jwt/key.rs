//! Keys that tokens are checked with; each signs by one algorithm.

use ring::digest::{Context, SHA256};
use ring::hmac;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

use crate::config::JwtAlgorithm;

/// One key with its algorithm.
pub(super) struct Key {
    /// What tokens call it; `None` fits every token of its algorithm.
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: JwtAlgorithm,
    /// Tells keys apart, whatever they are called.
    pub(super) mark: u64,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>, &'static RsaParameters),
    Curve(UnparsedPublicKey<Box<[u8]>>),
}

impl Key {
    /// For HMAC; `None` if the algorithm is another, or the secret shorter than its hash.
    ///
    /// # Source
    /// RFC 7518 section 3.2.
    pub(super) fn secret(algorithm: JwtAlgorithm, secret: &[u8]) -> Option<Self> {
        let hash = match algorithm {
            JwtAlgorithm::Hs256 => hmac::HMAC_SHA256,
            JwtAlgorithm::Hs384 => hmac::HMAC_SHA384,
            JwtAlgorithm::Hs512 => hmac::HMAC_SHA512,
            _ => return None,
        };
        let is_long = secret.len() >= hash.digest_algorithm().output_len();
        let material = || Material::Secret(hmac::Key::new(hash, secret));
        is_long.then(|| Self::new(algorithm, &[secret], material()))
    }

    /// For RSA, by modulus and exponent; `None` if the algorithm is another, or the key shorter
    /// than 2048 bits.
    pub(super) fn rsa(algorithm: JwtAlgorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let parameters = match algorithm {
            JwtAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            JwtAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            JwtAlgorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            JwtAlgorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            JwtAlgorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            JwtAlgorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        };
        let (n, e) = (without_zeros(modulus), without_zeros(exponent));
        let is_sized = (MODULUS_BYTES_MIN..=MODULUS_BYTES_MAX).contains(&n.len());
        let key = RsaPublicKeyComponents {
            n: n.into(),
            e: e.into(),
        };
        is_sized.then(|| Self::new(algorithm, &[n, e], Material::Rsa(key, parameters)))
    }

    /// For curves: an uncompressed point, or the 32 bytes of Ed25519; `None` if it is none of the
    /// curve that belongs to the algorithm.
    pub(super) fn curve(algorithm: JwtAlgorithm, point: &[u8]) -> Option<Self> {
        let is_point = |bytes: usize| point.len() == 1 + 2 * bytes && point.first() == Some(&4);
        let verification: &'static dyn signature::VerificationAlgorithm = match algorithm {
            JwtAlgorithm::Es256 if is_point(32) => &signature::ECDSA_P256_SHA256_FIXED,
            JwtAlgorithm::Es384 if is_point(48) => &signature::ECDSA_P384_SHA384_FIXED,
            JwtAlgorithm::EdDsa if point.len() == 32 => &signature::ED25519,
            _ => return None,
        };
        let key = UnparsedPublicKey::new(verification, point.into());
        Some(Self::new(algorithm, &[point], Material::Curve(key)))
    }

    fn new(algorithm: JwtAlgorithm, parts: &[&[u8]], material: Material) -> Self {
        Self {
            id: None,
            algorithm,
            mark: mark_of(algorithm, parts),
            material,
        }
    }

    /// Whether the key has signed the message.
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Rsa(key, parameters) => key.verify(parameters, message, signature).is_ok(),
            Material::Curve(key) => key.verify(message, signature).is_ok(),
        }
    }
}

fn mark_of(algorithm: JwtAlgorithm, parts: &[&[u8]]) -> u64 {
    let mut context = Context::new(&SHA256);
    for part in [&[algorithm.name().as_bytes()], parts].concat() {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let first = digest.as_ref().first_chunk();
    u64::from_be_bytes(*first.expect("SHA-256 has 32 bytes"))
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

const MODULUS_BYTES_MIN: usize = 256;
const MODULUS_BYTES_MAX: usize = 1_024;
