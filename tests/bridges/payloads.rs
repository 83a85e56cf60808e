//! The mapping language between real nodes: payloads in envelopes, and what cannot be mapped.

use tidewire_protocol::codec::PublishProperties;

use crate::client::{Client, Q1};
use crate::federation::{bridge, wait_until_up};
use crate::process::{Broker, free_port};

const OUT: &str = "dead_letter = \"dead/out\"\n\
    [[bridges.out]]\nfilters = [\"j/+\"]\npayload = \"json_envelope\"\nremote_prefix = \"x/\"\n\
    [[bridges.out]]\nfilters = [\"c/+\"]\npayload = \"cbor_envelope\"\nremote_prefix = \"x/\"\n\
    [[bridges.out]]\nfilters = [\"t/+\"]\ntopic = \"x/t/{2|hash(8)}/{correlation|hex}\"\n\
    payload = \"template\"\npayload_template = \"{payload|b64} {json:/v}\"\n\
    user_properties_add = [\"id={correlation|b64}\"]";
const IN: &str = "client_id = \"other\"\ndead_letter = \"dead/in\"\n\
    [[bridges.in]]\nfilters = [\"j/+\"]\npayload = \"json_envelope\"\nremote_prefix = \"x/\"\n\
    [[bridges.in]]\nfilters = [\"c/+\"]\npayload = \"cbor_envelope\"\nremote_prefix = \"x/\"";

#[test]
fn envelopes_carry_messages_over_a_third_broker_and_what_is_none_becomes_a_dead_letter() {
    let middle = Broker::tidewire(free_port(), "");
    let sending = Broker::tidewire(free_port(), &bridge(middle.port, OUT));
    let receiving = Broker::tidewire(free_port(), &bridge(middle.port, IN));
    wait_until_up(&sending);
    wait_until_up(&receiving);
    let mut between = Client::connect(&middle, "between");
    between.subscribe("x/#");
    let mut receiver = Client::connect(&receiving, "receiver");
    receiver.subscribe("#");
    let mut sender = Client::connect(&sending, "sender");
    let properties = PublishProperties {
        content_type: Some("text/plain"),
        correlation_data: Some(b"\xfb\xff"),
        ..PublishProperties::default()
    };
    for (topic, is_json) in [("j/1", true), ("c/1", false)] {
        sender.publish_with(topic, "21.5", Q1, false, &properties);
        let enveloped = between.next();
        assert_eq!(enveloped.topic, format!("x/{topic}"));
        let said = serde_json::from_str::<serde_json::Value>(&enveloped.payload);
        assert_eq!(said.is_ok(), is_json, "{enveloped:?}");
        assert!(enveloped.payload.contains("21.5") && enveloped.payload.contains(topic));
        let opened = receiver.expect(topic, "21.5");
        assert_eq!(opened.content_type.as_deref(), Some("text/plain"));
        assert_eq!(opened.correlation_data.as_deref(), Some(&b"\xfb\xff"[..]));
        between.publish(&format!("x/{topic}"), "bare", Q1);
        between.next();
        let letter = receiver.expect("dead/in", "bare");
        let kind = if is_json { "JSON" } else { "CBOR" };
        let reason = format!("the payload is no {kind} envelope: ");
        assert!(letter.error().starts_with(&reason), "{letter:?}");
    }
    receiver.expect_silence();
}

#[test]
fn values_are_hashed_and_encoded_and_what_lacks_one_becomes_a_dead_letter() {
    let remote = Broker::tidewire(free_port(), "");
    let node = Broker::tidewire(free_port(), &bridge(remote.port, OUT));
    wait_until_up(&node);
    let mut above = Client::connect(&remote, "above");
    above.subscribe("x/#");
    let mut below = Client::connect(&node, "below");
    below.subscribe("dead/#");
    let properties = PublishProperties {
        correlation_data: Some(b"\xfb\xff"),
        ..PublishProperties::default()
    };
    below.publish_with("t/a", r#"{"v":7}"#, Q1, false, &properties);
    // SHA-256 of "a".
    let came = above.expect("x/t/ca978112/fbff", "eyJ2Ijo3fQ== 7");
    assert!(came.headers.contains(&("id".to_owned(), "+/8=".to_owned())));
    below.publish("t/b", r#"{"v":7}"#, Q1);
    let letter = below.expect("dead/out", r#"{"v":7}"#);
    assert!(
        letter.error().contains("{correlation} is missing"),
        "{letter:?}"
    );
    below.publish_with("t/c", "{}", Q1, false, &properties);
    let letter = below.expect("dead/out", "{}");
    assert!(
        letter.error().contains("the payload cannot be made"),
        "{letter:?}"
    );
    above.expect_silence();
}
