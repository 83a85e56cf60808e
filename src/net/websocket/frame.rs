//! Frames of RFC 6455, decoded in place and cut at any byte.

use std::mem;

/// Decodes a stream of frames, keeping only an unfinished header or control frame between calls.
#[derive(Debug)]
pub(super) struct FrameDecoder {
    role: Role,
    frame_bytes_max: u64,
    /// An unfinished header.
    header: [u8; HEADER_BYTES_MAX],
    header_length: u8,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A fragmented message awaits its continuation.
    message_is_open: bool,
    /// The payload of an unfinished control frame, at most 125 bytes.
    control: Vec<u8>,
}

/// Which end of the connection this is; it decides who masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// What a step of decoding met.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// All bytes are used up.
    Exhausted,
    Ping(Vec<u8>),
    Close(Vec<u8>),
}

/// A violation, by the close code that answers it and what was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u16,
    pub(super) reason: &'static str,
}

/// How far a step came.
#[derive(Debug)]
pub(super) struct Step {
    /// Payload bytes now at the start of the output region.
    pub(super) payload: usize,
    /// Input bytes used.
    pub(super) used: usize,
    pub(super) event: Result<Event, Violation>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    remaining: u64,
    mask: [u8; 4],
}

impl FrameDecoder {
    pub(super) fn new(role: Role, frame_bytes_max: u64) -> Self {
        Self {
            role,
            frame_bytes_max,
            header: [0; HEADER_BYTES_MAX],
            header_length: 0,
            frame: None,
            message_is_open: false,
            control: Vec::new(),
        }
    }

    /// Whether the input so far ends inside a frame.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.header_length > 0 || self.frame.is_some()
    }

    /// Decodes `bytes[from..]` and moves data payload, unmasked, to `bytes[to..]`; `to <= from`.
    ///
    /// Stops at the first ping or close.
    pub(super) fn decode(&mut self, bytes: &mut [u8], from: usize, to: usize) -> Step {
        let (mut at, mut end) = (from, to);
        let event = loop {
            let Some(frame) = &mut self.frame else {
                match self.read_header(bytes, &mut at) {
                    Ok(true) => continue,
                    Ok(false) => break Ok(Event::Exhausted),
                    Err(violation) => break Err(violation),
                }
            };
            let available = bytes.len() - at;
            let length =
                usize::try_from(frame.remaining).map_or(available, |left| left.min(available));
            apply_mask(&mut bytes[at..at + length], &mut frame.mask);
            frame.remaining -= length as u64;
            let (is_done, opcode) = (frame.remaining == 0, frame.opcode);
            if opcode >= CLOSE {
                self.control.extend_from_slice(&bytes[at..at + length]);
            } else {
                bytes.copy_within(at..at + length, end);
                end += length;
            }
            at += length;
            if !is_done {
                break Ok(Event::Exhausted);
            }
            self.frame = None;
            let control = mem::take(&mut self.control);
            match opcode {
                CLOSE => break check_close(&control).map(|()| Event::Close(control)),
                PING => break Ok(Event::Ping(control)),
                _ => {}
            }
        };
        Step {
            payload: end - to,
            used: at - from,
            event,
        }
    }

    /// Collects header bytes; true when a frame begins.
    fn read_header(&mut self, bytes: &[u8], at: &mut usize) -> Result<bool, Violation> {
        loop {
            let have = usize::from(self.header_length);
            let need = if have < 2 {
                2
            } else {
                header_length(self.header[1])
            };
            if have == need {
                self.header_length = 0;
                self.frame = Some(self.parse_header(need)?);
                return Ok(true);
            }
            let Some(&byte) = bytes.get(*at) else {
                return Ok(false);
            };
            self.header[have] = byte;
            self.header_length += 1;
            *at += 1;
            if have == 1 {
                self.check_start()?;
            }
        }
    }

    /// Refuses what the first two bytes already show to be wrong.
    fn check_start(&mut self) -> Result<(), Violation> {
        let [first, second, ..] = self.header;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(protocol_error("reserved bit set"));
        }
        if (second & 0x80 != 0) != (self.role == Role::Server) {
            return Err(protocol_error("frame masked by the wrong side"));
        }
        match opcode {
            CLOSE | PING | PONG if !is_final => Err(protocol_error("control frame fragmented")),
            CLOSE | PING | PONG if second & 0x7F > CONTROL_BYTES_MAX => {
                Err(protocol_error("control frame too long"))
            }
            CLOSE | PING | PONG => Ok(()),
            TEXT => Err(Violation {
                code: UNSUPPORTED_DATA,
                reason: "text frame",
            }),
            CONTINUATION if !self.message_is_open => {
                Err(protocol_error("continuation without a message"))
            }
            BINARY if self.message_is_open => Err(protocol_error("message inside a message")),
            CONTINUATION | BINARY => {
                self.message_is_open = !is_final;
                Ok(())
            }
            _ => Err(protocol_error("reserved opcode")),
        }
    }

    fn parse_header(&self, length: usize) -> Result<Frame, Violation> {
        let header = &self.header[..length];
        let payload_end = length - if header[1] & 0x80 != 0 { 4 } else { 0 };
        let short = header[1] & 0x7F;
        let remaining = match short {
            126 | 127 => header[2..payload_end]
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
            _ => u64::from(short),
        };
        if (short == 126 && remaining < 126) || (short == 127 && remaining < 0x1_0000) {
            return Err(protocol_error("length not in its shortest form"));
        }
        if remaining >> 63 != 0 {
            return Err(protocol_error("length beyond 63 bits"));
        }
        if remaining > self.frame_bytes_max {
            return Err(Violation {
                code: TOO_BIG,
                reason: "frame over the limit",
            });
        }
        let mut mask = [0; 4];
        for (to, from) in mask.iter_mut().zip(&header[payload_end..]) {
            *to = *from;
        }
        Ok(Frame {
            opcode: header[0] & 0x0F,
            remaining,
            mask,
        })
    }
}

/// Appends the header of one final frame to `output`.
pub(super) fn write_header(output: &mut Vec<u8>, opcode: u8, length: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    output.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short <= CONTROL_BYTES_MAX => output.push(masked | short),
        (_, Ok(medium)) => {
            output.push(masked | 126);
            output.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            output.push(masked | 127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(&mask.unwrap_or_default()[..if mask.is_some() { 4 } else { 0 }]);
}

/// Masks or unmasks `bytes`, and turns the mask so that it fits the bytes that follow.
pub(super) fn apply_mask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let turn = bytes.len() % 4;
    if *mask != [0; 4] {
        let mut chunks = bytes.chunks_exact_mut(4);
        for chunk in &mut chunks {
            for (byte, key) in chunk.iter_mut().zip(*mask) {
                *byte ^= key;
            }
        }
        for (byte, key) in chunks.into_remainder().iter_mut().zip(*mask) {
            *byte ^= key;
        }
    }
    mask.rotate_left(turn);
}

/// # Source
/// RFC 6455 sections 5.5.1 and 7.4
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let (code, reason) = match payload {
        [] => return Ok(()),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(protocol_error("close code cut short")),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(protocol_error("close code not allowed"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation {
            code: INVALID_DATA,
            reason: "close reason is not utf-8",
        });
    }
    Ok(())
}

fn header_length(second: u8) -> usize {
    let extended = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 != 0 { 4 } else { 0 }
}

fn protocol_error(reason: &'static str) -> Violation {
    Violation {
        code: PROTOCOL_ERROR,
        reason,
    }
}

pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED_DATA: u16 = 1003;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

const CONTROL_BYTES_MAX: u8 = 125;
const HEADER_BYTES_MAX: usize = 14;
