//! Two nodes of ours.

use tidewire_protocol::codec::{ProtocolVersion, PublishProperties, UserProperties};

use crate::client::{Client, Q0, Q1, Q2};
use crate::process::{Broker, free_port};

/// A bridge of quick restarts to a port, with these lines besides.
pub(crate) fn bridge(port: u16, lines: &str) -> String {
    format!(
        "[[bridges]]\nname = \"up\"\nservers = [\"mqtt://127.0.0.1:{port}\"]\n\
         restart_base_ms = 100\nrestart_max_ms = 300\n{lines}\n"
    )
}

/// A number in the state of a bridge.
pub(crate) fn number_of(state: &str, name: &str) -> u64 {
    let (_, rest) = state
        .split_once(&format!("\"{name}\":"))
        .expect("a counter");
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next();
    digits.and_then(|it| it.parse().ok()).expect("a number")
}

/// Waits until the bridge of a node is up.
pub(crate) fn wait_until_up(broker: &Broker) {
    let mut client = Client::connect(broker, "watcher");
    client.subscribe("$SYS/bridges/up/state");
    client.wait_for("$SYS/bridges/up/state", "\"state\":\"up\"");
    // CONNACK is here; the answer to SUBSCRIBE is on its way.
    std::thread::sleep(std::time::Duration::from_millis(100));
}

const BOTH: &str = "[[bridges.both]]\nfilters = [\"#\"]";

#[test]
fn messages_of_every_qos_cross_in_both_directions_with_their_properties() {
    let central = Broker::tidewire(free_port(), "");
    let edge = Broker::tidewire(free_port(), &bridge(central.port, BOTH));
    wait_until_up(&edge);
    for (from, to) in [(&edge, &central), (&central, &edge)] {
        let mut receiver = Client::connect(to, "receiver");
        receiver.subscribe("t/#");
        let mut sender = Client::connect(from, "sender");
        for (qos, text) in [(Q0, "zero"), (Q1, "one"), (Q2, "two")] {
            let pairs = [("a", "b"), ("a", "c")];
            let properties = PublishProperties {
                content_type: Some("text/plain"),
                message_expiry_seconds: Some(60),
                user_properties: UserProperties::from_pairs(&pairs),
                ..PublishProperties::default()
            };
            sender.publish_with(&format!("t/{text}"), text, qos, false, &properties);
            let message = receiver.expect(&format!("t/{text}"), text);
            assert_eq!(message.qos, qos);
            assert_eq!(message.content_type.as_deref(), Some("text/plain"));
            let own = message.headers.iter().filter(|(name, _)| name == "a");
            assert_eq!(
                own.map(|(_, value)| &**value).collect::<Vec<_>>(),
                ["b", "c"]
            );
        }
        receiver.expect_silence();
    }
}

