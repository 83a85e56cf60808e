//! The session's state machines against models that are slow and obviously right.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU16;

use tidewire_protocol::codec::{PacketId, QoS};
use tidewire_protocol::session::{
    AliasError, AwaitingRelease, InFlight, InboundAliases, Outbound, SettleError,
};

use super::Input;

/// Each operation is one byte, followed by its argument.
pub fn run(data: &[u8]) {
    let mut input = Input::operations(data);
    let mut both = Both::default();
    while both.step(&mut input).is_some() {}
    both.compare();
}

/// What is tested beside its model.
#[derive(Default)]
struct Both {
    outbound: Outbound<u32>,
    in_flight: Vec<Sent>,
    sent: u32,
    awaiting: AwaitingRelease,
    received: BTreeSet<u16>,
    aliases: InboundAliases,
    topics: HashMap<u16, &'static str>,
}

/// One message of the model, in the order of sending.
#[derive(Clone, Copy)]
struct Sent {
    id: PacketId,
    qos: QoS,
    delivery: u32,
    is_released: bool,
}

impl Both {
    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.u8()? % 12 {
            0 | 1 => self.send(QoS::AtLeastOnce),
            2 => self.send(QoS::ExactlyOnce),
            3 => {
                let count = input.u8()?;
                (0..count).for_each(|_| self.send(QoS::AtLeastOnce));
            }
            4 => self.acknowledge(self.some_id(input)?),
            5 => self.receive(self.some_id(input)?),
            6 => self.complete(self.some_id(input)?),
            7 => self.refuse(self.some_id(input)?),
            8 => self.take(u32::from(input.u8()?)),
            9 => self.publish_received(PacketId::new(input.u16()?)?),
            10 => self.release_received(PacketId::new(input.u16()?)?),
            _ => self.resolve(input)?,
        }
        assert_eq!(self.outbound.len(), self.in_flight.len());
        assert_eq!(self.outbound.is_empty(), self.in_flight.is_empty());
        Some(())
    }

    /// One that is in flight, most of the time.
    fn some_id(&self, input: &mut Input<'_>) -> Option<PacketId> {
        let number = input.u16()?;
        if number & 0x8000 != 0 || self.in_flight.is_empty() {
            return PacketId::new(number & 0x7FFF);
        }
        Some(self.in_flight[usize::from(number) % self.in_flight.len()].id)
    }

    fn position(&self, id: PacketId) -> Option<usize> {
        self.in_flight.iter().position(|sent| sent.id == id)
    }

    fn send(&mut self, qos: QoS) {
        self.sent += 1;
        match self.outbound.send(qos, self.sent) {
            Ok(id) => {
                if self.in_flight.len() < 256 {
                    assert_eq!(self.position(id), None, "an identifier in use");
                }
                self.in_flight.push(Sent {
                    id,
                    qos,
                    delivery: self.sent,
                    is_released: false,
                });
            }
            Err(delivery) => {
                assert_eq!(delivery, self.sent);
                assert_eq!(self.in_flight.len(), 65_535, "refused before it is full");
            }
        }
    }

    /// What an answer that ends an exchange of `qos` does.
    fn settle(&mut self, id: PacketId, qos: QoS) -> Result<u32, SettleError> {
        let number = id.value();
        let at = self.position(id).ok_or(SettleError::NotInFlight(number))?;
        if self.in_flight[at].is_released || self.in_flight[at].qos != qos {
            return Err(SettleError::WrongState(number));
        }
        Ok(self.in_flight.remove(at).delivery)
    }

    fn acknowledge(&mut self, id: PacketId) {
        let expected = self.settle(id, QoS::AtLeastOnce);
        assert_eq!(self.outbound.acknowledge(id), expected);
    }

    fn refuse(&mut self, id: PacketId) {
        let expected = self.settle(id, QoS::ExactlyOnce);
        assert_eq!(self.outbound.refuse(id), expected);
    }

    fn receive(&mut self, id: PacketId) {
        let number = id.value();
        let expected = match self.position(id).map(|at| &mut self.in_flight[at]) {
            None => Err(SettleError::NotInFlight(number)),
            Some(sent) if sent.qos != QoS::ExactlyOnce => Err(SettleError::WrongState(number)),
            Some(sent) if sent.is_released => Ok(None),
            Some(sent) => {
                sent.is_released = true;
                Ok(Some(sent.delivery))
            }
        };
        assert_eq!(self.outbound.receive(id), expected);
    }

    fn complete(&mut self, id: PacketId) {
        let number = id.value();
        let expected = match self.position(id) {
            None => Err(SettleError::NotInFlight(number)),
            Some(at) if !self.in_flight[at].is_released => Err(SettleError::WrongState(number)),
            Some(at) => {
                self.in_flight.remove(at);
                Ok(())
            }
        };
        assert_eq!(self.outbound.complete(id), expected);
    }

    fn take(&mut self, divisor: u32) {
        let is_wanted = |delivery: u32| delivery.is_multiple_of(divisor.max(1));
        let (taken, kept): (Vec<Sent>, _) = self
            .in_flight
            .iter()
            .partition(|sent| sent.qos == QoS::AtLeastOnce && is_wanted(sent.delivery));
        self.in_flight = kept;
        let expected: Vec<_> = taken.iter().map(|sent| sent.delivery).collect();
        let actual = self.outbound.take_at_least_once(|it| is_wanted(*it));
        assert_eq!(actual, expected);
    }

    fn publish_received(&mut self, id: PacketId) {
        let is_new = self.received.insert(id.value());
        assert_eq!(self.awaiting.insert(id), is_new);
        assert_eq!(self.awaiting.len(), self.received.len());
    }

    fn release_received(&mut self, id: PacketId) {
        let existed = self.received.remove(&id.value());
        assert_eq!(self.awaiting.remove(id), existed);
        assert_eq!(self.awaiting.is_empty(), self.received.is_empty());
    }

    fn resolve(&mut self, input: &mut Input<'_>) -> Option<()> {
        const TOPICS: [&str; 4] = ["", "a", "b/c", "ü"];
        const ALIAS_MAX: u16 = 300;
        let alias = NonZeroU16::new(input.u16()? % 512)?;
        let topic = *input.pick(&TOPICS)?;
        let number = alias.get();
        let expected = if number > ALIAS_MAX {
            Err(AliasError::AboveMaximum {
                alias: number,
                alias_max: ALIAS_MAX,
            })
        } else if topic.is_empty() {
            let known = self.topics.get(&number).copied();
            known.ok_or(AliasError::Undefined { alias: number })
        } else {
            self.topics.insert(number, topic);
            Ok(topic)
        };
        let actual = self.aliases.resolve(topic, alias, ALIAS_MAX);
        assert_eq!(actual, expected);
        Some(())
    }

    /// The whole window, in the order of redelivery.
    fn compare(&self) {
        let expected = self.in_flight.iter().map(|sent| {
            let state = match sent.is_released {
                true => InFlight::Released,
                false => InFlight::Published(sent.qos, &sent.delivery),
            };
            (sent.id, state)
        });
        assert!(self.outbound.iter().eq(expected));
    }
}
