//! kill -9 at random moments under load: nothing acknowledged is lost, and QoS 2 is exactly once.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Client, Connect};
use crate::party::{Controls, Publisher, Random, Received, RetainedPublisher, Subscriber};
use crate::program::{Directory, Program};

const PUBLISHERS: [(&str, u8); 4] = [("p1", 1), ("q1", 1), ("p2", 2), ("q2", 2)];

/// Who receives: client id, filter, QoS, and whose records they share.
const SUBSCRIBERS: [(&str, &str, u8, usize); 8] = [
    ("plain-1", "t/+", 1, 0),
    ("plain-2", "t/+", 2, 1),
    ("group-1a", "$share/one/t/+", 1, 2),
    ("group-1b", "$share/one/t/+", 1, 2),
    ("group-2a", "$share/two/t/+", 2, 3),
    ("group-2b", "$share/two/t/+", 2, 3),
    ("group-2c", "$share/two/t/+", 2, 3),
    ("plain-2b", "t/#", 2, 4),
];

/// Everybody who publishes and receives, over all rounds.
pub(crate) struct Parties {
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    records: Vec<Arc<Mutex<Vec<Received>>>>,
    retained: RetainedPublisher,
    /// Of each publisher: everything below was checked in earlier rounds.
    base: Vec<u64>,
    /// How long to wait for what has not arrived.
    pub(crate) patience: Duration,
}

impl Parties {
    pub(crate) fn new(broker: &Program) -> Self {
        let records: Vec<Arc<Mutex<Vec<Received>>>> = (0..5).map(|_| Arc::default()).collect();
        let subscribers = SUBSCRIBERS.iter().map(|(id, filter, qos, record)| {
            broker.leave_subscribed(id, filter, *qos);
            Subscriber::new(id, Arc::clone(&records[*record]))
        });
        Self {
            subscribers: subscribers.collect(),
            publishers: (0..)
                .zip(PUBLISHERS)
                .map(|(number, (id, qos))| Publisher::new(id, number, qos))
                .collect(),
            records,
            retained: RetainedPublisher::default(),
            base: vec![0; PUBLISHERS.len()],
            patience: Duration::from_secs(20),
        }
    }

    /// Everybody publishes, receives, leaves and comes back until the broker is killed.
    pub(crate) fn work_until_killed(&mut self, mut broker: Program, random: &mut Random) {
        let controls = Controls::new(broker.address, false);
        let wait = Duration::from_millis(20 + random.below(250));
        std::thread::scope(|scope| {
            let controls = &controls;
            for publisher in &mut self.publishers {
                let random = random.fork();
                scope.spawn(move || publisher.run(controls, random));
            }
            for subscriber in &mut self.subscribers {
                let random = random.fork();
                scope.spawn(move || subscriber.run(controls, random));
            }
            scope.spawn(|| self.retained.run(controls));
            std::thread::sleep(wait);
            broker.kill();
            controls.stop.store(true, Ordering::Relaxed);
        });
    }

    /// What was begun is completed, and everything has arrived.
    pub(crate) fn drain(&mut self, broker: &Program, random: &mut Random) {
        let controls = Controls::new(broker.address, true);
        let Self {
            publishers,
            subscribers,
            records,
            base,
            patience,
            ..
        } = self;
        let patience = *patience;
        std::thread::scope(|scope| {
            let controls = &controls;
            for subscriber in subscribers.iter_mut() {
                let random = random.fork();
                scope.spawn(move || subscriber.run(controls, random));
            }
            for publisher in publishers.iter_mut() {
                publisher.run(controls, random.fork());
                assert!(publisher.is_done(), "{} cannot go on", publisher.id);
            }
            let is_complete = || {
                records.iter().all(|record| {
                    let record = record.lock().unwrap();
                    publishers.iter().all(|it| {
                        let from = base[usize::from(it.number)];
                        missing(&record, it.number, from, it.next).is_none()
                    })
                })
            };
            let step = Duration::from_millis(5);
            let mut waited = Duration::ZERO;
            while waited < patience && !is_complete() {
                std::thread::sleep(step);
                waited += step;
            }
            // Time for what should not come.
            std::thread::sleep(Duration::from_millis(20));
            controls.stop.store(true, Ordering::Relaxed);
        });
    }

