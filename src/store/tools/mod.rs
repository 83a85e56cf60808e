//! Offline work on a store that no broker uses.

mod json;
mod transfer;

use std::fs;
use std::path::Path;

pub use transfer::{TransferError, export, import};

use super::bytes::Damaged;
use super::commit::Totals;
use super::creation::replace_data;
use super::directory::{COPY_FILE, DATA_FILE};
use super::environment::{Environment, Presence, SCHEMA_VERSION, Table};
use super::error::StoreError;
use super::key::split_key;
use super::recovery::read;
use super::row::{
    decode_bookmark, decode_in_flight, decode_lone_message, decode_message, decode_receiver,
    decode_session, decode_subscription, decode_will,
};
use crate::clock::{Clock, Epoch};
use crate::message::Message;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its schema version.
    pub schema: u32,
    /// Bytes of the data file.
    pub file_bytes: u64,
    /// Bytes of the pages in use.
    pub used_bytes: u64,
    /// Name and number of rows of each table.
    pub tables: Vec<(&'static str, u64)>,
}

impl Info {
    /// The number of rows of a table; zero if there is no such table.
    pub fn rows(&self, name: &str) -> u64 {
        let table = self.tables.iter().find(|(it, _)| *it == name);
        table.map_or(0, |(_, rows)| *rows)
    }

    /// The rows of all tables.
    pub fn rows_total(&self) -> u64 {
        self.tables.iter().map(|(_, rows)| rows).sum()
    }
}

/// Called with the rows done and the rows there are.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Counts what a store holds.
///
/// # Errors
/// There is no store, it is in use, or it is damaged.
pub fn info(directory: &Path) -> Result<Info, StoreError> {
    with_store(directory, count)
}

/// Looks at every page and every row, checksums included, and at what rows say about each other.
///
/// # Errors
/// The first damage found.
pub fn check(directory: &Path, progress: Progress<'_>) -> Result<Info, StoreError> {
    with_store(directory, |environment| {
        let info = count(environment)?;
        let mut done = 0;
        let mut retained = Totals::default();
        for table in Table::ALL {
            each_row(environment, table, |key, row| {
                done += 1;
                if done % ROWS_PER_PROGRESS == 0 {
                    progress(done, info.rows_total());
                }
                if table == Table::Retained {
                    retained.retained_count += 1;
                    retained.retained_bytes += row.len() as u64;
                }
                check_row(table, key, row)
            })?;
        }
        let clock = Clock::start();
        let recovery = read(environment, clock, clock.epoch(), 0, &mut |_, _, _| Ok(()))?;
        let totals = recovery.totals;
        let stored = (totals.retained_count, totals.retained_bytes);
        if stored != (retained.retained_count, retained.retained_bytes) {
            let damage = Damaged("the retained messages are not as many as counted");
            return Err(environment.damaged(Table::Meta, damage));
        }
        progress(info.rows_total(), info.rows_total());
        Ok(info)
    })
}

/// Replaces the data file by a copy without free pages; answers its bytes before and after.
///
/// # Errors
/// As [`info`], or the copy cannot be written; the store is then as it was.
pub fn compact(directory: &Path) -> Result<(u64, u64), StoreError> {
    let environment = Environment::open(directory, MAP_BYTES, Presence::Expect)?;
    let data = directory.join(DATA_FILE);
    let copy = directory.join(COPY_FILE);
    let before = environment.file_bytes();
    let _ = fs::remove_file(&copy);
    let result = environment.copy_compacted(&copy);
    let lock = environment.close();
    let result = result.and_then(|()| replace_data(&copy, directory));
    if let Err(error) = result {
        let _ = fs::remove_file(&copy);
        return Err(error);
    }
    let after = fs::metadata(&data)
        .map_err(|source| StoreError::Io {
            path: data,
            what: "its size cannot be read",
            source,
        })?
        .len();
    drop(lock);
    Ok((before, after))
}

/// Hands every retained message whose topic matches a filter to `take`.
///
/// # Errors
/// As [`info`], or a row is damaged.
pub fn retained(
    directory: &Path,
    filter: &str,
    mut take: impl FnMut(&Message),
) -> Result<(), StoreError> {
    with_store(directory, |environment| {
        each_row(environment, Table::Retained, |_, row| {
            let (_, message) = decode_lone_message(row, Epoch::default())?;
            if tidewire_protocol::topic::matches(filter, message.topic()) {
                take(&message);
            }
            Ok(())
        })
    })
}

/// Removes every retained message whose topic matches a filter; answers how many.
///
/// # Errors
/// As [`info`], or the commit fails.
pub fn delete_retained(directory: &Path, filter: &str) -> Result<u64, StoreError> {
    let mut topics: Vec<Box<str>> = Vec::new();
    retained(directory, filter, |message| {
        topics.push(message.topic().into())
    })?;
    let count = topics.len() as u64;
    transfer::clear_retained(directory, topics)?;
    Ok(count)
}

/// Hands every row of a table to `take`.
fn each_row(
    environment: &Environment,
    table: Table,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Damaged>,
) -> Result<(), StoreError> {
    let failed = |source| environment.failed("rows cannot be read", source);
    let transaction = environment.read()?;
    let rows = environment.table(table).iter(&transaction);
    for entry in rows.map_err(failed)? {
        let (key, row) = entry.map_err(failed)?;
        take(key, row).map_err(|damage| environment.damaged(table, damage))?;
    }
    Ok(())
}

fn check_row(table: Table, key: &[u8], row: &[u8]) -> Result<(), Damaged> {
    let epoch = Epoch::default();
    match table {
        Table::Messages => decode_message(row, epoch).map(drop),
        Table::Delayed | Table::Retained => decode_lone_message(row, epoch).map(drop),
        Table::Wills => decode_will(row, epoch).map(drop),
        Table::Sessions => decode_session(row, epoch).map(drop),
        Table::Subscriptions => decode_subscription(row).map(drop),
        Table::InFlight => decode_in_flight(row).map(drop),
        Table::Bookmarks => decode_bookmark(row).map(drop),
        Table::Adopted => decode_receiver(row).map(drop),
        Table::Cursors | Table::Settled | Table::Received | Table::RetainedExpiry => {
            split_key(key).map(drop)
        }
        Table::NamedQueues => match str::from_utf8(row) {
            Ok(_) => Ok(()),
            Err(_) => Err(Damaged("its name is not UTF-8")),
        },
        Table::Meta => Ok(()),
    }
}

fn count(environment: &Environment) -> Result<Info, StoreError> {
    let failed = |source| environment.failed("its rows cannot be counted", source);
    let transaction = environment.read()?;
    let mut tables = Vec::new();
    for table in Table::ALL {
        let rows = environment.table(table).len(&transaction);
        tables.push((table.name(), rows.map_err(failed)?));
    }
    Ok(Info {
        schema: SCHEMA_VERSION,
        file_bytes: environment.file_bytes(),
        used_bytes: environment.used_bytes(&transaction).map_err(failed)?,
        tables,
    })
}

/// Opens a store that has to be there, and closes it again.
fn with_store<T>(
    directory: &Path,
    work: impl FnOnce(&Environment) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let environment = Environment::open(directory, MAP_BYTES, Presence::Expect)?;
    let result = work(&environment);
    drop(environment.close());
    result
}

const ROWS_PER_PROGRESS: u64 = 4_096;
/// Room for tools, whatever the broker was given; address space only.
const MAP_BYTES: u64 = 1 << 40;
