//! Rules between the keys of bridges.

use std::collections::HashSet;

use tidewire_bridges::{Template, TemplateError};
use tidewire_protocol::topic::{Topic, TopicFilter};

use super::rules::{Broken, demand};
use super::spelling::similar;
use super::url::Scheme;
use super::{
    Bridge, BridgeKind, BridgeProtocol, BridgeRule, BridgeStart, Config, KafkaGuarantee,
    QueueOverflow, SaslMechanism, Transport, bridge_amqp10, bridge_amqp091, bridge_kafka,
    bridge_payload, bridge_publisher, bridge_rocketmq,
};

/// The first rule about bridges that does not hold.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    if let Some(node) = &config.node {
        demand("node", is_name(node), NAME_RULE)?;
    }
    let mut names = HashSet::new();
    let mut sessions = HashSet::new();
    for (index, bridge) in config.bridges.iter().enumerate() {
        let within = |broken: Broken| broken.within(&format!("bridges.{index}"));
        check_bridge(bridge, config.limits.topic_levels_max).map_err(within)?;
        bridge_publisher::check(bridge, &config.mqtt).map_err(within)?;
        let text = bridge.client_id.as_deref().unwrap_or_default();
        let is_stable = config.node.is_some() || !text.contains("{node}");
        let problem = "names {node}, but node is not set: a node without a name gets another at \
                       every start, and the session at the other broker would be lost";
        demand("client_id", is_stable, problem).map_err(within)?;
        let own = &bridge.kafka;
        let is_known = own.guarantee == KafkaGuarantee::AtLeastOnce
            || own.transactional_id.is_some()
            || config.node.is_some();
        let problem = "is missing, and node is not set: a node without a name gets another at \
                       every start, and would not find its last transaction";
        demand("kafka.transactional_id", is_known, problem).map_err(within)?;
        let is_new = names.insert(&bridge.name);
        demand("name", is_new, "is the name of an earlier bridge").map_err(within)?;
        if let Some(client_id) = &bridge.client_id {
            let client_id = client_id.replace("{bridge}", &bridge.name);
            for server in &bridge.servers {
                let is_new = sessions.insert((client_id.clone(), server));
                let problem = "is used at the same server by an earlier bridge: they would \
                               disconnect each other";
                demand("client_id", is_new, problem).map_err(within)?;
            }
        }
    }
    Ok(())
}

fn check_bridge(bridge: &Bridge, levels_max: usize) -> Result<(), Broken> {
    demand("name", is_name(&bridge.name), NAME_RULE)?;
    let count = bridge.servers.len();
    let problem = "needs at least one URL such as mqtt://host:1883";
    demand("servers", count > 0, problem)?;
    demand("servers", count <= SERVERS_MAX, "has more than 64 URLs")?;
    check_mqtt_only(bridge)?;
    check_amqp091(bridge)?;
    check_start(bridge)?;
    bridge_amqp091::check(bridge)?;
    bridge_amqp10::check(bridge)?;
    bridge_kafka::check(bridge)?;
    bridge_rocketmq::check(bridge)?;
    check_servers(bridge)?;
    check_numbers(bridge)?;
    check_secrets(bridge)?;
    let topics = [
        ("dead_letter", &bridge.dead_letter),
        ("notify_topic", &bridge.notify_topic),
    ];
    for (key, topic) in topics {
        if let Some(topic) = topic {
            let is_topic = Topic::parse(topic, levels_max).is_ok();
            demand(key, is_topic, "must be a topic without wildcards")?;
        }
    }
    let lists = [
        ("out", &bridge.out),
        ("in", &bridge.inward),
        ("both", &bridge.both),
    ];
    let has_rules = lists.iter().any(|(_, rules)| !rules.is_empty());
    demand(
        "out",
        has_rules,
        "is missing: without out, in or both nothing would cross",
    )?;
    for (list, rules) in lists {
        for (index, rule) in rules.iter().enumerate() {
            let checked = check_rule(rule, levels_max)
                .and_then(|()| check_own_topics(rule, list))
                .and_then(|()| check_topic(rule, list))
                .and_then(|()| check_headers(rule, list))
                .and_then(|()| bridge_payload::check(rule, prefix_of(rule, list)))
                .and_then(|()| check_place(rule));
            checked.map_err(|it| it.within(&format!("{list}.{index}")))?;
        }
    }
    check_loops(bridge)
}

