//! Logins that a server elsewhere decides about, asked by HTTP.
//!
//! Whatever is not a clear answer refuses the client: a server that is down, slow or talks nonsense
//! lets nobody in. Answers are remembered for a while, failures are not.

use std::fmt;
use std::io;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use ureq::Agent;
use zeroize::{Zeroize, Zeroizing};

use super::acl::{Rule, own_rules};
use super::credentials::{Credentials, Denial, Proof, Verdict};
use super::identity::{Ground, groups_of};
use super::namespace::namespace_of;
use super::scram::sign;
use super::web::{self, AuthoritiesError, agent, read_authorities};
use crate::clock::Clock;
use crate::config::{self, masked_url};

/// Asks the server, and remembers what it said.
pub struct HttpBackEnd {
    url: String,
    authorization: Option<config::Secret>,
    agent: Agent,
    clock: Clock,
    cache: Mutex<HashMap<[u8; 32], (Answer, u64)>>,
    cache_ms: u64,
    cache_entries_max: usize,
    /// So that what is remembered of a password is of no use to anybody else.
    secret: [u8; 32],
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Allow {
        is_superuser: bool,
        groups: Arc<[Box<str>]>,
        namespace: Option<Arc<str>>,
        rules: Option<Arc<[Rule]>>,
        /// By the broker's clock.
        expires_at_ms: Option<u64>,
    },
    Deny,
    Ignore,
}

impl Answer {
    /// When it means nothing any more.
    fn ends_ms(&self) -> u64 {
        match self {
            Self::Allow { expires_at_ms, .. } => expires_at_ms.unwrap_or(u64::MAX),
            Self::Deny | Self::Ignore => u64::MAX,
        }
    }
}

/// Why the back end cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpBackEndError {
    /// The authorities.
    #[error("auth.http.ca_file {0}")]
    Authorities(#[from] AuthoritiesError),
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
}

impl HttpBackEnd {
    /// With its settings; `None` if there is no URL.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub fn new(config: &config::Http, clock: Clock) -> Result<Option<Self>, HttpBackEndError> {
        let Some(url) = config.url.clone() else {
            return Ok(None);
        };
        let mut secret = [0; 32];
        let random = SystemRandom::new().fill(&mut secret);
        random.map_err(|_| HttpBackEndError::Random(io::ErrorKind::Other.into()))?;
        Ok(Some(Self {
            url,
            authorization: config.authorization.clone(),
            agent: agent(
                config.ca_file.as_deref(),
                config.timeout_milliseconds,
                config.requests_max,
            )?,
            clock,
            cache: Mutex::default(),
            cache_ms: u64::from(config.cache_seconds) * 1_000,
            cache_entries_max: config.cache_entries_max,
            secret,
        }))
    }

    /// Reads what the settings name, and asks nobody.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub fn check_files(config: &config::Http) -> Result<(), AuthoritiesError> {
        let authorities = config.ca_file.as_deref().map(read_authorities);
        authorities.transpose().map(drop)
    }

    /// Asks about a client, which may last as long as the time limit: never on a shard.
    pub(super) fn check(&self, credentials: &Credentials) -> Verdict {
        let Ok(body) = body_of(credentials) else {
            return Verdict::Denied(Denial::Password);
        };
        let key = sign(&self.secret, body.as_bytes());
        let answer = match self.remembered(&key) {
            Some(answer) => answer,
            None => match self.ask(&body) {
                Ok(answer) => {
                    self.remember(key, &answer);
                    answer
                }
                Err(problem) => return Verdict::Denied(Denial::Unavailable(problem)),
            },
        };
        match answer {
            Answer::Allow {
                is_superuser,
                groups,
                namespace,
                rules,
                expires_at_ms,
            } => Verdict::Allowed(Box::new(Proof {
                ground: Ground::Server,
                user_name: credentials.user_name.as_deref().map(Into::into),
                groups,
                namespace,
                own_rules: rules,
                is_superuser,
                expires_at_ms,
                ..Proof::default()
            })),
            Answer::Deny => Verdict::Denied(Denial::Password),
            Answer::Ignore => Verdict::Ignored,
        }
    }

    fn ask(&self, body: &str) -> Result<Answer, String> {
        let mut request = self.agent.post(&self.url).content_type("application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", &authorization.0);
        }
        let response = request.send(body);
        let response = response.map_err(|it| masked_url(&it.to_string()))?;
        let body = web::body_of(response, ANSWER_BYTES_MAX)?;
        read_answer(&body, self.clock.now_ms())
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Answer> {
        let now_ms = self.clock.now_ms();
        let cache = self.cache.lock();
        let (answer, ends_ms) = cache.get(key)?;
        (*ends_ms > now_ms).then(|| answer.clone())
    }

    fn remember(&self, key: [u8; 32], answer: &Answer) {
        if self.cache_ms == 0 {
            return;
        }
        let now_ms = self.clock.now_ms();
        let mut cache = self.cache.lock();
        if cache.len() >= self.cache_entries_max {
            cache.retain(|_, (_, ends_ms)| *ends_ms > now_ms);
        }
        if cache.len() < self.cache_entries_max {
            let ends_ms = answer.ends_ms().min(now_ms + self.cache_ms);
            cache.insert(key, (answer.clone(), ends_ms));
        }
    }
}

