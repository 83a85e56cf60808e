//! Every limit of the broker in one struct.

use super::Network;

/// What no client may exceed; one value is shared by all listeners.
///
/// # Units
///
/// The last words of a name tell the unit. Where a field says "0 = unlimited", zero switches the
/// limit off; every other limit is at least 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of the whole broker.
    pub connections_max: usize,
    /// Open connections of one IPv4 address or IPv6 /64, 0 = unlimited.
    pub connections_per_address_max: u32,
    /// Connections that one IPv4 address or IPv6 /64 may open per second, 0 = unlimited.
    pub connects_per_second_per_address: u32,
    /// Connections that such an address may open at once before the rate holds.
    pub connects_burst_per_address: u32,
    /// Open connections of one network, 0 = unlimited.
    pub connections_per_network_max: u32,
    /// Connections that one network may open per second, 0 = unlimited.
    pub connects_per_second_per_network: u32,
    /// Connections that one network may open at once.
    pub connects_burst_per_network: u32,
    /// Bits of an IPv4 address that tell its network.
    pub network_ipv4_bits: u32,
    /// Bits of an IPv6 address that tell its network.
    pub network_ipv6_bits: u32,
    /// Who is closed before TLS.
    pub banned_addresses: Vec<Network>,
    /// Seconds from accepting a connection to the end of its CONNECT, handshakes included.
    pub connect_seconds: u32,
    /// Bytes of one CONNECT packet, its will included.
    pub connect_bytes_max: usize,
    /// Bytes of all CONNECT packets not yet whole, without the first 4 KiB of each.
    pub connecting_bytes_max: usize,
    /// Bytes of one packet, its fixed header included.
    pub packet_bytes_max: usize,
    /// Logins that wait for their password to be checked, in the whole broker.
    pub logins_waiting_max: usize,
    /// Failed logins from one address (IPv6: one /64) that ban it, 0 = none.
    pub login_failures_per_address_max: u32,
    /// Failed logins of one user that ban it, 0 = none.
    pub login_failures_per_user_max: u32,
    /// Seconds in which failures add up, and that a ban lasts from the first of them.
    pub login_ban_seconds: u32,
    /// Connects of one client id within a minute, 0 = unlimited.
    pub connects_per_minute_per_client_max: u32,
    /// The wait of a login from an address after one that failed, doubled by each further one;
    /// 0 waits for none.
    pub login_delay_milliseconds_per_address: u32,
    /// As [`Limits::login_delay_milliseconds_per_address`], for logins of a user.
    pub login_delay_milliseconds_per_user: u32,
    /// The longest such wait.
    pub login_delay_milliseconds_max: u32,
    /// Wildcards in one topic filter.
    pub filter_wildcards_max: usize,
    /// Levels of a filter with wildcards.
    pub wildcard_levels_max: usize,
    /// Subscriptions with wildcards of one client, within all of them.
    pub wildcard_subscriptions_per_client_max: usize,
    /// Bytes of a topic name or topic filter.
    pub topic_bytes_max: usize,
    /// Levels of a topic name or topic filter.
    pub topic_levels_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_per_client_max: usize,
    /// Messages that one client may publish per second, 0 = unlimited.
    pub publish_messages_per_second_max: u64,
    /// Bytes of the packets that one client may publish with per second, 0 = unlimited.
    pub publish_bytes_per_second_max: u64,
    /// Seconds' worth of both that a client may publish at once.
    pub publish_burst_seconds: u32,
    /// Filters that one client may subscribe to or unsubscribe from per second, 0 = unlimited.
    pub filters_per_second_max: u64,
    /// Seconds' worth of them that a client may send at once.
    pub filter_burst_seconds: u32,
    /// Messages waiting for one client.
    pub queue_messages_max: usize,
    /// Bytes of the messages waiting for one client.
    pub queue_bytes_max: usize,
    /// What happens to a message that finds its queue full.
    pub queue_overflow: QueueOverflow,
    /// Encoded bytes waiting for one socket.
    pub write_buffer_bytes_max: usize,
    /// Bytes waiting in the mailbox of one shard.
    pub mailbox_bytes_max: usize,
    /// Retained messages of the whole broker.
    pub retained_messages_max: usize,
    /// Bytes of all retained messages.
    pub retained_bytes_max: usize,
    /// Payload bytes of one retained message.
    pub retained_payload_bytes_max: usize,
    /// Sessions, connected or not.
    pub sessions_max: usize,
    /// Sessions of one user, 0 = unlimited.
    pub sessions_per_user_max: usize,
    /// Longest session expiry interval granted; `u32::MAX` lets sessions live for ever.
    pub session_expiry_seconds_max: u32,
    /// Delayed messages waiting in the whole broker; 0 refuses them.
    pub delayed_messages_max: usize,
    /// Longest delay of a delayed message.
    pub delayed_seconds_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            connections_per_address_max: 0,
            connects_per_second_per_address: 0,
            connects_burst_per_address: 100,
            connections_per_network_max: 0,
            connects_per_second_per_network: 0,
            connects_burst_per_network: 1_000,
            network_ipv4_bits: 24,
            network_ipv6_bits: 48,
            banned_addresses: Vec::new(),
            connect_seconds: 10,
            connect_bytes_max: 256 << 10,
            connecting_bytes_max: 64 << 20,
            packet_bytes_max: 16 << 20,
            logins_waiting_max: 128,
            login_failures_per_address_max: 100,
            login_failures_per_user_max: 0,
            login_ban_seconds: 60,
            connects_per_minute_per_client_max: 300,
            login_delay_milliseconds_per_address: 100,
            login_delay_milliseconds_per_user: 0,
            login_delay_milliseconds_max: 3_000,
            filter_wildcards_max: 64,
            wildcard_levels_max: 128,
            wildcard_subscriptions_per_client_max: 100_000,
            topic_bytes_max: 65_535,
            topic_levels_max: 128,
            subscriptions_per_client_max: 100_000,
            publish_messages_per_second_max: 0,
            publish_bytes_per_second_max: 0,
            publish_burst_seconds: 1,
            filters_per_second_max: 0,
            filter_burst_seconds: 10,
            queue_messages_max: 100_000,
            queue_bytes_max: 64 << 20,
            queue_overflow: QueueOverflow::DropNewest,
            write_buffer_bytes_max: 8 << 20,
            mailbox_bytes_max: 64 << 20,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            retained_payload_bytes_max: 16 << 20,
            sessions_max: 1_000_000,
            sessions_per_user_max: 0,
            session_expiry_seconds_max: u32::MAX,
            delayed_messages_max: 100_000,
            delayed_seconds_max: 4_294_967,
        }
    }
}

/// What happens to a message that finds its queue full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOverflow {
    /// The oldest waiting message makes room.
    DropOldest,
    /// The message is dropped.
    #[default]
    DropNewest,
    /// The publisher is told with reason 0x97.
    Reject,
    /// The slow consumer is disconnected.
    Disconnect,
}
