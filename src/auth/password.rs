//! Hashes of passwords: argon2id, and the two that mosquitto writes.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use base64ct::{Base64, Base64Unpadded, Encoding};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq;

/// What is kept of a password.
///
/// # Shape
/// As text `$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH` (a PHC string, base64 without
/// padding), `$7$ITERATIONS$SALT$HASH` (PBKDF2 with SHA-512) or `$6$SALT$HASH` (SHA-512 over
/// password and salt), both with padding.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    salt: Box<[u8]>,
    hash: Box<[u8]>,
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Argon2id(Params),
    Pbkdf2Sha512(NonZeroU32),
    Sha512,
}

/// Why a text is no hash of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Another scheme, or no hash at all.
    #[error("the hash must begin with $argon2id$, $7$ or $6$")]
    Scheme,
    /// Too few or too many parts, or a part that cannot be read.
    #[error("the hash must be {0}")]
    Shape(&'static str),
    /// A cost that argon2id does not have, or that would take the broker down.
    #[error(
        "argon2id takes 8 KiB per lane to 1 GiB of memory (m), and 1 to 64 passes (t) and lanes (p)"
    )]
    Argon2Cost,
    /// A number of iterations that protects nothing or never ends.
    #[error("the iterations must be 1 to 10000000")]
    Iterations,
    /// A salt or a hash of a length that the scheme does not have.
    #[error("salt or hash has the wrong length")]
    Length,
}

impl PasswordHash {
    /// The argon2id hash of a password, of the cost that RFC 9106 and OWASP call sufficient.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let mut this = Self {
            scheme: Scheme::Argon2id(Params::DEFAULT),
            salt: salt.into(),
            hash: [0; HASH_BYTES].into(),
        };
        this.hash = this.derive(password).unwrap_or_default();
        assert_eq!(this.hash.len(), HASH_BYTES, "the default cost is valid");
        this
    }

    /// Whether this is the hash of the password. Slow on purpose: never on a shard.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let derived = self.derive(password);
        derived.is_some_and(|derived| derived.ct_eq(&self.hash).into())
    }

    fn derive(&self, password: &[u8]) -> Option<Box<[u8]>> {
        let mut out = vec![0; self.hash.len()].into_boxed_slice();
        match &self.scheme {
            Scheme::Argon2id(params) => {
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
                    .hash_password_into(password, &self.salt, &mut out)
                    .ok()?;
            }
            Scheme::Pbkdf2Sha512(iterations) => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::derive(algorithm, *iterations, &self.salt, password, &mut out);
            }
            Scheme::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                out = context.finish().as_ref().into();
            }
        }
        Some(out)
    }
}

impl FromStr for PasswordHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let this = if let Some(rest) = text.strip_prefix("$argon2id$") {
            read_argon2id(rest)?
        } else if let Some(rest) = text.strip_prefix("$7$") {
            read_pbkdf2(rest)?
        } else if let Some(rest) = text.strip_prefix("$6$") {
            let (salt, hash) = rest.split_once('$').ok_or(HashError::Shape(SHA512))?;
            Self {
                scheme: Scheme::Sha512,
                salt: padded(salt, SHA512)?,
                hash: padded(hash, SHA512)?,
            }
        } else {
            return Err(HashError::Scheme);
        };
        let fits = match this.scheme {
            Scheme::Argon2id(_) => {
                (8..=SALT_BYTES_MAX).contains(&this.salt.len())
                    && (16..=HASH_BYTES_MAX).contains(&this.hash.len())
            }
            Scheme::Pbkdf2Sha512(_) | Scheme::Sha512 => {
                (1..=SALT_BYTES_MAX).contains(&this.salt.len())
                    && this.hash.len() == digest::SHA512_OUTPUT_LEN
            }
        };
        fits.then_some(this).ok_or(HashError::Length)
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let padded = Base64::encode_string;
        match &self.scheme {
            Scheme::Argon2id(cost) => {
                let (m, t, p) = (cost.m_cost(), cost.t_cost(), cost.p_cost());
                let salt = Base64Unpadded::encode_string(&self.salt);
                let hash = Base64Unpadded::encode_string(&self.hash);
                write!(f, "$argon2id$v=19$m={m},t={t},p={p}${salt}${hash}")
            }
            Scheme::Pbkdf2Sha512(iterations) => {
                let (salt, hash) = (padded(&self.salt), padded(&self.hash));
                write!(f, "$7${iterations}${salt}${hash}")
            }
            Scheme::Sha512 => write!(f, "$6${}${}", padded(&self.salt), padded(&self.hash)),
        }
    }
}

/// Not for logs.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

fn read_argon2id(rest: &str) -> Result<PasswordHash, HashError> {
    let shape = HashError::Shape(ARGON2ID);
    let mut parts = rest.split('$');
    let mut part = || parts.next().ok_or(shape);
    let (version, cost, salt, hash) = (part()?, part()?, part()?, part()?);
    if version != "v=19" || parts.next().is_some() {
        return Err(shape);
    }
    let mut costs = cost.split(',');
    let mut number = |name| {
        let text = costs.next().and_then(|cost| cost.strip_prefix(name));
        text.and_then(|text| text.parse::<u32>().ok()).ok_or(shape)
    };
    let (memory_kib, passes, lanes) = (number("m=")?, number("t=")?, number("p=")?);
    if costs.next().is_some() {
        return Err(shape);
    }
    if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
        return Err(HashError::Argon2Cost);
    }
    let params = Params::new(memory_kib, passes, lanes, None).map_err(|_| HashError::Argon2Cost)?;
    let bytes = |text| Base64Unpadded::decode_vec(text).map_err(|_| shape);
    Ok(PasswordHash {
        scheme: Scheme::Argon2id(params),
        salt: bytes(salt)?.into(),
        hash: bytes(hash)?.into(),
    })
}

