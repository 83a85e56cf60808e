//! From Artemis to us, and all the way round.

use std::time::Duration;

use fe2o3_amqp::types::messaging::{
    AmqpSequence, AmqpValue, ApplicationProperties, Batch, Body, Data, Header, MessageId,
    Properties,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Value};

use tidewire::clock::Clock;

use super::artemis::Artemis;
use super::party::{Got, text};
use super::{STATE, bridge};
use crate::client::{Client, Q0, Q1};
use crate::faults::{first_seen, numbers};
use crate::federation::wait_until_up;
use crate::kill::through_kills;
use crate::process::{Broker, PATIENCE_MS, free_port};
use crate::proxy::Proxy;

fn message(body: Body<Value>) -> Got {
    Got {
        header: Some(Header {
            durable: true,
            ..Header::default()
        }),
        delivery_annotations: None,
        message_annotations: None,
        properties: None,
        application_properties: None,
        body,
        footer: None,
    }
}

fn data(text: &str) -> Body<Value> {
    let bytes = Binary::from(text.as_bytes().to_vec());
    Body::Data(Batch::new(vec![Data(bytes)]))
}

fn value(value: Value) -> Got {
    message(Body::Value(AmqpValue(value)))
}

/// A bridge that receives from a queue or topic of Artemis.
fn receiving(port: u16, own: &str, rule: &str) -> String {
    let lines = format!("[bridges.amqp10]\ndialect = \"artemis\"\n{own}\n[[bridges.in]]\n{rule}");
    bridge(port, &lines)
}

pub(super) fn messages_come_with_their_properties_and_leave_the_queue_once_accepted(
    artemis: &Artemis,
) {
    let mut there = artemis.party();
    let named = [
        ("n", SimpleValue::Int(7)),
        ("s", SimpleValue::String("text".into())),
        ("s#2", SimpleValue::String("more".into())),
        ("b", SimpleValue::Binary(Binary::from(vec![0]))),
    ];
    let named = named.map(|(name, value)| (name.to_owned(), value));
    let full = Got {
        properties: Some(Properties {
            to: Some("commands.x/y".into()),
            content_type: Some(Symbol::from("text/plain")),
            correlation_id: Some(MessageId::Ulong(5)),
            ..Properties::default()
        }),
        application_properties: Some(ApplicationProperties(OrderedMap::from_iter(named))),
        ..message(data("full"))
    };
    let transient = Got {
        header: None,
        ..message(data("transient"))
    };
    there.send("commands", "queue", vec![full, transient]);
    let rule = "filters = [\"commands/#\"]";
    let config = receiving(artemis.port, "address = \"commands\"", rule);
    let hub = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&hub, "receiver");
    receiver.subscribe("commands/#");
    let ours = Broker::tidewire(free_port(), &feeding(&config, &hub));
    let got = receiver.expect("commands/x.y", "full");
    assert_eq!(got.qos, Q1);
    assert_eq!(got.content_type.as_deref(), Some("text/plain"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let named = [pair("n", "7"), pair("s", "text"), pair("s", "more")];
    assert!(got.headers.starts_with(&named), "{got:?}");
    // Without an address of its own a message has that of the queue.
    assert_eq!(receiver.expect("commands", "transient").qos, Q0);
    ours.stop();
    let mut rest = there.reader("commands", "queue");
    assert!(rest.poll(Duration::from_millis(500)).is_none());
}

pub(super) fn bodies_become_payloads_and_others_go_to_the_servers_dead_letters(artemis: &Artemis) {
    let mut there = artemis.party();
    let list = || vec![Value::Int(1), Value::String("a".into())];
    let bytes = Value::Binary(Binary::from(vec![b'x']));
    let sequence = Body::Sequence(Batch::new(vec![AmqpSequence(list())]));
    let unsayable = value(Value::List(vec![bytes.clone()]));
    let messages = vec![
        value(Value::String("käse".into())),
        value(bytes),
        unsayable,
        message(sequence),
        value(Value::List(list())),
        value(Value::Long(-3)),
        message(Body::Data(Batch::new(Vec::new()))),
    ];
    there.send("bodies", "queue", messages);
    let rule = "filters = [\"bodies\"]";
    let config = receiving(artemis.port, "address = \"bodies\"", rule);
    let hub = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&hub, "receiver");
    receiver.subscribe("bodies");
    let ours = Broker::tidewire(free_port(), &feeding(&config, &hub));
    for payload in ["käse", "x", "[1,\"a\"]", "[1,\"a\"]", "-3", ""] {
        receiver.expect("bodies", payload);
    }
    let mut dead = there.reader("DLQ", "queue");
    assert!(matches!(dead.next().body, Body::Value(_)));
    ours.stop();
}

pub(super) fn a_topic_keeps_for_us_what_comes_while_we_are_away(artemis: &Artemis) {
    let mut there = artemis.party();
    let own = "address = \"news.#\"\nsource = \"topic\"";
    let rule = "filters = [\"news/#\"]";
    let config = format!("node = \"n1\"\n{}", receiving(artemis.port, own, rule));
    let port = free_port();
    let ours = Broker::tidewire(port, &config);
    wait_until_up(&ours);
    Client::resume(&ours, "keeper").subscribe("news/#");
    let news = |text: &str| Got {
        properties: Some(Properties {
            to: Some("news.today".into()),
            ..Properties::default()
        }),
        ..message(data(text))
    };
    there.send("news.today", "topic", vec![news("live")]);
    Client::resume(&ours, "keeper").expect("news/today", "live");
    let kept = ours.stop_and_keep();
    there.send("news.today", "topic", vec![news("kept")]);
    let ours = Broker::tidewire_in(kept, port, &config);
    Client::resume(&ours, "keeper").expect("news/today", "kept");
}

