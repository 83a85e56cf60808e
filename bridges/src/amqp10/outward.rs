//! The way out: which link a record takes, how much is in flight on all of them, and what the
//! server says of it. Neither reads nor waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Settings;
use super::convert::write;
use super::deliveries::{Deliveries, Sent};
use super::dialect::Place;
use super::encoder::Encoder;
use super::harvest::Harvest;
use super::lane::{Lane, Phase};
use super::outcome::{end_of, is_about_the_address, result_of};
use super::performative::{Attach, Detach, Disposition, Flow};
use super::session::Session;
use super::transfer::{Transfer, Unfinished, write_transfer};
use super::wire::Wire;
use crate::progress::Progress;
use crate::{Failure, Record};

/// The links of the way out.
#[derive(Debug)]
pub(super) struct Outward {
    settings: Arc<Settings>,
    pub(super) session: Session,
    /// Not given to a link yet, in the order of submission.
    waiting: VecDeque<Record>,
    /// By our handle.
    lanes: Vec<Option<Lane>>,
    by_address: HashMap<Option<String>, u32>,
    /// A link was granted, whatever became of it.
    has_link: bool,
    /// Counts links: the names of two at the same time have to differ.
    links: u64,
    /// Records that links have and that are not settled.
    in_flight: usize,
    deliveries: Deliveries,
    unfinished: Option<Unfinished>,
    progress: Progress,
}

impl Outward {
    pub(super) fn new(settings: &Arc<Settings>, session: Session) -> Self {
        Self {
            settings: Arc::clone(settings),
            session,
            waiting: VecDeque::new(),
            lanes: Vec::new(),
            by_address: HashMap::new(),
            has_link: false,
            links: 0,
            in_flight: 0,
            deliveries: Deliveries::default(),
            unfinished: None,
            progress: Progress::begin(),
        }
    }

    /// The session has begun: attaches the one link that all records take, if they do.
    pub(super) fn begun(&mut self, wire: &mut Wire) {
        if let Some(address) = self.settings.dialect.only_link(&self.settings) {
            self.open(address, wire);
        }
    }

    /// Whether the links are there that are needed from the beginning.
    pub(super) fn is_ready(&self) -> bool {
        self.has_link || self.settings.dialect.only_link(&self.settings).is_none()
    }

    pub(super) fn submit(&mut self, records: Vec<Record>) {
        self.waiting.extend(records);
    }

    /// Gives records to their links, as many as the window has room for, and sends what may go.
    pub(super) fn dispatch(&mut self, wire: &mut Wire, harvest: &mut Harvest) {
        if !self.waiting.is_empty() && !self.is_owed() {
            self.progress.made();
        }
        while self.in_flight < self.settings.inflight_max
            && let Some(record) = self.waiting.pop_front()
        {
            let place = self.settings.dialect.place(&record.topic, &self.settings);
            let Some(lane) = self.lane(&place.link, wire) else {
                self.waiting.push_front(record);
                break;
            };
            lane.queue.push_back((record, place));
            self.in_flight += 1;
        }
        self.send(wire, harvest);
    }

    /// Whether another delivery may begin.
    fn may_send(&self, wire: &Wire) -> bool {
        // One that is never settled keeps the numbers of all that follow it.
        let span_max = self.settings.inflight_max.saturating_mul(SPAN_OF_WINDOWS);
        self.unfinished.is_none() && !wire.is_crowded() && self.deliveries.span() < span_max
    }

    /// Sends what waits at links, as far as they and the session go.
    fn send(&mut self, wire: &mut Wire, harvest: &mut Harvest) {
        self.finish(wire);
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in lanes.iter_mut().flatten() {
            while !lane.queue.is_empty() {
                if !lane.may_send() || !self.session.may_send() {
                    lane.starves();
                    break;
                }
                if !self.may_send(wire) {
                    break;
                }
                harvest.has_recovered |= lane.is_fed();
                if let Some((record, place)) = lane.queue.pop_front() {
                    self.send_one(lane, &record, &place, wire, harvest);
                }
            }
        }
        for state in lanes.iter_mut().flatten().filter_map(Lane::drain) {
            self.session.flow(wire, Some(state));
        }
        self.lanes = lanes;
    }

