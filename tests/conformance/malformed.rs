//! Packets that no server may accept: each ends its connection for its reason, in every version,
//! and nobody else notices.

use tidewire_protocol::codec::{ProtocolVersion, Receiver};

use crate::client::{Broker, Client, VERSIONS, at_brokers};
use crate::got::Got;
use crate::packet_table::{Case, cases};

/// Tests that all rows of the packet tables with these words in their name are refused.
macro_rules! refused {
    ($($version:ident $test:ident [$($words:literal),+];)+) => {$(
        #[test]
        fn $test() {
            refuse_rows(ProtocolVersion::$version, &[$($words),+]);
        }
    )+};
}

#[test]
fn every_malformed_packet_ends_its_connection_with_its_reason_and_no_other() {
    at_brokers(|broker| {
        let mut witness = broker.connect("witness");
        for version in VERSIONS {
            for case in rows_for_servers(version) {
                refuse(broker, version, &case);
            }
        }
        witness.expect_nothing();
    });
}

#[test]
fn a_packet_cut_at_any_byte_ends_at_most_its_own_connection() {
    at_brokers(|broker| {
        let mut witness = broker.connect("witness");
        for version in VERSIONS {
            let valid = |case: &Case| {
                case.receiver == Receiver::Server && case.reason == 0 && case.bytes[1] < 0x40
            };
            for case in cases(version).into_iter().filter(valid) {
                for end in 2..case.bytes.len() {
                    let mut bytes = case.bytes[..end].to_vec();
                    bytes[1] = u8::try_from(end - 2).expect("a short packet");
                    opened(broker, version, &bytes).send_bytes(&bytes);
                }
            }
        }
        witness.expect_nothing();
        broker.connect("new").expect_nothing();
    });
}

