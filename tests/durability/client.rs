//! A client that sends what it is told, and answers nothing by itself.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::parse::{parse, split};
pub(crate) use crate::wire::{packet, text};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) id: String,
    pub(crate) level: u8,
    pub(crate) clean_start: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    pub(crate) will: Option<Will>,
    pub(crate) user: Option<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) delay_seconds: u32,
}

impl Connect {
    pub(crate) fn durable(id: &str) -> Self {
        Self {
            id: id.into(),
            level: 5,
            clean_start: false,
            expiry_seconds: u32::MAX,
            receive_maximum: u16::MAX,
            alias_maximum: 0,
            will: None,
            user: None,
        }
    }

    pub(crate) fn passing(id: &str) -> Self {
        Self {
            clean_start: true,
            expiry_seconds: 0,
            ..Self::durable(id)
        }
    }

    /// MQTT 3.1.1 without clean session.
    pub(crate) fn durable_3(id: &str) -> Self {
        Self {
            level: 4,
            ..Self::durable(id)
        }
    }

    fn encode(&self) -> Vec<u8> {
        let is_v5 = self.level == 5;
        let mut flags = u8::from(self.clean_start) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3;
        }
        flags |= if self.user.is_some() { 0xC0 } else { 0 };
        let mut body = text("MQTT");
        body.extend([self.level, flags, 0, 0]);
        if is_v5 {
            let mut properties = vec![0x11];
            properties.extend(self.expiry_seconds.to_be_bytes());
            properties.push(0x21);
            properties.extend(self.receive_maximum.to_be_bytes());
            properties.push(0x22);
            properties.extend(self.alias_maximum.to_be_bytes());
            body.push(properties.len().try_into().unwrap());
            body.extend(properties);
        }
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            if is_v5 {
                body.extend([5, 0x18]);
                body.extend(will.delay_seconds.to_be_bytes());
            }
            body.extend(text(&will.topic));
            body.extend(u16::try_from(will.payload.len()).unwrap().to_be_bytes());
            body.extend(&will.payload);
        }
        if let Some((name, password)) = &self.user {
            body.extend(text(name));
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

/// What the broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    ConnAck {
        present: bool,
        reason: u8,
    },
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
    Ack {
        first: u8,
        id: u16,
        reason: u8,
    },
    /// SUBACK or UNSUBACK, with the first reason.
    Granted {
        id: u16,
        reason: u8,
    },
    Pong,
    Disconnect {
        reason: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) id: u16,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// Length of the properties, 0 in 3.1.1.
    pub(crate) properties: Vec<u8>,
}

impl Publish {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.payload).unwrap()
    }
}

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

pub(crate) struct Client {
    stream: TcpStream,
    level: u8,
    bytes: Vec<u8>,
    at: usize,
    /// Came while another packet was waited for.
    put_aside: VecDeque<Packet>,
    /// Nothing comes any more.
    pub(crate) is_ended: bool,
}

impl Client {
    /// And whether the session was there.
    pub(crate) fn connect(address: SocketAddr, connect: &Connect) -> (Self, bool) {
        match Self::try_connect(address, connect) {
            Some((client, is_present, 0)) => (client, is_present),
            Some((_, _, reason)) => panic!("refused with {reason:#x}"),
            None => panic!("no CONNACK"),
        }
    }

    /// And whether the session was there, and the reason.
    pub(crate) fn try_connect(address: SocketAddr, connect: &Connect) -> Option<(Self, bool, u8)> {
        Self::try_connect_with(address, connect, &[])
    }

    /// Sends more than CONNECT at once.
    pub(crate) fn connect_with(address: SocketAddr, connect: &Connect, more: &[u8]) -> Self {
        let connected = Self::try_connect_with(address, connect, more);
        connected.expect("a CONNACK").0
    }

    fn try_connect_with(
        address: SocketAddr,
        connect: &Connect,
        more: &[u8],
    ) -> Option<(Self, bool, u8)> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut client = Self {
            stream,
            level: connect.level,
            bytes: Vec::new(),
            at: 0,
            put_aside: VecDeque::new(),
            is_ended: false,
        };
        client.try_send(&[&connect.encode(), more].concat())?;
        match client.next()? {
            Packet::ConnAck { present, reason } => Some((client, present, reason)),
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    pub(crate) fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.stream.write_all(bytes).ok()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next packet; `None` when the connection has ended or patience has.
    pub(crate) fn next(&mut self) -> Option<Packet> {
        if let Some(packet) = self.put_aside.pop_front() {
            return Some(packet);
        }
        self.read()
    }

    fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some((first, start, end)) = split(&self.bytes[self.at..]) {
                let body = self.bytes[self.at + start..self.at + end].to_vec();
                self.at += end;
                return Some(parse(first, &body, self.level == 5));
            }
            self.bytes.drain(..self.at);
            self.at = 0;
            let mut block = [0; 16_384];
            match self.stream.read(&mut block) {
                Ok(0) => {
                    self.is_ended = true;
                    return None;
                }
                Ok(count) => self.bytes.extend_from_slice(&block[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let is_late = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
                    self.is_ended = !is_late.contains(&error.kind());
                    return None;
                }
            }
        }
    }

    /// The next packet, which has to come.
    pub(crate) fn packet(&mut self) -> Packet {
        self.next().expect("a packet")
    }

