//! The way out: which link a record takes, and how much is in flight on all of them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fe2o3_amqp::Sender;
use fe2o3_amqp::session::SessionHandle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Settings;
use super::convert::message_of;
use super::lane::{Lane, Outgoing};
use crate::ports::Ports;
use crate::progress::Progress;
use crate::{Failure, Record, Settled};

/// What all links of the way out share.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) settings: Arc<Settings>,
    pub(super) ports: Arc<Ports>,
    /// Links are attached one after the other.
    pub(super) session: tokio::sync::Mutex<SessionHandle<()>>,
    /// Room for records in flight.
    window: Arc<Semaphore>,
    progress: Mutex<Progress>,
}

impl Way {
    pub(super) fn new(
        settings: &Arc<Settings>,
        ports: &Arc<Ports>,
        session: SessionHandle<()>,
    ) -> Self {
        Self {
            settings: Arc::clone(settings),
            ports: Arc::clone(ports),
            session: tokio::sync::Mutex::new(session),
            window: Arc::new(Semaphore::new(settings.inflight_max)),
            progress: Mutex::new(Progress::begin()),
        }
    }

    /// Whether links have records that are not settled: sent, or waiting for a link or its credit.
    fn is_owed(&self) -> bool {
        self.window.available_permits() < self.settings.inflight_max
    }

    /// Records are settled that links had, or the first are about to be given to them.
    pub(super) fn made_progress(&self) {
        self.progress().made();
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        // Nothing that holds the lock can panic.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// The server settles nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let patience = self.settings.ack_timeout;
        self.progress().check(self.is_owed(), patience)
    }
}

/// The links of the way out, each with a task of its own, by address.
#[derive(Debug)]
pub(super) struct Outward {
    way: Arc<Way>,
    /// Not given to a link yet, in the order of submission.
    waiting: VecDeque<Record>,
    lanes: HashMap<Option<String>, Open>,
    tasks: JoinSet<Result<(), Failure>>,
    /// Counts links: the names of two at the same time have to differ.
    links: u64,
}

/// The near end of a link.
#[derive(Debug)]
struct Open {
    orders: mpsc::Sender<Outgoing>,
    /// Records that the link has and that are not settled.
    load: Arc<AtomicUsize>,
}

impl Outward {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way: Arc::new(way),
            waiting: VecDeque::new(),
            lanes: HashMap::new(),
            tasks: JoinSet::new(),
            links: 0,
        }
    }

    /// Begins with a link that is attached already.
    pub(super) fn attached(&mut self, address: Option<String>, sender: Sender) {
        self.open(address, Some(sender));
    }

    pub(super) fn submit(&mut self, records: Vec<Record>) {
        self.waiting.extend(records);
    }

    /// Gives records to their links, as many as the window has room for.
    pub(super) fn dispatch(&mut self) {
        let settings = Arc::clone(&self.way.settings);
        if !self.waiting.is_empty() && !self.way.is_owed() {
            self.way.made_progress();
        }
        while !self.waiting.is_empty()
            && let Ok(room) = Arc::clone(&self.way.window).try_acquire_owned()
            && let Some(record) = self.waiting.pop_front()
        {
            let sequence = record.sequence;
            let place = settings.dialect.place(&record.topic, &settings);
            let address = place.link.clone();
            if !self.has_lane(&address) {
                self.waiting.push_front(record);
                return;
            }
            match message_of(&record, place, &settings) {
                Ok(message) => self.give(&address, Outgoing::new(sequence, message, room)),
                Err(failure) => self.way.ports.leave(|boxes| {
                    let result = Err(failure);
                    boxes.settled.push(Settled { sequence, result });
                }),
            }
        }
    }

    fn give(&mut self, address: &Option<String>, outgoing: Outgoing) {
        let Some(lane) = self.lanes.get(address) else {
            return;
        };
        lane.load.fetch_add(1, Ordering::Relaxed);
        // There is room for the whole window; a link that has ended ends the connection.
        let _ = lane.orders.try_send(outgoing);
    }

    /// Whether there is a link to this address now; false if all there may be are at work.
    fn has_lane(&mut self, address: &Option<String>) -> bool {
        if self.lanes.contains_key(address) {
            return true;
        }
        if self.lanes.len() >= self.way.settings.links_max {
            let mut lanes = self.lanes.iter();
            let idle = lanes.find(|(_, it)| it.load.load(Ordering::Relaxed) == 0);
            let Some(idle) = idle.map(|(address, _)| address.clone()) else {
                return false;
            };
            // It ends when it has no more orders to wait for.
            self.lanes.remove(&idle);
        }
        self.open(address.clone(), None);
        true
    }

    fn open(&mut self, address: Option<String>, sender: Option<Sender>) {
        self.links += 1;
        let load = Arc::default();
        let (orders, received) = mpsc::channel(self.way.settings.inflight_max.max(1));
        let lane = Lane::new(
            Arc::clone(&self.way),
            address.clone(),
            self.links,
            received,
            Arc::clone(&load),
        );
        self.tasks.spawn(lane.run(sender));
        self.lanes.insert(address, Open { orders, load });
    }

    /// Waits until a link has ended that should not have. Cancel safe.
    pub(super) async fn ended(&mut self) -> Failure {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => return failure,
                Some(Err(_)) => return Failure::retry("a link broke off"),
                None => std::future::pending().await,
            }
        }
    }

    /// # Errors
    /// The server settles nothing.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.way.check()
    }
}
