//! What the task of a connection and its two ends leave for each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{Failure, Note, Receipt, Received, Record, Settled, Sink, Source};

/// One connection's letter boxes. What lies in them is bounded by the caller's window on the way
/// out and by Receive Maximum and [`Ports::is_crowded`] on the way in.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    boxes: Mutex<Boxes>,
    /// For the task of the connection.
    pub(crate) to_task: Notify,
    settled: Notify,
    received: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Boxes {
    pub(crate) submitted: Vec<Record>,
    pub(crate) accepted: Vec<Receipt>,
    refused: Vec<Receipt>,
    /// The protocol can refuse.
    can_refuse: bool,
    pub(crate) settled: Vec<Settled>,
    pub(crate) notes: Vec<Note>,
    /// Notes that are kept.
    pub(crate) kept: usize,
    pub(crate) received: Vec<Received>,
    pub(crate) troubles: Vec<String>,
    pub(crate) has_recovered: bool,
    pub(crate) failure: Option<Failure>,
    /// Why the connection is to be closed, if it is.
    pub(crate) closing: Option<&'static str>,
}

/// What the ends want of the task.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) submitted: Vec<Record>,
    pub(crate) accepted: Vec<Receipt>,
    /// None, unless the protocol can refuse.
    #[cfg(any(feature = "amqp091", feature = "amqp10", feature = "rocketmq"))]
    pub(crate) refused: Vec<Receipt>,
    /// Notes that are kept.
    pub(crate) kept: usize,
    /// Why the connection is to be closed, if it is.
    pub(crate) closing: Option<&'static str>,
}

/// The task of a connection.
#[derive(Debug)]
pub(crate) struct Working {
    pub(crate) ports: Arc<Ports>,
    task: JoinHandle<()>,
}

impl Working {
    /// Begins with what a connection does until it ends.
    pub(crate) fn begin(
        ports: &Arc<Ports>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let end = EndOfTask(Arc::clone(ports));
        let task = tokio::spawn(async move {
            work.await;
            drop(end);
        });
        Self {
            ports: Arc::clone(ports),
            task,
        }
    }

    /// Tells the task to close the connection, and waits until it has ended.
    pub(crate) async fn end(&mut self) {
        self.ports.close("closed");
        if timeout(TASK_END, &mut self.task).await.is_err() {
            self.task.abort();
            // It was told to end; how it ended says nothing new.
            let _ = (&mut self.task).await;
        }
    }
}

/// Tells the ends that the task is gone, even if it panicked.
struct EndOfTask(Arc<Ports>);

impl Drop for EndOfTask {
    fn drop(&mut self) {
        self.0.fail(Failure::retry("the connection broke off"));
    }
}

impl Ports {
    /// For a protocol that can refuse what it has received.
    #[cfg(any(feature = "amqp091", feature = "amqp10", feature = "rocketmq"))]
    pub(crate) fn refusing() -> Self {
        let ports = Self::default();
        ports.lock().can_refuse = true;
        ports
    }

    /// The two ends, for the caller.
    pub(crate) fn ends(self: &Arc<Self>) -> (PortSink, PortSource) {
        let sink = PortSink {
            ports: Arc::clone(self),
        };
        let source = PortSource {
            ports: Arc::clone(self),
        };
        (sink, source)
    }

