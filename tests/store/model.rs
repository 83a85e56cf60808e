//! What waits in queues and is in flight, beside a plain model of both.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidewire::config::{Limits, StoreConfig};
use tidewire::store::{InFlightRecord, MessageId, Operation, QueueId, tools};
use tidewire_protocol::codec::{PacketId, QoS};

use super::support::{Directory, Open, config, open, put_message, receiver, settle, try_open};

/// Who has not settled what, kept in the plainest way.
#[derive(Default)]
struct Model {
    waiting: BTreeMap<QueueId, BTreeSet<MessageId>>,
    /// Packet identifiers in use.
    in_flight: BTreeMap<(QueueId, u16), MessageId>,
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8),
    Send(usize, usize),
    Settle(usize, usize),
    Move(usize, usize, usize),
    Purge(usize),
    Remove(usize),
    Submit,
    Commit,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let any = || any::<usize>();
    prop_oneof![
        12 => (1u8..16).prop_map(Act::Put),
        10 => (any(), any()).prop_map(|(queue, message)| Act::Send(queue, message)),
        20 => (any(), any()).prop_map(|(queue, message)| Act::Settle(queue, message)),
        10 => Just(Act::Submit),
        3 => (any(), any(), any()).prop_map(|(from, to, message)| Act::Move(from, to, message)),
        1 => any().prop_map(Act::Purge),
        1 => any().prop_map(Act::Remove),
        6 => Just(Act::Commit),
        2 => Just(Act::Reopen),
    ]
}

/// Four queues that are always there: an ended one is replaced.
struct Run {
    directory: Directory,
    config: StoreConfig,
    store: Open,
    queues: [QueueId; 4],
    model: Model,
    batch: Vec<Operation>,
}

impl Run {
    fn new(interval_ms: u32) -> Self {
        let directory = Directory::new();
        let config = StoreConfig {
            commit_interval_milliseconds: interval_ms,
            ..config(&directory.0)
        };
        let mut store = try_open(&config, &Limits::default()).expect("a store");
        let queues = ["a", "b", "c", "d"].map(|name| store.session(name));
        let mut model = Model::default();
        for queue in queues {
            model.waiting.insert(queue, BTreeSet::new());
        }
        Self {
            directory,
            config,
            store,
            queues,
            model,
            batch: Vec::new(),
        }
    }

