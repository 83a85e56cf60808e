//! Records as rows.
//!
//! # Shape
//! Numbers are varints. Rows of messages begin with a checksum over the rest, then the header, then
//! the receivers (before the content, so that reading them at start touches one page only), then
//! topic, forwarded properties and payload to the end of the row.

use std::num::NonZeroU32;

use tidewire_protocol::codec::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};

use super::bytes::{Damaged, Reader, body, put_number, put_optional, put_text, seal, verified};
use super::id::{MessageId, QueueId};
use super::operation::{InFlightRecord, Receiver, SessionRecord, SubscriptionRecord, WillRecord};
use crate::clock::Epoch;
use crate::message::{ClientNumber, Header, Message};

/// What a message row says before its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowHeader {
    qos: QoS,
    retain: bool,
    pub(super) expires_unix_ms: Option<u64>,
    publisher: u64,
    topic_bytes: usize,
    forwarded_bytes: usize,
}

pub(super) fn encode_message(
    out: &mut Vec<u8>,
    message: &Message,
    receivers: &[Receiver],
    epoch: Epoch,
) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    put_message_header(out, message, epoch);
    put_receivers(out, receivers);
    put_content(out, message);
    seal(out);
}

/// The receivers and the expiry, without a look at the content, and the bytes of that.
pub(super) fn decode_receivers(row: &[u8]) -> Result<(RowHeader, Vec<Receiver>, usize), Damaged> {
    let mut reader = Reader::new(body(row)?);
    let header = header(&mut reader)?;
    let receivers = receivers(&mut reader)?;
    Ok((header, receivers, reader.rest().len()))
}

/// All of a message row, its checksum verified.
pub(super) fn decode_message(
    row: &[u8],
    epoch: Epoch,
) -> Result<(Message, Vec<Receiver>), Damaged> {
    let mut reader = Reader::new(verified(row)?);
    let header = header(&mut reader)?;
    let receivers = receivers(&mut reader)?;
    Ok((content(&header, reader.rest(), epoch)?, receivers))
}

/// A message with something in front of it: when it is due, or nothing.
pub(super) fn encode_lone_message(message: &Message, due_unix_ms: u64, epoch: Epoch) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_number(&mut out, due_unix_ms);
    put_message_header(&mut out, message, epoch);
    put_content(&mut out, message);
    seal(&mut out);
    out
}

pub(super) fn decode_lone_message(row: &[u8], epoch: Epoch) -> Result<(u64, Message), Damaged> {
    let mut reader = Reader::new(verified(row)?);
    let due_unix_ms = reader.number()?;
    let header = header(&mut reader)?;
    Ok((due_unix_ms, content(&header, reader.rest(), epoch)?))
}

/// The header of a lone message, without a look at the content, and the bytes of that.
pub(super) fn peek_lone_message(row: &[u8]) -> Result<(RowHeader, usize), Damaged> {
    let mut reader = Reader::new(body(row)?);
    reader.number()?;
    let header = header(&mut reader)?;
    Ok((header, reader.rest().len()))
}

pub(super) fn encode_session(session: &SessionRecord, epoch: Epoch) -> Vec<u8> {
    let mut out = vec![session.version as u8];
    put_number(&mut out, session.expiry_seconds.into());
    put_optional(
        &mut out,
        session.expires_at_ms.map(|at| epoch.to_unix_ms(at)),
    );
    put_text(&mut out, &session.client_id);
    out.push(u8::from(session.user_name.is_some()));
    put_text(&mut out, session.user_name.as_deref().unwrap_or_default());
    out
}

pub(super) fn decode_session(row: &[u8], epoch: Epoch) -> Result<SessionRecord, Damaged> {
    let mut reader = Reader::new(row);
    let version = match reader.byte()? {
        3 => ProtocolVersion::V3_1,
        4 => ProtocolVersion::V3_1_1,
        5 => ProtocolVersion::V5,
        _ => return Err(Damaged("its protocol version is unknown")),
    };
    let session = SessionRecord {
        version,
        expiry_seconds: reader.small()?,
        expires_at_ms: reader.optional()?.map(|at| epoch.to_clock_ms(at)),
        client_id: reader.text()?.into(),
        user_name: match (reader.byte()?, reader.text()?) {
            (0, _) => None,
            (_, name) => Some(name.into()),
        },
    };
    reader.end()?;
    Ok(session)
}

