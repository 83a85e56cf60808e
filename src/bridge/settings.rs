//! From the configuration of a bridge to the settings of its connector.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "amqp091")]
use tidewire_bridges::amqp091;
use tidewire_bridges::mqtt::{self, CredentialsSource, Settings, Subscription};
use tidewire_protocol::codec::ProtocolVersion;

use super::map::Map;
use super::{BridgeError, dial};
use crate::config::{Bridge, BridgeProtocol, Config, ServerOrder};

pub(super) fn settings(
    bridge: &Bridge,
    map: &Map,
    node: &str,
    config: &Config,
    is_durable: bool,
) -> Result<Settings, BridgeError> {
    let subscriptions: Vec<Subscription> = map
        .remote_filters()
        .into_iter()
        .map(|(filter, qos)| Subscription { filter, qos })
        .collect();
    let source = bridge.clone();
    let notify = |state: &[u8]| Some((bridge.notify_topic.clone()?, state.to_vec()));
    Ok(Settings {
        servers: bridge.servers.len(),
        order: server_order(bridge),
        home_probe: match bridge.first_server_probe_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
        dial: dial::dial(bridge)?,
        version: match bridge.protocol {
            BridgeProtocol::Auto => None,
            BridgeProtocol::V5 => Some(ProtocolVersion::V5),
            BridgeProtocol::V3_1_1 => Some(ProtocolVersion::V3_1_1),
            BridgeProtocol::V3_1 => Some(ProtocolVersion::V3_1),
        },
        bridge_bit: bridge.bridge_bit,
        client_id: client_id(bridge, node),
        node: node.to_owned(),
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        keep_alive_seconds: bridge.keep_alive_seconds,
        session_expiry_seconds: bridge.session_expiry_seconds,
        // Without a store and anything to receive there is nothing to resume after a restart, and a
        // session that remembers our identifiers of before would take new messages for old ones.
        starts_clean: subscriptions.is_empty() && !is_durable,
        is_durable,
        receive_maximum: NonZeroU16::new(bridge.receive_maximum).unwrap_or(NonZeroU16::MIN),
        inflight_max: bridge.inflight_max,
        topic_aliases_max: bridge.topic_alias_maximum,
        packet_bytes_max: config.limits.packet_bytes_max,
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
        subscriptions,
        will: notify(b"0"),
        greeting: notify(b"1"),
    })
}

/// What a bridge to an AMQP 0-9-1 server is told.
#[cfg(feature = "amqp091")]
pub(super) fn amqp091(bridge: &Bridge, node: &str) -> Result<amqp091::Settings, BridgeError> {
    let source = bridge.clone();
    let or = |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).to_owned();
    Ok(amqp091::Settings {
        name: format!("{}.{node}", bridge.name),
        servers: bridge.servers.len(),
        order: server_order(bridge),
        dial: dial::dial(bridge)?,
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        virtual_host: or(&bridge.virtual_host, "/"),
        exchange: or(&bridge.exchange, "amq.topic"),
        mandatory: bridge.mandatory,
        queue: bridge.queue.clone(),
        prefetch: bridge.receive_maximum,
        inflight_max: usize::from(bridge.inflight_max),
        heartbeat_seconds: bridge.keep_alive_seconds,
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
    })
}

fn server_order(bridge: &Bridge) -> mqtt::ServerOrder {
    match bridge.server_order {
        ServerOrder::Failover => mqtt::ServerOrder::Failover,
        ServerOrder::RoundRobin => mqtt::ServerOrder::RoundRobin,
    }
}

/// The same after a restart, so that the session over there is found again.
fn client_id(bridge: &Bridge, node: &str) -> String {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let host = if host.is_empty() { node.into() } else { host };
    let text = bridge.client_id.as_deref().unwrap_or("{bridge}.{host}");
    text.replace("{bridge}", &bridge.name)
        .replace("{node}", node)
        .replace("{host}", &host)
}
