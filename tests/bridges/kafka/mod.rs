//! A node of ours and Apache Kafka. One server for all steps: it starts slowly.

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
    outward::everything_that_kafka_has_a_place_for_arrives(&kafka);
    outward::a_topic_of_ours_stays_in_one_partition_and_in_order_with_any_compression(&kafka);
    outward::a_topic_that_is_missing_holds_messages_back_or_sends_them_to_the_dead_letter_topic(
        &kafka,
    );
    outward::a_message_too_large_holds_up_nothing(&kafka);
    outward::users_are_let_in_refused_and_kept_from_topics_in_the_servers_words(&kafka);
    outward::tls_trusts_the_authority_that_is_given_and_no_other(&kafka);
    outward::a_quota_is_seen_in_the_state_and_loses_nothing(&kafka);
    inward::messages_come_with_their_properties_and_offsets_are_committed(&kafka);
    inward::regular_expressions_and_filters_name_topics(&kafka);
    inward::partitions_change_hands_without_loss(&kafka);
    outward::nothing_is_lost_or_repeated_while_the_server_is_killed_and_started_again(&mut kafka);
    inward::nothing_is_lost_from_end_to_end_while_everything_is_killed(&mut kafka);
}
