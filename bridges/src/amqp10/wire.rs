//! The frames of a connection, out and in (AMQP 1.0 section 2.3), and what both sides agree on.

use std::time::Duration;

use bytes::{Buf, BytesMut};

use super::Settings;
use super::encoder::Encoder;
use super::frame::{self, HEAD_BYTES, Head, Kind};
use super::outcome::end_of;
use super::performative::{Open, Performative, code, decode};
use super::value::Malformed;
use crate::pipe::Pipe;
use crate::{Failure, Stream};

/// A connection, as far as frames are concerned.
#[derive(Debug)]
pub(super) struct Wire {
    pipe: Pipe,
    out: Vec<u8>,
    /// The largest frame that the server takes.
    pub(super) frame_bytes_max: usize,
    /// How long the server may be silent, and we; zero is for ever.
    patience: Duration,
    their_patience: Duration,
}

impl Wire {
    /// Opens the connection.
    ///
    /// # Errors
    /// The server refuses, or speaks something else; the stream has ended.
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        settings: &Settings,
    ) -> Result<Self, Failure> {
        let mut wire = Self {
            pipe: Pipe::new(stream),
            out: PROTOCOL_HEADER.to_vec(),
            frame_bytes_max: FRAME_BYTES_MIN,
            patience: settings.idle_timeout,
            their_patience: Duration::ZERO,
        };
        wire.frame(0, |out| open(out, settings));
        while wire.pipe.input.len() < PROTOCOL_HEADER.len() {
            wire.carry().await?;
        }
        let header = wire.pipe.input.split_to(PROTOCOL_HEADER.len());
        if *header != PROTOCOL_HEADER {
            let text = format!(
                "the server speaks no AMQP 1.0: it answers {:02x?}",
                &*header
            );
            return Err(Failure::refused(text));
        }
        let frame = loop {
            if let Some((_, frame)) = wire.next()? {
                break frame;
            }
            wire.carry().await?;
        };
        match decode(&frame)? {
            Performative::Open(theirs) => wire.agree(theirs),
            Performative::Close(error) => return Err(end_of("connection", error.as_ref())),
            _ => return Err(Malformed("a frame before the connection is open").into()),
        }
        Ok(wire)
    }

    fn agree(&mut self, theirs: Open) {
        let most = usize::try_from(theirs.frame_bytes_max).unwrap_or(usize::MAX);
        self.frame_bytes_max = most.clamp(FRAME_BYTES_MIN, FRAME_BYTES_MAX);
        self.their_patience = Duration::from_millis(theirs.idle_timeout_ms.into());
    }

    /// Waits until some bytes have come, or went. Cancel safe: nothing moves unless it completes.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) async fn carry(&mut self) -> Result<(), Failure> {
        self.pipe.carry(&mut self.out).await
    }

    /// Whether so much waits to go that nothing more should be written.
    pub(super) fn is_crowded(&self) -> bool {
        self.pipe.left(&self.out) >= OUT_BYTES_MAX
    }

    /// The body of the next frame that has come, and its channel.
    ///
    /// # Errors
    /// The server broke the protocol, or asks much and takes no answer.
    pub(super) fn next(&mut self) -> Result<Option<(u16, BytesMut)>, Malformed> {
        if self.pipe.left(&self.out) > ANSWERS_BYTES_MAX {
            return Err(Malformed("it asks much, and takes no answer"));
        }
        loop {
            let input = &mut self.pipe.input;
            let Some(head) = input.first_chunk::<HEAD_BYTES>() else {
                return Ok(None);
            };
            let head = Head::read(*head, Kind::Amqp, FRAME_BYTES_MAX);
            let head = head.ok_or(Malformed("a frame that is none"))?;
            if input.len() < head.bytes {
                return Ok(None);
            }
            let mut frame = input.split_to(head.bytes);
            frame.advance(head.start);
            // An empty one says that the server is there.
            if !frame.is_empty() {
                return Ok(Some((head.channel, frame)));
            }
        }
    }

    /// Writes a frame.
    pub(super) fn frame(&mut self, channel: u16, body: impl FnOnce(&mut Encoder<'_>)) {
        let frame = self.begin_frame(channel);
        body(&mut Encoder(&mut self.out));
        self.end_frame(frame);
    }

    /// Writes what stands before the body of a frame; answers where it begins.
    pub(super) fn begin_frame(&mut self, channel: u16) -> usize {
        frame::begin(&mut self.out, Kind::Amqp, channel)
    }

    /// The body of a frame is complete.
    pub(super) fn end_frame(&mut self, begin: usize) {
        frame::end(&mut self.out, begin);
    }

    /// What is written and has not gone, for the body of a frame.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Says something if it is time to, and looks for when the server last did.
    ///
    /// # Errors
    /// The server has been silent for too long.
    pub(super) fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        self.pipe.check(&self.out, self.patience)?;
        let is_idle = self.pipe.left(&self.out) == 0 && !self.their_patience.is_zero();
        if is_idle && self.pipe.silence() * 2 >= self.their_patience {
            self.frame(0, |_| {});
        }
        Ok(())
    }

    /// How often the clock has to be looked at.
    pub(super) fn tick(&self) -> Duration {
        match self.their_patience / 4 {
            Duration::ZERO => TICK_MAX,
            quarter => quarter.clamp(TICK_MIN, TICK_MAX),
        }
    }

    /// Sends what there is, says goodbye, and waits until the server has heard it.
    pub(super) async fn close(&mut self) {
        self.frame(0, |out| out.composite(code::CLOSE, |_| {}));
        loop {
            match self.next() {
                Ok(Some((_, frame))) => match decode(&frame) {
                    Ok(Performative::Close(_)) => break,
                    _ => continue,
                },
                Ok(None) => {}
                Err(_) => break,
            }
            if self.carry().await.is_err() {
                break;
            }
        }
        while self.pipe.left(&self.out) > 0 && self.carry().await.is_ok() {}
        self.pipe.shut_down().await;
    }
}

fn open(out: &mut Encoder<'_>, settings: &Settings) {
    // Whoever is told half of the time speaks in time, says section 2.4.5. RabbitMQ takes a second
    // for the least.
    let ours_ms = u32::try_from(settings.idle_timeout.as_millis()).unwrap_or(u32::MAX);
    let told_ms = (ours_ms / 2).max(ours_ms.min(1_000));
    out.composite(code::OPEN, |fields| {
        fields.some(|it| it.string(&settings.name));
        fields.maybe(settings.host_name.as_deref(), |it, name| it.string(name));
        fields.some(|it| it.uint(u32::try_from(FRAME_BYTES_MAX).unwrap_or(u32::MAX)));
        fields.some(|it| it.ushort(CHANNEL_MAX));
        fields.maybe(Some(told_ms).filter(|it| *it > 0), |it, value| {
            it.uint(value)
        });
    });
}

const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// The largest frame that everybody takes (MIN-MAX-FRAME-SIZE).
const FRAME_BYTES_MIN: usize = 512;
/// The largest frame of ours and the largest that we take.
const FRAME_BYTES_MAX: usize = 131_072;
/// More than are used.
const CHANNEL_MAX: u16 = 15;
/// What waits to go; only what is a part of a message is written beyond it.
const OUT_BYTES_MAX: usize = 1_048_576;
/// What waits to go where the server asks and does not read.
const ANSWERS_BYTES_MAX: usize = 16 * OUT_BYTES_MAX;
const TICK_MIN: Duration = Duration::from_millis(10);
const TICK_MAX: Duration = Duration::from_millis(250);