pub(super) fn encode_subscription(filter: &str, subscription: SubscriptionRecord) -> Vec<u8> {
    let options = subscription.options;
    let flags = options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4;
    let mut out = vec![flags];
    put_number(
        &mut out,
        subscription.subscription_id.map_or(0, |id| id.get().into()),
    );
    put_text(&mut out, filter);
    out
}

pub(super) fn decode_subscription(row: &[u8]) -> Result<(Box<str>, SubscriptionRecord), Damaged> {
    let mut reader = Reader::new(row);
    let flags = reader.byte()?;
    let retain_handling = match flags >> 4 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(Damaged("its options are unknown")),
    };
    let record = SubscriptionRecord {
        options: SubscriptionOptions {
            qos: qos(flags)?,
            no_local: flags & 4 != 0,
            retain_as_published: flags & 8 != 0,
            retain_handling,
        },
        subscription_id: NonZeroU32::new(reader.small()?),
    };
    let filter = reader.text()?.into();
    reader.end()?;
    Ok((filter, record))
}

pub(super) fn encode_in_flight(in_flight: InFlightRecord) -> Vec<u8> {
    let mut out = vec![in_flight.qos as u8];
    put_number(&mut out, in_flight.order.0);
    put_optional(&mut out, in_flight.message.map(|id| id.0));
    out
}

pub(super) fn decode_in_flight(row: &[u8]) -> Result<InFlightRecord, Damaged> {
    let mut reader = Reader::new(row);
    let record = InFlightRecord {
        qos: qos(reader.byte()?)?,
        order: MessageId(reader.number()?),
        message: reader.optional()?.map(MessageId),
    };
    reader.end()?;
    Ok(record)
}

pub(super) fn encode_bookmark(name: &str, next: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 12);
    put_text(&mut out, name);
    put_number(&mut out, next);
    out
}

pub(super) fn decode_bookmark(row: &[u8]) -> Result<(Box<str>, u64), Damaged> {
    let mut reader = Reader::new(row);
    let bookmark = (reader.text()?.into(), reader.number()?);
    reader.end()?;
    Ok(bookmark)
}

pub(super) fn encode_will(will: &WillRecord, epoch: Epoch) -> Vec<u8> {
    let mut out = vec![0; 4];
    put_number(&mut out, will.delay_seconds.into());
    put_optional(&mut out, will.expiry_seconds.map(u64::from));
    put_optional(&mut out, will.due_at_ms.map(|at| epoch.to_unix_ms(at)));
    put_message_header(&mut out, &will.message, epoch);
    put_content(&mut out, &will.message);
    seal(&mut out);
    out
}

pub(super) fn decode_will(row: &[u8], epoch: Epoch) -> Result<WillRecord, Damaged> {
    let mut reader = Reader::new(verified(row)?);
    let delay_seconds = reader.small()?;
    let expiry_seconds = match reader.optional()? {
        Some(value) => Some(
            value
                .try_into()
                .map_err(|_| Damaged("its expiry is too long"))?,
        ),
        None => None,
    };
    let due_at_ms = reader.optional()?.map(|at| epoch.to_clock_ms(at));
    let header = header(&mut reader)?;
    Ok(WillRecord {
        message: content(&header, reader.rest(), epoch)?,
        delay_seconds,
        expiry_seconds,
        due_at_ms,
    })
}

/// One receiver alone, as an adopted message has it.
pub(super) fn encode_receiver(receiver: &Receiver) -> Vec<u8> {
    let mut out = Vec::new();
    put_receivers(&mut out, std::slice::from_ref(receiver));
    out
}

pub(super) fn decode_receiver(row: &[u8]) -> Result<Receiver, Damaged> {
    let mut reader = Reader::new(row);
    let receiver = receivers(&mut reader)?
        .pop()
        .ok_or(Damaged("it has no receiver"))?;
    reader.end()?;
    Ok(receiver)
}

