//! Packets as tests begin with them.

use tidewire_protocol::codec::{
    Connect, ConnectProperties, PacketId, ProtocolVersion, Publish, PublishProperties, QoS,
    SubscriptionOptions, Will, WillProperties,
};

use crate::client::Q1;

pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect {
        version: ProtocolVersion::V5,
        is_bridge: false,
        clean_start: true,
        keep_alive_seconds: 60,
        properties: ConnectProperties::default(),
        client_id,
        will: None,
        user_name: None,
        password: None,
    }
}

pub(crate) fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = connect(client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_seconds = Some(600);
    connect
}

pub(crate) fn will(topic: &str) -> Will<'_> {
    Will {
        qos: Q1,
        retain: false,
        topic,
        payload: b"gone",
        properties: WillProperties::default(),
    }
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS, id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: PacketId::new(id),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    }
}

pub(crate) fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}
