//! How servers name what they hold.

use std::fmt::Write;

use super::encoder::{Encoder, Fields};
use super::message::Header;
use super::performative::code;
use super::settings::{Settings, Source};
use crate::separators::exchange_separators;

/// Whose names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// An address is a topic, as it is.
    #[default]
    Plain,
    /// Apache Artemis.
    Artemis,
    /// Apache ActiveMQ Classic.
    ActiveMq,
    /// RabbitMQ up to 3.13, with its plugin.
    RabbitMq3,
    /// RabbitMQ from 4.0.
    RabbitMq4,
    /// Azure Service Bus and Event Hubs.
    Azure,
}

/// What an address stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// Each subscriber gets each message.
    #[default]
    Topic,
    /// One consumer gets each message.
    Queue,
}

/// Where a record goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The address of the link; without one, messages say where they go.
    pub(super) link: Option<String>,
    /// The address in the message.
    pub(super) to: Option<String>,
    /// What the server routes by, if that is not the address.
    pub(super) subject: Option<String>,
}

impl Dialect {
    /// Where the record of a topic goes.
    pub(super) fn place(self, topic: &str, settings: &Settings) -> Place {
        let name = self.exchange(topic);
        let to = |text: String| Place {
            to: Some(text),
            ..Place::default()
        };
        match (self, settings.target) {
            (Self::Artemis, _) => to(name),
            (Self::ActiveMq, Node::Topic) => to(format!("topic://{name}")),
            (Self::ActiveMq, Node::Queue) => to(format!("queue://{name}")),
            (Self::RabbitMq4, Node::Topic) => {
                let exchange = escape(&settings.exchange);
                to(format!("/exchanges/{exchange}/{}", escape(&name)))
            }
            (Self::RabbitMq4, Node::Queue) => to(format!("/queues/{}", escape(&name))),
            (Self::RabbitMq3, Node::Topic) => Place {
                link: Some(format!("/exchange/{}", escape(&settings.exchange))),
                subject: Some(name),
                to: None,
            },
            (Self::RabbitMq3, Node::Queue) => Place {
                link: Some(format!("/amq/queue/{}", escape(&name))),
                ..Place::default()
            },
            (Self::Plain | Self::Azure, _) => Place {
                link: Some(name),
                ..Place::default()
            },
        }
    }

    /// The address of the one link that all records take, if they do; inside, `None` is the server
    /// itself.
    pub(super) fn only_link(self, settings: &Settings) -> Option<Option<String>> {
        match (self, settings.target) {
            (Self::RabbitMq3, Node::Topic) => Some(self.place("", settings).link),
            (Self::RabbitMq3, Node::Queue) | (Self::Plain | Self::Azure, _) => None,
            (Self::Artemis | Self::ActiveMq | Self::RabbitMq4, _) => Some(None),
        }
    }

    /// The far end of a link on the way out.
    pub(super) fn target(self, address: Option<&str>, node: Node, out: &mut Encoder<'_>) {
        let capability = address.and_then(|_| self.capability(node));
        out.composite(code::TARGET, |fields| {
            fields.maybe(address, |it, address| it.string(address));
            // durable, expiry-policy, timeout, dynamic, dynamic-node-properties
            fields.none(5);
            fields.maybe(capability, |it, name| it.symbols_of(name));
        });
    }

    /// The far end of the link on the way in.
    pub(super) fn source(self, source: &Source, exchange: &str, out: &mut Encoder<'_>) {
        let address = self.source_address(source, exchange);
        // What comes while we are away is kept for us.
        let is_kept = source.node == Node::Topic && matches!(self, Self::Artemis | Self::ActiveMq);
        let keep = |fields: &mut Fields<'_>| {
            fields.some(|it| it.uint(UNSETTLED_STATE));
            fields.some(|it| it.symbol("never"));
        };
        out.composite(code::SOURCE, |fields| {
            fields.some(|it| it.string(&address));
            match is_kept {
                true => keep(fields),
                false => fields.none(2),
            }
            // timeout, dynamic, dynamic-node-properties, distribution-mode, filter,
            // default-outcome, outcomes
            fields.none(7);
            fields.maybe(self.capability(source.node), |it, name| it.symbols_of(name));
        });
    }

    /// RabbitMQ 3 forgets what is on its way to us when credit is renewed, and then sends more than
    /// it may: it gets new credit when it has none left. So does a server that is not known.
    pub(super) fn may_exceed_credit(self) -> bool {
        matches!(self, Self::RabbitMq3 | Self::Plain)
    }

    /// Whether a message was sent before, where the server always says so besides the count of
    /// failures; others do not tell, and Artemis counts only some of what a lost connection brings
    /// again.
    pub(super) fn is_redelivered(self, header: Header) -> Option<bool> {
        let says_so = matches!(self, Self::RabbitMq3 | Self::RabbitMq4);
        says_so.then_some(header.is_there && !header.is_first_acquirer)
    }

    fn source_address(self, source: &Source, exchange: &str) -> String {
        let name = &source.address;
        if name.starts_with('/') || name.contains("://") {
            return name.clone();
        }
        match (self, source.node) {
            (Self::ActiveMq, Node::Topic) => format!("topic://{name}"),
            (Self::ActiveMq, Node::Queue) => format!("queue://{name}"),
            (Self::RabbitMq3, Node::Queue) => format!("/amq/queue/{}", escape(name)),
            (Self::RabbitMq3, Node::Topic) => {
                format!("/exchange/{}/{}", escape(exchange), escape(name))
            }
            (Self::RabbitMq4, _) => format!("/queues/{}", escape(name)),
            (Self::Artemis | Self::Plain | Self::Azure, _) => name.clone(),
        }
    }

    /// The topic of a message: of the name that it was sent to, else of what we receive from.
    pub(super) fn topic(self, sent_to: Option<&str>, source: &str) -> String {
        let name = sent_to.filter(|it| !it.is_empty()).unwrap_or(source);
        let schemes = ["topic://", "queue://"];
        let name = schemes.iter().fold(name, |name, scheme| {
            name.strip_prefix(scheme).unwrap_or(name)
        });
        self.exchange(name)
    }

    fn exchange(self, name: &str) -> String {
        match self {
            Self::Plain | Self::Azure => name.to_owned(),
            Self::Artemis | Self::ActiveMq | Self::RabbitMq3 | Self::RabbitMq4 => {
                exchange_separators(name)
            }
        }
    }

    fn capability(self, node: Node) -> Option<&'static str> {
        match (self, node) {
            (Self::Artemis | Self::ActiveMq, Node::Topic) => Some("topic"),
            (Self::Artemis | Self::ActiveMq, Node::Queue) => Some("queue"),
            _ => None,
        }
    }
}

