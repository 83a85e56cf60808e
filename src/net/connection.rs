//! The task of one connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::door::CurrentDoor;
use super::driver::Driver;
use super::handshake::Arrival;
use super::permit::Permit;
use super::transport::Transport;
use crate::auth::Ground;
use crate::shard::{Handshake, Key};

/// A connection's stream beside its task's waker, so that the flush task can write to it.
pub(crate) struct Link {
    pub(crate) transport: RefCell<Transport>,
    waker: RefCell<Option<Waker>>,
    has_failed: Cell<bool>,
    /// The beginning of a packet whose end is still to come.
    rest: RefCell<Vec<u8>>,
    pause: RefCell<Pause>,
    /// Where the client came in.
    pub(crate) door: CurrentDoor,
    pub(crate) ground: Ground,
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
            mount_point: arrival.mount_point.as_deref(),
            peer: &arrival.peer,
        };
        driver
            .shard
            .borrow_mut()
            .connect(&handshake, now_ms)
            .connection
    };
    driver.shard.borrow().count_handshake(arrival.bytes());
    let link = Rc::new(Link {
        transport: RefCell::new(arrival.transport),
        waker: RefCell::default(),
        has_failed: Cell::new(false),
        rest: RefCell::default(),
        pause: RefCell::default(),
        ground: arrival.identity.ground,
        door: Arc::clone(&arrival.entrance.current),
        _permit: arrival.permit,
    });
    driver.links.borrow_mut().insert(key, Rc::clone(&link));
    driver.schedule_flush();
    if arrival.entrance.is_old() {
        driver.ask_again(key, now_ms);
    }
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
            if is_congested(driver, key) {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(Written::Closing)) => {
            let _ = ready!(Pin::new(&mut *transport).poll_shutdown(cx));
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
    }
    let mut budget = match driver.shard.borrow().awaits_many(key) {
        true => ACKNOWLEDGEMENTS_BUDGET_BYTES,
        false => READ_BUDGET_BYTES,
    };
    loop {
        let mut pause = link.pause.borrow_mut();
        ready!(pause.poll(driver, key, &mut link.rest.borrow_mut(), cx));
        drop(pause);
        if driver.holds_back(key, cx.waker()) {
            return Poll::Pending;
        }
        let count = {
            let mut buffer = driver.read_buffer.borrow_mut();
            let bytes_max = buffer.len().min(budget);
            let mut buffer = ReadBuf::new(buffer.get_mut(..bytes_max).unwrap_or_default());
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
        // The next turn writes first, and reads only if the peer takes what it is answered.
        if budget == 0 || is_congested(driver, key) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

/// The wait of a client that publishes too fast.
#[derive(Default)]
struct Pause {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The end of the last wait.
    over_ms: u64,
}

impl Pause {
    /// Ready once the client may be heard again and what it sent before has been taken in.
    fn poll(
        &mut self,
        driver: &Driver,
        key: Key,
        rest: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let mut shard = driver.shard.borrow_mut();
            let held_until_ms = shard.output(key).and_then(|it| it.held_until_ms);
            drop(shard);
            let Some(until_ms) = held_until_ms.filter(|it| *it != self.over_ms) else {
                return Poll::Ready(());
            };
            let now_ms = driver.clock.now_ms();
            if until_ms > now_ms {
                let wait = Duration::from_millis(until_ms - now_ms);
                self.sleep = Some(Box::pin(tokio::time::sleep(wait)));
            } else {
                self.over_ms = until_ms;
                take_in(driver, key, rest, &[]);
                driver.schedule_flush();
            }
        }
    }
}

fn is_congested(driver: &Driver, key: Key) -> bool {
    let mut shard = driver.shard.borrow_mut();
    shard.output(key).is_some_and(|it| it.is_congested)
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
    driver.take_messages(now_ms);
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
/// Two thousand of four bytes, each of which may bring another message from the store on its way.
const ACKNOWLEDGEMENTS_BUDGET_BYTES: usize = 8_192;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::net::room::Room;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::task::spawn_local;

    use super::*;
    use crate::auth::{Authenticator, Known};
    use crate::clock::Clock;
    use crate::config::{Config, Listener};
    use crate::exchange::{Exchange, ShardId};
    use crate::net::door::{PlannedDoor, plan_doors};
    use crate::net::handshake::shake_hands;
    use crate::net::mailbox::Mailbox;
    use crate::net::socket::{PeerAddress, Socket};
    use crate::retained::Retained;
    use crate::shard::{Shard, Shared};
    use crate::store::Store;

    const WRITE_BUFFER_BYTES_MAX: usize = 64 << 10;
    const CONNECT: &[u8] = b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01a";
    const PINGS: [u8; 8_192] = {
        let mut pings = [0; 8_192];
        let mut at = 0;
        while at < pings.len() {
            pings[at] = 0xc0;
            at += 2;
        }
        pings
    };

    /// The other end of a served connection.
    async fn connected() -> (Rc<Driver>, UnixStream) {
        let mut config = Config {
            listeners: vec![Listener {
                bind: "127.0.0.1:0".to_owned(),
                ..Listener::default()
            }],
            ..Config::default()
        };
        config.limits.write_buffer_bytes_max = WRITE_BUFFER_BYTES_MAX;
        let clock = Clock::start();
        let known = Known::default();
        let authenticator = Authenticator::start(known, &config.auth, &config.limits, clock, None);
        let authenticator = Arc::new(authenticator.expect("no thread"));
        let doors = plan_doors(&config, &authenticator, clock, &[]).expect("open");
        let open = doors.into_iter().map(PlannedDoor::open).next();
        let entrance = open.expect("a listener").enter();
        let (near, far) = UnixStream::pair().expect("pair");
        far.try_write(CONNECT).expect("sent");
        let (room, peer) = (Arc::new(Room::new(1)), Cell::new(PeerAddress::Unix));
        let permit = entrance.door.admit(&room, PeerAddress::Unix).expect("room");
        let arrival = shake_hands(entrance, Socket::unix(near), permit, &peer).await;
        let store = Arc::new(Store::memory());
        let shared = Arc::new(Shared {
            config,
            shards: 1,
            acl: Arc::default(),
            users: None,
            exchange: Exchange::new().into(),
            retained: Retained::new().into(),
            store: Arc::clone(&store),
            census: Arc::default(),
        });
        let shard = Shard::new(ShardId(0), shared, Arc::default());
        let mailboxes = Arc::new([Mailbox::new(65_536)]);
        let driver = Rc::new(Driver::new(shard, clock, mailboxes, store));
        let flushing = Rc::clone(&driver);
        spawn_local(async move { flushing.run().await });
        start(&driver, arrival.expect("connected"));
        (driver, far)
    }

    fn buffered(driver: &Driver) -> usize {
        let keys: Vec<_> = driver.links.borrow().keys().copied().collect();
        let mut shard = driver.shard.borrow_mut();
        keys.iter()
            .map(|key| shard.output(*key).map_or(0, |it| it.buffer.len()))
            .sum()
    }

    #[test]
    fn a_flood_of_pings_without_a_reader_buffers_no_more_than_the_limit_and_one_read() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())
            .expect("runtime");
        runtime.block_on(async {
            let (driver, mut far) = connected().await;
            let (mut sent, mut stalls) = (0, 0);
            while stalls < 10 {
                match far.try_write(&PINGS[sent % 2..]) {
                    Ok(count) => (sent, stalls) = (sent + count, 0),
                    Err(_) => stalls += 1,
                }
                tokio::time::sleep(Duration::from_millis(stalls)).await;
                let bytes = buffered(&driver);
                assert!(bytes <= WRITE_BUFFER_BYTES_MAX + 65_536, "{bytes} bytes");
            }
            assert!(buffered(&driver) >= WRITE_BUFFER_BYTES_MAX, "congested");
            // Reading goes on once the peer takes its answers.
            let mut answers = vec![0; 4 + sent / 2 * 2];
            let read = tokio::time::timeout(Duration::from_secs(20), far.read_exact(&mut answers));
            read.await.expect("in time").expect("read");
            assert!(answers[4..].chunks(2).all(|answer| answer == [0xd0, 0]));
            assert_eq!(buffered(&driver), 0);
        });
    }
}
