//! The retained messages against a map and the protocol's naive matcher, also while walks that
//! were begun earlier go on in steps.

use std::collections::{BTreeMap, BTreeSet};

use tidewire::message::{Header, Message};
use tidewire::prefix_limits::PrefixLimits;
use tidewire::retained::{Retained, Walk};
use tidewire_protocol::topic::{TopicFilter, matches};

use super::Input;

/// Each operation is one byte, followed by its arguments.
pub fn run(data: &[u8]) {
    let mut input = Input::operations(data);
    let mut both = Both::new();
    while both.step(&mut input).is_some() {}
    both.tear_down();
}

/// The retained messages beside their model.
struct Both {
    retained: Retained,
    messages: BTreeMap<String, Message>,
    walks: Vec<Started>,
    now_ms: u64,
}

/// A walk, and what it has to find.
struct Started {
    walk: Walk,
    filter: String,
    /// Topics that match and had a message all the time.
    steady: BTreeSet<String>,
    /// Topics that match and had a message at some time.
    possible: BTreeSet<String>,
    found: Vec<String>,
}

const LEVELS: [&str; 10] = ["a", "b", "c", "", "+", "#", "$S", "é", "ab", "a"];
const LEVELS_MAX: usize = 5;
const COUNT_MAX: usize = 12;
const BYTES_MAX: usize = 1_200;
const WALKS_MAX: usize = 4;

