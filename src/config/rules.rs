//! Rules between keys.

use std::collections::HashSet;

use tidewire_protocol::topic::Topic;

use super::{
    AclRule, CertificateAs, ClientCertificates, Config, Jwt, Limits, Listener, Mqtt, Namespace,
    Secret, ShareStrategy, TlsVersion, Transport, is_namespace,
};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Dotted path of the key to change.
    pub key: String,
    /// To be read after the key.
    pub problem: String,
}

impl Broken {
    /// The key as seen from outside of a table or list.
    pub(super) fn within(self, table: &str) -> Self {
        let key = format!("{table}.{}", self.key);
        Self { key, ..self }
    }
}

/// The first rule that does not hold.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    demand(
        "listeners",
        !config.listeners.is_empty(),
        "needs at least one entry",
    )?;
    let mut taken = HashSet::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let within = |broken: Broken| broken.within(&format!("listeners.{index}"));
        check_listener(listener).map_err(within)?;
        let free = listener.bind.ends_with(":0") || taken.insert(&listener.bind);
        demand("bind", free, "is the address of an earlier listener").map_err(within)?;
    }
    for (index, rule) in config.acl.rules.iter().enumerate() {
        check_rule(rule).map_err(|it| it.within(&format!("acl.rules.{index}")))?;
    }
    check_namespaces(&config.auth.namespaces)?;
    check_sharing(&config.mqtt)?;
    check_jwt(&config.auth.jwt)?;
    let url = config.auth.http.url.as_deref().unwrap_or("https://");
    demand(
        "auth.http.url",
        url.starts_with("http://") || url.starts_with("https://"),
        "must begin with http:// or https://",
    )?;
    let authorization = config.auth.http.authorization.as_ref();
    let can_be_sent = |it: &Secret| it.0.bytes().all(|it| matches!(it, b' '..=b'~'));
    demand(
        "auth.http.authorization",
        authorization.is_none_or(can_be_sent),
        "must be visible ASCII characters and spaces: no header can hold others",
    )?;
    check_limits(&config.limits)?;
    super::bridge_rules::check(config)
}

fn check_jwt(jwt: &Jwt) -> Result<(), Broken> {
    demand(
        "auth.jwt.algorithm",
        jwt.key_file.is_none() || jwt.algorithm.is_some(),
        "is needed with key_file: how does the key sign?",
    )?;
    let url = jwt.jwks_url.as_deref().unwrap_or("https://");
    demand(
        "auth.jwt.jwks_url",
        url.starts_with("https://") || is_on_this_machine(url),
        "must begin with https://: who changes the keys on their way signs tokens",
    )?;
    demand(
        "auth.jwt.jwks_ca_file",
        jwt.jwks_ca_file.is_none() || jwt.jwks_url.is_some(),
        "is of no use without jwks_url",
    )?;
    demand(
        "auth.jwt.user_name_claim",
        !jwt.user_name_claim.is_empty(),
        "must name a claim",
    )
}

fn check_namespaces(namespaces: &[Namespace]) -> Result<(), Broken> {
    let mut taken = HashSet::new();
    for (index, namespace) in namespaces.iter().enumerate() {
        let key = format!("auth.namespaces.{index}.name");
        let name = &namespace.name;
        let needed = "must be one level of a topic, without wildcards, `/` and `$`";
        demand(&key, is_namespace(name), needed)?;
        demand(&key, taken.insert(name), "is that of an earlier namespace")?;
    }
    Ok(())
}

/// Whether a URL of plain HTTP leads to no other machine.
pub(crate) fn is_on_this_machine(url: &str) -> bool {
    let authority = url.strip_prefix("http://");
    let authority = authority.and_then(|it| it.split(['/', '?', '#']).next());
    authority.is_some_and(|it| {
        let host = it.rsplit_once(':').map_or(it, |(host, _)| host);
        !it.contains('@') && matches!(host, "localhost" | "127.0.0.1" | "[::1]")
    })
}

fn check_rule(rule: &AclRule) -> Result<(), Broken> {
    let some = "needs at least one entry";
    demand("topics", !rule.topics.is_empty(), some)?;
    demand("actions", !rule.actions.is_empty(), some)?;
    let has_user = !rule.users.is_empty() || !rule.groups.is_empty();
    demand(
        "anonymous",
        !(rule.anonymous && has_user),
        "is for clients without a user name: leave users and groups out",
    )
}

fn check_listener(listener: &Listener) -> Result<(), Broken> {
    demand(
        "versions",
        !listener.versions.is_empty(),
        "needs at least one version",
    )?;
    let believed = listener.proxy_protocol || listener.proxy_trusted.is_empty();
    demand(
        "proxy_trusted",
        believed,
        "is of no use unless proxy_protocol is true",
    )?;
    check_mount_point(listener)?;
    check_bind(listener)?;
    check_certificates(listener)?;
    let websocket = listener.transport.is_websocket();
    demand(
        "path",
        !websocket || listener.path.starts_with('/'),
        "must start with `/`",
    )?;
    let plain = !listener.path.contains(['?', '#', ' ']);
    demand(
        "path",
        !websocket || plain,
        "must be a plain path without `?`, `#` and spaces",
    )?;
    let owned = listener.transport == Transport::Unix || listener.unix_owner.is_none();
    demand("unix_owner", owned, "is for the transport unix")?;
    let encrypted = listener.transport.is_encrypted();
    let shown = "is for the transports tls and wss";
    demand("alpn", encrypted || listener.alpn.is_none(), shown)?;
    let version = listener.tls_version_min == TlsVersion::default();
    demand("tls_version_min", encrypted || version, shown)?;
    let is_name = |it: &String| (1..=255).contains(&it.len());
    let named = listener.alpn.iter().flatten().all(is_name);
    demand("alpn", named, "must be names of 1 to 255 bytes")?;
    let origins = websocket || listener.origins.is_empty();
    demand("origins", origins, "is for the transports ws and wss")?;
    let needed =
        "must be origins as browsers send them, such as https://app.example:8443, or \"*\"";
    demand(
        "origins",
        listener.origins.iter().all(|it| is_origin(it)),
        needed,
    )
}

