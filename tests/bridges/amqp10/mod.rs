//! A node of ours and servers of AMQP 1.0. One server for all steps: it starts slowly.

mod activemq;
mod artemis;
mod idle;
mod inward;
mod outward;
mod party;
#[cfg(feature = "amqp091")]
mod rabbitmq;

use artemis::Artemis;

use crate::mirror::{self, Mirror};

const STATE: &str = "$SYS/bridges/up/state";

/// A bridge named `up` to a server; its `[bridges.amqp10]` is among the lines.
fn bridge(port: u16, lines: &str) -> String {
    format!(
        "[[bridges]]\nname = \"up\"\nkind = \"amqp10\"\nservers = [\"amqp://127.0.0.1:{port}\"]\n\
         restart_base_ms = 100\nrestart_max_ms = 300\n{lines}\n"
    )
}

#[test]
#[ignore = "needs Apache Artemis, which tests/run fetches"]
fn a_bridge_and_a_real_artemis_exchange_everything_that_the_guide_promises() {
    let mut artemis = Artemis::start();
    outward::every_qos_reaches_its_address_with_its_properties(&artemis);
    outward::a_queue_keeps_what_is_sent_and_a_template_names_it(&artemis);
    outward::a_plain_dialect_has_a_link_for_each_address_and_few_at_a_time(&artemis);
    outward::what_artemis_refuses_goes_to_the_dead_letter_topic_and_holds_up_nothing(&artemis);
    outward::a_full_address_is_tried_again_until_there_is_room(&artemis);
    outward::users_are_let_in_refused_and_kept_from_addresses_in_the_servers_words(&artemis);
    outward::a_certificate_says_who_we_are_until_it_expires(&artemis);
    everything_that_mqtt_can_say_comes_out_at_another_node_as_it_was(&artemis);
    inward::messages_come_with_their_properties_and_leave_the_queue_once_accepted(&artemis);
    inward::bodies_become_payloads_and_others_go_to_the_servers_dead_letters(&artemis);
    inward::a_topic_keeps_for_us_what_comes_while_we_are_away(&artemis);
    inward::a_link_that_the_server_detaches_is_attached_again(&artemis);
    inward::what_comes_again_after_a_lost_connection_is_taken_once(&artemis);
    inward::what_was_delivered_too_often_goes_to_the_servers_dead_letters(&artemis);
    idle::a_silent_connection_stays_and_one_whose_server_is_silent_is_left(&artemis);
    idle::a_silent_connection_is_not_left_by_a_server_with_little_patience(&artemis);
    inward::nothing_is_lost_while_the_server_is_stopped_killed_and_started_again(&mut artemis);
    inward::nothing_is_lost_from_end_to_end_while_everything_is_killed(&mut artemis);
}

fn everything_that_mqtt_can_say_comes_out_at_another_node_as_it_was(artemis: &Artemis) {
    let ours = format!("{ARTEMIS}\n{}", mirror::OUT);
    let own = "address = \"mirror.#\"\nsource = \"topic\"";
    let theirs = format!("{ARTEMIS}\n{own}\n{}", mirror::BACK);
    let [ours, theirs] = [ours, theirs].map(|lines| bridge(artemis.port, &lines));
    // The subscription has to be there before anything is sent.
    Mirror::new(&ours, &theirs).shows_everything();
}

const ARTEMIS: &str = "[bridges.amqp10]\ndialect = \"artemis\"";
