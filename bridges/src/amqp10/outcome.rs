//! What the server's outcomes and error conditions mean.

use super::Dialect;
use super::performative::{Error, Outcome};
use crate::{Class, Failure};

/// What becomes of a record by its outcome.
pub(super) fn result_of(outcome: &Outcome, dialect: Dialect) -> Result<(), Failure> {
    match outcome {
        Outcome::Accepted => Ok(()),
        Outcome::Rejected(Some(error)) => Err(rejection(error)),
        Outcome::Rejected(None) => Err(Failure::poison("rejected by the server without a reason")),
        // RabbitMQ 4 says so of what no queue is bound for.
        Outcome::Released if dialect == Dialect::RabbitMq4 => Err(Failure::poison(
            "released by the server: it reaches no queue",
        )),
        Outcome::Released => Err(Failure::retry("released by the server")),
        Outcome::Modified {
            is_undeliverable: true,
        } => Err(Failure::poison(
            "modified by the server: undeliverable here",
        )),
        Outcome::Modified { .. } => Err(Failure::retry("modified by the server")),
    }
}

/// A rejected message is one that can never be processed, says the specification; servers reject
/// for lack of room as well.
fn rejection(error: &Error) -> Failure {
    let words = words_of(error);
    let text = format!("rejected by the server: {words}");
    let passes = match error.condition.as_str() {
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
pub(super) fn end_of(what: &str, error: Option<&Error>) -> Failure {
    let Some(error) = error else {
        return Failure::retry(format!("the server ended the {what}"));
    };
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
    is_forbidden || conditions.contains(&error.condition.as_str())
}

/// A link that serves one address only was refused: of that, or of everything?
pub(super) fn is_about_the_address(failure: &Failure) -> bool {
    failure.class == Class::Refused
}

/// The condition and what the server says besides.
fn words_of(error: &Error) -> String {
    match &error.description {
        Some(text) => format!("{} {text}", error.condition),
        None => error.condition.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(condition: &str, text: &str) -> Error {
        Error {
            condition: condition.to_owned(),
            description: Some(text.to_owned()),
        }
    }

    fn rejected(condition: &str, text: &str) -> Outcome {
        Outcome::Rejected(Some(error(condition, text)))
    }

    fn class(outcome: &Outcome) -> Option<Class> {
        let result = result_of(outcome, Dialect::Artemis);
        result.err().map(|it| it.class)
    }

    #[test]
    fn an_outcome_settles_buries_or_repeats_a_record() {
        assert_eq!(class(&Outcome::Accepted), None);
        assert_eq!(class(&Outcome::Released), Some(Class::Retry));
        let modified = |is_undeliverable| class(&Outcome::Modified { is_undeliverable });
        assert_eq!(modified(true), Some(Class::Poison));
        assert_eq!(modified(false), Some(Class::Retry));
        let full = rejected("amqp:resource-limit-exceeded", "full");
        assert_eq!(class(&full), Some(Class::Retry));
        let refused = rejected("amqp:unauthorized-access", "no");
        assert_eq!(class(&refused), Some(Class::Poison));
        let unknown = rejected("failed", "AMQ119002: target address x does not exist");
        assert_eq!(class(&unknown), Some(Class::Poison));
        assert_eq!(class(&rejected("failed", "disk")), Some(Class::Retry));
        assert_eq!(class(&Outcome::Rejected(None)), Some(Class::Poison));
    }

    #[test]
    fn rabbitmq_4_releases_what_reaches_no_queue() {
        let result = result_of(&Outcome::Released, Dialect::RabbitMq4);
        assert_eq!(result.unwrap_err().class, Class::Poison);
    }

    #[test]
    fn a_refusal_says_the_condition_and_whether_somebody_has_to_act() {
        let refused = |condition, text| end_of("link", Some(&error(condition, text)));
        let missing = refused("amqp:not-found", "no queue 'x'");
        assert_eq!(missing.class, Class::Refused);
        assert_eq!(
            missing.reason,
            "the server ended the link: amqp:not-found no queue 'x'"
        );
        let full = refused("amqp:resource-limit-exceeded", "");
        assert_eq!(full.class, Class::Retry);
        let text = "AMQ229032: User: a does not have permission='CONSUME'";
        let forbidden = refused("amqp:internal-error", text);
        assert_eq!(forbidden.class, Class::Refused);
    }
}
