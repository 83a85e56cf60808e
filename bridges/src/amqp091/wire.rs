//! The stream of a connection: frames out and in, questions and their answers, heartbeats.

use std::collections::VecDeque;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};

use super::failure_of;
use super::frame::{Frame, Outbox, decode};
use crate::pipe::Pipe;
use crate::{Failure, Stream};

/// A connection, as far as bytes are concerned.
#[derive(Debug)]
pub(super) struct Wire {
    pipe: Pipe,
    pub(super) out: Outbox,
    /// What came while an answer was awaited.
    early: VecDeque<(u16, Frame)>,
    /// How often either side says something; zero is never.
    pub(super) heartbeat: Duration,
}

impl Wire {
    /// Begins with the words by which a client says what it speaks.
    pub(super) fn begin(stream: Box<dyn Stream>) -> Self {
        let mut out = Outbox::new(FRAME_BYTES_MAX);
        out.bytes.extend(PROTOCOL_HEADER);
        Self {
            pipe: Pipe::new(stream),
            out,
            early: VecDeque::new(),
            heartbeat: Duration::ZERO,
        }
    }

    /// Waits until some bytes have come, or went. Cancel safe: nothing moves unless it completes.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) async fn carry(&mut self) -> Result<(), Failure> {
        self.pipe.carry(&mut self.out.bytes).await
    }

    /// The next frame that has come, and its channel.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub(super) fn next(&mut self) -> Result<Option<(u16, Frame)>, Failure> {
        match self.early.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => decode(&mut self.pipe.input, self.out.frame_bytes_max),
        }
    }

    /// Asks, and waits for the answer; what comes before it is kept.
    ///
    /// # Errors
    /// The server refuses; the stream has ended.
    pub(super) async fn ask<T>(
        &mut self,
        channel: u16,
        question: AMQPClass,
        answer: impl Fn(&AMQPClass) -> Option<T>,
    ) -> Result<T, Failure> {
        self.out.method(channel, question)?;
        self.await_answer(channel, answer).await
    }

    /// Waits for an answer; what comes before it is kept.
    ///
    /// # Errors
    /// The server refuses; the stream has ended.
    pub(super) async fn await_answer<T>(
        &mut self,
        channel: u16,
        answer: impl Fn(&AMQPClass) -> Option<T>,
    ) -> Result<T, Failure> {
        loop {
            while let Some((from, frame)) = decode(&mut self.pipe.input, self.out.frame_bytes_max)?
            {
                if let Frame::Method(method) = &frame {
                    if let Some(refusal) = refusal_of(method) {
                        return Err(refusal);
                    }
                    if from == channel
                        && let Some(answer) = answer(method)
                    {
                        return Ok(answer);
                    }
                }
                if self.early.len() == EARLY_FRAMES_MAX {
                    return Err(Failure::retry("the server says much, but does not answer"));
                }
                self.early.push_back((from, frame));
            }
            self.carry().await?;
        }
    }

    /// The server reads nothing while it has blocked us.
    pub(super) fn excuse(&mut self) {
        self.pipe.excuse();
    }

    /// Says something if it is time to, and looks for when the server last did.
    ///
    /// # Errors
    /// The server has been silent for too long.
    pub(super) fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        self.pipe.check(&self.out.bytes, 2 * self.heartbeat)?;
        if self.heartbeat.is_zero() {
            return Ok(());
        }
        let is_idle = self.pipe.left(&self.out.bytes) == 0;
        if is_idle && self.pipe.silence() * 2 >= self.heartbeat {
            self.out.heartbeat();
        }
        Ok(())
    }

    /// Sends what there is, says goodbye, and waits until the server has heard it.
    pub(super) async fn close(&mut self) {
        let close = connection::AMQPMethod::Close(connection::Close {
            reply_code: CLOSED,
            reply_text: "closed".into(),
            class_id: 0,
            method_id: 0,
        });
        let is_answer = |it: &AMQPClass| {
            let closed =
                AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
            (*it == closed).then_some(())
        };
        let asked = self.ask(0, AMQPClass::Connection(close), is_answer).await;
        if asked.is_err() {
            // The server was the first to say it, and may be gone already.
            let agreed = connection::AMQPMethod::CloseOk(connection::CloseOk {});
            let _ = self.out.method(0, AMQPClass::Connection(agreed));
            while self.pipe.left(&self.out.bytes) > 0 && self.carry().await.is_ok() {}
        }
        self.pipe.shut_down().await;
    }
}

/// Why the server ends the connection or a channel, if it does.
pub(super) fn refusal_of(method: &AMQPClass) -> Option<Failure> {
    let (code, text) = match method {
        AMQPClass::Connection(connection::AMQPMethod::Close(it)) => (it.reply_code, &it.reply_text),
        AMQPClass::Channel(channel::AMQPMethod::Close(it)) => (it.reply_code, &it.reply_text),
        _ => return None,
    };
    Some(failure_of(code, text.as_str()))
}

const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// The largest frame that we take, and the default of RabbitMQ.
pub(super) const FRAME_BYTES_MAX: usize = 131_072;
/// Frames that are kept while an answer is awaited: more than what a consumer is sent in advance.
const EARLY_FRAMES_MAX: usize = 1 << 18;
/// The reply code of a connection that is closed on purpose.
const CLOSED: u16 = 200;
