//! What frames of a server say (AMQP 1.0 section 2.7), as far as a bridge needs to know.

use super::value::{Items, Malformed, Value, fields, take};

/// The body of a frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Performative<'a> {
    Open(Open),
    Begin(Begin),
    Attach(Attach<'a>),
    Flow(Flow),
    /// The part of a message that follows it.
    Transfer(Transfer, &'a [u8]),
    Disposition(Disposition),
    Detach(Detach),
    End(Option<Error>),
    Close(Option<Error>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// The largest frame that the server takes.
    pub(super) frame_bytes_max: u32,
    /// After how many milliseconds of silence it leaves; 0 is never.
    pub(super) idle_timeout_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// The channel of ours that it answers.
    pub(super) answers: Option<u16>,
    pub(super) next_outgoing_id: u32,
    pub(super) incoming_window: u32,
    /// The highest handle of a link.
    pub(super) handle_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attach<'a> {
    pub(super) name: &'a str,
    pub(super) handle: u32,
    /// Whether there is something at the server's end; without it a detach follows that says why.
    pub(super) is_granted: bool,
    pub(super) initial_delivery_count: u32,
    /// The largest message, 0 is any.
    pub(super) message_bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) next_incoming_id: Option<u32>,
    pub(super) incoming_window: u32,
    pub(super) link: Option<LinkFlow>,
    pub(super) wants_answer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkFlow {
    pub(super) handle: u32,
    pub(super) delivery_count: Option<u32>,
    pub(super) credit: u32,
    /// Credit that is not used is to be given back.
    pub(super) drains: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) handle: u32,
    /// Missing in all parts of a message but the first.
    pub(super) delivery_id: Option<u32>,
    pub(super) has_more: bool,
    pub(super) is_aborted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disposition {
    /// Whether it is about what the server has received.
    pub(super) is_receivers: bool,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) is_settled: bool,
    pub(super) outcome: Option<Outcome>,
}

/// What became of a message (section 3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Rejected(Option<Error>),
    Released,
    /// Whether the server cannot take it at all.
    Modified {
        is_undeliverable: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Detach {
    pub(super) handle: u32,
    pub(super) is_closed: bool,
    pub(super) error: Option<Error>,
}

/// Why something ended (section 2.8.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) condition: String,
    pub(super) description: Option<String>,
}

/// What the body of a frame says.
///
/// # Errors
/// It is no performative, or lacks what it has to have.
pub(super) fn decode(body: &[u8]) -> Result<Performative<'_>, Malformed> {
    let mut rest = body;
    let Value::Described(Some(code), list) = take(&mut rest)? else {
        return Err(Malformed("a frame without a performative"));
    };
    let mut own = fields(list)?;
    Ok(match code {
        code::OPEN => Performative::Open(open(&mut own)?),
        code::BEGIN => Performative::Begin(begin(&mut own)?),
        code::ATTACH => Performative::Attach(attach(&mut own)?),
        code::FLOW => Performative::Flow(flow(&mut own)?),
        code::TRANSFER => Performative::Transfer(transfer(&mut own)?, rest),
        code::DISPOSITION => Performative::Disposition(disposition(&mut own)?),
        code::DETACH => Performative::Detach(Detach {
            handle: needed(own.field()?)?,
            is_closed: own.field()?.is_true(),
            error: error(own.field()?)?,
        }),
        code::END => Performative::End(error(own.field()?)?),
        code::CLOSE => Performative::Close(error(own.field()?)?),
        _ => return Err(Malformed("a frame with an unknown performative")),
    })
}

fn open(own: &mut Items<'_>) -> Result<Open, Malformed> {
    own.pass(2)?;
    let frame_bytes_max = own.field()?.number().unwrap_or(u32::MAX);
    own.pass(1)?;
    Ok(Open {
        frame_bytes_max,
        idle_timeout_ms: own.field()?.number().unwrap_or(0),
    })
}

fn begin(own: &mut Items<'_>) -> Result<Begin, Malformed> {
    let answers = own.field()?.number();
    let next_outgoing_id = needed(own.field()?)?;
    let incoming_window = needed(own.field()?)?;
    own.pass(1)?;
    Ok(Begin {
        answers: answers.and_then(|it| u16::try_from(it).ok()),
        next_outgoing_id,
        incoming_window,
        handle_max: own.field()?.number().unwrap_or(u32::MAX),
    })
}