fn put_message_header(out: &mut Vec<u8>, message: &Message, epoch: Epoch) {
    out.push(message.qos() as u8 | u8::from(message.retain()) << 2);
    put_optional(out, message.expires_at_ms().map(|at| epoch.to_unix_ms(at)));
    put_number(out, message.publisher());
    put_number(out, message.topic().len() as u64);
    put_number(out, message.forwarded().len() as u64);
}

fn header(reader: &mut Reader<'_>) -> Result<RowHeader, Damaged> {
    let flags = reader.byte()?;
    if flags > 7 {
        return Err(Damaged("its flags are unknown"));
    }
    Ok(RowHeader {
        qos: qos(flags)?,
        retain: flags & 4 != 0,
        expires_unix_ms: reader.optional()?,
        publisher: reader.number()?,
        topic_bytes: reader.small()?,
        forwarded_bytes: reader.small()?,
    })
}

fn put_content(out: &mut Vec<u8>, message: &Message) {
    out.extend_from_slice(message.topic().as_bytes());
    out.extend_from_slice(message.forwarded());
    out.extend_from_slice(message.payload());
}

fn content(header: &RowHeader, bytes: &[u8], epoch: Epoch) -> Result<Message, Damaged> {
    let mut reader = Reader::new(bytes);
    let topic = str::from_utf8(reader.bytes(header.topic_bytes)?)
        .map_err(|_| Damaged("its topic is not UTF-8"))?;
    let forwarded = reader.bytes(header.forwarded_bytes)?;
    Ok(Message::new(
        topic,
        forwarded,
        reader.rest(),
        Header {
            qos: header.qos,
            retain: header.retain,
            expires_at_ms: header.expires_unix_ms.map(|at| epoch.to_clock_ms(at)),
            publisher: header.publisher,
            // Who receives it is known.
            client: ClientNumber::default(),
        },
    ))
}

/// In the order of their queues, each as its distance to the one before.
fn put_receivers(out: &mut Vec<u8>, receivers: &[Receiver]) {
    put_number(out, receivers.len() as u64);
    let mut last = 0;
    for receiver in receivers {
        put_number(out, receiver.queue.number().wrapping_sub(last));
        last = receiver.queue.number();
        let ids = receiver.subscription_ids.as_deref().unwrap_or_default();
        let has_ids = !ids.is_empty();
        out.push(receiver.qos as u8 | u8::from(receiver.retain) << 2 | u8::from(has_ids) << 3);
        if has_ids {
            put_number(out, ids.len() as u64);
            for id in ids {
                put_number(out, id.get().into());
            }
        }
    }
}

fn receivers(reader: &mut Reader<'_>) -> Result<Vec<Receiver>, Damaged> {
    let count: usize = reader.small()?;
    let mut receivers = Vec::with_capacity(count.min(RECEIVERS_EXPECTED));
    let mut last = 0u64;
    for _ in 0..count {
        last = last.wrapping_add(reader.number()?);
        let flags = reader.byte()?;
        let subscription_ids = if flags & 8 == 0 {
            None
        } else {
            let count: usize = reader.small()?;
            let ids = (0..count).map(|_| {
                NonZeroU32::new(reader.small()?).ok_or(Damaged("a subscription id is zero"))
            });
            Some(ids.collect::<Result<_, _>>()?)
        };
        receivers.push(Receiver {
            queue: QueueId::of(last),
            qos: qos(flags)?,
            retain: flags & 4 != 0,
            subscription_ids,
        });
    }
    Ok(receivers)
}

fn qos(flags: u8) -> Result<QoS, Damaged> {
    QoS::from_bits(flags & 3).ok_or(Damaged("its QoS is 3"))
}

