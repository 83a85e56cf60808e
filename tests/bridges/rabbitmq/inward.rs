//! From RabbitMQ: what comes again, what is refused, and queues of all kinds.

use lapin::BasicProperties;

use super::server::RabbitMq;
use super::{OUT, STATE, bridge};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

pub(super) fn what_comes_again_after_a_lost_connection_is_taken_once(rabbit: &RabbitMq) {
    const COUNT: usize = 1_000;
    let there = rabbit.client();
    there.queue("again", "again.#");
    let proxy = Proxy::start(rabbit.port);
    let lines = "queue = \"again\"\nreceive_maximum = 50\n\
                 [[bridges.in]]\nfilters = [\"again/#\"]";
    let ours = Broker::tidewire(free_port(), &bridge(proxy.port, lines));
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("again/#");
    let mut came = Vec::new();
    for number in numbers(COUNT) {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(format!("id-{number}").into());
        there.publish("again.1", &number, properties);
        if number.ends_with("50") {
            proxy.cut_after(300);
        }
    }
    while came.len() < COUNT {
        came.push(receiver.next().payload);
    }
    receiver.expect_silence();
    assert_eq!(came, numbers(COUNT));
    assert!(proxy.accepted() > 3, "{}", proxy.accepted());
}

pub(super) fn what_no_rule_wants_goes_to_the_dead_letter_exchange_of_the_queue(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("refused", "refused.#");
    let arguments = [
        ("x-dead-letter-exchange", "amq.topic"),
        ("x-dead-letter-routing-key", "refused.here"),
    ];
    there.queue_with("choosy", "choosy.#", &arguments);
    let lines = "queue = \"choosy\"\n[[bridges.in]]\nfilters = [\"choosy/good\"]";
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, lines));
    wait_until_up(&ours);
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("choosy/#");
    for (key, payload) in [("choosy.bad", "no"), ("choosy.good", "yes")] {
        there.publish(key, payload, BasicProperties::default());
    }
    receiver.expect("choosy/good", "yes");
    receiver.expect_silence();
    assert_eq!(there.get("refused").payload, "no");
}

pub(super) fn what_is_missing_is_created_where_that_is_wanted(rabbit: &RabbitMq) {
    let lines = format!(
        "exchange = \"made\"\nqueue = \"made-too\"\n[bridges.amqp091]\ndeclare = \"create\"\n\
         queue_arguments = [\"x-queue-type=quorum\", \"x-max-length=1000\"]\npriority = 7\n\
         {OUT}\n[[bridges.in]]\nfilters = [\"in/+/x\"]"
    );
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let there = rabbit.client();
    let mut receiver = Client::connect(&ours, "receiver");
    receiver.subscribe("in/#");
    there.publish_to("made", "in.1.x", "bound", BasicProperties::default());
    receiver.expect("in/1/x", "bound");
    there.queue("seen", "unused");
    there.bind("seen", "made", "t.#");
    let mut sender = Client::connect(&ours, "sender");
    sender.publish("t/1", "named", Q1);
    let properties = there.get("seen").properties;
    assert_eq!(*properties.priority(), Some(7));
    let id = properties.message_id().as_ref().expect("a message id");
    assert!(id.as_str().contains(".up.s"), "{id}");
    let other = lines.replace("quorum", "classic");
    let other = Broker::tidewire(free_port(), &bridge(rabbit.port, &other));
    let mut watcher = Client::connect(&other, "watcher");
    let down = watcher.subscribe(STATE).wait_for(STATE, "\"down\"").payload;
    assert!(down.contains("406 PRECONDITION_FAILED"), "{down}");
}

pub(super) fn a_stream_goes_on_where_it_was_after_a_lost_connection(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue_with("stream", "stream.#", &[("x-queue-type", "stream")]);
    let publish = |numbers: &[String]| {
        for number in numbers {
            there.publish("stream.1", number, BasicProperties::default());
        }
    };
    let all = numbers(300);
    publish(&all[..100]);
    let proxy = Proxy::start(rabbit.port);
    let receiving = Broker::tidewire(free_port(), "");
    let mut receiver = Client::connect(&receiving, "receiver");
    receiver.subscribe("stream/#");
    // The first messages come before anybody could subscribe: they wait in another bridge.
    let lines = format!(
        "queue = \"stream\"\n[bridges.amqp091]\ndeclare = \"none\"\n\
         consumer_arguments = [\"x-stream-offset=first\"]\n\
         [[bridges.in]]\nfilters = [\"stream/#\"]\n\
         [[bridges]]\nname = \"on\"\nservers = [\"mqtt://127.0.0.1:{}\"]\n\
         [[bridges.out]]\nfilters = [\"stream/#\"]",
        receiving.port
    );
    let ours = Broker::tidewire(free_port(), &bridge(proxy.port, &lines));
    wait_until_up(&ours);
    publish(&all[100..200]);
    assert_eq!(receiver.payloads(200), all[..200]);
    proxy.reset();
    publish(&all[200..]);
    assert_eq!(receiver.payloads(100), all[200..]);
    receiver.expect_silence();
}

pub(super) fn what_waited_for_another_kind_of_remote_goes_to_the_exchange(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("moved", "t.moved");
    let mqtt = bridge(free_port(), OUT)
        .replace("kind = \"amqp091\"\n", "")
        .replace("amqp://", "mqtt://");
    let ours = Broker::tidewire(free_port(), &mqtt);
    Client::connect(&ours, "sender").publish_all("t/moved", &numbers(50), Q1);
    ours.reload(&bridge(rabbit.port, OUT));
    for number in numbers(50) {
        assert_eq!(there.get("moved").payload, number);
    }
    assert!(there.poll("moved").is_none());
}

pub(super) fn a_deleted_queue_and_a_revoked_password_are_said_and_survived(rabbit: &RabbitMq) {
    let there = rabbit.client();
    there.queue("fleeting", "fleeting.#");
    rabbit.control(&["add_user", "plant", "first"]);
    rabbit.control(&["set_permissions", "plant", ".*", ".*", ".*"]);
    let lines = format!(
        "user_name = \"plant\"\npassword = \"first\"\nqueue = \"fleeting\"\n{OUT}\n\
         [[bridges.in]]\nfilters = [\"fleeting/#\"]"
    );
    let ours = Broker::tidewire(free_port(), &bridge(rabbit.port, &lines));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE).subscribe("fleeting/#");
    there.delete_queue("fleeting");
    watcher.wait_for(STATE, "no queue 'fleeting' in vhost '/'");
    there.queue("fleeting", "fleeting.#");
    there.publish("fleeting.1", "back", BasicProperties::default());
    watcher.wait_for("fleeting/1", "back");
    there.queue("kept", "t.kept");
    rabbit.control(&["change_password", "plant", "second"]);
    rabbit.control(&["close_all_user_connections", "plant", "revoked"]);
    watcher.wait_for(STATE, "403 ACCESS_REFUSED");
    Client::connect(&ours, "sender").publish("t/kept", "waits", Q1);
    rabbit.control(&["change_password", "plant", "first"]);
    assert_eq!(there.get("kept").payload, "waits");
}
