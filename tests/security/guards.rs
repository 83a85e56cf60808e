//! Negative tests 18 and 34: floods of failed logins and of connects.

use tidewire_protocol::codec::{Connect, ReasonCode};

use super::broker::{Broker, login};
use super::client::{Client, Got, Q1, connect};

/// All clients say by a PROXY header where they come from.
fn broker(change: impl FnOnce(&mut tidewire::config::Limits)) -> Broker {
    Broker::with("topic #\nuser alice\ntopic #\n", |config, _| {
        let listener = &mut config.listeners[0];
        listener.proxy_protocol = true;
        listener.proxy_trusted = vec!["127.0.0.1".parse().unwrap()];
        change(&mut config.limits);
    })
}

/// The answer to a CONNECT from this address; `None` if there is none.
fn answer(broker: &Broker, address: &str, connect: &Connect<'_>) -> Option<ReasonCode> {
    let mut client: Client = broker.open();
    client.send_bytes(format!("PROXY TCP4 {address} 127.0.0.1 4711 1883\r\n").as_bytes());
    client.send_connect(connect);
    match client.receive() {
        Got::ConnAck(_, reason) => Some(reason),
        Got::Closed => None,
        other => panic!("{other:?}"),
    }
}

fn wrong(user_name: &str) -> Connect<'_> {
    Connect {
        password: Some(b"wrong"),
        ..login(user_name, "c")
    }
}

#[test]
fn failed_logins_ban_their_address_and_no_other() {
    let broker = broker(|limits| limits.login_failures_per_address_max = 3);
    let refused = Some(ReasonCode::BadUserNameOrPassword);
    for user_name in ["alice", "nobody", "bob"] {
        assert_eq!(answer(&broker, "192.0.2.1", &wrong(user_name)), refused);
    }
    for connect in [wrong("alice"), login("alice", "alice"), connect("anyone")] {
        assert_eq!(answer(&broker, "192.0.2.1", &connect), None, "banned");
    }
    let success = Some(ReasonCode::Success);
    assert_eq!(answer(&broker, "192.0.2.2", &login("alice", "a")), success);
}

#[test]
fn a_ban_ends_by_itself() {
    let broker = broker(|limits| {
        limits.login_failures_per_address_max = 1;
        limits.login_ban_seconds = 1;
    });
    let refused = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(answer(&broker, "192.0.2.1", &wrong("alice")), refused);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let success = Some(ReasonCode::Success);
    assert_eq!(answer(&broker, "192.0.2.1", &login("alice", "a")), success);
}

#[test]
fn failed_logins_from_many_addresses_ban_their_user_where_that_is_wanted() {
    let broker = broker(|limits| limits.login_failures_per_user_max = 3);
    for number in 1..=3 {
        let address = format!("192.0.2.{number}");
        let refused = Some(ReasonCode::BadUserNameOrPassword);
        assert_eq!(answer(&broker, &address, &wrong("alice")), refused);
    }
    let banned = Some(ReasonCode::Banned);
    assert_eq!(answer(&broker, "192.0.2.9", &login("alice", "a")), banned);
    let bob = answer(&broker, "192.0.2.1", &login("bob", "b"));
    assert_eq!(bob, Some(ReasonCode::Success));
}

#[test]
fn a_client_id_that_connects_again_and_again_is_slowed() {
    let broker = Broker::with("", |config, _| {
        config.limits.connects_per_minute_per_client_max = 5;
    });
    for _ in 0..5 {
        assert_eq!(
            broker.connect_with(&connect("flapping")).1,
            ReasonCode::Success
        );
    }
    let (_, reason) = broker.connect_with(&connect("flapping"));
    assert_eq!(reason, ReasonCode::ConnectionRateExceeded);
    // Others are not, and neither is the same client id of a user.
    broker.anonymous("calm").expect_nothing();
    let (_, reason) = broker.connect_with(&login("alice", "flapping"));
    assert_eq!(reason, ReasonCode::Success);
}

#[test]
fn a_filter_with_too_many_wildcards_is_refused() {
    let broker = Broker::with("", |config, _| config.limits.filter_wildcards_max = 3);
    let mut client = broker.anonymous("c");
    for (filter, reason) in [
        ("+/+/+", ReasonCode::GrantedQoS1),
        ("+/+/#", ReasonCode::GrantedQoS1),
        ("+/+/+/#", ReasonCode::TopicFilterInvalid),
        ("$share/g/+/+/+/+", ReasonCode::TopicFilterInvalid),
    ] {
        assert_eq!(client.subscribe(filter, Q1), reason, "{filter}");
    }
}

#[test]
fn filters_with_wildcards_are_bounded_in_depth_and_number_and_others_are_not() {
    let broker = Broker::with("", |config, _| {
        config.limits.wildcard_levels_max = 3;
        config.limits.wildcard_subscriptions_per_client_max = 10;
    });
    let mut client = broker.anonymous("c");
    let granted = ReasonCode::GrantedQoS1;
    assert_eq!(client.subscribe("a/b/c/d/e", Q1), granted);
    let refused = ReasonCode::TopicFilterInvalid;
    assert_eq!(client.subscribe("a/b/c/#", Q1), refused);
    assert_eq!(client.subscribe("+/b/c/d", Q1), refused);
    for number in 0..10 {
        assert_eq!(client.subscribe(&format!("w/{number}/+"), Q1), granted);
    }
    assert_eq!(client.subscribe("w/10/+", Q1), ReasonCode::QuotaExceeded);
    let shared = "$share/g/#";
    assert_eq!(client.subscribe(shared, Q1), ReasonCode::QuotaExceeded);
    // One that is there already may be replaced, and those without wildcards go on.
    assert_eq!(client.subscribe("w/9/+", Q1), granted);
    assert_eq!(client.subscribe("w/10/x", Q1), granted);
    let mut other = broker.anonymous("other");
    assert_eq!(other.subscribe("w/10/+", Q1), granted);
}

#[test]
fn a_login_after_failures_of_its_address_or_user_waits() {
    let clock = tidewire::clock::Clock::start();
    let refused = Some(ReasonCode::BadUserNameOrPassword);
    let success = Some(ReasonCode::Success);
    let by_address = broker(|limits| limits.login_delay_milliseconds_per_address = 300);
    for user_name in ["nobody", "alice"] {
        assert_eq!(answer(&by_address, "192.0.2.1", &wrong(user_name)), refused);
    }
    let began_ms = clock.now_ms();
    let found = answer(&by_address, "192.0.2.1", &login("bob", "b"));
    assert_eq!(found, success);
    assert!(clock.now_ms() - began_ms >= 600, "twice the first wait");

    let by_user = broker(|limits| {
        limits.login_delay_milliseconds_per_address = 0;
        limits.login_delay_milliseconds_per_user = 10_000;
        limits.login_delay_milliseconds_max = 500;
    });
    assert_eq!(answer(&by_user, "192.0.2.1", &wrong("alice")), refused);
    let began_ms = clock.now_ms();
    assert_eq!(answer(&by_user, "192.0.2.2", &login("alice", "a")), success);
    assert!(clock.now_ms() - began_ms >= 500, "the longest wait");
}
