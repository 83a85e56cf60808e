//! What crosses, and what does not.

use super::*;

fn map(rule: BridgeRule, max_hops: Option<u16>) -> Map {
    let bridge = Bridge {
        both: vec![rule],
        max_hops,
        ..Bridge::default()
    };
    Map::new(&bridge, BridgeId(0), "here", 8).unwrap()
}

fn rule(filter: &str, local_prefix: &str, remote_prefix: &str) -> BridgeRule {
    BridgeRule {
        filters: vec![filter.into()],
        local_prefix: local_prefix.into(),
        remote_prefix: remote_prefix.into(),
        ..BridgeRule::default()
    }
}

fn message(topic: &str) -> Lent {
    lent(Message::new(topic, &[], b"x", Header::default()))
}

fn lent(message: Message) -> Lent {
    Lent {
        sequence: 1,
        message,
        sent_as: None,
        stored: None,
    }
}

fn record(topic: &str, path: &str) -> Record {
    Record {
        topic: topic.into(),
        headers: vec![(PATH.into(), path.into()), ("a".into(), "b".into())],
        ..Record::default()
    }
}

#[test]
fn prefixes_are_exchanged_on_the_way_out_and_back() {
    let map = map(rule("s/#", "here/", "there/"), None);
    let out = map.outward(&message("here/s/1"), None, 0).unwrap();
    assert_eq!(out.topic, "there/s/1");
    assert_eq!(out.headers, [(PATH.to_owned(), "here".to_owned())]);
    let back = map.inward(&mut record("there/s/2", ""), None, 0).unwrap();
    assert_eq!(back.message.topic(), "here/s/2");
    let other = map.outward(&message("s/1"), None, 0);
    assert_eq!(other.unwrap_err(), NotCrossing::Unwanted);
}

#[test]
fn a_template_names_the_topic_and_what_it_lacks_does_not_cross() {
    let templated = BridgeRule {
        topic: Some("{node}/{2|upper}/{json:/id|level}".into()),
        ..rule("s/+", "", "")
    };
    let map = map(templated, None);
    let out = |payload: &[u8]| {
        let message = Message::new("s/a", &[], payload, Header::default());
        map.outward(&lent(message), None, 0).map(|it| it.topic)
    };
    assert_eq!(out(br#"{"id":"x/+"}"#).as_deref(), Ok("here/A/x%2F%2B"));
    assert!(matches!(out(b"no json"), Err(NotCrossing::Invalid(_))));
}

#[test]
fn what_a_rule_cannot_map_is_dropped_or_empty_if_it_says_so() {
    let out = |on_missing, payload: &[u8]| {
        let asking = BridgeRule {
            topic: Some("{1}/x{json:/id}".into()),
            payload: BridgePayload::Text,
            on_missing,
            ..rule("s/+", "", "")
        };
        let message = Message::new("s/a", &[], payload, Header::default());
        let crossed = map(asking, None).outward(&lent(message), None, 0);
        crossed.map(|it| it.topic)
    };
    let lacks = "the topic on the other side would be wrong: {json:/id} is missing".to_owned();
    assert_eq!(
        out(BridgeOnMissing::DeadLetter, b"{}"),
        Err(NotCrossing::Invalid(lacks.clone()))
    );
    assert_eq!(
        out(BridgeOnMissing::Drop, b"{}"),
        Err(NotCrossing::Dropped(lacks))
    );
    assert_eq!(out(BridgeOnMissing::Empty, b"{}").as_deref(), Ok("s/x"));
    // There is no empty text in the place of a payload: that would clear what is retained.
    let broken = out(BridgeOnMissing::Empty, b"\xff");
    assert!(matches!(broken, Err(NotCrossing::Invalid(_))));
}

#[test]
fn placeholders_stand_for_what_came_and_an_envelope_for_what_crosses() {
    let enveloped = BridgeRule {
        topic: Some("{json:/id}".into()),
        payload: BridgePayload::JsonEnvelope,
        user_properties_remove: vec!["a".into()],
        user_properties_add: vec!["was={prop:a}".into()],
        ..rule("s/+", "", "")
    };
    let map = map(enveloped, None);
    let mut forwarded = Vec::new();
    encode_properties(&record("", ""), &mut forwarded);
    let message = Message::new("s/a", &forwarded, br#"{"id":7}"#, Header::default());
    let out = map.outward(&lent(message), None, 0).unwrap();
    let payload = r#"{"payload":"{\"id\":7}","qos":0,"retain":false,"topic":"s/a","#;
    let pairs = r#""user_properties":[["was","b"]]}"#;
    assert_eq!(
        (&*out.topic, &*out.payload),
        ("7", format!("{payload}{pairs}").as_bytes())
    );
    let mut back = Record {
        topic: "s/a".into(),
        payload: r#"{"id":8,"payload":"x","retain":true}"#.into(),
        ..Record::default()
    };
    let back = map.inward(&mut back, None, 0).unwrap().message;
    assert_eq!(
        (back.topic(), back.payload(), back.retain()),
        ("8", &b"x"[..], true)
    );
}

#[test]
fn an_empty_filter_maps_one_topic_to_another() {
    let map = map(rule("", "one", "another"), None);
    let out = map.outward(&message("one"), None, 0).unwrap();
    assert_eq!(out.topic, "another");
    assert!(map.outward(&message("one/more"), None, 0).is_err());
}

#[test]
fn a_message_ends_after_its_hops_and_where_it_was() {
    let map = map(rule("#", "", ""), Some(2));
    let inward = |path, peer| map.inward(&mut record("t", path), peer, 0).map(drop);
    assert_eq!(inward("a,b", None), Ok(()));
    assert_eq!(inward("a,b,c", None), Err(NotCrossing::Loop));
    assert_eq!(inward("a,b", Some("c")), Err(NotCrossing::Loop));
    assert_eq!(inward("here", None), Err(NotCrossing::Loop));
    let came = map.inward(&mut record("t", "a"), None, 0).unwrap();
    let out = |peer| {
        map.outward(&lent(came.message.clone()), peer, 0)
            .map(|it| it.headers)
    };
    let passed = [("a", "b"), (PATH, "a,here")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(out(Some("c")), Ok(passed.to_vec()));
    assert_eq!(out(Some("a")), Err(NotCrossing::Loop));
}

#[test]
fn topics_that_would_break_or_reach_the_broker_do_not_cross() {
    let map = map(rule("#", "", "deep/"), None);
    let inward = |topic: &str| map.inward(&mut record(topic, ""), None, 0).unwrap_err();
    assert!(matches!(inward("deep/$SYS/x"), NotCrossing::Invalid(_)));
    assert!(matches!(inward("deep/"), NotCrossing::Invalid(_)));
    let levels = message("1/2/3/4/5/6/7/8");
    let out = map.outward(&levels, None, 0).unwrap_err();
    assert!(matches!(out, NotCrossing::Invalid(_)));
}
