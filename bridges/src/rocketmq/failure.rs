//! What RocketMQ's codes mean.

use super::wire::Status;
use crate::Failure;

/// What the server says of a request.
pub(super) fn check(status: Option<Status>) -> Result<(), Status> {
    match status {
        Some(status) if status.code == OK => Ok(()),
        Some(status) => Err(status),
        None => Err(Status {
            code: 0,
            message: "no status".to_owned(),
        }),
    }
}

/// A refusal in words, with the server's own code.
pub(super) fn words(what: &str, status: &Status) -> String {
    let Status { code, message } = status;
    match name_of(*code) {
        Some(name) if message == name => format!("{what}: {code} {name}"),
        Some(name) => format!("{what}: {code} {name}: {message}"),
        None => format!("{what}: {code} {message}"),
    }
}

/// What becomes of a record that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Undelivered {
    /// It is settled by this failure.
    Settled(Failure),
    /// The server has enough for now.
    Throttled(Failure),
    /// It is more at once than the server takes.
    TooLarge(Failure),
    /// Nothing can be delivered any more.
    Ended(Failure),
}

/// What a refusal of a message means; a topic is required if the configuration names it.
pub(super) fn undelivered(status: &Status, topic: &str, is_required: bool) -> Undelivered {
    let reason = words(&format!("topic {topic:?}"), status);
    match status.code {
        TOO_MANY_REQUESTS => Undelivered::Throttled(Failure::retry(reason)),
        // Brokers measure a batch as one message, and say of it what they say of accidents.
        INTERNAL_SERVER_ERROR if status.message.contains("body size exceeded") => {
            Undelivered::TooLarge(Failure::poison(reason))
        }
        // Nothing else is worth sending either while somebody has to mend it.
        code if is_logins(status) || is_operators(code) && is_required => {
            Undelivered::Ended(Failure::refused(reason))
        }
        code if is_operators(code) || is_messages(code) || is_illegal(status) => {
            Undelivered::Settled(Failure::poison(reason))
        }
        _ => Undelivered::Settled(Failure::retry(reason)),
    }
}

/// What keeps a topic or a group from being used.
pub(super) fn of_request(what: &str, status: &Status) -> Failure {
    let reason = words(what, status);
    if is_operators(status.code) || is_messages(status.code) {
        Failure::refused(reason)
    } else {
        Failure::retry(reason)
    }
}

/// What a status of gRPC means, which says nothing of RocketMQ.
pub(super) fn of_call(code: u32, message: &str) -> Failure {
    let reason = format!("gRPC status {code}: {message}");
    // 7 PERMISSION_DENIED, 12 UNIMPLEMENTED, 16 UNAUTHENTICATED.
    if matches!(code, 7 | 12 | 16) {
        Failure::refused(reason)
    } else {
        Failure::retry(reason)
    }
}

/// Whether there was nothing to receive.
pub(super) fn is_nothing(status: &Status) -> bool {
    status.code == MESSAGE_NOT_FOUND
}

/// Whether the same request may succeed later.
pub(super) fn may_pass(status: &Status) -> bool {
    // 40013: the receipt handle is no longer valid; 40400 and 40401: what it stands for is gone.
    let is_gone = matches!(status.code, 40013 | 40400 | 40401);
    !is_gone && !is_operators(status.code) && !is_messages(status.code)
}

/// Whoever we are, and whatever we send, is not let in.
fn is_logins(status: &Status) -> bool {
    // Proxies of 5.4 know who we are, and say UNAUTHORIZED of rights to one topic as well.
    let is_of_rights = status.message.contains("has no permission to access");
    // 40100 UNAUTHORIZED, 40200 PAYMENT_REQUIRED
    matches!(status.code, 40100 | 40200) && !is_of_rights
}

/// Somebody has to change the server or the configuration.
fn is_operators(code: i32) -> bool {
    matches!(
        code,
        40001..=40003 // access point, topic, group
            | 40010 | 40011 // filter, invisible time
            | 40014 // the type of the message is not that of the topic
            | 40100
            | 40200
            | 40300
            | 40402
            | 40403
            | 50100
            | 50500..=50502
    )
}

/// The message can never be taken.
fn is_messages(code: i32) -> bool {
    matches!(
        code,
        40000 | 40004..=40009 | 40012 | 40016 | 41300 | 41301 | 43100 | 43101
    )
}

/// Brokers say this of a message above `maxMessageSize`, and proxies have no code for it.
fn is_illegal(status: &Status) -> bool {
    status.code == INTERNAL_SERVER_ERROR && status.message.contains("the message is illegal")
}

fn name_of(code: i32) -> Option<&'static str> {
    let found = NAMES.iter().find(|it| it.0 == code);
    found.map(|it| it.1)
}

const OK: i32 = 20000;
const MESSAGE_NOT_FOUND: i32 = 40401;
const TOO_MANY_REQUESTS: i32 = 42900;
const INTERNAL_SERVER_ERROR: i32 = 50001;

