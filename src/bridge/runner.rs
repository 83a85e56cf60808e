//! One bridge: from the first connect to the stop of the broker.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::{
    Class, Connected, Connector, Failure, Receipt, Received, Settled, Sink, Source,
};
use tidewire_protocol::codec::{PublishProperties, ReasonCode, UserProperties};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::map::{Map, NotCrossing};
use super::post::{Inbox, Post};
use super::report::{Reporter, State};
use crate::config::Bridge;
use crate::message::{Header, Message};
use crate::queue::Lent;
use crate::shard::{BridgeReport, BridgeRequest};

/// The task of one bridge.
#[derive(Debug)]
pub(super) struct Runner<C> {
    connector: C,
    map: Map,
    post: Post,
    inbox: Arc<Inbox>,
    reporter: Reporter,
    backoff: Backoff,
    stable: Duration,
    sys_interval: Duration,
    /// How long to wait for acknowledgements when the broker stops.
    shutdown: Duration,
    dead_letter: Option<String>,
    rate: Rate,
    /// Lent by the home shard and not settled by the other side.
    unsettled: BTreeMap<u64, Message>,
    /// Those of them that the sink does not have, ascending.
    unsent: VecDeque<u64>,
    /// After a failure that may pass, nothing is sent until then.
    paused_until: Option<Instant>,
    /// Received, and given to the home shard under these numbers.
    publishing: HashMap<u64, (Receipt, Message)>,
    last_number: u64,
    /// Refused by the home shard for lack of room; tried again.
    refused: Vec<u64>,
    settled: Vec<u64>,
    peer: Option<String>,
}

/// Messages that may be sent now.
#[derive(Debug)]
struct Rate {
    per_second: u32,
    allowance: f64,
    last: Instant,
}

/// Why [`Runner::serve`] came back.
enum End {
    Stop,
    Failed(Failure),
}

