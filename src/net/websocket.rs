//! MQTT over WebSocket: binary frames below, a plain stream of bytes above.
//!
//! Owns the upgrade, the frames and the closing handshake. Received frame boundaries mean nothing
//! [MQTT-6.0.0-4]. A server sends a frame for each packet, since widely used clients read no second
//! one before more arrives. An idle connection holds no buffer.

mod frame;
mod handshake;
mod packets;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use frame::{Event, FrameDecoder, Role, Violation, apply_mask, write_header};
pub use handshake::{accept, connect};
use packets::Packets;

/// A stream of MQTT bytes in binary frames over `S`, for either side.
///
/// A write of at most 64 KiB becomes one frame, at a server one for each packet in it. Like TLS, a
/// write may be taken and still be held here: flush afterwards. Read and write from one task, since
/// reading may have to write.
/// After the end or an error of reading, shut down: the close frame may still be held here.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    role: Role,
    decoder: FrameDecoder,
    /// Bytes that came with the handshake.
    early: Vec<u8>,
    /// Whole frames not yet taken by the stream, the first perhaps in part.
    outgoing: Vec<u8>,
    /// Where the packets that are written end.
    packets: Packets,
    /// How much of `outgoing` the stream has taken.
    sent: usize,
    /// A reply was queued by reading, and reading has to flush it.
    reply_is_due: bool,
    input: Input,
    close_is_sent: bool,
}

/// What a WebSocket listener accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The path of the endpoint; a query after it is ignored.
    pub path: String,
    /// The longest HTTP request head.
    pub handshake_bytes_max: usize,
    /// The longest payload of one frame; a message in many frames may be longer.
    pub frame_bytes_max: u64,
    /// The web pages that may connect.
    pub origins: Origins,
}

/// Which web pages may connect, by the `Origin` that browsers send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All, and programs that are no browser.
    Any,
    /// Those served by this machine, and programs that are no browser.
    Local,
    /// These; whoever sends no origin is refused.
    Listed(Vec<String>),
}

/// Why a WebSocket handshake or connection failed.
#[derive(Debug, thiserror::Error)]
pub enum WebSocketError {
    /// The stream failed or ended too early.
    #[error("websocket stream: {0}")]
    Io(#[from] io::Error),
    /// The handshake was refused.
    #[error("websocket handshake refused with status {status}: {reason}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Why.
        reason: &'static str,
    },
    /// The peer broke the framing rules; reading reports it inside an [`io::Error`].
    #[error("websocket closed with code {code}: {reason}")]
    Violation {
        /// The close code sent to the peer.
        code: u16,
        /// What was wrong.
        reason: &'static str,
    },
}

#[derive(Debug, Clone, Copy)]
enum Input {
    Open,
    /// The peer sent its close frame.
    Closed,
    Failed(Violation),
}

impl Default for WebSocketSettings {
    fn default() -> Self {
        Self {
            path: "/mqtt".to_owned(),
            handshake_bytes_max: 8192,
            frame_bytes_max: 1024 * 1024,
            origins: Origins::Any,
        }
    }
}

impl<S> WebSocket<S> {
    fn new(stream: S, role: Role, frame_bytes_max: u64, early: Vec<u8>) -> Self {
        Self {
            stream,
            role,
            decoder: FrameDecoder::new(role, frame_bytes_max),
            early,
            outgoing: Vec::new(),
            packets: Packets::default(),
            sent: 0,
            reply_is_due: false,
            input: Input::Open,
            close_is_sent: false,
        }
    }

    /// The stream below.
    pub fn inner(&self) -> &S {
        &self.stream
    }

