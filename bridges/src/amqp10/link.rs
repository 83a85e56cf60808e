//! The task of a connection: does what the ends want, hears what the server says.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Settings;
use super::harvest::Harvest;
use super::inward::{Inward, Verdict};
use super::outcome::end_of;
use super::outward::Outward;
use super::performative::{Performative, decode};
use super::session::Session;
use super::value::Malformed;
use super::wire::Wire;
use crate::ports::{Orders, Ports};
use crate::redelivered::{Delivery, Redelivered};
use crate::{Failure, Receipt, Stream};

/// A connection on which everything is there, or will be.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    outward: Outward,
    inward: Option<Inward>,
    redelivered: Arc<Redelivered>,
    harvest: Harvest,
}

impl Link {
    /// Opens a connection, and waits until its sessions and links are there.
    ///
    /// # Errors
    /// The server refuses; the stream has ended.
    pub(super) async fn open(
        settings: &Arc<Settings>,
        stream: Box<dyn Stream>,
        redelivered: Arc<Redelivered>,
    ) -> Result<Self, Failure> {
        let mut wire = Wire::open(stream, settings).await?;
        let outward = Outward::new(settings, Session::begin(OUT, &mut wire));
        let inward = settings.source.clone().map(|source| {
            let session = Session::begin(IN, &mut wire);
            Inward::new(settings, source, Arc::clone(&redelivered), session)
        });
        let mut link = Self {
            wire,
            outward,
            inward,
            redelivered,
            harvest: Harvest::default(),
        };
        match link.make_ready().await {
            Ok(()) => Ok(link),
            Err(failure) => {
                // What went wrong is known already.
                let _ = timeout(GOODBYE, link.wire.close()).await;
                Err(failure)
            }
        }
    }

    async fn make_ready(&mut self) -> Result<(), Failure> {
        loop {
            self.take_frames()?;
            if self.outward.is_ready() && self.inward.as_ref().is_none_or(Inward::is_ready) {
                return Ok(());
            }
            self.wire.carry().await?;
        }
    }

    /// Works until the connection ends, and says why it did.
    pub(super) async fn run(mut self, ports: Arc<Ports>, number: u64) {
        if let Some(inward) = &mut self.inward {
            inward.begin(number);
        }
        let failure = match self.serve(&ports, number).await {
            Ok(why) => Failure::retry(why),
            Err(failure) => failure,
        };
        // What came before the end counts.
        self.harvest.hand_over(&ports);
        ports.fail(failure);
        // The server may be gone already; there is nothing more to tell it.
        let _ = timeout(GOODBYE, self.wire.close()).await;
    }

    /// Ends without an error when somebody wants to close, and says why.
    async fn serve(&mut self, ports: &Ports, number: u64) -> Result<&'static str, Failure> {
        let mut ticks = interval(self.wire.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(why) = self.take_orders(ports, number) {
                return Ok(why);
            }
            self.outward.dispatch(&mut self.wire, &mut self.harvest);
            if let Some(inward) = &mut self.inward {
                inward.grant(&mut self.wire);
            }
            self.harvest.hand_over(ports);
            // Cancel safe: nothing is carried unless the arm completes, `notified` keeps its
            // permit, a tick that is not taken comes again.
            tokio::select! {
                carried = self.wire.carry() => {
                    carried?;
                    self.take_frames()?;
                }
                () = ports.to_task.notified() => {}
                _ = ticks.tick() => self.look_at_the_clock()?,
            }
        }
    }

    /// What the ends have left; a reason if the connection is to be closed.
    fn take_orders(&mut self, ports: &Ports, number: u64) -> Option<&'static str> {
        let Orders {
            submitted,
            accepted,
            refused,
            closing,
            ..
        } = ports.take_orders();
        self.outward.submit(submitted);
        self.judge(Verdict::Accept, Redelivered::accept, accepted, number);
        self.judge(Verdict::Reject, Redelivered::refuse, refused, number);
        closing
    }

    fn judge(
        &mut self,
        verdict: Verdict,
        latest: fn(&Redelivered, Delivery) -> Delivery,
        receipts: Vec<Receipt>,
        number: u64,
    ) {
        if receipts.is_empty() {
            return;
        }
        let deliveries = receipts.into_iter().filter_map(Receipt::delivery);
        let latest = deliveries.map(|it| latest(&self.redelivered, it));
        // What came over an earlier connection is delivered again over this one.
        let own = latest.filter(|it| it.connection == number);
        let own = own.map(|it| it.number).collect();
        if let Some(inward) = &mut self.inward {
            inward.settle(verdict, own, &mut self.wire);
        }
    }

    fn take_frames(&mut self) -> Result<(), Failure> {
        while let Some((channel, frame)) = self.wire.next()? {
            self.obey(channel, decode(&frame)?)?;
        }
        Ok(())
    }

    fn obey(&mut self, channel: u16, said: Performative<'_>) -> Result<(), Failure> {
        match said {
            Performative::Begin(begin) => {
                if self.outward.session.begun(channel, &begin) {
                    self.outward.begun(&mut self.wire);
                } else if let Some(inward) = &mut self.inward
                    && inward.session.begun(channel, &begin)
                {
                    inward.attach(&mut self.wire);
                }
                return Ok(());
            }
            Performative::End(error) => return Err(end_of("session", error.as_ref())),
            Performative::Close(error) => return Err(end_of("connection", error.as_ref())),
            Performative::Open(_) => return Err(Malformed("a second open").into()),
            _ => {}
        }
        if self.outward.session.is(channel) {
            self.obey_outward(said)
        } else if self
            .inward
            .as_ref()
            .is_some_and(|it| it.session.is(channel))
        {
            self.obey_inward(said)
        } else {
            Err(Malformed("a frame for a session that is not there").into())
        }
    }

    fn obey_outward(&mut self, said: Performative<'_>) -> Result<(), Failure> {
        let (wire, harvest) = (&mut self.wire, &mut self.harvest);
        match said {
            Performative::Attach(it) => self.outward.attached(&it),
            Performative::Flow(it) => self.outward.learn(&it, wire, harvest),
            Performative::Disposition(it) => self.outward.decided(&it, wire, harvest),
            Performative::Detach(it) => self.outward.detached(&it, wire, harvest)?,
            Performative::Transfer(..) => {
                return Err(Malformed("a message nobody asked for").into());
            }
            _ => {}
        }
        Ok(())
    }

    fn obey_inward(&mut self, said: Performative<'_>) -> Result<(), Failure> {
        let Some(inward) = &mut self.inward else {
            return Ok(());
        };
        let (wire, harvest) = (&mut self.wire, &mut self.harvest);
        match said {
            Performative::Attach(it) => inward.attached(&it),
            Performative::Flow(it) => inward.learn(&it, wire),
            Performative::Detach(it) => inward.detached(&it, wire)?,
            Performative::Transfer(it, part) => inward.receive(it, part, wire, harvest)?,
            _ => {}
        }
        Ok(())
    }

    fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        self.wire.look_at_the_clock()?;
        if let Some(inward) = &self.inward {
            inward.check()?;
        }
        self.outward.check(&mut self.harvest)
    }
}

/// The channel of the way out.
const OUT: u16 = 0;
/// The channel of the way in.
const IN: u16 = 1;
const GOODBYE: Duration = Duration::from_secs(1);
