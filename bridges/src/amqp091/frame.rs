//! Frames of AMQP 0-9-1 (section 4.2 of the specification), as bytes and back.

use amq_protocol::frame::parsing::parse_content_header;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, parse_class};
use bytes::{Buf, Bytes, BytesMut};

use crate::Failure;

/// What came.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Method(AMQPClass),
    /// The first of a content, which says how large it is.
    Header(Box<AMQPContentHeader>),
    /// A part of a content.
    Body(Bytes),
    Heartbeat,
}

/// Takes the next frame and its channel out of the input, if it is whole.
///
/// # Errors
/// It is no frame, or larger than was agreed on.
pub(super) fn decode(
    input: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<(u16, Frame)>, Failure> {
    let Some(&[kind, high, low, a, b, c, d]) = input.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if size > bytes_max {
        return Err(broken(&format!("a frame of {size} bytes")));
    }
    if input.len() <= HEAD_BYTES + size {
        return Ok(None);
    }
    let mut bytes = input.split_to(HEAD_BYTES + size + 1);
    if bytes.last() != Some(&END) {
        return Err(broken("a frame without an end"));
    }
    bytes.truncate(HEAD_BYTES + size);
    bytes.advance(HEAD_BYTES);
    let frame = match kind {
        METHOD => match parse_class(&*bytes) {
            Ok(([], method)) => Frame::Method(method),
            _ => return Err(broken("an unknown method")),
        },
        HEADER => match parse_content_header(&*bytes) {
            Ok(([], header)) => Frame::Header(Box::new(header)),
            _ => return Err(broken("unknown properties")),
        },
        BODY => Frame::Body(bytes.freeze()),
        HEARTBEAT => Frame::Heartbeat,
        _ => return Err(broken(&format!("a frame of the type {kind}"))),
    };
    Ok(Some((u16::from_be_bytes([high, low]), frame)))
}

fn broken(what: &str) -> Failure {
    Failure::retry(format!("the server broke the protocol: {what}"))
}

/// Frames to be written.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    /// The largest frame that was agreed on.
    pub(super) frame_bytes_max: usize,
    /// Room for one frame.
    frame: Vec<u8>,
}

impl Outbox {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            frame_bytes_max,
            frame: Vec::new(),
        }
    }

    /// # Errors
    /// It cannot be said; nothing was written.
    pub(super) fn method(&mut self, channel: u16, method: AMQPClass) -> Result<(), Failure> {
        self.write(&AMQPFrame::Method(channel, method))
    }

    /// A message and where it goes, in as many frames as it needs.
    ///
    /// # Errors
    /// It cannot be said; nothing was written.
    pub(super) fn publish(
        &mut self,
        channel: u16,
        publish: basic::Publish,
        properties: BasicProperties,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let begun = self.bytes.len();
        let method = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        self.method(channel, method)?;
        let header = AMQPContentHeader {
            class_id: BASIC,
            body_size: payload.len() as u64,
            properties,
        };
        let written = self.write(&AMQPFrame::Header(channel, header));
        if written.is_err() {
            self.bytes.truncate(begun);
            return written;
        }
        let part_bytes = self.frame_bytes_max.saturating_sub(HEAD_BYTES + 1);
        for part in payload.chunks(part_bytes.max(1)) {
            let [high, low] = channel.to_be_bytes();
            self.bytes.extend([BODY, high, low]);
            let size = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.bytes.extend(size.to_be_bytes());
            self.bytes.extend_from_slice(part);
            self.bytes.push(END);
        }
        Ok(())
    }

    pub(super) fn heartbeat(&mut self) {
        self.bytes.extend([HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
    }

    fn write(&mut self, frame: &AMQPFrame) -> Result<(), Failure> {
        let mut room = std::mem::take(&mut self.frame);
        room.clear();
        let written = gen_frame(frame)(room.into());
        let written = written.map_err(|error| Failure::poison(format!("not written: {error}")))?;
        self.frame = written.into_inner().0;
        self.bytes.extend_from_slice(&self.frame);
        Ok(())
    }
}

/// A message that comes in several frames.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) opening: Opening,
    pub(super) properties: BasicProperties,
    pub(super) payload: Bytes,
}

/// The method that a content follows.
#[derive(Debug)]
pub(super) enum Opening {
    /// A message of ours comes back.
    Return(basic::Return),
    /// A message for us.
    Deliver(basic::Deliver),
}

/// The frames of a content that have come over one channel.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    opening: Option<Opening>,
    header: Option<(BasicProperties, u64)>,
    parts: BytesMut,
}

impl Assembly {
    /// A content follows.
    pub(super) fn begin(&mut self, opening: Opening) {
        *self = Self {
            opening: Some(opening),
            ..Self::default()
        };
    }

    /// Its properties and size; the content, if it is empty.
    ///
    /// # Errors
    /// No content was announced, or it is larger than any.
    pub(super) fn header(&mut self, header: AMQPContentHeader) -> Result<Option<Content>, Failure> {
        let size = header.body_size;
        if self.opening.is_none() || size > CONTENT_BYTES_MAX {
            return Err(broken(&format!("a content of {size} bytes")));
        }
        self.header = Some((header.properties, size));
        Ok(self.complete(None))
    }