#[test]
fn messages_carry_who_published_them_whatever_they_say_themselves() {
    let central = Broker::tidewire(free_port(), "");
    let rules = "[[bridges.out]]\nfilters = [\"+\"]\ntopic = \"by/{client_id}/{1}\"";
    let edge = Broker::tidewire(free_port(), &bridge(central.port, rules));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("by/#");
    let mut beside = Client::connect(&edge, "beside");
    beside.subscribe("t");
    let pairs = [("tidewire-client-id", "somebody else"), ("a", "b")];
    let properties = PublishProperties {
        user_properties: UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    Client::connect(&edge, "meter-7").publish_with("t", "new", Q1, false, &properties);
    let v3 = ProtocolVersion::V3_1_1;
    Client::connect_as(edge.port, "meter-8", v3).publish("t", "old", Q0);
    for (name, text) in [("meter-7", "new"), ("meter-8", "old")] {
        above.expect(&format!("by/{name}/t"), text);
        let headers = beside.expect("t", text).headers;
        let named = headers
            .iter()
            .filter(|(key, _)| key == "tidewire-client-id");
        assert_eq!(named.map(|(_, it)| &**it).collect::<Vec<_>>(), [name]);
    }
}

#[test]
fn rules_exchange_prefixes_leave_out_what_is_excluded_and_lower_the_qos() {
    let central = Broker::tidewire(free_port(), "");
    let rules = r#"
        [[bridges.out]]
        filters = ["sensors/#"]
        exclude = ["sensors/debug/#"]
        local_prefix = "here/"
        remote_prefix = "plant/"
        qos_max = 1
        [[bridges.out]]
        filters = [""]
        local_prefix = "one"
        remote_prefix = "other/one"
        [[bridges.in]]
        filters = ["commands/+"]
        remote_prefix = "plant/"
    "#;
    let edge = Broker::tidewire(free_port(), &bridge(central.port, rules));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("#");
    let mut below = Client::connect(&edge, "below");
    below.subscribe("commands/#");
    below.publish("here/sensors/debug/x", "no", Q2);
    below.publish("sensors/x", "no", Q2);
    below.publish("here/sensors/x", "yes", Q2);
    below.publish("one", "remapped", Q2);
    assert_eq!(above.expect("plant/sensors/x", "yes").qos, Q1);
    assert_eq!(above.expect("other/one", "remapped").qos, Q2);
    above.publish("commands/x", "no", Q1);
    above.publish("plant/commands/x/y", "no", Q1);
    above.publish("plant/commands/x", "go", Q1);
    below.expect("commands/x", "go");
    below.expect_silence();
}

#[test]
fn retained_messages_and_their_deletion_cross_and_nothing_echoes_after_a_reconnect() {
    let port = free_port();
    let central = Broker::tidewire(port, "");
    let edge = Broker::tidewire(free_port(), &bridge(port, BOTH));
    wait_until_up(&edge);
    let mut below = Client::connect(&edge, "below");
    let mut above = Client::connect(&central, "above");
    above.subscribe("r/#");
    below.retain("r/kept", "1");
    below.retain("r/gone", "1");
    below.retain("r/gone", "");
    assert!(above.expect("r/kept", "1").retain);
    above.expect("r/gone", "1");
    above.expect("r/gone", "");
    let mut late = Client::connect(&central, "late");
    late.subscribe("r/#").expect("r/kept", "1");
    late.expect_silence();
    below.subscribe("r/#").expect("r/kept", "1");
    drop((above, late));
    central.kill();
    let central = Broker::tidewire(port, "");
    Client::connect(&central, "above").retain("r/new", "2");
    below.expect("r/new", "2");
    below.expect_silence();
}

#[test]
fn the_state_says_why_a_bridge_is_down_and_when_it_is_up() {
    let port = free_port();
    let edge = Broker::tidewire(free_port(), &bridge(port, BOTH));
    let topic = "$SYS/bridges/up/state";
    let mut watcher = Client::connect(&edge, "watcher");
    watcher.subscribe(topic);
    let down = watcher.wait_for(topic, "\"state\":\"down\"");
    assert!(down.payload.contains("refused"), "{}", down.payload);
    let central = Broker::tidewire(port, "");
    watcher.wait_for(topic, "\"state\":\"up\"");
    central.stop();
    watcher.wait_for(topic, "\"state\":\"down\"");
}

#[test]
fn a_bridge_says_at_the_other_broker_whether_it_is_up() {
    let central = Broker::tidewire(free_port(), "");
    let rules = format!("notify_topic = \"edges/1\"\n{BOTH}");
    let mut above = Client::connect(&central, "above");
    above.subscribe("edges/1");
    let edge = Broker::tidewire(free_port(), &bridge(central.port, &rules));
    above.expect("edges/1", "1");
    edge.kill();
    above.expect("edges/1", "0");
    let edge = Broker::tidewire(free_port(), &bridge(central.port, &rules));
    above.expect("edges/1", "1");
    edge.stop();
    above.expect("edges/1", "0");
}

#[test]
fn a_bridge_with_tls_checks_the_server_and_shows_its_certificate_and_password() {
    let directory = crate::process::directory();
    let out = directory.display().to_string();
    tidewire::cli::certs::write_development_certificates(&directory, &["localhost".to_owned()])
        .expect("certificates");
    std::fs::write(directory.join("password"), "secret\n").expect("written");
    let (plain, tls) = (free_port(), free_port());
    let central = Broker::tidewire(
        plain,
        &format!(
            "[[listeners]]\nbind = \"127.0.0.1:{plain}\"\n\
             [[listeners]]\nbind = \"127.0.0.1:{tls}\"\ntransport = \"wss\"\n\
             client_ca = \"{out}/ca.crt\"\nclient_certificates = \"required\"\n\
             [[listeners.certificates]]\ncertificate = \"{out}/server.crt\"\n\
             key = \"{out}/server.key\"\n"
        ),
    );
    let lines = |ca: &str| {
        format!(
            "[[bridges]]\nname = \"up\"\nservers = [\"wss://localhost:{tls}/mqtt\"]\n\
             restart_base_ms = 100\nrestart_max_ms = 300\nca = \"{ca}\"\n\
             certificate = \"{out}/client.crt\"\nkey = \"{out}/client.key\"\n\
             user_name = \"edge\"\npassword_file = \"{out}/password\"\n{BOTH}\n"
        )
    };
    let edge = Broker::tidewire(free_port(), &lines(&format!("{out}/ca.crt")));
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t");
    Client::connect(&edge, "below").publish("t", "sealed", Q1);
    above.expect("t", "sealed");

    // The client's certificate is no authority: the server cannot be verified.
    let wary = Broker::tidewire(free_port(), &lines(&format!("{out}/client.crt")));
    let topic = "$SYS/bridges/up/state";
    let mut watcher = Client::connect(&wary, "watcher");
    watcher.subscribe(topic);
    let down = watcher.wait_for(topic, "\"state\":\"down\"").payload;
    assert!(down.contains("certificate"), "{down}");
    assert!(!down.contains("secret"), "{down}");
    let _ = std::fs::remove_dir_all(&directory);
}
