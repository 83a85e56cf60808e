//! Export to JSON lines, and import into an empty store.

use std::io::{self, BufRead, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::super::batch::Batch;
use super::super::commit::{Commit, RetainedMax, Room, Totals};
use super::super::creation::Creation;
use super::super::environment::{
    Environment, QUEUE_KEY, SCHEMA_VERSION, SEQUENCE_KEY, Table, is_new,
};
use super::super::error::StoreError;
use super::super::index::Index;
use super::super::operation::{Operation, Receiver};
use super::super::recovery::{Recovered, read};
use super::super::row::{decode_lone_message, decode_message};
use super::{MAP_BYTES, Progress, ROWS_PER_PROGRESS, count, each_row, json, with_store};
use crate::clock::{Clock, Epoch};
use crate::config::Flushes;
use crate::exchange::ShardId;
use crate::prefix_limits::PrefixLimits;

/// Why a store could not be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lines cannot be read or written.
    #[error("the exported lines cannot be read or written: {0}")]
    Lines(#[from] io::Error),
    /// A line is not what it has to be.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The store to import into holds something.
    #[error("the store to import into is not empty; import into a new directory")]
    NotEmpty,
}

/// Writes everything as JSON lines; the store is not changed.
///
/// # Errors
/// The store is damaged, or the lines cannot be written.
pub fn export(
    directory: &Path,
    out: &mut impl Write,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut written = Ok(());
    with_store(directory, |environment| {
        written = export_from(environment, out, progress);
        Ok(())
    })?;
    written
}

fn export_from(
    environment: &Environment,
    out: &mut impl Write,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let total = count(environment)?.rows_total();
    let mut done = 0;
    let mut failure = None;
    let mut write = |out: &mut dyn Write, line: &Value| {
        done += 1;
        if done % ROWS_PER_PROGRESS == 0 {
            progress(done, total);
        }
        if failure.is_none() {
            failure = writeln!(out, "{line}").err();
        }
    };
    let epoch = Epoch::default();
    let clock = Clock::start();
    let state = read(environment, clock, epoch, 0, &mut |_, _, _| Ok(()))?;
    let Totals {
        sequence, queue, ..
    } = state.totals;
    let head = json!({
        "kind": "store", "schema": SCHEMA_VERSION, "sequence": sequence, "queue": queue,
    });
    write(out, &head);
    for line in lines_of(&state.recovered) {
        write(out, &line);
    }
    drop(state);
    read(environment, clock, epoch, 0, &mut |id, row, open| {
        let (message, _) = decode_message(row, epoch)?;
        let receivers: Vec<Receiver> = open.iter().map(|it| (*it).clone()).collect();
        write(out, &json::message(id, &message, &receivers));
        Ok(())
    })?;
    each_row(environment, Table::Retained, |_, row| {
        let (_, message) = decode_lone_message(row, epoch)?;
        write(out, &json::retained(&message));
        Ok(())
    })?;
    write(out, &json!({ "kind": END }));
    match failure {
        Some(error) => Err(error.into()),
        None => Ok(out.flush()?),
    }
}

fn lines_of(recovered: &Recovered) -> Vec<Value> {
    let mut lines = Vec::new();
    for it in &recovered.sessions {
        lines.push(json::session(it.queue, &it.session));
        for (filter, record) in &it.subscriptions {
            lines.push(json::subscription(it.queue, filter, *record));
        }
        for (packet_id, record) in &it.in_flight {
            lines.push(json::in_flight(it.queue, *packet_id, *record));
        }
        for packet_id in &it.received {
            lines.push(json::received(it.queue, *packet_id));
        }
        if let Some(will) = &it.will {
            lines.push(json::will(it.queue, will));
        }
    }
    for it in &recovered.named_queues {
        lines.push(json::named_queue(it.queue, &it.name));
        for (packet_id, record) in &it.in_flight {
            lines.push(json::in_flight(it.queue, *packet_id, *record));
        }
        for packet_id in &it.received {
            lines.push(json::received(it.queue, *packet_id));
        }
        for (name, next) in &it.bookmarks {
            lines.push(json::bookmark(it.queue, name, *next));
        }
    }
    for it in &recovered.delayed {
        lines.push(json::delayed(it.id, it.due_at_ms, &it.message));
    }
    lines
}

/// Fills an empty or new store from exported lines; answers how many.
///
/// # Errors
/// The store is not empty, or the first line that cannot be used; the store is then as it was.
pub fn import(
    directory: &Path,
    lines: &mut dyn BufRead,
    progress: Progress<'_>,
) -> Result<u64, TransferError> {
    let lock = Environment::lock(directory)?;
    let (lock, marks) = if is_new(directory)? {
        (Some(lock), Marks::default())
    } else {
        let environment =
            Environment::open_locked(directory, lock, MAP_BYTES, Flushes::EachCommit)?;
        let marks = marks_of_empty(&environment);
        (environment.close(), marks?)
    };
    let creation = Creation::begin(directory, MAP_BYTES)?;
    let number = import_into(creation.environment(), marks, lines, progress)?;
    creation.finish()?;
    drop(lock);
    Ok(number)
}

/// Below these, identifiers may be in use.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    sequence: u64,
    queue: u64,
}

