//! Records as JSON lines and back. Times are milliseconds since 1970: the epoch of tools is zero.

use std::num::NonZeroU32;

use serde_json::{Map, Value, json};
use tidewire_protocol::codec::{
    PacketId, ProtocolVersion, QoS, RetainHandling, SubscriptionOptions,
};

use super::super::id::{MessageId, QueueId};
use super::super::operation::{
    InFlightRecord, Operation, Receiver, Refusable, Refusal, SessionRecord, SubscriptionRecord,
    WillRecord,
};
use crate::message::{Header, Message};

pub(super) fn session(queue: QueueId, session: &SessionRecord) -> Value {
    json!({
        "kind": "session", "queue": queue.number(), "client_id": &*session.client_id,
        "version": session.version as u8, "expiry_seconds": session.expiry_seconds,
        "expires_unix_ms": session.expires_at_ms, "user_name": session.user_name.as_deref(),
    })
}

pub(super) fn subscription(queue: QueueId, filter: &str, record: SubscriptionRecord) -> Value {
    let options = record.options;
    json!({
        "kind": "subscription", "queue": queue.number(), "filter": filter, "qos": options.qos as u8,
        "no_local": options.no_local, "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "subscription_id": record.subscription_id,
    })
}

pub(super) fn in_flight(queue: QueueId, packet_id: PacketId, record: InFlightRecord) -> Value {
    json!({
        "kind": "in_flight", "queue": queue.number(), "packet_id": packet_id.0,
        "order": record.order.0,
        "qos": record.qos as u8, "message": record.message.map(|id| id.0),
    })
}

pub(super) fn received(queue: QueueId, packet_id: PacketId) -> Value {
    json!({ "kind": "received", "queue": queue.number(), "packet_id": packet_id.0 })
}

pub(super) fn bookmark(queue: QueueId, name: &str, next: u64) -> Value {
    json!({ "kind": "bookmark", "queue": queue.number(), "name": name, "next": next })
}

pub(super) fn named_queue(queue: QueueId, name: &str) -> Value {
    json!({ "kind": "named_queue", "queue": queue.number(), "name": name })
}

pub(super) fn will(queue: QueueId, will: &WillRecord) -> Value {
    let mut value = json!({
        "kind": "will", "queue": queue.number(), "delay_seconds": will.delay_seconds,
        "expiry_seconds": will.expiry_seconds, "due_unix_ms": will.due_at_ms,
    });
    put_message(&mut value, &will.message);
    value
}

pub(super) fn message(id: MessageId, message: &Message, receivers: &[Receiver]) -> Value {
    let receivers: Vec<Value> = receivers
        .iter()
        .map(|it| {
            json!({
                "queue": it.queue.number(), "qos": it.qos as u8, "retain": it.retain,
                "subscription_ids": it.subscription_ids.as_deref(),
            })
        })
        .collect();
    let mut value = json!({ "kind": "message", "id": id.0, "receivers": receivers });
    put_message(&mut value, message);
    value
}

pub(super) fn delayed(id: MessageId, due_unix_ms: u64, message: &Message) -> Value {
    let mut value = json!({ "kind": "delayed", "id": id.0, "due_unix_ms": due_unix_ms });
    put_message(&mut value, message);
    value
}

pub(super) fn retained(message: &Message) -> Value {
    let mut value = json!({ "kind": "retained" });
    put_message(&mut value, message);
    value
}

/// The operation that makes what a line says; `None` if the line says something else.
pub(super) fn operation(line: &Value) -> Option<Operation> {
    let queue = || number(line, "queue").map(QueueId::of);
    let id = || number(line, "id").map(MessageId);
    Some(match text(line, "kind")? {
        "session" => Operation::PutSession {
            queue: queue()?,
            session: read_session(line)?,
        },
        "subscription" => Operation::PutSubscription {
            queue: queue()?,
            filter: text(line, "filter")?.into(),
            subscription: read_subscription(line)?,
        },
        "in_flight" => Operation::PutInFlight {
            queue: queue()?,
            packet_id: packet_id(line)?,
            in_flight: InFlightRecord {
                order: MessageId(number(line, "order")?),
                qos: qos(line)?,
                message: number(line, "message").map(MessageId),
            },
        },
        "received" => Operation::PutReceived {
            queue: queue()?,
            packet_id: packet_id(line)?,
            with: Refusable::default(),
        },
        "bookmark" => Operation::PutBookmark {
            queue: queue()?,
            name: text(line, "name")?.into(),
            next: number(line, "next")?,
        },
        "named_queue" => Operation::PutNamedQueue {
            queue: queue()?,
            name: text(line, "name")?.into(),
        },
        "will" => Operation::PutWill {
            queue: queue()?,
            will: WillRecord {
                message: read_message(line)?,
                delay_seconds: small(line, "delay_seconds")?,
                expiry_seconds: small(line, "expiry_seconds"),
                due_at_ms: number(line, "due_unix_ms"),
            },
        },
        "message" => Operation::PutMessage {
            id: id()?,
            message: read_message(line)?,
            receivers: read_receivers(line)?.into(),
            refusal: Refusal::Never,
        },
        "delayed" => Operation::PutDelayed {
            id: id()?,
            due_at_ms: number(line, "due_unix_ms")?,
            message: read_message(line)?,
        },
        "retained" => Operation::SetRetained {
            message: read_message(line)?,
            refusal: Refusal::Never,
        },
        _ => return None,
    })
}