/// A part of an address in which nothing separates.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            // Writing to a text does not fail.
            other => drop(write!(escaped, "%{other:02X}")),
        }
    }
    escaped
}

/// The durability of a source that outlives its connection (section 3.5.5).
const UNSETTLED_STATE: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp10::tests::settings;

    fn place(dialect: Dialect, target: Node, topic: &str) -> [Option<String>; 3] {
        let settings = Settings {
            dialect,
            target,
            ..settings()
        };
        let place = dialect.place(topic, &settings);
        [place.link, place.to, place.subject]
    }

    #[test]
    fn each_dialect_has_its_own_address_of_a_topic() {
        let text = |text: &str| Some(text.to_owned());
        let cases = [
            (Dialect::Plain, Node::Topic, [text("a/b.c"), None, None]),
            (Dialect::Azure, Node::Queue, [text("a/b.c"), None, None]),
            (Dialect::Artemis, Node::Queue, [None, text("a.b/c"), None]),
            (
                Dialect::ActiveMq,
                Node::Topic,
                [None, text("topic://a.b/c"), None],
            ),
            (
                Dialect::ActiveMq,
                Node::Queue,
                [None, text("queue://a.b/c"), None],
            ),
            (
                Dialect::RabbitMq3,
                Node::Topic,
                [text("/exchange/amq.topic"), None, text("a.b/c")],
            ),
            (
                Dialect::RabbitMq3,
                Node::Queue,
                [text("/amq/queue/a.b%2Fc"), None, None],
            ),
            (
                Dialect::RabbitMq4,
                Node::Topic,
                [None, text("/exchanges/amq.topic/a.b%2Fc"), None],
            ),
            (
                Dialect::RabbitMq4,
                Node::Queue,
                [None, text("/queues/a.b%2Fc"), None],
            ),
        ];
        for (dialect, target, expected) in cases {
            assert_eq!(place(dialect, target, "a/b.c"), expected, "{dialect:?}");
        }
    }

    #[test]
    fn a_source_is_a_name_of_the_dialect_or_an_address_as_it_is() {
        let address = |dialect: Dialect, node: Node, name: &str| {
            let address = name.to_owned();
            dialect.source_address(&Source { address, node }, "e")
        };
        let cases = [
            (Dialect::Artemis, Node::Queue, "q", "q"),
            (Dialect::ActiveMq, Node::Queue, "q", "queue://q"),
            (Dialect::ActiveMq, Node::Topic, "q", "topic://q"),
            (Dialect::RabbitMq3, Node::Queue, "q/1", "/amq/queue/q%2F1"),
            (Dialect::RabbitMq3, Node::Topic, "k.1", "/exchange/e/k.1"),
            (Dialect::RabbitMq4, Node::Queue, "q", "/queues/q"),
            (Dialect::RabbitMq4, Node::Queue, "/queues/q", "/queues/q"),
            (
                Dialect::Azure,
                Node::Queue,
                "t/Subscriptions/s",
                "t/Subscriptions/s",
            ),
        ];
        for (dialect, node, name, expected) in cases {
            assert_eq!(address(dialect, node, name), expected, "{dialect:?}");
        }
    }

    #[test]
    fn a_message_has_the_topic_that_it_was_sent_to_or_else_that_of_the_source() {
        let artemis = Dialect::Artemis;
        assert_eq!(artemis.topic(Some("a.b"), "q"), "a/b");
        assert_eq!(artemis.topic(None, "q.1"), "q/1");
        assert_eq!(artemis.topic(Some(""), "q"), "q");
        assert_eq!(Dialect::ActiveMq.topic(Some("queue://a.b"), "q"), "a/b");
        assert_eq!(Dialect::Plain.topic(Some("a.b"), "q"), "a.b");
    }
}
