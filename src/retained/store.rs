//! Retained messages, lock-sharded by their first level, with limits over all.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, RwLock};
use thiserror::Error;
use tidewire_protocol::topic::TopicFilter;

use super::trie::{ROOT, Step, TopicTrie};
use crate::message::Message;
use crate::prefix_limits::PrefixLimits;

/// The retained messages of the broker, shared by all shards.
///
/// # Shape
/// Parts by the first level of the topic, each a trie behind a lock of its own.
#[derive(Debug)]
pub struct Retained {
    parts: Box<[RwLock<TopicTrie>]>,
    count: AtomicUsize,
    bytes: AtomicUsize,
    count_max: AtomicUsize,
    bytes_max: AtomicUsize,
    /// Locked after a part.
    prefixes: Mutex<PrefixLimits>,
    has_prefixes: AtomicBool,
    hasher: DefaultHashBuilder,
    /// Cloned by every [`Walk`].
    walkers: Arc<()>,
}

/// A search for retained messages that can be left and taken up again.
#[derive(Debug)]
pub struct Walk {
    filter: Box<str>,
    /// The part being searched, if there is one.
    part: Option<usize>,
    /// Those to search after it.
    parts: Range<usize>,
    open: Vec<Step>,
    /// Keeps the places in `open` from being used for something else.
    _walker: Arc<()>,
}

/// A message was not retained because a limit is reached; what was there before remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RetainedFull {
    /// As many topics as allowed have a retained message.
    #[error("{count_max} messages are retained already")]
    Count {
        /// The most messages allowed.
        count_max: usize,
    },
    /// The message would take more memory than allowed for all.
    #[error("retained messages would take more than {bytes_max} bytes")]
    Bytes {
        /// The most bytes allowed.
        bytes_max: usize,
    },
}

impl Default for Retained {
    fn default() -> Self {
        Self::new()
    }
}