    /// A part of it; the content, if it is the last.
    ///
    /// # Errors
    /// It is longer than it said.
    pub(super) fn body(&mut self, part: &[u8]) -> Result<Option<Content>, Failure> {
        let came = (self.parts.len() + part.len()) as u64;
        match &self.header {
            Some((_, size)) if came == *size && self.parts.is_empty() => {
                Ok(self.complete(Some(Bytes::copy_from_slice(part))))
            }
            Some((_, size)) if came <= *size => {
                self.parts.extend_from_slice(part);
                Ok(self.complete(None))
            }
            _ => Err(broken("a content that nobody announced")),
        }
    }

    fn complete(&mut self, whole: Option<Bytes>) -> Option<Content> {
        let (_, size) = self.header.as_ref()?;
        if whole.is_none() && (self.parts.len() as u64) < *size {
            return None;
        }
        let (opening, (properties, _)) = self.opening.take().zip(self.header.take())?;
        let parts = std::mem::take(&mut self.parts);
        Some(Content {
            opening,
            properties,
            payload: whole.unwrap_or_else(|| parts.freeze()),
        })
    }
}

const HEAD_BYTES: usize = 7;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;
/// The class of all messages.
const BASIC: u16 = 60;
/// No message of MQTT is larger.
const CONTENT_BYTES_MAX: u64 = 268_435_455;

#[cfg(test)]
mod tests {
    use super::*;

    fn published(payload: &[u8], bytes_max: usize) -> BytesMut {
        let mut out = Outbox::new(bytes_max);
        let publish = basic::Publish {
            exchange: "e".into(),
            routing_key: "a.b".into(),
            mandatory: true,
            immediate: false,
        };
        let properties = BasicProperties::default().with_message_id("id".into());
        out.publish(1, publish, properties, payload).unwrap();
        out.heartbeat();
        BytesMut::from(&*out.bytes)
    }

    #[test]
    fn a_message_is_divided_into_frames_and_put_together_again() {
        for (size, parts) in [(0, 0), (1, 1), (92, 1), (93, 2), (1_000, 11)] {
            let payload = vec![7; size];
            let mut input = published(&payload, 100);
            let mut assembly = Assembly::default();
            assembly.begin(Opening::Return(basic::Return {
                reply_code: 312,
                reply_text: "".into(),
                exchange: "e".into(),
                routing_key: "a.b".into(),
            }));
            let (mut content, mut bodies) = (None, 0);
            while let Some((channel, frame)) = decode(&mut input, 200).unwrap() {
                match frame {
                    Frame::Method(AMQPClass::Basic(basic::AMQPMethod::Publish(it))) => {
                        assert_eq!((channel, it.routing_key.as_str()), (1, "a.b"));
                    }
                    Frame::Header(header) => content = assembly.header(*header).unwrap(),
                    Frame::Body(part) => {
                        bodies += 1;
                        content = assembly.body(&part).unwrap();
                    }
                    frame => assert_eq!(frame, Frame::Heartbeat),
                }
            }
            let content = content.expect("complete");
            assert_eq!((content.payload.len(), bodies), (size, parts));
            assert_eq!(*content.properties.message_id(), Some("id".into()));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn a_frame_that_is_not_whole_stays_where_it_is() {
        let whole = published(b"payload", 100);
        for length in 0..whole.len() {
            let mut input = BytesMut::from(&whole[..length]);
            while decode(&mut input, 200).unwrap().is_some() {}
            let left = input.len();
            assert!(decode(&mut input, 200).unwrap().is_none());
            assert_eq!(input.len(), left);
        }
    }

    #[test]
    fn bytes_that_are_no_frames_are_told_from_frames() {
        for bytes in [
            &b"AMQP\0\0\x09\x01"[..],
            &[1, 0, 0, 0, 0, 0, 1, 0, END],
            &[1, 0, 0, 0, 0, 0, 4, 0, 60, 0, 200, END],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0, 0, 0, END],
            &[1, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            let mut input = BytesMut::from(bytes);
            let failure = decode(&mut input, 1_000).unwrap_err();
            assert!(failure.reason.contains("broke the protocol"), "{failure}");
        }
    }

    #[test]
    fn a_content_that_nobody_announced_or_that_is_too_long_ends_the_connection() {
        let mut assembly = Assembly::default();
        assert!(assembly.body(b"x").is_err());
        let header = |body_size| AMQPContentHeader {
            class_id: BASIC,
            body_size,
            properties: BasicProperties::default(),
        };
        assert!(assembly.header(header(1)).is_err());
        let opening = || {
            Opening::Deliver(basic::Deliver {
                consumer_tag: "c".into(),
                delivery_tag: 1,
                redelivered: false,
                exchange: "e".into(),
                routing_key: "k".into(),
            })
        };
        assembly.begin(opening());
        assert!(assembly.header(header(CONTENT_BYTES_MAX + 1)).is_err());
        assembly.begin(opening());
        assert!(assembly.header(header(2)).unwrap().is_none());
        assert!(assembly.body(b"xyz").is_err());
    }
}
