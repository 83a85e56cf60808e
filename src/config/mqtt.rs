//! What the broker offers and asks for in the protocol.

/// How the broker speaks MQTT to every client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Keep alive imposed on MQTT 5.0 clients; `None` accepts what the client asks for.
    pub server_keep_alive_seconds: Option<u16>,
    /// Longest keep alive of MQTT 5.0 clients; `None` accepts any, and none at all.
    pub keep_alive_seconds_max: Option<u16>,
    /// QoS 1 and 2 messages a client may send before it awaits an acknowledgement.
    pub receive_maximum: u16,
    /// Topic aliases a client may set on one connection, 0 = none.
    pub topic_alias_maximum: u16,
    /// Topic aliases the broker sets on one connection, if the client takes them, 0 = none.
    pub topic_aliases_sent_max: u16,
    /// QoS 1 and 2 messages sent to one client and not yet acknowledged.
    pub inflight_max: u16,
    /// Whether a payload that claims to be text is refused unless it is valid UTF-8.
    pub check_payload_format: bool,
    /// Whether messages carry the client identifier of their publisher as a user property.
    pub client_id_property: bool,
    /// Whether messages carry the user name of their publisher as a user property.
    pub user_name_property: bool,
    /// Whether errors are explained to MQTT 5.0 clients in words.
    pub reason_strings: bool,
    /// Where clients that ask may receive responses; `%c` stands for the client id.
    pub response_information: Option<String>,
    /// The server named to clients that are sent elsewhere.
    pub server_reference: Option<String>,
    /// Seconds that clients get to receive their DISCONNECT when the broker stops.
    pub shutdown_seconds: u32,
    /// How a shared subscription picks one of its members.
    pub share_strategy: ShareStrategy,
    /// The user property of [`ShareStrategy::HashProperty`].
    pub share_property: Option<String>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            server_keep_alive_seconds: None,
            keep_alive_seconds_max: None,
            receive_maximum: 1024,
            topic_alias_maximum: 64,
            topic_aliases_sent_max: 64,
            inflight_max: u16::MAX,
            check_payload_format: false,
            client_id_property: false,
            user_name_property: false,
            reason_strings: true,
            response_information: None,
            server_reference: None,
            shutdown_seconds: 5,
            share_strategy: ShareStrategy::Balanced,
            share_property: None,
        }
    }
}

/// How a shared subscription picks the member that gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareStrategy {
    /// Members take turns, past those whose window is full.
    #[default]
    Balanced,
    /// One member gets everything until it leaves or is full.
    Sticky,
    /// The same topic goes to the same member.
    HashTopic,
    /// The same value of a user property goes to the same member; without it, the same topic.
    HashProperty,
}
