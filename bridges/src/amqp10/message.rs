//! The sections of a message that has come (AMQP 1.0 section 3.2).

use super::body::Body;
use super::performative::code;
use super::value::{Items, Malformed, Value, fields, take};

/// A message, as far as a record has a place for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message<'a> {
    pub(super) header: Header,
    pub(super) annotations: Items<'a>,
    pub(super) properties: Properties<'a>,
    pub(super) application: Items<'a>,
    pub(super) body: Body<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_there: bool,
    pub(super) is_durable: bool,
    pub(super) priority: u8,
    /// How many milliseconds it has left.
    pub(super) ttl_ms: Option<u32>,
    /// Nobody else has had it before.
    pub(super) is_first_acquirer: bool,
    /// How often it was delivered without success.
    pub(super) delivery_count: u32,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            is_there: false,
            is_durable: false,
            priority: PRIORITY,
            ttl_ms: None,
            is_first_acquirer: false,
            delivery_count: 0,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Properties<'a> {
    pub(super) message_id: Value<'a>,
    pub(super) to: Option<&'a str>,
    pub(super) subject: Option<&'a str>,
    pub(super) reply_to: Option<&'a str>,
    pub(super) correlation_id: Value<'a>,
    pub(super) content_type: Option<&'a str>,
    /// Milliseconds since 1970.
    pub(super) created_ms: Option<i64>,
}

/// Takes a message apart.
///
/// # Errors
/// It is none.
pub(super) fn read(mut bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut message = Message::default();
    while !bytes.is_empty() {
        let Value::Described(Some(code), mut section) = take(&mut bytes)? else {
            return Err(Malformed("a message with a section that is none"));
        };
        match code {
            code::HEADER => message.header = header(fields(section)?)?,
            code::MESSAGE_ANNOTATIONS => message.annotations = pairs(section)?,
            code::PROPERTIES => message.properties = properties(fields(section)?)?,
            code::APPLICATION_PROPERTIES => message.application = pairs(section)?,
            code::DATA => match take(&mut section)? {
                Value::Binary(part) => message.body.add_data(part)?,
                _ => return Err(Malformed("a data section without bytes")),
            },
            code::SEQUENCE => message.body.add_sequence(fields(section)?)?,
            code::VALUE => message.body.set_value(take(&mut section)?)?,
            code::DELIVERY_ANNOTATIONS | code::FOOTER => {}
            _ => return Err(Malformed("a message with an unknown section")),
        }
    }
    Ok(message)
}

fn pairs(mut section: &[u8]) -> Result<Items<'_>, Malformed> {
    match take(&mut section)? {
        Value::Map(pairs) => Ok(pairs),
        _ => Err(Malformed("a message with properties that are no map")),
    }
}

fn header(mut own: Items<'_>) -> Result<Header, Malformed> {
    let is_durable = own.field()?.is_true();
    let priority = own.field()?.number();
    Ok(Header {
        is_there: true,
        is_durable,
        priority: priority
            .and_then(|it| u8::try_from(it).ok())
            .unwrap_or(PRIORITY),
        ttl_ms: own.field()?.number(),
        is_first_acquirer: own.field()?.is_true(),
        delivery_count: own.field()?.number().unwrap_or(0),
    })
}

fn properties<'a>(mut own: Items<'a>) -> Result<Properties<'a>, Malformed> {
    let message_id = own.field()?;
    own.pass(1)?;
    let to = own.field()?.text();
    let subject = own.field()?.text();
    let reply_to = own.field()?.text();
    let correlation_id = own.field()?;
    let content_type = own.field()?.text();
    own.pass(2)?;
    Ok(Properties {
        message_id,
        to,
        subject,
        reply_to,
        correlation_id,
        content_type,
        created_ms: match own.field()? {
            Value::Timestamp(at_ms) => Some(at_ms),
            _ => None,
        },
    })
}

/// The priority of messages that say nothing of it.
pub(super) const PRIORITY: u8 = 4;
