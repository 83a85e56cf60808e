//! Messages sent with QoS 1 or 2 and not yet settled by the peer.

use std::num::NonZeroU16;

use super::slots::{NONE, Slots, State};
use crate::codec::{PacketId, QoS};

/// The in-flight window towards one peer: packet identifiers, states and the original order.
///
/// # Shape
/// In the order of sending, which is the order of redelivery (section 4.6).
#[derive(Debug)]
pub struct Outbound<D> {
    slots: Slots<D>,
    /// Messages of an earlier connection that this one has not seen yet.
    unsent: u16,
    /// Before this identifier nothing is unsent.
    resend_at: u16,
}

/// What waits for an answer under one packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight<'a, D> {
    /// PUBLISH sent; PUBACK or PUBREC is due.
    Published(QoS, &'a D),
    /// PUBREC received and PUBREL sent; PUBCOMP is due.
    Released,
}

/// An acknowledgement that answers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// No message is in flight under this identifier.
    #[error("packet identifier {0} is not in flight")]
    NotInFlight(u16),
    /// The message is in flight with another QoS or in another state.
    #[error("packet identifier {0} does not wait for this packet")]
    WrongState(u16),
}

impl<D> Default for Outbound<D> {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            unsent: 0,
            resend_at: NONE,
        }
    }
}

impl<D> Outbound<D> {
    /// How many messages are in flight.
    pub fn len(&self) -> usize {
        usize::from(self.slots.len())
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Puts a message in flight, or gives it back when all 65,535 identifiers are in use.
    pub fn send(&mut self, qos: QoS, delivery: D) -> Result<PacketId, D> {
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 has no packet identifier");
        if self.slots.len() == u16::MAX {
            return Err(delivery);
        }
        let id = self.slots.next_id();
        self.slots.append(id, State::Published(qos, delivery));
        Ok(PacketId(id))
    }

    /// As [`Outbound::send`], but the connection has not seen the message yet: it comes out of
    /// [`Outbound::resend_next`] when its turn is.
    pub fn send_later(&mut self, qos: QoS, delivery: D) -> Result<PacketId, D> {
        let id = self.send(qos, delivery)?;
        self.see_later(id);
        Ok(id)
    }

    /// As [`Outbound::restore`] of a message that this connection has not seen yet; false if the
    /// identifier is in use.
    pub fn restore_later(&mut self, id: PacketId, qos: QoS, delivery: D) -> bool {
        if self.slots.get(id.0.get()).is_some() {
            return false;
        }
        self.restore(id, Some((qos, delivery)));
        self.see_later(id);
        true
    }

    /// Marks the newest message as unsent.
    fn see_later(&mut self, id: PacketId) {
        let number = id.0.get();
        if let Some(slot) = self.slots.get_mut(number) {
            slot.is_unsent = true;
            self.unsent += 1;
        }
        if self.slots.get(self.resend_at).is_none() {
            self.resend_at = number;
        }
    }

    /// Identifiers for packets of other kinds: not in use, and first those that [`Outbound::send`]
    /// comes to last. The identifiers of SUBSCRIBE are taken from the same set [MQTT-2.2.1-3].
    pub fn spare_ids(&self) -> impl Iterator<Item = PacketId> {
        self.slots.spare_ids().map(PacketId)
    }

    /// A new connection: every message without PUBREC has to be sent again.
    pub fn begin_resend(&mut self) {
        self.unsent = 0;
        self.resend_at = self.slots.oldest();
        let mut at = self.resend_at;
        while let Some(slot) = self.slots.get_mut(at) {
            slot.is_unsent = matches!(slot.state, State::Published(..));
            let is_unsent = slot.is_unsent;
            at = slot.next;
            self.unsent += u16::from(is_unsent);
        }
    }

    /// The oldest message that the new connection has not seen, in the order of sending.
    pub fn resend_next(&mut self) -> Option<PacketId> {
        while let Some(slot) = self.slots.get_mut(self.resend_at) {
            let (id, next) = (slot.id, slot.next);
            let was_unsent = std::mem::take(&mut slot.is_unsent);
            self.resend_at = next;
            if was_unsent {
                self.unsent -= 1;
                return NonZeroU16::new(id).map(PacketId);
            }
        }
        None
    }

    /// Whether the connection has to see messages of an earlier one.
    pub fn has_unsent(&self) -> bool {
        self.unsent > 0
    }

    /// How much of the receiver's quota is used: the connection has seen these.
    pub fn quota_used(&self) -> usize {
        usize::from(self.slots.len() - self.unsent)
    }

    /// Ends the exchange of a message that can no longer be sent: as if PUBREC had come.
    pub fn release(&mut self, id: PacketId) -> Option<D> {
        match self.published_qos(id)? {
            QoS::ExactlyOnce => self.receive(id).ok().flatten(),
            _ => self.acknowledge(id).ok(),
        }
    }

    /// Puts back what an earlier process had in flight, in the order of sending; `None` is a
    /// message whose PUBREL was sent.
    pub fn restore(&mut self, id: PacketId, delivery: Option<(QoS, D)>) {
        let has_room = self.slots.make_room(id.0);
        debug_assert!(has_room, "an identifier is in flight once");
        if has_room {
            let state = delivery.map_or(State::Released, |(qos, it)| State::Published(qos, it));
            self.slots.append(id.0, state);
        }
    }

    /// The message in flight under an identifier, to be changed.
    pub fn published_mut(&mut self, id: PacketId) -> Option<&mut D> {
        match &mut self.slots.get_mut(id.0.get())?.state {
            State::Published(_, delivery) => Some(delivery),
            State::Released | State::Free => None,
        }
    }

    fn published_qos(&self, id: PacketId) -> Option<QoS> {
        match &self.slots.get(id.0.get())?.state {
            State::Published(qos, _) => Some(*qos),
            State::Released | State::Free => None,
        }
    }

    /// The message in flight under an identifier, until PUBACK or PUBREC.
    pub fn published(&self, id: PacketId) -> Option<&D> {
        match &self.slots.get(id.0.get())?.state {
            State::Published(_, delivery) => Some(delivery),
            State::Released | State::Free => None,
        }
    }

    /// PUBACK: the message is settled.
    pub fn acknowledge(&mut self, id: PacketId) -> Result<D, SettleError> {
        self.settle_published(id, QoS::AtLeastOnce)
    }

    /// PUBREC with an error: the exchange ends and its quota is free [MQTT-4.4.0-2].
    pub fn refuse(&mut self, id: PacketId) -> Result<D, SettleError> {
        self.settle_published(id, QoS::ExactlyOnce)
    }

    /// PUBREC: PUBREL is to be sent. The message is given back the first time, `None` when PUBREC
    /// is repeated.
    pub fn receive(&mut self, id: PacketId) -> Result<Option<D>, SettleError> {
        let slot = self
            .slots
            .get_mut(id.0.get())
            .ok_or_else(|| SettleError::NotInFlight(id.0.get()))?;
        match std::mem::replace(&mut slot.state, State::Released) {
            State::Published(QoS::ExactlyOnce, delivery) => {
                let was_unsent = std::mem::take(&mut slot.is_unsent);
                self.unsent -= u16::from(was_unsent);
                Ok(Some(delivery))
            }
            State::Released => Ok(None),
            other => {
                slot.state = other;
                Err(SettleError::WrongState(id.0.get()))
            }
        }
    }

    /// PUBCOMP: the message is settled.
    pub fn complete(&mut self, id: PacketId) -> Result<(), SettleError> {
        let slot = self
            .slots
            .get_mut(id.0.get())
            .ok_or_else(|| SettleError::NotInFlight(id.0.get()))?;
        if !matches!(slot.state, State::Released) {
            return Err(SettleError::WrongState(id.0.get()));
        }
        self.free(id.0.get());
        Ok(())
    }

    /// Everything in flight, in the order in which it was sent.
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, InFlight<'_, D>)> {
        self.slots.iter().filter_map(|slot| {
            let in_flight = match &slot.state {
                State::Published(qos, delivery) => InFlight::Published(*qos, delivery),
                State::Released => InFlight::Released,
                State::Free => return None,
            };
            Some((PacketId(NonZeroU16::new(slot.id)?), in_flight))
        })
    }