fn attach<'a>(own: &mut Items<'a>) -> Result<Attach<'a>, Malformed> {
    let name = own.field()?.text().ok_or(INCOMPLETE)?;
    let handle = needed(own.field()?)?;
    let is_receiver = own.field()?.is_true();
    own.pass(2)?;
    let [source, target] = [own.field()?, own.field()?];
    // The server's end of the link.
    let end = if is_receiver { target } else { source };
    own.pass(2)?;
    Ok(Attach {
        name,
        handle,
        is_granted: end != Value::Null,
        initial_delivery_count: own.field()?.number().unwrap_or(0),
        message_bytes_max: match own.field()? {
            Value::Unsigned(most) => most,
            _ => 0,
        },
    })
}

fn flow(own: &mut Items<'_>) -> Result<Flow, Malformed> {
    let next_incoming_id = own.field()?.number();
    let incoming_window = needed(own.field()?)?;
    own.pass(2)?;
    let handle = own.field()?.number();
    let delivery_count = own.field()?.number();
    let credit = own.field()?.number().unwrap_or(0);
    own.pass(1)?;
    let drains = own.field()?.is_true();
    Ok(Flow {
        next_incoming_id,
        incoming_window,
        link: handle.map(|handle| LinkFlow {
            handle,
            delivery_count,
            credit,
            drains,
        }),
        wants_answer: own.field()?.is_true(),
    })
}

fn transfer(own: &mut Items<'_>) -> Result<Transfer, Malformed> {
    let handle = needed(own.field()?)?;
    let delivery_id = own.field()?.number();
    own.pass(3)?;
    let has_more = own.field()?.is_true();
    own.pass(3)?;
    Ok(Transfer {
        handle,
        delivery_id,
        has_more,
        is_aborted: own.field()?.is_true(),
    })
}

fn disposition(own: &mut Items<'_>) -> Result<Disposition, Malformed> {
    let is_receivers = own.field()?.is_true();
    let first = needed(own.field()?)?;
    let last = own.field()?.number().unwrap_or(first);
    let is_settled = own.field()?.is_true();
    Ok(Disposition {
        is_receivers,
        first,
        last,
        is_settled,
        outcome: outcome(own.field()?)?,
    })
}

/// The outcome, if a state of delivery is one.
fn outcome(state: Value<'_>) -> Result<Option<Outcome>, Malformed> {
    let (code, list) = match state {
        Value::Described(Some(code), list) => (code, list),
        // Nobody who is spoken to here names them.
        Value::Described(None, _) => return Err(Malformed("an outcome by its name")),
        _ => return Ok(None),
    };
    Ok(match code {
        code::ACCEPTED => Some(Outcome::Accepted),
        code::REJECTED => Some(Outcome::Rejected(error(fields(list)?.field()?)?)),
        code::RELEASED => Some(Outcome::Released),
        code::MODIFIED => {
            let mut own = fields(list)?;
            own.pass(1)?;
            let is_undeliverable = own.field()?.is_true();
            Some(Outcome::Modified { is_undeliverable })
        }
        _ => None,
    })
}

fn error(value: Value<'_>) -> Result<Option<Error>, Malformed> {
    let Some(mut own) = value.composite(code::ERROR)? else {
        return Ok(None);
    };
    let condition = own.field()?.text().ok_or(INCOMPLETE)?.to_owned();
    let description = own.field()?.text().map(str::to_owned);
    Ok(Some(Error {
        condition,
        description,
    }))
}

fn needed(value: Value<'_>) -> Result<u32, Malformed> {
    value.number().ok_or(INCOMPLETE)
}

const INCOMPLETE: Malformed = Malformed("a performative that lacks a field");

