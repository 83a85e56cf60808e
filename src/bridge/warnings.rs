//! What works as configured, and may not be what is meant.

use tidewire_bridges::Template;

use crate::config::{Bridge, BridgeKind, BridgeProtocol, BridgeRule, KafkaPartitioner};

/// Warnings of one bridge, in words.
pub(crate) fn of(bridge: &Bridge) -> Vec<String> {
    let all = [
        circling(bridge),
        forgotten_session(bridge),
        unused_key(bridge),
    ];
    all.into_iter().flatten().chain(missing(bridge)).collect()
}

/// A placeholder that is not there in some topics: messages with those are not passed on.
fn missing(bridge: &Bridge) -> Vec<String> {
    let lists = [("out", &bridge.out), ("in", &bridge.inward)];
    let rules = lists.into_iter().flat_map(|(list, rules)| {
        let rules = rules.iter().enumerate();
        rules.map(move |(index, rule)| (list, index, rule))
    });
    let of_rule = |(list, index, rule): (&str, usize, &BridgeRule)| {
        let text = rule.topic.as_deref()?;
        let template = Template::parse(text).ok()?;
        let prefix = match list {
            "in" => &rule.remote_prefix,
            _ => &rule.local_prefix,
        };
        let filters = rule.filters.iter().map(|it| format!("{prefix}{it}"));
        let mut found = filters.filter_map(|filter| {
            let place = template.sometimes_missing(&filter)?.to_owned();
            Some((place, filter))
        });
        let (place, filter) = found.next()?;
        Some(format!(
            "{list}.{index}.topic: {{{place}}} is missing in some topics of `{filter}`, which are \
             not passed on then: say {{{place}|default('TEXT')}} or use a longer filter"
        ))
    };
    rules.filter_map(of_rule).collect()
}

/// Only MQTT 5.0 carries the path that ends loops; the bridge bit knows one link, not a ring.
fn circling(bridge: &Bridge) -> Option<String> {
    let is_old = matches!(
        bridge.protocol,
        BridgeProtocol::V3_1_1 | BridgeProtocol::V3_1
    );
    let keeps_names = |rule: &&BridgeRule| rule.local_prefix == rule.remote_prefix;
    let index = bridge.both.iter().position(|it| keeps_names(&it))?;
    let is_concerned = bridge.kind == BridgeKind::Mqtt && is_old && !bridge.allow_loops;
    is_concerned.then(|| {
        format!(
            "both.{index}: over MQTT 3.x messages do not carry where they were; in a ring of such \
             bridges they circle for ever: use protocol = \"5\" or different prefixes, or say \
             allow_loops = true where there is no ring"
        )
    })
}

fn forgotten_session(bridge: &Bridge) -> Option<String> {
    let seconds = u64::from(bridge.session_expiry_seconds);
    let is_short = seconds > 0 && seconds.saturating_mul(1_000) < bridge.restart_max_ms;
    (is_short && bridge.kind == BridgeKind::Mqtt).then(|| {
        format!(
            "session_expiry_seconds = {seconds} is shorter than the longest pause before a connect \
             (restart_max_ms = {}): the session may be gone, and what is in flight is sent twice",
            bridge.restart_max_ms
        )
    })
}

fn unused_key(bridge: &Bridge) -> Option<String> {
    let is_random = bridge.kafka.partitioner == KafkaPartitioner::Random;
    let is_key = |rule: &BridgeRule| rule.key.as_ref().is_some_and(|it| !it.is_empty());
    let index = bridge.out.iter().position(is_key)?;
    (is_random && bridge.kind == BridgeKind::Kafka).then(|| {
        format!("out.{index}.key is set, and partitioner = \"random\" ignores it: no order by key")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_be_meant_is_said_with_its_key() {
        let rule = |prefix: &str| BridgeRule {
            filters: vec!["#".into()],
            remote_prefix: prefix.into(),
            key: Some("k".into()),
            ..BridgeRule::default()
        };
        let bridge = Bridge {
            protocol: BridgeProtocol::V3_1_1,
            both: vec![rule("x/"), rule("")],
            session_expiry_seconds: 30,
            ..Bridge::default()
        };
        let warnings = of(&bridge);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("both.1: over MQTT 3.x"));
        assert!(warnings[1].starts_with("session_expiry_seconds = 30"));
        let mut kafka = Bridge {
            kind: BridgeKind::Kafka,
            out: vec![rule("")],
            ..Bridge::default()
        };
        assert_eq!(of(&kafka), [""; 0]);
        kafka.kafka.partitioner = KafkaPartitioner::Random;
        assert!(of(&kafka)[0].starts_with("out.0.key is set"));
        assert_eq!(of(&Bridge::default()), [""; 0]);
        let named = |filter: &str| Bridge {
            out: vec![BridgeRule {
                filters: vec![filter.into()],
                topic: Some("x/{2}".into()),
                ..BridgeRule::default()
            }],
            ..Bridge::default()
        };
        assert_eq!(of(&named("a/+/#")), [""; 0]);
        let said = of(&named("a/#"));
        assert!(said[0].starts_with("out.0.topic: {2} is missing in some topics of `a/#`"));
    }
}
