//! One bridge: from the first connect to the stop of the broker.

mod traffic;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidewire_bridges::{Connected, Connector, Failure, Settings, Sink, Source};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::arrivals::Arrivals;
use super::command::{Change, Command, Wish};
use super::conduct::Conduct;
use super::loan::Loan;
use super::map::Map;
use super::naming::Naming;
use super::post::{Inbox, Post};
use super::prepare::run_as;
use super::queues::queue_name;
use super::report::{Reporter, State};
use crate::config::{Bridge, BridgeKind};
use crate::exchange::BridgeId;
use crate::queue::BridgeNote;
use crate::shard::{BridgeReport, BridgeRequest};

/// The task of one bridge.
#[derive(Debug)]
pub(super) struct Runner<C> {
    connector: C,
    kind: BridgeKind,
    /// What the bridge is to be instead of this kind.
    becomes: Option<Box<Settings>>,
    map: Map,
    naming: Naming,
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
    loan: Loan,
    /// After a failure that may pass, nothing is sent until then.
    paused_until: Option<Instant>,
    arrivals: Arrivals,
    /// Notes whose keeping has not been reported, and those of them that are of an earlier kind.
    unkept: usize,
    stale: usize,
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
    pub(super) naming: Naming,
    pub(super) post: Post,
    pub(super) inbox: Arc<Inbox>,
    pub(super) reporter: Reporter,
    pub(super) sys_seconds: u32,
    pub(super) shutdown_seconds: u32,
}

impl Runner<()> {
    /// A bridge without a connector.
    pub(super) fn new(bridge: &Bridge, tools: Tools) -> Self {
        let Tools {
            map,
            naming,
            post,
            inbox,
            reporter,
            sys_seconds,
            shutdown_seconds,
        } = tools;
        Self {
            connector: (),
            kind: bridge.kind,
            becomes: None,
            map,
            naming,
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
            loan: Loan::default(),
            paused_until: None,
            arrivals: Arrivals::default(),
            unkept: 0,
            stale: 0,
            peer: None,
        }
    }
}

impl<C> Runner<C> {
    /// The same bridge with a connector of another kind, which knows nothing of the session before:
    /// what was in flight goes again, and what came is acknowledged no more.
    pub(super) fn with<D: Connector>(self, connector: D) -> Runner<D> {
        Runner {
            connector,
            kind: self.kind,
            becomes: None,
            map: self.map,
            naming: self.naming,
            post: self.post,
            inbox: self.inbox,
            reporter: self.reporter,
            wish: self.wish,
            is_removed: self.is_removed,
            has_ended: self.has_ended,
            conduct: self.conduct,
            deferred: self.deferred,
            sys_interval: self.sys_interval,
            shutdown: self.shutdown,
            loan: self.loan,
            paused_until: None,
            arrivals: self.arrivals.without_receipts(),
            unkept: self.unkept,
            stale: self.unkept,
            peer: None,
        }
    }
}

impl<C: Connector> Runner<C> {
    /// Connects, serves and connects again until the broker stops or the bridge is removed.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> BridgeId {
        self.report(State::Connecting);
        loop {
            self.obey().await;
            if self.is_removed {
                break;
            }
            if let Some(settings) = self.becomes.take() {
                self.end_session().await;
                return run_as(*settings, self, None, stop).await;
            }
            if let Some(state) = self.resting() {
                self.report(state);
                if self.rest(None, &mut stop).await {
                    break;
                }
                continue;
            }
            if RESTING.contains(&self.reporter.status.word()) {
                self.report(State::Connecting);
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
            match waiting {
                0 => tracing::info!(bridge, "bridge is gone; nothing waited"),
                _ => tracing::warn!(bridge, waiting, "bridge is gone: its queue ends"),
            }
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
                    if self.kind == bridge.kind && self.becomes.is_none() {
                        self.connector.change(settings);
                    } else {
                        self.kind = bridge.kind;
                        self.becomes = Some(Box::new(settings));
                    }
                    self.has_ended = false;
                    self.conduct = Conduct::of(&bridge);
                }
            }
        }
    }

    /// Another kind follows, for which packet identifiers mean nothing.
    async fn end_session(&mut self) {
        self.connector.close().await;
        let name = queue_name(&self.reporter.name, None);
        self.keep(vec![BridgeNote::Begin { name }]);
        self.post.flush();
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
        let count = self.loan.purge(&held) as u64;
        self.reporter.metrics.dropped_purged_lent.add(count);
        self.pass_settled();
        self.post.flush();
    }

    /// Without a connection: what was lent is taken, the rest has to wait.
    fn defer_reports(&mut self) {
        for report in self.inbox.take() {
            match report {
                BridgeReport::Lent(lent) => self.loan.take(lent),
                other => self.deferred.push(other),
            }
        }
    }

    /// What the sink does not hold any more is to be sent again, in the order of before.
    fn begin(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        self.reporter.metrics.connects.add(1);
        self.peer.clone_from(&link.peer);
        self.loan.begin(&link.held.drain(..).collect());
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
            if self.inbox.asks_for_more(self.wish) {
                return End::Told;
            }
            self.submit(&mut link.sink);
            self.pass_notes(&mut link.sink);
            self.post.flush();
            let has_room = !self.arrivals.is_full();
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
                    self.note_statistics();
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
        self.loan.is_empty() && self.reporter.metrics.queue_messages.value() == 0
    }

    /// Waits for the acknowledgements of both sides, so that the next process repeats nothing.
    async fn finish(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let end = sleep(self.shutdown);
        tokio::pin!(end);
        while self.loan.is_in_flight() || !self.arrivals.is_empty() {
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

    fn look_for_troubles(&mut self, link: &mut Connected<C::Sink, C::Source>) {
        let troubles = link.source.troubles();
        // If there are both, what has recovered came last.
        let has_recovered = link.source.has_recovered();
        if !troubles.is_empty() {
            self.report(State::Degraded {
                remote: link.remote.clone(),
                reason: troubles.join("; "),
            });
        }
        if has_recovered {
            self.report(State::Up {
                remote: link.remote.clone(),
            });
        }
    }

    fn note_statistics(&self) {
        let statistics = self.connector.statistics();
        self.reporter.status.note(statistics);
    }

    fn report(&mut self, state: State) {
        let now_ms = self.post.now_ms();
        self.reporter.change(state, now_ms);
        self.publish_state();
    }

    fn publish_state(&mut self) {
        self.note_statistics();
        for message in self.reporter.messages() {
            self.post.add(BridgeRequest::Notify(message));
        }
        self.post.flush();
    }
}

/// What a bridge says that has no connection and wants none.
const RESTING: [&str; 5] = ["idle", "ended", "paused", "drained", "off"];
/// How often retries, rate and state are looked at.
const TICK: Duration = Duration::from_millis(200);