    pub(crate) fn check(&mut self, broker: &Program, round: u64) {
        for (at, record) in self.records.iter().enumerate() {
            let mut record = record.lock().unwrap();
            let is_group = at == 2 || at == 3;
            let qos = [1, 2, 1, 2, 2][at];
            for publisher in &self.publishers {
                let from = self.base[usize::from(publisher.number)];
                let what = format!("round {round}, record {at}, publisher {}", publisher.id);
                let lost = missing(&record, publisher.number, from, publisher.next);
                assert_eq!(lost, None, "{what}: lost");
                let is_exact = publisher.qos.min(qos) == 2;
                check_record(&record, publisher, from, is_exact, is_group, &what);
            }
            record.clear();
        }
        for publisher in &self.publishers {
            self.base[usize::from(publisher.number)] = publisher.next;
        }
        self.check_retained(broker);
    }

    /// Messages published and checked.
    pub(crate) fn published(&self) -> u64 {
        self.base.iter().sum()
    }

    fn check_retained(&self, broker: &Program) {
        let RetainedPublisher {
            sent, acknowledged, ..
        } = self.retained;
        if acknowledged == 0 {
            return;
        }
        let mut reader = broker.passing("retained-reader");
        reader.subscribe("retained", 1);
        let number: u64 = reader.message().text().parse().unwrap();
        assert!(
            (acknowledged..=sent).contains(&number),
            "{number}: {acknowledged}..={sent}"
        );
    }
}

/// All sessions are there, and nothing waits for them.
pub(crate) fn check_nothing_waits(broker: &Program) {
    for (id, ..) in SUBSCRIBERS {
        let (mut client, is_present) = Client::connect(broker.address, &Connect::durable(id));
        assert!(is_present);
        client.settled_behind_messages();
    }
}

/// The first number that did not arrive.
fn missing(record: &[Received], publisher: u8, from: u64, to: u64) -> Option<u64> {
    let mut is_there = vec![false; usize::try_from(to - from).unwrap()];
    for received in record.iter().filter(|it| it.publisher == publisher) {
        let at = received.number.checked_sub(from);
        if let Some(it) = at.and_then(|at| is_there.get_mut(usize::try_from(at).unwrap())) {
            *it = true;
        }
    }
    let at = is_there.iter().position(|it| !it)?;
    Some(from + at as u64)
}

/// Exactly once where that is promised, and in order apart from repeats.
fn check_record(
    record: &[Received],
    publisher: &Publisher,
    from: u64,
    is_exact: bool,
    is_group: bool,
    what: &str,
) {
    let own = record.iter().filter(|it| it.publisher == publisher.number);
    let numbers: Vec<u64> = own.map(|it| it.number).collect();
    if is_exact {
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert!(
            sorted.into_iter().eq(from..publisher.next),
            "{what}: twice: {numbers:?}"
        );
    }
    if !is_group {
        let mut newest = from.checked_sub(1);
        for number in numbers {
            if newest.is_none_or(|newest| number > newest) {
                let expected = newest.map_or(0, |it| it + 1);
                assert_eq!(number, expected, "{what}: out of order");
                newest = Some(number);
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_qos_2_is_exactly_once_over_kills() {
    let rounds = std::env::var("TIDEWIRE_TEST_KILL_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|it| it.parse().ok()).unwrap_or(20);
    let seed = std::env::var("TIDEWIRE_TEST_SEED").ok();
    let seed = seed.and_then(|it| it.parse().ok()).unwrap_or(1);
    let mut random = Random::new(seed);
    let directory = Directory::new();
    let mut broker = Program::start(&directory);
    let mut parties = Parties::new(&broker);
    for round in 0..rounds {
        parties.work_until_killed(broker, &mut random);
        broker = Program::start(&directory);
        parties.drain(&broker, &mut random);
        parties.check(&broker, round);
    }
    let published = parties.published();
    assert!(published > rounds * 20, "{published} published");
    check_nothing_waits(&broker);
    eprintln!("{rounds} rounds, {published} messages");
}
