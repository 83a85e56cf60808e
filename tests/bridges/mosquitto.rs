//! A node of ours and mosquitto, each as the one that opens the bridge.

use tidewire_protocol::codec::ProtocolVersion;

use crate::certificates::{self, OURS_EXPIRED, THEIRS_EXPIRED, expect_down, showing};
use crate::client::{Client, Q0, Q1, Q2};
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, at_once, directory, free_port};
use crate::proxy::Proxy;

const BOTH: &str = "[[bridges.both]]\nfilters = [\"#\"]";

/// Publishes on each side and expects it on the other, once.
fn exchange(ours: &Broker, theirs: &Broker) {
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        let mut here = Client::connect(from, "here");
        let mut there = Client::connect_as(to.port, "there", ProtocolVersion::V5);
        here.subscribe("t/#");
        there.subscribe("t/#");
        for (qos, text) in [(Q0, "zero"), (Q1, "one"), (Q2, "two")] {
            here.publish("t/1", text, qos);
            assert_eq!(here.expect("t/1", text).qos, qos);
            assert_eq!(there.expect("t/1", text).qos, qos);
        }
        here.expect_silence();
        there.expect_silence();
        here.retain("t/kept", "kept");
        assert!(there.expect("t/kept", "kept").retain);
        let mut late = Client::connect(to, "late");
        assert!(late.subscribe("t/kept").expect("t/kept", "kept").retain);
        here.expect("t/kept", "kept");
        here.retain("t/kept", "");
        there.expect("t/kept", "");
        there.expect_silence();
    }
}

#[test]
fn our_bridge_exchanges_every_qos_and_retained_messages_with_mosquitto_in_every_version() {
    at_once(["auto", "5.0", "3.1.1", "3.1"], |version| {
        let theirs = Broker::mosquitto(free_port(), "");
        let rules = format!("client_id = \"edge\"\nprotocol = \"{version}\"\n{BOTH}");
        let ours = Broker::tidewire(free_port(), &bridge(theirs.port, &rules));
        wait_until_up(&ours);
        exchange(&ours, &theirs);
    });
}

#[test]
fn mosquittos_bridge_exchanges_every_qos_and_retained_messages_with_us_in_every_version() {
    at_once(["mqttv50", "mqttv311", "mqttv31"], |version| {
        let ours = Broker::tidewire(free_port(), "");
        let mut watcher = Client::connect(&ours, "watcher");
        watcher.subscribe("up");
        let theirs = Broker::mosquitto(
            free_port(),
            &format!(
                "connection up\naddress 127.0.0.1:{}\ntopic # both 2\nremote_clientid up\n\
                 bridge_protocol_version {version}\nrestart_timeout 1\nnotification_topic up\n",
                ours.port
            ),
        );
        watcher.wait_for("up", "1");
        // It says so before it has subscribed.
        Client::connect(&ours, "prober").retain("probe", "1");
        Client::connect(&theirs, "prober")
            .subscribe("probe")
            .expect("probe", "1");
        exchange(&ours, &theirs);
    });
}

#[test]
fn an_outage_of_mosquitto_loses_nothing() {
    let port = free_port();
    let directory = directory();
    let lines = format!(
        "persistence true\npersistence_location {}/\nautosave_on_changes true\n\
         autosave_interval 1\n",
        directory.display()
    );
    let theirs = Broker::mosquitto(port, &lines);
    let rules = "client_id = \"edge\"\n[[bridges.out]]\nfilters = [\"t/#\"]";
    let ours = Broker::tidewire(free_port(), &bridge(port, rules));
    wait_until_up(&ours);
    theirs.stop();
    let mut below = Client::connect(&ours, "below");
    let numbers: Vec<String> = (0..500).map(|it| it.to_string()).collect();
    for number in &numbers {
        below.retain(&format!("t/{number}"), number);
    }
    let theirs = Broker::mosquitto(port, &lines);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe("$SYS/bridges/up/state");
    watcher.wait_for("$SYS/bridges/up/state", "\"queue_messages\":0");
    let mut above = Client::connect(&theirs, "above");
    above.subscribe("t/#");
    let mut came = above.payloads(500);
    came.sort_by_key(|it| it.parse::<usize>().ok());
    assert_eq!(came, numbers);
    above.expect_silence();
    let _ = std::fs::remove_dir_all(&directory);
}

#[test]
fn a_refused_password_is_said_and_tried_again() {
    let directory = directory();
    let file = directory.join("users");
    let made = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(&file)
        .args(["edge", "right"])
        .status()
        .expect("mosquitto_passwd");
    assert!(made.success());
    let lines = format!("password_file {}\n", file.display());
    let theirs = Broker::mosquitto(free_port(), &lines);
    let secret = directory.join("secret");
    std::fs::write(&secret, "wrong").expect("written");
    let rules = format!(
        "user_name = \"edge\"\npassword_file = \"{}\"\n{BOTH}",
        secret.display()
    );
    let ours = Broker::tidewire(free_port(), &bridge(theirs.port, &rules));
    let topic = "$SYS/bridges/up/state";
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(topic);
    let down = watcher.wait_for(topic, "\"state\":\"down\"").payload;
    assert!(down.contains("NotAuthorized"), "{down}");
    std::fs::write(&secret, "right\n").expect("written");
    watcher.wait_for(topic, "\"state\":\"up\"");
    let _ = std::fs::remove_dir_all(&directory);
}

#[test]
fn a_reconnect_with_an_old_version_brings_no_retained_message_again() {
    let theirs = Broker::mosquitto(free_port(), "");
    Client::connect(&theirs, "there").retain("t/1", "kept");
    let proxy = Proxy::start(theirs.port);
    let rules = format!("protocol = \"3.1.1\"\nclient_id = \"edge\"\n{BOTH}");
    let ours = Broker::tidewire(free_port(), &bridge(proxy.port, &rules));
    wait_until_up(&ours);
    // Once one has it, it does not come to the other both as new and as retained.
    Client::connect(&ours, "early")
        .subscribe("t/1")
        .expect("t/1", "kept");
    let mut here = Client::connect(&ours, "here");
    here.subscribe("t/1").expect("t/1", "kept");
    let mut watcher = Client::connect(&ours, "watcher");
    let topic = "$SYS/bridges/up/state";
    watcher.subscribe(topic);
    // Until it is committed and acknowledged, the message itself may come again.
    here.expect_silence();
    proxy.reset();
    watcher.wait_for(topic, "\"connects\":2");
    here.expect_silence();
    Client::connect(&theirs, "there").publish("t/1", "more", Q1);
    here.expect("t/1", "more");
    here.expect_silence();
}

#[test]
fn a_certificate_that_has_expired_on_either_side_is_said_in_words() {
    let directory = directory();
    certificates::make(&directory);
    for (theirs, ours, words) in [
        ("server", "expired-client", OURS_EXPIRED),
        ("expired-server", "client", THEIRS_EXPIRED),
    ] {
        let file = |name: &str| directory.join(name).display().to_string();
        let theirs = Broker::mosquitto(
            free_port(),
            &format!(
                "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true",
                file("ca.crt"),
                file(&format!("{theirs}.crt")),
                file(&format!("{theirs}.key"))
            ),
        );
        let rules = format!("{}\n{BOTH}", showing(&directory, ours));
        let config = bridge(theirs.port, &rules).replace("mqtt://127.0.0.1", "mqtts://localhost");
        expect_down(&config, words);
    }
    let _ = std::fs::remove_dir_all(&directory);
}
