//! Messages of several publishers, each sent when the one before was acknowledged.

use crate::program::{Directory, Program};

/// More than wait in memory, and more than are read back at once.
const COUNT: usize = 150;

/// Publishers on all shards take turns.
fn publish_in_turn(broker: &Program, qos: u8) -> Vec<String> {
    let mut publishers: Vec<_> = (0..6)
        .map(|number| broker.passing(&format!("publisher-{number}")))
        .collect();
    let texts: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    for (number, text) in texts.iter().enumerate() {
        // Neighbours in time are seldom neighbours in number.
        let at = number * 5 % publishers.len();
        publishers[at].publish(&format!("t/{at}"), qos, text);
    }
    texts
}

#[test]
fn what_was_acknowledged_before_the_next_was_sent_is_received_in_that_order() {
    let directory = Directory::new();
    let lines = "[store]\ncommit_interval_milliseconds = 0\n";
    let mut broker = Program::start_with(&directory, lines);
    for qos in [1, 2] {
        for is_killed in [false, true] {
            broker.leave_subscribed("reader", "t/#", qos);
            let expected = publish_in_turn(&broker, qos);
            if is_killed {
                broker = broker.restart_with(&directory, lines);
            }
            let mut reader = broker.resume("reader");
            let got = reader.take(COUNT);
            assert_eq!(got, expected, "QoS {qos}, killed: {is_killed}");
            reader.settled();
        }
    }
}
