//! The table of all keys.

use super::value::{Field, Range};
use super::{BridgeRule, Config};

/// One key of the configuration file.
pub(super) struct Key {
    /// Dotted path; `#` stands for the index of a list.
    pub(super) path: &'static str,
    /// Least and greatest value, for integers.
    pub(super) range: Range,
    /// Its place in the tree.
    pub(super) field: fn(&mut Config, Index) -> Option<&mut dyn Field>,
}

/// Which entries of the lists of tables a path goes through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Index {
    pub(super) outer: usize,
    pub(super) inner: usize,
}

/// Paths that are lists of tables.
pub(super) const LISTS: [&str; 9] = [
    "listeners",
    "listeners.#.certificates",
    "auth.namespaces",
    "acl.groups",
    "acl.rules",
    "bridges",
    "bridges.#.out",
    "bridges.#.in",
    "bridges.#.both",
];

/// Paths that are tables.
pub(super) const TABLES: [&str; 12] = [
    "bridges.#.amqp091",
    "bridges.#.amqp10",
    "bridges.#.kafka",
    "bridges.#.rocketmq",
    "auth",
    "auth.jwt",
    "auth.http",
    "acl",
    "limits",
    "mqtt",
    "store",
    "log",
];

/// Every key there is.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    [
        ROOT,
        LISTENER,
        CERTIFICATE,
        BRIDGE,
        BRIDGE_AMQP091,
        BRIDGE_AMQP10,
        BRIDGE_KAFKA,
        BRIDGE_ROCKETMQ,
        BRIDGE_OUT,
        BRIDGE_IN,
        BRIDGE_BOTH,
        AUTH,
        JWT,
        HTTP,
        NAMESPACE,
        ACL,
        ACL_GROUP,
        ACL_RULE,
        LIMITS,
        MQTT,
        STORE,
        LOG,
    ]
    .into_iter()
    .flatten()
}

/// The rules of one direction of a bridge.
pub(super) fn rules<'a>(
    config: &'a mut Config,
    at: Index,
    direction: &str,
) -> Option<&'a mut Vec<BridgeRule>> {
    let bridge = config.bridges.get_mut(at.outer)?;
    match direction {
        "out" => Some(&mut bridge.out),
        "in" => Some(&mut bridge.inward),
        _ => Some(&mut bridge.both),
    }
}

fn rule<'a>(config: &'a mut Config, at: Index, direction: &str) -> Option<&'a mut BridgeRule> {
    rules(config, at, direction)?.get_mut(at.inner)
}

macro_rules! keys {
    ($name:ident: $prefix:literal, |$config:pat_param, $at:pat_param| $owner:expr,
     { $($field:ident $range:expr;)* }) => {
        const $name: &[Key] = &[$(Key {
            path: concat!($prefix, stringify!($field)),
            range: $range,
            field: |$config, $at| $owner.map(|owner| &mut owner.$field as &mut dyn Field),
        }),*];
    };
}

/// Not an integer, or any integer of its type.
const ANY: Range = (0, u64::MAX);
/// A list with an entry: without one a condition of a rule would hold for everybody.
const SOME: Range = (1, u64::MAX);
/// Limits that zero would turn into a broker that serves nobody.
const POSITIVE: Range = (1, u64::MAX);
/// The greatest packet: remaining length and fixed header.
const PACKET: Range = (128, 268_435_460);
const TOPIC: Range = (1, 65_535);

keys!(ROOT: "", |config, _| Some(config), {
    node ANY;
    shards (0, 1024);
    allow_anonymous ANY;
    sys_interval_seconds (0, 86_400);
    pid_file ANY;
    control_socket ANY;
    watch_files_seconds (0, 86_400);
});

