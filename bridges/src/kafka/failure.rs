//! What Kafka's errors mean.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::Failure;

/// What becomes of a record that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// It is settled by this failure.
    Settled(Failure),
    /// Its batch was too large; alone it may not be.
    Batch,
    /// Nothing can be delivered any more.
    Ended(Failure),
    /// It was thrown away with the producer, and belongs to the next one.
    Purged,
}

/// Where a record was to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) topic: &'a str,
    /// Without it nothing goes on.
    pub(super) is_required: bool,
    /// The record chooses the partition itself.
    pub(super) has_partition: bool,
}

/// An error in words, with the server's own code.
pub(super) fn words(code: Code) -> String {
    format!("{} {code}", code as i32)
}

/// What an error on the way to a topic means; a topic is required if the configuration names it.
pub(super) fn undelivered(code: Code, target: Target<'_>) -> Undelivered {
    let Target {
        topic, is_required, ..
    } = target;
    let reason = format!("topic {topic:?}: {}", words(code));
    match code {
        Code::UnknownPartition if target.has_partition => {
            Undelivered::Settled(Failure::poison(reason))
        }
        // Why the client has ended is asked for.
        Code::PurgeQueue | Code::PurgeInflight | Code::Fatal => Undelivered::Purged,
        Code::MessageSizeTooLarge => Undelivered::Batch,
        Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation => Undelivered::Settled(Failure::poison(reason)),
        // Nothing else is worth sending either while somebody has to mend it.
        _ if is_operators(code) && is_required => Undelivered::Ended(Failure::refused(reason)),
        _ if is_operators(code) => Undelivered::Settled(Failure::poison(reason)),
        _ if is_end(code) => Undelivered::Ended(Failure::retry(reason)),
        _ => Undelivered::Settled(Failure::retry(reason)),
    }
}

/// What keeps a topic from being used.
pub(super) fn of_topic(code: Code, topic: &str) -> Failure {
    let reason = format!("topic {topic:?}: {}", words(code));
    if is_operators(code) {
        Failure::refused(reason)
    } else {
        Failure::retry(reason)
    }
}

/// What keeps a group from being used.
pub(super) fn of_group(error: &KafkaError) -> Failure {
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    let reason = format!("the group: {}", words(code));
    if is_operators(code) {
        Failure::refused(reason)
    } else {
        Failure::retry(reason)
    }
}

/// Why a transaction came to no end.
pub(super) fn of_transaction(error: &KafkaError, id: &str) -> Failure {
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    let reason = format!("transactional id {id:?}: {}", words(code));
    if is_fenced(code) || is_operators(code) {
        Failure::refused(reason)
    } else {
        Failure::retry(reason)
    }
}

/// What an error of reading means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nothing can be read any more.
    Ended(Failure),
    /// A topic is not there, until it is.
    Missing(String),
    /// It may pass.
    Trouble(String),
    /// Connections that come and go are told by the ear.
    Nothing,
}

/// What an error means that a consumer has instead of a record.
pub(super) fn unread(code: Code, is_fatal: bool) -> Unread {
    let what = format!("the consumer: {}", words(code));
    match code {
        Code::AllBrokersDown | Code::BrokerTransportFailure if !is_fatal => Unread::Nothing,
        Code::UnknownTopic | Code::UnknownTopicOrPartition => Unread::Missing(what),
        // It is told once, and never asked for again.
        _ if is_operators(code) => Unread::Ended(Failure::refused(what)),
        // The offset that would be next is not there: where to go on is looked for anew.
        Code::AutoOffsetReset | Code::LogTruncation => Unread::Ended(Failure::retry(what)),
        _ if is_fatal => Unread::Ended(Failure::retry(what)),
        _ => Unread::Trouble(what),
    }
}

/// Why a client has ended for good, in its own words.
pub(super) fn of_fatal(code: Code, text: &str) -> Failure {
    let reason = format!("{}: {text}", words(code));
    match is_fenced(code) || is_operators(code) {
        true => Failure::refused(reason),
        false => Failure::retry(reason),
    }
}

