//! The task of one connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::driver::Driver;
use super::handshake::{Arrival, Permit};
use super::transport::Transport;
use crate::shard::{Handshake, Key};

/// A connection's stream beside its task's waker, so that the flush task can write to it.
pub(crate) struct Link {
    pub(crate) transport: RefCell<Transport>,
    waker: RefCell<Option<Waker>>,
    has_failed: Cell<bool>,
    /// The beginning of a packet whose end is still to come.
    rest: RefCell<Vec<u8>>,
    /// Counts the connection until the end of its task.
    _permit: Permit,
}

impl Link {
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The socket is dead: the task is to end.
    pub(crate) fn fail(&self) {
        self.has_failed.set(true);
        self.wake();
    }
}

/// Attaches an arrived connection to its session and starts the task that serves it.
pub(crate) fn start(driver: &Rc<Driver>, mut arrival: Arrival) {
    if let Err(error) = arrival.transport.attach() {
        tracing::warn!(%error, "connection lost between shards");
        return;
    }
    let now_ms = driver.clock.now_ms();
    let key = {
        let handshake = Handshake {
            connect: &arrival.connect(),
            client_id: &arrival.client_id,
            identity: &arrival.identity,
            peer: &arrival.peer,
        };
        driver
            .shard
            .borrow_mut()
            .connect(&handshake, now_ms)
            .connection
    };
    let link = Rc::new(Link {
        transport: RefCell::new(arrival.transport),
        waker: RefCell::default(),
        has_failed: Cell::new(false),
        rest: RefCell::default(),
        _permit: arrival.permit,
    });
    driver.links.borrow_mut().insert(key, Rc::clone(&link));
    driver.schedule_flush();
    take_in(driver, key, &mut link.rest.borrow_mut(), &arrival.rest);
    tokio::task::spawn_local(serve(Rc::clone(driver), link, key));
}

/// Serves a connection until it ends. One of these exists for every idle client: what it holds
/// across its await is what a client costs.
async fn serve(driver: Rc<Driver>, link: Rc<Link>, key: Key) {
    let end = std::future::poll_fn(|cx| {
        // A panic ends this connection alone.
        catch_unwind(AssertUnwindSafe(|| poll(&driver, &link, key, cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(io::Error::other("panicked"))))
    })
    .await;
    if let Err(error) = end {
        tracing::debug!(%error, "connection failed");
    }
    driver.links.borrow_mut().remove(&key);
    driver.shard.borrow_mut().closed(key, driver.clock.now_ms());
    driver.schedule_flush();
}

/// Writes what is left, then reads within the budget of one turn.
fn poll(driver: &Driver, link: &Link, key: Key, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    *link.waker.borrow_mut() = Some(cx.waker().clone());
    if link.has_failed.get() {
        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
    }
    let mut transport = link.transport.borrow_mut();
    match poll_write(driver, &mut transport, key, cx) {
        Poll::Ready(Ok(Written::Open)) => {}
        Poll::Pending => {
            if driver
                .shard
                .borrow_mut()
                .output(key)
                .is_some_and(|it| it.is_congested)
            {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(Written::Closing)) => {
            let _ = ready!(Pin::new(&mut *transport).poll_shutdown(cx));
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
    }
    let mut budget = READ_BUDGET_BYTES;
    loop {
        if driver.holds_back(key, cx.waker()) {
            return Poll::Pending;
        }
        let count = {
            let mut buffer = driver.read_buffer.borrow_mut();
            let mut buffer = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *transport).poll_read(cx, &mut buffer))?;
            buffer.filled().len()
        };
        driver.shard.borrow().count_read(count);
        if count == 0 {
            return Poll::Ready(Ok(()));
        }
        let buffer = driver.read_buffer.borrow();
        take_in(
            driver,
            key,
            &mut link.rest.borrow_mut(),
            buffer.get(..count).unwrap_or_default(),
        );
        drop(buffer);
        driver.schedule_flush();
        budget = budget.saturating_sub(count);
        if budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

enum Written {
    Open,
    Closing,
}

fn poll_write(
    driver: &Driver,
    transport: &mut Transport,
    key: Key,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Written>> {
    loop {
        let mut shard = driver.shard.borrow_mut();
        let Some(output) = shard.output(key) else {
            return Poll::Ready(Ok(Written::Closing));
        };
        if output.buffer.is_empty() {
            let is_closing = output.is_closing;
            drop(shard);
            ready!(Pin::new(&mut *transport).poll_flush(cx))?;
            return Poll::Ready(Ok(if is_closing {
                Written::Closing
            } else {
                Written::Open
            }));
        }
        let front = output.buffer.front();
        let count = ready!(Pin::new(&mut *transport).poll_write(cx, front))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        shard.written(key, count);
        shard.drained(key, driver.clock.now_ms());
    }
}

/// Hands bytes to the shard and keeps the beginning of a packet whose end is still to come.
fn take_in(driver: &Driver, key: Key, rest: &mut Vec<u8>, bytes: &[u8]) {
    let now_ms = driver.clock.now_ms();
    let mut shard = driver.shard.borrow_mut();
    if rest.is_empty() {
        let used = shard.receive(key, bytes, now_ms);
        rest.extend_from_slice(bytes.get(used..).unwrap_or_default());
        return;
    }
    rest.extend_from_slice(bytes);
    let used = shard.receive(key, rest, now_ms);
    rest.drain(..used);
    if rest.is_empty() {
        *rest = Vec::new();
    }
}

const READ_BUDGET_BYTES: usize = 65_536;