    /// The stream below; reading or writing it directly breaks the framing.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    fn queue(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mut mask = self.mask()?;
        write_header(&mut self.outgoing, opcode, payload.len(), mask);
        let start = self.outgoing.len();
        self.outgoing.extend_from_slice(payload);
        if let Some(mask) = &mut mask {
            apply_mask(&mut self.outgoing[start..], mask);
        }
        Ok(())
    }

    fn queue_close(&mut self, payload: &[u8]) -> io::Result<()> {
        if !mem::replace(&mut self.close_is_sent, true) {
            self.queue(frame::CLOSE, payload)?;
        }
        Ok(())
    }

    fn mask(&self) -> io::Result<Option<[u8; 4]>> {
        match self.role {
            Role::Server => Ok(None),
            Role::Client => handshake::random_mask().map(Some),
        }
    }

    /// Decodes raw input in place; the length of the payload now at the start of `bytes`.
    fn decode(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut length) = (0, 0);
        while matches!(self.input, Input::Open) {
            let step = self.decoder.decode(bytes, at, length);
            at += step.used;
            length += step.payload;
            match step.event {
                Ok(Event::Exhausted) => break,
                // Only the latest ping needs an answer, so a flood of them is not queued.
                Ok(Event::Ping(_)) if self.outgoing.len() > OUTGOING_BYTES_FOR_PONG => {}
                Ok(Event::Ping(payload)) => {
                    if !self.close_is_sent {
                        self.queue(frame::PONG, &payload)?;
                        self.reply_is_due = true;
                    }
                }
                Ok(Event::Close(payload)) => {
                    self.queue_close(&payload[..payload.len().min(2)])?;
                    self.reply_is_due = true;
                    self.input = Input::Closed;
                }
                Err(violation) => {
                    self.queue_close(&violation.code.to_be_bytes())?;
                    self.reply_is_due = true;
                    self.input = Input::Failed(violation);
                }
            }
        }
        Ok(length)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Sends what is queued; ready when the stream below has taken all of it.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.sent += length,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.reply_is_due = false;
        Poll::Ready(Ok(()))
    }

    /// Reads raw bytes into `bytes` and decodes them: payload length, or none at the end.
    fn poll_payload(
        &mut self,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<Option<usize>>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(bytes.len());
            bytes[..length].copy_from_slice(&self.early[..length]);
            self.early.drain(..length);
            if self.early.is_empty() {
                self.early = Vec::new();
            }
            return Poll::Ready(self.decode(&mut bytes[..length]).map(Some));
        }
        let mut raw = ReadBuf::new(bytes);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut raw))?;
        match raw.filled().len() {
            0 if self.decoder.is_inside_frame() => {
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            0 => Poll::Ready(Ok(None)),
            _ => Poll::Ready(self.decode(raw.filled_mut()).map(Some)),
        }
    }

    /// Sends the slices as frames; the payload bytes taken.
    fn poll_write_frames(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.close_is_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_drain(context))?;
        let payload = gather(slices);
        if payload.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut packets = self.packets;
        let frames = self.frames_of(&payload, &mut packets)?;
        match Pin::new(&mut self.stream).poll_write(context, &frames) {
            // Nothing of the frames left, so the caller may try again with other bytes.
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(sent)) if sent == frames.len() => {}
            Poll::Ready(sent) => {
                self.sent = sent?;
                self.outgoing = frames;
            }
        }
        self.packets = packets;
        Poll::Ready(Ok(payload.len()))
    }
}

impl<S> WebSocket<S> {
    fn frames_of(&self, payload: &[u8], packets: &mut Packets) -> io::Result<Vec<u8>> {
        let mut frames = Vec::with_capacity(payload.len() + 14);
        let mut rest = payload;
        while !rest.is_empty() {
            let length = match self.role {
                Role::Server => packets.take(rest),
                Role::Client => rest.len(),
            };
            let (frame, later) = rest.split_at(length);
            let mut mask = self.mask()?;
            write_header(&mut frames, frame::BINARY, length, mask);
            let start = frames.len();
            frames.extend_from_slice(frame);
            if let Some(mask) = &mut mask {
                apply_mask(&mut frames[start..], mask);
            }
            rest = later;
        }
        Ok(frames)
    }
}

/// The first bytes of the slices, in one piece and no more than go out at once.
fn gather<'a>(slices: &'a [IoSlice<'_>]) -> Cow<'a, [u8]> {
    if let [only] = slices {
        return Cow::Borrowed(&only[..only.len().min(WRITE_BYTES_MAX)]);
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    let length = total.min(WRITE_BYTES_MAX);
    let mut bytes = Vec::with_capacity(length);
    for slice in slices {
        let room = length - bytes.len();
        bytes.extend_from_slice(&slice[..slice.len().min(room)]);
    }
    Cow::Owned(bytes)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            // A reply that does not fit now must not stop the input.
            if this.reply_is_due
                && let Poll::Ready(Err(error)) = this.poll_flush_all(context)
            {
                return Poll::Ready(Err(error));
            }
            match this.input {
                Input::Open => {}
                Input::Closed => return Poll::Ready(Ok(())),
                Input::Failed(Violation { code, reason }) => {
                    let error = WebSocketError::Violation { code, reason };
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
            let room = buffer.remaining().min(READ_BYTES_MAX);
            let bytes = buffer.initialize_unfilled_to(room);
            match ready!(this.poll_payload(context, bytes))? {
                None => return Poll::Ready(Ok(())),
                Some(0) => {}
                Some(length) => {
                    buffer.advance(length);
                    if this.reply_is_due {
                        // An error here comes back at the next read, after the payload.
                        let _ = this.poll_flush_all(context);
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_frames(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_frames(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_all(context)
    }

    /// Sends the close frame and shuts the stream below; does not wait for the peer's close.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.queue_close(&frame::NORMAL.to_be_bytes())?;
        ready!(self.poll_flush_all(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// More than this is never read at once, so that large buffers are not zeroed for nothing.
const READ_BYTES_MAX: usize = 16 * 1024;
const WRITE_BYTES_MAX: usize = 64 * 1024;
const OUTGOING_BYTES_FOR_PONG: usize = 4 * 1024;
