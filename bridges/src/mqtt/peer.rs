//! What the server's CONNACK allows.

use std::num::NonZeroU16;

use tidewire_protocol::codec::{ConnAckProperties, ProtocolVersion, QoS};

use super::Settings;

/// The limits of a server, and the subscriptions that it was asked for.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) inflight_max: u16,
    pub(super) packet_bytes_max: usize,
    pub(super) qos_max: QoS,
    pub(super) retain_available: bool,
    pub(super) topic_aliases_max: u16,
    pub(super) keep_alive_seconds: u16,
    pub(super) filters: Vec<String>,
    /// Its name, if it is of our own kind.
    pub(super) node: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            inflight_max: u16::MAX,
            packet_bytes_max: PACKET_BYTES_MAX,
            qos_max: QoS::ExactlyOnce,
            retain_available: true,
            topic_aliases_max: 0,
            keep_alive_seconds: 0,
            filters: Vec::new(),
            node: None,
        }
    }
}

impl Peer {
    /// What the server and the settings allow together.
    pub(super) fn new(
        settings: &Settings,
        version: ProtocolVersion,
        answer: &ConnAckProperties<'_>,
    ) -> Self {
        let receive_maximum = answer.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        let size = answer.maximum_packet_size;
        let aliases = answer.topic_alias_maximum.unwrap_or(0);
        let mut names = answer.user_properties.iter();
        Self {
            inflight_max: receive_maximum.min(settings.inflight_max),
            packet_bytes_max: size.map_or(PACKET_BYTES_MAX, |bytes| bytes.get() as usize),
            qos_max: answer.maximum_qos.unwrap_or(QoS::ExactlyOnce),
            retain_available: answer.retain_available.unwrap_or(true),
            topic_aliases_max: match version {
                ProtocolVersion::V5 => aliases.min(settings.topic_aliases_max),
                _ => 0,
            },
            keep_alive_seconds: answer
                .server_keep_alive_seconds
                .unwrap_or(settings.keep_alive_seconds),
            filters: Vec::new(),
            node: names
                .find(|(name, _)| *name == super::NODE_PROPERTY)
                .map(|(_, value)| value.to_owned()),
        }
    }

    /// What the server allows less than the settings ask for, in words.
    pub(super) fn warnings(
        &self,
        settings: &Settings,
        answer: &ConnAckProperties<'_>,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.qos_max < QoS::ExactlyOnce {
            warnings.push(format!(
                "the server takes QoS {} at the most",
                self.qos_max as u8
            ));
        }
        if !self.retain_available {
            warnings.push("the server keeps no retained messages".to_owned());
        }
        let has_wildcards = settings
            .subscriptions
            .iter()
            .any(|it| it.filter.contains(['+', '#']));
        if has_wildcards && answer.wildcard_subscription_available == Some(false) {
            warnings.push("the server has no wildcard subscriptions".to_owned());
        }
        let expiry = answer.session_expiry_seconds;
        if expiry.is_some_and(|seconds| seconds < settings.session_expiry_seconds) {
            warnings.push(format!(
                "the server keeps the session for {} s only",
                expiry.unwrap_or_default()
            ));
        }
        warnings
    }
}

/// The greatest packet that MQTT can express.
const PACKET_BYTES_MAX: usize = 268_435_460;
