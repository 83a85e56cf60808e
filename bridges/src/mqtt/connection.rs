//! One connection: the handshake, and the task that carries bytes until the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tidewire_protocol::codec::{
    ConnAck, Connect, ConnectProperties, Disconnect, Packet, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Receiver, RetainHandling, Subscribe, Subscription,
    SubscriptionOptions, Unsubscribe, UserProperties, Will, WillProperties, decode, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::engine::Engine;
use super::failure::is_operators;
use super::peer::Peer;
use super::{NODE_PROPERTY, Settings};
use crate::dial::write_some;
use crate::ports::{Orders, Ports};
use crate::progress::Progress;
use crate::{Credentials, Failure, Stream};

/// The way CONNECT is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) version: ProtocolVersion,
    pub(super) is_bridge: bool,
}

/// Why a handshake failed.
pub(super) enum Refusal {
    /// The server does not know this way of writing CONNECT.
    Dialect(Failure),
    /// Anything else.
    Other(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// A stream whose CONNECT was accepted.
pub(super) struct Greeted {
    pub(super) stream: Box<dyn Stream>,
    /// What came after CONNACK.
    pub(super) input: BytesMut,
    pub(super) peer: Peer,
    pub(super) session_present: bool,
    pub(super) warnings: Vec<String>,
}

/// Sends CONNECT and awaits CONNACK.
pub(super) async fn shake_hands(
    mut stream: Box<dyn Stream>,
    settings: &Settings,
    dialect: Dialect,
    clean_start: bool,
) -> Result<Greeted, Refusal> {
    let mut out = Vec::new();
    write_connect(settings, dialect, clean_start, &mut out)?;
    let io = |error: std::io::Error| Failure::of_stream("connection lost", &error);
    stream.write_all(&out).await.map_err(io)?;
    stream.flush().await.map_err(io)?;
    let mut input = BytesMut::with_capacity(READ_BYTES);
    loop {
        if let Some(greeted) = read_connack(&mut input, settings, dialect)? {
            let (peer, session_present, warnings) = greeted;
            return Ok(Greeted {
                stream,
                input,
                peer,
                session_present,
                warnings,
            });
        }
        if stream.read_buf(&mut input).await.map_err(io)? == 0 {
            let failure = Failure::retry("the server closed the connection instead of CONNACK");
            return Err(if dialect.is_bridge {
                // Servers that do not know the bridge bit just close.
                Refusal::Dialect(failure)
            } else {
                Refusal::Other(failure)
            });
        }
    }
}

fn write_connect(
    settings: &Settings,
    dialect: Dialect,
    clean_start: bool,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let Credentials {
        user_name,
        password,
    } = (settings.credentials.0)()?;
    let node = [(NODE_PROPERTY, settings.node.as_str())];
    let will = settings.will.as_ref().map(|(topic, payload)| Will {
        qos: Default::default(),
        retain: true,
        topic,
        payload,
        properties: WillProperties::default(),
    });
    let connect = Connect {
        version: dialect.version,
        is_bridge: dialect.is_bridge,
        clean_start,
        keep_alive_seconds: settings.keep_alive_seconds,
        properties: ConnectProperties {
            session_expiry_seconds: Some(settings.session_expiry_seconds),
            receive_maximum: Some(settings.receive_maximum),
            maximum_packet_size: u32::try_from(settings.packet_bytes_max)
                .ok()
                .and_then(std::num::NonZeroU32::new),
            topic_alias_maximum: Some(super::INBOUND_ALIASES_MAX),
            user_properties: UserProperties::from_pairs(&node),
            ..ConnectProperties::default()
        },
        client_id: &settings.client_id,
        will,
        user_name: user_name.as_deref(),
        password: password.as_deref(),
    };
    encode(&Packet::Connect(Box::new(connect)), dialect.version, out)
        .map(drop)
        .map_err(|error| Failure::refused(format!("CONNECT cannot be written: {error}")))
}

type Answer = (Peer, bool, Vec<String>);

fn read_connack(
    input: &mut BytesMut,
    settings: &Settings,
    dialect: Dialect,
) -> Result<Option<Answer>, Refusal> {
    // An old server answers in its own version, whatever was asked.
    if let [0x20, 0x02, _, 0x01, ..] = input[..] {
        let version = dialect.version;
        let text = format!("the server does not speak {version:?}");
        return Err(Refusal::Dialect(Failure::refused(text)));
    }
    let bytes_max = settings.packet_bytes_max;
    let decoded = decode(input, dialect.version, Receiver::Client, bytes_max)
        .map_err(|error| Failure::retry(format!("the server broke the protocol: {error}")))?;
    let Some((packet, used)) = decoded else {
        return Ok(None);
    };
    let Packet::ConnAck(answer) = packet else {
        return Err(Failure::retry("the server sent something else than CONNACK").into());
    };
    check(&answer)?;
    let peer = Peer::new(settings, dialect.version, &answer.properties);
    let warnings = peer.warnings(settings, &answer.properties);
    let answer = (peer, answer.session_present, warnings);
    input.advance(used);
    Ok(Some(answer))
}

fn check(answer: &ConnAck<'_>) -> Result<(), Refusal> {
    let reason = answer.reason;
    if reason == ReasonCode::Success {
        return Ok(());
    }
    let said = answer.properties.reason_string;
    let said = said.map(|it| format!(" ({it})")).unwrap_or_default();
    let text = format!("connection refused by the server: {reason:?}{said}");
    Err(match reason {
        ReasonCode::UnsupportedProtocolVersion => Refusal::Dialect(Failure::refused(text)),
        reason if is_operators(reason) => Failure::refused(text).into(),
        _ => Failure::retry(text).into(),
    })
}

/// The task of an accepted connection.
pub(super) struct Connection {
    pub(super) engine: OwnedMutexGuard<Engine>,
    pub(super) ports: Arc<Ports>,
    pub(super) settings: Arc<Settings>,
    pub(super) keep_alive: Duration,
    pub(super) input: BytesMut,
    pub(super) out: Vec<u8>,
}

/// When things last happened.
struct Times {
    sent: Instant,
    received: Instant,
    progress: Progress,
    /// When a PINGREQ went out that has no answer.
    ping: Option<Instant>,
}

impl Connection {
    /// Appends the greeting, the end of obsolete subscriptions and the subscriptions.
    pub(super) fn open(&mut self, obsolete: &[String]) {
        let settings = Arc::clone(&self.settings);
        if let Some((topic, payload)) = &settings.greeting {
            self.engine.put(&notice(topic, payload), &mut self.out);
        }
        // Before 5.0 every SUBSCRIBE brings all retained messages again.
        if self.engine.is_subscribed {
            return;
        }
        let packets = settings.subscriptions.chunks(SUBSCRIPTIONS_MAX).len();
        let mut ids = self.engine.subscribe(packets).into_iter();
        let spare = self.engine.spare_ids().into_iter();
        for (packet_id, chunk) in spare.zip(obsolete.chunks(SUBSCRIPTIONS_MAX)) {
            let unsubscribe = Unsubscribe {
                packet_id,
                user_properties: UserProperties::default(),
                filters: chunk.iter().map(String::as_str).collect(),
            };
            self.engine
                .put(&Packet::Unsubscribe(unsubscribe), &mut self.out);
        }
        let chunks = settings.subscriptions.chunks(SUBSCRIPTIONS_MAX);
        for (packet_id, chunk) in ids.by_ref().zip(chunks) {
            let subscriptions = chunk.iter().map(|it| Subscription {
                filter: &it.filter,
                options: SubscriptionOptions {
                    qos: it.qos,
                    // What this bridge sends does not come back, and reconnects echo nothing.
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::SendIfNew,
                },
            });
            let subscribe = Subscribe {
                packet_id,
                subscription_id: None,
                user_properties: UserProperties::default(),
                subscriptions: subscriptions.collect(),
            };
            self.engine
                .put(&Packet::Subscribe(subscribe), &mut self.out);
        }
    }

    /// Carries bytes until the connection ends, and says why it did.
    pub(super) async fn run(mut self, stream: Box<dyn Stream>) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let failure = match self.serve(&mut reader, &mut writer).await {
            Ok(why) => {
                self.say_goodbye(&mut writer).await;
                Failure::retry(why)
            }
            Err(failure) => failure,
        };
        self.pass_on();
        self.ports.fail(failure);
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(
        &mut self,
        reader: &mut ReadHalf<Box<dyn Stream>>,
        writer: &mut WriteHalf<Box<dyn Stream>>,
    ) -> Result<&'static str, Failure> {
        let lost = |error: std::io::Error| Failure::of_stream("connection lost", &error);
        let now = Instant::now();
        let mut times = Times {
            sent: now,
            received: now,
            progress: Progress::begin(),
            ping: None,
        };
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut written = 0;
        let mut needs_flush = false;
        loop {
            if let Some(why) = self.take_orders() {
                return Ok(why);
            }
            self.read_packets(&mut times)?;
            if written == self.out.len() {
                self.out.clear();
                written = 0;
                if !needs_flush {
                    self.engine.written();
                }
                self.engine.fill(&mut self.out, OUT_BYTES);
            }
            self.pass_on();
            let has_output = written < self.out.len();
            let may_read = self.input.len() < self.settings.packet_bytes_max + READ_BYTES
                && !self.ports.is_crowded();
            self.input.reserve(READ_BYTES);
            // Cancel safe: reads and writes move nothing unless they complete, `notified` keeps
            // its permit, a tick that is not taken comes again.
            tokio::select! {
                read = reader.read_buf(&mut self.input), if may_read => {
                    if read.map_err(lost)? == 0 {
                        return Err(Failure::retry("the server closed the connection"));
                    }
                    times.received = Instant::now();
                    times.ping = None;
                }
                count = write_some(writer, &self.out[written..]), if has_output || needs_flush => {
                    written += count.map_err(lost)?;
                    times.sent = Instant::now();
                    needs_flush = has_output;
                }
                () = self.ports.to_task.notified() => {}
                _ = ticks.tick() => self.look_at_the_clock(&mut times)?,
            }
        }
    }

    /// What the ends have left; a reason if the connection is to be closed.
    fn take_orders(&mut self) -> Option<&'static str> {
        let Orders {
            submitted,
            accepted,
            kept,
            closing,
            ..
        } = self.ports.take_orders();
        self.engine.keep(kept, &mut self.out);
        self.engine.submit(submitted);
        for receipt in accepted {
            self.engine.accept(receipt, &mut self.out);
        }
        closing
    }

