//! A node of ours and RabbitMQ with its plugin for AMQP 1.0.

use lapin::BasicProperties;
use tidewire_protocol::codec::PublishProperties;

use super::{STATE, bridge};
use crate::client::{Client, Q0, Q1};
use crate::faults::{first_seen, numbers};
use crate::federation::wait_until_up;
use crate::kill::through_kills;
use crate::process::{Broker, free_port};
use crate::rabbitmq::send_each_qos;
use crate::rabbitmq::server::RabbitMq;

const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";
/// A message that nobody answers is sent again long before the test gives up.
const PATIENCE: &str = "ack_timeout_seconds = 10";
const OWN: &str = "[bridges.amqp10]\ndialect = \"rabbitmq3\"";

#[test]
#[ignore = "needs RabbitMQ, which tests/run installs"]
fn a_bridge_over_amqp_1_0_and_a_real_rabbitmq_exchange_what_the_guide_promises() {
    let mut rabbit = RabbitMq::start();
    every_qos_reaches_the_exchange_by_its_routing_key(&rabbit);
    each_queue_has_a_link_of_its_own(&rabbit);
    deliveries_have_the_topic_of_their_routing_key_and_leave_the_queue(&rabbit);
    more_than_there_is_credit_for_comes_over_one_connection(&rabbit);
    what_is_missing_over_there_is_said_in_its_words(&rabbit);
    nothing_is_lost_on_the_way_out_while_the_server_is_killed(&mut rabbit);
    nothing_is_lost_from_end_to_end_while_everything_is_killed(&mut rabbit);
}

fn every_qos_reaches_the_exchange_by_its_routing_key(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("props", "t.props.#");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &format!("{OWN}\n{OUT}")));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let properties = PublishProperties {
        content_type: Some("text/plain"),
        correlation_data: Some(b"id-1"),
        message_expiry_seconds: Some(60),
        ..PublishProperties::default()
    };
    send_each_qos(&mut sender, &there, &properties, |has| {
        assert!(has.message_id().is_some());
        assert!(has.expiration().is_some());
    });
}

fn each_queue_has_a_link_of_its_own(rabbit: &RabbitMq) {
    let there = rabbit.client();
    for name in ["one.a", "one.b", "one.c"] {
        there.queue(name, "nothing");
    }
    let lines = format!("{OWN}\ntarget = \"queue\"\nlinks_max = 2\n{OUT}\ntopic = \"one/{{2}}\"");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    for number in 0..60 {
        let topic = ["t/a", "t/b", "t/c"][number % 3];
        sender.publish(topic, &number.to_string(), Q1);
    }
    for number in 0..60 {
        let name = ["one.a", "one.b", "one.c"][number % 3];
        assert_eq!(there.get(name).payload, number.to_string());
    }
}

fn deliveries_have_the_topic_of_their_routing_key_and_leave_the_queue(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("commands", "c.#");
    let lines = format!("{OWN}\naddress = \"commands\"\n[[bridges.in]]\nfilters = [\"c/#\"]");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    for (mode, qos) in [(1, Q0), (2, Q1)] {
        let properties = BasicProperties::default()
            .with_delivery_mode(mode)
            .with_content_type("text/plain".into());
        there.publish("c.x/y.1", "do", properties);
        let message = receiver.expect("c/x.y/1", "do");
        assert_eq!(message.qos, qos);
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
    }
    drop(receiver);
    ours.stop();
    assert!(there.poll("commands").is_none());
}

/// The server counts along: whoever counts otherwise loses the session.
fn more_than_there_is_credit_for_comes_over_one_connection(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("many", "many");
    let own = format!("receive_maximum = 20\n{OWN}\naddress = \"many\"");
    let lines = format!("{own}\n[[bridges.in]]\nfilters = [\"many\"]");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("many");
    let all = numbers(200);
    for number in &all {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        there.publish("many", number, persistent);
    }
    assert_eq!(receiver.payloads(all.len()), all);
    let (_, state) = ours.order("up", "state");
    assert!(state.contains("\"connects\":1,"), "{state}");
    ours.stop();
}

fn what_is_missing_over_there_is_said_in_its_words(rabbit: &RabbitMq) {
    let cases = [
        (
            format!("exchange = \"none\"\n{OWN}\n{OUT}"),
            "no exchange 'none'",
        ),
        (
            format!("virtual_host = \"none\"\n{OWN}\n{OUT}"),
            "unauthorized-access",
        ),
        (
            format!("user_name = \"guest\"\npassword = \"wrong\"\n{OWN}\n{OUT}"),
            "SASL auth",
        ),
        (
            format!("{OWN}\naddress = \"none\"\n[[bridges.in]]\nfilters = [\"x\"]"),
            "no queue 'none'",
        ),
    ];
    for (lines, words) in cases {
        let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe(STATE);
        let down = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
        assert!(down.contains(words), "{down}\nnot: {words}");
    }
}

fn nothing_is_lost_on_the_way_out_while_the_server_is_killed(rabbit: &mut RabbitMq) {
    rabbit.lasting_queue("out", "t.out");
    let lines = format!("inflight_max = 20\n{PATIENCE}\n{OWN}\n{OUT}");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let all = numbers(1_000);
    sender.publish_all("t/out", &all[..400], Q1);
    rabbit.kill();
    sender.publish_all("t/out", &all[400..], Q1);
    rabbit.start_again();
    let there = rabbit.client();
    assert_eq!(first_seen(all.len(), || there.get("out").payload), all);
}

fn nothing_is_lost_from_end_to_end_while_everything_is_killed(rabbit: &mut RabbitMq) {
    rabbit.lasting_queue("ledger", "t.1");
    let hub = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&hub, "receiver");
    receiver.subscribe("in/#");
    let way_out = bridge(rabbit.port, &format!("{PATIENCE}\n{OWN}\n{OUT}"));
    let way_in = format!(
        "{OWN}\naddress = \"ledger\"\n[[bridges.in]]\nfilters = [\"t/1\"]\ntopic = \"in/1\""
    );
    let way_in = super::inward::feeding(&bridge(rabbit.port, &way_in), &hub);
    let ways = [&*way_out, &*way_in];
    let [mut all, mut came] = through_kills(ways, &mut receiver, || rabbit.restart());
    // What was not accepted comes after what followed it.
    all.sort_unstable();
    came.sort_unstable();
    assert_eq!(came, all);
}
