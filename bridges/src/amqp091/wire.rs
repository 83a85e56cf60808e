//! The stream of a connection: frames out and in, questions and their answers, heartbeats.

use std::collections::VecDeque;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::failure_of;
use super::frame::{Frame, Outbox, decode};
use crate::dial::write_some;
use crate::{Failure, Stream};

/// A connection, as far as bytes are concerned.
#[derive(Debug)]
pub(super) struct Wire {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    pub(super) out: Outbox,
    written: usize,
    needs_flush: bool,
    /// What came while an answer was awaited.
    early: VecDeque<(u16, Frame)>,
    /// How often either side says something; zero is never.
    pub(super) heartbeat: Duration,
    sent: Instant,
    received: Instant,
}

impl Wire {
    /// Begins with the words by which a client says what it speaks.
    pub(super) fn begin(stream: Box<dyn Stream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        let mut out = Outbox::new(FRAME_BYTES_MAX);
        out.bytes.extend(PROTOCOL_HEADER);
        Self {
            reader,
            writer,
            input: BytesMut::new(),
            out,
            written: 0,
            needs_flush: false,
            early: VecDeque::new(),
            heartbeat: Duration::ZERO,
            sent: now,
            received: now,
        }
    }

    /// Waits until some bytes have come, or went. Cancel safe: nothing moves unless it completes.
    ///
    /// # Errors
    /// The stream has ended.
    pub(super) async fn carry(&mut self) -> Result<(), Failure> {
        if self.written == self.out.bytes.len() {
            self.out.bytes.clear();
            self.written = 0;
        }
        let rest = self.out.bytes.get(self.written..).unwrap_or_default();
        let has_output = !rest.is_empty();
        self.input.reserve(READ_BYTES);
        tokio::select! {
            count = write_some(&mut self.writer, rest), if has_output || self.needs_flush => {
                self.written += count.map_err(|error| lost(&error))?;
                self.needs_flush = has_output;
                self.sent = Instant::now();
            }
            count = self.reader.read_buf(&mut self.input) => {
                if count.map_err(|error| lost(&error))? == 0 {
                    return Err(Failure::retry("the server closed the connection"));
                }
                self.received = Instant::now();
            }
        }
        Ok(())
    }

    /// The next frame that has come, and its channel.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub(super) fn next(&mut self) -> Result<Option<(u16, Frame)>, Failure> {
        match self.early.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => decode(&mut self.input, self.out.frame_bytes_max),
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
            while let Some((from, frame)) = decode(&mut self.input, self.out.frame_bytes_max)? {
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

    /// Says something if it is time to, and looks for when the server last did.
    ///
    /// # Errors
    /// The server has been silent for too long.
    pub(super) fn look_at_the_clock(&mut self) -> Result<(), Failure> {
        if self.heartbeat.is_zero() {
            return Ok(());
        }
        if self.received.elapsed() > 2 * self.heartbeat {
            let seconds = 2 * self.heartbeat.as_secs();
            let text = format!("connection lost: not a word from the server for {seconds} s");
            return Err(Failure::retry(text));
        }
        let is_idle = self.written == self.out.bytes.len();
        if is_idle && self.sent.elapsed() * 2 >= self.heartbeat {
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
            while self.written < self.out.bytes.len() && self.carry().await.is_ok() {}
        }
        let _ = self.writer.shutdown().await;
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

fn lost(error: &std::io::Error) -> Failure {
    Failure::of_stream("connection lost", error)
}

const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";
/// The largest frame that we take, and the default of RabbitMQ.
pub(super) const FRAME_BYTES_MAX: usize = 131_072;
const READ_BYTES: usize = 16 * 1_024;
/// Frames that are kept while an answer is awaited: more than what a consumer is sent in advance.
const EARLY_FRAMES_MAX: usize = 1 << 18;
/// The reply code of a connection that is closed on purpose.
const CLOSED: u16 = 200;
