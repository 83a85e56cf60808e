//! A node of ours and RabbitMQ. One server for all steps: it starts slowly.

mod inward;
mod kills;
pub(crate) mod server;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use tidewire_protocol::codec::{PublishProperties, UserProperties};

use crate::certificates::{OURS_EXPIRED, THEIRS_EXPIRED, expect_down, showing};
use crate::client::{Client, Q0, Q1, Q2};
use crate::faults::{first_seen, numbers};
use crate::federation::wait_until_up;
use crate::mirror::{self, Mirror};
use crate::process::{Broker, free_port};
use crate::silence::expect_signs_of_life;
use server::RabbitMq;

const STATE: &str = "$SYS/bridges/up/state";
const OUT: &str = "[[bridges.out]]\nfilters = [\"t/#\"]";

fn bridge(port: u16, lines: &str) -> String {
    format!(
        "[[bridges]]\nname = \"up\"\nkind = \"amqp091\"\nservers = [\"amqp://127.0.0.1:{port}\"]\n\
         restart_base_ms = 100\nrestart_max_ms = 300\n{lines}\n"
    )
}

#[test]
#[ignore = "needs RabbitMQ, which tests/run installs"]
fn a_bridge_and_a_real_rabbitmq_exchange_everything_that_the_guide_promises() {
    let mut rabbit = RabbitMq::start();
    every_qos_reaches_the_exchange_with_its_properties(&rabbit);
    everything_that_mqtt_can_say_comes_out_at_another_node_as_it_was(&rabbit);
    a_message_that_reaches_no_queue_goes_to_the_dead_letter_topic_and_holds_up_nothing(&rabbit);
    what_is_missing_over_there_is_said_in_its_words(&rabbit);
    deliveries_come_with_their_properties_and_leave_the_queue_once_accepted(&rabbit);
    a_blocked_connection_holds_messages_back(&rabbit);
    a_silent_connection_is_not_left_by_a_server_with_little_patience(&rabbit);
    a_certificate_is_shown_and_one_that_has_expired_is_said_in_words(&rabbit);
    inward::what_comes_again_after_a_lost_connection_is_taken_once(&rabbit);
    inward::what_no_rule_wants_goes_to_the_dead_letter_exchange_of_the_queue(&rabbit);
    inward::what_is_missing_is_created_where_that_is_wanted(&rabbit);
    inward::a_stream_goes_on_where_it_was_after_a_lost_connection(&rabbit);
    inward::what_waited_for_another_kind_of_remote_goes_to_the_exchange(&rabbit);
    inward::a_deleted_queue_and_a_revoked_password_are_said_and_survived(&rabbit);
    nothing_is_lost_on_the_way_out_while_the_server_is_killed_and_started_again(&mut rabbit);
    nothing_is_lost_on_the_way_in_while_the_server_is_killed_and_started_again(&mut rabbit);
    kills::nothing_is_lost_on_the_way_in_over_kills_of_ours(&rabbit);
    kills::nothing_is_lost_on_the_way_out_over_kills_of_either_side(&mut rabbit);
}

fn every_qos_reaches_the_exchange_with_its_properties(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("props", "t.props.#");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, OUT));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let pairs = [("a", "b"), ("a", "c"), ("d", "e")];
    let properties = PublishProperties {
        content_type: Some("text/plain"),
        response_topic: Some("answers/1"),
        correlation_data: Some(b"id-1"),
        message_expiry_seconds: Some(60),
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    send_each_qos(&mut sender, &there, &properties, |has| {
        assert_eq!(*has.reply_to(), Some("answers/1".into()));
        let left: u64 = has
            .expiration()
            .as_ref()
            .and_then(|it| it.as_str().parse().ok())
            .expect("an expiration");
        assert!((30_000..=60_000).contains(&left), "{left}");
        let headers = has.headers().as_ref().expect("headers").inner();
        let AMQPValue::FieldArray(values) = &headers["a"] else {
            panic!("{headers:?}");
        };
        assert_eq!(values.as_slice().len(), 2);
        assert_eq!(headers["d"], AMQPValue::LongString("e".into()));
        assert!(headers.contains_key("tidewire-path"), "{headers:?}");
    });
}

/// Sends by each QoS to the queue `props`, which is bound by `t.props.#`.
pub(crate) fn send_each_qos(
    sender: &mut Client,
    there: &server::Client,
    properties: &PublishProperties<'_>,
    check: impl Fn(&BasicProperties),
) {
    for (qos, text, mode) in [(Q0, "zero", 1), (Q1, "one", 2), (Q2, "two", 2)] {
        let topic = format!("t/props/x.y/{text}");
        sender.publish_with(&topic, text, qos, false, properties);
        let got = there.get("props");
        assert_eq!(got.payload, text);
        assert_eq!(got.key, format!("t.props.x/y.{text}"));
        let has = got.properties;
        assert_eq!(*has.delivery_mode(), Some(mode));
        assert_eq!(*has.content_type(), Some("text/plain".into()));
        assert_eq!(*has.correlation_id(), Some("id-1".into()));
        check(&has);
    }
    assert!(there.poll("props").is_none());
}

