//! What only a bridge to an AMQP 0-9-1 server has.

use super::rules::{Broken, demand};
use super::{Bridge, BridgeKind};

/// `[bridges.amqp091]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeAmqp091 {
    /// What is done about exchange and queue before they are used.
    pub declare: AmqpDeclare,
    /// What the exchange does with routing keys, where it is created.
    pub exchange_kind: AmqpExchangeKind,
    /// `NAME=VALUE`: arguments of the queue, where it is created.
    pub queue_arguments: Vec<String>,
    /// `NAME=VALUE`: arguments of the consumer.
    pub consumer_arguments: Vec<String>,
    /// The priority of messages that are published; `None` leaves it to the server.
    pub priority: Option<u16>,
}

/// What is done about exchange and queue before they are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AmqpDeclare {
    /// Nothing.
    None,
    /// They are looked for.
    #[default]
    Passive,
    /// They are created where they are missing, and the queue is bound to the exchange.
    Create,
}

/// What an exchange does with routing keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AmqpExchangeKind {
    /// Matches them with patterns.
    #[default]
    Topic,
    /// Compares them.
    Direct,
    /// Ignores them.
    Fanout,
    /// Looks at headers instead.
    Headers,
}

/// Whether the keys of a bridge fit AMQP 0-9-1, or are left alone by other kinds.
pub(super) fn check(bridge: &Bridge) -> Result<(), Broken> {
    let own = &bridge.amqp091;
    if bridge.kind != BridgeKind::Amqp091 {
        let is_unused = *own == BridgeAmqp091::default();
        return demand("amqp091", is_unused, "is for kind = \"amqp091\"");
    }
    let creates = own.declare == AmqpDeclare::Create;
    let problem = "is of no use without declare = \"create\"";
    let fits = creates || own.exchange_kind == AmqpExchangeKind::default();
    demand("amqp091.exchange_kind", fits, problem)?;
    let fits = creates || own.queue_arguments.is_empty();
    demand("amqp091.queue_arguments", fits, problem)?;
    let lists = [
        ("queue_arguments", &own.queue_arguments),
        ("consumer_arguments", &own.consumer_arguments),
    ];
    for (list, texts) in lists {
        let fits = bridge.receives() || texts.is_empty();
        let problem = "is of no use without `in` or `both`";
        demand(&format!("amqp091.{list}"), fits, problem)?;
        for (index, text) in texts.iter().enumerate() {
            let key = format!("amqp091.{list}.{index}");
            let (name, value) = text.split_once('=').unwrap_or_default();
            let is_pair = (1..=255).contains(&name.len()) && !value.is_empty();
            demand(&key, is_pair, "must be NAME=VALUE")?;
        }
    }
    Ok(())
}
