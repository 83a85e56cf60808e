//! A stream that gathers small writes, and hands them on once per turn of the runtime.
//!
//! Client libraries that flush frame by frame make a system call for each. Here what they write is
//! kept until the tasks that are ready now have had their turn; then a task of its own, which alone
//! writes to the stream below, hands all of it on. It is ready as soon as there is something:
//! nothing waits for more to come. Reads are made in large pieces too.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Stream;

/// The near end of a stream whose writes are gathered.
#[derive(Debug)]
pub(crate) struct Gathered(Arc<Shared>);

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    stream: Box<dyn Stream>,
    phase: Phase,
    /// What was written and not handed on: all from `handed_on` on.
    gathered: Vec<u8>,
    handed_on: usize,
    /// The stream below has something that it was not told to send.
    is_unflushed: bool,
    /// Why nothing more can be written.
    failure: Option<(io::ErrorKind, String)>,
    /// The task that hands on.
    courier: Option<Waker>,
    /// Whoever waits for room, or for the end.
    waiting: Option<Waker>,
    /// Room for what is read; what was read and not taken lies from `taken` to `came`.
    read: Box<[u8]>,
    taken: usize,
    came: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The stream below is shut down when everything is handed on.
    Closing,
    Closed,
    /// Nobody writes any more: what can be handed on at once is.
    Abandoned,
}