    fn read_packets(&mut self, times: &mut Times) -> Result<(), Failure> {
        if self.input.is_empty() {
            return Ok(());
        }
        let before = self.engine.settled.len();
        let bytes_max = self.settings.packet_bytes_max;
        let used = self.engine.receive(&self.input, bytes_max, &mut self.out)?;
        self.input.advance(used);
        let has_released = std::mem::take(&mut self.engine.has_released);
        let has_settled = self.engine.settled.len() > before;
        if has_settled || has_released || !self.engine.awaits_answers() {
            times.progress.made();
        }
        Ok(())
    }

    fn pass_on(&mut self) {
        let engine = &mut *self.engine;
        let notes = &mut engine.journal.notes;
        let is_quiet = engine.settled.is_empty() && engine.received.is_empty();
        if is_quiet && engine.troubles.is_empty() && notes.is_empty() {
            return;
        }
        self.ports.leave(|boxes| {
            boxes.settled.append(&mut engine.settled);
            boxes.received.append(&mut engine.received);
            boxes.notes.append(notes);
            boxes.troubles.append(&mut engine.troubles);
        });
    }

    /// Keep-alive, and liveness by progress: the protocol does not allow to send again on a live
    /// connection, so a server that acknowledges nothing is left.
    fn look_at_the_clock(&mut self, times: &mut Times) -> Result<(), Failure> {
        let now = Instant::now();
        let is_owed = self.engine.awaits_answers();
        times.progress.check(is_owed, self.settings.ack_timeout)?;
        if self.keep_alive.is_zero() {
            return Ok(());
        }
        if let Some(since) = times.ping {
            if now.duration_since(since) >= self.settings.connect_timeout {
                return Err(Failure::retry("the server does not answer PINGREQ"));
            }
        } else if now.duration_since(times.sent.min(times.received)) >= self.keep_alive {
            self.engine.put(&Packet::PingReq, &mut self.out);
            times.ping = Some(now);
        }
        Ok(())
    }