keys!(LISTENER: "listeners.#.", |config, at| config.listeners.get_mut(at.outer), {
    bind ANY;
    transport ANY;
    path ANY;
    client_ca ANY;
    client_certificates ANY;
    client_crl ANY;
    tls_version_min ANY;
    alpn ANY;
    certificate_name ANY;
    certificate_as ANY;
    unix_peer_as_user ANY;
    auth ANY;
    allow_anonymous ANY;
    mount_point ANY;
    namespace_required ANY;
    connections_max POSITIVE;
    versions ANY;
    nodelay ANY;
    backlog (1, 65_535);
    tcp_keep_alive_seconds (0, 32_767);
    proxy_protocol ANY;
    proxy_trusted ANY;
    origins ANY;
    unix_owner ANY;
    unix_mode ANY;
});

keys!(CERTIFICATE: "listeners.#.certificates.#.", |config, at| {
    config
        .listeners
        .get_mut(at.outer)
        .and_then(|listener| listener.certificates.get_mut(at.inner))
}, {
    certificate ANY;
    key ANY;
});

keys!(BRIDGE: "bridges.#.", |config, at| config.bridges.get_mut(at.outer), {
    name ANY;
    kind ANY;
    enabled ANY;
    servers ANY;
    server_order ANY;
    first_server_probe_seconds (0, 86_400);
    protocol ANY;
    bridge_bit ANY;
    connections (1, 64);
    connections_by ANY;
    start ANY;
    start_messages POSITIVE;
    idle_seconds (1, 86_400);
    client_id ANY;
    user_name ANY;
    password ANY;
    password_file ANY;
    password_env ANY;
    ca ANY;
    certificate ANY;
    key ANY;
    server_name ANY;
    keep_alive_seconds (0, 65_535);
    tcp_keep_alive_seconds (0, 32_767);
    tcp_user_timeout_ms (0, 3_600_000);
    connect_timeout_ms (100, 300_000);
    ack_timeout_seconds (1, 3_600);
    restart_base_ms (100, 3_600_000);
    restart_max_ms (100, 7_200_000);
    restart_stable_seconds (0, 3_600);
    session_expiry_seconds ANY;
    receive_maximum POSITIVE;
    inflight_max POSITIVE;
    topic_alias_maximum ANY;
    messages_per_second_max (0, 10_000_000);
    max_hops (1, 16);
    allow_loops ANY;
    queue_messages_max (1, 1 << 40);
    queue_bytes_max (1 << 20, 16 << 40);
    queue_age_seconds_max (0, 31_536_000);
    queue_overflow ANY;
    virtual_host ANY;
    exchange ANY;
    queue ANY;
    mandatory ANY;
    dead_letter ANY;
    notify_topic ANY;
});

keys!(BRIDGE_AMQP091: "bridges.#.amqp091.", |config, at| {
    config.bridges.get_mut(at.outer).map(|bridge| &mut bridge.amqp091)
}, {
    declare ANY;
    exchange_kind ANY;
    queue_arguments ANY;
    consumer_arguments ANY;
    priority (0, 255);
});

keys!(BRIDGE_AMQP10: "bridges.#.amqp10.", |config, at| {
    config.bridges.get_mut(at.outer).map(|bridge| &mut bridge.amqp10)
}, {
    dialect ANY;
    sasl_mechanism ANY;
    host_name ANY;
    target ANY;
    address ANY;
    source ANY;
    links_max (1, 1_024);
    message_bytes_max ANY;
    priority (0, 9);
    deliveries_max ANY;
});

keys!(BRIDGE_KAFKA: "bridges.#.kafka.", |config, at| {
    config.bridges.get_mut(at.outer).map(|bridge| &mut bridge.kafka)
}, {
    sasl_mechanism ANY;
    token_url ANY;
    token_scope ANY;
    token_parameters ANY;
    token_ca ANY;
    acks ANY;
    idempotence ANY;
    compression ANY;
    partitioner ANY;
    linger_ms (0, 60_000);
    batch_messages_max (1, 1_000_000);
    guarantee ANY;
    transactional_id ANY;
    cursor_topic ANY;
    batch_bytes_max (1_024, 100_000_000);
    message_bytes_max (1_000, 100_000_000);
    inflight_max (1, 1_000_000);
    create_topics ANY;
    tombstones ANY;
    topics ANY;
    group ANY;
    start ANY;
    isolation ANY;
    unaccepted_max (1, 1_000_000);
    statistics_interval_ms (100, 3_600_000);
});