/// The codes of `apache.rocketmq.v2.Code` that a client is told.
const NAMES: [(i32, &str); 41] = [
    (0, "CODE_UNSPECIFIED"),
    (30000, "MULTIPLE_RESULTS"),
    (40000, "BAD_REQUEST"),
    (40001, "ILLEGAL_ACCESS_POINT"),
    (40002, "ILLEGAL_TOPIC"),
    (40003, "ILLEGAL_CONSUMER_GROUP"),
    (40004, "ILLEGAL_MESSAGE_TAG"),
    (40005, "ILLEGAL_MESSAGE_KEY"),
    (40006, "ILLEGAL_MESSAGE_GROUP"),
    (40007, "ILLEGAL_MESSAGE_PROPERTY_KEY"),
    (40009, "ILLEGAL_MESSAGE_ID"),
    (40010, "ILLEGAL_FILTER_EXPRESSION"),
    (40011, "ILLEGAL_INVISIBLE_TIME"),
    (40012, "ILLEGAL_DELIVERY_TIME"),
    (40013, "INVALID_RECEIPT_HANDLE"),
    (40014, "MESSAGE_PROPERTY_CONFLICT_WITH_TYPE"),
    (40015, "UNRECOGNIZED_CLIENT_TYPE"),
    (40016, "MESSAGE_CORRUPTED"),
    (40017, "CLIENT_ID_REQUIRED"),
    (40018, "ILLEGAL_POLLING_TIME"),
    (40100, "UNAUTHORIZED"),
    (40200, "PAYMENT_REQUIRED"),
    (40300, "FORBIDDEN"),
    (40400, "NOT_FOUND"),
    (40401, "MESSAGE_NOT_FOUND"),
    (40402, "TOPIC_NOT_FOUND"),
    (40403, "CONSUMER_GROUP_NOT_FOUND"),
    (40800, "REQUEST_TIMEOUT"),
    (41300, "PAYLOAD_TOO_LARGE"),
    (41301, "MESSAGE_BODY_TOO_LARGE"),
    (42800, "PRECONDITION_FAILED"),
    (42900, "TOO_MANY_REQUESTS"),
    (43100, "REQUEST_HEADER_FIELDS_TOO_LARGE"),
    (43101, "MESSAGE_PROPERTIES_TOO_LARGE"),
    (50000, "INTERNAL_ERROR"),
    (50001, "INTERNAL_SERVER_ERROR"),
    (50002, "HA_NOT_AVAILABLE"),
    (50400, "PROXY_TIMEOUT"),
    (50401, "MASTER_PERSISTENCE_TIMEOUT"),
    (50402, "SLAVE_PERSISTENCE_TIMEOUT"),
    (50501, "VERSION_UNSUPPORTED"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    fn refusal(code: i32) -> Status {
        let message = "why".to_owned();
        Status { code, message }
    }

    fn class(code: i32, is_required: bool) -> (Class, bool) {
        match undelivered(&refusal(code), "t", is_required) {
            Undelivered::Settled(failure)
            | Undelivered::Throttled(failure)
            | Undelivered::TooLarge(failure) => (failure.class, false),
            Undelivered::Ended(failure) => (failure.class, true),
        }
    }

    #[test]
    fn a_code_ends_in_its_class_with_the_servers_words() {
        assert_eq!(class(40402, true), (Class::Refused, true));
        assert_eq!(class(40402, false), (Class::Poison, false));
        assert_eq!(class(40014, true), (Class::Refused, true));
        assert_eq!(class(40300, true), (Class::Refused, true));
        assert_eq!(class(40300, false), (Class::Poison, false));
        // Wrong keys say nothing of the message, wherever it goes.
        assert_eq!(class(40100, true), (Class::Refused, true));
        assert_eq!(class(40100, false), (Class::Refused, true));
        let mut rights = refusal(40100);
        rights.message = "User:u has no permission to access Topic:t from h".to_owned();
        let of_rights = undelivered(&rights, "t", false);
        assert!(matches!(of_rights, Undelivered::Settled(it) if it.class == Class::Poison));
        let of_rights = undelivered(&rights, "t", true);
        assert!(matches!(of_rights, Undelivered::Ended(it) if it.class == Class::Refused));
        assert_eq!(class(41301, true), (Class::Poison, false));
        assert_eq!(class(40007, false), (Class::Poison, false));
        assert_eq!(class(42900, true), (Class::Retry, false));
        assert_eq!(class(42900, false), (Class::Retry, false));
        assert_eq!(class(50401, true), (Class::Retry, false));
        assert_eq!(class(50001, true), (Class::Retry, false));
        assert_eq!(class(12345, true), (Class::Retry, false));
        let mut large = refusal(50001);
        large.message = "ProxyException: the message is illegal, maybe msg body".to_owned();
        let illegal = undelivered(&large, "t", true);
        assert!(matches!(illegal, Undelivered::Settled(it) if it.class == Class::Poison));
        large.message = "message body size exceeded. RuntimeException. org.apache".to_owned();
        let much = undelivered(&large, "t", true);
        assert!(matches!(much, Undelivered::TooLarge(it) if it.class == Class::Poison));
        let text = words("topic \"t\"", &refusal(42900));
        assert_eq!(text, "topic \"t\": 42900 TOO_MANY_REQUESTS: why");
    }

    #[test]
    fn a_receiver_waits_while_it_is_throttled_and_ends_when_it_may_not_receive() {
        assert!(may_pass(&refusal(TOO_MANY_REQUESTS)));
        assert_eq!(of_request("t", &refusal(42900)).class, Class::Retry);
        for code in [40100, 40300, 40403] {
            assert!(!may_pass(&refusal(code)));
            let failure = of_request("topic \"t\"", &refusal(code));
            assert_eq!(failure.class, Class::Refused);
            assert!(failure.reason.contains(&code.to_string()), "{failure}");
        }
    }

    #[test]
    fn a_call_that_is_not_let_in_is_the_operators_affair() {
        assert_eq!(of_call(16, "no").class, Class::Refused);
        assert_eq!(of_call(14, "gone").class, Class::Retry);
    }

    #[test]
    fn a_request_without_a_status_has_failed() {
        assert!(check(None).is_err());
        assert!(check(Some(refusal(OK))).is_ok());
    }
}
