//! Links that go dead without a reset: nobody says that the other end is gone.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use crate::client::{Client, Q2};
use crate::durable::wait_for_state;
use crate::faults::numbers;
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};

/// A network namespace behind a pair of interfaces; gone when dropped.
struct Namespace {
    name: String,
    ours: String,
    theirs: String,
}

impl Namespace {
    /// What the system says if there cannot be one.
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let name = format!("tidewire-{id}");
        let subnet = format!("10.199.{}", id % 250);
        ip(&["netns", "add", &name])?;
        let this = Self {
            ours: format!("{subnet}.1"),
            theirs: format!("{subnet}.2"),
            name,
        };
        let name = &*this.name;
        let (near, far) = (format!("tw{id}"), "eth0");
        ip(&[
            "link", "add", &near, "type", "veth", "peer", "name", far, "netns", name,
        ])?;
        ip(&["address", "add", &format!("{}/30", this.ours), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        ip(&[
            "-n",
            name,
            "address",
            "add",
            &format!("{}/30", this.theirs),
            "dev",
            far,
        ])?;
        ip(&["-n", name, "link", "set", far, "up"])?;
        Ok(this)
    }

    /// What is sent from there disappears.
    fn cut(&self) {
        ip(&["-n", &self.name, "route", "add", "blackhole", &self.ours]).expect("cut");
    }

    fn heal(&self) {
        ip(&["-n", &self.name, "route", "del", "blackhole", &self.ours]).expect("healed");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its interfaces go with it.
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {said}", arguments.join(" ")))
}

#[test]
fn a_link_that_dies_without_a_reset_is_noticed_busy_or_idle_and_qos_2_crosses_once() {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => {
            // Past the capture of the harness: nobody shall take this for a test that ran.
            let said = format!("\nNOT TESTED: a link that dies without a reset: {why}\n");
            std::io::stderr().write_all(said.as_bytes()).expect("said");
            return;
        }
    };
    let port = free_port();
    let central = Broker::tidewire_within(&namespace.name, &namespace.theirs, port);
    let lines = "keep_alive_seconds = 5\nconnect_timeout_ms = 2000\n\
                 tcp_user_timeout_ms = 2000\n[[bridges.out]]\nfilters = [\"t/#\"]";
    let config = bridge(port, lines).replace("127.0.0.1", &namespace.theirs);
    let edge = Broker::tidewire(free_port(), &config);
    wait_until_up(&edge);
    Client::resume(&central, "keeper").subscribe("t/#");
    let mut below = Client::connect(&edge, "below");
    below.publish_all("t/1", &numbers(100), Q2);
    namespace.cut();
    below.publish_all("t/1", &numbers(300)[100..], Q2);
    wait_for_state(&edge, "\"state\":\"down\"");
    namespace.heal();
    wait_for_state(&edge, "\"queue_messages\":0");
    wait_until_up(&edge);
    namespace.cut();
    wait_for_state(&edge, "\"state\":\"down\"");
    namespace.heal();
    wait_until_up(&edge);
    let mut keeper = Client::resume(&central, "keeper");
    assert_eq!(keeper.payloads(300), numbers(300));
    keeper.expect_silence();
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_left_and_the_next_one_is_tried() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("bound");
    let central = Broker::tidewire(free_port(), "");
    let lines = "connect_timeout_ms = 300\n[[bridges.out]]\nfilters = [\"t/#\"]";
    let port = mute.local_addr().expect("an address").port();
    let second = format!("127.0.0.1:{port}\", \"mqtt://127.0.0.1:{}", central.port);
    let first = format!("127.0.0.1:{port}");
    let config = bridge(port, lines).replace(&first, &second);
    let edge = Broker::tidewire(free_port(), &config);
    wait_for_state(&edge, "no answer within 300 ms");
    wait_until_up(&edge);
    let mut above = Client::connect(&central, "above");
    above.subscribe("t/#");
    Client::connect(&edge, "below").publish("t/1", "found", Q2);
    above.expect("t/1", "found");
}
