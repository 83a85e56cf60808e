//! A node of ours and Apache ActiveMQ Classic, from its jars.

use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use fe2o3_amqp::sasl_profile::SaslProfile;
use tidewire::clock::Clock;

use super::bridge;
use super::party::Party;
use crate::client::{Client, Q1};
use crate::faults::{first_seen, numbers};
use crate::federation::wait_until_up;
use crate::java::{Java, START_MS, java};
use crate::mirror::{self, Mirror};
use crate::process::{Broker, directory, free_port};

const ACTIVEMQ: &str = "[bridges.amqp10]\ndialect = \"activemq\"";

#[test]
#[ignore = "needs Apache ActiveMQ Classic, which tests/run fetches"]
fn a_bridge_and_a_real_activemq_classic_exchange_what_the_guide_promises() {
    let mut server = ActiveMq::start();
    everything_comes_out_at_another_node_as_it_was(&server);
    queues_keep_what_is_sent_in_its_order(&server);
    nothing_is_lost_while_the_server_is_killed(&mut server);
}

fn everything_comes_out_at_another_node_as_it_was(server: &ActiveMq) {
    let ours = format!("{ACTIVEMQ}\n{}", mirror::OUT);
    let own = "address = \"mirror.>\"\nsource = \"topic\"";
    let theirs = format!("{ACTIVEMQ}\n{own}\n{}", mirror::BACK);
    let [ours, theirs] = [ours, theirs].map(|lines| bridge(server.port, &lines));
    Mirror::new(&ours, &theirs).shows_everything();
}

fn queues_keep_what_is_sent_in_its_order(server: &ActiveMq) {
    let lines = format!(
        "{ACTIVEMQ}\ntarget = \"queue\"\n[[bridges.out]]\nfilters = [\"q/+\"]\n\
         topic = \"kept/{{2|upper}}\""
    );
    let ours = Broker::tidewire(free_port(), &bridge(server.port, &lines));
    wait_until_up(&ours);
    let all = numbers(100);
    Client::connect(&ours, "sender").publish_all("q/a", &all, Q1);
    let mut there = Party::connect(server.port, &SaslProfile::Anonymous);
    let mut reader = there.reader("queue://kept.A", "queue");
    let came: Vec<String> = all.iter().map(|_| reader.payload()).collect();
    assert_eq!(came, all);
}

fn nothing_is_lost_while_the_server_is_killed(server: &mut ActiveMq) {
    let lines = format!(
        "inflight_max = 20\n{ACTIVEMQ}\ntarget = \"queue\"\n[[bridges.out]]\n\
         filters = [\"t/#\"]\ntopic = \"ledger\""
    );
    let ours = Broker::tidewire(free_port(), &bridge(server.port, &lines));
    wait_until_up(&ours);
    let mut sender = Client::connect(&ours, "sender");
    // It flushes each message to disk.
    let all = numbers(300);
    sender.publish_all("t/1", &all[..150], Q1);
    server.kill_and_start();
    sender.publish_all("t/1", &all[150..], Q1);
    let mut there = Party::connect(server.port, &SaslProfile::Anonymous);
    let mut reader = there.reader("queue://ledger", "queue");
    assert_eq!(first_seen(all.len(), || reader.payload()), all);
}

/// A running ActiveMQ, where everybody may do everything; ended when dropped.
struct ActiveMq {
    server: Java,
    port: u16,
}

impl ActiveMq {
    fn start() -> Self {
        let (directory, port) = (directory(), free_port());
        std::fs::write(directory.join(PORT), port.to_string()).expect("written");
        let mut started = Self {
            server: Java::start(directory, spawn),
            port,
        };
        started.wait_until_open();
        started
    }

    fn kill_and_start(&mut self) {
        self.server.kill();
        self.server.start_again();
        self.wait_until_open();
    }

    fn wait_until_open(&mut self) {
        let clock = Clock::start();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let has_failed = clock.now_ms() >= START_MS || self.server.has_ended();
            assert!(!has_failed, "no ActiveMQ: {}", self.server.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn spawn(directory: &Path) -> Child {
    let libs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/activemq/libs");
    assert!(libs.is_dir(), "ActiveMQ, which tests/run fetches");
    let port = std::fs::read_to_string(directory.join(PORT)).expect("read");
    let data = directory.join("data");
    let broker = format!(
        "broker:(amqp://127.0.0.1:{port})?brokerName=b&persistent=true&useJmx=false&\
         dataDirectory={}",
        data.display()
    );
    java(directory)
        .arg(format!("-Dactivemq.home={}", directory.display()))
        .arg(format!("-Dactivemq.base={}", directory.display()))
        .args(["-cp", &format!("{}/*", libs.display())])
        .args(["org.apache.activemq.console.Main", "start", &broker])
        .spawn()
        .expect("java, which tests/run installs")
}

const PORT: &str = "port";
