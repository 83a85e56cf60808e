//! What the server's outcomes and error conditions mean.

use fe2o3_amqp::connection::{ConnectionStopReason, Error as ConnectionEnd, OpenError};
use fe2o3_amqp::link::{
    DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
    SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::messaging::Outcome;
use fe2o3_amqp::types::primitives::Symbol;

use super::Dialect;
use crate::{Class, Failure};

/// What becomes of a record by its outcome.
pub(super) fn result_of(outcome: Outcome, dialect: Dialect) -> Result<(), Failure> {
    match outcome {
        Outcome::Accepted(_) => Ok(()),
        Outcome::Rejected(rejected) => Err(match rejected.error {
            Some(error) => rejection(&error),
            None => Failure::poison("rejected by the server without a reason"),
        }),
        // RabbitMQ 4 says so of what no queue is bound for.
        Outcome::Released(_) if dialect == Dialect::RabbitMq4 => Err(Failure::poison(
            "released by the server: it reaches no queue",
        )),
        Outcome::Released(_) => Err(Failure::retry("released by the server")),
        Outcome::Modified(modified) if modified.undeliverable_here == Some(true) => Err(
            Failure::poison("modified by the server: undeliverable here"),
        ),
        Outcome::Modified(_) => Err(Failure::retry("modified by the server")),
    }
}

/// A rejected message is one that can never be processed, says the specification; servers reject
/// for lack of room as well.
fn rejection(error: &Error) -> Failure {
    let (condition, words) = (condition_of(error), words_of(error));
    let text = format!("rejected by the server: {words}");
    let passes = match condition.as_str() {
        "amqp:resource-limit-exceeded" | "amqp:resource-locked" | "amqp:internal-error" => true,
        "com.microsoft:server-busy" | "com.microsoft:timeout" => true,
        // Artemis says so of whatever went wrong; this number is an address that does not exist.
        "failed" => !words.contains("AMQ119002"),
        _ => false,
    };
    match passes {
        true => Failure::retry(text),
        false => Failure::poison(text),
    }
}

/// Why the server ended a link, a session or a connection.
pub(super) fn refusal(what: &str, error: &Error) -> Failure {
    let text = format!("the server ended the {what}: {}", words_of(error));
    match is_operators(error) {
        true => Failure::refused(text),
        false => Failure::retry(text),
    }
}

fn is_operators(error: &Error) -> bool {
    // Artemis answers an attach for which a right is missing with an internal error.
    let is_forbidden = words_of(error).contains("does not have permission");
    let conditions = [
        "amqp:unauthorized-access",
        "amqp:not-found",
        "amqp:not-allowed",
        "amqp:not-implemented",
        "amqp:invalid-field",
        "amqp:precondition-failed",
    ];
    is_forbidden || conditions.contains(&condition_of(error).as_str())
}

/// A link that serves one address only was refused: of that, or of everything?
pub(super) fn is_about_the_address(failure: &Failure) -> bool {
    failure.class == Class::Refused
}

fn condition_of(error: &Error) -> String {
    let symbol = match &error.condition {
        ErrorCondition::AmqpError(it) => Symbol::from(it),
        ErrorCondition::ConnectionError(it) => Symbol::from(it),
        ErrorCondition::SessionError(it) => Symbol::from(it),
        ErrorCondition::LinkError(it) => Symbol::from(it),
        ErrorCondition::Custom(it) => it.clone(),
    };
    symbol.0
}

/// The condition and what the server says besides.
fn words_of(error: &Error) -> String {
    match &error.description {
        Some(text) => format!("{} {text}", condition_of(error)),
        None => condition_of(error),
    }
}

pub(super) fn connection_end(end: Result<(), ConnectionEnd>) -> Failure {
    match end {
        Err(ConnectionEnd::RemoteClosedWithError(error)) => refusal("connection", &error),
        Ok(()) | Err(ConnectionEnd::RemoteClosed) => {
            Failure::retry("the server closed the connection")
        }
        Err(error) => Failure::retry(format!("connection lost: {error}")),
    }
}

pub(super) fn open_error(error: OpenError) -> Failure {
    match error {
        OpenError::RemoteClosedWithError(error) => refusal("connection", &error),
        error => Failure::retry(format!("connection lost: {error}")),
    }
}

pub(super) fn begin_error(error: BeginError) -> Failure {
    match error {
        BeginError::ConnectionStopped(reason) => connection_stop(&reason),
        BeginError::RemoteEndedWithError(error) => refusal("session", &error),
        error => Failure::retry(format!("no session: {error}")),
    }
}

pub(super) fn sender_attach_error(error: SenderAttachError) -> Failure {
    match error {
        SenderAttachError::SessionStopped(reason) => session_stop(&reason),
        SenderAttachError::RemoteClosedWithError(error) => refusal("link", &error),
        error => Failure::retry(format!("no link: {error}")),
    }
}

pub(super) fn receiver_attach_error(error: ReceiverAttachError) -> Failure {
    match error {
        ReceiverAttachError::SessionStopped(reason) => session_stop(&reason),
        ReceiverAttachError::RemoteClosedWithError(error) => refusal("link", &error),
        error => Failure::retry(format!("no link: {error}")),
    }
}

/// A link that has ended: by the server alone, so that it can be attached again, or with more.
#[derive(Debug)]
pub(super) enum LinkEnd {
    /// The link has ended.
    Detached(Failure),
    /// More has ended than the link.
    Stopped(Failure),
}

impl LinkEnd {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Detached(failure) | Self::Stopped(failure) => failure,
        }
    }
}