    pub(crate) fn take_orders(&self) -> Orders {
        let mut boxes = self.lock();
        Orders {
            submitted: std::mem::take(&mut boxes.submitted),
            accepted: std::mem::take(&mut boxes.accepted),
            #[cfg(any(feature = "amqp091", feature = "amqp10", feature = "rocketmq"))]
            refused: std::mem::take(&mut boxes.refused),
            kept: std::mem::take(&mut boxes.kept),
            closing: boxes.closing,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Boxes> {
        // Nothing that holds the lock can panic half way through a change.
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something does not work from now on.
    #[cfg(any(feature = "amqp091", feature = "amqp10", feature = "kafka"))]
    pub(crate) fn trouble(&self, text: String) {
        self.leave(|boxes| {
            boxes.has_recovered = false;
            boxes.troubles.push(text);
        });
    }

    /// Leaves outcomes for the ends.
    pub(crate) fn leave(&self, change: impl FnOnce(&mut Boxes)) {
        let mut boxes = self.lock();
        change(&mut boxes);
        let settled = !boxes.settled.is_empty() || !boxes.notes.is_empty();
        let received = !boxes.received.is_empty();
        drop(boxes);
        if settled {
            self.settled.notify_one();
        }
        if received {
            self.received.notify_one();
        }
    }

    /// The connection has ended: what lies here is still to be taken, then this is the answer.
    pub(crate) fn fail(&self, failure: Failure) {
        self.lock().failure.get_or_insert(failure);
        self.settled.notify_one();
        self.received.notify_one();
    }

    /// Waits until something is settled, or the connection has ended. Cancel safe.
    #[cfg(feature = "kafka")]
    pub(crate) async fn settled_wake(&self) {
        self.settled.notified().await;
    }

    /// Something has happened that the way out has to look at.
    #[cfg(feature = "kafka")]
    pub(crate) fn wake_sink(&self) {
        self.settled.notify_one();
    }

    pub(crate) fn close(&self, why: &'static str) {
        self.lock().closing = Some(why);
        self.to_task.notify_one();
    }

    /// Whether so much waits to be taken in that nothing more should be read.
    pub(crate) fn is_crowded(&self) -> bool {
        self.lock().received.len() >= RECEIVED_MAX
    }
}

/// The way out, through the task of a connection.
#[derive(Debug)]
pub struct PortSink {
    pub(crate) ports: Arc<Ports>,
}

/// The way in, through the task of a connection.
#[derive(Debug)]
pub struct PortSource {
    pub(crate) ports: Arc<Ports>,
}

impl Sink for PortSink {
    fn submit(&mut self, records: Vec<Record>) {
        self.ports.lock().submitted.extend(records);
        self.ports.to_task.notify_one();
    }

    async fn settled(&mut self) -> Result<Vec<Settled>, Failure> {
        loop {
            {
                let mut boxes = self.ports.lock();
                if !boxes.settled.is_empty() || !boxes.notes.is_empty() {
                    return Ok(std::mem::take(&mut boxes.settled));
                }
                if let Some(failure) = &boxes.failure {
                    return Err(failure.clone());
                }
            }
            self.ports.settled.notified().await;
        }
    }

    fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.ports.lock().notes)
    }

    fn keep(&mut self, count: usize) {
        self.ports.lock().kept += count;
        self.ports.to_task.notify_one();
    }
}

impl Source for PortSource {
    async fn receive(&mut self) -> Result<Vec<Received>, Failure> {
        loop {
            {
                let mut boxes = self.ports.lock();
                if !boxes.received.is_empty() {
                    let received = std::mem::take(&mut boxes.received);
                    drop(boxes);
                    self.ports.to_task.notify_one();
                    return Ok(received);
                }
                if let Some(failure) = &boxes.failure {
                    return Err(failure.clone());
                }
            }
            self.ports.received.notified().await;
        }
    }

    fn accept(&mut self, receipts: Vec<Receipt>) {
        self.ports.lock().accepted.extend(receipts);
        self.ports.to_task.notify_one();
    }

    fn refuse(&mut self, receipts: Vec<Receipt>) {
        let mut boxes = self.ports.lock();
        if boxes.can_refuse {
            boxes.refused.extend(receipts);
        } else {
            boxes.accepted.extend(receipts);
        }
        drop(boxes);
        self.ports.to_task.notify_one();
    }

    fn troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ports.lock().troubles)
    }

    fn has_recovered(&mut self) -> bool {
        std::mem::take(&mut self.ports.lock().has_recovered)
    }
}

/// Messages that wait for the caller; QoS 0 ones have no window of their own.
const RECEIVED_MAX: usize = 4_096;
/// How long a task has to end.
const TASK_END: Duration = Duration::from_secs(3);
