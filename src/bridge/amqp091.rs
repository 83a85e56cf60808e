//! From the configuration of a bridge to the settings of the connector for AMQP 0-9-1.

use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::CredentialsSource;
use tidewire_bridges::amqp091::{Declare, ExchangeKind, Settings};

use super::map::Map;
use super::settings::server_order;
use super::{BridgeError, dial};
use crate::config::{AmqpDeclare, AmqpExchangeKind, Bridge};

pub(super) fn settings(bridge: &Bridge, map: &Map, node: &str) -> Result<Settings, BridgeError> {
    let (source, own) = (bridge.clone(), &bridge.amqp091);
    let or = |text: &Option<String>, default: &str| text.as_deref().unwrap_or(default).to_owned();
    Ok(Settings {
        name: format!("{}.{node}", bridge.name),
        servers: bridge.servers.len(),
        order: server_order(bridge),
        dial: dial::dial(bridge)?,
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        virtual_host: or(&bridge.virtual_host, "/"),
        declare: match own.declare {
            AmqpDeclare::None => Declare::Nothing,
            AmqpDeclare::Passive => Declare::Exists,
            AmqpDeclare::Create => Declare::Create {
                exchange_kind: match own.exchange_kind {
                    AmqpExchangeKind::Topic => ExchangeKind::Topic,
                    AmqpExchangeKind::Direct => ExchangeKind::Direct,
                    AmqpExchangeKind::Fanout => ExchangeKind::Fanout,
                    AmqpExchangeKind::Headers => ExchangeKind::Headers,
                },
                queue_arguments: pairs(&own.queue_arguments),
                filters: map.remote_filters().into_iter().map(|it| it.0).collect(),
            },
        },
        exchange: or(&bridge.exchange, "amq.topic"),
        mandatory: bridge.mandatory,
        priority: own.priority.and_then(|it| u8::try_from(it).ok()),
        queue: bridge.queue.clone(),
        consumer_arguments: pairs(&own.consumer_arguments),
        prefetch: bridge.receive_maximum,
        inflight_max: usize::from(bridge.inflight_max),
        heartbeat_seconds: bridge.keep_alive_seconds,
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
    })
}

fn pairs(texts: &[String]) -> Vec<(String, String)> {
    let pairs = texts.iter().filter_map(|text| text.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
