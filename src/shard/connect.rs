//! CONNECT: sessions begin, resume and are taken over here.

use std::num::NonZeroU16;
use std::sync::Arc;

use tidewire_protocol::codec::{
    Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, UserProperties,
};
use tidewire_protocol::session::OutboundAliases;

use super::census::{Counted, Place};
use super::client::{Connection, Session};
use super::explain::encode_explained;
use super::mount::session_name;
use super::rights::check_will;
use super::timers::Timer;
use super::{Key, Shard};
use crate::auth::acl::Rights;
use crate::auth::{Identity, may_publish, may_take_over};
use crate::log_limit::LogKind;
use crate::message::ClientNumber;

/// A CONNECT that has passed authentication, at its client's home shard.
#[derive(Clone, Copy, Debug)]
pub struct Handshake<'a> {
    /// The packet.
    pub connect: &'a Connect<'a>,
    /// The client id, assigned by us if the packet had none.
    pub client_id: &'a str,
    /// Where the client is, for the log.
    pub peer: &'a str,
    /// Who the client has proved to be.
    pub identity: &'a Identity,
    /// Put before the topics of the client; ends with `/`.
    pub mount_point: Option<&'a str>,
}

/// The result of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The connection; its buffer holds the CONNACK.
    pub connection: Key,
}

impl Shard {
    /// Attaches a connection to its session, ending whatever the client id was connected to.
    pub fn connect(&mut self, handshake: &Handshake<'_>, now_ms: u64) -> Accepted {
        let Handshake {
            connect,
            client_id,
            mount_point,
            ..
        } = *handshake;
        let name = &*session_name(mount_point, client_id);
        self.durable.begin_packet();
        let connection = self
            .connections
            .insert(self.new_connection(handshake, now_ms));
        self.metrics.connections.add(1);
        self.metrics.connects.add(1);
        self.metrics.messages_received.add(1);
        let rights = match self.rights_of(handshake, name) {
            Ok(rights) => rights,
            Err(refusal) => {
                self.refuse(connection, handshake, refusal, now_ms);
                return Accepted { connection };
            }
        };
        self.take_over(name, now_ms);
        let session = self.resume_or_begin(handshake, name, &rights, now_ms);
        let (session, is_present) = match session {
            Ok(session) => session,
            Err(why) => {
                let refusal = (ReasonCode::QuotaExceeded, why);
                self.refuse(connection, handshake, refusal, now_ms);
                return Accepted { connection };
            }
        };
        self.set_rights(session, rights, now_ms);
        self.attach(connection, session, handshake);
        if !self.acknowledge_connect(connection, handshake, is_present) {
            self.abandon_unacknowledged(connection, session, now_ms);
            return Accepted { connection };
        }
        tracing::debug!(
            client_id,
            peer = handshake.peer,
            version = ?connect.version,
            session_present = is_present,
            "connected"
        );
        if is_present {
            self.rebind_if_version_changed(session, connect.version);
        }
        let awaits_connack = self.connections.lookup(connection);
        if awaits_connack.is_some_and(|it| it.awaits_connack.is_none()) {
            self.begin_service(connection, now_ms);
        }
        Accepted { connection }
    }

    /// What a client may do that may have the session of this name.
    ///
    /// # Errors
    /// It may not; the reason in words is for the log.
    fn rights_of(
        &self,
        handshake: &Handshake<'_>,
        name: &str,
    ) -> Result<Arc<Rights>, (ReasonCode, &'static str)> {
        let Handshake {
            connect, identity, ..
        } = *handshake;
        let sessions_max = self.shared.config.limits.sessions_max / usize::from(self.shared.shards);
        let has_room = self.sessions.len() < sessions_max.max(1)
            && !(self.shared.store.is_exhausted() && self.expiry_of(connect) > 0);
        if !has_room && !self.directory.contains_key(name) {
            let why = "there is no room for another session";
            return Err((ReasonCode::QuotaExceeded, why));
        }
        let subject = identity.subject(&handshake.client_id.into());
        if !self.is_known(&subject) {
            return Err((ReasonCode::NotAuthorized, "the user is gone"));
        }
        let rights = Arc::new(self.shared.acl.rights(subject));
        let will = connect.will.as_ref();
        check_will(will, handshake.mount_point, &rights)
            .map_err(|reason| (reason, "the will is not allowed"))?;
        if !self.may_have(name, identity) {
            let why = "the session belongs to another user";
            return Err((ReasonCode::NotAuthorized, why));
        }
        Ok(rights)
    }

    /// CONNACK is on its way: everything else may follow.
    pub(super) fn begin_service(&mut self, connection: Key, now_ms: u64) {
        let Some(session) = self.session_of(connection) else {
            return;
        };
        self.announce_presence(session, true);
        if self.restore_in_flight(session) {
            return;
        }
        self.resend_in_flight(session, now_ms);
        self.send_waiting(session, now_ms);
    }