refused! {
    V5 mqtt_1_5_4_1_strings_are_well_formed_utf_8 ["not UTF-8", "surrogate"];
    V5 mqtt_1_5_4_2_strings_hold_no_u0000 ["U+0000"];
    V5 mqtt_1_5_5_1_variable_byte_integers_are_minimal ["not minimal"];
    V5 mqtt_1_5_7_1_both_strings_of_a_pair_are_utf_8 ["user property not UTF-8"];
    V5 mqtt_2_1_3_1_reserved_flags_have_their_value ["with flags", "without flags"];
    V5 mqtt_2_2_1_3_packet_ids_are_not_zero ["packet id 0", "subscribe 0", "puback 0"];
    V5 mqtt_2_2_2_1_the_property_length_is_always_there ["without property length"];
    V5 mqtt_3_1_2_3_the_reserved_connect_flag_is_0 ["reserved connect flag"];
    V5 mqtt_3_1_2_9_a_will_flag_brings_a_will ["will missing", "will payload missing"];
    V5 mqtt_3_1_2_11_no_will_qos_without_a_will ["will qos without will"];
    V5 mqtt_3_1_2_12_will_qos_is_not_3 ["will qos 3"];
    V5 mqtt_3_1_2_13_no_will_retain_without_a_will ["will retain without will"];
    V5 mqtt_3_1_2_16_no_user_name_without_its_flag ["user name without its flag"];
    V5 mqtt_3_1_2_17_a_user_name_flag_brings_a_user_name ["user name missing"];
    V5 mqtt_3_1_2_18_no_password_without_its_flag ["password without its flag"];
    V5 mqtt_3_1_2_19_a_password_flag_brings_a_password ["password missing"];
    V5 mqtt_3_1_3_3_the_client_id_is_present ["client id missing"];
    V5 mqtt_3_1_3_4_the_client_id_is_utf_8 ["client id not UTF-8"];
    V5 mqtt_3_1_3_11_the_will_topic_is_utf_8 ["will topic not UTF-8"];
    V5 mqtt_3_1_3_12_the_user_name_is_utf_8 ["user name not UTF-8"];
    V5 mqtt_3_1_4_1_a_connect_of_another_form_is_refused
        ["receive maximum 0", "maximum packet size 0", "trailing byte", "session expiry twice"];
    V5 mqtt_3_3_1_2_no_dup_with_qos_0 ["qos 0 with dup"];
    V5 mqtt_3_3_1_4_qos_3_is_malformed ["publish qos 3"];
    V5 mqtt_3_3_2_1_the_topic_name_is_utf_8 ["publish topic not UTF-8"];
    V5 mqtt_3_3_2_2_no_wildcards_in_topic_names ["publish to a plus", "publish to a hash"];
    V5 mqtt_3_3_2_8_topic_alias_0_ends_with_0x94 ["topic alias 0"];
    V5 mqtt_3_3_2_13_the_response_topic_is_text ["response topic with U+0000"];
    V5 mqtt_3_3_2_14_no_wildcards_in_response_topics ["response topic with wildcard"];
    V5 mqtt_3_3_2_19_the_content_type_is_utf_8 ["content type not UTF-8"];
    V5 mqtt_3_3_4_6_no_subscription_id_from_a_client ["subscription id from a client"];
    V5 mqtt_3_6_1_1_pubrel_has_its_flags ["pubrel without flags"];
    V5 mqtt_3_8_1_1_subscribe_has_its_flags ["subscribe without flags"];
    V5 mqtt_3_8_3_1_filters_of_subscribe_are_utf_8 ["subscribe filter not UTF-8"];
    V5 mqtt_3_8_3_2_subscribe_has_a_filter ["subscribe without filters"];
    V5 mqtt_3_8_3_4_no_local_on_a_share_is_a_protocol_error ["shared subscription with no local"];
    V5 mqtt_3_8_3_5_reserved_subscription_options_are_0 ["reserved option bit"];
    V5 mqtt_3_10_1_1_unsubscribe_has_its_flags ["unsubscribe without flags"];
    V5 mqtt_3_10_3_1_filters_of_unsubscribe_are_utf_8 ["unsubscribe filter not UTF-8"];
    V5 mqtt_3_10_3_2_unsubscribe_has_a_filter ["unsubscribe without filters"];
    V5 mqtt_3_14_1_1_disconnect_has_no_flags ["disconnect with flags"];
    V5 mqtt_3_14_2_1_disconnect_has_a_reason_of_its_own ["disconnect with a reason of suback"];
    V5 mqtt_3_15_1_1_auth_has_no_flags ["auth with flags"];
    V5 mqtt_3_15_2_1_auth_has_a_reason_of_its_own ["auth with a reason of disconnect"];
    V5 mqtt_4_7_3_1_topics_are_not_empty ["subscribe to nothing", "response topic empty"];
    V5 mqtt_4_7_3_2_topics_hold_no_u0000 ["publish to U+0000", "subscribe filter with U+0000"];

    V3_1_1 mqtt311_1_5_3_1_strings_are_well_formed_utf_8 ["not UTF-8", "surrogate"];
    V3_1_1 mqtt311_1_5_3_2_strings_hold_no_u0000 ["U+0000"];
    V3_1_1 mqtt311_2_2_2_2_reserved_flags_have_their_value ["with flags", "without flags"];
    V3_1_1 mqtt311_2_3_1_1_packet_ids_are_not_zero
        ["packet id 0", "subscribe 0", "unsubscribe 0"];
    V3_1_1 mqtt311_3_1_2_3_the_reserved_connect_flag_is_0 ["reserved connect flag"];
    V3_1_1 mqtt311_3_1_2_9_a_will_flag_brings_a_will ["will missing", "will message missing"];
    V3_1_1 mqtt311_3_1_2_11_no_will_without_its_flag ["will without its flag"];
    V3_1_1 mqtt311_3_1_2_13_no_will_qos_without_a_will ["will qos without will"];
    V3_1_1 mqtt311_3_1_2_14_will_qos_is_not_3 ["will qos 3"];
    V3_1_1 mqtt311_3_1_2_15_no_will_retain_without_a_will ["will retain without will"];
    V3_1_1 mqtt311_3_1_2_18_no_user_name_without_its_flag ["user name without its flag"];
    V3_1_1 mqtt311_3_1_2_19_a_user_name_flag_brings_a_user_name ["user name missing"];
    V3_1_1 mqtt311_3_1_2_20_no_password_without_its_flag ["password without its flag"];
    V3_1_1 mqtt311_3_1_2_21_a_password_flag_brings_a_password ["password missing"];
    V3_1_1 mqtt311_3_1_2_22_no_password_without_a_user_name ["password without user name"];
    V3_1_1 mqtt311_3_1_3_3_the_client_id_is_present ["client id missing"];
    V3_1_1 mqtt311_3_1_3_4_the_client_id_is_utf_8 ["client id not UTF-8"];
    V3_1_1 mqtt311_3_1_3_10_the_will_topic_is_utf_8 ["will topic not UTF-8"];
    V3_1_1 mqtt311_3_1_3_11_the_user_name_is_utf_8 ["user name not UTF-8"];
    V3_1_1 mqtt311_3_1_4_1_a_connect_of_another_form_gets_no_connack
        ["connect with a trailing byte", "cut in keep alive", "connect flags"];
    V3_1_1 mqtt311_3_3_1_2_no_dup_with_qos_0 ["qos 0 with dup"];
    V3_1_1 mqtt311_3_3_1_4_qos_3_is_malformed ["publish qos 3"];
    V3_1_1 mqtt311_3_3_2_1_the_topic_name_is_utf_8 ["publish topic not UTF-8"];
    V3_1_1 mqtt311_3_3_2_2_no_wildcards_in_topic_names ["publish to a plus", "publish to a hash"];
    V3_1_1 mqtt311_3_6_1_1_pubrel_has_its_flags ["pubrel without flags", "pubrel with dup"];
    V3_1_1 mqtt311_3_8_1_1_subscribe_has_its_flags ["subscribe without flags"];
    V3_1_1 mqtt311_3_8_3_1_filters_of_subscribe_are_utf_8 ["subscribe filter not UTF-8"];
    V3_1_1 mqtt311_3_8_3_3_subscribe_has_a_filter ["subscribe without filters"];
    V3_1_1 mqtt311_3_8_3_4_reserved_bits_of_a_requested_qos_are_0
        ["subscribe with reserved bits", "subscribe qos 3"];
    V3_1_1 mqtt311_3_10_1_1_unsubscribe_has_its_flags ["unsubscribe without flags"];
    V3_1_1 mqtt311_3_10_3_1_filters_of_unsubscribe_are_utf_8 ["unsubscribe filter not UTF-8"];
    V3_1_1 mqtt311_3_10_3_2_unsubscribe_has_a_filter ["unsubscribe without filters"];
    V3_1_1 mqtt311_3_14_1_1_disconnect_has_no_flags ["disconnect with flags"];
    V3_1_1 mqtt311_4_7_3_1_topics_are_not_empty ["publish without topic", "subscribe to nothing"];
    V3_1_1 mqtt311_4_7_3_2_topics_hold_no_u0000
        ["publish to U+0000", "subscribe filter with U+0000"];
}

