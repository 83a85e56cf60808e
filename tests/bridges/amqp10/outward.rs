//! From here to Artemis.

use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::types::messaging::{MessageId, Priority};
use fe2o3_amqp::types::primitives::SimpleValue;
use tidewire_protocol::codec::{PublishProperties, UserProperties};

use super::artemis::Artemis;
use super::party::{Party, text};
use super::{STATE, bridge};
use crate::certificates::{self, OURS_REFUSED, THEIRS_EXPIRED, expect_down};
use crate::client::{Client, Q0, Q1, Q2};
use crate::federation::{number_of, wait_until_up};
use crate::process::{Broker, free_port};

pub(super) fn every_qos_reaches_its_address_with_its_properties(artemis: &Artemis) {
    let mut there = artemis.party();
    let mut reader = there.reader("t.x/y", "topic");
    let lines = "[bridges.amqp10]\ndialect = \"artemis\"\npriority = 7\n\
         [[bridges.out]]\nfilters = [\"t/#\"]";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let pairs = [("a", "b"), ("a", "c"), ("d", "e")];
    for (qos, payload, correlation) in [
        (Q0, "zero", &b"id-1"[..]),
        (Q1, "one", b"\xff\0"),
        (Q2, "two", b"id-1"),
    ] {
        let properties = PublishProperties {
            content_type: Some("text/plain"),
            response_topic: Some("answers/1"),
            correlation_data: Some(correlation),
            message_expiry_seconds: Some(60),
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        sender.publish_with("t/x.y", payload, qos, false, &properties);
        let got = reader.next();
        assert_eq!(text(&got), payload);
        let header = got.header.expect("a header");
        assert_eq!(header.durable, qos != Q0);
        assert_eq!(header.priority, Priority(7));
        assert!((30_000..=60_000).contains(&header.ttl.expect("a ttl")));
        let has = got.properties.expect("properties");
        assert!(matches!(has.message_id, Some(MessageId::String(_))));
        assert_eq!(has.to.as_deref(), Some("t.x/y"));
        assert_eq!(has.content_type.expect("a type").as_str(), "text/plain");
        assert_eq!(has.reply_to.as_deref(), Some("answers/1"));
        let id = match qos {
            Q1 => MessageId::Binary(correlation.to_vec().into()),
            _ => MessageId::String("id-1".into()),
        };
        assert_eq!(has.correlation_id, Some(id));
        let named = got.application_properties.expect("properties").0;
        let value = |name: &str| named.get(name).cloned();
        let text = |text: &str| Some(SimpleValue::String(text.into()));
        assert_eq!(value("a"), text("b"));
        assert_eq!(value("a#2"), text("c"));
        assert_eq!(value("d"), text("e"));
        assert!(value("tidewire-path").is_some(), "{named:?}");
    }
}

pub(super) fn a_queue_keeps_what_is_sent_and_a_template_names_it(artemis: &Artemis) {
    let lines = "[bridges.amqp10]\ndialect = \"artemis\"\ntarget = \"queue\"\n\
         [[bridges.out]]\nfilters = [\"q/+/#\"]\ntopic = \"kept/{2|upper}\"";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    for number in 0..300 {
        let topic = ["q/a/1", "q/b/2"][number % 2];
        sender.publish(topic, &number.to_string(), Q1);
    }
    let mut there = artemis.party();
    for (address, first) in [("kept.A", 0), ("kept.B", 1)] {
        let mut reader = there.reader(address, "queue");
        for number in (first..300).step_by(2) {
            assert_eq!(reader.payload(), number.to_string());
        }
    }
}

pub(super) fn a_plain_dialect_has_a_link_for_each_address_and_few_at_a_time(artemis: &Artemis) {
    let lines = "dead_letter = \"dead\"\n[bridges.amqp10]\nlinks_max = 3\n\
         [[bridges.out]]\nfilters = [\"links/+\", \"strict.x/+\"]";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut there = artemis.party();
    // The address of every subscription exists before anything is sent.
    for number in 0..10 {
        drop(there.reader(&format!("links/{number}"), "queue"));
    }
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    for round in 0..20 {
        for number in 0..10 {
            sender.publish(&format!("links/{number}"), &round.to_string(), Q1);
        }
        sender.publish("strict.x/1", &round.to_string(), Q1);
    }
    for number in 0..10 {
        let mut reader = there.reader(&format!("links/{number}"), "queue");
        for round in 0..20 {
            let came = reader.payload();
            // Twice is no fault if the connection was lost; the state that is shown says why.
            assert_eq!(came, round.to_string());
        }
    }
    for round in 0..20 {
        let letter = dead.expect("dead", &round.to_string());
        assert!(letter.error().contains("amqp:not-found"), "{letter:?}");
    }
}

pub(super) fn what_artemis_refuses_goes_to_the_dead_letter_topic_and_holds_up_nothing(
    artemis: &Artemis,
) {
    let lines = "dead_letter = \"dead\"\n[bridges.amqp10]\ndialect = \"artemis\"\n\
         target = \"queue\"\nmessage_bytes_max = 1000\n[[bridges.out]]\nfilters = [\"#\"]\n\
         exclude = [\"dead\"]";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    let mut sender = Client::connect(&ours, "sender");
    for number in 0..100 {
        sender.publish("strict/none", &number.to_string(), Q1);
        sender.publish("fine", &number.to_string(), Q1);
    }
    let mut there = artemis.party();
    let mut reader = there.reader("fine", "queue");
    for number in 0..100 {
        assert_eq!(reader.payload(), number.to_string());
        let letter = dead.expect("dead", &number.to_string());
        let error = letter.error();
        assert!(error.contains("strict.none does not exist"), "{error}");
    }
    sender.publish("fine", &"x".repeat(1_001), Q1);
    let error = dead.next().error();
    assert!(
        error.contains("1001 bytes: at most message_bytes_max = 1000"),
        "{error}"
    );
    let properties = PublishProperties {
        content_type: Some("käse"),
        ..PublishProperties::default()
    };
    sender.publish_with("fine", "", Q1, false, &properties);
    let error = dead.next().error();
    assert!(error.contains("ASCII"), "{error}");
}

pub(super) fn a_full_address_is_tried_again_until_there_is_room(artemis: &Artemis) {
    let lines = "dead_letter = \"dead\"\n[bridges.amqp10]\ndialect = \"artemis\"\n\
         target = \"queue\"\n[[bridges.out]]\nfilters = [\"full/#\"]";
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    let sent: Vec<String> = (0..100).map(|it| it.to_string()).collect();
    sender.publish_all("full/q", &sent, Q1);
    // Artemis has room for ten.
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let retried = |state: &str| number_of(state, "retried") > 0;
    while !retried(&watcher.wait_for(STATE, "\"retried\":").payload) {}
    let mut there = artemis.party();
    let mut reader = there.reader("full.q", "queue");
    let mut came: Vec<String> = sent.iter().map(|_| reader.payload()).collect();
    // What is refused comes after what followed it.
    came.sort_by_key(|it| it.parse::<u32>().expect("a number"));
    assert_eq!(came, sent);
}

pub(super) fn users_are_let_in_refused_and_kept_from_addresses_in_the_servers_words(
    artemis: &Artemis,
) {
    let config = |user: &str, password: &str, lines: &str| {
        let lines = format!(
            "dead_letter = \"dead\"\nuser_name = \"{user}\"\npassword = \"{password}\"\n\
             [bridges.amqp10]\ndialect = \"artemis\"\ntarget = \"queue\"\n{lines}\n\
             [[bridges.out]]\nfilters = [\"secure\"]"
        );
        bridge(artemis.port, &lines)
    };
    let ours = Broker::tidewire(free_port(), &config("plain", "secret", ""));
    wait_until_up(&ours);
    Client::connect(&ours, "sender").publish("secure", "let in", Q1);
    let mut there = artemis.party();
    assert_eq!(there.reader("secure", "queue").payload(), "let in");
    let ours = Broker::tidewire(free_port(), &config("nobody", "secret", ""));
    wait_until_up(&ours);
    let mut dead = Client::connect(&ours, "dead");
    dead.subscribe("dead");
    Client::connect(&ours, "sender").publish("secure", "kept out", Q1);
    let error = dead.expect("dead", "kept out").error();
    assert!(error.contains("amqp:unauthorized-access"), "{error}");
    assert!(error.contains("permission='SEND'"), "{error}");
    let receiving = "address = \"secure\"\n[[bridges.in]]\nfilters = [\"secure\"]";
    for (config, words) in [
        (config("plain", "wrong", ""), "SASL auth"),
        (
            config("nobody", "secret", receiving),
            "permission='CONSUME'",
        ),
        (
            config(
                "plain",
                "secret",
                &receiving.replace("secure\"\n", "strict.none\"\n"),
            ),
            "amqp:not-found",
        ),
    ] {
        let ours = Broker::tidewire(free_port(), &config);
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe(STATE);
        let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
        assert!(said.contains(words), "{said}\nnot: {words}");
    }
}

pub(super) fn a_certificate_says_who_we_are_until_it_expires(artemis: &Artemis) {
    let config = |port, name: &str| {
        let shown = certificates::showing(&artemis.file(""), name);
        let lines = format!(
            "{shown}\n[bridges.amqp10]\ndialect = \"artemis\"\ntarget = \"queue\"\n\
             sasl_mechanism = \"external\"\n[[bridges.out]]\nfilters = [\"encrypted\"]"
        );
        bridge(port, &lines).replace("amqp://127.0.0.1", "amqps://localhost")
    };
    expect_down(&config(artemis.expired_port, "client"), THEIRS_EXPIRED);
    expect_down(&config(artemis.tls_port, "expired-client"), OURS_REFUSED);
    let config = config(artemis.tls_port, "client");
    let ours = Broker::tidewire(free_port(), &config);
    wait_until_up(&ours);
    Client::connect(&ours, "sender").publish("encrypted", "hidden", Q1);
    let mut there = artemis.party();
    assert_eq!(there.reader("encrypted", "queue").payload(), "hidden");
    let plain = config.replace("\"external\"", "\"anonymous\"");
    let ours = Broker::tidewire(free_port(), &plain);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(
        said.contains("the server takes EXTERNAL, not ANONYMOUS"),
        "{said}"
    );
}

impl Artemis {
    pub(super) fn party(&self) -> Party {
        Party::connect(self.port, &SaslProfile::Anonymous)
    }
}