    /// The network connection has ended; its state goes away.
    pub fn closed(&mut self, key: Key, now_ms: u64) {
        self.detach_session(key, now_ms);
        if self.connections.remove(key).is_some() {
            self.metrics.connections.subtract(1);
        }
    }

    /// Ends a connection from our side, with DISCONNECT where the version has it.
    pub(super) fn disconnect(&mut self, key: Key, reason: ReasonCode, why: &str, now_ms: u64) {
        let reason_string = self.explain_end(reason, why);
        let Some(connection) = self.connections.lookup_mut(key) else {
            return;
        };
        if connection.is_closing {
            return;
        }
        connection.is_closing = true;
        self.timers.add(now_ms + CLOSING_MS, Timer::Abandon(key));
        let session = connection.session;
        // [MQTT-3.2.0-1]: nothing is sent before CONNACK.
        if connection.version == ProtocolVersion::V5 && connection.awaits_connack.is_none() {
            let reference = self.shared.config.mqtt.server_reference.as_deref();
            let packet = Packet::Disconnect(Disconnect {
                reason,
                session_expiry_seconds: None,
                reason_string,
                user_properties: UserProperties::default(),
                server_reference: reference.filter(|_| reason == ReasonCode::UseAnotherServer),
            });
            let bytes_max = connection.packet_bytes_max;
            let before = connection.out.tail().len();
            encode_explained(&packet, connection).expect("a DISCONNECT of ours is small");
            let out = connection.out.tail();
            if out.len() - before > bytes_max {
                out.truncate(before);
            } else {
                self.metrics.messages_sent.add(1);
            }
        }
        if self.may_log(LogKind::Disconnected, now_ms) {
            let client_id = session
                .and_then(|session| self.sessions.lookup(session))
                .map_or("", |session| &session.client_id);
            let peer = self.peer_of(key);
            tracing::info!(client_id, %peer, ?reason, why, "disconnecting client");
        }
        self.detach_session(key, now_ms);
        self.touch(key);
    }

    fn new_connection(&self, handshake: &Handshake<'_>, now_ms: u64) -> Connection {
        let Handshake {
            connect,
            peer,
            identity,
            mount_point,
            ..
        } = *handshake;
        let mqtt = &self.shared.config.mqtt;
        let properties = &connect.properties;
        Connection {
            session: None,
            client: ClientNumber::default(),
            version: connect.version,
            is_bridge: connect.is_bridge,
            keep_alive_seconds: self.keep_alive_of(connect),
            last_received_ms: now_ms,
            proof_expires_at_ms: identity.expires_at_ms,
            pace: Default::default(),
            aliases: Default::default(),
            outbound_aliases: self.outbound_aliases_of(connect),
            mount_point: mount_point.map(Into::into),
            receive_quota_used: 0,
            send_quota: properties
                .receive_maximum
                .map_or(u16::MAX, NonZeroU16::get)
                .min(mqtt.inflight_max),
            packet_bytes_max: properties
                .maximum_packet_size
                .map_or(usize::MAX, |bytes| bytes.get() as usize),
            wants_problem_information: properties.request_problem_information != Some(false),
            out: Default::default(),
            held: Default::default(),
            holds_publish: false,
            awaits_connack: None,
            is_touched: false,
            is_closing: false,
            is_abandoned: false,
            last_routes: None,
            peer: peer.into(),
            authentication: identity
                .enhanced
                .as_ref()
                .map(|enhanced| Box::new(enhanced.authentication.clone())),
        }
    }

    fn outbound_aliases_of(&self, connect: &Connect<'_>) -> Option<Box<OutboundAliases>> {
        let alias_max = connect
            .properties
            .topic_alias_maximum
            .unwrap_or(0)
            .min(self.shared.config.mqtt.topic_aliases_sent_max);
        // [MQTT-3.1.2-27]
        NonZeroU16::new(alias_max).map(|alias_max| Box::new(OutboundAliases::new(alias_max)))
    }

    pub(super) fn keep_alive_of(&self, connect: &Connect<'_>) -> u16 {
        let asked = connect.keep_alive_seconds;
        // Before 5.0 there is no way to tell the client.
        if connect.version != ProtocolVersion::V5 {
            return asked;
        }
        let mqtt = &self.shared.config.mqtt;
        match (mqtt.server_keep_alive_seconds, mqtt.keep_alive_seconds_max) {
            (Some(seconds), _) => seconds,
            (None, Some(seconds_max)) if asked == 0 || asked > seconds_max => seconds_max,
            _ => asked,
        }
    }

    pub(super) fn expiry_of(&self, connect: &Connect<'_>) -> u32 {
        let asked = match (connect.version, connect.clean_start) {
            (ProtocolVersion::V5, _) => connect.properties.session_expiry_seconds.unwrap_or(0),
            (_, true) => 0,
            (_, false) => u32::MAX,
        };
        asked.min(self.shared.config.limits.session_expiry_seconds_max)
    }