pub(super) fn send_end(error: SendError) -> LinkEnd {
    match error {
        SendError::LinkStateError(error) => link_state(error),
        SendError::Detached(error) => detached(error),
        error => LinkEnd::Stopped(Failure::retry(format!("link lost: {error}"))),
    }
}

pub(super) fn receive_end(error: RecvError) -> LinkEnd {
    match error {
        RecvError::LinkStateError(error) => link_state(error),
        error => LinkEnd::Stopped(Failure::retry(format!("link lost: {error}"))),
    }
}

pub(super) fn detached(error: DetachError) -> LinkEnd {
    link_state(error.into())
}

fn link_state(error: LinkStateError) -> LinkEnd {
    match error {
        LinkStateError::SessionStopped(reason) => LinkEnd::Stopped(session_stop(&reason)),
        LinkStateError::RemoteDetachedWithError(error)
        | LinkStateError::RemoteClosedWithError(error) => {
            LinkEnd::Detached(refusal("link", &error))
        }
        LinkStateError::RemoteDetached | LinkStateError::RemoteClosed => {
            LinkEnd::Detached(Failure::retry("the server ended the link"))
        }
        error => LinkEnd::Stopped(Failure::retry(format!("link lost: {error}"))),
    }
}

pub(super) fn session_stop(reason: &SessionStopReason) -> Failure {
    match reason {
        SessionStopReason::ConnectionStopped(reason) => connection_stop(reason),
        SessionStopReason::RemoteEndedWithError(error) => refusal("session", error),
        _ => Failure::retry("the session ended"),
    }
}

fn connection_stop(reason: &ConnectionStopReason) -> Failure {
    match reason {
        ConnectionStopReason::RemoteClosedWithError(error) => refusal("connection", error),
        ConnectionStopReason::ClosedWithError(error) => {
            Failure::retry(format!("connection lost: {}", words_of(error)))
        }
        _ => Failure::retry("the connection broke off"),
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::definitions::AmqpError;
    use fe2o3_amqp::types::messaging::{Accepted, Modified, Rejected, Released};

    use super::*;

    fn rejected(condition: impl Into<ErrorCondition>, text: &str) -> Outcome {
        let error = Error::new(condition, Some(text.to_owned()), None);
        Outcome::Rejected(Rejected { error: Some(error) })
    }

    fn class(outcome: Outcome) -> Option<Class> {
        let result = result_of(outcome, Dialect::Artemis);
        result.err().map(|it| it.class)
    }

    #[test]
    fn an_outcome_settles_buries_or_repeats_a_record() {
        assert_eq!(class(Outcome::Accepted(Accepted {})), None);
        assert_eq!(class(Outcome::Released(Released {})), Some(Class::Retry));
        let modified = Modified {
            delivery_failed: None,
            undeliverable_here: Some(true),
            message_annotations: None,
        };
        assert_eq!(class(Outcome::Modified(modified)), Some(Class::Poison));
        let full = rejected(AmqpError::ResourceLimitExceeded, "full");
        assert_eq!(class(full), Some(Class::Retry));
        let refused = rejected(AmqpError::UnauthorizedAccess, "no");
        assert_eq!(class(refused), Some(Class::Poison));
        let failed = || ErrorCondition::Custom("failed".into());
        let unknown = rejected(failed(), "AMQ119002: target address x does not exist");
        assert_eq!(class(unknown), Some(Class::Poison));
        assert_eq!(class(rejected(failed(), "disk")), Some(Class::Retry));
    }

    #[test]
    fn rabbitmq_4_releases_what_reaches_no_queue() {
        let result = result_of(Outcome::Released(Released {}), Dialect::RabbitMq4);
        assert_eq!(result.unwrap_err().class, Class::Poison);
    }

    #[test]
    fn a_refusal_says_the_condition_and_whether_somebody_has_to_act() {
        let refused = |condition: AmqpError, text: &str| {
            refusal("link", &Error::new(condition, Some(text.to_owned()), None))
        };
        let missing = refused(AmqpError::NotFound, "no queue 'x'");
        assert_eq!(missing.class, Class::Refused);
        assert_eq!(
            missing.reason,
            "the server ended the link: amqp:not-found no queue 'x'"
        );
        let full = refused(AmqpError::ResourceLimitExceeded, "");
        assert_eq!(full.class, Class::Retry);
        let text = "AMQ229032: User: a does not have permission='CONSUME'";
        let forbidden = refused(AmqpError::InternalError, text);
        assert_eq!(forbidden.class, Class::Refused);
    }
}
