//! A publisher that goes on over kills of the broker: it remembers what is in flight, and sends it
//! again.

use std::io::{Error, Read, Write};
use std::iter::Peekable;
use std::net::TcpStream;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use tidewire_protocol::codec::{
    Ack, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    Receiver, decode, encode,
};
use tidewire_protocol::session::{InFlight, Outbound};

/// A topic and a payload.
pub(crate) type Outgoing = (String, String);

pub(crate) struct Publisher<I: Iterator<Item = Outgoing>> {
    port: u16,
    id: &'static str,
    qos: QoS,
    rest: Peekable<I>,
    in_flight: Outbound<Outgoing>,
    /// Written with the next packets.
    output: Vec<u8>,
}

/// Publishes all, whatever becomes of connections; ends when everything is acknowledged.
pub(crate) fn publish_through_kills<I>(
    port: u16,
    id: &'static str,
    qos: QoS,
    messages: I,
) -> JoinHandle<()>
where
    I: Iterator<Item = Outgoing> + Send + 'static,
{
    let mut publisher = Publisher {
        port,
        id,
        qos,
        rest: messages.peekable(),
        in_flight: Outbound::default(),
        output: Vec::new(),
    };
    spawn(move || {
        while !publisher.is_done() {
            if publisher.talk().is_err() {
                sleep(PAUSE);
            }
        }
    })
}

impl<I: Iterator<Item = Outgoing>> Publisher<I> {
    fn is_done(&mut self) -> bool {
        self.in_flight.is_empty() && self.rest.peek().is_none()
    }

    /// One connection, until all is done or it breaks.
    fn talk(&mut self) -> Result<(), Error> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        self.output.clear();
        let connect = Packet::Connect(Box::new(Connect {
            clean_start: false,
            properties: ConnectProperties {
                session_expiry_seconds: Some(u32::MAX),
                ..ConnectProperties::default()
            },
            ..Connect::new(VERSION, self.id)
        }));
        put(&connect, &mut self.output);
        let (mut input, mut bytes) = (Vec::new(), [0; 65_536]);
        while !self.is_done() {
            stream.write_all(&self.output)?;
            self.output.clear();
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                return Err(Error::other("closed"));
            }
            input.extend_from_slice(&bytes[..count]);
            let mut used = 0;
            while let Some((packet, count)) =
                decode(&input[used..], VERSION, Receiver::Client, usize::MAX).expect("MQTT")
            {
                self.take(&packet);
                used += count;
            }
            input.drain(..used);
        }
        Ok(())
    }

    fn take(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(answer) => {
                assert_eq!(answer.reason, ReasonCode::Success);
                self.send_again();
            }
            Packet::PubAck(ack) => drop(self.in_flight.acknowledge(ack.packet_id)),
            Packet::PubRec(ack) => {
                assert!(!ack.reason.is_error(), "{ack:?}");
                self.in_flight.receive(ack.packet_id).expect("in flight");
                put(&Packet::PubRel(good(ack.packet_id)), &mut self.output);
            }
            Packet::PubComp(ack) => drop(self.in_flight.complete(ack.packet_id)),
            other => panic!("unexpected {other:?}"),
        }
        self.fill();
    }

    /// Everything that an earlier connection had in flight, in its order.
    fn send_again(&mut self) {
        for (id, it) in self.in_flight.iter() {
            match it {
                InFlight::Published(qos, outgoing) => {
                    put(&publish(id, qos, outgoing, true), &mut self.output);
                }
                InFlight::Released => put(&Packet::PubRel(good(id)), &mut self.output),
            }
        }
    }

    fn fill(&mut self) {
        while self.in_flight.len() < WINDOW {
            let Some(outgoing) = self.rest.next() else {
                return;
            };
            let id = self.in_flight.send(self.qos, outgoing.clone());
            let packet = publish(id.expect("room"), self.qos, &outgoing, false);
            put(&packet, &mut self.output);
        }
    }
}

fn publish(id: PacketId, qos: QoS, (topic, payload): &Outgoing, dup: bool) -> Packet<'_> {
    Packet::Publish(Publish {
        dup,
        qos,
        packet_id: Some(id),
        ..Publish::new(topic, payload.as_bytes())
    })
}

fn put(packet: &Packet<'_>, output: &mut Vec<u8>) {
    encode(packet, VERSION, output).expect("encoded");
}

fn good(packet_id: PacketId) -> Ack<'static> {
    Ack::plain(packet_id, ReasonCode::Success)
}

const VERSION: ProtocolVersion = ProtocolVersion::V5;
/// Messages in flight, within what the broker allows.
const WINDOW: usize = 500;
/// Before the next connection.
const PAUSE: Duration = Duration::from_millis(20);
/// A broker that says nothing for so long while something is in flight is left.
const SILENCE: Duration = Duration::from_secs(20);
