//! The thread that reads back: what waits for offline receivers, and retained messages.
//!
//! Page faults block it and nobody else. Each answer is one short read transaction, so that no
//! pages stay pinned, and copies out of the map.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use heed::{RoTxn, WithoutTls};
use parking_lot::Mutex;

use super::environment::{Environment, Table};
use super::error::StoreError;
use super::id::{MessageId, QueueId};
use super::inbox::{Inbox, Overlay};
use super::key::{Key, is_long, message_key, queue_message_key, text_key};
use super::operation::Receiver;
use super::report::{Load, Loaded, Report, Reports, RetainedPlace};
use super::row::{decode_lone_message, decode_message, decode_receiver};
use super::seek::{Step, start, step};
use crate::clock::Epoch;
use crate::message::Message;

/// Everything the reading thread owns.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) environment: Arc<Environment>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    pub(super) reports: Reports,
    pub(super) epoch: Epoch,
}

type Read<'a> = RoTxn<'a, WithoutTls>;

/// One answer about retained messages.
type Piece = (Vec<Message>, Option<RetainedPlace>);

impl Reader {
    /// Runs until the inbox is closed and empty.
    pub(super) fn run(self) {
        while self.inbox.wait() {
            for asked in self.inbox.take() {
                let request = asked.request;
                let answer = match asked.load {
                    Load::Messages { queue, ids } => self
                        .messages(queue, &ids)
                        .map(|messages| Report::Loaded { request, messages }),
                    Load::Retained {
                        filter,
                        after,
                        count_max,
                    } => self
                        .retained(&filter, after, count_max)
                        .map(|(messages, next)| Report::Retained {
                            request,
                            messages,
                            next,
                        }),
                };
                let report = answer.unwrap_or_else(|error| {
                    tracing::error!(%error, "the store cannot be read");
                    Report::Failed {
                        error: Arc::new(error),
                    }
                });
                self.reports.send(asked.shard, report);
            }
        }
    }

    fn messages(&self, queue: QueueId, ids: &[MessageId]) -> Result<Vec<Loaded>, StoreError> {
        let transaction = self.environment.read()?;
        let mut loaded = Vec::with_capacity(ids.len().min(LOADED_EXPECTED));
        let mut bytes = 0;
        for id in ids {
            let Some((message, receivers)) = self.message(*id, &transaction)? else {
                continue;
            };
            let receiver = receivers.into_iter().find(|it| it.queue == queue);
            let receiver = match receiver {
                Some(receiver) => Some(receiver),
                None => self.adopted(queue, *id, &transaction)?,
            };
            let Some(receiver) = receiver else { continue };
            bytes += message.bytes();
            loaded.push(Loaded {
                id: *id,
                message,
                receiver,
            });
            if bytes >= Load::BYTES_MAX {
                break;
            }
        }
        Ok(loaded)
    }

    fn message(
        &self,
        id: MessageId,
        transaction: &Read<'_>,
    ) -> Result<Option<(Message, Vec<Receiver>)>, StoreError> {
        let Some(row) = self.get(Table::Messages, &message_key(id), transaction)? else {
            return Ok(None);
        };
        decode_message(row, self.epoch)
            .map(Some)
            .map_err(|damage| self.environment.damaged(Table::Messages, damage))
    }

    fn adopted(
        &self,
        queue: QueueId,
        id: MessageId,
        transaction: &Read<'_>,
    ) -> Result<Option<Receiver>, StoreError> {
        let key = queue_message_key(queue, id);
        let Some(row) = self.get(Table::Adopted, &key, transaction)? else {
            return Ok(None);
        };
        decode_receiver(row)
            .map(Some)
            .map_err(|damage| self.environment.damaged(Table::Adopted, damage))
    }

