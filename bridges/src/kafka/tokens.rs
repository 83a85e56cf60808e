//! Tokens for SASL OAUTHBEARER: when librdkafka asks for one, and what it means that there is none.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rdkafka::client::OAuthToken;

use super::events::{Events, Part};
use crate::Failure;

/// What says who we are, for a while.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// As it is sent.
    pub text: String,
    /// Whose it is.
    pub principal: String,
    /// When it ends, in milliseconds since 1970.
    pub ends_unix_ms: i64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("ends_unix_ms", &self.ends_unix_ms)
            .finish_non_exhaustive()
    }
}

/// Where tokens come from: asked on each connect, and again before a token ends. It may block.
#[derive(Clone)]
pub struct TokenSource(pub Arc<dyn Fn() -> Result<Token, Failure> + Send + Sync>);

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

impl Events {
    /// librdkafka wants a token: at the beginning, at four fifths of the life of the last one, and
    /// 10 seconds after there was none.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let source = self.tokens.as_ref().ok_or("no token is configured")?;
        match (source.0)() {
            Ok(token) => {
                self.has_new_token();
                Ok(OAuthToken {
                    token: token.text,
                    principal_name: token.principal,
                    lifetime_ms: token.ends_unix_ms,
                })
            }
            Err(failure) => {
                let words = failure.reason.replace('\0', "");
                // The one before is good for a while.
                if self.has_old_token() {
                    let details = format!(": {words}");
                    self.trouble(
                        Part::Token,
                        "the token cannot be renewed".to_owned(),
                        &details,
                    );
                } else {
                    self.ports.fail(failure);
                }
                Err(words.into())
            }
        }
    }
}

/// What librdkafka's error begins with that tells us what we told it.
pub(super) const NO_TOKEN: &str = "Failed to acquire SASL OAUTHBEARER token";
