//! A client that sends what it is told, over any stream.

use std::io::{ErrorKind, Read, Write};

pub(crate) use crate::read::{Packet, read_packet};
pub(crate) use crate::wire::{packet, text};

pub(crate) struct Client<S> {
    pub(crate) stream: S,
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// CONNECT with MQTT 5.0; the broker has to accept.
    pub(crate) fn connect(&mut self, id: &str) {
        self.send(&connect(id));
        let connack = self.packet();
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "CONNACK");
    }

    pub(crate) fn packet(&mut self) -> Packet {
        read_packet(&mut self.stream)
    }

    /// Everything up to the end of the connection, which has to come.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut block = [0; 4_096];
        loop {
            match self.stream.read(&mut block) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend_from_slice(&block[..count]),
                Err(error) if is_end(error.kind()) => return bytes,
                Err(error) => panic!("the connection stays open: {error}"),
            }
        }
    }

    /// The first byte of an answer, if there is one.
    pub(crate) fn until_first(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        let mut body = vec![0, 9, 0];
        body.extend(text(filter.as_bytes()));
        body.push(qos);
        self.send(&packet(0x82, &body));
        let suback = self.packet();
        assert_eq!((suback.first, suback.body[3]), (0x90, qos), "SUBACK");
    }

    /// A PINGREQ has been answered, with nothing in between.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        let answer = self.packet();
        assert_eq!(answer.first, 0xd0, "{answer:?}");
    }
}

/// TLS reports its own alerts and a missing close as errors.
fn is_end(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
    )
}

/// A CONNECT of MQTT 5.0 with a clean start and without keep alive.
pub(crate) fn connect(id: &str) -> Vec<u8> {
    let mut body = text(b"MQTT");
    body.extend([5, 0x02, 0, 0, 0]);
    body.extend(text(id.as_bytes()));
    packet(0x10, &body)
}

/// A CONNECT of 3.1 or 3.1.1 with a clean session.
pub(crate) fn connect_3(name: &str, level: u8, id: &str) -> Vec<u8> {
    let mut body = text(name.as_bytes());
    body.extend([level, 0x02, 0, 0]);
    body.extend(text(id.as_bytes()));
    packet(0x10, &body)
}

/// A PUBLISH of MQTT 5.0.
pub(crate) fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(0);
    body.extend(payload);
    packet(0x30 | qos << 1, &body)
}
