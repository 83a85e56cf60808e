//! kill -9 at random moments: what was acknowledged is there, and nothing half done.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use tidewire::config::{Flushes, Limits};
use tidewire::store::{MessageId, Operation, QueueId};

use super::support::{Directory, config, open, put_message, retained, settle, try_open};

pub(super) const CHILD: &str = "TIDEWIRE_TEST_STORE_CHILD";
/// The child opens its store without flushes.
pub(super) const UNFLUSHED: &str = "TIDEWIRE_TEST_STORE_UNFLUSHED";
const QUEUES: u64 = 3;

/// Not a test by itself: the process that is killed. It says what was acknowledged, a line each.
#[test]
#[ignore = "the process that another test kills"]
fn child_that_writes_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let directory = Directory(path.into());
    let mut config = config(&directory.0);
    if std::env::var_os(UNFLUSHED).is_some() {
        config.flushes = Flushes::Never;
    }
    let mut store = try_open(&config, &Limits::default()).expect("a store");
    let mut out = std::io::stdout();
    let queues: Vec<_> = (0..QUEUES)
        .map(|it| store.session(&format!("client-{it}")))
        .collect();
    writeln!(
        out,
        "queues {} {} {}",
        queues[0].number(),
        queues[1].number(),
        queues[2].number()
    )
    .expect("written");
    let mut waiting: Vec<Vec<MessageId>> = vec![Vec::new(); queues.len()];
    let rounds = std::env::var("TIDEWIRE_TEST_STORE_ROUNDS").ok();
    let rounds = rounds.and_then(|it| it.parse().ok()).unwrap_or(u64::MAX);
    for round in 1..=rounds {
        let mut operations = vec![retained("round", &round.to_be_bytes(), None)];
        let mut lines = format!("round {round}\n");
        for number in 0..5 + round % 7 {
            let id = store.ids.next_id();
            // The last queue never settles, so that rows stay and cursors matter.
            let to: Vec<usize> = if number % 2 == 0 {
                vec![0, 1, 2]
            } else {
                vec![0]
            };
            let queues: Vec<QueueId> = to.iter().map(|it| queues[*it]).collect();
            operations.push(put_message(id, &payload(id), &queues));
            for to in to {
                waiting[to].push(id);
                lines += &format!("put {to} {}\n", id.0);
            }
        }
        for (number, waiting) in waiting.iter_mut().enumerate().take(2) {
            // In order in the first queue, out of order in the second.
            let at = if number == 0 { 0 } else { waiting.len() / 2 };
            for _ in 0..round % 6 {
                if at < waiting.len() {
                    let id = waiting.remove(at);
                    operations.push(settle(queues[number], id));
                    lines += &format!("settle {number} {}\n", id.0);
                }
            }
        }
        // Said first: what is committed before it is said would look lost.
        writeln!(out, "{lines}submitting").expect("written");
        let ticket = store.submit(operations);
        // Not each commit is awaited: the next batches are on their way when the end comes.
        if round.is_multiple_of(3) {
            store.wait_for(ticket);
            writeln!(out, "acknowledged").expect("written");
        }
    }
    drop(store);
    std::mem::forget(directory);
}

/// From 8 bytes to three pages of their own.
fn payload(id: MessageId) -> Vec<u8> {
    let count = match id.0 % 16 {
        0 => 1_200,
        1..=3 => 60,
        _ => 1,
    };
    id.0.to_be_bytes().repeat(count)
}

/// What a killed process said.
#[derive(Default)]
pub(super) struct Said {
    pub(super) queues: Vec<QueueId>,
    /// By queue and message: `true` while it waits.
    acknowledged: BTreeMap<(usize, MessageId), bool>,
    /// Changes after the last acknowledgement.
    unsure: BTreeMap<(usize, MessageId), bool>,
    round: u64,
    acknowledged_round: u64,
}

impl Said {
    pub(super) fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|it| it.parse().ok());
        match words[0] {
            "queues" => {
                self.queues = (1..=3).filter_map(number).map(QueueId::of).collect();
            }
            "round" => self.round = number(1).unwrap_or(self.round),
            what @ ("put" | "settle") => {
                if let (Some(queue), Some(id)) = (number(1), number(2)) {
                    let at = (queue as usize, MessageId(id));
                    self.unsure.insert(at, what == "put");
                }
            }
            "acknowledged" => {
                self.acknowledged.append(&mut self.unsure);
                self.acknowledged_round = self.round;
            }
            _ => {}
        }
    }
}

fn run_and_kill(directory: &Directory, wait: Duration) -> Said {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "kill::child_that_writes_until_it_is_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, &directory.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let out = child.stdout.take().expect("piped");
    let reading = std::thread::spawn(move || {
        let mut lines: Vec<String> = Vec::new();
        for line in BufReader::new(out).lines() {
            match line {
                Ok(line) => lines.push(line),
                Err(_) => break,
            }
        }
        lines
    });
    std::thread::sleep(wait);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let lines = reading.join().expect("no panic");
    let mut said = Said::default();
    // The last line may be cut off.
    for line in lines.iter().take(lines.len().saturating_sub(1)) {
        said.line(line);
    }
    said
}

/// What was acknowledged is there, whole, and nothing else; answers how much that was.
///
/// # Panics
/// It is not so.
pub(super) fn verify(directory: &Directory, said: &Said) -> u64 {
    let mut acknowledged = 0;
    let mut store = open(directory);
    for (at, queue) in said.queues.iter().enumerate() {
        let waiting = store.waiting(*queue).to_vec();
        assert!(waiting.is_sorted());
        for ((_, id), is_waiting) in said.acknowledged.iter().filter(|((it, _), _)| *it == at) {
            acknowledged += 1;
            let is_unsure = said.unsure.contains_key(&(at, *id));
            let is_there = waiting.binary_search(id).is_ok();
            assert!(
                is_unsure || is_there == *is_waiting,
                "{at} {id:?} {is_waiting}"
            );
        }
        let newest = said.acknowledged.keys().map(|(_, id)| *id).max();
        for id in &waiting {
            let is_known = said.acknowledged.get(&(at, *id)) == Some(&true)
                || said.unsure.contains_key(&(at, *id));
            // What was submitted after the last line that arrived.
            assert!(is_known || Some(*id) > newest, "{at} {id:?} waits again");
        }
        for part in waiting.chunks(50) {
            let loaded = store.load(*queue, part);
            assert_eq!(loaded.len(), part.len());
            assert!(
                loaded
                    .iter()
                    .all(|it| it.message.payload() == payload(it.id))
            );
        }
    }
    let found = store.retained("round", 1);
    let found = found.first().map_or(0, |it| {
        u64::from_be_bytes(it.payload().try_into().expect("8 bytes"))
    });
    assert!(
        found >= said.acknowledged_round,
        "{found} {}",
        said.acknowledged_round
    );
    if let Some(queue) = said.queues.first() {
        store.commit(vec![Operation::RemoveSession { queue: *queue }]);
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds = std::env::var("TIDEWIRE_TEST_KILL_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|it| it.parse().ok()).unwrap_or(20);
    let mut acknowledged = 0;
    for round in 0..rounds {
        let directory = Directory::new();
        let said = run_and_kill(&directory, Duration::from_millis(60 + round * 37 % 211));
        if !said.queues.is_empty() {
            acknowledged += verify(&directory, &said);
        }
    }
    assert!(acknowledged > rounds * 100, "{acknowledged} acknowledged");
}
