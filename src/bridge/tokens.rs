//! Tokens for SASL OAUTHBEARER: as the operator gives them, or fetched by client credentials.
//!
//! Keeps none: each is read or fetched when it is asked for, on each connect and before one ends.

use std::sync::Arc;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use serde_json::Value;
use tidewire_bridges::Failure;
use tidewire_bridges::kafka::{Token, TokenSource};

use super::{BridgeError, dial};
use crate::auth::web;
use crate::clock::Clock;
use crate::config::{Bridge, SaslMechanism};

/// Where the tokens of a bridge come from, if it shows any.
///
/// # Errors
/// The authorities of the server that gives them cannot be read.
pub(super) fn source(bridge: &Bridge) -> Result<Option<TokenSource>, BridgeError> {
    if bridge.kafka.sasl_mechanism != SaslMechanism::OauthBearer {
        return Ok(None);
    }
    let authorities = bridge.kafka.token_ca.as_deref();
    let read = authorities.map(web::read_authorities).transpose();
    read.map_err(|error| BridgeError {
        bridge: bridge.name.clone(),
        problem: format!("kafka.token_ca {error}"),
    })?;
    let (bridge, clock) = (bridge.clone(), Clock::start());
    Ok(Some(TokenSource(Arc::new(move || {
        let now_ms = clock.calendar_unix_ms();
        let (text, seconds) = match &bridge.kafka.token_url {
            Some(url) => fetch(&bridge, url).map_err(|it| it.of(url))?,
            None => (dial::credentials(&bridge)?.into_text()?.1, None),
        };
        token(text.trim(), seconds, &bridge, now_ms)
    }))))
}

/// Why there is no token.
enum Refusal {
    /// The server has not said anything that helps.
    Silence(String),
    /// The server does not want to, or what it says is no token.
    Refused(String),
    /// Not the server's fault.
    Own(Failure),
}

impl Refusal {
    fn of(self, url: &str) -> Failure {
        let text = |what| format!("token_url {url}: {what}");
        match self {
            Self::Silence(what) => Failure::retry(text(what)),
            Self::Refused(what) => Failure::refused(text(what)),
            Self::Own(failure) => failure,
        }
    }
}

/// By the grant for client credentials; answers the token and how many seconds it is good for.
///
/// # Source
/// RFC 6749 sections 2.3.1 and 4.4.
fn fetch(bridge: &Bridge, url: &str) -> Result<(String, Option<u64>), Refusal> {
    let own = &bridge.kafka;
    let credentials = dial::credentials(bridge).and_then(|it| it.into_text());
    let (id, secret) = credentials.map_err(Refusal::Own)?;
    let id = id.unwrap_or_default();
    let login = Base64::encode_string(format!("{}:{}", encoded(&id), encoded(&secret)).as_bytes());
    let timeout_ms = u32::try_from(bridge.connect_timeout_ms).unwrap_or(u32::MAX);
    let agent = web::agent(own.token_ca.as_deref(), timeout_ms, 0)
        .map_err(|error| Refusal::Own(Failure::refused(format!("token_ca {error}"))))?;
    let response = agent
        .post(url)
        .header("authorization", format!("Basic {login}"))
        .header("accept", "application/json")
        .content_type("application/x-www-form-urlencoded")
        .send(form(bridge))
        .map_err(|error| Refusal::Silence(error.to_string()))?;
    let status = response.status().as_u16();
    let body = web::read_body(response, ANSWER_BYTES_MAX).map_err(Refusal::Silence)?;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    match status {
        200 => {
            let text = answer.get("access_token").and_then(Value::as_str);
            let no_token = || Refusal::Refused("its answer has no access_token".to_owned());
            let seconds = answer.get("expires_in").and_then(seconds_of);
            Ok((text.ok_or_else(no_token)?.to_owned(), seconds))
        }
        // Too slow, or too often.
        408 | 429 | 500.. => Err(Refusal::Silence(said(status, &answer))),
        _ => Err(Refusal::Refused(said(status, &answer))),
    }
}

fn form(bridge: &Bridge) -> String {
    let mut form = "grant_type=client_credentials".to_owned();
    let scope = bridge.kafka.token_scope.as_deref();
    let scope = scope.map(|it| ("scope", it));
    let others = bridge.kafka.token_parameters.iter();
    let others = others.filter_map(|it| it.split_once('='));
    for (name, value) in scope.into_iter().chain(others) {
        form += &format!("&{}={}", encoded(name), encoded(value));
    }
    form
}

/// What a server that gives no token says about it.
///
/// # Source
/// RFC 6749 section 5.2.
fn said(status: u16, answer: &Value) -> String {
    let word = |key: &str| answer.get(key).and_then(Value::as_str);
    let words = ["error", "error_description"].map(word).into_iter();
    let words: Vec<&str> = words.flatten().collect();
    let words = words.join(": ");
    let words = words.chars().filter(|it| !it.is_control());
    let words: String = words.take(WORDS_MAX).collect();
    format!("{status} {words}").trim_end().to_owned()
}