pub(super) fn a_link_that_the_server_detaches_is_attached_again(artemis: &Artemis) {
    let mut there = artemis.party();
    let rule = "filters = [\"gone\"]";
    let config = receiving(artemis.port, "address = \"gone\"", rule);
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("gone").subscribe(STATE);
    there.send("gone", "queue", vec![message(data("before"))]);
    receiver.wait_for("gone", "before");
    std::thread::sleep(Duration::from_millis(1_200));
    let named = [
        ("_AMQ_ResourceName", "broker"),
        ("_AMQ_OperationName", "destroyQueue"),
    ];
    let named = named.map(|(name, text)| (name.to_owned(), SimpleValue::String(text.into())));
    let order = Got {
        application_properties: Some(ApplicationProperties(OrderedMap::from_iter(named))),
        ..value(Value::String("[\"gone\", true]".into()))
    };
    there.send("activemq.management", "queue", vec![order]);
    there.send("gone", "queue", vec![message(data("after"))]);
    receiver.wait_for("gone", "after");
    let state = receiver.wait_for(STATE, "\"received\":2").payload;
    assert!(state.contains("\"connects\":1,"), "{state}");
}

pub(super) fn what_comes_again_after_a_lost_connection_is_taken_once(artemis: &Artemis) {
    const COUNT: usize = 500;
    let mut there = artemis.party();
    let proxy = Proxy::start(artemis.port);
    let rule = "filters = [\"again\"]";
    let config = receiving(proxy.port, "address = \"again\"", rule);
    let config = config.replace("[bridges.amqp10]", "receive_maximum = 20\n[bridges.amqp10]");
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("again");
    let all = numbers(COUNT);
    for part in all.chunks(50) {
        let messages = part.iter().map(|number| Got {
            properties: Some(Properties {
                message_id: Some(MessageId::String(format!("id-{number}"))),
                ..Properties::default()
            }),
            ..message(data(number))
        });
        let connections = proxy.accepted();
        proxy.cut_after(700);
        there.send("again", "queue", messages.collect());
        let clock = Clock::start();
        while proxy.accepted() == connections {
            assert!(clock.now_ms() < PATIENCE_MS, "it is not cut");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let mut came = receiver.payloads(COUNT);
    receiver.expect_silence();
    came.sort_unstable();
    let mut sent = all;
    sent.sort_unstable();
    assert_eq!(came, sent);
}

pub(super) fn what_was_delivered_too_often_goes_to_the_servers_dead_letters(artemis: &Artemis) {
    let mut there = artemis.party();
    there.send("often", "queue", vec![message(data("often"))]);
    let mut failing = there.reader("often", "queue");
    for _ in 0..2 {
        assert_eq!(text(&failing.fail()), "often");
    }
    drop(failing);
    there.send("often", "queue", vec![message(data("once"))]);
    let own = "address = \"often\"\ndeliveries_max = 2";
    let config = receiving(artemis.port, own, "filters = [\"often\"]");
    let hub = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&hub, "receiver");
    receiver.subscribe("often");
    let _ours = Broker::tidewire(free_port(), &feeding(&config, &hub));
    receiver.expect("often", "once");
    assert_eq!(there.reader("DLQ", "queue").payload(), "often");
}

/// A node whose bridge `up` feeds the hub, so that subscribers outlive it.
pub(super) fn feeding(config: &str, hub: &Broker) -> String {
    format!(
        "{config}\n[[bridges]]\nname = \"on\"\nservers = [\"mqtt://127.0.0.1:{}\"]\n\
         restart_base_ms = 100\n[[bridges.out]]\nfilters = [\"#\"]",
        hub.port
    )
}

pub(super) fn nothing_is_lost_while_the_server_is_stopped_killed_and_started_again(
    artemis: &mut Artemis,
) {
    let lines = "inflight_max = 50\n[bridges.amqp10]\ndialect = \"artemis\"\n\
         target = \"queue\"\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"killed\"";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let all = numbers(3_000);
    sender.publish_all("t/1", &all[..1_000], Q1);
    artemis.kill();
    sender.publish_all("t/1", &all[1_000..2_000], Q1);
    artemis.start_again();
    wait_until_up(&ours);
    artemis.stop();
    sender.publish_all("t/1", &all[2_000..], Q1);
    artemis.start_again();
    let mut there = artemis.party();
    let mut reader = there.reader("killed", "queue");
    assert_eq!(first_seen(all.len(), || reader.payload()), all);
}

pub(super) fn nothing_is_lost_from_end_to_end_while_everything_is_killed(artemis: &mut Artemis) {
    let hub = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&hub, "receiver");
    receiver.subscribe("in/#");
    let rule = "filters = [\"ledger\"]\ntopic = \"in/ledger\"";
    let way_in = receiving(artemis.port, "address = \"ledger\"", rule);
    let way_in = feeding(&way_in, &hub);
    let way_out = "[bridges.amqp10]\ndialect = \"artemis\"\ntarget = \"queue\"\n\
         [[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"ledger\"";
    let way_out = bridge(artemis.port, way_out);
    let ways = [&*way_out, &*way_in];
    let [mut all, mut came] = through_kills(ways, &mut receiver, || {
        artemis.kill();
        artemis.start_again();
    });
    // What a killed consumer had not accepted may come after what followed it.
    all.sort_unstable();
    came.sort_unstable();
    assert_eq!(came, all);
    // What is accepted has left the queue.
    let mut there = artemis.party();
    let mut rest = there.reader("ledger", "queue");
    let left = rest.poll(Duration::from_millis(500));
    assert_eq!(left.as_ref().map(text), None);
}
