//! One bridge: from the first connect to the stop of the broker.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::{
    Class, Connected, Connector, Failure, Note, Receipt, Received, Settled, Sink, Source,
};
use tidewire_protocol::codec::{PublishProperties, ReasonCode, UserProperties};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::command::{Change, Command, Wish};
use super::conduct::Conduct;
use super::map::{Map, NotCrossing};
use super::post::{Inbox, Post};
use super::queues::queue_name;
use super::report::{Reporter, State};
use crate::config::Bridge;
use crate::exchange::BridgeId;
use crate::message::{Header, Message};
use crate::queue::{BridgeNote, Lent};
use crate::shard::{Arrived, BridgeReport, BridgeRequest};

/// The task of one bridge.
#[derive(Debug)]
pub(super) struct Runner<C> {
    connector: C,
    map: Map,
    post: Post,
    inbox: Arc<Inbox>,
    reporter: Reporter,
    wish: Wish,
    is_removed: bool,
    /// A connection was made, has ended, and is not to be made again.
    has_ended: bool,
    conduct: Conduct,
    /// Reports for the next connection.
    deferred: Vec<BridgeReport>,
    sys_interval: Duration,
    /// How long to wait for acknowledgements when the broker stops.
    shutdown: Duration,
    /// Lent by the home shard and not settled by the other side.
    unsettled: BTreeMap<u64, Lent>,
    /// Those of them that the sink does not have, ascending.
    unsent: VecDeque<u64>,
    /// After a failure that may pass, nothing is sent until then.
    paused_until: Option<Instant>,
    /// Received, and given to the home shard under these numbers.
    publishing: HashMap<u64, (Receipt, Arrived)>,
    last_number: u64,
    /// Refused by the home shard for lack of room; tried again.
    refused: Vec<u64>,
    settled: Vec<u64>,
    peer: Option<String>,
}

/// Why [`Runner::serve`] came back.
enum End {
    Stop,
    /// There are commands.
    Told,
    Failed(Failure),
}

/// What every bridge works with, whatever it speaks.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) map: Map,
    pub(super) post: Post,
    pub(super) inbox: Arc<Inbox>,
    pub(super) reporter: Reporter,
    pub(super) sys_seconds: u32,
    pub(super) shutdown_seconds: u32,
}

impl<C: Connector> Runner<C> {
    pub(super) fn new(bridge: &Bridge, connector: C, tools: Tools) -> Self {
        let Tools {
            map,
            post,
            inbox,
            reporter,
            sys_seconds,
            shutdown_seconds,
        } = tools;
        Self {
            connector,
            map,
            post,
            inbox,
            reporter,
            wish: Wish::Run,
            is_removed: false,
            has_ended: false,
            conduct: Conduct::of(bridge),
            deferred: Vec::new(),
            sys_interval: Duration::from_secs(u64::from(sys_seconds)),
            shutdown: Duration::from_secs(u64::from(shutdown_seconds)),
            unsettled: BTreeMap::new(),
            unsent: VecDeque::new(),
            paused_until: None,
            publishing: HashMap::new(),
            last_number: 0,
            refused: Vec::new(),
            settled: Vec::new(),
            peer: None,
        }
    }