keys!(BRIDGE_ROCKETMQ: "bridges.#.rocketmq.", |config, at| {
    config.bridges.get_mut(at.outer).map(|bridge| &mut bridge.rocketmq)
}, {
    namespace ANY;
    topics ANY;
    group ANY;
    tags ANY;
    sql ANY;
    invisible_seconds (10, 43_200);
});

keys!(BRIDGE_OUT: "bridges.#.out.#.", |config, at| rule(config, at, "out"), {
    filters ANY;
    exclude ANY;
    local_prefix ANY;
    remote_prefix ANY;
    topic ANY;
    key ANY;
    partition ANY;
    timestamp_ms ANY;
    tag ANY;
    keys ANY;
    delay_ms ANY;
    priority ANY;
    payload ANY;
    payload_template ANY;
    on_missing ANY;
    qos_max (0, 2);
    retain ANY;
    user_properties_pass ANY;
    user_properties_remove ANY;
    user_properties_rename ANY;
    user_properties_add ANY;
});

keys!(BRIDGE_IN: "bridges.#.in.#.", |config, at| rule(config, at, "in"), {
    filters ANY;
    exclude ANY;
    local_prefix ANY;
    remote_prefix ANY;
    topic ANY;
    payload ANY;
    payload_template ANY;
    on_missing ANY;
    qos_max (0, 2);
    retain ANY;
    require_subscriber ANY;
    user_properties_pass ANY;
    user_properties_remove ANY;
    user_properties_rename ANY;
    user_properties_add ANY;
});

keys!(BRIDGE_BOTH: "bridges.#.both.#.", |config, at| rule(config, at, "both"), {
    filters ANY;
    exclude ANY;
    local_prefix ANY;
    remote_prefix ANY;
    qos_max (0, 2);
    retain ANY;
    user_properties_pass ANY;
    user_properties_remove ANY;
    user_properties_rename ANY;
    user_properties_add ANY;
});

keys!(AUTH: "auth.", |config, _| Some(&mut config.auth), {
    password_file ANY;
    hashing_threads (0, 64);
    session_takeover ANY;
    order ANY;
});

keys!(JWT: "auth.jwt.", |config, _| Some(&mut config.auth.jwt), {
    key_file ANY;
    algorithm ANY;
    jwks_file ANY;
    jwks_url ANY;
    jwks_ca_file ANY;
    jwks_timeout_milliseconds (1, 60_000);
    jwks_refresh_seconds (1, 86_400);
    jwks_retry_seconds (1, 3_600);
    jwks_keep_seconds (1, 31_536_000);
    token_in ANY;
    issuers ANY;
    audiences ANY;
    leeway_seconds (0, 3600);
    expiry_required ANY;
    user_name_claim ANY;
    client_id_claim ANY;
    namespace_claim ANY;
    groups_claim ANY;
    acl_claim ANY;
});

keys!(HTTP: "auth.http.", |config, _| Some(&mut config.auth.http), {
    url ANY;
    authorization ANY;
    ca_file ANY;
    timeout_milliseconds (1, 60_000);
    requests_max (1, 64);
    cache_seconds (0, 86_400);
    cache_entries_max POSITIVE;
});

keys!(NAMESPACE: "auth.namespaces.#.", |config, at| config.auth.namespaces.get_mut(at.outer), {
    name ANY;
    users ANY;
    certificates ANY;
    organizations ANY;
    organizational_units ANY;
    connections_max POSITIVE;
    sessions_max POSITIVE;
    retained_messages_max ANY;
});

