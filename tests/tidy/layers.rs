//! The layers of the broker, and what a layer may name.

use crate::imports::{Named, paths};
use crate::source::{Source, Violation};

/// From the top down; a module imports from layers below its own.
const LAYERS: [&[&str]; 7] = [
    &["main", "lib"],
    &["cli"],
    &["server"],
    &["sys", "net", "bridge", "admin"],
    &["shard"],
    &["exchange", "queue", "retained", "store", "auth"],
    &["message"],
];

/// Plain values that anyone may use; they import nothing but one another.
const LEAVES: [&str; 5] = ["config", "metrics", "clock", "log_limit", "prefix_limits"];

/// Neighbours in one layer, and why the first needs the second.
const SIDEWAYS: [(&str, &str); 7] = [
    // It publishes through the driver of its shard, as a connection does.
    ("sys", "net"),
    // Bridges send mail as shards do, and dial through the same WebSocket.
    ("bridge", "net"),
    // A delivery names the share group that lent it.
    ("queue", "exchange"),
    // Routes leave out who may not receive the topic.
    ("exchange", "auth"),
    // A delivery and a binding name the queue that keeps the message.
    ("queue", "store"),
    ("exchange", "store"),
    // Rows name sessions and groups by their ids.
    ("store", "exchange"),
];

/// Plain data and plain functions: everything from outside is an argument.
const PURE: [&str; 5] = ["shard", "queue", "retained", "exchange", "message"];

/// What ties code to a machine. Addresses as plain values are in `core::net`.
const IMPURE: [&str; 12] = [
    "crate::clock",
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "mio",
    "socket2",
    "tokio",
];

/// Whether a module of the broker imports only what is below it.
pub(crate) fn check_direction(source: &Source) -> Vec<Violation> {
    let Some(from) = module(&source.path) else {
        return Vec::new();
    };
    if layer(from).is_none() && !LEAVES.contains(&from) {
        return vec![source.violation(1, format!("module `{from}` has no layer yet"))];
    }
    code_paths(source)
        .filter(|named| named.segments[0] == "crate" && !is_root(from))
        .filter_map(|named| {
            let Some(to) = named.segments.get(1) else {
                return Some(source.violation(named.line, "names the crate as a whole"));
            };
            (!may_import(from, to))
                .then(|| source.violation(named.line, format!("`{from}` may not import `{to}`")))
        })
        .collect()
}

/// Whether the protocol and the pure modules leave the machine alone.
pub(crate) fn check_purity(source: &Source) -> Vec<Violation> {
    let is_protocol = source.path.starts_with("protocol/src/");
    let is_pure = module(&source.path).is_some_and(|module| PURE.contains(&module));
    if !is_protocol && !is_pure {
        return Vec::new();
    }
    code_paths(source)
        .filter_map(|named| {
            let impure = IMPURE.iter().find(|impure| reaches(&named, impure))?;
            Some(source.violation(named.line, format!("`{impure}` has no place here")))
        })
        .collect()
}

fn code_paths(source: &Source) -> impl Iterator<Item = Named> {
    let is_test_file = source.path.ends_with("/tests.rs");
    paths(source)
        .into_iter()
        .filter(move |named| !named.is_test && !is_test_file)
}

/// Whether a path lies in `impure`, or brings a module into scope that holds it.
fn reaches(named: &Named, impure: &str) -> bool {
    let impure: Vec<_> = impure.split("::").collect();
    let shared = impure
        .iter()
        .zip(&named.segments)
        .take_while(|(a, b)| *a == b)
        .count();
    shared == impure.len() || (named.is_import && shared == named.segments.len())
}

/// The top-level module of a file of the broker.
fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split(['/', '.']).next()
}

fn is_root(module: &str) -> bool {
    LAYERS[0].contains(&module)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || LEAVES.contains(&to) || SIDEWAYS.contains(&(from, to)) {
        return true;
    }
    match (layer(from), layer(to)) {
        (Some(from), Some(to)) => from < to,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(path: &str, text: &str) -> Vec<String> {
        lines(&check_direction(&Source::new(path, text)))
    }

    fn purity(path: &str, text: &str) -> Vec<String> {
        lines(&check_purity(&Source::new(path, text)))
    }

    fn lines(found: &[Violation]) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_upward_import_is_found_however_it_is_written() {
        for text in [
            "use crate::net::tls;",
            "use crate::{config::Limits, net};",
            "use super::super::net;",
            "fn f() { crate::net::up() }",
            "fn f() { crate::server::stop() }",
        ] {
            assert_eq!(direction("src/shard/mail.rs", text).len(), 1, "{text}");
        }
        assert_eq!(
            direction("src/shard/mail.rs", "\nuse crate::net;"),
            ["src/shard/mail.rs:2: `shard` may not import `net`"]
        );
    }

    #[test]
    fn downward_imports_leaves_and_tests_pass() {
        let text = "use crate::{config, message, exchange}; use super::timers;
            #[cfg(test)] mod tests { use crate::net; use super::*; }";
        assert_eq!(direction("src/shard/mail.rs", text), Vec::<String>::new());
    }

    #[test]
    fn leaves_import_no_layer_and_neighbours_only_by_the_list() {
        assert_eq!(
            direction("src/config/a.rs", "use crate::message::A;").len(),
            1
        );
        assert_eq!(
            direction("src/queue/mod.rs", "use crate::exchange::A;").len(),
            0
        );
        assert_eq!(
            direction("src/exchange/a.rs", "use crate::queue::A;").len(),
            1
        );
    }

    #[test]
    fn a_module_without_a_layer_and_the_whole_crate_are_found() {
        assert_eq!(direction("src/utils.rs", "").len(), 1);
        assert_eq!(direction("src/shard/mail.rs", "use crate::*;").len(), 1);
        assert_eq!(direction("src/queue.rs", "use super::*;").len(), 1);
    }

    #[test]
    fn clocks_sockets_and_runtimes_are_found_also_behind_their_modules() {
        for text in [
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "use std::time;",
            "use std::time::*;",
            "use std::{net::TcpStream, sync::Arc};",
            "fn f() { std::thread::spawn(f); }",
            "use tokio::sync::mpsc;",
        ] {
            assert_eq!(purity("src/shard/mail.rs", text).len(), 1, "{text}");
            assert_eq!(purity("protocol/src/codec/ack.rs", text).len(), 1, "{text}");
            assert_eq!(purity("src/net/tls.rs", text).len(), 0, "{text}");
        }
        assert_eq!(
            purity("src/queue/mod.rs", "use crate::clock::Clock;").len(),
            1
        );
        let values = "use std::time::Duration; use core::net::IpAddr; use std::sync::Arc;";
        assert_eq!(purity("src/message.rs", values), Vec::<String>::new());
    }
}
