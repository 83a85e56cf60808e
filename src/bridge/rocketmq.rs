//! What a bridge to RocketMQ is told.

use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::CredentialsSource;
use tidewire_bridges::rocketmq::{
    Calendar, ConsumerSettings, Filter, ProducerSettings, Settings, name_of,
};

use super::map::Map;
use super::settings::server_order;
use super::{BridgeError, dial};
use crate::clock::Clock;
use crate::config::Bridge;

pub(super) fn settings(bridge: &Bridge, map: &Map, node: &str) -> Result<Settings, BridgeError> {
    let (source, clock) = (bridge.clone(), Clock::start());
    Ok(Settings {
        name: format!("{}.{node}", bridge.name),
        dial: dial::dial(bridge)?,
        credentials: CredentialsSource(Arc::new(move || dial::credentials(&source))),
        servers: bridge.servers.len(),
        order: server_order(bridge),
        calendar: Calendar(Arc::new(move || clock.calendar_unix_ms())),
        namespace: bridge.rocketmq.namespace.clone(),
        connect_timeout: Duration::from_millis(bridge.connect_timeout_ms),
        ack_timeout: Duration::from_secs(bridge.ack_timeout_seconds),
        producer: bridge.sends().then(|| ProducerSettings {
            topics: map.fixed_topics().map(|it| name_of(&it)).collect(),
            inflight_max: usize::from(bridge.inflight_max),
        }),
        consumer: bridge.receives().then(|| consumer(bridge, map)),
    })
}

fn consumer(bridge: &Bridge, map: &Map) -> ConsumerSettings {
    let own = &bridge.rocketmq;
    let filters = map.remote_filters().into_iter();
    let group = own.group.clone();
    ConsumerSettings {
        topics: match own.topics.is_empty() {
            true => filters.map(|(it, _)| name_of(&it)).collect(),
            false => own.topics.clone(),
        },
        // A group has no dots.
        group: group.unwrap_or_else(|| format!("tidewire-{}", bridge.name.replace('.', "-"))),
        filter: match &own.sql {
            Some(sql) => Filter::Sql(sql.clone()),
            None => Filter::Tags(own.tags.clone()),
        },
        invisible: Duration::from_secs(u64::from(own.invisible_seconds)),
        unaccepted_max: usize::from(bridge.receive_maximum),
    }
}
