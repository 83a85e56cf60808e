//! What a client got from the broker, as values of its own.

use std::num::NonZeroU16;

use tidewire_protocol::codec::{Ack, Packet, PacketId, PacketType, QoS, ReasonCode};

/// A packet from the broker.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    ConnAck {
        is_present: bool,
        reason: ReasonCode,
        assigned: Option<String>,
        session_expiry_seconds: Option<u32>,
        keep_alive_seconds: Option<u16>,
    },
    Message(Message),
    Ack(PacketType, u16, ReasonCode),
    SubAck(u16, Vec<ReasonCode>),
    UnsubAck(u16, Vec<ReasonCode>),
    Pong,
    Disconnect(ReasonCode),
    Closed,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) id: u16,
    pub(crate) payload: String,
    pub(crate) expiry: Option<u32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) user: Vec<(String, String)>,
    pub(crate) alias: Option<u16>,
    pub(crate) is_utf8: Option<bool>,
    pub(crate) content_type: Option<String>,
    pub(crate) response_topic: Option<String>,
    pub(crate) correlation: Option<Vec<u8>>,
}

pub(crate) fn owned(packet: &Packet<'_>) -> Got {
    let ack = |kind, ack: &Ack<'_>| Got::Ack(kind, ack.packet_id.value(), ack.reason);
    match packet {
        Packet::ConnAck(it) => Got::ConnAck {
            is_present: it.session_present,
            reason: it.reason,
            assigned: it.properties.assigned_client_id.map(str::to_owned),
            session_expiry_seconds: it.properties.session_expiry_seconds,
            keep_alive_seconds: it.properties.server_keep_alive_seconds,
        },
        Packet::Publish(it) => Got::Message(Message {
            dup: it.dup,
            qos: it.qos,
            retain: it.retain,
            topic: it.topic.to_owned(),
            id: it.packet_id.map_or(0, PacketId::value),
            payload: String::from_utf8_lossy(it.payload).into_owned(),
            expiry: it.properties.message_expiry_seconds,
            ids: it
                .properties
                .subscription_ids
                .iter()
                .map(u32::from)
                .collect(),
            user: it
                .properties
                .user_properties
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            alias: it.properties.topic_alias.map(NonZeroU16::get),
            is_utf8: it.properties.payload_is_utf8,
            content_type: it.properties.content_type.map(str::to_owned),
            response_topic: it.properties.response_topic.map(str::to_owned),
            correlation: it.properties.correlation_data.map(<[u8]>::to_vec),
        }),
        Packet::PubAck(it) => ack(PacketType::PubAck, it),
        Packet::PubRec(it) => ack(PacketType::PubRec, it),
        Packet::PubRel(it) => ack(PacketType::PubRel, it),
        Packet::PubComp(it) => ack(PacketType::PubComp, it),
        Packet::SubAck(it) => Got::SubAck(it.packet_id.value(), it.reasons.clone()),
        Packet::UnsubAck(it) => Got::UnsubAck(it.packet_id.value(), it.reasons.clone()),
        Packet::PingResp => Got::Pong,
        Packet::Disconnect(it) => Got::Disconnect(it.reason),
        other => panic!("not for clients: {other:?}"),
    }
}
