//! Writes prepared changes in one transaction.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{MdbError, PutFlags, RwTxn};

use super::batch::Prepared;
use super::bytes::Damaged;
use super::environment::{Environment, QUEUE_KEY, RETAINED_KEY, SEQUENCE_KEY, Table};
use super::id::{MessageId, QueueId};
use super::key::{expiry_key, message_key, queue_key, split_key, text_key};
use super::operation::Refusal;
use super::row::{encode_lone_message, encode_message, peek_lone_message};
use crate::clock::Epoch;
use crate::prefix_limits::PrefixLimits;

/// What the rows add up to; kept by the writer and stored with the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// All sequences below may be in use.
    pub(super) sequence: u64,
    /// All queue ids below may be in use.
    pub(super) queue: u64,
    pub(super) retained_count: u64,
    pub(super) retained_bytes: u64,
    /// The greatest message id in the table.
    pub(super) newest: u64,
}

/// How much may be retained.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetainedMax {
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl RetainedMax {
    pub(super) const UNLIMITED: Self = Self {
        count: u64::MAX,
        bytes: u64::MAX,
    };
}

/// How much may be retained in all, and below some prefixes of topics.
#[derive(Debug)]
pub(super) struct RetainedLimits {
    pub(super) all: RetainedMax,
    pub(super) prefixes: PrefixLimits,
}

/// The result of a transaction that was committed.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) totals: Totals,
    pub(super) used_bytes: u64,
    pub(super) transaction: usize,
    pub(super) prefixes: PrefixLimits,
    /// Retained messages beyond the limits: what was there before remains.
    pub(super) refused_retained: Vec<Box<str>>,
    /// More retained messages have expired than one commit removes.
    pub(super) has_more_expired: bool,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) environment: &'a Environment,
    pub(super) epoch: Epoch,
    pub(super) retained_max: RetainedMax,
    /// Limits below some prefixes of topics.
    pub(super) prefixes: PrefixLimits,
    pub(super) scratch: &'a mut Vec<u8>,
    pub(super) totals: Totals,
    pub(super) room: Room,
}

/// Bytes of pages in use beyond which messages find no room, unless the same commit frees as much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Beyond it the disk is full, and what is new is refused before it gets here.
    pub(super) used_bytes_full: u64,
    pub(super) used_bytes_max: u64,
    /// For what is refused last.
    pub(super) used_bytes_max_last: u64,
}

impl Room {
    pub(super) const UNLIMITED: Self = Self {
        used_bytes_full: u64::MAX,
        used_bytes_max: u64::MAX,
        used_bytes_max_last: u64::MAX,
    };

    fn has_room(self, prepared: &Prepared, used_before: u64, used_bytes: u64) -> bool {
        used_bytes <= used_before
            || (used_bytes <= self.used_bytes_max || !prepared.has(Refusal::First))
                && (used_bytes <= self.used_bytes_max_last || !prepared.has(Refusal::Last))
    }
}