impl<C: Connector> Runner<C> {
    pub(super) fn new(
        bridge: &Bridge,
        connector: C,
        map: Map,
        post: Post,
        inbox: Arc<Inbox>,
        reporter: Reporter,
    ) -> Self {
        Self {
            connector,
            map,
            post,
            inbox,
            reporter,
            backoff: Backoff::new(bridge.restart_base_ms, bridge.restart_max_ms),
            stable: Duration::from_secs(bridge.restart_stable_seconds),
            sys_interval: Duration::ZERO,
            shutdown: Duration::ZERO,
            dead_letter: bridge.dead_letter.clone(),
            rate: Rate::new(bridge.messages_per_second_max),
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

    pub(super) fn with_sys_interval(mut self, seconds: u32) -> Self {
        self.sys_interval = Duration::from_secs(u64::from(seconds));
        self
    }

    pub(super) fn with_shutdown(mut self, seconds: u32) -> Self {
        self.shutdown = Duration::from_secs(u64::from(seconds));
        self
    }

    /// Connects, serves and connects again until the broker stops.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        self.report(State::Connecting);
        loop {
            let connected = tokio::select! {
                connected = self.connector.connect() => connected,
                _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            };
            let failure = match connected {
                Err(failure) => failure,
                Ok(mut link) => {
                    let since = Instant::now();
                    self.begin(&mut link);
                    let end = self.serve(&mut link, &mut stop).await;
                    match end {
                        End::Stop => {
                            self.finish(&mut link).await;
                            break;
                        }
                        End::Failed(failure) => {
                            self.take_leftovers(&mut link).await;
                            if since.elapsed() >= self.stable {
                                self.backoff.reset();
                            }
                            failure
                        }
                    }
                }
            };
            let reason = failure.reason;
            self.report(State::Down { reason });
            if self.rest(&mut stop).await {
                break;
            }
        }
        self.connector.close().await;
        self.report(State::Stopped);
    }

    /// The pause before the next connect; true if the broker stops.
    async fn rest(&mut self, stop: &mut watch::Receiver<bool>) -> bool {
        let pause = sleep(self.backoff.next());
        tokio::select! {
            () = pause => false,
            _ = stop.wait_for(|is_stopped| *is_stopped) => true,
        }
    }

    /// What the sink does not hold any more is to be sent again, in the order of before.
    fn begin(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        self.reporter.metrics.connects.add(1);
        self.peer.clone_from(&link.peer);
        let held: std::collections::HashSet<u64> = link.held.drain(..).collect();
        let unsettled = self.unsettled.keys().copied();
        self.unsent = unsettled.filter(|it| !held.contains(it)).collect();
        self.paused_until = None;
        let remote = link.remote.clone();
        let state = match link.warnings.first() {
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
        loop {
            self.submit(&mut link.sink);
            self.post.flush();
            let has_room = self.publishing.len() < PUBLISHING_MAX;
            // Cancel safe: what is not taken stays where it is.
            tokio::select! {
                () = self.inbox.wake.notified() => self.take_reports(&mut link.source),
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
                    if !self.sys_interval.is_zero() && now - reported >= self.sys_interval {
                        reported = now;
                        self.publish_state();
                    }
                }
                _ = stop.wait_for(|is_stopped| *is_stopped) => return End::Stop,
            }
        }
    }

    /// Waits for the acknowledgements of both sides, so that the next process repeats nothing.
    async fn finish(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let end = sleep(self.shutdown);
        tokio::pin!(end);
        while self.unsettled.len() > self.unsent.len() || !self.publishing.is_empty() {
            // Cancel safe: what is not taken stays where it is.
            tokio::select! {
                () = self.inbox.wake.notified() => self.take_reports(&mut link.source),
                settled = link.sink.settled() => match settled {
                    Ok(settled) => self.settle(settled),
                    Err(_) => break,
                },
                () = &mut end => break,
            }
            self.post.flush();
        }
    }

    /// What the connection has left when it ended.
    async fn take_leftovers(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        while let Ok(settled) = link.sink.settled().await {
            self.settle(settled);
        }
        while let Ok(received) = link.source.receive().await {
            self.receive(received, &mut link.source);
        }
        self.post.flush();
    }

    fn take_reports(&mut self, source: &mut C::Source) {
        let mut accepted = Vec::new();
        for report in self.inbox.take() {
            match report {
                BridgeReport::Lent(lent) => {
                    for Lent { sequence, message } in lent {
                        self.unsettled.insert(sequence, message);
                        self.unsent.push_back(sequence);
                    }
                }
                BridgeReport::Published(reasons) => {
                    for (number, reason) in reasons {
                        self.published(number, reason, &mut accepted);
                    }
                }
            }
        }
        if !accepted.is_empty() {
            source.accept(accepted);
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
        let messages: Vec<(u64, Message)> = numbers
            .into_iter()
            .filter_map(|number| Some((number, self.publishing.get(&number)?.1.clone())))
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
        let allowance = self.rate.allowance(now);
        while records.len() < allowance
            && let Some(sequence) = self.unsent.pop_front()
        {
            let Some(message) = self.unsettled.get(&sequence) else {
                continue;
            };
            match self
                .map
                .outward(message, sequence, self.peer.as_deref(), now_ms)
            {
                Ok(record) => records.push(record),
                Err(why) => {
                    self.count(&why);
                    self.unsettled.remove(&sequence);
                    self.settled.push(sequence);
                }
            }
        }
        self.rate.spend(records.len());
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
            self.paused_until = Some(Instant::now() + self.backoff.next());
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
        let Some(message) = self.unsettled.get(&sequence) else {
            return;
        };
        self.reporter.metrics.dropped_poison.add(1);
        let bridge = &*self.reporter.name;
        let topic = message.topic();
        tracing::warn!(bridge, topic, reason = failure.reason, "message not taken");
        let Some(dead_letter) = &self.dead_letter else {
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
                    self.publishing
                        .insert(self.last_number, (receipt, message.clone()));
                    messages.push((self.last_number, message));
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

impl Rate {
    fn new(per_second: u32) -> Self {
        Self {
            per_second,
            allowance: 1.0,
            last: Instant::now(),
        }
    }

    /// How many messages may go now; at most what a second allows.
    fn allowance(&mut self, now: Instant) -> usize {
        if self.per_second == 0 {
            return usize::MAX;
        }
        let per_second = f64::from(self.per_second);
        let passed = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        self.allowance = (self.allowance + passed * per_second).min(per_second);
        self.allowance as usize
    }

    fn spend(&mut self, count: usize) {
        if self.per_second > 0 {
            self.allowance -= count as f64;
        }
    }
}

/// How often retries, rate and state are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Received messages on their way to the home shard; QoS 0 has no window of its own.
const PUBLISHING_MAX: usize = 8_192;