/// The failure of a client that cannot go on, if it cannot.
pub(super) fn of_client(error: &KafkaError, reason: &str) -> Option<Failure> {
    let code = error.rdkafka_error_code()?;
    let reason = format!("{}: {reason}", words(code));
    // Nobody gains if both come back again and again.
    if is_fenced(code) {
        return Some(Failure::refused(reason));
    }
    if is_end(code) {
        return Some(Failure::retry(reason));
    }
    let is_refusal = matches!(
        code,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism
    );
    is_refusal.then(|| Failure::refused(reason))
}

/// Another producer has our transactional id.
fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced)
}

/// Somebody has to change the server or the configuration.
pub(super) fn is_operators(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            // A topic that was deleted has none left.
            | Code::UnknownPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnsupportedForMessageFormat
            | Code::InvalidRequiredAcks
            | Code::InvalidTransactionTimeout
            | Code::UnsupportedCompressionType
            | Code::InconsistentGroupProtocol
            | Code::GroupMaxSizeReached
    )
}

/// Somebody has to give us a right.
pub(super) fn is_unauthorized(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::GroupAuthorizationFailed
        )
    )
}

/// The client is of no use any more: a new one has to begin.
fn is_end(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::FencedInstanceId
            | Code::OutOfOrderSequenceNumber
            | Code::UnknownProducerId
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    fn to(is_required: bool, has_partition: bool) -> Target<'static> {
        Target {
            topic: "t",
            is_required,
            has_partition,
        }
    }

    fn class(code: Code, is_required: bool) -> Option<Class> {
        match undelivered(code, to(is_required, false)) {
            Undelivered::Settled(failure) => Some(failure.class),
            _ => None,
        }
    }

    #[test]
    fn an_error_ends_in_its_class_with_the_servers_code() {
        let unknown = undelivered(Code::UnknownTopicOrPartition, to(true, false));
        let Undelivered::Ended(failure) = unknown else {
            unreachable!("{unknown:?}");
        };
        assert_eq!(failure.class, Class::Refused);
        assert!(
            failure.reason.contains("3 UnknownTopicOrPartition"),
            "{failure}"
        );
        assert_eq!(
            class(Code::TopicAuthorizationFailed, false),
            Some(Class::Poison)
        );
        assert_eq!(class(Code::InvalidRecord, true), Some(Class::Poison));
        assert_eq!(class(Code::NotLeaderForPartition, true), Some(Class::Retry));
        assert_eq!(class(Code::NotEnoughReplicas, true), Some(Class::Retry));
        let large = undelivered(Code::MessageSizeTooLarge, to(true, false));
        assert_eq!(large, Undelivered::Batch);
        let fenced = undelivered(Code::ProducerFenced, to(true, false));
        assert!(matches!(fenced, Undelivered::Ended(_)), "{fenced:?}");
        let own = undelivered(Code::UnknownPartition, to(true, true));
        assert!(matches!(own, Undelivered::Settled(_)), "{own:?}");
        let purged = undelivered(Code::PurgeInflight, to(true, false));
        assert_eq!(purged, Undelivered::Purged);
    }

    #[test]
    fn a_client_ends_when_it_is_fenced_or_not_let_in() {
        let of = |code| of_client(&KafkaError::Global(code), "why").map(|it| it.class);
        assert_eq!(of(Code::Authentication), Some(Class::Refused));
        assert_eq!(of(Code::Fenced), Some(Class::Refused));
        assert_eq!(of(Code::AllBrokersDown), None);
        let fatal = |code| of_fatal(code, "why");
        let refused = Failure::refused(
            "31 ClusterAuthorizationFailed (Broker: Cluster authorization failed): why",
        );
        assert_eq!(fatal(Code::ClusterAuthorizationFailed), refused);
        assert_eq!(fatal(Code::OutOfOrderSequenceNumber).class, Class::Retry);
    }
}
