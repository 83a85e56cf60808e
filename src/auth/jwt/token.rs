//! Tokens: parts, signature, claims.

use std::fmt;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Map, Value};

use super::key::Key;
use super::key_file::{KeyError, load};
use super::remote::RemoteKeys;
use crate::auth::acl::{OwnRulesError, Rule, own_rules};
use crate::auth::identity::groups_of;
use crate::auth::namespace::namespace_of;
use crate::auth::web::read_authorities;
use crate::clock::Clock;
use crate::config::{Jwt, masked_url};

/// Checks tokens.
pub struct Tokens {
    keys: Vec<Key>,
    remote: Option<RemoteKeys>,
    config: Jwt,
}

/// What a token says about its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Which key has signed it: the same for a key that is read again.
    pub key_mark: u64,
    /// The user name.
    pub user_name: Arc<str>,
    /// The only client id that may show the token, if it names one.
    pub client_id: Option<Arc<str>>,
    /// The groups of the client, if tokens name them.
    pub groups: Arc<[Box<str>]>,
    /// The namespace of the client, if tokens name one.
    pub namespace: Option<Arc<str>>,
    /// What the client may do before all other rules.
    pub rules: Option<Arc<[Rule]>>,
    /// Milliseconds since 1970 at which the token ends, leeway included.
    pub expires_unix_ms: Option<u64>,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token in the compact form.
    #[error("the token is malformed")]
    Malformed,
    /// An extension that has to be understood.
    #[error("the token needs an extension (`crit`)")]
    Critical,
    /// `alg` and `kid` name no key, which is always so for `none`.
    #[error("no key of the algorithm and id that the token names")]
    NoKey,
    /// The server that publishes keys has given none, or none for too long.
    #[error("the keys of tokens cannot be fetched")]
    NoKeys,
    /// Signed by someone else, or changed.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Too late.
    #[error("the token has expired")]
    Expired,
    /// Too early.
    #[error("the token is not valid yet")]
    NotYet,
    /// A claim that has to be there.
    #[error("claim {0:?} of the token is missing or of the wrong type")]
    Claim(String),
    /// `iss` or `aud` is another.
    #[error("claim {0:?} of the token is not one of those accepted")]
    NotAccepted(&'static str),
    /// A token of somebody else.
    #[error("the token is for another client id")]
    OtherClientId,
    /// CONNECT claims another user name than the token.
    #[error("the token is for another user name")]
    OtherUserName,
    /// The rules of the token.
    #[error("the rules of the token: {0}")]
    Rules(#[from] OwnRulesError),
}

impl TokenError {
    /// Whether nobody who may sign tokens has made it: someone guesses. Others are worn out, or in
    /// the wrong place.
    pub fn is_forged(&self) -> bool {
        matches!(
            self,
            Self::Malformed | Self::Critical | Self::NoKey | Self::Signature
        )
    }
}

impl Tokens {
    /// With the keys that the configuration names; `None` if it names none.
    ///
    /// # Errors
    /// A key file cannot be used.
    pub fn load(config: &Jwt) -> Result<Option<Self>, KeyError> {
        if !config.is_on() {
            return Ok(None);
        }
        let keys = load(config)?;
        let authorities = config.jwks_ca_file.as_deref().map(read_authorities);
        authorities.transpose()?;
        Ok(Some(Self {
            keys,
            remote: None,
            config: config.clone(),
        }))
    }

    /// As [`Tokens::load`], with the keys of a server as well: they are asked for at once. Those
    /// that `before` has got from there count as long as there are no others.
    ///
    /// # Errors
    /// A file cannot be used, or a server that is new to a running broker gives no keys.
    pub fn open(
        config: &Jwt,
        clock: Clock,
        before: Option<&Self>,
    ) -> Result<Option<Self>, KeyError> {
        let Some(tokens) = Self::load(config)? else {
            return Ok(None);
        };
        let remote_before = before.and_then(|it| it.remote.as_ref());
        let remote = RemoteKeys::new(config, clock, remote_before)?;
        if let (Some(remote), Some(url)) = (&remote, &config.jwks_url)
            && let Err(problem) = remote.fetch()
        {
            let url = masked_url(url);
            tracing::warn!(url, problem, "the keys of tokens cannot be fetched");
            if before.is_some() && remote.believed().is_none() {
                return Err(KeyError::Fetch { url, problem });
            }
        }
        Ok(Some(Self { remote, ..tokens }))
    }

    /// How many keys the files have.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Whether the key of this mark is still accepted.
    pub fn has_key(&self, mark: u64) -> bool {
        let remote = self.remote.as_ref().and_then(RemoteKeys::believed);
        let mut keys = self
            .keys
            .iter()
            .chain(remote.iter().flat_map(|it| it.iter()));
        keys.any(|key| key.mark == mark)
    }

    /// Where in CONNECT the token is, among others.
    pub fn config(&self) -> &Jwt {
        &self.config
    }

    /// Whether the bytes want to be a token: else they are for someone else to check.
    pub fn is_token(bytes: &[u8]) -> bool {
        let parts = Parts::of(bytes);
        parts.is_some_and(|parts| object(parts.header).is_some_and(|it| it.contains_key("alg")))
    }

    /// Finds the token valid at a time, and for a client id unless that is empty.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self, token: &[u8], client_id: &str, unix_ms: u64) -> Result<Claims, TokenError> {
        let parts = Parts::of(token).ok_or(TokenError::Malformed)?;
        let key_mark = self.check_signature(&parts)?;
        let claims = object(parts.payload).ok_or(TokenError::Malformed)?;
        let expires_unix_ms = self.check_times(&claims, unix_ms)?;
        self.check_accepted(&claims)?;
        let rules = match claims.get(&self.config.acl_claim) {
            Some(rules) if !self.config.acl_claim.is_empty() => Some(own_rules(rules)?.into()),
            _ => None,
        };
        Ok(Claims {
            key_mark,
            user_name: name_of(&claims, &self.config.user_name_claim)?,
            client_id: self.client_id_of(&claims, client_id)?,
            groups: self.groups_of(&claims)?,
            namespace: self.namespace_of(&claims)?,
            rules,
            expires_unix_ms,
        })
    }

    /// Answers the mark of the key.
    fn check_signature(&self, parts: &Parts<'_>) -> Result<u64, TokenError> {
        let header = object(parts.header).ok_or(TokenError::Malformed)?;
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let id = header.get("kid").map(|it| it.as_str().unwrap_or_default());
        let signature = decoded(parts.signature).ok_or(TokenError::Malformed)?;
        let signer = |keys: &[Key]| {
            let fits = |key: &&Key| {
                let is_named = id.is_none() || key.id.is_none() || key.id.as_deref() == id;
                is_named && algorithm == Some(key.algorithm.name())
            };
            let mut keys = keys.iter().filter(fits).peekable();
            keys.peek().ok_or(TokenError::NoKey)?;
            let signer = keys.find(|key| key.has_signed(parts.signed.as_bytes(), &signature));
            signer.map(|key| key.mark).ok_or(TokenError::Signature)
        };
        let found = signer(&self.keys);
        match &self.remote {
            Some(remote) if found.is_err() => {
                let keys = remote.current().ok_or(TokenError::NoKeys)?;
                signer(&keys).or_else(|error| match remote.newer() {
                    Some(keys) => signer(&keys),
                    None => Err(error),
                })
            }
            _ => found,
        }
    }

    /// Answers when the token ends.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        unix_ms: u64,
    ) -> Result<Option<u64>, TokenError> {
        let leeway_ms = u64::from(self.config.leeway_seconds) * 1_000;
        let expires = date_of(claims, "exp")?.map(|it| it.saturating_add(leeway_ms));
        if expires.is_none() && self.config.expiry_required {
            return Err(TokenError::Claim("exp".into()));
        }
        if expires.is_some_and(|it| it <= unix_ms) {
            return Err(TokenError::Expired);
        }
        let begins = date_of(claims, "nbf")?.unwrap_or(0);
        if begins > unix_ms.saturating_add(leeway_ms) {
            return Err(TokenError::NotYet);
        }
        Ok(expires)
    }

    fn check_accepted(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let is_in = |list: &[String], value: Option<&Value>| {
            let is_listed = |it: &Value| {
                it.as_str()
                    .is_some_and(|it| list.iter().any(|one| one == it))
            };
            list.is_empty()
                || value.is_some_and(|value| match value {
                    Value::Array(several) => several.iter().any(is_listed),
                    one => is_listed(one),
                })
        };
        if !is_in(
            &self.config.issuers,
            claims.get("iss").filter(|it| it.is_string()),
        ) {
            return Err(TokenError::NotAccepted("iss"));
        }
        if !is_in(&self.config.audiences, claims.get("aud")) {
            return Err(TokenError::NotAccepted("aud"));
        }
        Ok(())
    }

    /// A token without the claim would be one for all namespaces, and is refused.
    fn namespace_of(&self, claims: &Map<String, Value>) -> Result<Option<Arc<str>>, TokenError> {
        let claim = &self.config.namespace_claim;
        if claim.is_empty() {
            return Ok(None);
        }
        let name = claims.get(claim).and_then(Value::as_str);
        let namespace = name.and_then(namespace_of);
        let missing = || TokenError::Claim(claim.clone());
        namespace.ok_or_else(missing).map(Some)
    }

    fn groups_of(&self, claims: &Map<String, Value>) -> Result<Arc<[Box<str>]>, TokenError> {
        let claim = &self.config.groups_claim;
        let found = claims.get(claim).filter(|_| !claim.is_empty());
        let groups = match found {
            None => return Ok(Arc::default()),
            Some(Value::String(group)) => Some(Arc::from([group.as_str().into()])),
            Some(several) => groups_of(several),
        };
        groups.ok_or_else(|| TokenError::Claim(claim.clone()))
    }

    fn client_id_of(
        &self,
        claims: &Map<String, Value>,
        client_id: &str,
    ) -> Result<Option<Arc<str>>, TokenError> {
        let claim = &self.config.client_id_claim;
        if claim.is_empty() || !claims.contains_key(claim) {
            return Ok(None);
        }
        let named = name_of(claims, claim)?;
        if !client_id.is_empty() && *named != *client_id {
            return Err(TokenError::OtherClientId);
        }
        Ok(Some(named))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} keys)", self.keys.len())
    }
}

/// The parts of a token, still in base64.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// Header and payload as they were signed.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        (!payload.contains('.')).then_some(Self {
            header,
            payload,
            signature,
            signed,
        })
    }
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(part).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&decoded(part)?) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// A date in milliseconds; one that is not a number is an error, never left out.
fn date_of(claims: &Map<String, Value>, claim: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(claim) else {
        return Ok(None);
    };
    let seconds = value.as_f64().filter(|it| *it >= 0.0);
    let seconds = seconds.ok_or_else(|| TokenError::Claim(claim.into()))?;
    Ok(Some((seconds * 1_000.0) as u64))
}

/// A claim that can be a user name or client id.
fn name_of(claims: &Map<String, Value>, claim: &str) -> Result<Arc<str>, TokenError> {
    let name = claims.get(claim).and_then(Value::as_str);
    let can_be = |it: &&str| {
        !it.is_empty() && it.len() <= usize::from(u16::MAX) && !it.contains(char::is_control)
    };
    let name = name.filter(can_be);
    name.map(Into::into)
        .ok_or_else(|| TokenError::Claim(claim.into()))
}