/// Some servers give numbers as text.
fn seconds_of(value: &Value) -> Option<u64> {
    let text = || value.as_str()?.parse().ok();
    value.as_u64().or_else(text)
}

/// A token with its owner and its end, which it says itself if it is a JSON Web Token.
fn token(text: &str, seconds: Option<u64>, bridge: &Bridge, now_ms: u64) -> Result<Token, Failure> {
    // b64token of RFC 6750: anything else could end the field it is sent in.
    let is_token = |it: u8| it.is_ascii_graphic();
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(Failure::refused("the token is empty or no token"));
    }
    let claims = claims(text).unwrap_or_default();
    let exp_ms = claims.get("exp").and_then(Value::as_f64);
    let exp_ms = exp_ms.map(|it| (it * 1_000.0) as u64);
    let given_ms = seconds.map(|it| now_ms.saturating_add(it.saturating_mul(1_000)));
    let ends_ms = exp_ms.into_iter().chain(given_ms).min();
    let ends_ms = ends_ms.unwrap_or(now_ms + UNKNOWN_MS);
    if ends_ms <= now_ms {
        // No number: a reason that changes is a new one.
        return Err(Failure::refused("the token has ended"));
    }
    let subject = claims.get("sub").and_then(Value::as_str);
    let owner = subject.or(bridge.user_name.as_deref());
    Ok(Token {
        text: text.to_owned(),
        principal: owner.unwrap_or(&bridge.name).replace('\0', ""),
        ends_unix_ms: i64::try_from(ends_ms).unwrap_or(i64::MAX / 1_000_000),
    })
}

/// What a token says; nobody has checked it.
fn claims(token: &str) -> Option<Value> {
    let middle = token.split('.').nth(1)?;
    let bytes = Base64UrlUnpadded::decode_vec(middle).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Text within a form.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

/// Of the answer to a question for a token.
const ANSWER_BYTES_MAX: u64 = 64 * 1_024;
/// Of what a server says about a refusal.
const WORDS_MAX: usize = 200;
/// A token that does not say when it ends is asked for again before so long.
const UNKNOWN_MS: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000;

    fn bridge() -> Bridge {
        Bridge {
            name: "b".into(),
            ..Bridge::default()
        }
    }

    fn jwt(claims: &str) -> String {
        format!(
            "e30.{}.s",
            Base64UrlUnpadded::encode_string(claims.as_bytes())
        )
    }

    fn ends(text: &str, seconds: Option<u64>) -> i64 {
        let token = token(text, seconds, &bridge(), NOW_MS);
        token.expect("a token").ends_unix_ms
    }

    #[test]
    fn a_token_ends_when_it_or_its_server_says_so() {
        assert_eq!(ends("opaque", None), 1_300_000);
        assert_eq!(ends("opaque", Some(60)), 1_060_000);
        assert_eq!(ends(&jwt(r#"{"exp":1100}"#), None), 1_100_000);
        assert_eq!(ends(&jwt(r#"{"exp":1100.5}"#), Some(60)), 1_060_000);
        assert_eq!(ends(&jwt(r#"{"exp":1e300}"#), None), i64::MAX / 1_000_000);
    }

    #[test]
    fn a_token_belongs_to_whom_it_names() {
        let owner = |text: &str, bridge: &Bridge| {
            let token = token(text, None, bridge, NOW_MS);
            token.expect("a token").principal
        };
        let named = Bridge {
            user_name: Some("u".into()),
            ..bridge()
        };
        assert_eq!(owner(&jwt(r#"{"sub":"s"}"#), &named), "s");
        assert_eq!(owner("opaque", &named), "u");
        assert_eq!(owner("opaque", &bridge()), "b");
    }

    #[test]
    fn what_is_over_or_no_token_is_refused_without_showing_it() {
        for text in ["", "two words", "line\u{1}s", &jwt(r#"{"exp":999}"#)] {
            let refused = token(text, None, &bridge(), NOW_MS);
            let reason = refused.expect_err("a refusal").reason;
            assert!(text.is_empty() || !reason.contains(text), "{reason}");
        }
    }

    #[test]
    fn scope_and_parameters_are_a_form() {
        let mut bridge = bridge();
        bridge.kafka.token_scope = Some("a b".into());
        bridge.kafka.token_parameters = vec!["audience=https://k/?x=1".into()];
        let wanted =
            "grant_type=client_credentials&scope=a%20b&audience=https%3A%2F%2Fk%2F%3Fx%3D1";
        assert_eq!(form(&bridge), wanted);
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let answer = serde_json::json!({"error": "invalid_client", "error_description": "no\nway"});
        assert_eq!(said(401, &answer), "401 invalid_client: noway");
        assert_eq!(said(503, &Value::Null), "503");
    }
}