impl Gathered {
    /// Begins to gather; a task of the runtime that this is called in hands on what is written.
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        let shared = Arc::new(Shared(Mutex::new(State {
            stream,
            phase: Phase::Open,
            gathered: Vec::new(),
            handed_on: 0,
            is_unflushed: false,
            failure: None,
            courier: None,
            waiting: None,
            read: vec![0; READ_BYTES].into_boxed_slice(),
            taken: 0,
            came: 0,
        })));
        let courier = Arc::clone(&shared);
        // It ends soon after this end is dropped.
        drop(tokio::spawn(async move {
            std::future::poll_fn(|context| courier.poll_courier(context)).await;
        }));
        Self(shared)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A stream that panics half way through is not used again: its task has ended.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands on, until there is nothing more to be handed on ever.
    fn poll_courier(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !matches!(&state.courier, Some(waker) if waker.will_wake(context.waker())) {
            state.courier = Some(context.waker().clone());
        }
        let outcome = state.poll_hand_on(context);
        let is_done = match outcome {
            Poll::Pending => state.phase == Phase::Abandoned,
            Poll::Ready(Ok(())) => state.phase != Phase::Open,
            Poll::Ready(Err(error)) => {
                state.failure = Some((error.kind(), error.to_string()));
                true
            }
        };
        let has_room = state.waiting_bytes() < GATHERED_BYTES_MAX;
        let waiting = (is_done || has_room && state.phase == Phase::Open)
            .then(|| state.waiting.take())
            .flatten();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
        match is_done {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl State {
    fn waiting_bytes(&self) -> usize {
        self.gathered.len() - self.handed_on
    }

    /// Ready once there is nothing left to hand on.
    fn poll_hand_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.handed_on..)
            && !rest.is_empty()
        {
            match Pin::new(&mut *self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.handed_on += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.is_unflushed = true;
        }
        self.gathered.clear();
        self.handed_on = 0;
        if self.is_unflushed {
            std::task::ready!(Pin::new(&mut *self.stream).poll_flush(context))?;
            self.is_unflushed = false;
        }
        if self.phase == Phase::Closing {
            std::task::ready!(Pin::new(&mut *self.stream).poll_shutdown(context))?;
            self.phase = Phase::Closed;
        }
        Poll::Ready(Ok(()))
    }

    fn check(&self) -> io::Result<()> {
        match &self.failure {
            Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }

    /// From now on there is something to do for the task that hands on.
    fn wake_courier(&self) {
        if let Some(waker) = &self.courier {
            waker.wake_by_ref();
        }
    }

    /// Reads a large piece, if nothing is left of the one before.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.came {
            return Poll::Ready(Ok(()));
        }
        let mut buffer = ReadBuf::new(&mut self.read);
        std::task::ready!(Pin::new(&mut *self.stream).poll_read(context, &mut buffer))?;
        (self.taken, self.came) = (0, buffer.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        std::task::ready!(state.poll_fill(context))?;
        let rest = state.read.get(state.taken..state.came);
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..count).unwrap_or_default());
        state.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        state.check()?;
        let waits = state.waiting_bytes();
        let count = bytes.len().min(GATHERED_BYTES_MAX.saturating_sub(waits));
        if count == 0 && !bytes.is_empty() {
            state.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        state
            .gathered
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        // With something to hand on already it is awake, or waits for the stream below.
        if waits == 0 {
            state.wake_courier();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.lock().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        state.check()?;
        if state.phase == Phase::Closed {
            return Poll::Ready(Ok(()));
        }
        state.phase = Phase::Closing;
        state.waiting = Some(context.waker().clone());
        state.wake_courier();
        Poll::Pending
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.phase != Phase::Closed {
            state.phase = Phase::Abandoned;
        }
        state.wake_courier();
    }
}

/// What waits to be handed on at the most; who writes more waits.
const GATHERED_BYTES_MAX: usize = 256 * 1_024;
/// What is read at once.
const READ_BYTES: usize = 64 * 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    /// Counts what is asked of a stream.
    #[derive(Debug)]
    struct Counted {
        stream: DuplexStream,
        writes: Arc<Mutex<usize>>,
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            *self.writes.lock().unwrap() += 1;
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    fn gathered(room: usize) -> (Gathered, DuplexStream, Arc<Mutex<usize>>) {
        let (stream, there) = duplex(room);
        let writes = Arc::default();
        let counted = Counted {
            stream,
            writes: Arc::clone(&writes),
        };
        (Gathered::new(Box::new(counted)), there, writes)
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_goes_out_at_once() {
        let (mut ours, mut there, writes) = gathered(65_536);
        for _ in 0..1_000 {
            ours.write_all(b"frame").await.unwrap();
            ours.flush().await.unwrap();
        }
        let mut came = vec![0; 5_000];
        there.read_exact(&mut came).await.unwrap();
        assert!(*writes.lock().unwrap() < 20, "{writes:?}");
    }

    #[tokio::test]
    async fn a_lone_write_waits_for_nothing() {
        let (mut ours, mut there, _) = gathered(64);
        yield_now().await;
        for round in 0..3 {
            ours.write_all(&[round]).await.unwrap();
            let came = timeout(Duration::from_millis(100), there.read_u8()).await;
            assert_eq!(came.unwrap().unwrap(), round);
        }
    }

    #[tokio::test]
    async fn a_close_sends_everything_first() {
        let (mut ours, mut there, _) = gathered(16);
        let sent = vec![7; 10_000];
        ours.write_all(&sent).await.unwrap();
        let closing = tokio::spawn(async move { ours.shutdown().await });
        let mut came = Vec::new();
        there.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, sent);
        closing.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_is_dropped_sends_what_it_has() {
        let (mut ours, mut there, _) = gathered(64);
        ours.write_all(b"bye").await.unwrap();
        drop(ours);
        let mut came = Vec::new();
        there.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"bye");
    }

    #[tokio::test]
    async fn who_writes_more_than_goes_out_waits_and_goes_on_when_there_is_room() {
        let (mut ours, mut there, _) = gathered(16);
        let sent = vec![7; 2 * GATHERED_BYTES_MAX];
        let writing = tokio::spawn(async move {
            ours.write_all(&sent).await.unwrap();
            ours
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writing.is_finished());
        let mut came = vec![0; 2 * GATHERED_BYTES_MAX];
        there.read_exact(&mut came).await.unwrap();
        let writing = timeout(Duration::from_secs(5), writing).await;
        drop(writing.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_stream_that_broke_off_says_so_to_who_writes() {
        let (mut ours, there, _) = gathered(16);
        drop(there);
        let write = async {
            loop {
                if let Err(error) = ours.write_all(b"lost").await {
                    return error;
                }
                yield_now().await;
            }
        };
        let error = timeout(Duration::from_secs(5), write).await.unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_comes_is_read_in_pieces_of_any_size() {
        let (mut ours, mut there, _) = gathered(65_536);
        let sent: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        there.write_all(&sent).await.unwrap();
        drop(there);
        let mut came = vec![0; 7];
        ours.read_exact(&mut came).await.unwrap();
        ours.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, sent);
    }
}
