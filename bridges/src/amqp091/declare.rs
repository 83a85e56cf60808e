//! What is made of exchange and queue before they are used.

use amq_protocol::protocol::{AMQPClass, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};

use super::convert::short;
use super::wire::Wire;
use super::{Declare, ExchangeKind, Settings};
use crate::Failure;

/// Sees to the exchange, unless it is one that every server has.
///
/// # Errors
/// It is missing, is another one, or may not be created.
pub(super) async fn exchange(
    settings: &Settings,
    wire: &mut Wire,
    channel: u16,
) -> Result<(), Failure> {
    if settings.exchange.is_empty() {
        return Ok(());
    }
    let kind = match &settings.declare {
        Declare::Nothing => return Ok(()),
        Declare::Exists => ExchangeKind::Topic,
        Declare::Create { exchange_kind, .. } => *exchange_kind,
    };
    let declare = exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: short("exchange", &settings.exchange)?,
        kind: kind.name().into(),
        passive: settings.declare == Declare::Exists || settings.exchange.starts_with("amq."),
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTable::default(),
    });
    let is_declared = |it: &AMQPClass| {
        matches!(it, AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(_))).then_some(())
    };
    let question = AMQPClass::Exchange(declare);
    wire.ask(channel, question, is_declared).await
}

/// Creates the queue and binds it, if that is wanted; whether one is there is seen when it is
/// consumed.
///
/// # Errors
/// It is another one, or may not be created.
pub(super) async fn queue(
    settings: &Settings,
    wire: &mut Wire,
    channel: u16,
    queue: &str,
) -> Result<(), Failure> {
    let Declare::Create {
        queue_arguments,
        filters,
        ..
    } = &settings.declare
    else {
        return Ok(());
    };
    let name = short("queue", queue)?;
    let declare = queue::AMQPMethod::Declare(queue::Declare {
        queue: name.clone(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: arguments(queue_arguments)?,
    });
    let is_declared = |it: &AMQPClass| {
        matches!(it, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))).then_some(())
    };
    let question = AMQPClass::Queue(declare);
    wire.ask(channel, question, is_declared).await?;
    if settings.exchange.is_empty() {
        // Every queue is bound to it by its own name.
        return Ok(());
    }
    let exchange = short("exchange", &settings.exchange)?;
    for filter in filters {
        let bind = queue::AMQPMethod::Bind(queue::Bind {
            queue: name.clone(),
            exchange: exchange.clone(),
            routing_key: short("routing key", &binding_key(filter))?,
            nowait: false,
            arguments: FieldTable::default(),
        });
        let is_bound = |it: &AMQPClass| {
            matches!(it, AMQPClass::Queue(queue::AMQPMethod::BindOk(_))).then_some(())
        };
        wire.ask(channel, AMQPClass::Queue(bind), is_bound).await?;
    }
    Ok(())
}

/// Arguments as RabbitMQ wants them: numbers and facts are no texts.
///
/// # Errors
/// A name is longer than AMQP can say.
pub(super) fn arguments(pairs: &[(String, String)]) -> Result<FieldTable, Failure> {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        let value = match (value.parse(), value.as_str()) {
            (Ok(number), _) => AMQPValue::LongLongInt(number),
            (_, "true") => AMQPValue::Boolean(true),
            (_, "false") => AMQPValue::Boolean(false),
            (_, text) => AMQPValue::LongString(LongString::from(text)),
        };
        table.insert(short("argument", name)?, value);
    }
    Ok(table)
}

/// The pattern of a topic exchange for a topic filter: `+` is a word, `#` any number of them.
fn binding_key(filter: &str) -> String {
    let levels = filter.split('/').map(|level| match level {
        "+" => "*".to_owned(),
        level => level.replace('.', "/"),
    });
    levels.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_filter_becomes_the_pattern_of_the_same_keys() {
        assert_eq!(binding_key("a/+/b.c/#"), "a.*.b/c.#");
        assert_eq!(binding_key("#"), "#");
    }

    #[test]
    fn arguments_have_the_types_that_the_server_asks_for() {
        let pairs = [
            ("x-queue-type", "quorum"),
            ("x-max-length", "10"),
            ("x-single-active-consumer", "true"),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let table = arguments(&pairs).unwrap();
        let table = table.inner();
        assert_eq!(
            table["x-queue-type"],
            AMQPValue::LongString("quorum".into())
        );
        assert_eq!(table["x-max-length"], AMQPValue::LongLongInt(10));
        assert_eq!(table["x-single-active-consumer"], AMQPValue::Boolean(true));
    }
}