impl Both {
    fn new() -> Self {
        let retained = Retained::new();
        retained.limit(COUNT_MAX, BYTES_MAX, PrefixLimits::default());
        Self {
            retained,
            messages: BTreeMap::new(),
            walks: Vec::new(),
            now_ms: 0,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        match input.u8()? % 10 {
            0..3 => self.set(input)?,
            3 => self.clear(input)?,
            4 => self.clear_present(input)?,
            5 => self.pass_time(input.u8()?),
            6 => self.remove_expired(),
            7 => self.begin(input)?,
            8 => self.go_on(input)?,
            _ => self.compare(&input.text(&LEVELS, LEVELS_MAX)?),
        }
        Some(())
    }

    fn set(&mut self, input: &mut Input<'_>) -> Option<()> {
        let topic = input.text(&LEVELS, LEVELS_MAX)?;
        let (size, expiry) = (input.u8()?, input.u8()?);
        if topic.is_empty() || topic.contains(['+', '#']) {
            return Some(());
        }
        let header = Header {
            retain: true,
            expires_at_ms: (expiry < 64).then(|| self.now_ms + u64::from(expiry)),
            ..Header::default()
        };
        let message = Message::new(&topic, &[], &vec![7; usize::from(size) + 1], header);
        let old = self.messages.get(&topic);
        let has_place = old.is_some() || self.messages.len() < COUNT_MAX;
        let bytes = self.bytes() - old.map_or(0, Message::bytes) + message.bytes();
        let is_kept = self.retained.set(message.clone()).is_ok();
        assert_eq!(is_kept, has_place && bytes <= BYTES_MAX, "{topic:?}");
        if is_kept {
            self.put(topic, message);
        }
        Some(())
    }

    fn put(&mut self, topic: String, message: Message) {
        let is_expired = message.is_expired(self.now_ms);
        for started in &mut self.walks {
            if matches(&started.filter, &topic) {
                started.possible.insert(topic.clone());
            }
            if is_expired {
                started.steady.remove(&topic);
            }
        }
        self.messages.insert(topic, message);
    }

    fn clear(&mut self, input: &mut Input<'_>) -> Option<()> {
        let topic = input.text(&LEVELS, LEVELS_MAX)?;
        if !topic.is_empty() && !topic.contains(['+', '#']) {
            self.clear_topic(&topic);
        }
        Some(())
    }

    fn clear_present(&mut self, input: &mut Input<'_>) -> Option<()> {
        let at = usize::from(input.u8()?) % self.messages.len().max(1);
        if let Some(topic) = self.messages.keys().nth(at).cloned() {
            self.clear_topic(&topic);
        }
        Some(())
    }

    fn clear_topic(&mut self, topic: &str) {
        let empty = Message::new(topic, &[], &[], Header::default());
        assert!(self.retained.set(empty).is_ok());
        self.forget(topic);
    }

    fn forget(&mut self, topic: &str) {
        self.messages.remove(topic);
        for started in &mut self.walks {
            started.steady.remove(topic);
        }
    }

    fn pass_time(&mut self, milliseconds: u8) {
        self.now_ms += u64::from(milliseconds);
        for started in &mut self.walks {
            let messages = &self.messages;
            let is_there = |it: &String| !messages[it].is_expired(self.now_ms);
            started.steady.retain(is_there);
        }
    }

    fn remove_expired(&mut self) {
        let now_ms = self.now_ms;
        let expired = self.messages.iter().filter(|it| it.1.is_expired(now_ms));
        let expired: Vec<String> = expired.map(|(topic, _)| topic.clone()).collect();
        assert_eq!(self.retained.remove_expired(now_ms), expired.len());
        for topic in expired {
            self.forget(&topic);
        }
    }

    fn begin(&mut self, input: &mut Input<'_>) -> Option<()> {
        let filter = input.text(&LEVELS, LEVELS_MAX)?;
        let Ok(parsed) = TopicFilter::parse(&filter, LEVELS_MAX) else {
            return Some(());
        };
        if self.walks.len() < WALKS_MAX {
            let steady = self.expected(&filter);
            self.walks.push(Started {
                walk: self.retained.walk(parsed),
                possible: steady.clone(),
                steady,
                found: Vec::new(),
                filter,
            });
        }
        Some(())
    }

    fn go_on(&mut self, input: &mut Input<'_>) -> Option<()> {
        let (which, visits) = (usize::from(input.u8()?), usize::from(input.u8()?));
        if self.walks.is_empty() {
            return Some(());
        }
        let which = which % self.walks.len();
        if !self.advance(which, visits % 8 + 1) {
            self.walks.swap_remove(which).check();
        }
        Some(())
    }

    /// Goes on with one walk; false once it is done.
    fn advance(&mut self, which: usize, visits_max: usize) -> bool {
        let started = &mut self.walks[which];
        let mut found = Vec::new();
        let goes_on = self
            .retained
            .advance(&mut started.walk, self.now_ms, visits_max, &mut found);
        for message in found {
            let kept = self.messages.get(message.topic());
            assert_eq!(kept, Some(&message), "the latest message of its topic");
            assert!(!message.is_expired(self.now_ms));
            started.found.push(message.topic().to_owned());
        }
        goes_on
    }

    fn compare(&self, filter: &str) {
        let Ok(parsed) = TopicFilter::parse(filter, LEVELS_MAX) else {
            return;
        };
        let mut found = Vec::new();
        self.retained.matching(parsed, self.now_ms, &mut found);
        let topics: BTreeSet<String> = found.iter().map(|it| it.topic().to_owned()).collect();
        assert_eq!(topics.len(), found.len(), "found twice by {filter:?}");
        assert_eq!(topics, self.expected(filter), "found by {filter:?}");
    }

    fn expected(&self, filter: &str) -> BTreeSet<String> {
        let found = self
            .messages
            .iter()
            .filter(|(topic, message)| matches(filter, topic) && !message.is_expired(self.now_ms));
        found.map(|(topic, _)| topic.clone()).collect()
    }

    fn bytes(&self) -> usize {
        self.messages.values().map(Message::bytes).sum()
    }

    /// The walks find what they have to, and nothing is left of what is taken away.
    fn tear_down(&mut self) {
        assert_eq!(self.retained.count(), self.messages.len());
        assert_eq!(self.retained.bytes(), self.bytes());
        for filter in ["#", "+/#", "a/+", "$S/#", "/+"] {
            self.compare(filter);
        }
        while !self.walks.is_empty() {
            while self.advance(0, 3) {}
            self.walks.swap_remove(0).check();
        }
        while let Some(topic) = self.messages.keys().next().cloned() {
            self.clear_topic(&topic);
        }
        assert_eq!((self.retained.count(), self.retained.bytes()), (0, 0));
        self.compare("#");
    }
}

impl Started {
    fn check(self) {
        for topic in &self.steady {
            let times = self.found.iter().filter(|it| *it == topic).count();
            assert_eq!(times, 1, "{topic:?} was there all the time");
        }
        for topic in &self.found {
            assert!(self.possible.contains(topic), "{topic:?} does not match");
        }
    }
}
