//! Shared subscriptions.

use std::collections::BTreeSet;

use tidewire_protocol::codec::PacketType;

use crate::client::{Q1, at_brokers, next_of};

#[test]
fn mqtt_4_8_2_each_message_goes_to_one_member() {
    at_brokers(|broker| {
        let mut one = broker.connect("one");
        one.subscribe("$share/g/a", Q1);
        let mut two = broker.connect("two");
        two.subscribe("$share/g/a", Q1);
        let mut other = broker.connect("other");
        other.subscribe("$share/h/a", Q1);
        let mut publisher = broker.connect("p");
        let mut seen = BTreeSet::new();
        for number in 0..20 {
            publisher.publish_acked("a", &number.to_string());
        }
        for _ in 0..20 {
            let (_, got) = next_of(&mut [&mut one, &mut two]);
            assert!(seen.insert(got.payload));
        }
        for number in 0..20 {
            other.expect_payload(&number.to_string());
        }
        one.expect_nothing();
        two.expect_nothing();
    });
}

#[test]
fn mqtt_4_8_2_an_unsettled_qos_1_message_goes_to_another_member_when_its_member_is_lost() {
    at_brokers(|broker| {
        let mut one = broker.connect("one");
        one.subscribe("$share/g/a", Q1);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "1");
        one.expect_payload("1");
        let mut two = broker.connect("two");
        two.subscribe("$share/g/a", Q1);
        drop(one);
        let got = two.expect_payload("1");
        two.send_ack(PacketType::PubAck, got.id);
        two.expect_nothing();
    });
}
