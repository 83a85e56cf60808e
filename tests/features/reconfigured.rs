//! Other rules for many subscriptions: a turn of a shard binds a few, and serves clients between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tidewire::auth::acl::Acl;
use tidewire::config::{AclAction, AclRule};
use tidewire::shard::{Mail, Reconfiguration, Shared};
use tidewire_protocol::codec::QoS;

use crate::broker::{Broker, Client, Got, full, publish};

const FILTERS: usize = 3_000;
const Q0: QoS = QoS::AtMostOnce;

/// Hands a configuration with these rules to all shards, which begin to apply it.
fn reconfigure(broker: &mut Broker, topics: &[&str]) -> Arc<Reconfiguration> {
    let before = &broker.shared;
    let mut config = before.config.clone();
    config.acl.rules = vec![AclRule {
        actions: vec![AclAction::All],
        topics: topics.iter().map(|it| (*it).to_owned()).collect(),
        ..AclRule::default()
    }];
    let shared = Arc::new(Shared {
        acl: Arc::new(Acl::load(&config.acl).unwrap()),
        users: None,
        exchange: Arc::clone(&before.exchange),
        retained: Arc::clone(&before.retained),
        store: Arc::clone(&before.store),
        census: Arc::clone(&before.census),
        shards: before.shards,
        config,
    });
    broker.shared = Arc::clone(&shared);
    let new = Arc::new(Reconfiguration {
        shared,
        applied: AtomicU16::new(0),
    });
    let now_ms = broker.now_ms;
    for shard in &mut broker.shards {
        shard.take_in(Mail::Reconfigure(Arc::clone(&new)), now_ms);
    }
    broker.settle();
    new
}

fn subscriber(broker: &mut Broker) -> Client {
    let mut client = broker.join("subscriber", None);
    for number in 0..FILTERS {
        let kind = if number % 2 == 0 { "even" } else { "odd" };
        broker.subscribe(&mut client, &format!("{kind}/{number}/+"), Q0);
    }
    client
}

fn is_applied(new: &Reconfiguration, broker: &Broker) -> bool {
    usize::from(new.applied.load(Ordering::Acquire)) == broker.shards.len()
}

fn apply(broker: &mut Broker, new: &Reconfiguration) -> usize {
    let mut turns = 0;
    while !is_applied(new, broker) {
        let is_due = |shard: &tidewire::shard::Shard| shard.next_due_ms() == Some(0);
        assert!(broker.shards.iter().any(is_due), "somebody goes on");
        broker.pass(1);
        turns += 1;
    }
    turns
}

fn receives(broker: &mut Broker, client: &mut Client, topic: &str) -> bool {
    let publisher = broker.join("publisher-1", None);
    broker.send(&publisher, &publish(topic, "1", Q0));
    broker.close(&publisher);
    let got = broker.received(client);
    assert!(got.len() <= 1, "{got:?}");
    got == [full(&format!("{topic}=1"))]
}

#[test]
fn subscriptions_of_a_client_with_very_many_are_bound_over_several_turns() {
    let mut broker = Broker::new(|_| {});
    let mut client = subscriber(&mut broker);
    let new = reconfigure(&mut broker, &["even/#", "publisher/#"]);
    assert!(!is_applied(&new, &broker), "not within one turn");
    // Others are served between two turns.
    let mut other = broker.join("other", None);
    broker.pass(1);
    assert_eq!(broker.subscribe(&mut other, "even/x", Q0).len(), 1);
    assert!(apply(&mut broker, &new) >= 3);
    assert!(receives(&mut broker, &mut client, "even/2998/x"));
    assert!(receives(&mut broker, &mut client, "even/0/x"));
    for topic in ["odd/1/x", "odd/2999/x"] {
        assert!(!receives(&mut broker, &mut client, topic), "{topic}");
    }
}

#[test]
fn a_configuration_that_comes_before_the_last_is_applied_is_applied_to_all() {
    let mut broker = Broker::new(|_| {});
    let mut client = subscriber(&mut broker);
    let first = reconfigure(&mut broker, &["#"]);
    broker.pass(1);
    assert!(!is_applied(&first, &broker));
    let second = reconfigure(&mut broker, &["odd/#"]);
    apply(&mut broker, &second);
    assert!(!is_applied(&first, &broker), "nobody waits for it any more");
    for (topic, expected) in [
        ("even/0/x", false),
        ("even/2998/x", false),
        ("odd/1/x", true),
        ("odd/2999/x", true),
    ] {
        assert_eq!(
            receives(&mut broker, &mut client, topic),
            expected,
            "{topic}"
        );
    }
}

#[test]
fn what_is_subscribed_or_ended_meanwhile_follows_the_new_rules() {
    let mut broker = Broker::new(|_| {});
    let mut client = subscriber(&mut broker);
    let new = reconfigure(&mut broker, &["even/#"]);
    let refused = broker.subscribe(&mut client, "odd/later/+", Q0);
    assert!(matches!(refused[..], [Got::Ack(reason, _)] if reason.is_error()));
    broker.subscribe(&mut client, "even/later/+", Q0);
    broker.ask(&mut client, &crate::broker::unsubscribe("even/0/+"));
    apply(&mut broker, &new);
    assert!(receives(&mut broker, &mut client, "even/later/x"));
    assert!(!receives(&mut broker, &mut client, "even/0/x"));
    broker.close(&client);
    // A session that ends in the middle is no trouble.
    let client = subscriber(&mut broker);
    let new = reconfigure(&mut broker, &["odd/#"]);
    broker.close(&client);
    apply(&mut broker, &new);
}
