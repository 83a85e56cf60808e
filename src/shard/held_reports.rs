//! What bridges are told once it is true on disk.

use std::collections::VecDeque;

use hashbrown::HashSet;
use tidewire_protocol::codec::ReasonCode;

use super::{BridgeReport, Placed};
use crate::exchange::BridgeId;
use crate::store::{MessageId, Ticket};

/// Reports that wait for batches, in the order of these: what they name is acknowledged to the
/// other side.
#[derive(Debug, Default)]
pub(super) struct HeldReports(VecDeque<(Ticket, BridgeId, BridgeReport)>);

impl HeldReports {
    /// The batch that the latest report waits for.
    pub(super) fn last_ticket(&self) -> Option<Ticket> {
        self.0.back().map(|it| it.0)
    }

    pub(super) fn hold(&mut self, ticket: Ticket, bridge: BridgeId, report: BridgeReport) {
        self.0.push_back((ticket, bridge, report));
    }

    /// The next that waits for this batch or an earlier one.
    pub(super) fn take_due(&mut self, ticket: Ticket) -> Option<(BridgeId, BridgeReport)> {
        self.0.front().filter(|it| it.0 <= ticket)?;
        self.0.pop_front().map(|it| (it.1, it.2))
    }

    /// The store has refused these messages: bridges are to publish them again.
    pub(super) fn refuse(&mut self, messages: &[MessageId]) {
        let refused: HashSet<MessageId> = messages.iter().copied().collect();
        for (_, _, report) in &mut self.0 {
            if let BridgeReport::Published(all_placed) = report {
                let is_refused =
                    |it: &&mut Placed| it.stored.is_some_and(|id| refused.contains(&id));
                let of_these = all_placed.iter_mut().filter(is_refused);
                of_these.for_each(|it| it.reason = ReasonCode::QuotaExceeded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_refuses_is_to_be_published_again_and_reports_come_when_they_are_due() {
        let mut held = HeldReports::default();
        let placed = |number, stored| Placed {
            number,
            reason: ReasonCode::Success,
            stored,
        };
        let first = vec![placed(1, Some(MessageId(10))), placed(2, None)];
        let second = vec![
            placed(3, Some(MessageId(11))),
            placed(4, Some(MessageId(12))),
        ];
        held.hold(Ticket(1), BridgeId(7), BridgeReport::Published(first));
        held.hold(Ticket(2), BridgeId(7), BridgeReport::Published(second));
        assert_eq!(held.last_ticket(), Some(Ticket(2)));
        held.refuse(&[MessageId(10), MessageId(12)]);
        let mut take = |ticket| match held.take_due(Ticket(ticket)) {
            Some((_, BridgeReport::Published(placed))) => {
                placed.iter().map(|it| (it.number, it.reason)).collect()
            }
            _ => Vec::new(),
        };
        let (ok, again) = (ReasonCode::Success, ReasonCode::QuotaExceeded);
        assert_eq!(take(0), []);
        assert_eq!(take(1), [(1, again), (2, ok)]);
        assert_eq!(take(1), []);
        assert_eq!(take(2), [(3, ok), (4, again)]);
    }
}
