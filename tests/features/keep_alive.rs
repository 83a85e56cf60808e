//! `keep_alive_seconds_max`.

use tidewire_protocol::codec::{ProtocolVersion, ReasonCode};

use crate::broker::{Broker, Got, connect};

fn answer(version: ProtocolVersion, asked: u16) -> (Broker, crate::broker::Client, Option<u16>) {
    let mut broker = Broker::new(|config| config.mqtt.keep_alive_seconds_max = Some(20));
    let mut connect = connect("c");
    connect.version = version;
    connect.keep_alive_seconds = asked;
    let mut client = broker.connect(&connect, None);
    let got = broker.received(&mut client);
    let [Got::ConnAck(ReasonCode::Success, _, seconds, _)] = got[..] else {
        panic!("no CONNACK: {got:?}");
    };
    (broker, client, seconds)
}

#[test]
fn a_client_of_5_0_is_told_the_longest_keep_alive() {
    assert_eq!(answer(ProtocolVersion::V5, 10).2, None);
    assert_eq!(answer(ProtocolVersion::V5, 20).2, None);
    assert_eq!(answer(ProtocolVersion::V5, 21).2, Some(20));
    let (mut broker, mut client, seconds) = answer(ProtocolVersion::V5, 0);
    assert_eq!(seconds, Some(20));
    broker.pass(30_000);
    let got = broker.received(&mut client);
    assert!(
        matches!(got[..], [Got::Disconnect(ReasonCode::KeepAliveTimeout, _)]),
        "{got:?}"
    );
}

#[test]
fn a_client_of_3_1_1_keeps_its_own_keep_alive() {
    let (mut broker, mut client, _) = answer(ProtocolVersion::V3_1_1, 40);
    broker.pass(59_999);
    assert_eq!(broker.received(&mut client), []);
    assert!(
        broker.shards[client.shard]
            .output(client.key)
            .is_some_and(|it| !it.is_closing)
    );
    broker.pass(1);
    assert!(
        broker.shards[client.shard]
            .output(client.key)
            .is_some_and(|it| it.is_closing)
    );
}
