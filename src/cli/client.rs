//! The connection below `pub`, `sub` and `bench`: transports, CONNECT and whole packets.

mod dialer;
mod tls;

use std::io;
use std::path::PathBuf;

use tidewire_protocol::codec::{
    Ack, Connect, ConnectProperties, DecodeError, Disconnect, EncodeError, Packet, PacketId,
    ProtocolVersion, QoS, ReasonCode, Receiver, UserProperties, Will, WillProperties, decode,
    encode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::rustls;

use rustls::pki_types::pem;

use super::arguments::{ConnectionArguments, Credentials, ServerUrl};
use crate::net::websocket::WebSocketError;
pub(super) use dialer::Dialer;

/// The longest packet that MQTT can express.
const PACKET_BYTES_MAX: usize = 268_435_460;
/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// Why a client gave up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection or a file failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server cannot be reached.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port, or the path of a unix socket.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The WebSocket handshake failed.
    #[error("websocket: {0}")]
    WebSocket(#[from] WebSocketError),
    /// TLS cannot be set up.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// The host of the URL is no name or address that a certificate could carry.
    #[error("{0} cannot be verified by tls")]
    Host(String),
    /// TLS without an authority to trust.
    #[error("mqtts and wss need --ca or --insecure")]
    NoAuthority,
    /// A PEM file cannot be used.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The server sent something that is not MQTT.
    #[error("the server broke the protocol: {0}")]
    Decode(#[from] DecodeError),
    /// A packet cannot be written.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// The server refused something.
    #[error("{what} refused: {reason:?}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The answer.
        reason: ReasonCode,
    },
    /// The server sent DISCONNECT.
    #[error("disconnected by the server: {0:?}")]
    Disconnected(ReasonCode),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server sent nothing for too long.
    #[error("the server does not answer")]
    Silent,
    /// The server sent a packet that does not fit the exchange.
    #[error("the server sent an unexpected packet")]
    Unexpected,
    /// A topic or filter that MQTT does not allow.
    #[error("{0}")]
    Topic(#[from] tidewire_protocol::topic::TopicError),
    /// A measurement above QoS 0 found that messages are missing or came twice.
    #[error("the server lost {lost} and duplicated {duplicate} messages")]
    Unreliable {
        /// Acknowledged or sent, and never delivered.
        lost: u64,
        /// Delivered again.
        duplicate: u64,
    },
    /// Connections that were open are not.
    #[error("the server lost {0} connections")]
    ConnectionsLost(usize),
}

impl ClientError {
    /// Whether the arguments could not have worked with any server.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Topic(_) | Self::NoAuthority)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

type BoxedStream = Box<dyn Stream>;

/// A connection that has been accepted by the server.
pub(super) struct Connection {
    stream: BoxedStream,
    version: ProtocolVersion,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    /// Seconds between signs of life, as the server wants it; 0 = off.
    pub(super) keep_alive_seconds: u16,
    /// How many publications may be unacknowledged at once.
    pub(super) receive_maximum: u16,
}

impl Connection {
    /// Connects as `arguments` say.
    pub(super) async fn open(arguments: &ConnectionArguments) -> Result<Self, ClientError> {
        let made_up = format!("tidewire-{}", std::process::id());
        let client_id = match &arguments.id {
            Some(id) => id.as_str(),
            None if arguments.version == ProtocolVersion::V5 => "",
            None => &made_up,
        };
        let connect = Connect {
            clean_start: !arguments.keep_session,
            keep_alive_seconds: arguments.keep_alive,
            properties: ConnectProperties {
                session_expiry_seconds: arguments.session_expiry,
                ..ConnectProperties::default()
            },
            will: will(arguments)?,
            ..Connect::new(arguments.version, client_id)
        };
        let url = arguments.server.url(&arguments.credentials);
        Self::start(&url, &arguments.credentials, connect).await
    }

    /// Opens the transport, sends `connect` with the credentials and awaits the answer.
    pub(super) async fn start(
        url: &ServerUrl,
        credentials: &Credentials,
        connect: Connect<'_>,
    ) -> Result<Self, ClientError> {
        Dialer::new(url, credentials)?.open(connect, None).await
    }

    /// Sends `connect` and awaits the answer.
    async fn greet(stream: BoxedStream, connect: Connect<'_>) -> Result<Self, ClientError> {
        let mut connection = Self {
            stream,
            version: connect.version,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            keep_alive_seconds: connect.keep_alive_seconds,
            receive_maximum: u16::MAX,
        };
        connection.queue(&Packet::Connect(Box::new(connect)))?;
        connection.flush().await?;
        loop {
            if let Some((packet, bytes)) = connection.packet()? {
                let Packet::ConnAck(answer) = packet else {
                    return Err(ClientError::Unexpected);
                };
                let reason = answer.reason;
                let keep_alive = answer.properties.server_keep_alive_seconds;
                let receive_maximum = answer.properties.receive_maximum;
                connection.consume(bytes);
                if reason != ReasonCode::Success {
                    let what = "connection";
                    return Err(ClientError::Refused { what, reason });
                }
                connection.keep_alive_seconds = keep_alive.unwrap_or(connection.keep_alive_seconds);
                connection.receive_maximum = receive_maximum.map_or(u16::MAX, |max| max.get());
                return Ok(connection);
            }
            connection.fill().await?;
        }
    }

    /// The next packet that is completely here, and its length for [`Self::consume`].
    pub(super) fn packet(&self) -> Result<Option<(Packet<'_>, usize)>, ClientError> {
        let bytes = &self.input[self.used..];
        match decode(bytes, self.version, Receiver::Client, PACKET_BYTES_MAX)? {
            Some((Packet::Disconnect(end), _)) => Err(ClientError::Disconnected(end.reason)),
            other => Ok(other),
        }
    }

    /// Forgets the packet at the front.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// Reads what there is. Cancel safe.
    pub(super) async fn fill(&mut self) -> Result<(), ClientError> {
        self.input.drain(..self.used);
        self.used = 0;
        self.input.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(ClientError::Closed),
            _ => Ok(()),
        }
    }

    /// As [`Self::fill`], with a ping each time that nothing came for the keep-alive. Two in a row
    /// mean that the server is gone.
    pub(super) async fn fill_alive(&mut self) -> Result<(), ClientError> {
        if self.keep_alive_seconds == 0 {
            return self.fill().await;
        }
        let pause = self.ping_pause();
        for _ in 0..2 {
            if let Ok(result) = tokio::time::timeout(pause, self.fill()).await {
                return result;
            }
            self.queue(&Packet::PingReq)?;
            self.flush().await?;
        }
        Err(ClientError::Silent)
    }

    /// How long the client may be silent before it pings.
    pub(super) fn ping_pause(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::from(self.keep_alive_seconds) * 750)
    }

    /// Gives back the memory of empty buffers, for a connection that will be idle.
    pub(super) fn shrink(&mut self) {
        self.input.drain(..self.used);
        self.used = 0;
        self.input.shrink_to_fit();
        self.output.shrink_to_fit();
    }

    /// What the next [`Self::flush`] writes, to append encoded packets to.
    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Adds a packet to the next [`Self::flush`].
    pub(super) fn queue(&mut self, packet: &Packet<'_>) -> Result<(), ClientError> {
        encode(packet, self.version, &mut self.output)?;
        Ok(())
    }

    /// Writes what is queued.
    pub(super) async fn flush(&mut self) -> Result<(), ClientError> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
            self.stream.flush().await?;
        }
        Ok(())
    }

    /// Says goodbye.
    pub(super) async fn close(mut self) -> Result<(), ClientError> {
        self.queue(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            session_expiry_seconds: None,
            reason_string: None,
            user_properties: UserProperties::default(),
            server_reference: None,
        }))?;
        self.flush().await?;
        // The server may be faster in closing.
        let _ = self.stream.shutdown().await;
        Ok(())
    }
}