impl Commit<'_> {
    pub(super) fn write(mut self, prepared: &Prepared) -> Result<Committed, heed::Error> {
        let environment = self.environment;
        let mut transaction = environment.write()?;
        let before = self.totals;
        let used_before = environment.used_bytes(&transaction)?;
        self.write_marks(prepared);
        remove_queues(
            environment,
            &mut transaction,
            &prepared.changes.removed_queues,
        )?;
        self.write_messages(prepared, &mut transaction)?;
        for ((table, key), change) in &prepared.rows {
            let rows = environment.table(*table);
            match change {
                Some(value) => rows.put(&mut transaction, key, value)?,
                None => {
                    rows.delete(&mut transaction, key)?;
                }
            }
        }
        let refused_retained = self.write_retained(prepared, &mut transaction)?;
        let received = environment.table(Table::Received);
        for key in prepared.received_with(&refused_retained) {
            received.delete(&mut transaction, key)?;
        }
        let has_more_expired = match prepared.changes.sweep_unix_ms {
            Some(now_unix_ms) => self.sweep(now_unix_ms, &mut transaction)? == SWEPT_MAX,
            None => false,
        };
        self.write_totals(before, &mut transaction)?;
        let used_bytes = environment.used_bytes(&transaction)?;
        if !self.room.has_room(prepared, used_before, used_bytes) {
            return Err(heed::Error::Mdb(MdbError::MapFull));
        }
        transaction.commit()?;
        Ok(Committed {
            totals: self.totals,
            prefixes: self.prefixes,
            used_bytes,
            transaction: environment.last_transaction(),
            refused_retained,
            has_more_expired,
        })
    }

    /// Identifiers are in use only if a mark on disk is above them.
    fn write_marks(&mut self, prepared: &Prepared) {
        if let Some(id) = prepared.highest_id.map(MessageId::sequence)
            && id >= self.totals.sequence
        {
            self.totals.sequence = id + SEQUENCES_AHEAD;
        }
        if let Some(queue) = prepared.highest_queue.map(QueueId::number)
            && queue >= self.totals.queue
        {
            self.totals.queue = queue + QUEUES_AHEAD;
        }
    }

    fn write_totals(&self, before: Totals, transaction: &mut RwTxn<'_>) -> Result<(), heed::Error> {
        let Totals {
            sequence,
            queue,
            retained_count,
            retained_bytes,
            ..
        } = self.totals;
        let meta = self.environment.table(Table::Meta);
        if sequence != before.sequence {
            meta.put(transaction, SEQUENCE_KEY, &sequence.to_be_bytes())?;
        }
        if queue != before.queue {
            meta.put(transaction, QUEUE_KEY, &queue.to_be_bytes())?;
        }
        if (retained_count, retained_bytes) != (before.retained_count, before.retained_bytes) {
            let value = [retained_count.to_be_bytes(), retained_bytes.to_be_bytes()].concat();
            meta.put(transaction, RETAINED_KEY, &value)?;
        }
        Ok(())
    }

    fn write_messages(
        &mut self,
        prepared: &Prepared,
        transaction: &mut RwTxn<'_>,
    ) -> Result<(), heed::Error> {
        let rows = self.environment.table(Table::Messages);
        for id in &prepared.changes.removed_messages {
            rows.delete(transaction, &message_key(*id))?;
        }
        for (id, new) in &prepared.changes.messages {
            encode_message(
                self.scratch,
                &new.message,
                new.receivers.as_slice(),
                self.epoch,
            );
            let flags = if id.0 > self.totals.newest {
                PutFlags::APPEND
            } else {
                PutFlags::empty()
            };
            rows.put_with_flags(transaction, flags, &message_key(*id), self.scratch)?;
            self.totals.newest = self.totals.newest.max(id.0);
        }
        Ok(())
    }

    fn write_retained(
        &mut self,
        prepared: &Prepared,
        transaction: &mut RwTxn<'_>,
    ) -> Result<Vec<Box<str>>, heed::Error> {
        let mut refused = Vec::new();
        for (topic, change) in &prepared.changes.retained {
            let key = text_key(topic);
            let old = self.retained(&key, transaction)?;
            let Some(new) = change else {
                if let Some(old) = old {
                    self.remove_retained(topic, &key, old, transaction)?;
                }
                continue;
            };
            let row = encode_lone_message(&new.message, 0, self.epoch);
            let bytes = row.len() as u64;
            let (old_count, old_bytes) = old.map_or((0, 0), |old| (1, old.bytes));
            let count_after = self.totals.retained_count + 1 - old_count;
            let bytes_after = self.totals.retained_bytes.saturating_sub(old_bytes) + bytes;
            let has_room = old_count == 1 || count_after <= self.retained_max.count;
            // Above a lower limit, what makes it less is welcome.
            let bytes_max = self.retained_max.bytes.max(self.totals.retained_bytes);
            let has_room = has_room && bytes_after <= bytes_max;
            if !has_room || (old_count == 0 && self.prefixes.take(&key).is_err()) {
                refused.push(topic.clone());
                if let Some(old) = old.filter(|_| new.follows_clear) {
                    self.remove_retained(topic, &key, old, transaction)?;
                }
                continue;
            }
            if let Some(old) = old {
                self.remove_retained(topic, &key, old, transaction)?;
                self.prefixes.count(&key);
            }
            self.environment
                .table(Table::Retained)
                .put(transaction, &key, &row)?;
            if let Some(expires) = new.message.expires_at_ms() {
                let key = expiry_key(self.epoch.to_unix_ms(expires), topic);
                let rows = self.environment.table(Table::RetainedExpiry);
                rows.put(transaction, &key, &[])?;
            }
            self.totals.retained_count = count_after;
            self.totals.retained_bytes = bytes_after;
        }
        Ok(refused)
    }

    fn retained(
        &self,
        key: &[u8],
        transaction: &RwTxn<'_>,
    ) -> Result<Option<StoredRetained>, heed::Error> {
        let Some(row) = self
            .environment
            .table(Table::Retained)
            .get(transaction, key)?
        else {
            return Ok(None);
        };
        let (header, _) = peek_lone_message(row).map_err(damaged)?;
        Ok(Some(StoredRetained {
            bytes: row.len() as u64,
            expires_unix_ms: header.expires_unix_ms,
        }))
    }

    fn remove_retained(
        &mut self,
        topic: &str,
        key: &[u8],
        old: StoredRetained,
        transaction: &mut RwTxn<'_>,
    ) -> Result<(), heed::Error> {
        self.environment
            .table(Table::Retained)
            .delete(transaction, key)?;
        if let Some(unix_ms) = old.expires_unix_ms {
            let rows = self.environment.table(Table::RetainedExpiry);
            rows.delete(transaction, &expiry_key(unix_ms, topic))?;
        }
        self.forget_retained(key, old);
        Ok(())
    }

    fn forget_retained(&mut self, key: &[u8], old: StoredRetained) {
        self.totals.retained_count = self.totals.retained_count.saturating_sub(1);
        self.totals.retained_bytes = self.totals.retained_bytes.saturating_sub(old.bytes);
        self.prefixes.give_back(key);
    }

    /// Removes retained messages whose time is over, some at a time; answers how many.
    fn sweep(
        &mut self,
        now_unix_ms: u64,
        transaction: &mut RwTxn<'_>,
    ) -> Result<usize, heed::Error> {
        let index = self.environment.table(Table::RetainedExpiry);
        let mut over = Vec::new();
        for entry in index.iter(transaction)?.take(SWEPT_MAX) {
            let (key, _) = entry?;
            let (unix_ms, _) = split_key(key).map_err(damaged)?;
            if unix_ms > now_unix_ms {
                break;
            }
            over.push(key.to_vec());
        }
        let count = over.len();
        for key in over {
            let (_, topic_key) = split_key(&key).map_err(damaged)?;
            if let Some(old) = self.retained(topic_key, transaction)? {
                self.environment
                    .table(Table::Retained)
                    .delete(transaction, topic_key)?;
                self.forget_retained(topic_key, old);
            }
            index.delete(transaction, &key)?;
        }
        Ok(count)
    }
}

#[derive(Clone, Copy, Debug)]
struct StoredRetained {
    bytes: u64,
    expires_unix_ms: Option<u64>,
}

/// Whether an error says that there is no room, and the transaction was undone.
pub(super) fn is_full(error: &heed::Error) -> bool {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => true,
        heed::Error::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

pub(super) fn remove_queues(
    environment: &Environment,
    transaction: &mut RwTxn<'_>,
    queues: &[QueueId],
) -> Result<(), heed::Error> {
    for queue in queues {
        let (from, to) = (
            queue_key(*queue),
            queue_key(QueueId::of(queue.number() + 1)),
        );
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(&from), Bound::Excluded(&to));
        for table in Table::OF_A_QUEUE {
            environment
                .table(table)
                .remap_data_type::<Bytes>()
                .delete_range(transaction, &range)?;
        }
    }
    Ok(())
}

fn damaged(damage: Damaged) -> heed::Error {
    heed::Error::Decoding(damage.0.into())
}

/// Identifiers reserved at once, so that the mark is rarely written.
const SEQUENCES_AHEAD: u64 = 1 << 20;
const QUEUES_AHEAD: u64 = 1_024;
/// Expired retained messages removed by one commit: others wait for it.
const SWEPT_MAX: usize = 1_024;
