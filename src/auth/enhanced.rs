//! Enhanced authentication of one connection: SCRAM-SHA-256 in AUTH packets.

use std::fmt;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use tidewire_protocol::codec::{Auth, Packet, ReasonCode, UserProperties};

use super::password_file::PasswordFile;
use super::scram::{ClientFirst, Exchange, ScramError, sign};

/// The authentication method that CONNECT and AUTH name.
pub const METHOD: &str = "SCRAM-SHA-256";

/// The authentication of one connection, from its CONNECT to its end.
///
/// # Source
/// MQTT 5.0 section 4.12.
#[derive(Clone)]
pub struct EnhancedAuthentication {
    users: Arc<PasswordFile>,
    /// Where the nonces of this connection come from.
    secret: [u8; 32],
    exchanges_begun: u64,
    /// Set by the first exchange that succeeds.
    user_name: Option<Arc<str>>,
    /// Who the client says it is in its latest exchange.
    claimed_name: Arc<str>,
    pending: Option<Exchange>,
}

/// What the broker says next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Continue Authentication, or Success at the end of an exchange.
    pub reason: ReasonCode,
    /// The authentication data.
    pub data: Vec<u8>,
}

impl Answer {
    /// The AUTH that carries it.
    pub fn packet(&self) -> Packet<'_> {
        Packet::Auth(Auth {
            reason: self.reason,
            authentication_method: Some(METHOD),
            authentication_data: Some(&self.data),
            reason_string: None,
            user_properties: UserProperties::default(),
        })
    }
}

/// Why an authentication fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnhancedError {
    /// [MQTT-4.12.0-5], [MQTT-4.12.1-1].
    #[error("AUTH with another authentication method than CONNECT")]
    OtherMethod,
    /// The reason does not fit the state of the exchange.
    #[error("AUTH with reason {0:?} at the wrong time")]
    Unexpected(ReasonCode),
    /// No authentication data.
    #[error("no authentication data")]
    NoData,
    /// Nobody can log in like this.
    #[error("no user has a SCRAM verifier")]
    NoVerifier,
    /// Authentication again, as someone else.
    #[error("authentication as another user")]
    OtherUser,
    /// The exchange itself.
    #[error(transparent)]
    Scram(#[from] ScramError),
}

impl EnhancedError {
    /// What the client is told.
    pub fn reason(self) -> ReasonCode {
        match self {
            Self::OtherMethod | Self::Unexpected(_) => ReasonCode::ProtocolError,
            Self::NoData | Self::NoVerifier | Self::OtherUser | Self::Scram(_) => {
                ReasonCode::NotAuthorized
            }
        }
    }
}

impl EnhancedAuthentication {
    /// For a connection that named [`METHOD`]; `secret` is random.
    pub fn new(users: Arc<PasswordFile>, secret: [u8; 32]) -> Self {
        Self {
            users,
            secret,
            exchanges_begun: 0,
            user_name: None,
            claimed_name: Arc::from(""),
            pending: None,
        }
    }

    /// Who the client is, once it has proved it.
    pub fn user_name(&self) -> Option<&Arc<str>> {
        self.user_name.as_ref()
    }

    /// What the password file had of the client.
    pub fn password_mark(&self) -> Option<u64> {
        self.users.mark(self.user_name.as_deref()?)
    }

    /// Who the client says it is, for the log.
    pub fn claimed_name(&self) -> &str {
        &self.claimed_name
    }

    /// Takes the authentication data of CONNECT, or of an AUTH that asks for authentication again.
    ///
    /// # Errors
    /// The exchange cannot begin.
    pub fn begin(&mut self, data: Option<&[u8]>) -> Result<Answer, EnhancedError> {
        let first = ClientFirst::read(data.ok_or(EnhancedError::NoData)?)?;
        if self
            .user_name
            .as_deref()
            .is_some_and(|it| *it != *first.user_name)
        {
            return Err(EnhancedError::OtherUser);
        }
        self.claimed_name = first.user_name.as_str().into();
        let verifier = self.users.verifier(&first.user_name);
        let verifier = verifier.ok_or(EnhancedError::NoVerifier)?;
        self.exchanges_begun += 1;
        let nonce = sign(&self.secret, &self.exchanges_begun.to_be_bytes());
        let nonce = Base64::encode_string(&nonce);
        let (exchange, answer) = Exchange::begin(&first, verifier, &nonce);
        self.pending = Some(exchange);
        Ok(Answer {
            reason: ReasonCode::ContinueAuthentication,
            data: answer.into_bytes(),
        })
    }

    /// Takes one AUTH.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn receive(&mut self, auth: &Auth<'_>) -> Result<Answer, EnhancedError> {
        if auth.authentication_method != Some(METHOD) {
            return Err(EnhancedError::OtherMethod);
        }
        let unexpected = EnhancedError::Unexpected(auth.reason);
        match (auth.reason, self.pending.take()) {
            (ReasonCode::ContinueAuthentication, Some(exchange)) => {
                let data = auth.authentication_data.ok_or(EnhancedError::NoData)?;
                let answer = exchange.finish(data)?;
                self.user_name = Some(Arc::clone(&self.claimed_name));
                Ok(Answer {
                    reason: ReasonCode::Success,
                    data: answer.into_bytes(),
                })
            }
            (ReasonCode::ReAuthenticate, None) if self.user_name.is_some() => {
                self.begin(auth.authentication_data)
            }
            _ => Err(unexpected),
        }
    }
}

impl fmt::Debug for EnhancedAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnhancedAuthentication")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}