/// An acknowledgement that everything is well.
pub(super) fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack::plain(packet_id, ReasonCode::Success)
}

/// Whether the server accepts what it was asked for.
///
/// # Errors
/// The first of the answers that refuses.
pub(super) fn accepted(what: &'static str, answers: &[ReasonCode]) -> Result<(), ClientError> {
    match answers.iter().find(|reason| reason.is_error()) {
        Some(&reason) => Err(ClientError::Refused { what, reason }),
        None => Ok(()),
    }
}

/// Runs a client on this thread until it is done.
pub(super) fn block_on<F>(client: F) -> Result<(), ClientError>
where
    F: Future<Output = Result<(), ClientError>>,
{
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client)
}

fn will(arguments: &ConnectionArguments) -> Result<Option<Will<'_>>, ClientError> {
    let will = &arguments.will;
    let Some(topic) = &will.will_topic else {
        return Ok(None);
    };
    tidewire_protocol::topic::Topic::parse(topic, usize::MAX)?;
    Ok(Some(Will {
        qos: will.will_qos.unwrap_or(QoS::AtMostOnce),
        retain: will.will_retain,
        topic,
        payload: will.will_payload.as_deref().unwrap_or_default().as_bytes(),
        properties: WillProperties {
            delay_seconds: will.will_delay,
            ..WillProperties::default()
        },
    }))
}
