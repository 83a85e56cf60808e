//! The bytes of a connection, out and in, and when either side last said something.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use crate::dial::write_some;
use crate::{Failure, Stream};

/// A stream, and what came over it and nobody has taken.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    pub(crate) input: BytesMut,
    /// How much of the output has gone.
    written: usize,
    needs_flush: bool,
    sent: Instant,
    received: Instant,
    /// When everything had last gone, or something went.
    moved: Instant,
    /// Nothing can be written any more; what the server has said before is still read.
    broken: Option<(Failure, Instant)>,
}

impl Pipe {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            written: 0,
            needs_flush: false,
            sent: now,
            received: now,
            moved: now,
            broken: None,
        }
    }

    /// Waits until some bytes have come, or went. Cancel safe: nothing moves unless it completes.
    ///
    /// # Errors
    /// The stream has ended.
    pub(crate) async fn carry(&mut self, output: &mut Vec<u8>) -> Result<(), Failure> {
        self.forget_written(output);
        let rest = output.get(self.written..).unwrap_or_default();
        let has_output = !rest.is_empty();
        let may_write = (has_output || self.needs_flush) && self.broken.is_none();
        self.input.reserve(READ_BYTES);
        tokio::select! {
            count = write_some(&mut self.writer, rest), if may_write => match count {
                Ok(count) => {
                    self.written += count;
                    self.needs_flush = has_output;
                    self.sent = Instant::now();
                    self.moved = self.sent;
                }
                Err(error) => self.broken = Some((lost(&error), Instant::now())),
            },
            count = self.reader.read_buf(&mut self.input) => match count {
                Ok(0) => return Err(self.end(Failure::retry("the server closed the connection"))),
                Ok(_) => self.received = Instant::now(),
                Err(error) => return Err(self.end(lost(&error))),
            },
        }
        Ok(())
    }

    /// Why it ended: what was noticed first says more.
    fn end(&mut self, failure: Failure) -> Failure {
        self.broken.take().map_or(failure, |(first, _)| first)
    }

    /// Makes room of what has gone, also while there is always more to go.
    fn forget_written(&mut self, output: &mut Vec<u8>) {
        if self.written == output.len() {
            output.clear();
            output.shrink_to(KEPT_BYTES);
            self.written = 0;
        } else if self.written >= KEPT_BYTES {
            output.drain(..self.written);
            self.written = 0;
        }
    }

    /// Bytes of the output that have not gone.
    pub(crate) fn left(&self, output: &[u8]) -> usize {
        output.len() - self.written
    }

    /// For how long we have said nothing.
    pub(crate) fn silence(&self) -> Duration {
        self.sent.elapsed()
    }

    /// The server has said that it takes nothing for now.
    #[cfg(feature = "amqp091")]
    pub(crate) fn excuse(&mut self) {
        self.moved = Instant::now();
    }

    /// Looks at the server; a patience of zero is endless.
    ///
    /// # Errors
    /// It has been silent for so long, or has taken nothing of what is to go; nothing can be
    /// written, and nothing more was said.
    pub(crate) fn check(&mut self, output: &[u8], patience: Duration) -> Result<(), Failure> {
        if self
            .broken
            .as_ref()
            .is_some_and(|(_, since)| since.elapsed() >= LAST_WORDS)
            && let Some((failure, _)) = self.broken.take()
        {
            return Err(failure);
        }
        if self.left(output) == 0 {
            self.moved = Instant::now();
        }
        if patience.is_zero() {
            return Ok(());
        }
        let seconds = patience.as_secs_f32();
        let lost = |what: &str| {
            let text = format!("connection lost: {what} for {seconds} s");
            Err(Failure::retry(text))
        };
        if self.received.elapsed() > patience {
            return lost("not a word from the server");
        }
        if self.moved.elapsed() > patience {
            return lost("the server takes nothing");
        }
        Ok(())
    }

    pub(crate) async fn shut_down(&mut self) {
        // The server may be gone already.
        let _ = self.writer.shutdown().await;
    }
}

fn lost(error: &std::io::Error) -> Failure {
    Failure::of_stream("connection lost", error)
}

const READ_BYTES: usize = 16 * 1_024;
/// Room that is kept for output.
const KEPT_BYTES: usize = 262_144;
/// How long is read what a server said before it took nothing more.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_has_gone_makes_room_though_there_is_always_more() {
        let (ours, mut theirs) = duplex(1_000);
        let mut pipe = Pipe::new(Box::new(ours));
        let (mut output, mut read, mut most) = (Vec::new(), vec![0; 1_000], 0);
        for _ in 0..2_000 {
            while pipe.left(&output) < 10_000 {
                output.extend([7; 1_000]);
            }
            pipe.carry(&mut output).await.unwrap();
            theirs.read_exact(&mut read).await.unwrap();
            most = most.max(output.len());
        }
        assert!(read.iter().all(|it| *it == 7));
        assert!(most < KEPT_BYTES + 20_000, "{most}");
    }

    #[tokio::test]
    async fn what_a_server_said_before_it_went_is_read_though_nothing_can_be_written() {
        let (ours, mut theirs) = duplex(1_000);
        let mut pipe = Pipe::new(Box::new(ours));
        theirs.write_all(b"last words").await.unwrap();
        drop(theirs);
        let mut output = vec![7; 5_000];
        let failure = loop {
            if let Err(failure) = pipe.carry(&mut output).await {
                break failure;
            }
        };
        assert_eq!(*pipe.input, *b"last words");
        assert!(failure.reason.contains("connection"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_nothing_is_left_and_one_that_has_nothing_to_take_is_not() {
        let (ours, mut theirs) = duplex(1_000);
        let mut pipe = Pipe::new(Box::new(ours));
        let patience = Duration::from_secs(5);
        let mut output = Vec::new();
        for second in 0..60 {
            theirs.write_all(b".").await.unwrap();
            pipe.carry(&mut output).await.unwrap();
            let checked = pipe.check(&output, patience);
            assert!(
                checked.is_ok() || second > 35,
                "{checked:?} after {second} s"
            );
            if second == 30 {
                output.extend([7; 5_000]);
                pipe.carry(&mut output).await.unwrap();
            }
            if let Err(failure) = checked {
                assert!(failure.reason.contains("takes nothing"), "{failure}");
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        unreachable!("it is left");
    }
}
