//! Three nodes: ring, chain and star, all with `#` in both directions.

use crate::client::{Client, Q0, Q1, Q2};
use crate::process::{Broker, free_port};

/// A node that opens a bridge to each of these ports.
fn node(port: u16, to: &[u16], max_hops: u16) -> Broker {
    let bridges = to.iter().map(|to| {
        format!(
            "[[bridges]]\nname = \"to-{to}\"\nservers = [\"mqtt://127.0.0.1:{to}\"]\n\
             client_id = \"from-{port}\"\nmax_hops = {max_hops}\nrestart_base_ms = 100\n\
             restart_max_ms = 200\n[[bridges.both]]\nfilters = [\"#\"]\n"
        )
    });
    Broker::tidewire(port, &bridges.collect::<String>())
}

fn wait_until_up(node: &Broker, to: u16) {
    let topic = format!("$SYS/bridges/to-{to}/state");
    let mut watcher = Client::connect(node, &format!("watcher-{to}"));
    watcher
        .subscribe(&topic)
        .wait_for(&topic, "\"state\":\"up\"");
}

/// What each node publishes is seen once at every node.
fn everyone_gets_everything_once(nodes: &[&Broker]) {
    let mut clients: Vec<Client> = nodes
        .iter()
        .map(|node| Client::connect(node, "client"))
        .collect();
    for client in &mut clients {
        client.subscribe("t/#");
    }
    for sender in 0..clients.len() {
        for (qos, retain) in [(Q0, false), (Q1, false), (Q2, false), (Q1, true)] {
            let topic = format!("t/{sender}/{retain}");
            let payload = format!("{qos:?}");
            if retain {
                clients[sender].retain(&topic, &payload);
            } else {
                clients[sender].publish(&topic, &payload, qos);
            }
            for client in &mut clients {
                client.expect(&topic, &payload);
            }
        }
    }
    for client in &mut clients {
        client.expect_silence();
    }
    for node in nodes {
        let mut late = Client::connect(node, "late");
        late.subscribe("t/#");
        let mut topics: Vec<String> = (0..nodes.len()).map(|_| late.next().topic).collect();
        topics.sort();
        let expected: Vec<String> = (0..nodes.len()).map(|it| format!("t/{it}/true")).collect();
        assert_eq!(topics, expected);
        late.expect_silence();
    }
}

#[test]
fn in_a_ring_each_message_reaches_each_node_once() {
    let ports = [free_port(), free_port(), free_port()];
    let a = node(ports[0], &[ports[1]], 1);
    let b = node(ports[1], &[ports[2]], 1);
    let c = node(ports[2], &[ports[0]], 1);
    wait_until_up(&a, ports[1]);
    wait_until_up(&b, ports[2]);
    wait_until_up(&c, ports[0]);
    everyone_gets_everything_once(&[&a, &b, &c]);
}

#[test]
fn in_a_chain_messages_cross_as_many_bridges_as_they_may() {
    let ports = [free_port(), free_port(), free_port()];
    let a = node(ports[0], &[ports[1]], 2);
    let b = node(ports[1], &[ports[2]], 2);
    let c = node(ports[2], &[], 2);
    wait_until_up(&a, ports[1]);
    wait_until_up(&b, ports[2]);
    everyone_gets_everything_once(&[&a, &b, &c]);
}

#[test]
fn in_a_star_the_hub_passes_on_between_its_edges() {
    let ports = [free_port(), free_port(), free_port()];
    let hub = node(ports[0], &[], 2);
    let a = node(ports[1], &[ports[0]], 2);
    let b = node(ports[2], &[ports[0]], 2);
    wait_until_up(&a, ports[0]);
    wait_until_up(&b, ports[0]);
    everyone_gets_everything_once(&[&hub, &a, &b]);
}

#[test]
fn a_ring_with_hops_to_spare_ends_every_message() {
    let ports = [free_port(), free_port(), free_port()];
    let a = node(ports[0], &[ports[1]], 16);
    let b = node(ports[1], &[ports[2]], 16);
    let c = node(ports[2], &[ports[0]], 16);
    wait_until_up(&a, ports[1]);
    wait_until_up(&b, ports[2]);
    wait_until_up(&c, ports[0]);
    let mut client = Client::connect(&a, "client");
    client.subscribe("t");
    client.publish("t", "x", Q1);
    // It comes back by neither way, since this node is on its path.
    client.expect("t", "x");
    client.expect_silence();
}