    /// DISCONNECT keeps the server from publishing the will, so the state is said first.
    async fn say_goodbye(&mut self, writer: &mut WriteHalf<Box<dyn Stream>>) {
        self.out.clear();
        if let Some((topic, payload)) = &self.settings.will {
            self.engine.put(&notice(topic, payload), &mut self.out);
        }
        let goodbye = Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            session_expiry_seconds: None,
            reason_string: None,
            user_properties: UserProperties::default(),
            server_reference: None,
        });
        self.engine.put(&goodbye, &mut self.out);
        let written = async {
            writer.write_all(&self.out).await?;
            writer.shutdown().await
        };
        // The server may be gone already; there is nothing more to tell it.
        let _ = tokio::time::timeout(GOODBYE, written).await;
    }
}

/// A PUBLISH of the connector's own, retained, at QoS 0.
fn notice<'a>(topic: &'a str, payload: &'a [u8]) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic,
        packet_id: None,
        properties: PublishProperties {
            user_properties: UserProperties::default(),
            ..PublishProperties::default()
        },
        payload,
    })
}

const READ_BYTES: usize = 16 * 1_024;
/// Encoded messages that wait for the socket.
const OUT_BYTES: usize = 64 * 1_024;
const TICK: Duration = Duration::from_millis(250);
const GOODBYE: Duration = Duration::from_secs(2);
/// Filters of one SUBSCRIBE: servers may limit its size.
const SUBSCRIPTIONS_MAX: usize = 64;