    fn send_one(
        &mut self,
        lane: &mut Lane,
        record: &Record,
        place: &Place,
        wire: &mut Wire,
        harvest: &mut Harvest,
    ) {
        let (handle, delivery_id) = (lane.handle, self.deliveries.next_id());
        let transfer = Transfer {
            handle,
            delivery_id: Some(delivery_id),
            has_more: false,
        };
        let frame = wire.begin_frame(self.session.channel());
        write_transfer(&mut Encoder(wire.out()), transfer);
        let begin = wire.out().len();
        let written = write(record, place, &self.settings, &mut Encoder(wire.out()));
        let size = wire.out().len() - begin;
        let most = lane.message_bytes_max;
        let poison = match written {
            Err(failure) => Some(failure),
            Ok(()) if most > 0 && size as u64 > most => Some(Failure::poison(format!(
                "a message of {size} bytes: the link takes at most {most}"
            ))),
            Ok(()) => None,
        };
        if let Some(failure) = poison {
            wire.out().truncate(frame);
            self.settled(record.sequence, Err(failure), harvest);
            return;
        }
        lane.sent();
        let sequence = record.sequence;
        self.deliveries.push(Sent { sequence, handle });
        if wire.out().len() - frame <= wire.frame_bytes_max {
            wire.end_frame(frame);
            self.session.sent();
            return;
        }
        let message = wire.out().split_off(begin);
        wire.out().truncate(frame);
        self.unfinished = Some(Unfinished::new(handle, delivery_id, message));
        self.finish(wire);
    }

    /// Sends more of a message that is larger than a frame.
    fn finish(&mut self, wire: &mut Wire) {
        if let Some(unfinished) = &mut self.unfinished
            && unfinished.go_on(&mut self.session, wire)
        {
            self.unfinished = None;
        }
    }

    fn settled(&mut self, sequence: u64, result: Result<(), Failure>, harvest: &mut Harvest) {
        self.in_flight -= 1;
        self.progress.made();
        harvest.settle(sequence, result);
    }

    /// The link to this address, if there is one now; none if all there may be are at work.
    fn lane(&mut self, address: &Option<String>, wire: &mut Wire) -> Option<&mut Lane> {
        let handle = match self.by_address.get(address) {
            Some(handle) => *handle,
            None => {
                if self.by_address.len() >= self.settings.links_max {
                    self.leave_idle(wire)?;
                }
                // Also those that are left and whose leave the server has not answered.
                let open = self.lanes.iter().flatten().count();
                if open >= self.session.links_max.min(2 * self.settings.links_max) {
                    return None;
                }
                self.open(address.clone(), wire)
            }
        };
        self.lane_of(handle)
    }

    fn lane_of(&mut self, handle: u32) -> Option<&mut Lane> {
        let place = usize::try_from(handle).ok()?;
        self.lanes.get_mut(place)?.as_mut()
    }

    /// Leaves a link that has nothing to do, if there is one.
    fn leave_idle(&mut self, wire: &mut Wire) -> Option<()> {
        let busy = self.unfinished.as_ref();
        let mut lanes = self.lanes.iter_mut().flatten();
        let idle = lanes.find(|it| {
            let is_in_parts = busy.is_some_and(|busy| busy.is_of(it.handle));
            it.phase == Phase::Attached && it.is_idle() && !is_in_parts
        })?;
        idle.phase = Phase::Leaving;
        self.session.close(wire, idle.handle);
        self.by_address.remove(&idle.address);
        Some(())
    }

    /// Attaches a link; answers its handle, which is the lowest that is free.
    fn open(&mut self, address: Option<String>, wire: &mut Wire) -> u32 {
        let free = self.lanes.iter().position(Option::is_none);
        let place = free.unwrap_or(self.lanes.len());
        // There are few links.
        let handle = u32::try_from(place).unwrap_or(u32::MAX);
        self.links += 1;
        let (settings, number) = (&self.settings, self.links);
        let lane = Lane::attach(
            address.clone(),
            handle,
            number,
            settings,
            &self.session,
            wire,
        );
        match self.lanes.get_mut(place) {
            Some(free) => *free = Some(lane),
            None => self.lanes.push(Some(lane)),
        }
        self.by_address.insert(address, handle);
        handle
    }

    /// The server has answered a link.
    pub(super) fn attached(&mut self, answer: &Attach<'_>) {
        // Nobody else attaches links to us; one that does gets no credit.
        let mut lanes = self.lanes.iter_mut().flatten();
        if let Some(lane) = lanes.find(|it| it.is_named(answer.name)) {
            lane.attached(answer);
            self.has_link |= lane.phase == Phase::Attached;
        }
    }