fn a_message_that_reaches_no_queue_goes_to_the_dead_letter_topic_and_holds_up_nothing(
    rabbit: &RabbitMq,
) {
    let there = rabbit.client();
    there.queue("some", "t.some");
    let lines = format!("dead_letter = \"dead\"\n{OUT}");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    for number in 0..20 {
        sender.publish("t/some", &number.to_string(), Q1);
        sender.publish("t/nowhere", &number.to_string(), Q1);
    }
    for number in 0..20 {
        assert_eq!(there.get("some").payload, number.to_string());
        let letter = dead.expect("dead", &number.to_string());
        let error = letter.headers.iter().find(|it| it.0 == "tidewire-error");
        let error = &error.expect("an error").1;
        assert!(error.contains("312 NO_ROUTE"), "{error}");
        assert!(error.contains("t.nowhere"), "{error}");
    }
    // Many in flight at once: each returned message has to be told from its neighbours.
    for number in 0..300 {
        sender.publish("t/some", &number.to_string(), Q0);
        sender.publish("t/nowhere", &number.to_string(), Q0);
    }
    for number in 0..300 {
        assert_eq!(there.get("some").payload, number.to_string());
        let letter = dead.expect("dead", &number.to_string());
        let topic = letter.headers.iter().find(|it| it.0 == "tidewire-topic");
        assert_eq!(topic.expect("a topic").1, "t/nowhere");
    }
    let key = "long/".repeat(60);
    sender.publish(&format!("t/{key}"), "long", Q1);
    let letter = dead.expect("dead", "long");
    assert!(
        letter
            .headers
            .iter()
            .any(|it| it.1.contains("routing key of 302 bytes"))
    );
}

fn what_is_missing_over_there_is_said_in_its_words(rabbit: &RabbitMq) {
    let cases = [
        (
            "exchange = \"none\"",
            "404 NOT_FOUND - no exchange 'none' in vhost '/'",
        ),
        ("virtual_host = \"none\"", "vhost none not found"),
        (
            "user_name = \"guest\"\npassword = \"wrong\"",
            "403 ACCESS_REFUSED",
        ),
        (
            "queue = \"none\"\n[[bridges.in]]\nfilters = [\"x\"]",
            "404 NOT_FOUND - no queue 'none' in vhost '/'",
        ),
    ];
    rabbit.client().exchange_comes_and(
        "gone",
        || {
            let lines = format!("exchange = \"gone\"\n{OUT}");
            let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
            wait_until_up(&ours);
            ours
        },
        |ours| {
            let mut watcher = Client::connect(&ours, "watcher");
            watcher.subscribe(STATE);
            Client::connect(&ours, "sender").publish("t/1", "late", Q1);
            let down = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
            assert!(down.contains("no exchange 'gone'"), "{down}");
        },
    );
    for (lines, words) in cases {
        let ours = Broker::tidewire(
            free_port(),
            &bridge(rabbit.port, &format!("{lines}\n{OUT}")),
        );
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe(STATE);
        let down = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
        assert!(down.contains(words), "{down}");
    }
}

fn everything_that_mqtt_can_say_comes_out_at_another_node_as_it_was(rabbit: &RabbitMq) {
    rabbit.client().queue("mirror", "mirror.#");
    let port = rabbit.port;
    let theirs = bridge(port, &format!("queue = \"mirror\"\n{}", mirror::BACK));
    let mirror = Mirror::new(&bridge(port, mirror::OUT), &theirs);
    mirror.shows_everything();
}

