//! Which kinds of bridges this build has.

use super::BridgeError;
use crate::config::{Bridge, BridgeKind};

const KINDS: [(BridgeKind, &str, bool); 5] = [
    (BridgeKind::Mqtt, "mqtt", true),
    (BridgeKind::Amqp091, "amqp091", cfg!(feature = "amqp091")),
    (BridgeKind::Amqp10, "amqp10", cfg!(feature = "amqp10")),
    (BridgeKind::Kafka, "kafka", cfg!(feature = "kafka")),
    (BridgeKind::Rocketmq, "rocketmq", cfg!(feature = "rocketmq")),
];

/// Whether the kind of a bridge is in this build.
pub(super) fn check(bridge: &Bridge) -> Result<(), BridgeError> {
    let is_built = KINDS.iter().any(|it| it.0 == bridge.kind && it.2);
    if is_built {
        Ok(())
    } else {
        Err(not_built(bridge))
    }
}

/// The refusal of a kind that this build leaves out.
pub(super) fn not_built(bridge: &Bridge) -> BridgeError {
    let wanted = KINDS.iter().find(|it| it.0 == bridge.kind);
    let wanted = wanted.map_or("", |it| it.1);
    let built = KINDS.iter().filter(|it| it.2).map(|it| it.1);
    let built: Vec<&str> = built.collect();
    BridgeError {
        bridge: bridge.name.clone(),
        problem: format!(
            "kind: {wanted:?} is not in this build, which has {}; build it with the cargo feature \
             {wanted}, README.md says what that needs",
            built.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_not_built_is_refused_with_what_is() {
        let bridge = Bridge {
            name: "b".into(),
            kind: BridgeKind::Kafka,
            ..Bridge::default()
        };
        let text = not_built(&bridge).to_string();
        assert!(
            text.contains("kind: \"kafka\" is not in this build, which has mqtt"),
            "{text}"
        );
        assert_eq!(check(&bridge).is_ok(), cfg!(feature = "kafka"));
    }
}
