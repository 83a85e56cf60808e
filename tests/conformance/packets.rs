//! Packets as tests begin with them.

use tidewire_protocol::codec::{
    Connect, PacketId, ProtocolVersion, Publish, QoS, SubscriptionOptions, Will, WillProperties,
};

use crate::client::Q1;

pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect {
        keep_alive_seconds: 60,
        ..Connect::new(ProtocolVersion::V5, client_id)
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
        qos,
        packet_id: PacketId::new(id),
        ..Publish::new(topic, payload.as_bytes())
    }
}

pub(crate) fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        ..SubscriptionOptions::default()
    }
}
