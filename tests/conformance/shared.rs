//! Shared subscriptions.

use std::collections::BTreeSet;

use tidewire::config::{Config, ShareStrategy};
use tidewire_protocol::codec::{PacketType, ProtocolVersion, ReasonCode, UserProperties};

use crate::client::{Broker, Client, Q0, Q1, Q2, at_brokers, at_brokers_with, message, next_of};

#[test]
fn section_4_8_2_each_message_goes_to_one_member() {
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
fn section_4_8_2_an_unsettled_qos_1_message_goes_to_another_member_when_its_member_is_lost() {
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

/// Covers MQTT-4.8.2-1 and MQTT-4.8.2-2.
#[test]
fn mqtt_4_8_2_2_a_share_has_a_name_without_wildcards_and_a_filter() {
    at_brokers(|broker| {
        let mut client = broker.connect("c");
        for bad in [
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/g#/a",
            "$share/",
        ] {
            let reason = client.subscribe(bad, Q0);
            assert_eq!(reason, ReasonCode::TopicFilterInvalid, "{bad}");
            assert_eq!(
                client.unsubscribe(bad),
                ReasonCode::TopicFilterInvalid,
                "{bad}"
            );
        }
        assert_eq!(client.subscribe("$share/g//a", Q0), ReasonCode::Success);
        broker.connect("p").publish_acked("/a", "x");
        client.expect_payload("x");
    });
}

/// Covers MQTT-4.8.2-3.
#[test]
fn mqtt_4_8_2_3_each_member_gets_messages_at_its_own_qos() {
    at_brokers(|broker| {
        let mut members = [("one", Q0), ("two", Q1), ("three", Q2)].map(|(id, qos)| {
            let mut client = broker.connect(id);
            client.subscribe("$share/g/a", qos);
            client
        });
        let mut publisher = broker.connect("p");
        for number in 0..9 {
            publisher.publish_exactly_once("a", &number.to_string());
        }
        let [one, two, three] = &mut members;
        let mut all = [one, two, three];
        for _ in 0..9 {
            let (index, got) = next_of(&mut all);
            assert_eq!(got.qos, [Q0, Q1, Q2][index]);
        }
    });
}

/// Covers MQTT-4.8.2-4 and MQTT-4.8.2-5.
#[test]
fn mqtt_4_8_2_4_a_qos_2_delivery_is_completed_with_its_member_or_ends_with_it() {
    at_brokers(|broker| {
        let (mut one, _) = broker.resume("one");
        one.subscribe("$share/g/a", Q2);
        broker.connect("p").publish_exactly_once("a", "1");
        let id = one.expect_payload("1").id;
        let mut two = broker.connect("two");
        two.subscribe("$share/g/a", Q2);
        drop(one);
        two.expect_nothing();
        let (mut one, _) = broker.resume("one");
        let again = one.expect_payload("1");
        assert_eq!((again.dup, again.id), (true, id));
        one.leave(ReasonCode::Success, Some(0));
        two.expect_nothing();
        assert!(!broker.resume("one").1);
        two.expect_nothing();
    });
}

/// Covers MQTT-4.8.2-6.
#[test]
fn mqtt_4_8_2_6_a_message_refused_by_a_member_goes_to_no_other() {
    at_brokers(|broker| {
        let mut one = broker.connect("one");
        one.subscribe("$share/g/a", Q2);
        let mut publisher = broker.connect("p");
        publisher.publish_acked("a", "1");
        publisher.publish_exactly_once("a", "2");
        let first = one.expect_payload("1").id;
        let second = one.expect_payload("2").id;
        let mut two = broker.connect("two");
        two.subscribe("$share/g/a", Q2);
        one.send_ack_with(PacketType::PubAck, first, ReasonCode::UnspecifiedError);
        one.send_ack_with(PacketType::PubRec, second, ReasonCode::UnspecifiedError);
        one.expect_nothing();
        drop(one);
        std::thread::sleep(std::time::Duration::from_millis(50));
        two.expect_nothing();
    });
}

#[test]
fn shares_are_for_clients_before_5_0_too() {
    at_brokers(|broker| {
        let mut one = broker.connect_as("one", ProtocolVersion::V3_1_1);
        one.subscribe("$share/g/a", Q1);
        let mut two = broker.connect("two");
        two.subscribe("$share/g/a", Q1);
        let mut publisher = broker.connect("p");
        for number in 0..20 {
            publisher.publish_acked("a", &number.to_string());
        }
        let mut counts = [0, 0];
        for _ in 0..20 {
            counts[next_of(&mut [&mut one, &mut two]).0] += 1;
        }
        assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    });
}

#[test]
fn section_4_8_2_a_share_gets_no_retained_messages_when_it_is_made() {
    at_brokers(|broker| {
        let mut publisher = broker.connect("p");
        publisher.retain("a", "kept");
        let mut client = broker.connect("c");
        client.subscribe("$share/g/a", Q1);
        publisher.publish_acked("a", "live");
        client.expect_payload("live");
        client.subscribe("a", Q1);
        assert!(client.expect_payload("kept").retain);
    });
}

fn members(broker: &Broker) -> Vec<Client> {
    let join = |name| {
        let mut member = broker.connect(name);
        member.subscribe("$share/g/#", Q1);
        member
    };
    ["one", "two", "three"].map(join).into()
}

/// Which member got the next message, acknowledged.
fn taker(members: &mut [Client]) -> usize {
    let mut all: Vec<&mut Client> = members.iter_mut().collect();
    let (index, got) = next_of(&mut all);
    all[index].send_ack(PacketType::PubAck, got.id);
    index
}

#[test]
fn a_sticky_share_stays_with_its_member_until_that_leaves() {
    let sticky = |config: &mut Config| config.mqtt.share_strategy = ShareStrategy::Sticky;
    at_brokers_with(sticky, |broker| {
        let mut members = members(broker);
        let mut publisher = broker.connect("p");
        let takers = |members: &mut [Client], publisher: &mut Client| -> BTreeSet<usize> {
            let once = |number: u32| {
                publisher.publish_acked(&number.to_string(), "x");
                taker(members)
            };
            (0..20).map(once).collect()
        };
        let first = takers(&mut members, &mut publisher);
        assert_eq!(first.len(), 1);
        drop(members.remove(first.into_iter().next().unwrap()));
        assert_eq!(takers(&mut members, &mut publisher).len(), 1);
    });
}

#[test]
fn a_share_by_topic_gives_a_topic_to_the_same_member() {
    let by_topic = |config: &mut Config| config.mqtt.share_strategy = ShareStrategy::HashTopic;
    at_brokers_with(by_topic, |broker| {
        let mut members = members(broker);
        let mut publisher = broker.connect("p");
        let mut round = || -> Vec<usize> {
            let once = |number: u32| {
                publisher.publish_acked(&number.to_string(), "x");
                taker(&mut members)
            };
            (0..20).map(once).collect()
        };
        let first = round();
        assert_eq!(round(), first);
        assert_ne!(first, vec![first[0]; 20]);
    });
}

#[test]
fn a_share_by_property_gives_a_value_to_the_same_member_whatever_the_topic() {
    let by_property = |config: &mut Config| {
        config.mqtt.share_strategy = ShareStrategy::HashProperty;
        config.mqtt.share_property = Some("key".into());
    };
    at_brokers_with(by_property, |broker| {
        let mut members = members(broker);
        let mut publisher = broker.connect("p");
        let mut round = |topic: &str| -> Vec<usize> {
            let once = |number: u32| {
                let value = number.to_string();
                let pairs = [("other", topic), ("key", value.as_str())];
                let mut publish = message(topic, "x", Q1, 1);
                publish.properties.user_properties = UserProperties::from_pairs(&pairs);
                publisher.publish(publish);
                publisher.ack_of(PacketType::PubAck, 1);
                taker(&mut members)
            };
            (0..20).map(once).collect()
        };
        let first = round("a");
        assert_eq!(round("b/c"), first);
        assert_ne!(first, vec![first[0]; 20]);
    });
}