/// Of a store that holds nothing else.
fn marks_of_empty(environment: &Environment) -> Result<Marks, TransferError> {
    let info = count(environment)?;
    if info.rows_total() > info.rows(Table::Meta.name()) {
        return Err(TransferError::NotEmpty);
    }
    let Totals {
        sequence, queue, ..
    } = Changed::new(environment)?.totals;
    Ok(Marks { sequence, queue })
}

fn import_into(
    environment: &Environment,
    marks: Marks,
    lines: &mut dyn BufRead,
    progress: Progress<'_>,
) -> Result<u64, TransferError> {
    let mut into = Changed::new(environment)?;
    into.raise_marks(marks)?;
    let mut batch = Vec::new();
    let mut number = 0;
    let mut has_ended = false;
    for line in lines.lines() {
        number += 1;
        let line = line?;
        let refused = |problem: String| TransferError::Line {
            line: number,
            problem,
        };
        let value: Value =
            serde_json::from_str(&line).map_err(|error| refused(error.to_string()))?;
        if number == 1 {
            into.raise_marks(check_head(&value).map_err(refused)?)?;
            continue;
        }
        if has_ended {
            return Err(refused("there is something behind the end".into()));
        }
        if value.get("kind").and_then(Value::as_str) == Some(END) {
            has_ended = true;
            continue;
        }
        match json::operation(&value) {
            Some(operation) => batch.push(operation),
            None => return Err(refused("it is no record of a store".into())),
        }
        if batch.len() >= LINES_PER_COMMIT {
            into.commit(std::mem::take(&mut batch))?;
            progress(number, 0);
        }
    }
    if !has_ended {
        return Err(TransferError::Line {
            line: number,
            problem: "the export ends too early: its last line is missing".into(),
        });
    }
    into.commit(batch)?;
    Ok(number)
}

/// The marks of the exported store: whoever has noted how far it came with its identifiers, such as
/// a bridge over there, would take lower ones for old.
fn check_head(head: &Value) -> Result<Marks, String> {
    let number = |name: &str| head.get(name).and_then(Value::as_u64);
    let is_store = head.get("kind").and_then(Value::as_str) == Some("store");
    match number("schema") {
        Some(schema) if is_store && schema == u64::from(SCHEMA_VERSION) => Ok(Marks {
            sequence: number("sequence").unwrap_or(0),
            queue: number("queue").unwrap_or(0),
        }),
        Some(schema) if is_store => Err(format!("schema version {schema} is unknown")),
        _ => Err("it is not the export of a store".into()),
    }
}

/// Removes retained messages.
pub(super) fn clear_retained(directory: &Path, topics: Vec<Box<str>>) -> Result<(), StoreError> {
    with_store(directory, |environment| {
        let mut into = Changed::new(environment)?;
        let mut topics = topics.into_iter().peekable();
        while topics.peek().is_some() {
            let part = topics.by_ref().take(LINES_PER_COMMIT);
            into.commit(
                part.map(|topic| Operation::ClearRetained { topic })
                    .collect(),
            )?;
        }
        Ok(())
    })
}

/// A store that is changed without threads.
struct Changed<'a> {
    environment: &'a Environment,
    index: Index,
    totals: Totals,
    scratch: Vec<u8>,
}

impl<'a> Changed<'a> {
    fn new(environment: &'a Environment) -> Result<Self, StoreError> {
        let clock = Clock::start();
        let state = read(environment, clock, Epoch::default(), 0, &mut |_, _, _| {
            Ok(())
        })?;
        Ok(Self {
            environment,
            index: state.index,
            totals: state.totals,
            scratch: Vec::new(),
        })
    }

    /// Identifiers begin here or above.
    fn raise_marks(&mut self, marks: Marks) -> Result<(), StoreError> {
        let environment = self.environment;
        self.totals.sequence = self.totals.sequence.max(marks.sequence);
        self.totals.queue = self.totals.queue.max(marks.queue);
        let failed = |source| environment.failed("its marks cannot be written", source);
        let mut transaction = environment.write().map_err(failed)?;
        let meta = environment.table(Table::Meta);
        for (key, mark) in [
            (SEQUENCE_KEY, self.totals.sequence),
            (QUEUE_KEY, self.totals.queue),
        ] {
            meta.put(&mut transaction, key, &mark.to_be_bytes())
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    fn commit(&mut self, operations: Vec<Operation>) -> Result<(), StoreError> {
        let mut batch = Batch::new(&mut self.index, Epoch::default());
        for operation in operations {
            batch.add(operation, ShardId(0))?;
        }
        let commit = Commit {
            environment: self.environment,
            epoch: Epoch::default(),
            retained_max: RetainedMax::UNLIMITED,
            prefixes: PrefixLimits::default(),
            scratch: &mut self.scratch,
            totals: self.totals,
            room: Room::UNLIMITED,
        };
        let failed = |source| StoreError::Commit {
            path: self.environment.path().to_owned(),
            source,
        };
        self.totals = commit.write(&batch.finish()).map_err(failed)?.totals;
        Ok(())
    }
}

/// The kind of the last line: without it a part would pass for the whole.
const END: &str = "end";
const LINES_PER_COMMIT: usize = 4_096;
