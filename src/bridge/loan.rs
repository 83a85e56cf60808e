//! What the home shard has lent to a bridge, until the other side has it.

use std::collections::{HashSet, VecDeque};

use crate::queue::{BySequence, Lent};
use crate::shard::BridgeRequest;

/// The messages on loan.
///
/// # Shape
/// Sequences ascend in the order of queueing.
#[derive(Debug, Default)]
pub(super) struct Loan {
    /// Not settled by the other side.
    unsettled: BySequence<Lent>,
    /// Those of them that the sink does not have, ascending.
    unsent: VecDeque<u64>,
    /// For the home shard.
    settled: Vec<u64>,
}

impl Loan {
    pub(super) fn take(&mut self, lent: Vec<Lent>) {
        for lent in lent {
            self.unsent.push_back(lent.sequence);
            self.unsettled.push(lent.sequence, lent);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether the sink has some.
    pub(super) fn is_in_flight(&self) -> bool {
        self.unsettled.len() > self.unsent.len()
    }

    /// At most so many are for the sink.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.len()
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Lent> {
        self.unsettled.get(sequence)
    }

    /// The next message for the sink.
    pub(super) fn next_unsent(&mut self) -> Option<&Lent> {
        while let Some(sequence) = self.unsent.pop_front() {
            if self.unsettled.get(sequence).is_some() {
                return self.unsettled.get(sequence);
            }
        }
        None
    }

    /// The sink knows of those it holds only: all others are to be sent, in the order of before.
    pub(super) fn begin(&mut self, held: &HashSet<u64>) {
        self.unsent = self.except(held).into();
    }

    /// Nothing more is to be done about a message.
    pub(super) fn settle(&mut self, sequence: u64) {
        self.unsettled.take(sequence);
        self.settled.push(sequence);
    }

    /// The sink has given these back.
    pub(super) fn send_again(&mut self, sequences: Vec<u64>) {
        self.unsent.extend(sequences);
        self.unsent.make_contiguous().sort_unstable();
    }

    /// Settles all but those that the sink holds; answers how many.
    pub(super) fn purge(&mut self, held: &HashSet<u64>) -> usize {
        let purged = self.except(held);
        purged.iter().for_each(|it| self.settle(*it));
        purged.len()
    }

    /// What the home shard is to be told.
    pub(super) fn take_settled(&mut self) -> Option<BridgeRequest> {
        let settled = std::mem::take(&mut self.settled);
        (!settled.is_empty()).then_some(BridgeRequest::Settled(settled))
    }

    fn except(&self, held: &HashSet<u64>) -> Vec<u64> {
        let unsettled = self.unsettled.sequences();
        unsettled.filter(|it| !held.contains(it)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Header, Message};

    fn lent(sequences: &[u64]) -> Vec<Lent> {
        let lent = sequences.iter().map(|sequence| Lent {
            sequence: *sequence,
            message: Message::new("t", b"", b"", Header::default()),
            sent_as: None,
            stored: None,
        });
        lent.collect()
    }

    fn unsent(loan: &mut Loan) -> Vec<u64> {
        std::iter::from_fn(|| loan.next_unsent().map(|it| it.sequence)).collect()
    }

    #[test]
    fn what_no_connection_holds_is_sent_again_in_the_order_of_before() {
        let mut loan = Loan::default();
        loan.take(lent(&[1, 2, 3, 4]));
        assert_eq!(unsent(&mut loan), [1, 2, 3, 4]);
        loan.settle(2);
        loan.send_again(vec![4, 1]);
        assert_eq!(unsent(&mut loan), [1, 4]);
        assert!(loan.is_in_flight());
        loan.begin(&HashSet::from([3]));
        assert_eq!(unsent(&mut loan), [1, 4]);
    }

    #[test]
    fn a_purge_settles_all_that_the_sink_does_not_hold() {
        let mut loan = Loan::default();
        loan.take(lent(&[1, 2, 3]));
        assert_eq!(loan.purge(&HashSet::from([2])), 2);
        assert_eq!(unsent(&mut loan), [2]);
        let Some(BridgeRequest::Settled(settled)) = loan.take_settled() else {
            unreachable!("two are settled");
        };
        assert_eq!(settled, [1, 3]);
        assert!(!loan.is_empty() && loan.take_settled().is_none());
    }
}