fn deliveries_come_with_their_properties_and_leave_the_queue_once_accepted(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("commands", "c.#");
    let lines = "queue = \"commands\"\n[[bridges.in]]\nfilters = [\"c/#\"]";
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, lines));
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("c/#");
    let mut headers = FieldTable::default();
    headers.insert("n".into(), AMQPValue::LongInt(7));
    headers.insert("s".into(), AMQPValue::LongString("text".into()));
    for (mode, qos) in [(1, Q0), (2, Q1)] {
        let properties = BasicProperties::default()
            .with_delivery_mode(mode)
            .with_content_type("text/plain".into())
            .with_headers(headers.clone());
        there.publish("c.x/y.1", "do", properties);
        let message = receiver.expect("c/x.y/1", "do");
        assert_eq!(message.qos, qos);
        assert_eq!(message.content_type.as_deref(), Some("text/plain"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(message.headers, [pair("n", "7"), pair("s", "text")]);
    }
    drop(receiver);
    ours.stop();
    assert!(there.poll("commands").is_none());
}

fn a_blocked_connection_holds_messages_back(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("blocked", "t.blocked");
    let lines = format!("ack_timeout_seconds = 1\n{OUT}");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    rabbit.control(&["set_vm_memory_high_watermark", "0"]);
    let mut sender = Client::connect(&ours, "sender");
    sender.publish("t/blocked", "first", Q1);
    watcher.wait_for(STATE, "blocked by the server");
    for number in 0..100 {
        sender.publish("t/blocked", &number.to_string(), Q1);
    }
    assert!(there.poll("blocked").is_none());
    rabbit.control(&["set_vm_memory_high_watermark", "0.9"]);
    watcher.wait_for(STATE, "\"state\":\"up\"");
    assert_eq!(there.get("blocked").payload, "first");
    for number in 0..100 {
        assert_eq!(there.get("blocked").payload, number.to_string());
    }
}

fn a_silent_connection_is_not_left_by_a_server_with_little_patience(rabbit: &RabbitMq) {
    rabbit.client().queue("quiet", "quiet");
    let heartbeat = |seconds: u8| {
        let text = format!("application:set_env(rabbit, heartbeat, {seconds}).");
        rabbit.control(&["eval", &text]);
    };
    heartbeat(1);
    let lines = "[[bridges.out]]\nfilters = [\"quiet\"]";
    expect_signs_of_life(rabbit.port, |port| bridge(port, lines));
    heartbeat(60);
}

fn a_certificate_is_shown_and_one_that_has_expired_is_said_in_words(rabbit: &RabbitMq) {
    let config = |name: &str| {
        let lines = format!("{}\n{OUT}", showing(&rabbit.directory, name));
        bridge(rabbit.tls_port, &lines).replace("amqp://127.0.0.1", "amqps://localhost")
    };
    wait_until_up(&Broker::tidewire(free_port(), &config("client")));
    expect_down(&config("expired-client"), OURS_EXPIRED);
    for end in ["crt", "key"] {
        let file = |name: &str| rabbit.directory.join(format!("{name}.{end}"));
        std::fs::copy(file("expired-server"), file("server")).expect("copied");
    }
    rabbit.control(&["eval", "ssl:clear_pem_cache()."]);
    expect_down(&config("client"), THEIRS_EXPIRED);
}

fn nothing_is_lost_on_the_way_out_while_the_server_is_killed_and_started_again(
    rabbit: &mut RabbitMq,
) {
    rabbit.lasting_queue("out", "t.out");
    let lines = format!("inflight_max = 20\nack_timeout_seconds = 10\n{OUT}");
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    for number in 0..1_000 {
        if number == 400 {
            rabbit.kill();
        }
        let qos = if number % 2 == 0 { Q1 } else { Q2 };
        sender.publish("t/out", &number.to_string(), qos);
    }
    rabbit.start_again();
    let there = rabbit.client();
    let sent = numbers(1_000);
    assert_eq!(first_seen(sent.len(), || there.get("out").payload), sent);
}

fn nothing_is_lost_on_the_way_in_while_the_server_is_killed_and_started_again(
    rabbit: &mut RabbitMq,
) {
    rabbit.lasting_queue("in", "in.#");
    let there = rabbit.client();
    for number in 0..1_000 {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        there.publish("in.x", &number.to_string(), persistent);
    }
    drop(there);
    let lines = "queue = \"in\"\nreceive_maximum = 10\n[[bridges.in]]\nfilters = [\"in/#\"]";
    let ours = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("in/#");
    let up = format!(
        "{}\n[[bridges]]\nname = \"on\"\nservers = [\"mqtt://127.0.0.1:{}\"]\n\
         restart_base_ms = 100\n[[bridges.out]]\nfilters = [\"in/#\"]",
        bridge(rabbit.port, lines),
        ours.port
    );
    let _edge = Broker::tidewire(free_port(), &up);
    let mut first_seen: Vec<String> = Vec::new();
    let mut is_restarted = false;
    while first_seen.len() < 1_000 {
        // Once: what comes twice afterwards leaves the count as it is.
        if first_seen.len() == 300 && !is_restarted {
            is_restarted = true;
            rabbit.restart();
        }
        let payload = receiver.next().payload;
        if !first_seen.contains(&payload) {
            first_seen.push(payload);
        }
    }
    let sent: Vec<String> = (0..1_000).map(|it| it.to_string()).collect();
    assert_eq!(first_seen, sent);
}