/// A scheme and an authority, and nothing after it: anything else equals no origin.
fn is_origin(text: &str) -> bool {
    let authority = text
        .split_once("://")
        .map(|(scheme, rest)| (scheme.is_empty(), rest));
    text == "*"
        || text == "null"
        || authority.is_some_and(|(has_no_scheme, authority)| {
            let is_odd = |it: char| matches!(it, '/' | '?' | '#' | '@') || it.is_whitespace();
            !has_no_scheme && !authority.is_empty() && !authority.contains(is_odd)
        })
}

fn check_mount_point(listener: &Listener) -> Result<(), Broken> {
    let Some(mount_point) = &listener.mount_point else {
        return Ok(());
    };
    let is_topic = Topic::parse(mount_point, usize::from(u8::MAX)).is_ok();
    let is_usual = !mount_point.starts_with('$') && mount_point.ends_with('/');
    demand(
        "mount_point",
        is_topic && is_usual && mount_point.len() <= MOUNT_POINT_BYTES_MAX,
        "must be levels of a topic without wildcards and `$`, ending with `/`",
    )
}

fn check_bind(listener: &Listener) -> Result<(), Broken> {
    if listener.transport == Transport::Unix {
        return demand(
            "bind",
            !listener.bind.is_empty(),
            "must be the path of a unix socket",
        );
    }
    let port = listener.bind.rsplit_once(':').filter(|(host, _)| {
        !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'))
    });
    let valid = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    demand(
        "bind",
        valid,
        "must be host:port, an IPv6 address in brackets",
    )
}

fn check_certificates(listener: &Listener) -> Result<(), Broken> {
    let asked = listener.client_certificates != ClientCertificates::Off;
    let shown = "needs client_certificates to be optional or required";
    demand("client_crl", asked || listener.client_crl.is_none(), shown)?;
    let is_nothing = listener.certificate_as == CertificateAs::Nothing;
    demand("certificate_as", asked || is_nothing, shown)?;
    demand(
        "unix_peer_as_user",
        !listener.unix_peer_as_user || listener.transport == Transport::Unix,
        "is for the transport unix",
    )?;
    if !listener.transport.is_encrypted() {
        let none = listener.certificates.is_empty();
        demand("certificates", none, "is for the transports tls and wss")?;
        demand(
            "client_ca",
            listener.client_ca.is_none(),
            "is for the transports tls and wss",
        )?;
        return demand(
            "client_certificates",
            !asked,
            "is for the transports tls and wss",
        );
    }
    let some = !listener.certificates.is_empty();
    demand(
        "certificates",
        some,
        "needs at least one entry for the transports tls and wss",
    )?;
    for (index, pair) in listener.certificates.iter().enumerate() {
        let within = |broken: Broken| broken.within(&format!("certificates.{index}"));
        demand(
            "certificate",
            !pair.certificate.as_os_str().is_empty(),
            "is missing",
        )
        .map_err(within)?;
        demand("key", !pair.key.as_os_str().is_empty(), "is missing").map_err(within)?;
    }
    let signed = !asked || listener.client_ca.is_some();
    demand(
        "client_ca",
        signed,
        "is needed to check client certificates",
    )?;
    let used = asked || listener.client_ca.is_none();
    demand(
        "client_certificates",
        used,
        "must be optional or required for client_ca to be used",
    )
}

fn check_sharing(mqtt: &Mqtt) -> Result<(), Broken> {
    let by_property = mqtt.share_strategy == ShareStrategy::HashProperty;
    let is_named = mqtt.share_property.is_some();
    let needed = "is needed for share_strategy \"hash_property\"";
    demand("mqtt.share_property", is_named || !by_property, needed)
}

fn check_limits(limits: &Limits) -> Result<(), Broken> {
    let queued = limits.queue_bytes_max >= limits.packet_bytes_max;
    demand(
        "limits.queue_bytes_max",
        queued,
        "must hold one packet of limits.packet_bytes_max",
    )?;
    let mailed = limits.mailbox_bytes_max >= limits.packet_bytes_max;
    demand(
        "limits.mailbox_bytes_max",
        mailed,
        "must hold one packet of limits.packet_bytes_max",
    )
}

pub(super) fn demand(key: &str, holds: bool, problem: &str) -> Result<(), Broken> {
    if holds {
        Ok(())
    } else {
        Err(Broken {
            key: key.to_owned(),
            problem: problem.to_owned(),
        })
    }
}

/// Leaves nearly all of a topic to the clients.
const MOUNT_POINT_BYTES_MAX: usize = 1_024;
