//! Who publishes to whom, and on which topics.

use std::ops::Range;

use crate::cli::arguments::{BenchArguments, Scenario};

/// The clients of a scenario.
pub(super) struct Shape {
    pub(super) publishers: u32,
    pub(super) subscribers: u32,
    /// Deliveries of one message.
    pub(super) fan_out: u64,
}

impl Shape {
    pub(super) fn of(arguments: &BenchArguments) -> Self {
        let clients = arguments.clients;
        let (publishers, subscribers, fan_out) = match arguments.scenario {
            Scenario::FanIn => (clients, 1, 1),
            Scenario::FanOut => (1, clients, u64::from(clients)),
            _ => (clients / 2, clients / 2, 1),
        };
        Self {
            publishers,
            subscribers,
            fan_out,
        }
    }
}

/// The publishers whose messages a subscriber receives.
pub(super) fn sources(arguments: &BenchArguments, subscriber: u32) -> Range<u32> {
    match arguments.scenario {
        Scenario::FanIn => 0..arguments.clients,
        Scenario::FanOut => 0..1,
        _ => subscriber..subscriber + 1,
    }
}

/// The topics of a publisher, used in turn.
pub(super) fn topics(
    arguments: &BenchArguments,
    publisher: u32,
) -> Box<dyn Iterator<Item = String>> {
    match arguments.scenario {
        Scenario::Wildcards => Box::new(devices(arguments, publisher).map(device_topic)),
        _ => Box::new(std::iter::once(format!("{}/{publisher}", root()))),
    }
}

/// The topic filters of a subscriber.
pub(super) fn filters(
    arguments: &BenchArguments,
    subscriber: u32,
) -> Box<dyn Iterator<Item = String>> {
    match arguments.scenario {
        Scenario::Wildcards => Box::new(devices(arguments, subscriber).map(device_filter)),
        Scenario::FanIn => Box::new(std::iter::once(format!("{}/+", root()))),
        Scenario::FanOut => Box::new(std::iter::once(format!("{}/0", root()))),
        _ => Box::new(std::iter::once(format!("{}/{subscriber}", root()))),
    }
}

/// Measurements at the same time at the same server do not see each other.
pub(super) fn root() -> String {
    format!("tidewire-bench/{}", std::process::id())
}

/// Filter `n` belongs to subscriber `n % subscribers` and is for device `n` alone, so that each
/// message has exactly one receiver.
fn devices(arguments: &BenchArguments, subscriber: u32) -> impl Iterator<Item = u32> + use<> {
    let subscribers = arguments.clients / 2;
    (subscriber..arguments.filters()).step_by(subscribers.max(1) as usize)
}

fn device_topic(device: u32) -> String {
    let (site, line) = place(device);
    format!(
        "{}/site{site}/line{line}/device{device}/temperature",
        root()
    )
}

/// One of the shapes that users write: an exact device, any line, any site, all below a device.
fn device_filter(device: u32) -> String {
    let (site, line) = place(device);
    let rest = match device % 7 {
        0 => format!("site{site}/line{line}/device{device}/#"),
        1 => format!("site{site}/+/device{device}/temperature"),
        2 => format!("+/line{line}/device{device}/+"),
        3 => format!("+/+/device{device}/#"),
        4 => format!("site{site}/line{line}/device{device}/+"),
        5 => format!("site{site}/+/device{device}/#"),
        _ => format!("+/line{line}/device{device}/temperature"),
    };
    format!("{}/{rest}", root())
}

fn place(device: u32) -> (u32, u32) {
    (device % 100, device / 100 % 100)
}

#[cfg(test)]
mod tests {
    use tidewire_protocol::topic::matches;

    use super::*;

    #[test]
    fn each_topic_matches_the_filter_of_its_device_alone() {
        let filters: Vec<String> = (0..210).map(device_filter).collect();
        for device in 0..210 {
            let topic = device_topic(device);
            for (other, filter) in (0..).zip(&filters) {
                assert_eq!(matches(filter, &topic), device == other, "{device} {other}");
            }
        }
    }
}
