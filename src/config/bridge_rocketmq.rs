//! What only a bridge to RocketMQ has.

use super::rules::{Broken, demand};
use super::{Bridge, BridgeKind};

/// `[bridges.rocketmq]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRocketmq {
    /// What topics and groups are within; empty where there are no namespaces.
    pub namespace: String,
    /// Topics to receive from; empty takes those that the filters of `in` name.
    pub topics: Vec<String>,
    /// The consumer group; `None` makes one of the bridge's name.
    pub group: Option<String>,
    /// Tags to receive, as in `a || b`.
    pub tags: String,
    /// An expression over properties, instead of tags.
    pub sql: Option<String>,
    /// Seconds a message stays with us until the server gives it to somebody else.
    pub invisible_seconds: u32,
}

impl Default for BridgeRocketmq {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            topics: Vec::new(),
            group: None,
            tags: "*".to_owned(),
            sql: None,
            invisible_seconds: 60,
        }
    }
}

/// Whether the keys of a bridge fit RocketMQ, or are left alone by other kinds.
pub(super) fn check(bridge: &Bridge) -> Result<(), Broken> {
    if bridge.kind != BridgeKind::Rocketmq {
        return check_unused(bridge);
    }
    let own = &bridge.rocketmq;
    let receives = bridge.receives();
    let problem = "is of no use without `in` or `both`";
    demand(
        "rocketmq.topics",
        receives || own.topics.is_empty(),
        problem,
    )?;
    demand("rocketmq.group", receives || own.group.is_none(), problem)?;
    demand("rocketmq.sql", receives || own.sql.is_none(), problem)?;
    let is_one = own.sql.is_none() || own.tags == "*";
    demand("rocketmq.sql", is_one, "and tags exclude each other")?;
    let group = own.group.as_deref().unwrap_or("g");
    demand("rocketmq.group", is_name(group), NAME_RULE)?;
    for (index, topic) in own.topics.iter().enumerate() {
        let key = format!("rocketmq.topics.{index}");
        demand(&key, is_name(topic), NAME_RULE)?;
    }
    for (list, rules) in [("in", &bridge.inward), ("both", &bridge.both)] {
        for (index, rule) in rules.iter().enumerate() {
            let mut filters = rule.filters.iter();
            let is_named = filters.all(|it| !it.contains(['+', '#']));
            let key = format!("{list}.{index}.filters");
            let problem = "has wildcards, by which RocketMQ finds no topic: name the topics in \
                           rocketmq.topics";
            demand(&key, is_named || !own.topics.is_empty(), problem)?;
        }
    }
    for (index, rule) in bridge.out.iter().enumerate() {
        let key = format!("out.{index}.delay_ms");
        let problem = "and key exclude each other: messages of a group are delivered in order, and \
                       not later";
        let has_key = rule.key.as_ref().is_some_and(|it| !it.is_empty());
        demand(&key, rule.delay_ms.is_none() || !has_key, problem)?;
    }
    Ok(())
}

fn check_unused(bridge: &Bridge) -> Result<(), Broken> {
    let rocketmq = "is for kind = \"rocketmq\"";
    let is_unused = bridge.rocketmq == BridgeRocketmq::default();
    demand("rocketmq", is_unused, rocketmq)?;
    for (index, rule) in bridge.out.iter().enumerate() {
        let key = |name: &str| format!("out.{index}.{name}");
        demand(&key("tag"), rule.tag.is_none(), rocketmq)?;
        demand(&key("keys"), rule.keys.is_empty(), rocketmq)?;
        demand(&key("delay_ms"), rule.delay_ms.is_none(), rocketmq)?;
    }
    Ok(())
}

/// # Source
/// `TopicValidator` and `Validators` of apache/rocketmq.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'%');
    (1..=127).contains(&name.len()) && name.bytes().all(is_allowed)
}

const NAME_RULE: &str = "must be 1 to 127 letters, digits, `_`, `-` and `%`";
