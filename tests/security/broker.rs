//! A broker with users and rules in files of its own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tidewire::auth::{PasswordHash, User};
use tidewire::config::{Config, Listener};
use tidewire::server::{Server, StartError};
use tidewire_protocol::codec::{Connect, ReasonCode};

use super::client::{Client, Got, connect};

/// A directory that goes away with the test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidewire-security-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Broker {
    server: Option<Server>,
    address: String,
    config: Config,
    pub(crate) files: Directory,
}

impl Broker {
    /// With the rules of an ACL file, and the users alice, bob and carol; others are anonymous.
    pub(crate) fn start(acl: &str) -> Self {
        Self::with(acl, |_, _| {})
    }

    pub(crate) fn with(acl: &str, change: impl FnOnce(&mut Config, &Directory)) -> Self {
        let files = Directory::new();
        let mut config = config(&files, acl);
        change(&mut config, &files);
        let server = Server::start(config.clone()).unwrap();
        let address = server.addresses()[0]
            .strip_prefix("mqtt://")
            .unwrap()
            .to_owned();
        Self {
            server: Some(server),
            address,
            config,
            files,
        }
    }

    /// Goes on with what the files say now, and with this change.
    pub(crate) fn reload_with(
        &mut self,
        change: impl FnOnce(&mut Config, &Directory),
    ) -> Result<Vec<&'static str>, String> {
        let mut config = self.config.clone();
        change(&mut config, &self.files);
        let server = self.server.as_mut().unwrap();
        let waiting = server.reload(config.clone());
        let waiting = waiting.map_err(|error| error.to_string())?;
        self.config = config;
        Ok(waiting)
    }

    /// Ends the broker, and starts it again with what the files say now.
    pub(crate) fn restart(&mut self) {
        self.server.take().unwrap().stop().unwrap();
        let server = Server::start(self.config.clone()).unwrap();
        let url = &server.addresses()[0];
        self.address = url.strip_prefix("mqtt://").unwrap().to_owned();
        self.server = Some(server);
    }

    pub(crate) fn reload(&mut self) {
        assert_eq!(self.reload_with(|_, _| {}), Ok(Vec::new()));
    }

    pub(crate) fn addresses(&self) -> &[String] {
        self.server.as_ref().unwrap().addresses()
    }

    pub(crate) fn open(&self) -> Client {
        Client::open(&self.address)
    }

    /// A connection that sent this CONNECT, and the reason in its CONNACK.
    pub(crate) fn connect_with(&self, connect: &Connect<'_>) -> (Client, ReasonCode) {
        let mut client = self.open();
        client.send_connect(connect);
        match client.receive() {
            Got::ConnAck(_, reason) => (client, reason),
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    /// Anonymous, with a clean start.
    pub(crate) fn anonymous(&self, client_id: &str) -> Client {
        self.accepted(&connect(client_id))
    }

    /// As a user, with a clean start.
    pub(crate) fn login(&self, user_name: &str, client_id: &str) -> Client {
        self.accepted(&login(user_name, client_id))
    }

    pub(crate) fn accepted(&self, connect: &Connect<'_>) -> Client {
        let (client, reason) = self.connect_with(connect);
        assert_eq!(reason, ReasonCode::Success, "{}", connect.client_id);
        client
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let stopped = self.server.take().map(Server::stop);
        if !std::thread::panicking() {
            stopped.unwrap().unwrap();
        }
    }
}

/// Why a broker with this ACL file does not start.
pub(crate) fn refusal(acl: &Path) -> String {
    let files = Directory::new();
    let mut config = config(&files, "");
    config.acl.file = Some(acl.to_owned());
    match Server::start(config) {
        Err(error @ StartError::Acl(_)) => error.to_string(),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("the broker starts"),
    }
}

fn config(files: &Directory, acl: &str) -> Config {
    let mut config = Config {
        shards: 2,
        allow_anonymous: Some(true),
        sys_interval_seconds: 0,
        listeners: vec![Listener {
            bind: "127.0.0.1:0".into(),
            ..Listener::default()
        }],
        ..Config::default()
    };
    config.mqtt.shutdown_seconds = 1;
    config.auth.password_file = Some(files.write("users", &users(&["alice", "bob", "carol"])));
    config.acl.file = (!acl.is_empty()).then(|| files.write("acl", acl));
    config
}

/// Lines of users whose password is "secret".
pub(crate) fn users(names: &[&str]) -> String {
    static HASH: OnceLock<PasswordHash> = OnceLock::new();
    let user = User {
        hash: HASH
            .get_or_init(|| PasswordHash::new(b"secret", [1; 16]))
            .clone(),
        verifier: None,
    };
    let lines = names.iter().map(|name| user.line(name) + "\n");
    lines.collect()
}

pub(crate) fn login<'a>(user_name: &'a str, client_id: &'a str) -> Connect<'a> {
    Connect {
        user_name: Some(user_name),
        password: Some(b"secret"),
        ..connect(client_id)
    }
}

/// As [`login`], with a session that stays.
pub(crate) fn lasting<'a>(user_name: &'a str, client_id: &'a str) -> Connect<'a> {
    let mut connect = login(user_name, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_seconds = Some(600);
    connect
}
