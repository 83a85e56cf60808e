//! How a connection begins: who we are, what is agreed on, which virtual host (section 2.2.4 of the
//! specification).

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};

use super::Settings;
use super::convert::short;
use super::wire::{FRAME_BYTES_MAX, Wire};
use crate::Failure;

/// Begins a connection.
///
/// # Errors
/// The server does not let us in, or is none.
pub(super) async fn shake_hands(wire: &mut Wire, settings: &Settings) -> Result<(), Failure> {
    let is_start = |it: &AMQPClass| match it {
        AMQPClass::Connection(connection::AMQPMethod::Start(it)) => Some(it.mechanisms.clone()),
        _ => None,
    };
    let mechanisms = wire.await_answer(0, is_start).await?;
    let mut offered = mechanisms.as_bytes().split(|it| *it == b' ');
    if !offered.any(|it| it == MECHANISM.as_bytes()) {
        let text = format!("the server takes {mechanisms}, not {MECHANISM}");
        return Err(Failure::refused(text));
    }
    let start_ok = connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties: client_properties(settings),
        mechanism: MECHANISM.into(),
        response: response(settings)?,
        locale: "en_US".into(),
    });
    let is_tune = |it: &AMQPClass| match it {
        AMQPClass::Connection(connection::AMQPMethod::Tune(it)) => Some(it.clone()),
        _ => None,
    };
    let question = AMQPClass::Connection(start_ok);
    let offer = wire.ask(0, question, is_tune).await?;
    let agreed = agree(&offer, settings.heartbeat_seconds);
    wire.out.frame_bytes_max = usize::try_from(agreed.frame_max).unwrap_or(FRAME_BYTES_MAX);
    wire.heartbeat = Duration::from_secs(agreed.heartbeat.into());
    let agreed = connection::AMQPMethod::TuneOk(agreed);
    wire.out.method(0, AMQPClass::Connection(agreed))?;
    let open = connection::AMQPMethod::Open(connection::Open {
        virtual_host: short("virtual host", &settings.virtual_host)?,
    });
    let is_open = |it: &AMQPClass| {
        matches!(it, AMQPClass::Connection(connection::AMQPMethod::OpenOk(_))).then_some(())
    };
    wire.ask(0, AMQPClass::Connection(open), is_open).await
}

/// Opens a channel.
///
/// # Errors
/// The server refuses; the stream has ended.
pub(super) async fn open_channel(wire: &mut Wire, number: u16) -> Result<(), Failure> {
    let open = channel::AMQPMethod::Open(channel::Open {});
    let is_open = |it: &AMQPClass| {
        matches!(it, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))).then_some(())
    };
    wire.ask(number, AMQPClass::Channel(open), is_open).await
}

/// The lower of both sides' limits; 0 is none. Heartbeats go if either side wants them.
fn agree(offer: &connection::Tune, heartbeat_seconds: u16) -> connection::TuneOk {
    let ours = u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX);
    let lower = |one: u16, other: u16| match (one, other) {
        (0, it) | (it, 0) => it,
        (one, other) => one.min(other),
    };
    connection::TuneOk {
        channel_max: lower(offer.channel_max, CHANNELS_MAX),
        frame_max: match offer.frame_max {
            0 => ours,
            theirs => theirs.min(ours),
        },
        heartbeat: lower(offer.heartbeat, heartbeat_seconds),
    }
}

fn response(settings: &Settings) -> Result<LongString, Failure> {
    let (user_name, password) = (settings.credentials.0)()?.into_text()?;
    Ok(match user_name {
        Some(user_name) => format!("\0{user_name}\0{password}").into(),
        None => format!("\0{GUEST}\0{GUEST}").into(),
    })
}

fn client_properties(settings: &Settings) -> FieldTable {
    let mut capabilities = FieldTable::default();
    for name in CAPABILITIES {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    for (name, text) in [
        ("product", "Tidewire"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("connection_name", &settings.name),
    ] {
        properties.insert(name.into(), AMQPValue::LongString(text.into()));
    }
    let capabilities = AMQPValue::FieldTable(capabilities);
    properties.insert("capabilities".into(), capabilities);
    properties
}

const MECHANISM: &str = "PLAIN";
/// The user that RabbitMQ lets in from its own machine.
const GUEST: &str = "guest";
/// More than are used.
const CHANNELS_MAX: u16 = 16;
/// What RabbitMQ does only for those who know it.
const CAPABILITIES: [&str; 6] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "per_consumer_qos",
    "publisher_confirms",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_limit_is_agreed_on_and_none_is_none() {
        let agreed = |channel_max, frame_max, theirs, ours| {
            let offer = connection::Tune {
                channel_max,
                frame_max,
                heartbeat: theirs,
            };
            let agreed = agree(&offer, ours);
            (agreed.channel_max, agreed.frame_max, agreed.heartbeat)
        };
        assert_eq!(agreed(2_047, 131_072, 60, 30), (16, 131_072, 30));
        assert_eq!(agreed(8, 4_096, 5, 30), (8, 4_096, 5));
        assert_eq!(agreed(0, 0, 0, 30), (16, 131_072, 30));
        assert_eq!(agreed(0, u32::MAX, 7, 0), (16, 131_072, 7));
    }
}