    fn pick(&self, queue: usize, message: usize) -> (QueueId, Option<MessageId>) {
        let queue = self.queues[queue % 4];
        let waiting = &self.model.waiting[&queue];
        let count = waiting.len();
        // Mostly near the front, as acknowledgements come.
        let at = if message.is_multiple_of(3) {
            message % count.max(1)
        } else {
            message % 2
        };
        (queue, waiting.iter().nth(at).copied())
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Put(bits) => {
                let id = self.store.ids.next_id();
                let queues: Vec<_> = (0..4)
                    .filter(|it| bits >> it & 1 == 1)
                    .map(|it| self.queues[it])
                    .collect();
                for queue in &queues {
                    self.model.waiting.entry(*queue).or_default().insert(id);
                }
                self.batch
                    .push(put_message(id, &id.0.to_be_bytes(), &queues));
            }
            Act::Settle(queue, message) => {
                let (queue, Some(id)) = self.pick(queue, message) else {
                    return;
                };
                self.model.waiting.entry(queue).or_default().remove(&id);
                self.free(queue, id);
                self.batch.push(settle(queue, id));
                self.batch.push(settle(queue, id));
            }
            Act::Send(queue, message) => self.send(queue, message),
            Act::Move(from, to, message) => {
                let (from, Some(id)) = self.pick(from, message) else {
                    return;
                };
                let to = self.queues[to % 4];
                if self.model.waiting[&to].contains(&id) {
                    return;
                }
                self.model.waiting.entry(from).or_default().remove(&id);
                self.free(from, id);
                self.model.waiting.entry(to).or_default().insert(id);
                let to = receiver(to);
                self.batch.push(Operation::Move { id, from, to });
            }
            Act::Purge(queue) => {
                let queue = self.queues[queue % 4];
                self.model.waiting.entry(queue).or_default().clear();
                self.batch.push(Operation::Purge { queue });
            }
            Act::Remove(queue) => {
                let at = queue % 4;
                let queue = self.queues[at];
                self.model.waiting.remove(&queue);
                self.model.in_flight.retain(|it, _| it.0 != queue);
                self.batch.push(Operation::RemoveSession { queue });
                self.commit();
                self.queues[at] = self.store.session("new");
                self.model.waiting.insert(self.queues[at], BTreeSet::new());
            }
            Act::Submit => {
                let batch = std::mem::take(&mut self.batch);
                self.store.submit(batch);
            }
            Act::Commit => self.commit(),
            Act::Reopen => unreachable!("done by the caller"),
        }
    }

    fn send(&mut self, queue: usize, message: usize) {
        let (queue, Some(id)) = self.pick(queue, message) else {
            return;
        };
        let in_flight = &mut self.model.in_flight;
        if in_flight.iter().any(|it| it.0.0 == queue && *it.1 == id) {
            return;
        }
        // The lowest free one, so that identifiers are used again at once.
        let mut ids = (1..).filter(|it| !in_flight.contains_key(&(queue, *it)));
        let Some(packet_id) = ids.next().and_then(PacketId::new) else {
            return;
        };
        in_flight.insert((queue, packet_id.0.get()), id);
        self.batch.push(Operation::PutInFlight {
            queue,
            packet_id,
            in_flight: InFlightRecord {
                order: id,
                qos: QoS::AtLeastOnce,
                message: Some(id),
            },
        });
    }

    fn free(&mut self, queue: QueueId, id: MessageId) {
        let in_flight = &mut self.model.in_flight;
        let packet_id = in_flight
            .iter()
            .find(|it| it.0.0 == queue && *it.1 == id)
            .map(|it| it.0.1);
        if let Some(number) = packet_id {
            in_flight.remove(&(queue, number));
            let packet_id = PacketId::new(number).expect("from 1");
            self.batch
                .push(Operation::RemoveInFlight { queue, packet_id });
        }
    }

    fn commit(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.store.commit(batch);
    }

    fn reopen(mut self) -> Self {
        self.commit();
        self.store.store.close();
        drop(self.store);
        self.store = open(&self.directory);
        for (queue, expected) in &self.model.waiting {
            let expected: Vec<_> = expected.iter().copied().collect();
            assert_eq!(self.store.waiting(*queue), expected, "{queue:?}");
        }
        let sessions = self.store.recovered.sessions.iter();
        let in_flight: BTreeMap<_, _> = sessions
            .flat_map(|session| {
                let in_flight = session.in_flight.iter();
                in_flight.map(|(id, record)| ((session.queue, id.0.get()), record.order))
            })
            .collect();
        assert_eq!(in_flight, self.model.in_flight);
        let kept: BTreeSet<_> = self.model.waiting.values().flatten().collect();
        for queue in self.queues {
            let ids: Vec<_> = self.model.waiting[&queue].iter().copied().collect();
            let loaded = self.store.load(queue, &ids);
            assert_eq!(loaded.len(), ids.len());
            assert!(
                loaded
                    .iter()
                    .all(|it| it.message.payload() == it.id.0.to_be_bytes())
            );
        }
        self.store.store.close();
        let info = tools::info(&self.directory.0).expect("a store");
        assert_eq!(info.rows("messages"), kept.len() as u64);
        self.store = try_open(&self.config, &Limits::default()).expect("a store");
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn queues_are_what_a_plain_model_says(
        acts in proptest::collection::vec(act(), 1..150),
        interval_ms in prop_oneof![Just(0u32), Just(2), Just(50)],
    ) {
        let mut run = Run::new(interval_ms);
        for act in &acts {
            run = match act {
                Act::Reopen => run.reopen(),
                act => { run.act(act); run }
            };
        }
        run.reopen();
    }
}
