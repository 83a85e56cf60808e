//! A PUBLISH into one connection's buffer: the topic as this client knows it.

use tidewire_protocol::codec::{
    DeliveryHeader, ProtocolVersion, delivery_bytes, encode_delivery, encode_readdressed,
    split_packet, topic_of,
};
use tidewire_protocol::session::TopicForm;

use super::client::Connection;
use super::mount;

impl Connection {
    /// Whether topics are written as they are: no mount point and no aliases.
    pub(super) fn takes_any_topic(&self) -> bool {
        self.mount_point.is_none() && self.outbound_aliases.is_none()
    }

    /// Whether the client takes a PUBLISH of this size and topic [MQTT-3.1.2-24].
    pub(super) fn takes(
        &self,
        header: &DeliveryHeader<'_>,
        topic: &[u8],
        forwarded: &[u8],
        payload: &[u8],
    ) -> bool {
        if self.takes_any_topic() && self.packet_bytes_max >= PACKET_BYTES_ANY {
            return true;
        }
        self.form_of(header, topic, forwarded, payload).is_some()
    }

    /// Appends a PUBLISH; false if the client does not take it.
    pub(super) fn write_publish(
        &mut self,
        header: &DeliveryHeader<'_>,
        topic: &[u8],
        forwarded: &[u8],
        payload: &[u8],
    ) -> bool {
        if self.takes_any_topic() && self.packet_bytes_max >= PACKET_BYTES_ANY {
            let out = self.out.tail();
            encode_delivery(out, self.version, header, topic, forwarded, payload);
            return true;
        }
        let Some((shown, form)) = self.form_of(header, topic, forwarded, payload) else {
            return false;
        };
        let header = DeliveryHeader {
            topic_alias: form.alias(),
            ..*header
        };
        let written = written(shown, form);
        let out = self.out.tail();
        encode_delivery(out, self.version, &header, written, forwarded, payload);
        self.remember(shown, form);
        true
    }

    /// As [`Connection::write_publish`], for a packet that later ones may overtake: it defines no
    /// alias.
    pub(super) fn write_overtaken_publish(
        &mut self,
        header: &DeliveryHeader<'_>,
        topic: &[u8],
        forwarded: &[u8],
        payload: &[u8],
    ) -> bool {
        let shown = mount::shown(self.mount_point.as_deref(), topic);
        let form = shown.map(|it| self.known_form(it));
        let aliases = match form {
            Some(TopicForm::Defines(_)) => self.outbound_aliases.take(),
            _ => None,
        };
        let is_written = self.write_publish(header, topic, forwarded, payload);
        if aliases.is_some() {
            self.outbound_aliases = aliases;
        }
        is_written
    }

    /// Appends the packets of a run, all of one topic; answers how many the client takes.
    pub(super) fn write_run(&mut self, run: &[u8]) -> u64 {
        let topic = topic_of(run).unwrap_or_default();
        let mut rest = run;
        let mut taken = 0;
        while let Some((packet, after)) = split_packet(rest) {
            rest = after;
            taken += u64::from(self.write_run_packet(packet, topic));
        }
        taken
    }

    fn write_run_packet(&mut self, packet: &[u8], topic: &[u8]) -> bool {
        if self.takes_any_topic() {
            let fits = packet.len() <= self.packet_bytes_max;
            if fits {
                self.out.tail().extend_from_slice(packet);
            }
            return fits;
        }
        let Some(shown) = mount::shown(self.mount_point.as_deref(), topic) else {
            return false;
        };
        let form = self.known_form(shown);
        let start = self.out.tail().len();
        for form in [form, TopicForm::Full] {
            let out = self.out.tail();
            let topic = written(shown, form);
            let is_whole =
                encode_readdressed(out, self.version, packet, topic, form.alias()).is_some();
            if is_whole && out.len() - start <= self.packet_bytes_max {
                self.remember(shown, form);
                return true;
            }
            out.truncate(start);
        }
        false
    }

    /// Moves what was appended after `start` behind the CONNACK that waits for its commit.
    pub(super) fn hold_behind_connack(&mut self, start: usize) {
        let bytes = self.out.tail().split_off(start);
        if let Some((_, held)) = self.held.back_mut() {
            held.extend_from_slice(&bytes);
        }
    }

    /// The topic as the client knows it, and how to write it so that the packet is small enough.
    fn form_of<'t>(
        &self,
        header: &DeliveryHeader<'_>,
        topic: &'t [u8],
        forwarded: &[u8],
        payload: &[u8],
    ) -> Option<(&'t [u8], TopicForm)> {
        let shown = mount::shown(self.mount_point.as_deref(), topic)?;
        let fits = |form: &TopicForm| {
            let header = DeliveryHeader {
                topic_alias: form.alias(),
                ..*header
            };
            let topic = written(shown, *form);
            delivery_bytes(self.version, &header, topic, forwarded, payload)
                <= self.packet_bytes_max
        };
        let form = [self.known_form(shown), TopicForm::Full];
        form.into_iter().find(fits).map(|form| (shown, form))
    }

    fn known_form(&self, shown: &[u8]) -> TopicForm {
        match &self.outbound_aliases {
            Some(aliases) if self.version == ProtocolVersion::V5 => aliases.form_of(shown),
            _ => TopicForm::Full,
        }
    }

    fn remember(&mut self, shown: &[u8], form: TopicForm) {
        if let (TopicForm::Defines(_), Some(aliases)) = (form, &mut self.outbound_aliases) {
            aliases.define(shown);
        }
    }
}

fn written(topic: &[u8], form: TopicForm) -> &[u8] {
    match form {
        TopicForm::Alias(_) => &[],
        TopicForm::Full | TopicForm::Defines(_) => topic,
    }
}

/// No MQTT packet is larger: a client with this maximum or none needs no check.
const PACKET_BYTES_ANY: usize = 268_435_460;
