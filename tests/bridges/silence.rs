//! Servers that leave whoever says nothing.

use crate::client::{Client, Q1};
use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};
use crate::proxy::Proxy;

const STATE: &str = "$SYS/bridges/up/state";

/// A bridge `up` of `quiet` that has nothing to send for more than twice as long as the server is
/// patient, which is seen by what becomes of another one that is not heard.
pub(crate) fn expect_signs_of_life(port: u16, config: impl Fn(u16) -> String) {
    let ours = Broker::tidewire(free_port(), &config(port));
    let proxy = Proxy::start(port);
    let other = Broker::tidewire(free_port(), &config(proxy.port));
    wait_until_up(&ours);
    let mut watcher = Client::connect(&other, "watcher");
    watcher.subscribe(STATE);
    for _ in 0..2 {
        watcher.wait_for(STATE, "\"state\":\"up\"");
        proxy.deafen();
        watcher.wait_for(STATE, "\"state\":\"down\"");
        proxy.heal();
    }
    Client::connect(&ours, "sender").publish("quiet", "still here", Q1);
    let mut watcher = Client::connect(&ours, "watcher");
    watcher.subscribe(STATE);
    let state = watcher.wait_for(STATE, "\"sent\":1").payload;
    assert!(state.contains("\"connects\":1,"), "{state}");
}
