//! Three nodes of Kafka, of which one at a time goes away.

use std::path::Path;
use std::process::Child;

use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use tidewire::clock::Clock;

use super::admin::Admin;
use super::server::{format, java};
use crate::java::{Java, START_MS};
use crate::process::{directory, free_port};

/// A running cluster; every topic is on all of its nodes, two of which have to have what is
/// acknowledged.
pub(crate) struct Cluster {
    /// Node 1 is the first.
    nodes: Vec<Java>,
    pub(crate) admin: Admin,
    pub(crate) servers: Vec<String>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let ports = [(); 3].map(|()| free_port());
        let controllers = [(); 3].map(|()| free_port());
        let voters: Vec<String> = (1..=3)
            .zip(controllers)
            .map(|(node, port)| format!("{node}@127.0.0.1:{port}"))
            .collect();
        let nodes = (1..=3).zip(ports).zip(controllers);
        let nodes: Vec<Java> = nodes
            .map(|((node, port), controller)| {
                let directory = directory();
                let text = PROPERTIES
                    .replace("NODE", &format!("{node}"))
                    .replace("VOTERS", &voters.join(","))
                    .replace("CONTROLLER_PORT", &controller.to_string())
                    .replace("PORT", &port.to_string());
                format(&directory, &text, &[]);
                Java::start(directory, spawn)
            })
            .collect();
        let servers = ports.map(|port| format!("127.0.0.1:{port}")).to_vec();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", servers.join(","));
        let cluster = Self {
            nodes,
            admin: Admin::new(config, ports[0]),
            servers,
        };
        cluster.admin.wait_until_ready(|| cluster.nodes[0].output());
        cluster.wait_for("three brokers", |it| it.admin.brokers() == 3);
        cluster
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(3));
        self.admin.create_topic(&topic);
        self.wait_until_in_sync(name);
    }

    /// kill -9 of the node that leads the first partition; answers which one it was.
    pub(crate) fn kill_leader(&mut self, topic: &str) -> i32 {
        let leader = self.leader(topic);
        self.node(leader).kill();
        leader
    }

    /// SIGTERM of the node that leads the first partition, which hands its partitions over.
    pub(crate) fn stop_leader(&mut self, topic: &str) -> i32 {
        let leader = self.leader(topic);
        self.node(leader).stop();
        leader
    }

    pub(crate) fn start_again(&mut self, node: i32) {
        self.node(node).start_again();
    }

    /// Another node leads the first partition.
    pub(crate) fn wait_until_moved(&self, topic: &str, from: i32) {
        let is_moved = |it: &Self| it.admin.leader(topic, 0).is_some_and(|now| now != from);
        self.wait_for("another leader", is_moved);
    }

    pub(crate) fn wait_until_in_sync(&self, topic: &str) {
        self.wait_for("three replicas", |it| it.admin.in_sync(topic) == 3);
    }

    /// The node that leads the first partition.
    pub(crate) fn leader(&self, topic: &str) -> i32 {
        self.admin.leader(topic, 0).expect("a leader")
    }

    fn node(&mut self, id: i32) -> &mut Java {
        let index = usize::try_from(id - 1).expect("an id");
        &mut self.nodes[index]
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let clock = Clock::start();
        while !is_so(self) {
            let output = || self.nodes.iter().map(Java::output).collect::<String>();
            assert!(clock.now_ms() < START_MS, "no {what}: {}", output());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

fn spawn(directory: &Path) -> Child {
    java(directory)
        .args(["-Xmx320m", "kafka.Kafka", "server.properties"])
        .spawn()
        .expect("java, which tests/run installs")
}

const PROPERTIES: &str = "
process.roles=broker,controller
node.id=NODE
controller.quorum.voters=VOTERS
listeners=PLAINTEXT://127.0.0.1:PORT,CONTROLLER://127.0.0.1:CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
replica.lag.time.max.ms=4000
";