fn put_message(value: &mut Value, message: &Message) {
    let mut fields = Map::new();
    fields.insert("topic".into(), message.topic().into());
    fields.insert("message_qos".into(), (message.qos() as u8).into());
    fields.insert("message_retain".into(), message.retain().into());
    fields.insert(
        "message_expires_unix_ms".into(),
        message.expires_at_ms().into(),
    );
    fields.insert("publisher".into(), message.publisher().into());
    fields.insert("properties_hex".into(), hex(message.forwarded()).into());
    match str::from_utf8(message.payload()) {
        Ok(text) => fields.insert("payload".into(), text.into()),
        Err(_) => fields.insert("payload_hex".into(), hex(message.payload()).into()),
    };
    if let Some(value) = value.as_object_mut() {
        value.extend(fields);
    }
}

fn read_message(line: &Value) -> Option<Message> {
    let payload = match text(line, "payload") {
        Some(text) => text.as_bytes().to_vec(),
        None => unhex(text(line, "payload_hex")?)?,
    };
    let qos = QoS::from_bits(small(line, "message_qos")?)?;
    Some(Message::new(
        text(line, "topic")?,
        &unhex(text(line, "properties_hex")?)?,
        &payload,
        Header {
            qos,
            retain: flag(line, "message_retain")?,
            expires_at_ms: number(line, "message_expires_unix_ms"),
            publisher: number(line, "publisher")?,
            ..Header::default()
        },
    ))
}

fn read_session(line: &Value) -> Option<SessionRecord> {
    let version = match number(line, "version")? {
        3 => ProtocolVersion::V3_1,
        4 => ProtocolVersion::V3_1_1,
        5 => ProtocolVersion::V5,
        _ => return None,
    };
    Some(SessionRecord {
        client_id: text(line, "client_id")?.into(),
        version,
        expiry_seconds: small(line, "expiry_seconds")?,
        expires_at_ms: number(line, "expires_unix_ms"),
        user_name: text(line, "user_name").map(Into::into),
    })
}

fn read_subscription(line: &Value) -> Option<SubscriptionRecord> {
    let retain_handling = match number(line, "retain_handling")? {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return None,
    };
    Some(SubscriptionRecord {
        options: SubscriptionOptions {
            qos: qos(line)?,
            no_local: flag(line, "no_local")?,
            retain_as_published: flag(line, "retain_as_published")?,
            retain_handling,
        },
        subscription_id: small(line, "subscription_id").and_then(NonZeroU32::new),
    })
}

fn read_receivers(line: &Value) -> Option<Vec<Receiver>> {
    let receivers = line.get("receivers")?.as_array()?;
    receivers
        .iter()
        .map(|it| {
            let ids = it.get("subscription_ids").and_then(Value::as_array);
            let ids = ids.map(|ids| {
                ids.iter()
                    .filter_map(|id| NonZeroU32::new(id.as_u64()?.try_into().ok()?))
                    .collect()
            });
            Some(Receiver {
                queue: QueueId::of(number(it, "queue")?),
                qos: qos(it)?,
                retain: flag(it, "retain")?,
                subscription_ids: ids,
            })
        })
        .collect()
}

fn text<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get(name)?.as_str()
}

fn number(line: &Value, name: &str) -> Option<u64> {
    line.get(name)?.as_u64()
}

fn small<T: TryFrom<u64>>(line: &Value, name: &str) -> Option<T> {
    number(line, name)?.try_into().ok()
}

fn flag(line: &Value, name: &str) -> Option<bool> {
    line.get(name)?.as_bool()
}

fn qos(line: &Value) -> Option<QoS> {
    QoS::from_bits(small(line, "qos").filter(|bits| *bits < 3)?)
}

fn packet_id(line: &Value) -> Option<PacketId> {
    PacketId::new(small(line, "packet_id")?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