/// More than this many receivers are read without a reservation: the count may be damaged.
const RECEIVERS_EXPECTED: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: Epoch = Epoch {
        started_unix_ms: 1_700_000_000_000,
    };

    fn some_message(expires_at_ms: Option<u64>) -> Message {
        Message::new(
            "a/ü",
            &[1, 2],
            b"payload",
            Header {
                qos: QoS::ExactlyOnce,
                retain: true,
                expires_at_ms,
                publisher: 1 << 48,
                ..Header::default()
            },
        )
    }

    #[test]
    fn records_come_back_as_they_went_in() {
        let session = SessionRecord {
            client_id: "ç".into(),
            version: ProtocolVersion::V3_1_1,
            expiry_seconds: u32::MAX,
            expires_at_ms: Some(7),
            user_name: Some("".into()),
        };
        assert_eq!(
            decode_session(&encode_session(&session, EPOCH), EPOCH),
            Ok(session)
        );
        let subscription = SubscriptionRecord {
            options: SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
            },
            subscription_id: NonZeroU32::new(268_435_455),
        };
        let row = encode_subscription("$share/g/#", subscription);
        assert_eq!(
            decode_subscription(&row),
            Ok(("$share/g/#".into(), subscription))
        );
        let in_flight = InFlightRecord {
            order: MessageId(u64::MAX),
            qos: QoS::ExactlyOnce,
            message: Some(MessageId(5)),
        };
        assert_eq!(
            decode_in_flight(&encode_in_flight(in_flight)),
            Ok(in_flight)
        );
        let will = WillRecord {
            message: some_message(None),
            delay_seconds: 5,
            expiry_seconds: Some(u32::MAX),
            due_at_ms: None,
        };
        assert_eq!(decode_will(&encode_will(&will, EPOCH), EPOCH), Ok(will));
        let message = some_message(Some(9));
        let row = encode_lone_message(&message, 77, EPOCH);
        assert_eq!(decode_lone_message(&row, EPOCH), Ok((77, message)));
    }

    #[test]
    fn expiry_counts_the_time_between_two_processes() {
        let row = encode_lone_message(&some_message(Some(60_000)), 0, EPOCH);
        let later = Epoch {
            started_unix_ms: EPOCH.started_unix_ms + 50_000,
        };
        let (_, message) = decode_lone_message(&row, later).expect("valid");
        assert_eq!(message.expires_at_ms(), Some(10_000));
        let much_later = Epoch {
            started_unix_ms: EPOCH.started_unix_ms + 70_000,
        };
        let (_, message) = decode_lone_message(&row, much_later).expect("valid");
        assert!(message.is_expired(0));
    }

    proptest! {
        #[test]
        fn messages_come_back_with_their_receivers(
            queues in proptest::collection::vec((any::<u64>(), 0u8..3, any::<bool>(),
                proptest::collection::vec(1u32.., 0..3)), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let receiver = |(queue, bits, retain, ids): (u64, u8, bool, Vec<u32>)| Receiver {
                queue: QueueId::of(queue),
                qos: QoS::from_bits(bits).expect("below 3"),
                retain,
                subscription_ids: (!ids.is_empty())
                    .then(|| ids.into_iter().filter_map(NonZeroU32::new).collect()),
            };
            let expected: Vec<Receiver> = queues.into_iter().map(receiver).collect();
            let header = Header { qos: QoS::AtLeastOnce, ..Header::default() };
            let message = Message::new("t", &[], &payload, header);
            let mut row = Vec::new();
            encode_message(&mut row, &message, &expected, EPOCH);
            let (header, receivers, _) = decode_receivers(&row).expect("valid");
            prop_assert_eq!(header.expires_unix_ms, None);
            prop_assert_eq!(&receivers, &expected);
            prop_assert_eq!(decode_message(&row, EPOCH), Ok((message, expected)));
        }

        #[test]
        fn no_row_panics(row in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_receivers(&row);
            let _ = decode_session(&row, EPOCH);
            let _ = decode_subscription(&row);
            let _ = decode_in_flight(&row);
            let _ = decode_receiver(&row);
            let mut sealed = row;
            if sealed.len() > 4 {
                seal(&mut sealed);
                let _ = decode_message(&sealed, EPOCH);
                let _ = decode_will(&sealed, EPOCH);
                prop_assert!(verified(&sealed).is_ok());
            }
        }
    }
}
