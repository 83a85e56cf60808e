//! Bridges with several connections: each is a bridge of its own for a part of the messages.
//!
//! # Shape
//! The first part has the bridge's name, the others `NAME:2`, `NAME:3` and so on; no name in a
//! configuration has a colon.

use crate::config::{Bridge, Config};
use crate::exchange::Part;

/// All bridges of a configuration, by parts.
pub(super) fn all(config: &Config) -> Vec<Bridge> {
    let bridges = config.bridges.iter();
    bridges
        .flat_map(|bridge| (0..bridge.connections.max(1)).map(|index| part(bridge, index)))
        .collect()
}

/// What became of a part that a configuration has no more: it is to send what it has left.
pub(super) fn left_over(config: &Config, name: &str) -> Option<Bridge> {
    let (base, number) = name.split_once(':')?;
    let index = number.parse::<u16>().ok()?.checked_sub(1)?;
    let bridge = config.bridges.iter().find(|it| it.name == base)?;
    (bridge.enabled && index >= bridge.connections).then(|| part(bridge, index))
}

/// Which messages are for a part.
pub(super) fn share_of(part: &Bridge) -> Part {
    if part.connections <= 1 && !part.name.contains(':') {
        return Part::WHOLE;
    }
    let number = part
        .name
        .split_once(':')
        .and_then(|(_, it)| it.parse().ok());
    Part {
        index: number.map_or(0, |number: u16| number.saturating_sub(1)),
        of: part.connections.max(1),
        by: part.connections_by,
    }
}

/// Whether a name is that of a bridge or of one of its parts.
pub(super) fn belongs_to(name: &str, bridge: &str) -> bool {
    let rest = name.strip_prefix(bridge);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn part(bridge: &Bridge, index: u16) -> Bridge {
    let mut part = bridge.clone();
    let of = usize::from(bridge.connections.max(1));
    part.queue_messages_max = bridge.queue_messages_max.div_ceil(of);
    part.queue_bytes_max = bridge.queue_bytes_max.div_ceil(of);
    part.inflight_max = bridge.inflight_max.div_ceil(bridge.connections.max(1));
    let connections = u32::from(bridge.connections.max(1));
    part.messages_per_second_max = bridge.messages_per_second_max.div_ceil(connections);
    if index == 0 {
        return part;
    }
    let number = index + 1;
    let client_id = bridge.client_id_template();
    let client_id = client_id.replace("{bridge}", &bridge.name);
    part.client_id = Some(format!("{client_id}:{number}"));
    part.name = format!("{}:{number}", bridge.name);
    part.notify_topic = None;
    part
}