fn read_pbkdf2(rest: &str) -> Result<PasswordHash, HashError> {
    let shape = HashError::Shape(PBKDF2);
    let (iterations, rest) = rest.split_once('$').ok_or(shape)?;
    let (salt, hash) = rest.split_once('$').ok_or(shape)?;
    Ok(PasswordHash {
        scheme: Scheme::Pbkdf2Sha512(read_iterations(iterations).ok_or(HashError::Iterations)?),
        salt: padded(salt, PBKDF2)?,
        hash: padded(hash, PBKDF2)?,
    })
}

/// The number of rounds of a key derivation, unless it is unreasonable.
pub(super) fn read_iterations(text: &str) -> Option<NonZeroU32> {
    let iterations: NonZeroU32 = text.parse().ok()?;
    (iterations.get() <= ITERATIONS_MAX).then_some(iterations)
}

fn padded(text: &str, shape: &'static str) -> Result<Box<[u8]>, HashError> {
    let bytes = Base64::decode_vec(text).map_err(|_| HashError::Shape(shape))?;
    Ok(bytes.into())
}

/// Bytes of the salt of a new hash.
pub(crate) const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
const SALT_BYTES_MAX: usize = 64;
const HASH_BYTES_MAX: usize = 64;
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 64;
const ITERATIONS_MAX: u32 = 10_000_000;
const ARGON2ID: &str = "$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH in base64";
const PBKDF2: &str = "$7$ITERATIONS$SALT$HASH in base64";
const SHA512: &str = "$6$SALT$HASH in base64";

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by mosquitto_passwd and by the reference implementation of argon2.
    const FOREIGN: [(&str, &str); 3] = [
        (
            "secret",
            "$7$101$2bSkxZjOXB7wqEER$8ox8N1ION7JiLBsNQCGt+5jJ2qx9PH3ah3hvSryvXJsoVf4Ahcuy9wWkbjWB\
             V2+azksyOoyYjrANllfdQN93Sg==",
        ),
        (
            "secret",
            "$6$zcsCfjkef8Z+LJdB$pgGn6NaxU4A+j08lPHk1k3r2rss790mXwZjA3KhbOi1I1Cs1quBQJcKmyQCdzFYQ\
             2oEzRiFsmJdWCMP4Uva+0Q==",
        ),
        (
            "password",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ),
    ];

    #[test]
    fn hashes_of_other_programs_are_accepted() {
        for (password, text) in FOREIGN {
            let hash: PasswordHash = text.parse().expect(text);
            assert!(hash.is_of(password.as_bytes()), "{text}");
            assert!(!hash.is_of(b"Secret"), "{text}");
            assert!(!hash.is_of(b""), "{text}");
            assert_eq!(hash.to_string(), text);
        }
    }

    #[test]
    fn a_new_hash_is_argon2id_and_survives_the_file() {
        let hash = PasswordHash::new(b"secret", [7; SALT_BYTES]);
        let text = hash.to_string();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let read: PasswordHash = text.parse().expect("its own text");
        assert_eq!(read, hash);
        assert!(read.is_of(b"secret"));
        assert!(!read.is_of(b"secrets"));
    }

    #[test]
    fn malformed_hashes_are_refused_with_the_reason() {
        let argon2 = HashError::Shape(ARGON2ID);
        for (text, expected) in [
            ("", HashError::Scheme),
            ("secret", HashError::Scheme),
            ("$5$abc$def", HashError::Scheme),
            (
                "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65",
                HashError::Scheme,
            ),
            ("$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65", argon2),
            ("$argon2id$v=19$m=256,t=2$c29tZXNhbHQ$nf65", argon2),
            ("$argon2id$v=19$m=256,t=2,p=1,x=1$c29tZXNhbHQ$nf65", argon2),
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ", argon2),
            ("$argon2id$v=19$m=256,t=2,p=1$*$nf65", argon2),
            (
                "$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHQ$nf65",
                HashError::Argon2Cost,
            ),
            (
                "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$nf65",
                HashError::Argon2Cost,
            ),
            (
                "$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65",
                HashError::Argon2Cost,
            ),
            (
                "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65",
                HashError::Length,
            ),
            ("$7$0$2bSkxZjOXB7wqEER$8ox8", HashError::Iterations),
            ("$7$4294967295$2bSkxZjOXB7wqEER$8ox8", HashError::Iterations),
            ("$7$101$2bSkxZjOXB7wqEER", HashError::Shape(PBKDF2)),
            ("$7$101$2bSkxZjOXB7wqEER$8ox8", HashError::Length),
            ("$6$zcsCfjkef8Z+LJdB", HashError::Shape(SHA512)),
            ("$6$zcsCfjkef8Z+LJdB$a$b", HashError::Shape(SHA512)),
            ("$6$$pgGn", HashError::Length),
        ] {
            assert_eq!(text.parse::<PasswordHash>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn debug_output_tells_nothing() {
        let hash: PasswordHash = FOREIGN[2].1.parse().expect("valid");
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
    }
}