/// Texts that only rules of `out` have.
fn check_place(rule: &BridgeRule) -> Result<(), Broken> {
    place_texts(rule)
        .try_for_each(|(key, text)| check_template(&key, text, rule, &rule.local_prefix))
}

/// Texts with placeholders that say where in the other system a message goes, and their keys.
pub(super) fn place_texts(rule: &BridgeRule) -> impl Iterator<Item = (String, &str)> {
    let single = [
        ("key", &rule.key),
        ("partition", &rule.partition),
        ("timestamp_ms", &rule.timestamp_ms),
        ("tag", &rule.tag),
        ("delay_ms", &rule.delay_ms),
        ("priority", &rule.priority),
    ];
    let single = single
        .into_iter()
        .filter_map(|(key, text)| Some((key.to_owned(), text.as_deref()?)));
    let keys = rule.keys.iter().map(String::as_str).enumerate();
    single.chain(keys.map(|(index, text)| (format!("keys.{index}"), text)))
}

/// What other kinds have no use for.
fn check_mqtt_only(bridge: &Bridge) -> Result<(), Broken> {
    let is_mqtt = bridge.kind == BridgeKind::Mqtt;
    let unused = [
        ("client_id", bridge.client_id.is_none()),
        ("notify_topic", bridge.notify_topic.is_none()),
        ("protocol", bridge.protocol == BridgeProtocol::Auto),
    ];
    let mut unused = unused.into_iter();
    unused.try_for_each(|(key, is_unused)| {
        demand(key, is_mqtt || is_unused, "is for kind = \"mqtt\"")
    })
}

fn check_amqp091(bridge: &Bridge) -> Result<(), Broken> {
    let is_amqp = bridge.kind == BridgeKind::Amqp091;
    // Over AMQP 1.0 they are for RabbitMQ.
    let has_exchange = is_amqp || bridge.kind == BridgeKind::Amqp10;
    let texts = [
        ("virtual_host", &bridge.virtual_host, has_exchange),
        ("exchange", &bridge.exchange, has_exchange),
        ("queue", &bridge.queue, is_amqp),
    ];
    for (key, text, is_known) in texts {
        let fits = is_known || text.is_none();
        demand(key, fits, "is for kind = \"amqp091\"")?;
        let is_short = text.as_ref().is_none_or(|it| it.len() <= 255);
        demand(key, is_short, "is longer than 255 bytes")?;
    }
    for (index, rule) in bridge.out.iter().enumerate() {
        let fits = has_exchange || rule.priority.is_none();
        let either = "is for kind = \"amqp091\" or \"amqp10\"";
        demand(&format!("out.{index}.priority"), fits, either)?;
    }
    if !is_amqp {
        return demand("mandatory", bridge.mandatory, "is for kind = \"amqp091\"");
    }
    let receives = bridge.receives();
    let problem = "is missing: `in` and `both` receive from a queue";
    demand("queue", !receives || bridge.queue.is_some(), problem)?;
    let problem = "is of no use without `in` or `both`";
    demand("queue", receives || bridge.queue.is_none(), problem)
}

fn check_start(bridge: &Bridge) -> Result<(), Broken> {
    let receives = bridge.receives();
    let problem = "share the way out only: give `in` and `both` to a bridge of their own";
    demand("connections", bridge.connections == 1 || !receives, problem)?;
    let is_lazy = bridge.start == BridgeStart::Lazy;
    let problem = "connects only while something waits here: `in` and `both` would not receive";
    demand("start", !is_lazy || !receives, problem)?;
    let text = bridge.client_id.as_deref().unwrap_or_default();
    let names = ["{bridge}", "{node}", "{host}"];
    let rest = names
        .iter()
        .fold(text.to_owned(), |rest, name| rest.replace(name, ""));
    let problem = "has a brace that is no placeholder: {bridge}, {node} or {host}";
    demand("client_id", !rest.contains(['{', '}']), problem)
}

