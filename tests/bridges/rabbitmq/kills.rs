//! kill -9 of either side: the ledger balances.

use std::collections::BTreeMap;

use lapin::BasicProperties;

use super::server::RabbitMq;
use super::{OUT, bridge};
use crate::client::{Client, Q1};
use crate::faults::numbers;
use crate::federation::wait_until_up;
use crate::kill::some_time;
use crate::process::{Broker, free_port};

/// What comes twice has the name it had before, by which a receiver knows it.
pub(super) fn nothing_is_lost_on_the_way_out_over_kills_of_either_side(rabbit: &mut RabbitMq) {
    const COUNT: usize = 5_000;
    let here = free_port();
    let config = format!("node = \"plant\"\n{}", bridge(rabbit.port, OUT));
    rabbit.lasting_queue("ledger", "t.ledger");
    let mut ours = Broker::tidewire(here, &config);
    wait_until_up(&ours);
    rabbit.kill();
    Client::connect(&ours, "sender").publish_all("t/ledger", &numbers(COUNT), Q1);
    rabbit.start_again();
    for round in 0..4 {
        some_time();
        if round == 2 {
            rabbit.restart();
        }
        ours = Broker::tidewire_in(ours.kill_and_keep(), here, &config);
    }
    let there = rabbit.client();
    let mut names = BTreeMap::new();
    while names.len() < COUNT {
        let got = there.get("ledger");
        let id = got.properties.message_id().clone().expect("a message id");
        let number: usize = got.payload.parse().expect("a number");
        let before = names.insert(number, id.clone());
        assert!(before.is_none_or(|it| it == id), "{number}: {id}");
    }
    assert_eq!(
        names.keys().copied().collect::<Vec<_>>(),
        (0..COUNT).collect::<Vec<_>>()
    );
}

pub(super) fn nothing_is_lost_on_the_way_in_over_kills_of_ours(rabbit: &RabbitMq) {
    const COUNT: usize = 2_000;
    let there = rabbit.client();
    there.queue("inbound", "inbound.#");
    let here = free_port();
    let lines = "queue = \"inbound\"\nreceive_maximum = 50\n\
                 [[bridges.in]]\nfilters = [\"inbound/#\"]";
    let config = bridge(rabbit.port, lines);
    let mut ours = Broker::tidewire(here, &config);
    wait_until_up(&ours);
    Client::resume(&ours, "keeper").subscribe("inbound/#");
    for number in numbers(COUNT) {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        there.publish("inbound.1", &number, persistent);
        if number.ends_with("500") {
            ours = Broker::tidewire_in(ours.kill_and_keep(), here, &config);
        }
    }
    let mut keeper = Client::resume(&ours, "keeper");
    let mut first_seen: Vec<String> = Vec::new();
    while first_seen.len() < COUNT {
        let payload = keeper.next().payload;
        if !first_seen.contains(&payload) {
            first_seen.push(payload);
        }
    }
    assert_eq!(first_seen, numbers(COUNT));
}