    /// Connects, serves and connects again until the broker stops or the bridge is removed.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> BridgeId {
        self.report(State::Connecting);
        loop {
            self.obey().await;
            if self.is_removed {
                break;
            }
            if let Some(state) = self.resting() {
                self.report(state);
                if self.rest(None, &mut stop).await {
                    break;
                }
                continue;
            }
            let connected = tokio::select! {
                connected = self.connector.connect() => connected,
                _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            };
            match connected {
                Err(failure) => {
                    if self.fail(failure, &mut stop).await {
                        break;
                    }
                }
                Ok(link) => {
                    if self.serve_to_the_end(link, &mut stop).await {
                        break;
                    }
                }
            }
        }
        self.end().await
    }

    /// True if the broker stops.
    async fn serve_to_the_end(
        &mut self,
        mut link: Connected<C::Sink, C::Source>,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let since = Instant::now();
        self.begin(&mut link);
        match self.serve(&mut link, stop).await {
            End::Stop => {
                self.finish(&mut link).await;
                true
            }
            End::Told => {
                self.finish(&mut link).await;
                self.connector.close().await;
                self.take_leftovers(&mut link).await;
                false
            }
            End::Failed(failure) => {
                self.take_leftovers(&mut link).await;
                self.has_ended = self.conduct.is_once;
                if since.elapsed() >= self.conduct.stable {
                    self.conduct.backoff.reset();
                }
                self.fail(failure, stop).await
            }
        }
    }

    /// Says why, and waits until the next attempt; true if the broker stops.
    async fn fail(&mut self, failure: Failure, stop: &mut watch::Receiver<bool>) -> bool {
        let reason = failure.reason;
        self.report(State::Down { reason });
        let pause = self.conduct.backoff.next();
        self.rest(Some(pause), stop).await
    }

    /// A pause, or a rest until there are commands; true if the broker stops.
    async fn rest(&mut self, pause: Option<Duration>, stop: &mut watch::Receiver<bool>) -> bool {
        let end = pause.map(|it| Instant::now() + it);
        let mut ticks = tokio::time::interval(self.sys_interval.max(TICK));
        let is_idle = pause.is_none() && self.resting() == Some(State::Idle);
        while !self.inbox.has_commands() {
            if is_idle && self.resting().is_none() {
                return false;
            }
            let over = async {
                match end {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // Cancel safe: nothing here keeps anything.
            tokio::select! {
                () = over => return false,
                () = self.inbox.wake.notified() => self.defer_reports(),
                _ = ticks.tick() => self.publish_state(),
                _ = stop.wait_for(|is_stopped| *is_stopped) => return true,
            }
        }
        false
    }

    async fn end(mut self) -> BridgeId {
        self.connector.close().await;
        let id = self.post.id;
        if self.is_removed {
            let waiting = self.reporter.metrics.queue_messages.value();
            let bridge = &*self.reporter.name;
            tracing::warn!(bridge, waiting, "bridge is gone: its queue ends");
            self.post.add(BridgeRequest::Close);
            for message in self.reporter.farewell() {
                self.post.add(BridgeRequest::Notify(message));
            }
            self.post.flush();
        } else {
            self.report(State::Stopped);
        }
        id
    }

    /// The state of a bridge that is to have no connection.
    fn resting(&self) -> Option<State> {
        let waiting = self.reporter.metrics.queue_messages.value();
        match self.wish {
            Wish::Run if self.has_ended => Some(State::Ended),
            Wish::Run if self.conduct.lazy_messages > waiting => Some(State::Idle),
            Wish::Run | Wish::Drain => None,
            Wish::Pause => Some(State::Paused),
            Wish::Drained => Some(State::Drained),
            Wish::Off => Some(State::Off),
        }
    }

    /// Carries out what the bridge was told; there is no connection now.
    async fn obey(&mut self) {
        for command in self.inbox.take_commands() {
            match command {
                Command::Be(wish) => {
                    self.wish = wish;
                    self.has_ended = false;
                }
                Command::Remove => self.is_removed = true,
                Command::Purge => self.purge().await,
                Command::Change(change) => {
                    let Change {
                        bridge,
                        map,
                        settings,
                    } = *change;
                    self.map = map;
                    self.connector.change(settings);
                    self.has_ended = false;
                    self.conduct = Conduct::of(&bridge);
                }
            }
        }
    }

    /// Drops what waits, but for what the other side may have.
    async fn purge(&mut self) {
        self.connector.close().await;
        self.defer_reports();
        let held: HashSet<u64> = self.connector.held().await.into_iter().collect();
        let all = usize::try_from(self.reporter.metrics.queue_messages.value());
        // First: what is settled makes room for more to be lent.
        self.post
            .add(BridgeRequest::Purge(all.unwrap_or(usize::MAX)));
        let unsettled = self.unsettled.keys().copied();
        let dropped: Vec<u64> = unsettled.filter(|it| !held.contains(it)).collect();
        for sequence in &dropped {
            self.unsettled.remove(sequence);
        }
        let count = dropped.len() as u64;
        self.reporter.metrics.dropped_purged_lent.add(count);
        self.settled.extend(dropped);
        self.pass_settled();
        self.post.flush();
    }

    /// Without a connection: what was lent is taken, the rest has to wait.
    fn defer_reports(&mut self) {
        for report in self.inbox.take() {
            match report {
                BridgeReport::Lent(lent) => self.take_lent(lent),
                other => self.deferred.push(other),
            }
        }
    }

    fn take_lent(&mut self, lent: Vec<Lent>) {
        for lent in lent {
            self.unsent.push_back(lent.sequence);
            self.unsettled.insert(lent.sequence, lent);
        }
    }

    /// What the sink does not hold any more is to be sent again, in the order of before.
    fn begin(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        self.reporter.metrics.connects.add(1);
        self.peer.clone_from(&link.peer);
        let held: HashSet<u64> = link.held.drain(..).collect();
        let unsettled = self.unsettled.keys().copied();
        self.unsent = unsettled.filter(|it| !held.contains(it)).collect();
        self.paused_until = None;
        let remote = link.remote.clone();
        let state = match link.warnings.first() {
            _ if self.wish == Wish::Drain => State::Draining { remote },
            None => State::Up { remote },
            Some(_) => State::Degraded {
                remote,
                reason: link.warnings.join("; "),
            },
        };
        self.report(state);
    }

    async fn serve(
        &mut self,
        link: &mut Connected<C::Sink, C::Source>,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reported = Instant::now();
        let mut busy = reported;
        // What came while there was no connection.
        self.take_reports(link);
        loop {
            // Before more is submitted: it may have been queued for other rules.
            if self.inbox.has_commands() {
                return End::Told;
            }
            self.submit(&mut link.sink);
            self.pass_notes(&mut link.sink);
            self.post.flush();
            let has_room = self.publishing.len() < PUBLISHING_MAX;
            // Cancel safe: what is not taken stays where it is.
            tokio::select! {
                () = self.inbox.wake.notified() => self.take_reports(link),
                settled = link.sink.settled() => match settled {
                    Ok(settled) => self.settle(settled),
                    Err(failure) => return End::Failed(failure),
                },
                received = link.source.receive(), if has_room => match received {
                    Ok(received) => self.receive(received, &mut link.source),
                    Err(failure) => return End::Failed(failure),
                },
                now = ticks.tick() => {
                    self.publish_again();
                    self.look_for_troubles(link);
                    if !self.is_drained() || self.conduct.idle.is_none() {
                        busy = now;
                    } else if self.conduct.idle.is_some_and(|idle| now - busy >= idle) {
                        return End::Told;
                    }
                    if self.wish == Wish::Drain && self.is_drained() {
                        self.wish = Wish::Drained;
                        return End::Told;
                    }
                    if !self.sys_interval.is_zero() && now - reported >= self.sys_interval {
                        reported = now;
                        self.publish_state();
                    }
                }
                _ = stop.wait_for(|is_stopped| *is_stopped) => return End::Stop,
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.unsettled.is_empty() && self.reporter.metrics.queue_messages.value() == 0
    }

    /// Waits for the acknowledgements of both sides, so that the next process repeats nothing.
    async fn finish(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let end = sleep(self.shutdown);
        tokio::pin!(end);
        while self.unsettled.len() > self.unsent.len() || !self.publishing.is_empty() {
            // Cancel safe: what is not taken stays where it is.
            tokio::select! {
                () = self.inbox.wake.notified() => self.take_reports(link),
                settled = link.sink.settled() => match settled {
                    Ok(settled) => self.settle(settled),
                    Err(_) => break,
                },
                () = &mut end => break,
            }
            self.pass_notes(&mut link.sink);
            self.post.flush();
        }
    }

    /// What the connection has left when it ended.
    async fn take_leftovers(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        while let Ok(settled) = link.sink.settled().await {
            self.pass_notes(&mut link.sink);
            self.settle(settled);
        }
        while let Ok(received) = link.source.receive().await {
            self.receive(received, &mut link.source);
        }
        self.post.flush();
    }

    fn take_reports(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let mut accepted = Vec::new();
        let deferred = std::mem::take(&mut self.deferred);
        for report in deferred.into_iter().chain(self.inbox.take()) {
            match report {
                BridgeReport::Lent(lent) => self.take_lent(lent),
                BridgeReport::Kept(count) => link.sink.keep(count),
                BridgeReport::Published(reasons) => {
                    for (number, reason) in reasons {
                        self.published(number, reason, &mut accepted);
                    }
                }
            }
        }
        if !accepted.is_empty() {
            link.source.accept(accepted);
        }
    }

    /// What the home shard has to keep before the sink goes on.
    fn pass_notes(&mut self, sink: &mut C::Sink) {
        let notes = sink.take_notes();
        if notes.is_empty() {
            return;
        }
        let notes: Vec<BridgeNote> = notes.into_iter().map(|it| self.own_note(it)).collect();
        self.post.add(BridgeRequest::Keep(notes));
    }

    fn own_note(&mut self, note: Note) -> BridgeNote {
        match note {
            Note::Begin { session } => {
                // What comes from the session before is not known in this one.
                let arrived = self.publishing.values_mut().map(|(_, arrived)| arrived);
                arrived.for_each(|it| it.packet_id = None);
                let name = queue_name(&self.reporter.name, Some(&session));
                BridgeNote::Begin { name }
            }
            Note::Send {
                packet_id,
                sequence,
            } => BridgeNote::Send {
                packet_id,
                sequence,
            },
            Note::Release {
                packet_id,
                sequence,
            } => BridgeNote::Release {
                packet_id,
                sequence,
            },
            Note::Complete(packet_id) => BridgeNote::Complete(packet_id),
            Note::Forget(packet_id) => BridgeNote::Forget(packet_id),
        }
    }

    fn published(&mut self, number: u64, reason: ReasonCode, accepted: &mut Vec<Receipt>) {
        if reason == ReasonCode::QuotaExceeded {
            // The other side keeps it until we have room: no acknowledgement.
            self.refused.push(number);
        } else if let Some((receipt, _)) = self.publishing.remove(&number) {
            accepted.push(receipt);
        }
    }

    fn publish_again(&mut self) {
        let mut numbers = std::mem::take(&mut self.refused);
        numbers.sort_unstable();
        let messages: Vec<Arrived> = numbers
            .into_iter()
            .filter_map(|number| Some(self.publishing.get(&number)?.1.clone()))
            .collect();
        if !messages.is_empty() {
            self.post.add(BridgeRequest::Publish(messages));
        }
    }

    /// Gives the sink what it may have now.
    fn submit(&mut self, sink: &mut C::Sink) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            return;
        }
        self.paused_until = None;
        let mut records = Vec::new();
        let now_ms = self.post.now_ms();
        let allowance = self.conduct.rate.allowance(now);
        while records.len() < allowance
            && let Some(sequence) = self.unsent.pop_front()
        {
            let Some(lent) = self.unsettled.get(&sequence) else {
                continue;
            };
            match self.map.outward(lent, self.peer.as_deref(), now_ms) {
                Ok(record) => records.push(record),
                Err(why) => {
                    self.count(&why);
                    self.unsettled.remove(&sequence);
                    self.settled.push(sequence);
                }
            }
        }
        self.conduct.rate.spend(records.len());
        if !records.is_empty() {
            sink.submit(records);
        }
        self.pass_settled();
    }

    fn settle(&mut self, settled: Vec<Settled>) {
        let mut again = Vec::new();
        for Settled { sequence, result } in settled {
            match result {
                Ok(()) => self.reporter.metrics.sent.add(1),
                Err(failure) if failure.class == Class::Poison => {
                    self.bury(sequence, &failure);
                }
                Err(failure) => {
                    self.reporter.metrics.retried.add(1);
                    tracing::debug!(bridge = self.reporter.name, %failure, "to be sent again");
                    again.push(sequence);
                    continue;
                }
            }
            self.unsettled.remove(&sequence);
            self.settled.push(sequence);
        }
        if !again.is_empty() {
            self.unsent.extend(again);
            self.unsent.make_contiguous().sort_unstable();
            self.paused_until = Some(Instant::now() + self.conduct.backoff.next());
        }
        self.pass_settled();
    }

    fn pass_settled(&mut self) {
        if !self.settled.is_empty() {
            let settled = std::mem::take(&mut self.settled);
            self.post.add(BridgeRequest::Settled(settled));
        }
    }

    /// A message that the other side will never take.
    fn bury(&mut self, sequence: u64, failure: &Failure) {
        let Some(Lent { message, .. }) = self.unsettled.get(&sequence) else {
            return;
        };
        self.reporter.metrics.dropped_poison.add(1);
        let bridge = &*self.reporter.name;
        let topic = message.topic();
        tracing::warn!(bridge, topic, reason = failure.reason, "message not taken");
        let Some(dead_letter) = &self.conduct.dead_letter else {
            return;
        };
        let pairs = [
            ("tidewire-bridge", bridge),
            ("tidewire-topic", topic),
            ("tidewire-error", &failure.reason),
        ];
        let mut forwarded = message.forwarded().to_vec();
        let properties = PublishProperties {
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        properties.encode_forwarded(&mut forwarded);
        let header = Header {
            qos: message.qos(),
            // It is not to come back to this bridge.
            publisher: self.map.publisher(),
            ..Header::default()
        };
        let letter = Message::new(dead_letter, &forwarded, message.payload(), header);
        self.post.add(BridgeRequest::Notify(letter));
    }

    fn receive(&mut self, received: Vec<Received>, source: &mut C::Source) {
        let now_ms = self.post.now_ms();
        let mut messages = Vec::new();
        let mut unwanted = Vec::new();
        for Received { record, receipt } in received {
            match self.map.inward(record, self.peer.as_deref(), now_ms) {
                Ok(message) => {
                    self.last_number += 1;
                    let arrived = Arrived {
                        number: self.last_number,
                        message,
                        packet_id: receipt.packet_id(),
                    };
                    messages.push(arrived.clone());
                    self.publishing.insert(self.last_number, (receipt, arrived));
                    self.reporter.metrics.received.add(1);
                }
                Err(why) => {
                    self.count(&why);
                    unwanted.push(receipt);
                }
            }
        }
        if !unwanted.is_empty() {
            source.accept(unwanted);
        }
        if !messages.is_empty() {
            self.post.add(BridgeRequest::Publish(messages));
        }
    }

    fn count(&self, why: &NotCrossing) {
        let metrics = &self.reporter.metrics;
        match why {
            NotCrossing::Unwanted => {}
            NotCrossing::Loop => metrics.dropped_loop.add(1),
            NotCrossing::Invalid(reason) => {
                metrics.dropped_mapping.add(1);
                let bridge = &*self.reporter.name;
                tracing::debug!(bridge, reason, "message does not cross");
            }
        }
    }

    fn look_for_troubles(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let troubles = link.source.troubles();
        if link.source.has_recovered() && troubles.is_empty() {
            self.report(State::Up {
                remote: link.remote.clone(),
            });
        }
        if !troubles.is_empty() {
            self.report(State::Degraded {
                remote: link.remote.clone(),
                reason: troubles.join("; "),
            });
        }
    }

    fn report(&mut self, state: State) {
        let now_ms = self.post.now_ms();
        self.reporter.change(state, now_ms);
        self.publish_state();
    }

    fn publish_state(&mut self) {
        for message in self.reporter.messages() {
            self.post.add(BridgeRequest::Notify(message));
        }
        self.post.flush();
    }
}

/// How often retries, rate and state are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Received messages on their way to the home shard; QoS 0 has no window of its own.
const PUBLISHING_MAX: usize = 8_192;