fn check_servers(bridge: &Bridge) -> Result<(), Broken> {
    for (index, server) in bridge.servers.iter().enumerate() {
        let key = format!("servers.{index}");
        let schemes = match bridge.kind {
            BridgeKind::Mqtt => "must begin with mqtt://, mqtts://, ws://, wss:// or unix://",
            BridgeKind::Amqp091 | BridgeKind::Amqp10 => "must begin with amqp:// or amqps://",
            BridgeKind::Kafka => "must begin with kafka:// or kafkas://",
            BridgeKind::Rocketmq => "must begin with rocketmq:// or rocketmqs://",
        };
        let scheme = Scheme::of_server(bridge.kind, server).map_err(|_| Broken {
            key: key.clone(),
            problem: schemes.to_owned(),
        })?;
        let (host, path) = scheme.rest.split_once('/').unwrap_or((scheme.rest, ""));
        let is_plain = bridge.kind == BridgeKind::Mqtt || path.is_empty();
        let problem = match bridge.kind {
            BridgeKind::Amqp091 => "must not hold a path: use virtual_host",
            _ => "must not hold a path",
        };
        demand(&key, is_plain, problem)?;
        let has_host = scheme.transport == Transport::Unix || !host.is_empty();
        demand(&key, has_host && !scheme.rest.is_empty(), "names no host")?;
        demand(
            &key,
            !host.contains('@'),
            "must not hold credentials: use user_name and password",
        )?;
        if scheme.transport != Transport::Unix {
            let port = host.rsplit(']').next().and_then(|it| it.rsplit_once(':'));
            let is_port = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|it| it > 0));
            demand(&key, is_port, "has a port outside 1 to 65535")?;
        }
    }
    let is_encrypted = bridge.is_encrypted();
    let unused = "is for servers with mqtts://, wss://, amqps://, kafkas:// or rocketmqs://";
    demand("ca", is_encrypted || bridge.ca.is_none(), unused)?;
    demand(
        "certificate",
        is_encrypted || bridge.certificate.is_none(),
        unused,
    )?;
    let pair = bridge.certificate.is_some() == bridge.key.is_some();
    demand("key", pair, "and certificate are needed together")
}

fn check_numbers(bridge: &Bridge) -> Result<(), Broken> {
    let grows = bridge.restart_max_ms >= bridge.restart_base_ms;
    demand("restart_max_ms", grows, "is smaller than restart_base_ms")?;
    let alive = bridge.keep_alive_seconds == 0 || bridge.keep_alive_seconds >= 5;
    demand(
        "keep_alive_seconds",
        alive,
        "is too short: 0 (off) or 5 to 65535",
    )?;
    let fits = bridge.queue_overflow != QueueOverflow::Disconnect;
    let problem = "must be drop_oldest, drop_newest or reject: a bridge is no client to disconnect";
    demand("queue_overflow", fits, problem)
}

fn check_secrets(bridge: &Bridge) -> Result<(), Broken> {
    let given = [
        bridge.password.is_some(),
        bridge.password_file.is_some(),
        bridge.password_env.is_some(),
    ];
    let count = given.iter().filter(|it| **it).count();
    let problem = "is given in more than one way: use password, password_file or password_env";
    demand("password", count <= 1, problem)?;
    let is_token = bridge.kafka.sasl_mechanism == SaslMechanism::OauthBearer;
    let named = count == 0 || is_token || bridge.user_name.is_some();
    demand("user_name", named, "is needed for a password")?;
    if let Some(name) = &bridge.password_env {
        let is_set = std::env::var_os(name).is_some();
        demand("password_env", is_set, "names a variable that is not set")?;
    }
    Ok(())
}

fn check_rule(rule: &BridgeRule, levels_max: usize) -> Result<(), Broken> {
    demand(
        "filters",
        !rule.filters.is_empty(),
        "needs at least one topic filter",
    )?;
    for (key, prefix) in [
        ("local_prefix", &rule.local_prefix),
        ("remote_prefix", &rule.remote_prefix),
    ] {
        let is_plain = !prefix.contains(['+', '#', '\0']);
        demand(key, is_plain, "must not hold wildcards")?;
    }
    for (list, filters) in [("filters", &rule.filters), ("exclude", &rule.exclude)] {
        for (index, filter) in filters.iter().enumerate() {
            let key = format!("{list}.{index}");
            let is_remap = filter.is_empty();
            let both = !rule.local_prefix.is_empty() && !rule.remote_prefix.is_empty();
            let problem = "may be empty only with both local_prefix and remote_prefix";
            demand(&key, !is_remap || both, problem)?;
            for prefix in [&rule.local_prefix, &rule.remote_prefix] {
                check_filter(&key, &format!("{prefix}{filter}"), levels_max)?;
            }
        }
    }
    Ok(())
}