impl fmt::Debug for HttpBackEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpBackEnd(..)")
    }
}

/// The question; a password that is no text cannot be asked about.
fn body_of(credentials: &Credentials) -> Result<Zeroizing<String>, std::str::Utf8Error> {
    let password = credentials.password.as_ref();
    let password = password.map(|it| std::str::from_utf8(it)).transpose()?;
    let mut question = json!({
        "client_id": credentials.client_id,
        "user_name": credentials.user_name,
        "password": password,
        "address": credentials.address.map(|it| it.to_string()),
        "certificate": credentials.certificate.as_deref(),
    });
    let body = Zeroizing::new(question.to_string());
    if let Some(Value::String(password)) = question.get_mut("password") {
        password.zeroize();
    }
    Ok(body)
}

/// A member of the wrong type makes the whole answer useless: it could have been a denial.
fn read_answer(body: &[u8], now_ms: u64) -> Result<Answer, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let is_superuser = match answer.get("is_superuser") {
        None => false,
        Some(flag) => flag.as_bool().ok_or("`is_superuser` is no boolean")?,
    };
    let rules = match answer.get("acl") {
        None => None,
        Some(rules) => Some(own_rules(rules).map_err(|error| error.to_string())?.into()),
    };
    let groups = match answer.get("groups") {
        None | Some(Value::Null) => Arc::default(),
        Some(names) => groups_of(names).ok_or("`groups` is no array of strings")?,
    };
    let namespace = match answer.get("namespace") {
        None | Some(Value::Null) => None,
        Some(name) => {
            let namespace = name.as_str().and_then(namespace_of);
            Some(namespace.ok_or("`namespace` is no level of a topic")?)
        }
    };
    let expires_at_ms = match answer.get("expires_seconds") {
        None | Some(Value::Null) => None,
        Some(seconds) => {
            let seconds = seconds.as_u64().filter(|it| *it > 0);
            let seconds = seconds.ok_or("`expires_seconds` is no positive number")?;
            Some(now_ms.saturating_add(seconds.saturating_mul(1_000)))
        }
    };
    match answer.get("result").and_then(Value::as_str) {
        Some("allow") => Ok(Answer::Allow {
            is_superuser,
            groups,
            namespace,
            rules,
            expires_at_ms,
        }),
        Some("deny") => Ok(Answer::Deny),
        Some("ignore") => Ok(Answer::Ignore),
        _ => Err("`result` is none of allow, deny, ignore".into()),
    }
}

const ANSWER_BYTES_MAX: u64 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_is_one() {
        let allowed = |is_superuser| Answer::Allow {
            is_superuser,
            groups: Arc::default(),
            namespace: None,
            rules: None,
            expires_at_ms: None,
        };
        for (body, answer) in [
            (r#"{"result":"allow"}"#, allowed(false)),
            (r#"{"result":"allow","is_superuser":true}"#, allowed(true)),
            (r#"{"result":"deny","more":1}"#, Answer::Deny),
            (r#"{"result":"ignore"}"#, Answer::Ignore),
        ] {
            assert_eq!(read_answer(body.as_bytes(), 5), Ok(answer), "{body}");
        }
        for body in [
            "",
            "allow",
            "{}",
            "[]",
            r#"{"result":"ALLOW"}"#,
            r#"{"result":true}"#,
            r#"{"result":"allow","is_superuser":"false"}"#,
            r#"{"result":"allow","acl":{}}"#,
            r#"{"result":"allow","groups":"staff"}"#,
            r#"{"result":"allow","groups":["staff",7]}"#,
            r#"{"result":"allow","namespace":7}"#,
            r#"{"result":"allow","namespace":"a/b"}"#,
            r#"{"result":"allow","expires_seconds":"60"}"#,
            r#"{"result":"allow","expires_seconds":0}"#,
            r#"{"result":"allow"} trailing"#,
        ] {
            assert!(read_answer(body.as_bytes(), 5).is_err(), "{body}");
        }
    }

    #[test]
    fn an_answer_may_end() {
        let ends_ms = |body: &str| read_answer(body.as_bytes(), 5).map(|it| it.ends_ms());
        let body = r#"{"result":"allow","expires_seconds":60}"#;
        assert_eq!(ends_ms(body), Ok(60_005));
        let body = r#"{"result":"allow","expires_seconds":18446744073709551615}"#;
        assert_eq!(ends_ms(body), Ok(u64::MAX));
        assert_eq!(ends_ms(r#"{"result":"allow"}"#), Ok(u64::MAX));
    }
}