    /// The next packet, which has to be a PUBLISH.
    pub(crate) fn message(&mut self) -> Publish {
        match self.packet() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} instead of PUBLISH"),
        }
    }

    /// Takes `count` messages, acknowledges each as its QoS asks for, and answers their payloads.
    pub(crate) fn take(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let message = self.message();
            texts.push(message.text().to_owned());
            self.settle(&message);
        }
        texts
    }

    /// Acknowledges a message, up to the end of its exchange.
    pub(crate) fn settle(&mut self, message: &Publish) {
        match message.qos {
            0 => {}
            1 => self.ack(PUBACK, message.id),
            _ => {
                self.ack(PUBREC, message.id);
                self.expect(&acked(PUBREL, message.id));
                self.ack(PUBCOMP, message.id);
            }
        }
    }

    /// Waits for a packet; messages that come before it are for later.
    pub(crate) fn expect(&mut self, expected: &Packet) {
        loop {
            let packet = self.read().expect("a packet");
            if packet == *expected {
                return;
            }
            assert!(
                matches!(packet, Packet::Publish(_)),
                "{packet:?} instead of {expected:?}"
            );
            self.put_aside.push_back(packet);
        }
    }

    pub(crate) fn ack(&mut self, first: u8, id: u16) {
        self.send(&ack(first, id));
    }

    /// Subscribes with an identifier of the packet and waits for the answer.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        self.send(&self.subscription(filter, qos));
        match self.packet() {
            Packet::Granted { reason, .. } => reason,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    pub(crate) fn subscription(&self, filter: &str, qos: u8) -> Vec<u8> {
        let mut body = vec![0, 9];
        body.extend(self.no_properties());
        body.extend(text(filter));
        body.push(qos);
        packet(0x82, &body)
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let mut body = vec![0, 10];
        body.extend(self.no_properties());
        body.extend(text(filter));
        self.send(&packet(0xA2, &body));
        assert!(matches!(self.packet(), Packet::Granted { .. }));
    }

    /// Publishes and waits until the exchange has ended; answers the reason.
    pub(crate) fn publish(&mut self, topic: &str, qos: u8, payload: &str) -> u8 {
        self.publish_as(&Out::new(topic, qos, payload))
    }

    pub(crate) fn publish_as(&mut self, out: &Out) -> u8 {
        self.send(&out.encode(self.level));
        let first = match out.qos {
            0 => return 0,
            1 => PUBACK,
            _ => PUBREC,
        };
        let reason = match self.packet() {
            Packet::Ack {
                first: it,
                id,
                reason,
            } if (it, id) == (first, out.id) => reason,
            other => panic!("{other:?} instead of an acknowledgement"),
        };
        if out.qos == 2 && reason < 0x80 {
            self.ack(PUBREL, out.id);
            self.expect(&acked(PUBCOMP, out.id));
        }
        reason
    }

    /// All that was sent before has been received, and nothing else comes.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.packet(), Packet::Pong);
    }

    /// All that was sent before is on disk, and nothing else comes: SUBACK of a durable session
    /// waits for its commit.
    pub(crate) fn settled(&mut self) {
        self.subscribe("nothing/comes/here", 0);
    }

    /// As [`Client::settled`], and identifiers of QoS 1 are kept: they have been in use for longer
    /// than a commit waits for receivers.
    pub(crate) fn settled_in_flight(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        self.settled();
    }

    /// As [`Client::settled`]; messages that come first are left unanswered.
    pub(crate) fn settled_behind_messages(&mut self) {
        self.send(&self.subscription("nothing/comes/here", 0));
        while !matches!(self.packet(), Packet::Granted { .. }) {}
    }

    /// DISCONNECT, with another expiry for the session if one is given.
    pub(crate) fn disconnect(mut self, expiry_seconds: Option<u32>) {
        match expiry_seconds {
            None => self.send(&[0xE0, 0]),
            Some(seconds) => {
                let mut body = vec![0, 5, 0x11];
                body.extend(seconds.to_be_bytes());
                self.send(&packet(0xE0, &body));
            }
        }
        while self.next().is_some() {}
    }

    fn no_properties(&self) -> Vec<u8> {
        vec![0; usize::from(self.level == 5)]
    }
}

/// A PUBLISH to send.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) payload: Vec<u8>,
}

impl Out {
    pub(crate) fn new(topic: &str, qos: u8, payload: &str) -> Self {
        Self {
            topic: topic.into(),
            qos,
            retain: false,
            dup: false,
            id: 1,
            expiry_seconds: None,
            payload: payload.into(),
        }
    }

    pub(crate) fn retained(topic: &str, qos: u8, payload: &str) -> Self {
        Self {
            retain: true,
            ..Self::new(topic, qos, payload)
        }
    }

    pub(crate) fn encode(&self, level: u8) -> Vec<u8> {
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if level == 5 {
            match self.expiry_seconds {
                None => body.push(0),
                Some(seconds) => {
                    body.extend([5, 0x02]);
                    body.extend(seconds.to_be_bytes());
                }
            }
        }
        body.extend(&self.payload);
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        packet(0x30 | flags, &body)
    }
}

pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub(crate) fn acked(first: u8, id: u16) -> Packet {
    Packet::Ack {
        first,
        id,
        reason: 0,
    }
}