    fn get<'a>(
        &self,
        table: Table,
        key: &[u8],
        transaction: &'a Read<'_>,
    ) -> Result<Option<&'a [u8]>, StoreError> {
        self.environment
            .table(table)
            .get(transaction, key)
            .map_err(|source| self.environment.failed("a row cannot be read", source))
    }

    /// The next retained messages: rows, with what is not yet committed laid over them.
    fn retained(
        &self,
        filter: &str,
        after: Option<RetainedPlace>,
        count_max: usize,
    ) -> Result<Piece, StoreError> {
        let after = after.map(|place| place.0);
        let (transaction, pending) = self.begin(filter)?;
        let (mut found, end) = self.scan(filter, after.as_deref(), count_max, &transaction)?;
        drop(transaction);
        for (key, (topic, message)) in pending {
            let is_new = after.as_deref().is_none_or(|after| *key > *after);
            let is_before_end = end.as_deref().is_none_or(|end| *key <= *end);
            if !is_new || !is_before_end {
                continue;
            }
            found.retain(|it| it.topic() != &*topic);
            found.extend(message);
        }
        Ok((found, end.map(RetainedPlace)))
    }

    /// A transaction, and the changes after it that match.
    #[expect(
        clippy::type_complexity,
        reason = "the overlay by key is used in one place"
    )]
    fn begin(
        &self,
        filter: &str,
    ) -> Result<(Read<'_>, BTreeMap<Key, (Box<str>, Option<Message>)>), StoreError> {
        loop {
            let transaction = self.environment.read()?;
            let overlay = self.overlay.lock();
            if !overlay.is_complete_with(transaction.id()) {
                continue;
            }
            let matching = overlay
                .iter()
                .filter(|(topic, _)| step(filter, topic) == Step::Match)
                .map(|(topic, message)| (text_key(topic), (topic.into(), message.cloned())))
                .collect();
            return Ok((transaction, matching));
        }
    }

    /// Matching rows after a place, and the last place looked at, unless nothing follows.
    fn scan(
        &self,
        filter: &str,
        after: Option<&[u8]>,
        count_max: usize,
        transaction: &Read<'_>,
    ) -> Result<(Vec<Message>, Option<Key>), StoreError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut from = match after {
            Some(after) => Bound::Excluded(Key::from(after)),
            None => Bound::Included(text_key_part(start(filter))),
        };
        let mut visited = 0;
        'seek: loop {
            let range = (from.as_ref().map(|key| &**key), Bound::Unbounded);
            let failed = |source| {
                self.environment
                    .failed("retained rows cannot be read", source)
            };
            let rows = self.environment.table(Table::Retained);
            for entry in rows.range(transaction, &range).map_err(failed)? {
                let (key, row) = entry.map_err(failed)?;
                visited += 1;
                let step = if is_long(key) {
                    let message = self.decode_retained(row)?;
                    match step(filter, message.topic()) {
                        Step::Match => Step::Match,
                        _ => Step::Next,
                    }
                } else {
                    step(filter, str::from_utf8(key).unwrap_or_default())
                };
                match step {
                    Step::Match => {
                        let message = self.decode_retained(row)?;
                        bytes += message.bytes();
                        found.push(message);
                    }
                    Step::End => return Ok((found, None)),
                    Step::Next | Step::Seek(_) => {}
                }
                if found.len() >= count_max || bytes >= Load::BYTES_MAX || visited >= VISITED_MAX {
                    return Ok((found, Some(key.into())));
                }
                if let Step::Seek(target) = step {
                    let target = text_key_part(&target);
                    if *target > *key {
                        from = Bound::Included(target);
                        continue 'seek;
                    }
                }
            }
            return Ok((found, None));
        }
    }

    fn decode_retained(&self, row: &[u8]) -> Result<Message, StoreError> {
        decode_lone_message(row, self.epoch)
            .map(|(_, message)| message)
            .map_err(|damage| self.environment.damaged(Table::Retained, damage))
    }
}

/// Where keys of texts that begin like this begin; never empty.
fn text_key_part(text: &str) -> Key {
    let end = text.len().min(super::key::TEXT_BYTES_MAX);
    let part = text.as_bytes().get(..end).unwrap_or_default();
    if part.is_empty() {
        Box::new([0])
    } else {
        part.into()
    }
}

const LOADED_EXPECTED: usize = 1_024;
/// Rows looked at for one answer, matching or not: others wait for it.
const VISITED_MAX: usize = 16_384;
