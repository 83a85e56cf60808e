//! `tidewire import`: a mosquitto.conf turned into a tidewire.toml.
//!
//! Owns what mosquitto's options are called here. It guesses nothing: what has no counterpart is
//! left as a comment with its line.

mod bridge;
mod toml;

use std::io;
use std::path::PathBuf;

use super::arguments::ImportArguments;
use crate::config::Limits;

use bridge::ImportedBridge;
use toml::{Table, quoted};

/// Why a file cannot be turned into another.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or the result not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that mosquitto would refuse as well.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

/// Reads, translates and writes.
pub fn run(arguments: &ImportArguments) -> Result<(), ImportError> {
    let file = |path: &PathBuf, source| ImportError::File {
        path: path.clone(),
        source,
    };
    let text =
        std::fs::read_to_string(&arguments.file).map_err(|source| file(&arguments.file, source))?;
    let translated = import(&text)?;
    match &arguments.out {
        Some(out) => std::fs::write(out, translated).map_err(|source| file(out, source)),
        None => {
            use io::Write;
            let written = io::stdout().lock().write_all(translated.as_bytes());
            written.map_err(|source| file(&PathBuf::from("standard output"), source))
        }
    }
}

/// The configuration of the broker that the text of a mosquitto.conf describes.
///
/// # Errors
/// The first line that mosquitto would refuse as well.
pub fn import(text: &str) -> Result<String, ImportError> {
    let mut import = Import::default();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let (name, value) = content
            .split_once(char::is_whitespace)
            .unwrap_or((content, ""));
        let option = Setting {
            line,
            name,
            value: value.trim(),
        };
        import.take(&option)?;
    }
    Ok(import.finish())
}

/// One line of a mosquitto.conf.
#[derive(Clone, Copy, Debug)]
struct Setting<'a> {
    line: usize,
    name: &'a str,
    value: &'a str,
}

impl Setting<'_> {
    fn error(&self, problem: &str) -> ImportError {
        ImportError::Line {
            line: self.line,
            problem: format!("{} {problem}", self.name),
        }
    }

    fn number(&self) -> Result<u64, ImportError> {
        let number = self.value.parse();
        number.map_err(|_| self.error("needs a number"))
    }

    fn bytes(&self) -> Result<usize, ImportError> {
        let bytes = self.value.parse();
        bytes.map_err(|_| self.error("needs a number"))
    }

    fn flag(&self) -> Result<bool, ImportError> {
        match self.value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(self.error("needs true or false")),
        }
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Import {
    root: Table,
    listeners: Vec<ImportedListener>,
    /// `port` and `bind_address`, which describe one more listener.
    old_port: Option<u64>,
    old_address: Option<String>,
    /// `set_tcp_nodelay`, which is for all listeners wherever it stands.
    nodelay: Option<bool>,
    auth: Table,
    acl: Table,
    limits: Table,
    packet_bytes: Option<usize>,
    queue_bytes: Option<usize>,
    mqtt: Table,
    store: Table,
    bridges: Vec<ImportedBridge>,
    place: Place,
}

/// What the options of the next line belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    Listener,
    Bridge,
}

#[derive(Debug, Default)]
struct ImportedListener {
    bind: String,
    table: Table,
    is_websocket: bool,
    is_unix: bool,
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    crl: Option<String>,
    /// Which name of a client certificate is the user name.
    name: Option<&'static str>,
    wants_certificates: bool,
}

impl Import {
    fn take(&mut self, option: &Setting<'_>) -> Result<(), ImportError> {
        match option.name {
            "listener" => self.begin_listener(option)?,
            "connection" => {
                self.bridges.push(ImportedBridge::new(option.value));
                self.place = Place::Bridge;
            }
            _ if self.place == Place::Bridge && self.take_bridge(option)? => {}
            _ if self.take_global(option)? => {}
            _ if self.take_listener(option)? => {}
            name if self.bridges.is_empty() && bridge::is_bridge_option(name) => {
                return Err(option.error("belongs after a connection"));
            }
            _ => self.leave(option),
        }
        Ok(())
    }

    fn begin_listener(&mut self, option: &Setting<'_>) -> Result<(), ImportError> {
        let (port, host) = option
            .value
            .split_once(char::is_whitespace)
            .unwrap_or((option.value, ""));
        let port: u16 = port.parse().map_err(|_| option.error("needs a port"))?;
        let host = host.trim();
        let is_unix = port == 0 && host.starts_with('/');
        self.listeners.push(ImportedListener {
            bind: if is_unix {
                host.to_owned()
            } else {
                address(host, u64::from(port))
            },
            is_unix,
            ..ImportedListener::default()
        });
        self.place = Place::Listener;
        Ok(())
    }

    fn take_bridge(&mut self, option: &Setting<'_>) -> Result<bool, ImportError> {
        match self.bridges.last_mut() {
            Some(bridge) => bridge.take(option),
            None => Ok(false),
        }
    }