    /// The server says how much it takes.
    pub(super) fn learn(&mut self, flow: &Flow, wire: &mut Wire, harvest: &mut Harvest) {
        self.session.learn(flow);
        let Some(link) = &flow.link else {
            if flow.wants_answer {
                self.session.flow(wire, None);
            }
            return;
        };
        let mut lanes = self.lanes.iter_mut().flatten();
        let Some(lane) = lanes.find(|it| it.is(link.handle)) else {
            return;
        };
        lane.learn(link);
        // Of one that we have left the server would not know what is spoken of.
        if flow.wants_answer && lane.phase == Phase::Attached {
            let state = lane.state();
            self.session.flow(wire, Some(state));
        }
        self.send(wire, harvest);
    }

    /// The server says what became of deliveries.
    pub(super) fn decided(&mut self, it: &Disposition, wire: &mut Wire, harvest: &mut Harvest) {
        if !it.is_receivers || (it.outcome.is_none() && !it.is_settled) {
            return;
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        deliveries.take(it.first, it.last, |delivery| {
            if let Some(lane) = self.lane_of(delivery.handle) {
                lane.unsettled = lane.unsettled.saturating_sub(1);
                lane.has_delivered = true;
            }
            let result = match &it.outcome {
                Some(outcome) => result_of(outcome, self.settings.dialect),
                None => Err(Failure::retry("settled by the server without an outcome")),
            };
            self.settled(delivery.sequence, result, harvest);
        });
        self.deliveries = deliveries;
        if !it.is_settled {
            // It waits for us to forget as well (section 2.6.12).
            self.session.forget(wire, (it.first, it.last));
        }
    }

    /// The server has ended a link.
    ///
    /// # Errors
    /// There are records in flight, which have to be sent again in their order; nobody is let in.
    pub(super) fn detached(
        &mut self,
        it: &Detach,
        wire: &mut Wire,
        harvest: &mut Harvest,
    ) -> Result<(), Failure> {
        let is_it = |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.is(it.handle));
        let mut lanes = self.lanes.iter_mut();
        let Some(mut lane) = lanes.find(|lane| is_it(lane)).and_then(Option::take) else {
            return Ok(());
        };
        if lane.phase == Phase::Leaving {
            return Ok(());
        }
        self.session.agree(wire, lane.handle, it);
        self.by_address.remove(&lane.address);
        harvest.has_recovered |= lane.is_fed();
        let failure = end_of("link", it.error.as_ref());
        let busy = self.unfinished.as_ref();
        let is_in_use = lane.unsettled > 0 || busy.is_some_and(|it| it.is_of(lane.handle));
        let is_one_of_many = self.settings.dialect.only_link(&self.settings).is_none();
        match lane.phase {
            // One address of many is wrong: only what goes there is concerned.
            Phase::Attaching if is_one_of_many && is_about_the_address(&failure) => {
                for (record, _) in lane.queue.drain(..) {
                    let poison = Failure::poison(&failure.reason);
                    self.settled(record.sequence, Err(poison), harvest);
                }
                Ok(())
            }
            Phase::Attaching => Err(failure),
            _ if is_in_use => Err(failure),
            _ if lane.queue.is_empty() => Ok(()),
            // Whoever ends every link at once is asked again after a pause only.
            _ if !lane.has_delivered => Err(failure),
            _ => {
                let handle = self.open(lane.address.take(), wire);
                if let Some(again) = self.lane_of(handle) {
                    again.queue = lane.queue;
                }
                Ok(())
            }
        }
    }

    /// Whether links have records that are not settled, or one that waits for a link to end.
    fn is_owed(&self) -> bool {
        let leaving = |it: &Lane| it.phase == Phase::Leaving;
        let waits = || !self.waiting.is_empty() && self.lanes.iter().flatten().any(leaving);
        self.in_flight > 0 || waits()
    }

    /// # Errors
    /// The server settles nothing.
    pub(super) fn check(&mut self, harvest: &mut Harvest) -> Result<(), Failure> {
        for lane in self.lanes.iter_mut().flatten() {
            lane.check(self.settings.ack_timeout)?;
            harvest.troubles.extend(lane.complaint());
        }
        let is_owed = self.is_owed();
        self.progress.check(is_owed, self.settings.ack_timeout)
    }
}

/// How far numbers of deliveries may run ahead of the first that is not settled.
const SPAN_OF_WINDOWS: usize = 16;