    /// Whether the rule for sessions of other users lets this one in.
    fn may_have(&self, name: &str, identity: &Identity) -> bool {
        let session = self.directory.get(name);
        let Some(session) = session.and_then(|key| self.sessions.lookup(*key)) else {
            return true;
        };
        let rule = self.shared.config.auth.session_takeover;
        let certificate = &session.rights.subject().certificate;
        let proofs = [
            (&session.user_name, &identity.user_name),
            (certificate, &identity.certificate),
        ];
        let may_have = |(owner, newcomer): (&Option<Arc<str>>, &Option<Arc<str>>)| {
            may_take_over(rule, owner.as_deref(), newcomer.as_deref())
        };
        proofs.into_iter().all(may_have)
    }

    /// [MQTT-3.1.4-3]: the older connection with this client id ends with 0x8E.
    fn take_over(&mut self, name: &str, now_ms: u64) {
        let older = self
            .directory
            .get(name)
            .and_then(|key| self.sessions.lookup(*key))
            .and_then(|session| session.connection);
        if let Some(older) = older {
            self.disconnect(
                older,
                ReasonCode::SessionTakenOver,
                "session taken over",
                now_ms,
            );
        }
    }

    /// The session, and whether it was there.
    ///
    /// # Errors
    /// There is no room for it; why not.
    fn resume_or_begin(
        &mut self,
        handshake: &Handshake<'_>,
        name: &str,
        rights: &Arc<Rights>,
        now_ms: u64,
    ) -> Result<(Key, bool), &'static str> {
        let Handshake {
            connect,
            identity,
            mount_point,
            ..
        } = *handshake;
        if let Some(key) = self.directory.get(name).copied() {
            if !connect.clean_start {
                return Ok((key, true));
            }
            self.end_session(key, now_ms);
        }
        let mount_point: Option<Arc<str>> = mount_point.map(Into::into);
        let places = self.places_of(mount_point.as_ref(), identity)?;
        let client_id = &rights.subject().client_id;
        let name: Arc<str> = match &mount_point {
            None => Arc::clone(client_id),
            Some(_) => name.into(),
        };
        let key = self.sessions.insert(Session {
            mount_point,
            _places: places,
            ..Session::new(Arc::clone(&name), Arc::clone(rights), connect.version)
        });
        self.metrics.sessions.add(1);
        self.directory.insert(name, key);
        Ok((key, false))
    }

    /// Room for a new session of a client.
    fn places_of(
        &self,
        mount_point: Option<&Arc<str>>,
        identity: &Identity,
    ) -> Result<Box<[Place]>, &'static str> {
        let config = &self.shared.config;
        let name = identity.namespace.as_deref();
        let mut namespaces = config.auth.namespaces.iter();
        let namespace = namespaces.find(|it| Some(&*it.name) == name);
        let namespace_max = namespace.and_then(|it| it.sessions_max);
        self.shared.census.count(&Counted {
            mount_point,
            user_name: identity.user_name.as_deref(),
            namespace_max: namespace_max.map_or(usize::MAX, |it| it as usize),
            user_max: config.limits.sessions_per_user_max,
        })
    }

    fn attach(&mut self, connection: Key, key: Key, handshake: &Handshake<'_>) {
        let Handshake {
            connect, identity, ..
        } = *handshake;
        let will = self.will_of(key, connect.will.as_ref());
        let expiry_seconds = self.expiry_of(connect);
        let is_durable = self.durable.is_on() && expiry_seconds > 0;
        let mut has_will = will.is_some();
        if let Some(session) = self.sessions.lookup_mut(key) {
            has_will |= session.will.is_some();
            if session.store.is_none() && is_durable {
                session.store = Some(self.shared.store.next_queue());
            }
            session.connection = Some(connection);
            session.user_name.clone_from(&identity.user_name);
            session.expiry_seconds = expiry_seconds;
            session.expires_at_ms = None;
            session.will = will;
            session.will_due_ms = None;
            if let Some(connection) = self.connections.lookup_mut(connection) {
                connection.session = Some(key);
                connection.client = session.client;
            }
        }
        if identity.expires_at_ms.is_some() {
            self.timers.add(0, Timer::ProofExpiry(connection));
        }
        self.keep_session(key);
        if has_will {
            self.keep_will(key);
        }
    }
}

/// The reason to refuse a CONNECT whatever its session, if there is one.
pub fn refusal(connect: &Connect<'_>) -> Option<ReasonCode> {
    let is_v5 = connect.version == ProtocolVersion::V5;
    if connect.client_id.is_empty() && !is_v5 {
        let may_be_assigned = connect.clean_start && connect.version == ProtocolVersion::V3_1_1;
        return (!may_be_assigned).then_some(ReasonCode::ClientIdentifierNotValid);
    }
    let will = connect.will.as_ref()?;
    (!may_publish(will.topic)).then_some(ReasonCode::NotAuthorized)
}

/// How long a peer has to take its last packet.
const CLOSING_MS: u64 = 5_000;
