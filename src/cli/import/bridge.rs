//! `connection` and what follows it.

use super::toml::{Table, list, quoted};
use super::{ImportError, Setting};

/// A bridge of a mosquitto.conf.
#[derive(Debug, Default)]
pub(super) struct ImportedBridge {
    table: Table,
    addresses: Vec<String>,
    rules: Vec<Table>,
    directions: Vec<&'static str>,
    is_encrypted: bool,
    strips_retain: bool,
    is_lazy: bool,
    /// Nobody is told how the bridge is.
    is_silent: bool,
    notify_topic: Option<String>,
    threshold: Option<u64>,
}

/// Whether an option makes sense after `connection` only.
pub(super) fn is_bridge_option(name: &str) -> bool {
    let names = [
        "address",
        "addresses",
        "topic",
        "remote_username",
        "remote_password",
    ];
    names.contains(&name) || name.starts_with("bridge_")
}

impl ImportedBridge {
    pub(super) fn new(name: &str) -> Self {
        let allowed = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '_' | '-');
        let plain: String = name
            .chars()
            .map(|it| if allowed(it) { it } else { '_' })
            .take(64)
            .collect();
        let mut bridge = Self::default();
        bridge.table.set("name", quoted(&plain));
        bridge
    }

    pub(super) fn note(&mut self, text: &str) {
        self.table.note(text);
    }

    /// False if it is no option of a bridge.
    pub(super) fn take(&mut self, option: &Setting<'_>) -> Result<bool, ImportError> {
        let table = &mut self.table;
        let value = option.value;
        match option.name {
            "address" | "addresses" => {
                self.addresses = value.split_whitespace().map(str::to_owned).collect();
            }
            "topic" => self.take_topic(option)?,
            "remote_username" | "username" => table.set("user_name", quoted(value)),
            "remote_password" | "password" => table.set("password", quoted(value)),
            "remote_clientid" | "clientid" => table.set("client_id", quoted(value)),
            "keepalive_interval" => table.set("keep_alive_seconds", option.number()?.max(5)),
            "round_robin" if option.flag()? => table.set("server_order", quoted("round_robin")),
            "round_robin" => {}
            "start_type" => match value {
                "automatic" => {}
                "once" => table.set("start", quoted(value)),
                "lazy" => self.is_lazy = true,
                _ => return Err(option.error("is automatic, lazy or once")),
            },
            "threshold" => self.threshold = Some(option.number()?.max(1)),
            "idle_timeout" => table.set("idle_seconds", option.number()?.clamp(1, 86_400)),
            "try_private" => table.set("bridge_bit", option.flag()?),
            "restart_timeout" => self.take_restart(option)?,
            "bridge_protocol_version" => {
                let version = match value {
                    "mqttv31" => "3.1",
                    "mqttv311" => "3.1.1",
                    "mqttv50" => "5.0",
                    _ => return Err(option.error("is mqttv31, mqttv311 or mqttv50")),
                };
                table.set("protocol", quoted(version));
            }
            "bridge_receive_maximum" => table.set("receive_maximum", option.number()?),
            "bridge_max_topic_alias" => table.set("topic_alias_maximum", option.number()?),
            "bridge_session_expiry_interval" => {
                table.set("session_expiry_seconds", option.number()?);
            }
            "bridge_tcp_user_timeout" => table.set("tcp_user_timeout_ms", option.number()?),
            "bridge_outgoing_retain" => self.strips_retain = !option.flag()?,
            "bridge_tcp_keepalive" => {
                let idle = value.split_whitespace().next().unwrap_or_default();
                let idle: u32 = idle.parse().map_err(|_| option.error("needs seconds"))?;
                table.set("tcp_keep_alive_seconds", idle.min(32_767));
            }
            // A session that ends with the connection; those of bridges last otherwise.
            "cleansession" if option.flag()? => table.set("session_expiry_seconds", 0),
            "cleansession" => {}
            "notifications" if option.flag()? => {}
            "notifications" => self.is_silent = true,
            "bridge_cafile" => {
                self.is_encrypted = true;
                table.set("ca", quoted(value));
            }
            "bridge_tls_use_os_certs" => self.is_encrypted |= option.flag()?,
            // What it connects to speaks TLS, and nothing is to reach it in clear text.
            "bridge_capath" | "bridge_psk" | "bridge_identity" => {
                self.is_encrypted = true;
                return Ok(false);
            }
            "bridge_certfile" => table.set("certificate", quoted(value)),
            "bridge_keyfile" => table.set("key", quoted(value)),
            "notification_topic" => self.notify_topic = Some(value.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `topic PATTERN [DIRECTION [QOS [LOCAL-PREFIX [REMOTE-PREFIX]]]]`; `""` is nothing.
    fn take_topic(&mut self, option: &Setting<'_>) -> Result<(), ImportError> {
        let plain = |word: &str| {
            if word == "\"\"" {
                String::new()
            } else {
                word.to_owned()
            }
        };
        let words: Vec<String> = option.value.split_whitespace().map(plain).collect();
        let word = |index: usize| words.get(index).map(String::as_str);
        let pattern = word(0).ok_or_else(|| option.error("needs a pattern"))?;
        let direction = match word(1) {
            None | Some("out") => "out",
            Some("in") => "in",
            Some("both") => "both",
            Some(_) => return Err(option.error("has a direction that is not out, in or both")),
        };
        let qos: u8 = word(2)
            .map_or(Ok(0), str::parse)
            .ok()
            .filter(|qos| *qos <= 2)
            .ok_or_else(|| option.error("has a QoS that is not 0, 1 or 2"))?;
        let mut rule = Table::default();
        rule.set("filters", list([pattern]));
        for (key, index) in [("local_prefix", 3), ("remote_prefix", 4)] {
            if let Some(prefix) = word(index).filter(|prefix| !prefix.is_empty()) {
                rule.set(key, quoted(prefix));
            }
        }
        rule.set("qos_max", qos);
        self.rules.push(rule);
        self.directions.push(direction);
        Ok(())
    }

    /// `restart_timeout BASE CAP [STABLE]` or a constant, in seconds.
    fn take_restart(&mut self, option: &Setting<'_>) -> Result<(), ImportError> {
        let numbers = option.value.split_whitespace().map(str::parse::<u64>);
        let numbers: Vec<u64> = numbers
            .collect::<Result<_, _>>()
            .map_err(|_| option.error("needs seconds"))?;
        let base = *numbers
            .first()
            .ok_or_else(|| option.error("needs seconds"))?;
        let most = numbers.get(1).copied().unwrap_or(base);
        let milliseconds = |seconds: u64| seconds.saturating_mul(1_000).clamp(1_000, 3_600_000);
        self.table.set("restart_base_ms", milliseconds(base));
        self.table.set("restart_max_ms", milliseconds(most));
        if let Some(stable) = numbers.get(2) {
            self.table.set("restart_stable_seconds", stable.min(&3_600));
        }
        Ok(())
    }

    pub(super) fn text(mut self) -> String {
        let receives = self.directions.iter().any(|it| *it != "out");
        if self.is_lazy && receives {
            self.table.note(
                "start_type lazy, threshold and idle_timeout: a bridge that receives connects at \
                 once here, and stays connected; give what goes out to a lazy bridge of its own",
            );
        } else if self.is_lazy {
            self.table.set("start", quoted("lazy"));
            // mosquitto's threshold is ten.
            self.table
                .set("start_messages", self.threshold.unwrap_or(10));
        }
        if let Some(topic) = self.notify_topic.filter(|_| !self.is_silent) {
            self.table.set("notify_topic", quoted(&topic));
        }
        let scheme = if self.is_encrypted { "mqtts" } else { "mqtt" };
        let servers: Vec<String> = self
            .addresses
            .iter()
            .map(|address| match (address.contains(':'), self.is_encrypted) {
                // mosquitto's port is 1883, with TLS too.
                (false, true) => format!("{scheme}://{address}:1883"),
                _ => format!("{scheme}://{address}"),
            })
            .collect();
        self.table
            .set("servers", list(servers.iter().map(String::as_str)));
        let mut text = self.table.text("[[bridges]]");
        for (mut rule, direction) in self.rules.into_iter().zip(self.directions) {
            if self.strips_retain && direction != "in" {
                rule.set("retain", quoted("strip"));
            }
            text += &rule.text(&format!("[[bridges.{direction}]]"));
        }
        text
    }
}
