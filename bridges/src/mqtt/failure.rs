//! What the answers of an MQTT server mean.

use tidewire_protocol::codec::{Ack, DecodeError, ReasonCode};

use crate::Failure;

pub(super) fn outcome(ack: &Ack<'_>) -> Result<(), Failure> {
    if !ack.reason.is_error() {
        return Ok(());
    }
    let text = format!("refused by the server: {:?}", ack.reason);
    Err(match ack.reason {
        ReasonCode::NotAuthorized
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PayloadFormatInvalid
        | ReasonCode::PacketTooLarge => Failure::poison(text),
        _ => Failure::retry(text),
    })
}

pub(super) fn expired() -> Failure {
    Failure::poison("expired")
}

pub(super) fn too_large() -> Failure {
    Failure::poison("larger than the server takes")
}

pub(super) fn broken(error: &DecodeError) -> Failure {
    Failure::retry(format!("the server broke the protocol: {error}"))
}

/// Whether only an operator can help.
pub(super) fn is_operators(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::NotAuthorized
            | ReasonCode::BadUserNameOrPassword
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::SessionTakenOver
            | ReasonCode::UnsupportedProtocolVersion
    )
}