    /// Takes out every QoS 1 message that `is_wanted` names, in the order of sending.
    pub fn take_at_least_once(&mut self, is_wanted: impl Fn(&D) -> bool) -> Vec<D> {
        let wanted: Vec<PacketId> = self
            .iter()
            .filter_map(|(id, in_flight)| match in_flight {
                InFlight::Published(QoS::AtLeastOnce, delivery) if is_wanted(delivery) => Some(id),
                _ => None,
            })
            .collect();
        wanted
            .into_iter()
            .filter_map(|id| self.acknowledge(id).ok())
            .collect()
    }

    fn settle_published(&mut self, id: PacketId, expected: QoS) -> Result<D, SettleError> {
        let id = id.0.get();
        let slot = self.slots.get_mut(id).ok_or(SettleError::NotInFlight(id))?;
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Published(qos, delivery) if qos == expected => {
                self.free(id);
                Ok(delivery)
            }
            other => {
                slot.state = other;
                Err(SettleError::WrongState(id))
            }
        }
    }

    fn free(&mut self, id: u16) {
        let Some(slot) = self.slots.get(id) else {
            return;
        };
        self.unsent -= u16::from(slot.is_unsent);
        if self.resend_at == id {
            self.resend_at = slot.next;
        }
        self.slots.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(outbound: &Outbound<u32>) -> Vec<u16> {
        outbound.iter().map(|(id, _)| id.0.get()).collect()
    }

    #[test]
    fn what_is_sent_later_comes_out_in_order_and_uses_no_quota_before() {
        let mut outbound = Outbound::default();
        let id = |value| PacketId(NonZeroU16::new(value).unwrap());
        assert!(outbound.restore_later(id(7), QoS::ExactlyOnce, 70));
        assert!(!outbound.restore_later(id(7), QoS::ExactlyOnce, 71));
        assert_eq!(outbound.send_later(QoS::ExactlyOnce, 80), Ok(id(8)));
        assert_eq!(outbound.send(QoS::AtLeastOnce, 90), Ok(id(9)));
        assert_eq!(outbound.quota_used(), 1);
        assert_eq!(outbound.resend_next(), Some(id(7)));
        assert_eq!(outbound.resend_next(), Some(id(8)));
        assert_eq!(outbound.resend_next(), None);
        assert_eq!(outbound.send_later(QoS::ExactlyOnce, 100), Ok(id(10)));
        assert_eq!(
            (outbound.quota_used(), outbound.resend_next()),
            (3, Some(id(10)))
        );
        assert_eq!((outbound.quota_used(), outbound.has_unsent()), (4, false));
    }

    #[test]
    fn all_65535_identifiers_can_be_in_flight_and_settle_in_any_order() {
        let mut outbound = Outbound::default();
        let ids: Vec<_> = (0..65_535u32)
            .map(|n| outbound.send(QoS::AtLeastOnce, n).unwrap())
            .collect();
        assert_eq!(outbound.send(QoS::AtLeastOnce, 0), Err(0));
        for (n, id) in ids.iter().enumerate().rev() {
            assert_eq!(outbound.acknowledge(*id), Ok(u32::try_from(n).unwrap()));
        }
        assert!(outbound.is_empty());
        assert_eq!(order(&outbound), []);
    }

    #[test]
    fn identifiers_wrap_past_those_still_in_flight() {
        let mut outbound = Outbound::default();
        let stuck = outbound.send(QoS::AtLeastOnce, 0).unwrap();
        for n in 0..200_000 {
            let id = outbound.send(QoS::AtLeastOnce, n).unwrap();
            assert_ne!(id, stuck);
            outbound.acknowledge(id).unwrap();
        }
        assert_eq!(order(&outbound), [stuck.0.get()]);
    }

    #[test]
    fn spare_identifiers_are_not_in_use_and_far_from_the_next() {
        let mut outbound = Outbound::default();
        let first = outbound.send(QoS::AtLeastOnce, 1).unwrap();
        let stuck = outbound.send(QoS::AtLeastOnce, 2).unwrap();
        outbound.acknowledge(first).unwrap();
        let spare: Vec<_> = outbound.spare_ids().take(3).map(PacketId::value).collect();
        assert_eq!(spare, [1, 65_535, 65_534]);
        assert!(outbound.spare_ids().all(|id| id != stuck));
    }

    #[test]
    fn redelivery_keeps_the_original_order_and_released_messages_their_place() {
        let mut outbound = Outbound::default();
        let ids: Vec<_> = (0..5)
            .map(|n| outbound.send(QoS::ExactlyOnce, n).unwrap())
            .collect();
        assert_eq!(outbound.receive(ids[1]), Ok(Some(1)));
        assert_eq!(outbound.receive(ids[1]), Ok(None));
        assert_eq!(outbound.refuse(ids[3]), Ok(3));
        let states: Vec<_> = outbound.iter().map(|(_, state)| state).collect();
        assert_eq!(
            states,
            [
                InFlight::Published(QoS::ExactlyOnce, &0),
                InFlight::Released,
                InFlight::Published(QoS::ExactlyOnce, &2),
                InFlight::Published(QoS::ExactlyOnce, &4),
            ]
        );
    }

    #[test]
    fn what_the_new_connection_has_not_seen_uses_no_quota() {
        let mut outbound = Outbound::default();
        let ids: Vec<_> = (0..5)
            .map(|n| outbound.send(QoS::ExactlyOnce, n).unwrap())
            .collect();
        assert_eq!(outbound.receive(ids[1]), Ok(Some(1)));
        outbound.begin_resend();
        assert_eq!(outbound.quota_used(), 1);
        assert_eq!(outbound.resend_next(), Some(ids[0]));
        assert_eq!(outbound.quota_used(), 2);
        assert_eq!(outbound.refuse(ids[2]), Ok(2));
        assert_eq!(outbound.receive(ids[3]), Ok(Some(3)));
        assert_eq!(outbound.quota_used(), 3);
        assert_eq!(outbound.release(ids[4]), Some(4));
        assert!(!outbound.has_unsent());
        assert_eq!(outbound.resend_next(), None);
        assert_eq!((outbound.quota_used(), outbound.len()), (4, 4));
    }

    #[test]
    fn an_answer_of_the_wrong_kind_changes_nothing() {
        let mut outbound = Outbound::default();
        let id = outbound.send(QoS::ExactlyOnce, 7).unwrap();
        assert_eq!(outbound.acknowledge(id), Err(SettleError::WrongState(1)));
        assert_eq!(outbound.complete(id), Err(SettleError::WrongState(1)));
        assert_eq!(outbound.receive(id), Ok(Some(7)));
        assert_eq!(outbound.complete(id), Ok(()));
        assert_eq!(outbound.complete(id), Err(SettleError::NotInFlight(1)));
        assert_eq!(outbound.len(), 0);
    }
}
