//! Connections over which nothing goes for a while.

use super::artemis::Artemis;
use super::{ARTEMIS, STATE, bridge};
use crate::client::{Client, Q1};
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;
use crate::silence::expect_signs_of_life;

/// After 5 s without a word of the server.
pub(super) fn a_silent_connection_stays_and_one_whose_server_is_silent_is_left(artemis: &Artemis) {
    let lines = format!(
        "keep_alive_seconds = 5\n{ARTEMIS}\ntarget = \"queue\"\n\
         [[bridges.out]]\nfilters = [\"quiet\"]"
    );
    let ours = Broker::tidewire(free_port(), &bridge(artemis.port, &lines));
    let proxy = Proxy::start(artemis.port);
    let other = Broker::tidewire(free_port(), &bridge(proxy.port, &lines));
    wait_until_up(&ours);
    wait_until_up(&other);
    let mut watcher = Client::connect(&other, "watcher");
    watcher.subscribe(STATE);
    proxy.mute();
    let said = watcher.wait_for(STATE, "\"state\":\"down\"").payload;
    assert!(said.contains("not a word from the server"), "{said}");
    proxy.heal();
    watcher.wait_for(STATE, "\"state\":\"up\"");
    // Over this one nothing but signs of life has gone meanwhile.
    Client::connect(&ours, "sender").publish("quiet", "still here", Q1);
    let mut there = artemis.party();
    assert_eq!(there.reader("quiet", "queue").payload(), "still here");
    let mut watcher = Client::connect(&ours, "watcher");
    let state = watcher
        .subscribe(STATE)
        .wait_for(STATE, "\"sent\":1")
        .payload;
    assert!(state.contains("\"connects\":1,"), "{state}");
}

/// The server asks for a sign of life in its open frame.
pub(super) fn a_silent_connection_is_not_left_by_a_server_with_little_patience(artemis: &Artemis) {
    let lines = format!("{ARTEMIS}\ntarget = \"queue\"\n[[bridges.out]]\nfilters = [\"quiet\"]");
    expect_signs_of_life(artemis.impatient_port, |port| bridge(port, &lines));
}