fn rows_for_servers(version: ProtocolVersion) -> Vec<Case> {
    let is_refused = |case: &Case| case.receiver == Receiver::Server && case.reason != 0;
    cases(version).into_iter().filter(is_refused).collect()
}

fn refuse_rows(version: ProtocolVersion, words: &[&str]) {
    let rows = rows_for_servers(version);
    for word in words {
        let is_named = rows.iter().any(|case| case.name.contains(word));
        assert!(is_named, "no row is named {word:?}");
    }
    at_brokers(|broker| {
        for case in &rows {
            if words.iter().any(|word| case.name.contains(word)) {
                refuse(broker, version, case);
            }
        }
    });
}

/// A connection that may send this packet.
fn opened(broker: &Broker, version: ProtocolVersion, bytes: &[u8]) -> Client {
    if bytes[0] >> 4 != 1 {
        return broker.connect_as("culprit", version);
    }
    let mut client = broker.open();
    client.speak(version);
    // A level above those known is answered as in 5.0.
    let level = bytes.get(4 + usize::from(*bytes.get(3).unwrap_or(&0)));
    if level.is_some_and(|level| level & 0x7F > 4) {
        client.speak(ProtocolVersion::V5);
    }
    client
}

fn refuse(broker: &Broker, version: ProtocolVersion, case: &Case) {
    let name = &case.name;
    let mut client = opened(broker, version, &case.bytes);
    client.send_bytes(&case.bytes);
    let is_connect = case.bytes[0] >> 4 == 1;
    let is_v5 = version == ProtocolVersion::V5;
    let reason = match client.receive() {
        Got::Closed => {
            assert!(!is_v5 || is_connect, "no reason for {name}");
            return;
        }
        Got::ConnAck {
            is_present: false,
            reason,
            ..
        } if is_connect => {
            // Before 5.0 a malformed CONNECT gets no answer.
            let has_return_code = matches!(case.reason, 0x84 | 0x85);
            assert!(is_v5 || has_return_code, "CONNACK for {name}");
            reason
        }
        Got::Disconnect(reason) if is_v5 && !is_connect => reason,
        other => panic!("{name} gets {other:?}"),
    };
    assert_eq!(reason as u8, case.reason, "{name}");
    assert_eq!(client.receive(), Got::Closed, "{name}");
}