keys!(ACL: "acl.", |config, _| Some(&mut config.acl), {
    file ANY;
    superusers ANY;
    wide_subscriptions ANY;
});

keys!(ACL_GROUP: "acl.groups.#.", |config, at| config.acl.groups.get_mut(at.outer), {
    name ANY;
    members ANY;
});

keys!(ACL_RULE: "acl.rules.#.", |config, at| config.acl.rules.get_mut(at.outer), {
    effect ANY;
    users SOME;
    groups SOME;
    clients SOME;
    certificates SOME;
    addresses SOME;
    anonymous ANY;
    actions SOME;
    topics SOME;
});

keys!(LIMITS: "limits.", |config, _| Some(&mut config.limits), {
    connections_max POSITIVE;
    connections_per_address_max ANY;
    connects_per_second_per_address ANY;
    connects_burst_per_address POSITIVE;
    connections_per_network_max ANY;
    connects_per_second_per_network ANY;
    connects_burst_per_network POSITIVE;
    network_ipv4_bits (0, 32);
    network_ipv6_bits (0, 64);
    banned_addresses ANY;
    connect_seconds (1, 3600);
    connect_bytes_max PACKET;
    connecting_bytes_max ANY;
    packet_bytes_max PACKET;
    logins_waiting_max POSITIVE;
    login_failures_per_address_max ANY;
    login_failures_per_user_max ANY;
    login_ban_seconds (1, 86_400);
    connects_per_minute_per_client_max ANY;
    login_delay_milliseconds_per_address (0, 60_000);
    login_delay_milliseconds_per_user (0, 60_000);
    login_delay_milliseconds_max (0, 60_000);
    filter_wildcards_max POSITIVE;
    wildcard_levels_max TOPIC;
    wildcard_subscriptions_per_client_max ANY;
    topic_bytes_max TOPIC;
    topic_levels_max TOPIC;
    subscriptions_per_client_max POSITIVE;
    publish_messages_per_second_max ANY;
    publish_bytes_per_second_max ANY;
    publish_burst_seconds (1, 3600);
    filters_per_second_max ANY;
    filter_burst_seconds (1, 3600);
    queue_messages_max POSITIVE;
    queue_bytes_max POSITIVE;
    queue_overflow ANY;
    write_buffer_bytes_max (4096, u64::MAX);
    mailbox_bytes_max (65_536, u64::MAX);
    retained_messages_max ANY;
    retained_bytes_max ANY;
    retained_payload_bytes_max ANY;
    sessions_max POSITIVE;
    sessions_per_user_max ANY;
    session_expiry_seconds_max ANY;
    delayed_messages_max ANY;
    delayed_seconds_max ANY;
});

keys!(MQTT: "mqtt.", |config, _| Some(&mut config.mqtt), {
    server_keep_alive_seconds POSITIVE;
    keep_alive_seconds_max POSITIVE;
    receive_maximum POSITIVE;
    topic_alias_maximum ANY;
    topic_aliases_sent_max ANY;
    inflight_max POSITIVE;
    check_payload_format ANY;
    client_id_property ANY;
    user_name_property ANY;
    reason_strings ANY;
    response_information ANY;
    server_reference ANY;
    shutdown_seconds (0, 3600);
    share_strategy ANY;
    share_property ANY;
});

keys!(STORE: "store.", |config, _| Some(&mut config.store), {
    engine ANY;
    directory ANY;
    map_bytes_max (1 << 20, 1 << 46);
    commit_interval_milliseconds (0, 10);
    batch_operations_max POSITIVE;
    batch_bytes_max (4096, 1 << 30);
    pending_bytes_max (65_536, u64::MAX);
    disk_free_bytes_min ANY;
});

keys!(LOG: "log.", |config, _| Some(&mut config.log), {
    level ANY;
    peer_lines_per_second_max (1, 1_000_000);
});
