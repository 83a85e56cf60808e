//! A broker with users, and a client that does exactly what a test says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidewire::auth::{PasswordHash, ScramVerifier, User};
use tidewire::config::{Config, Listener};
use tidewire::server::Server;
use tidewire_protocol::codec::{
    Auth, Connect, Packet, ProtocolVersion, ReasonCode, Receiver, UserProperties, decode, encode,
};

pub(crate) const METHOD: &str = "SCRAM-SHA-256";
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Broker {
    server: Option<Server>,
    address: String,
    file: PathBuf,
    config: Config,
}

impl Broker {
    /// With the users alice and bob, both of password "secret", and nobody else let in.
    pub(crate) fn start() -> Self {
        Self::with(&users(), |_| {})
    }

    /// With the lines of a password file, which names no file if it is empty.
    pub(crate) fn with(lines: &str, change: impl FnOnce(&mut Config)) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-auth-{}-{number}", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, lines).unwrap();
        let mut config = Config {
            shards: 2,
            allow_anonymous: Some(false),
            sys_interval_seconds: 0,
            listeners: vec![Listener {
                bind: "127.0.0.1:0".into(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        config.auth.password_file = (!lines.is_empty()).then(|| file.clone());
        config.mqtt.shutdown_seconds = 1;
        // A busy machine takes long for a hash; tests of the deadline set their own.
        config.limits.connect_seconds = 60;
        change(&mut config);
        let server = Server::start(config.clone()).unwrap();
        let url = &server.addresses()[0];
        let address = url.strip_prefix("mqtt://").unwrap().to_owned();
        Self {
            server: Some(server),
            address,
            file,
            config,
        }
    }

    /// Goes on with a change, and with what the files say now.
    pub(crate) fn reload_with(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        let server = self.server.as_mut().unwrap();
        assert_eq!(server.reload(self.config.clone()).unwrap(), [""; 0]);
    }

    pub(crate) fn open(&self) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream }
    }

    /// A connection that sent this CONNECT, and the code of its CONNACK.
    pub(crate) fn connect(&self, connect: &Connect<'_>) -> (Client, u8) {
        let mut client = self.open();
        client.send(&Packet::Connect(Box::new(connect.clone())), connect.version);
        let code = client.connack();
        (client, code)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let stopped = self.server.take().map(Server::stop);
        let _ = std::fs::remove_file(&self.file);
        if !std::thread::panicking() {
            stopped.unwrap().unwrap();
        }
    }
}

/// The lines of alice and bob.
pub(crate) fn users() -> String {
    static LINES: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let make = || {
        let rounds = NonZeroU32::new(4_096).unwrap();
        let user = User {
            hash: PasswordHash::new(b"secret", [1; 16]),
            verifier: Some(ScramVerifier::new(b"secret", &[2; 16], rounds)),
        };
        format!("{}\n{}\n", user.line("alice"), user.line("bob"))
    };
    LINES.get_or_init(make).clone()
}

pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    pub(crate) fn send(&mut self, packet: &Packet<'_>, version: ProtocolVersion) {
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send_auth(&mut self, reason: ReasonCode, method: Option<&str>, data: &[u8]) {
        let auth = Auth {
            reason,
            authentication_method: method,
            authentication_data: Some(data),
            reason_string: None,
            user_properties: UserProperties::default(),
        };
        self.send(&Packet::Auth(auth), ProtocolVersion::V5);
    }

    /// The bytes of the next packet.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 2];
        self.stream.read_exact(&mut bytes).unwrap();
        let mut length = usize::from(bytes[1] & 0x7F);
        if bytes[1] > 0x7F {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            length |= usize::from(byte[0]) << 7;
            bytes.push(byte[0]);
        }
        let start = bytes.len();
        bytes.resize(start + length, 0);
        self.stream.read_exact(&mut bytes[start..]).unwrap();
        bytes
    }

    /// The code of a CONNACK, as it is on the wire.
    pub(crate) fn connack(&mut self) -> u8 {
        let bytes = self.receive();
        assert_eq!(bytes[0], 0x20, "CONNACK: {bytes:02x?}");
        bytes[3]
    }

    /// Reason and authentication data of a packet that names the method.
    pub(crate) fn authentication(&mut self) -> (ReasonCode, Vec<u8>) {
        let bytes = self.receive();
        let version = ProtocolVersion::V5;
        let (packet, _) = decode(&bytes, version, Receiver::Client, usize::MAX)
            .unwrap()
            .unwrap();
        let (reason, method, data) = match &packet {
            Packet::Auth(auth) => (
                auth.reason,
                auth.authentication_method,
                auth.authentication_data,
            ),
            Packet::ConnAck(ack) => (
                ack.reason,
                ack.properties.authentication_method,
                ack.properties.authentication_data,
            ),
            other => panic!("neither AUTH nor CONNACK: {other:?}"),
        };
        assert_eq!(method, Some(METHOD));
        (reason, data.unwrap().to_vec())
    }

    /// The next packet is a DISCONNECT with this reason, and the last one.
    pub(crate) fn ends_with(&mut self, reason: ReasonCode) {
        let bytes = self.receive();
        assert_eq!((bytes[0], bytes[2]), (0xE0, reason as u8), "{bytes:02x?}");
        self.is_closed();
    }

    /// The broker says nothing more and closes the connection.
    pub(crate) fn is_closed(&mut self) {
        match self.stream.read(&mut [0; 64]) {
            Ok(count) => assert_eq!(count, 0, "more bytes"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    /// The next answer is that to a PINGREQ.
    pub(crate) fn ping(&mut self) {
        self.send_bytes(&[0xC0, 0]);
        assert_eq!(self.receive(), [0xD0, 0]);
    }
}

/// A clean CONNECT of MQTT 5.0 without any user name.
pub(crate) fn connect(client_id: &str) -> Connect<'_> {
    Connect::new(ProtocolVersion::V5, client_id)
}

pub(crate) fn login<'a>(client_id: &'a str, user_name: &'a str, password: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(user_name),
        password: Some(password.as_bytes()),
        ..connect(client_id)
    }
}
