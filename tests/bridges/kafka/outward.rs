//! From us to Kafka.

use std::time::Duration;

use tidewire_protocol::codec::{PublishProperties, UserProperties};

use super::party::Reader;
use super::server::Kafka;
use super::{STATE, bridge};
use crate::certificates::{expect_down, showing};
use crate::client::{Client, Q0, Q1, Q2};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};

pub(super) fn everything_that_kafka_has_a_place_for_arrives(kafka: &Kafka) {
    kafka.create_topic("plant.a", 4, &[]);
    let lines = "dead_letter = \"dead\"\n[[bridges.out]]\nfilters = [\"s/+/#\"]\n\
         topic = \"plant.{2}\"\nkey = \"{3}\"\n\
         partition = \"{json:/p|default('1')}\"\ntimestamp_ms = \"{json:/at|default('5000')}\"\n\
         user_properties_add = [\"level={2}\", \"from={node}\"]";
    let config = format!("node = \"here\"\n{}", bridge(kafka.port, lines));
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let mut there = Reader::new(kafka, "plant.a", 4);
    let pairs = [("a", "b"), ("a", "c")];
    let properties = PublishProperties {
        content_type: Some("text/plain"),
        response_topic: Some("answers/1"),
        correlation_data: Some(b"id-1"),
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    for (qos, payload, partition, at) in [
        (Q0, "{\"p\":3,\"at\":7000}", 3, 7_000),
        (Q1, "{\"p\":2}", 2, 5_000),
        (Q2, "plain", 1, 5_000),
    ] {
        sender.publish_with("s/a/boiler", payload, qos, false, &properties);
        let got = there.next();
        assert_eq!(got.payload.as_deref(), Some(payload));
        assert_eq!(got.key.as_deref(), Some("boiler"));
        assert_eq!((got.partition, got.timestamp_ms), (partition, Some(at)));
        let expected = [
            ("a", "b"),
            ("a", "c"),
            ("level", "a"),
            ("from", "here"),
            ("tidewire-path", "here"),
            ("mqtt-content-type", "text/plain"),
            ("mqtt-response-topic", "answers/1"),
            ("mqtt-correlation-data", "id-1"),
        ];
        assert_eq!(
            got.headers,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    sender.publish("s/a/boiler", "{\"p\":4}", Q1);
    dead.expect("dead", "{\"p\":4}");
    sender.retain("s/a/lamp", "on");
    sender.retain("s/a/lamp", "");
    let got = [there.next(), there.next()].map(|it| (it.key, it.payload));
    let lamp = || Some("lamp".to_owned());
    assert_eq!(got, [(lamp(), Some("on".to_owned())), (lamp(), None)]);
}

pub(super) fn a_topic_of_ours_stays_in_one_partition_and_in_order_with_any_compression(
    kafka: &Kafka,
) {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("all-{compression}");
        kafka.create_topic(&topic, 3, &[]);
        let lines = format!(
            "[bridges.kafka]\ncompression = \"{compression}\"\n[[bridges.out]]\n\
             filters = [\"t/#\"]\ntopic = \"{topic}\""
        );
        let ours = Broker::tidewire(free_port(), &bridge(kafka.port, &lines));
        wait_until_up(&ours);
        let mut sender = Client::connect(&ours, "sender");
        for part in numbers(300).chunks(30) {
            for topic in ["t/a", "t/b", "t/c", "t/d"] {
                sender.publish_all(topic, part, Q1);
            }
        }
        let mut there = Reader::new(kafka, &topic, 3);
        let all: Vec<_> = (0..1_200).map(|_| there.next()).collect();
        for topic in ["t/a", "t/b", "t/c", "t/d"] {
            let of_topic = all.iter().filter(|it| it.key.as_deref() == Some(topic));
            let payloads: Vec<_> = of_topic.clone().flat_map(|it| it.payload.clone()).collect();
            assert_eq!(payloads, numbers(300), "{compression}");
            let mut partitions: Vec<_> = of_topic.map(|it| it.partition).collect();
            partitions.dedup();
            assert_eq!(partitions.len(), 1, "{topic}: {partitions:?}");
        }
    }
}

pub(super) fn a_topic_that_is_missing_holds_messages_back_or_sends_them_to_the_dead_letter_topic(
    kafka: &Kafka,
) {
    let lines = "dead_letter = \"dead\"\n[[bridges.out]]\nfilters = [\"f/#\"]\ntopic = \"fixed\"\n\
         [[bridges.out]]\nfilters = [\"any/+\"]";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(
        said.contains("topic \\\"fixed\\\": 3 UnknownTopicOrPartition"),
        "{said}"
    );
    let mut sender = Client::connect(&ours, "sender");
    sender.publish_all("f/1", &numbers(50), Q1);
    kafka.create_topic("fixed", 1, &[]);
    let mut there = Reader::new(kafka, "fixed", 1);
    assert_eq!([(); 50].map(|()| there.payload()).to_vec(), numbers(50));
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    sender.publish("any/nowhere", "lost", Q1);
    sender.publish("f/1", "not held up", Q1);
    assert_eq!(there.payload(), "not held up");
    let letter = dead.expect("dead", "lost");
    let error = letter.headers.iter().find(|it| it.0 == "tidewire-error");
    let error = &error.expect("an error").1;
    assert!(error.contains("topic \"any.nowhere\": "), "{error}");
    // A name that no topic of Kafka can have.
    sender.publish("any/ä", "strange", Q1);
    dead.expect("dead", "strange");
    kafka.admin.delete_topic("fixed");
    sender.publish("f/1", "while it is gone", Q1);
    watcher.wait_for(STATE, "UnknownPartition");
    watcher.wait_for(STATE, "3 UnknownTopicOrPartition");
    kafka.create_topic("fixed", 1, &[]);
    let mut there = Reader::new(kafka, "fixed", 1);
    assert_eq!(there.payload(), "while it is gone");
}

pub(super) fn a_message_too_large_holds_up_nothing(kafka: &Kafka) {
    kafka.create_topic("small", 1, &[("max.message.bytes", "2000")]);
    let lines = "dead_letter = \"dead\"\n[bridges.kafka]\nmessage_bytes_max = 5000\n\
         linger_ms = 50\n[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"small\"";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    let word = |number: usize, length: usize| format!("{number}{}", "x".repeat(length));
    // The server refuses whole batches: most of these fit one by one only.
    let fitting: Vec<String> = (0..20).map(|it| word(it, 500)).collect();
    sender.publish_all("t/fits", &fitting, Q1);
    for length in [3_000, 8_000] {
        sender.publish("t/large", &word(0, length), Q1);
        let letter = dead.next();
        assert_eq!(letter.payload.len(), length + 1);
        let error = letter.headers.iter().find(|it| it.0 == "tidewire-error");
        let error = &error.expect("an error").1;
        assert!(error.contains("10 MessageSizeTooLarge"), "{error}");
    }
    let mut there = Reader::new(kafka, "small", 1);
    let mut came: Vec<String> = fitting.iter().map(|_| there.payload()).collect();
    let mut fitting = fitting;
    fitting.sort_unstable();
    came.sort_unstable();
    assert_eq!(came, fitting);
    assert_eq!(there.poll(Duration::from_millis(300)), None);
}

pub(super) fn users_are_let_in_refused_and_kept_from_topics_in_the_servers_words(kafka: &Kafka) {
    kafka.create_topic("secure", 1, &[]);
    let config = |user: &str, password: &str, mechanism: &str| {
        let lines = format!(
            "user_name = \"{user}\"\npassword = \"{password}\"\n[bridges.kafka]\n\
             sasl_mechanism = \"{mechanism}\"\n[[bridges.out]]\n\
             filters = [\"t\"]\ntopic = \"secure\""
        );
        bridge(kafka.sasl_port, &lines)
    };
    let mut there = Reader::new(kafka, "secure", 1);
    for (user, mechanism) in [
        ("plain", "plain"),
        ("mighty", "scram-sha-256"),
        ("mighty", "scram-sha-512"),
    ] {
        let ours = Broker::tidewire(free_port(), &config(user, "secret", mechanism));
        wait_until_up(&ours);
        Client::connect(&ours, "sender").publish("t", mechanism, Q1);
        assert_eq!(there.payload(), mechanism);
    }
    let refusals = [
        (config("plain", "wrong", "plain"), "Authentication"),
        (config("scram", "wrong", "scram-sha-512"), "Authentication"),
        (
            config("scram", "secret", "scram-sha-512"),
            "29 TopicAuthorizationFailed",
        ),
    ];
    for (config, words) in refusals {
        let ours = Broker::tidewire(free_port(), &config);
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe(STATE);
        let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
        assert!(said.contains(words), "{said}\nnot: {words}");
    }
}

/// A bridge to a port with TLS.
fn encrypted(port: u16, lines: &str) -> String {
    bridge(port, lines).replace("kafka://127.0.0.1", "kafkas://localhost")
}

pub(super) fn tls_trusts_the_authority_that_is_given_and_no_other(kafka: &Kafka) {
    kafka.create_topic("encrypted", 1, &[]);
    let lines = "connect_timeout_ms = 3000\n[[bridges.out]]\nfilters = [\"t\"]\n\
         topic = \"encrypted\"";
    let config = encrypted(kafka.tls_port, lines);
    let trusting = |file: &str| {
        let ca = format!("ca = \"{}\"\nconnect", kafka.file(file).display());
        Broker::tidewire(free_port(), &config.replace("connect", &ca))
    };
    let ours = trusting("ca.crt");
    wait_until_up(&ours);
    Client::connect(&ours, "sender").publish("t", "hidden", Q1);
    assert_eq!(Reader::new(kafka, "encrypted", 1).payload(), "hidden");
    let ours = trusting("client.crt");
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains("certificate verify failed"), "{said}");
}

pub(super) fn a_server_that_wants_a_certificate_gets_ours(kafka: &Kafka) {
    kafka.create_topic("mutual", 1, &[]);
    let config = |keys: &str| {
        let lines = format!(
            "connect_timeout_ms = 3000\n{keys}\n[[bridges.out]]\n\
             filters = [\"t\"]\ntopic = \"mutual\""
        );
        encrypted(kafka.mutual_port, &lines)
    };
    let ours = Broker::tidewire(free_port(), &config(&showing(&kafka.file(""), "client")));
    wait_until_up(&ours);
    Client::connect(&ours, "sender").publish("t", "by certificate", Q1);
    assert_eq!(Reader::new(kafka, "mutual", 1).payload(), "by certificate");
    let trusting = format!("ca = \"{}\"", kafka.file("ca.crt").display());
    let ours = Broker::tidewire(free_port(), &config(&trusting));
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains("certificate"), "{said}");
}

