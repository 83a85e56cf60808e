//! A node of ours and Apache RocketMQ. One server for all steps: it starts slowly.

mod inward;
mod outward;
mod server;

use crate::federation::wait_until_up;
use crate::process::{Broker, free_port};
use server::RocketMq;

const STATE: &str = "$SYS/bridges/up/state";

/// A bridge named `up` to RocketMQ; a `[bridges.rocketmq]` comes first among its lines.
fn bridge(rocket: &RocketMq, lines: &str) -> String {
    format!(
        "[[bridges]]\nname = \"up\"\nkind = \"rocketmq\"\n\
         servers = [\"rocketmq://127.0.0.1:{}\"]\nrestart_base_ms = 100\nrestart_max_ms = 300\n\
         {lines}\n",
        rocket.port
    )
}

/// A node whose bridge is up.
fn bridged(rocket: &RocketMq, lines: &str) -> Broker {
    let ours = Broker::tidewire(free_port(), &bridge(rocket, lines));
    wait_until_up(&ours);
    ours
}

#[test]
#[ignore = "needs Apache RocketMQ, which tests/run fetches"]
fn a_bridge_and_a_real_rocketmq_exchange_everything_that_the_guide_promises() {
    let mut rocket = RocketMq::start(&[
        ("plant-a", "NORMAL"),
        ("line", "FIFO"),
        ("later", "DELAY"),
        ("commands", "NORMAL"),
        ("chosen", "NORMAL"),
        ("many", "NORMAL"),
        ("held", "NORMAL"),
        ("odd", "NORMAL"),
        ("ordered", "FIFO"),
        ("killed", "FIFO"),
        ("ledger", "NORMAL"),
    ]);
    outward::everything_that_rocketmq_has_a_place_for_arrives(&rocket);
    outward::each_message_of_a_batch_arrives_with_its_own_tag(&rocket);
    outward::what_is_wrong_over_there_is_said_in_its_words(&rocket);
    outward::a_message_that_is_refused_goes_to_the_dead_letter_topic_and_holds_up_nothing(&rocket);
    outward::tls_trusts_the_authority_that_is_given_and_no_other(&rocket);
    inward::messages_come_with_their_properties_and_do_not_come_again(&rocket);
    inward::tags_and_expressions_choose_messages(&rocket);
    inward::what_finds_no_topic_here_goes_to_the_dead_letters_of_the_group(&rocket);
    inward::a_delayed_message_comes_late_and_a_group_in_order(&rocket);
    inward::a_message_that_finds_no_room_here_stays_ours_for_longer_than_its_time(&rocket);
    outward::nothing_is_lost_and_groups_keep_their_order_while_the_server_is_killed(&mut rocket);
    inward::nothing_is_lost_from_end_to_end_while_everything_is_killed(&mut rocket);
    drop(rocket);
    // Another server, and not at the same time: free ports are found, not kept.
    let rocket = RocketMq::start_with_users(&[("signed", "NORMAL"), ("guarded", "NORMAL")]);
    outward::users_are_let_in_and_refused_in_the_servers_words(&rocket);
    outward::a_user_without_rights_is_refused_until_he_has_them(&rocket);
}