fn check_filter(key: &str, filter: &str, levels_max: usize) -> Result<(), Broken> {
    TopicFilter::parse(filter, levels_max).map_err(|error| Broken {
        key: key.to_owned(),
        problem: format!("makes `{filter}`: {error}"),
    })?;
    let syntax = ["$share/", "$exclusive/", "$delayed/"];
    let is_plain = !syntax.iter().any(|prefix| filter.starts_with(prefix));
    demand(key, is_plain, "must be a plain topic filter")
}

/// Topics of the broker's own are read by bridges, and never written.
fn check_own_topics(rule: &BridgeRule, list: &str) -> Result<(), Broken> {
    if list == "out" || rule.topic.is_some() {
        return Ok(());
    }
    for (index, filter) in rule.filters.iter().enumerate() {
        let filter = format!("{}{filter}", rule.local_prefix);
        let is_own = filter == "$SYS" || filter.starts_with("$SYS/");
        let problem = "would make topics of the broker's own: what comes in cannot be below $SYS";
        demand(&format!("filters.{index}"), !is_own, problem)?;
    }
    Ok(())
}

fn check_topic(rule: &BridgeRule, list: &str) -> Result<(), Broken> {
    let Some(topic) = &rule.topic else {
        return Ok(());
    };
    let (from, key, to) = match list {
        "in" => (&rule.remote_prefix, "local_prefix", &rule.local_prefix),
        _ => (&rule.local_prefix, "remote_prefix", &rule.remote_prefix),
    };
    demand(key, to.is_empty(), "is of no use with topic")?;
    check_template("topic", topic, rule, from)
}

/// A placeholder that can never exist is found here, and not when the first message comes; `prefix`
/// is that of the side that messages come from.
pub(super) fn check_template(
    key: &str,
    text: &str,
    rule: &BridgeRule,
    prefix: &str,
) -> Result<(), Broken> {
    let wrong = |error: TemplateError| Broken {
        key: key.to_owned(),
        problem: format!("is {text:?}: {error}{}", meant(&error)),
    };
    let template = Template::parse(text).map_err(wrong)?;
    let mut filters = rule.filters.iter();
    filters.try_for_each(|it| template.check(&format!("{prefix}{it}")).map_err(wrong))
}

fn meant(error: &TemplateError) -> String {
    let unknown = error.unknown();
    let near = unknown.and_then(|(word, known)| similar(word, known.iter().copied()));
    near.map_or_else(String::new, |it| format!("; did you mean {it:?}?"))
}

/// What topics begin with on the side that messages come from.
fn prefix_of<'a>(rule: &'a BridgeRule, list: &str) -> &'a str {
    match list {
        "in" => &rule.remote_prefix,
        _ => &rule.local_prefix,
    }
}

fn check_headers(rule: &BridgeRule, list: &str) -> Result<(), Broken> {
    let from = prefix_of(rule, list);
    let lists = [
        ("user_properties_rename", &rule.user_properties_rename),
        ("user_properties_add", &rule.user_properties_add),
    ];
    for (key, texts) in lists {
        for (index, text) in texts.iter().enumerate() {
            let key = format!("{key}.{index}");
            let (name, value) = text.split_once('=').unwrap_or_default();
            let is_pair = !name.is_empty() && (!value.is_empty() || key.contains("add"));
            demand(&key, is_pair, "must be NAME=TEXT")?;
            let new = if key.contains("add") { name } else { value };
            let is_free = !new.starts_with("tidewire-");
            demand(
                &key,
                is_free,
                "makes a property of the broker's own (tidewire-)",
            )?;
        }
    }
    for (index, text) in rule.user_properties_add.iter().enumerate() {
        let (_, value) = text.split_once('=').unwrap_or_default();
        check_template(&format!("user_properties_add.{index}"), value, rule, from)?;
    }
    Ok(())
}

/// Where neither user properties nor the bridge bit travel, only different names end a loop.
fn check_loops(bridge: &Bridge) -> Result<(), Broken> {
    let is_marked = matches!(bridge.protocol, BridgeProtocol::Auto | BridgeProtocol::V5);
    if is_marked || bridge.bridge_bit || bridge.allow_loops {
        return Ok(());
    }
    for (index, rule) in bridge.both.iter().enumerate() {
        let problem = "would circle for ever without MQTT 5.0, the bridge bit or different \
                       prefixes: set one of them, or allow_loops = true";
        let key = format!("both.{index}.filters");
        demand(&key, rule.local_prefix != rule.remote_prefix, problem)?;
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

const SERVERS_MAX: usize = 64;
const NAME_RULE: &str = "must be 1 to 64 letters, digits, `.`, `_` and `-`";