pub(super) fn a_certificate_that_has_expired_ends_the_connection(kafka: &Kafka) {
    // Neither OpenSSL nor Java says why a certificate is none.
    for (port, name, words) in [
        (kafka.expired_port, "client", "certificate verify failed"),
        (
            kafka.mutual_port,
            "expired-client",
            "alert certificate unknown",
        ),
    ] {
        let pair = showing(&kafka.file(""), name);
        let lines =
            format!("connect_timeout_ms = 3000\n{pair}\n[[bridges.out]]\nfilters = [\"t\"]");
        expect_down(&encrypted(port, &lines), words);
    }
}

pub(super) fn nothing_is_lost_or_repeated_while_the_server_is_killed_and_started_again(
    kafka: &mut Kafka,
) {
    kafka.create_topic("killed", 1, &[]);
    let lines = "[[bridges.out]]\nfilters = [\"t/#\"]\ntopic = \"killed\"";
    let ours = Broker::tidewire(free_port(), &bridge(kafka.port, lines));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let mut sender = Client::connect(&ours, "sender");
    let all = numbers(3_000);
    sender.publish_all("t/1", &all[..1_000], Q1);
    kafka.kill();
    sender.publish_all("t/1", &all[1_000..2_000], Q2);
    let said = watcher.wait_for(STATE, "AllBrokersDown").payload;
    assert!(said.contains("\"state\":\"degraded\""), "{said}");
    kafka.start_again();
    sender.publish_all("t/1", &all[2_000..], Q1);
    watcher.wait_for(STATE, "\"state\":\"up\"");
    let mut there = Reader::new(kafka, "killed", 1);
    let came: Vec<String> = all.iter().map(|_| there.payload()).collect();
    assert_eq!(came, all);
    // The producer lived on, so that the server knew what it had already.
    assert_eq!(there.poll(Duration::from_millis(500)), None);
}