impl Retained {
    /// An empty store, without limits until [`Retained::limit`] sets them.
    pub fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| RwLock::default()).collect(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            count_max: AtomicUsize::new(usize::MAX),
            bytes_max: AtomicUsize::new(usize::MAX),
            prefixes: Mutex::default(),
            has_prefixes: AtomicBool::new(false),
            hasher: DefaultHashBuilder::default(),
            walkers: Arc::default(),
        }
    }

    /// Keeps the message as the latest of its topic; one without payload clears the topic. The
    /// limits are for clients: `$SYS` takes no room.
    ///
    /// # Errors
    /// [`RetainedFull`] if a limit is reached; the earlier message then remains. Clearing never
    /// fails.
    ///
    /// # Source
    /// MQTT 5.0 section 3.3.1.3, [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    pub fn set(&self, message: Message) -> Result<(), RetainedFull> {
        let mut part = self.parts[self.part(first_level(message.topic()))].write();
        if message.payload().is_empty() {
            if let Some(old) = part.remove(message.topic(), self.is_walked()) {
                self.give_back(&old);
            }
            return Ok(());
        }
        let old = part.find(message.topic());
        let old_bytes = old.map_or(0, |old| old.bytes());
        let count = usize::from(old.is_none());
        if !is_of_broker(&message) {
            self.reserve(count, message.bytes(), old_bytes)?;
            if count > 0 {
                self.take_prefixed(&message)?;
            }
        }
        part.insert(message, self.is_walked());
        Ok(())
    }

    /// Appends the messages whose topics match, in no particular order, without those expired.
    pub fn matching(&self, filter: TopicFilter<'_>, now_ms: u64, out: &mut Vec<Message>) {
        let mut walk = self.walk(filter);
        while self.advance(&mut walk, now_ms, usize::MAX, out) {}
    }

    /// Begins to look for the messages whose topics match.
    pub fn walk(&self, filter: TopicFilter<'_>) -> Walk {
        let first = first_level(filter.as_str());
        let parts = if matches!(first, "+" | "#") {
            0..self.parts.len()
        } else {
            let part = self.part(first);
            part..part + 1
        };
        Walk {
            filter: filter.as_str().into(),
            part: None,
            parts,
            open: Vec::new(),
            _walker: Arc::clone(&self.walkers),
        }
    }

    /// Goes on for at most `visits_max` places and appends what matches, without those expired;
    /// false once all was seen. A message that is there all the time is found exactly once.
    pub fn advance(
        &self,
        walk: &mut Walk,
        now_ms: u64,
        visits_max: usize,
        out: &mut Vec<Message>,
    ) -> bool {
        let levels: Vec<&str> = walk.filter.split('/').collect();
        let mut visits_left = visits_max;
        while visits_left > 0 {
            if walk.open.is_empty() {
                walk.part = walk.parts.next();
                walk.open.push(Step {
                    node: ROOT,
                    depth: 0,
                    then_siblings: false,
                });
            }
            let Some(part) = walk.part.and_then(|part| self.parts.get(part)) else {
                return false;
            };
            part.read()
                .advance(&levels, &mut walk.open, &mut visits_left, now_ms, out);
        }
        true
    }

    /// Removes the messages whose time is over and returns how many.
    pub fn remove_expired(&self, now_ms: u64) -> usize {
        let mut removed = 0;
        for part in &self.parts {
            // Most calls find nothing, and readers need not wait for that.
            if !part.read().has_expired(now_ms) {
                continue;
            }
            let mut part = part.write();
            while let Some(message) = part.pop_expired(now_ms, self.is_walked()) {
                self.give_back(&message);
                removed += 1;
            }
        }
        removed
    }

    /// The number of messages, including those expired and not yet removed.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The heap bytes of the messages, without the index over their topics.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Limits what is kept from now on, in all and below some prefixes. What is there stays.
    pub fn limit(&self, count_max: usize, bytes_max: usize, mut limits: PrefixLimits) {
        self.count_max.store(count_max, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
        if self.prefixes.lock().has_limits_of(&limits) {
            return;
        }
        // Nothing comes or goes while it is counted.
        let parts: Vec<_> = self.parts.iter().map(|part| part.write()).collect();
        let mut prefixes = self.prefixes.lock();
        if !limits.is_empty() {
            for part in &parts {
                part.for_each(|message| limits.count(message.topic().as_bytes()));
            }
        }
        self.has_prefixes
            .store(!limits.is_empty(), Ordering::Relaxed);
        *prefixes = limits;
    }

    /// Takes room below the prefix of a new topic, or gives back what was reserved for it.
    fn take_prefixed(&self, message: &Message) -> Result<(), RetainedFull> {
        if !self.has_prefixes.load(Ordering::Relaxed) {
            return Ok(());
        }
        let taken = self.prefixes.lock().take(message.topic().as_bytes());
        taken.map_err(|count_max| {
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
            let count_max = usize::try_from(count_max).unwrap_or(usize::MAX);
            RetainedFull::Count { count_max }
        })
    }

    /// Takes room for one message that replaces `old_bytes`.
    fn reserve(&self, count: usize, new: usize, old_bytes: usize) -> Result<(), RetainedFull> {
        let relaxed = Ordering::Relaxed;
        let (count_max, bytes_max) = (self.count_max.load(relaxed), self.bytes_max.load(relaxed));
        let grow_count = |present: usize| {
            // A replacement needs no room, whatever the limit is now.
            (count == 0 || present < count_max).then_some(present + count)
        };
        if self
            .count
            .fetch_update(relaxed, relaxed, grow_count)
            .is_err()
        {
            return Err(RetainedFull::Count { count_max });
        }
        let grow_bytes = |present: usize| {
            let after = present.saturating_sub(old_bytes).saturating_add(new);
            // Above a lower limit, what makes it less is welcome.
            (after <= bytes_max.max(present)).then_some(after)
        };
        if self
            .bytes
            .fetch_update(relaxed, relaxed, grow_bytes)
            .is_err()
        {
            self.count.fetch_sub(count, relaxed);
            return Err(RetainedFull::Bytes { bytes_max });
        }
        Ok(())
    }

    fn is_walked(&self) -> bool {
        Arc::strong_count(&self.walkers) > 1
    }

    fn give_back(&self, message: &Message) {
        if is_of_broker(message) {
            return;
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(message.bytes(), Ordering::Relaxed);
        if self.has_prefixes.load(Ordering::Relaxed) {
            self.prefixes.lock().give_back(message.topic().as_bytes());
        }
    }

    fn part(&self, first_level: &str) -> usize {
        (self.hasher.hash_one(first_level) >> (u64::BITS - PARTS_BITS)) as usize
    }
}

fn is_of_broker(message: &Message) -> bool {
    message.topic().starts_with("$SYS/")
}

fn first_level(text: &str) -> &str {
    text.split_once('/').map_or(text, |(first, _)| first)
}

const PARTS_BITS: u32 = 4;
const PARTS: usize = 1 << PARTS_BITS;
