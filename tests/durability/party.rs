//! Clients whose own state survives the broker: they keep what the protocol asks them to keep.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Client, Connect, Out, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, Publish, ack};

/// What all clients of a round are told.
pub(crate) struct Controls {
    address: SocketAddr,
    /// Complete what was begun, begin nothing.
    is_draining: bool,
    pub(crate) stop: AtomicBool,
}

impl Controls {
    pub(crate) fn new(address: SocketAddr, is_draining: bool) -> Self {
        Self {
            address,
            is_draining,
            stop: AtomicBool::new(false),
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// A durable session resumed; `None`: the broker is gone.
    fn resume(&self, id: &str, was_connected: &mut bool) -> Option<Client> {
        let (client, is_present, reason) =
            Client::try_connect(self.address, &Connect::durable(id))?;
        assert_eq!(reason, 0);
        assert!(is_present || !*was_connected, "the session of {id} is gone");
        *was_connected = true;
        Some(client)
    }
}

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Publishes numbers in order, several at a time, and sends again what was not acknowledged.
pub(crate) struct Publisher {
    pub(crate) id: &'static str,
    pub(crate) number: u8,
    pub(crate) qos: u8,
    /// The next number to publish.
    pub(crate) next: u64,
    window: VecDeque<Sent>,
    last_packet_id: u16,
    was_connected: bool,
}

struct Sent {
    packet_id: u16,
    number: u64,
    is_released: bool,
}

impl Publisher {
    pub(crate) fn new(id: &'static str, number: u8, qos: u8) -> Self {
        Self {
            id,
            number,
            qos,
            next: 0,
            window: VecDeque::new(),
            last_packet_id: 0,
            was_connected: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.window.is_empty()
    }

    pub(crate) fn run(&mut self, controls: &Controls, mut random: Random) {
        let mut older = None;
        while controls.goes_on() {
            let Some(mut client) = controls.resume(self.id, &mut self.was_connected) else {
                return;
            };
            drop(older.take());
            let mut steps = 1 + random.below(60);
            if self.resend(&mut client).is_none() {
                continue;
            }
            while steps > 0 || controls.is_draining {
                if controls.is_draining && self.is_done() {
                    return;
                }
                steps = steps.saturating_sub(1);
                if self.step(&mut client, controls, &mut random).is_none() {
                    break;
                }
            }
            // Half of the time the next connection takes over from this one.
            older = (random.below(2) == 0).then_some(client);
        }
    }

    fn resend(&self, client: &mut Client) -> Option<()> {
        for sent in &self.window {
            let bytes = match sent.is_released {
                true => ack(PUBREL, sent.packet_id),
                false => self.packet(sent, true),
            };
            client.try_send(&bytes)?;
        }
        Some(())
    }

    fn packet(&self, sent: &Sent, dup: bool) -> Vec<u8> {
        let text = format!("{} {}", self.number, sent.number);
        let mut out = Out::new(&format!("t/{}", self.id), self.qos, &text);
        (out.id, out.dup) = (sent.packet_id, dup);
        out.encode(5)
    }

    /// Publishes if there is room, then takes one answer.
    fn step(
        &mut self,
        client: &mut Client,
        controls: &Controls,
        random: &mut Random,
    ) -> Option<()> {
        let window_max = 1 + usize::try_from(random.below(16)).unwrap();
        let mut bytes = Vec::new();
        while !controls.is_draining && self.window.len() < window_max {
            self.last_packet_id = self.last_packet_id % 60_000 + 1;
            let sent = Sent {
                packet_id: self.last_packet_id,
                number: self.next,
                is_released: false,
            };
            self.next += 1;
            bytes.extend(self.packet(&sent, false));
            self.window.push_back(sent);
        }
        client.try_send(&bytes)?;
        let Packet::Ack { first, id, reason } = client.next()? else {
            // Taken over by itself.
            return None;
        };
        assert!(
            reason < 0x80 || first == PUBCOMP,
            "{} refused: {reason:#x}",
            self.id
        );
        let at = self.window.iter().position(|it| it.packet_id == id);
        match first {
            PUBREC => {
                self.window.get_mut(at?)?.is_released = true;
                client.try_send(&ack(PUBREL, id))?;
            }
            PUBACK | PUBCOMP => {
                self.window.remove(at?);
            }
            other => panic!("{other:#x}"),
        }
        Some(())
    }
}

/// A number of a publisher that arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) publisher: u8,
    pub(crate) number: u64,
}

/// Receives, and now and then withholds its acknowledgements.
pub(crate) struct Subscriber {
    id: &'static str,
    records: Arc<Mutex<Vec<Received>>>,
    /// QoS 2 identifiers received and not yet released.
    awaiting_release: BTreeSet<u16>,
    was_connected: bool,
}

impl Subscriber {
    pub(crate) fn new(id: &'static str, records: Arc<Mutex<Vec<Received>>>) -> Self {
        Self {
            id,
            records,
            awaiting_release: BTreeSet::new(),
            was_connected: true,
        }
    }

    pub(crate) fn run(&mut self, controls: &Controls, mut random: Random) {
        let mut older = None;
        while controls.goes_on() {
            let Some(mut client) = controls.resume(self.id, &mut self.was_connected) else {
                return;
            };
            drop(older.take());
            client.set_patience(Duration::from_millis(5));
            let steps = 1 + random.below(200);
            self.receive(&mut client, controls, steps, &mut random);
            older = (random.below(2) == 0).then_some(client);
        }
    }

    fn receive(
        &mut self,
        client: &mut Client,
        controls: &Controls,
        steps: u64,
        random: &mut Random,
    ) {
        let mut answers = Vec::new();
        let mut step = 0;
        while controls.goes_on() && (step < steps || controls.is_draining) {
            step += 1;
            match client.next() {
                Some(Packet::Publish(publish)) => answers.extend(self.take(&publish)),
                Some(Packet::Ack {
                    first: PUBREL, id, ..
                }) => {
                    self.awaiting_release.remove(&id);
                    answers.extend(ack(PUBCOMP, id));
                }
                Some(Packet::Disconnect { .. }) => return,
                Some(other) => panic!("{other:?}"),
                None if client.is_ended => return,
                None => {}
            }
            if controls.is_draining || random.below(8) == 0 {
                let bytes = std::mem::take(&mut answers);
                if client.try_send(&bytes).is_none() {
                    return;
                }
            }
        }
    }

    fn take(&mut self, publish: &Publish) -> Vec<u8> {
        let is_new = publish.qos < 2 || self.awaiting_release.insert(publish.id);
        if is_new {
            let (publisher, number) = publish.text().split_once(' ').unwrap();
            self.records.lock().unwrap().push(Received {
                publisher: publisher.parse().unwrap(),
                number: number.parse().unwrap(),
            });
        } else {
            assert!(
                publish.dup,
                "{}: identifier {} is in use",
                self.id, publish.id
            );
        }
        match publish.qos {
            1 => ack(PUBACK, publish.id),
            _ => ack(PUBREC, publish.id),
        }
    }
}

/// Replaces one retained message by the next.
#[derive(Default)]
pub(crate) struct RetainedPublisher {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
}

impl RetainedPublisher {
    pub(crate) fn run(&mut self, controls: &Controls) {
        let connect = Connect::passing("retained-publisher");
        let Some((mut client, ..)) = Client::try_connect(controls.address, &connect) else {
            return;
        };
        while controls.goes_on() {
            self.sent += 1;
            let out = Out::retained("retained", 1, &self.sent.to_string());
            if client.try_send(&out.encode(5)).is_none() {
                return;
            }
            match client.next() {
                Some(Packet::Ack { reason, .. }) if reason < 0x80 => self.acknowledged = self.sent,
                Some(other) => panic!("{other:?}"),
                None => return,
            }
        }
    }
}