    /// Options of the whole broker; false if it is none.
    fn take_global(&mut self, option: &Setting<'_>) -> Result<bool, ImportError> {
        match option.name {
            "port" => self.old_port = Some(option.number()?),
            "bind_address" => self.old_address = Some(option.value.to_owned()),
            "allow_anonymous" if self.place != Place::Listener => {
                self.root.set("allow_anonymous", option.flag()?);
            }
            "set_tcp_nodelay" => self.nodelay = Some(option.flag()?),
            "sys_interval" => self.root.set("sys_interval_seconds", option.number()?),
            "pid_file" => self.root.set("pid_file", quoted(option.value)),
            "password_file" => self.auth.set("password_file", quoted(option.value)),
            "acl_file" => self.acl.set("file", quoted(option.value)),
            "max_keepalive" if option.number()? > 0 => {
                self.mqtt.set("keep_alive_seconds_max", option.number()?);
            }
            "max_topic_alias" => self.mqtt.set("topic_alias_maximum", option.number()?),
            "persistence" if option.flag()? => self.store.set("engine", quoted("lmdb")),
            "persistence" => self.store.set("engine", quoted("memory")),
            "persistence_location" => {
                // A directory of its own: ours is readable for its owner alone.
                let directory = format!("{}/tidewire", option.value.trim_end_matches('/'));
                self.store.set("directory", quoted(&directory));
            }
            "max_packet_size" if option.number()? > 0 => {
                self.packet_bytes = Some(option.bytes()?.max(PACKET_BYTES_MIN));
            }
            "max_queued_messages" if option.number()? > 0 => {
                self.limits.set("queue_messages_max", option.number()?);
            }
            "max_queued_bytes" if option.number()? > 0 => {
                self.queue_bytes = Some(option.bytes()?);
            }
            "max_inflight_messages" => {
                let number = match option.number()? {
                    0 => 65_535,
                    number => number.min(65_535),
                };
                self.mqtt.set("inflight_max", number);
            }
            "persistent_client_expiration" => match seconds(option.value) {
                Some(seconds) => self.limits.set("session_expiry_seconds_max", seconds),
                None => return Err(option.error("needs a number and h, d, w, m or y")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Options of a listener; false if it is none.
    fn take_listener(&mut self, option: &Setting<'_>) -> Result<bool, ImportError> {
        let known = [
            "protocol",
            "cafile",
            "certfile",
            "keyfile",
            "crlfile",
            "require_certificate",
            "use_identity_as_username",
            "use_subject_as_username",
            "mount_point",
            "allow_anonymous",
            "max_connections",
            "tls_version",
        ];
        let is_half_a_level = option.name == "mount_point" && !option.value.ends_with('/');
        let is_old = option.name == "tls_version" && tls_version(option.value).is_none();
        if !known.contains(&option.name) || is_half_a_level || is_old {
            return Ok(false);
        }
        if self.listeners.is_empty() {
            // Before the first `listener` these describe the one of `port`.
            self.listeners.push(ImportedListener::default());
        }
        let Some(listener) = self.listeners.last_mut() else {
            return Ok(false);
        };
        match option.name {
            "protocol" => listener.is_websocket = option.value == "websockets",
            "cafile" => listener.ca = Some(option.value.to_owned()),
            "certfile" => listener.certificate = Some(option.value.to_owned()),
            "keyfile" => listener.key = Some(option.value.to_owned()),
            "crlfile" => listener.crl = Some(option.value.to_owned()),
            "require_certificate" => listener.wants_certificates = option.flag()?,
            "mount_point" => listener.table.set("mount_point", quoted(option.value)),
            "use_identity_as_username" if option.flag()? => listener.name = Some("common_name"),
            "use_subject_as_username" if option.flag()? => listener.name = Some("subject"),
            "use_identity_as_username" | "use_subject_as_username" => listener.name = None,
            "allow_anonymous" => listener.table.set("allow_anonymous", option.flag()?),
            "tls_version" => {
                if let Some(version) = tls_version(option.value) {
                    listener.table.set("tls_version_min", quoted(version));
                }
            }
            "max_connections" if option.value.starts_with('-') => {}
            _ => listener.table.set("connections_max", option.number()?),
        }
        Ok(true)
    }

    /// No counterpart: a comment where the option would be.
    fn leave(&mut self, option: &Setting<'_>) {
        let Setting { line, name, value } = option;
        let note = if AS_HERE.contains(&(*name, *value)) {
            format!("line {line}, always so here: {name} {value}")
        } else if is_secret(name) {
            format!("line {line}, without counterpart here: {name}")
        } else {
            format!("line {line}, without counterpart here: {name} {value}")
        };
        let bridge = self
            .bridges
            .last_mut()
            .filter(|_| self.place == Place::Bridge);
        match bridge {
            Some(bridge) => bridge.note(&note),
            None => self.root.note(&note),
        }
    }

    /// Queues and mailboxes hold at least one packet here; those that do not are raised.
    fn finish_limits(&mut self) {
        let default = Limits::default();
        let packet = self.packet_bytes.unwrap_or(default.packet_bytes_max);
        if self.packet_bytes.is_some() {
            self.limits.set("packet_bytes_max", packet);
        }
        let queue = self.queue_bytes.unwrap_or(default.queue_bytes_max);
        if queue < packet {
            self.limits
                .note("queue_bytes_max is raised to hold one packet");
        }
        if self.queue_bytes.is_some() || queue < packet {
            self.limits.set("queue_bytes_max", queue.max(packet));
        }
        if default.mailbox_bytes_max < packet {
            self.limits.set("mailbox_bytes_max", packet);
        }
    }

    fn finish(mut self) -> String {
        self.finish_limits();
        let starts_with_port = self.old_port.is_some() || self.old_address.is_some();
        let host = self.old_address.take().unwrap_or_default();
        let bind = address(&host, self.old_port.unwrap_or(1883));
        match self.listeners.first_mut() {
            Some(first) if first.bind.is_empty() => first.bind = bind,
            Some(_) if !starts_with_port => {}
            Some(_) | None => {
                // mosquitto 2 without any listener serves this machine alone, as we do.
                let bind = if starts_with_port {
                    bind
                } else {
                    "127.0.0.1:1883".to_owned()
                };
                let listener = ImportedListener {
                    bind,
                    ..ImportedListener::default()
                };
                self.listeners.insert(0, listener);
            }
        }
        let mut text = self.root.text("");
        for mut listener in self.listeners {
            if let Some(nodelay) = self.nodelay.filter(|_| !listener.is_unix) {
                listener.table.set("nodelay", nodelay);
            }
            text += &listener.text();
        }
        for bridge in self.bridges {
            text += &bridge.text();
        }
        for (name, table) in [
            ("auth", self.auth),
            ("acl", self.acl),
            ("limits", self.limits),
            ("mqtt", self.mqtt),
            ("store", self.store),
        ] {
            if !table.is_empty() {
                text += &table.text(&format!("[{name}]"));
            }
        }
        text.trim_start().to_owned()
    }
}

impl ImportedListener {
    fn text(mut self) -> String {
        let is_encrypted = self.certificate.is_some();
        let transport = match (self.is_unix, self.is_websocket, is_encrypted) {
            (true, _, _) => "unix",
            (_, true, true) => "wss",
            (_, true, false) => "ws",
            (_, false, true) => "tls",
            (_, false, false) => "tcp",
        };
        let mut head = Table::default();
        head.set("bind", quoted(&self.bind));
        head.set("transport", quoted(transport));
        if self.wants_certificates
            && let Some(ca) = &self.ca
        {
            head.set("client_ca", quoted(ca));
            head.set("client_certificates", quoted("required"));
            if let Some(crl) = &self.crl {
                head.set("client_crl", quoted(crl));
            }
            if let Some(name) = self.name {
                head.set("certificate_name", quoted(name));
                head.set("certificate_as", quoted("user_name"));
            }
        } else if self.name.is_some() {
            head.note("names of certificates need require_certificate");
        }
        head.append(&mut self.table);
        let mut text = head.text("[[listeners]]");
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            let mut pair = Table::default();
            pair.set("certificate", quoted(certificate));
            pair.set("key", quoted(key));
            text += &pair.text("[[listeners.certificates]]");
        }
        text
    }
}

/// Without a host mosquitto listens everywhere.
fn address(host: &str, port: u64) -> String {
    match host {
        "" => format!("0.0.0.0:{port}"),
        host if host.contains(':') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// Whether the value of an option must not be repeated.
fn is_secret(name: &str) -> bool {
    name.contains("password") || name.contains("psk") || name.starts_with("auth_opt")
}

fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let each = match unit {
        's' => 1,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        'm' => 2_592_000,
        'y' => 31_536_000,
        _ => return None,
    };
    Some(number.saturating_mul(each).min(u64::from(u32::MAX)))
}

/// Options that say what is so here without being said.
const AS_HERE: [(&str, &str); 7] = [
    ("per_listener_settings", "false"),
    ("retain_available", "true"),
    ("upgrade_outgoing_qos", "false"),
    ("allow_zero_length_clientid", "true"),
    ("bridge_insecure", "false"),
    ("bridge_attempt_unsubscribe", "true"),
    ("notifications_local_only", "false"),
];

/// What `limits.packet_bytes_max` may be at least; mosquitto allows less.
const PACKET_BYTES_MIN: usize = 128;

/// The oldest version of TLS; those before 1.2 are not spoken here.
fn tls_version(value: &str) -> Option<&str> {
    let version = value.strip_prefix("tlsv")?;
    matches!(version, "1.2" | "1.3").then_some(version)
}

#[cfg(test)]
mod tests;
