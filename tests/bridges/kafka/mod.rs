//! A node of ours and Apache Kafka. One server for all steps: it starts slowly.

mod exactly;
mod inward;
mod outward;
mod party;
mod server;

use server::Kafka;

const STATE: &str = "$SYS/bridges/up/state";

/// A bridge named `up` to Kafka; its `[bridges.kafka]` comes first among the lines, if it has one.
fn bridge(port: u16, lines: &str) -> String {
    format!(
        "[[bridges]]\nname = \"up\"\nkind = \"kafka\"\nservers = [\"kafka://127.0.0.1:{port}\"]\n\
         restart_base_ms = 100\nrestart_max_ms = 300\n{lines}\n"
    )
}

#[test]
#[ignore = "needs Apache Kafka, which tests/run fetches"]
fn a_bridge_and_a_real_kafka_exchange_everything_that_the_guide_promises() {
    let mut kafka = Kafka::start();
    let wanted = std::env::var("KAFKA_STEP").unwrap_or_default();
    for (name, step) in STEPS.iter().filter(|(name, _)| name.contains(&wanted)) {
        println!("{name}");
        step(&mut kafka);
    }
}

type Step = fn(&mut Kafka);

/// The names and functions of steps.
macro_rules! steps {
    ($($part:ident::$step:ident),* $(,)?) => {
        &[$((concat!(stringify!($part), "::", stringify!($step)), |kafka| $part::$step(kafka))),*]
    };
}

/// With `KAFKA_STEP` in the environment, those whose names contain it.
const STEPS: &[(&str, Step)] = steps![
    outward::everything_that_kafka_has_a_place_for_arrives,
    outward::a_topic_of_ours_stays_in_one_partition_and_in_order_with_any_compression,
    outward::a_topic_that_is_missing_holds_messages_back_or_sends_them_to_the_dead_letter_topic,
    outward::a_message_too_large_holds_up_nothing,
    outward::users_are_let_in_refused_and_kept_from_topics_in_the_servers_words,
    outward::tls_trusts_the_authority_that_is_given_and_no_other,
    outward::a_server_that_wants_a_certificate_gets_ours,
    outward::a_quota_is_seen_in_the_state_and_loses_nothing,
    inward::messages_come_with_their_properties_and_offsets_are_committed,
    inward::regular_expressions_and_filters_name_topics,
    inward::a_partition_that_was_never_read_begins_where_the_configuration_says,
    inward::nothing_is_taken_while_nobody_would_receive_it,
    inward::a_topic_that_was_made_anew_is_read_from_its_beginning,
    inward::partitions_change_hands_without_loss,
    exactly::records_are_taken_exactly_once_over_kills_of_this_node,
    exactly::a_transaction_leaves_out_what_kafka_refuses_and_keeps_the_order,
    exactly::of_two_with_one_transactional_id_the_later_one_sends,
    exactly::messages_are_sent_exactly_once_over_kills_of_either_side,
    outward::nothing_is_lost_or_repeated_while_the_server_is_killed_and_started_again,
    inward::nothing_is_lost_from_end_to_end_while_everything_is_killed,
];
