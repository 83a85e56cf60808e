//! A node of ours and Apache Kafka. One server for all steps: it starts slowly.

mod admin;
mod cluster;
mod exactly;
mod faults;
mod group;
mod inward;
mod leaders;
mod ledger;
mod oauth;
mod outward;
mod party;
mod server;
mod statistics;

use server::Kafka;
use tidewire::clock::Clock;

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
        let clock = Clock::start();
        step(&mut kafka);
        println!("  {} ms", clock.now_ms());
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
    outward::a_certificate_that_has_expired_ends_the_connection,
    oauth::a_bridge_without_a_token_that_kafka_takes_is_down,
    oauth::tokens_are_fetched_by_client_credentials_also_for_transactions,
    oauth::a_token_in_a_file_is_read_anew_before_it_ends,
    statistics::the_state_shows_what_both_clients_have_counted,
    inward::messages_come_with_their_properties_and_offsets_are_committed,
    inward::regular_expressions_and_filters_name_topics,
    inward::a_partition_that_was_never_read_begins_where_the_configuration_says,
    inward::nothing_is_taken_while_nobody_would_receive_it,
    inward::a_topic_that_was_made_anew_is_read_from_its_beginning,
    inward::partitions_change_hands_without_loss,
    group::another_member_takes_over_from_a_killed_node_and_gives_back,
    faults::a_topic_deleted_under_load_loses_nothing_that_it_had_not_acknowledged,
    faults::a_topic_that_is_deleted_while_it_is_read_is_read_anew_once_it_is_there_again,
    faults::a_quota_is_seen_in_the_state_until_it_is_lifted,
    faults::rights_that_are_taken_away_stop_the_bridge_until_they_are_given_back,
    faults::a_password_that_is_taken_away_stops_the_bridge_until_it_is_given_back,
    faults::what_is_too_large_for_a_lowered_limit_goes_to_the_dead_letter_topic,
    faults::records_that_were_deleted_before_they_were_read_are_said_in_the_state,
    faults::a_disk_that_is_full_ends_the_server_and_loses_nothing,
    exactly::a_transaction_leaves_out_what_kafka_refuses_and_keeps_the_order,
    exactly::of_two_with_one_transactional_id_the_later_one_sends,
    ledger::messages_reach_kafka_exactly_once_over_kills_of_either_side,
    ledger::messages_reach_kafka_at_least_once_over_kills_of_either_side,
    ledger::records_are_taken_exactly_once_over_kills_of_either_side,
    ledger::records_are_taken_at_least_once_without_a_store_over_kills_of_kafka,
    outward::nothing_is_lost_or_repeated_while_the_server_is_killed_and_started_again,
    inward::nothing_is_lost_from_end_to_end_while_everything_is_killed,
];