/// By which numbers composite values are told apart.
pub(super) mod code {
    pub(in crate::amqp10) const OPEN: u64 = 0x10;
    pub(in crate::amqp10) const BEGIN: u64 = 0x11;
    pub(in crate::amqp10) const ATTACH: u64 = 0x12;
    pub(in crate::amqp10) const FLOW: u64 = 0x13;
    pub(in crate::amqp10) const TRANSFER: u64 = 0x14;
    pub(in crate::amqp10) const DISPOSITION: u64 = 0x15;
    pub(in crate::amqp10) const DETACH: u64 = 0x16;
    pub(in crate::amqp10) const END: u64 = 0x17;
    pub(in crate::amqp10) const CLOSE: u64 = 0x18;
    pub(in crate::amqp10) const ERROR: u64 = 0x1d;
    pub(in crate::amqp10) const ACCEPTED: u64 = 0x24;
    pub(in crate::amqp10) const REJECTED: u64 = 0x25;
    pub(in crate::amqp10) const RELEASED: u64 = 0x26;
    pub(in crate::amqp10) const MODIFIED: u64 = 0x27;
    pub(in crate::amqp10) const SOURCE: u64 = 0x28;
    pub(in crate::amqp10) const TARGET: u64 = 0x29;
    pub(in crate::amqp10) const SASL_MECHANISMS: u64 = 0x40;
    pub(in crate::amqp10) const SASL_INIT: u64 = 0x41;
    pub(in crate::amqp10) const SASL_OUTCOME: u64 = 0x44;
    pub(in crate::amqp10) const HEADER: u64 = 0x70;
    pub(in crate::amqp10) const DELIVERY_ANNOTATIONS: u64 = 0x71;
    pub(in crate::amqp10) const MESSAGE_ANNOTATIONS: u64 = 0x72;
    pub(in crate::amqp10) const PROPERTIES: u64 = 0x73;
    pub(in crate::amqp10) const APPLICATION_PROPERTIES: u64 = 0x74;
    pub(in crate::amqp10) const DATA: u64 = 0x75;
    pub(in crate::amqp10) const SEQUENCE: u64 = 0x76;
    pub(in crate::amqp10) const VALUE: u64 = 0x77;
    pub(in crate::amqp10) const FOOTER: u64 = 0x78;
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::definitions::{AmqpError, Error as TheirError, Handle, Role};
    use fe2o3_amqp::types::messaging::{DeliveryState, Modified, Rejected};
    use fe2o3_amqp::types::performatives as theirs;
    use serde_amqp::to_vec;

    use super::*;

    fn disposition_of(state: DeliveryState) -> Disposition {
        let bytes = to_vec(&theirs::Disposition {
            role: Role::Receiver,
            first: 7,
            last: None,
            settled: true,
            state: Some(state),
            batchable: true,
        });
        match decode(&bytes.unwrap()) {
            Ok(Performative::Disposition(it)) => it,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn outcomes_that_another_library_writes_are_read_as_they_are() {
        let text = "full".to_owned();
        let error = TheirError::new(AmqpError::ResourceLimitExceeded, text, None);
        let rejected = DeliveryState::Rejected(Rejected { error: Some(error) });
        let expected = Outcome::Rejected(Some(Error {
            condition: "amqp:resource-limit-exceeded".into(),
            description: Some("full".into()),
        }));
        let read = disposition_of(rejected);
        assert_eq!((read.first, read.last), (7, 7));
        assert!(read.is_receivers && read.is_settled);
        assert_eq!(read.outcome, Some(expected));
        let modified = DeliveryState::Modified(Modified {
            delivery_failed: Some(true),
            undeliverable_here: Some(true),
            message_annotations: None,
        });
        let expected = Outcome::Modified {
            is_undeliverable: true,
        };
        assert_eq!(disposition_of(modified).outcome, Some(expected));
    }

    #[test]
    fn a_transfer_is_told_from_the_part_of_a_message_that_follows_it() {
        let mut bytes = to_vec(&theirs::Transfer {
            handle: Handle(3),
            delivery_id: Some(1_000),
            delivery_tag: Some(vec![1, 2].into()),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        });
        bytes.as_mut().unwrap().extend(b"payload");
        let expected = Transfer {
            handle: 3,
            delivery_id: Some(1_000),
            has_more: true,
            is_aborted: false,
        };
        let bytes = bytes.unwrap();
        let expected = Performative::Transfer(expected, b"payload");
        assert_eq!(decode(&bytes), Ok(expected));
    }

    #[test]
    fn fields_at_the_end_may_be_missing_and_those_that_are_needed_may_not() {
        let detach = b"\x00\x53\x16\xc0\x03\x01\x52\x07";
        let expected = Detach {
            handle: 7,
            is_closed: false,
            error: None,
        };
        assert_eq!(decode(detach), Ok(Performative::Detach(expected)));
        assert_eq!(decode(b"\x00\x53\x18\x45"), Ok(Performative::Close(None)));
        for body in [&b"\x00\x53\x16\x45"[..], b"\x00\x53\x99\x45", b"\x45", b""] {
            assert!(decode(body).is_err(), "{body:02x?}");
        }
    }
}
