//! What a bridge over AMQP 1.0 is told.

use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::CredentialsSource;
use tidewire_bridges::amqp10::{Dialect, Mechanism, Node, Settings, Source};

use super::settings::server_order;
use super::{BridgeError, dial};
use crate::config::{Amqp10Dialect, Amqp10Mechanism, Amqp10Node, Bridge};

pub(super) fn settings(bridge: &Bridge, node: &str) -> Result<Settings, BridgeError> {
    let (credentials, own) = (bridge.clone(), &bridge.amqp10);
    let exchange = bridge.exchange.as_deref().unwrap_or("amq.topic");
    let virtual_host = bridge.virtual_host.as_ref();
    let host_name = virtual_host.map(|it| format!("vhost:{it}"));
    Ok(Settings {
        name: format!("{}.{node}", bridge.name),
        servers: bridge.servers.len(),
        order: server_order(bridge),
        dial: dial::dial(bridge)?,
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&credentials))),
        mechanism: match own.sasl_mechanism {
            Amqp10Mechanism::Plain => Mechanism::Plain,
            Amqp10Mechanism::Anonymous => Mechanism::Anonymous,
            Amqp10Mechanism::External => Mechanism::External,
        },
        host_name: host_name.or_else(|| own.host_name.clone()),
        dialect: match own.dialect {
            Amqp10Dialect::Plain => Dialect::Plain,
            Amqp10Dialect::Artemis => Dialect::Artemis,
            Amqp10Dialect::ActiveMq => Dialect::ActiveMq,
            Amqp10Dialect::RabbitMq3 => Dialect::RabbitMq3,
            Amqp10Dialect::RabbitMq4 => Dialect::RabbitMq4,
            Amqp10Dialect::Azure => Dialect::Azure,
        },
        exchange: exchange.to_owned(),
        target: node_of(own.target),
        source: own.address.clone().map(|address| Source {
            address,
            node: node_of(own.source),
        }),
        credit: u32::from(bridge.receive_maximum),
        inflight_max: usize::from(bridge.inflight_max),
        links_max: usize::from(own.links_max),
        message_bytes_max: own.message_bytes_max,
        priority: u8::try_from(own.priority).unwrap_or(u8::MAX),
        deliveries_max: own.deliveries_max,
        idle_timeout: Duration::from_secs(u64::from(bridge.keep_alive_seconds)),
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
    })
}

fn node_of(node: Amqp10Node) -> Node {
    match node {
        Amqp10Node::Topic => Node::Topic,
        Amqp10Node::Queue => Node::Queue,
    }
}
