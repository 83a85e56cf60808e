//! Calls over HTTP/2, as gRPC frames them.
//!
//! # Source
//! gRPC over HTTP2, `PROTOCOL-HTTP2.md` of grpc/grpc.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;

use super::failure::of_call;
use super::sign::Signer;
use super::wire::Method;
use crate::dial::within;
use crate::{Failure, Stream};

/// Makes calls on one connection, whose task is another's.
#[derive(Clone)]
pub(super) struct Channel {
    requests: SendRequest<Bytes>,
    signer: Arc<Signer>,
    /// `http://host:port`, as HTTP/2 wants it in each request.
    base: Arc<str>,
}

/// What is to be polled for the calls to go on.
pub(super) type Driver = Connection<Box<dyn Stream>, Bytes>;

/// What a call asks, as it goes out.
#[derive(Debug)]
pub(super) struct Framed<M> {
    frame: Bytes,
    method: PhantomData<fn() -> M>,
}

impl<M: Method> Framed<M> {
    pub(super) fn of(message: &M) -> Self {
        Self {
            frame: frame(message),
            method: PhantomData,
        }
    }
}

/// The answers to one call.
pub(super) struct Answers<A> {
    body: RecvStream,
    buffer: BytesMut,
    is_over: bool,
    answer: PhantomData<A>,
}

impl Channel {
    /// Begins to speak HTTP/2 on a stream that leads to `remote`.
    pub(super) async fn open(
        stream: Box<dyn Stream>,
        remote: &str,
        signer: Signer,
    ) -> Result<(Self, Driver), Failure> {
        let (scheme, authority) = remote.split_once("://").unwrap_or(("", remote));
        let scheme = if scheme.ends_with('s') {
            "https"
        } else {
            "http"
        };
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .enable_push(false);
        let (requests, driver) = builder.handshake(stream).await.map_err(lost)?;
        let channel = Self {
            requests,
            signer: Arc::new(signer),
            base: format!("{scheme}://{authority}").into(),
        };
        Ok((channel, driver))
    }

    /// One question, one answer.
    pub(super) async fn call<M: Method>(
        &self,
        client_id: &str,
        question: Framed<M>,
        patience: Duration,
    ) -> Result<M::Answer, Failure> {
        let answered = async {
            let (mut answers, question) = self.ask(client_id, question, Some(patience)).await?;
            drop(question);
            let answer = answers.next().await?;
            answer.ok_or_else(|| Failure::retry("an empty answer"))
        };
        within(patience, answered).await.map_err(named::<M>)
    }

    /// One question, and answers until the server ends them.
    pub(super) async fn collect<M: Method>(
        &self,
        client_id: &str,
        question: Framed<M>,
        patience: Duration,
    ) -> Result<Vec<M::Answer>, Failure> {
        let answered = async {
            let (mut answers, question) = self.ask(client_id, question, Some(patience)).await?;
            drop(question);
            let mut all = Vec::new();
            while let Some(answer) = answers.next().await? {
                if all.len() >= ANSWERS_MAX {
                    return Err(Failure::retry("endless answers"));
                }
                all.push(answer);
            }
            Ok(all)
        };
        within(patience, answered).await.map_err(named::<M>)
    }

    /// A question that stays open as long as the first of the two is kept; without a deadline.
    pub(super) async fn converse<M: Method>(
        &self,
        client_id: &str,
        question: Framed<M>,
    ) -> Result<(SendStream<Bytes>, Answers<M::Answer>), Failure> {
        let (answers, question) = self.ask(client_id, question, None).await?;
        Ok((question, answers))
    }

    async fn ask<M: Method>(
        &self,
        client_id: &str,
        Framed { frame, .. }: Framed<M>,
        patience: Option<Duration>,
    ) -> Result<(Answers<M::Answer>, SendStream<Bytes>), Failure> {
        let path = format!(
            "{}/apache.rocketmq.v2.MessagingService/{}",
            self.base,
            M::NAME
        );
        let mut request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(patience) = patience {
            // A timeout has at most eight digits.
            let ms = patience.as_millis().min(99_999_999);
            request = request.header("grpc-timeout", format!("{ms}m"));
        }
        for (name, value) in self.signer.headers(client_id) {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(Failure::refused)?;
        let mut requests = self.requests.clone().ready().await.map_err(lost)?;
        let (response, mut question) = requests.send_request(request, false).map_err(lost)?;
        let is_all = patience.is_some();
        question.send_data(frame, is_all).map_err(lost)?;
        let response = response.await.map_err(lost)?;
        if response.status() != http::StatusCode::OK {
            let text = format!("HTTP status {}", response.status());
            return Err(Failure::retry(text));
        }
        // An answer that is nothing but a refusal has its status here.
        if response.headers().contains_key(STATUS) {
            check(response.headers())?;
        }
        let answers = Answers {
            body: response.into_body(),
            buffer: BytesMut::new(),
            is_over: false,
            answer: PhantomData,
        };
        Ok((answers, question))
    }
}

impl<A: Message + Default> Answers<A> {
    /// The next answer, if there is one. Not cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<A>, Failure> {
        loop {
            if let Some(answer) = unframe(&mut self.buffer)? {
                return Ok(Some(answer));
            }
            if self.is_over {
                return Ok(None);
            }
            match poll_fn(|context| self.body.poll_data(context)).await {
                Some(bytes) => {
                    let bytes = bytes.map_err(lost)?;
                    let released = self.body.flow_control().release_capacity(bytes.len());
                    released.map_err(lost)?;
                    self.buffer.extend_from_slice(&bytes);
                }
                None => {
                    let trailers = poll_fn(|context| self.body.poll_trailers(context)).await;
                    check(&trailers.map_err(lost)?.unwrap_or_default())?;
                    self.is_over = true;
                }
            }
        }
    }
}

/// # Shape
/// Whether it is compressed (one byte), length (four bytes, big endian), message.
fn frame<M: Message>(message: &M) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEAD + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

fn unframe<A: Message + Default>(buffer: &mut BytesMut) -> Result<Option<A>, Failure> {
    let Some((head, _)) = buffer.split_at_checked(HEAD) else {
        return Ok(None);
    };
    let [compressed, length @ ..] = head else {
        return Ok(None);
    };
    let length = length
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    if *compressed != 0 || length > ANSWER_BYTES_MAX {
        let text = format!("an answer of {length} bytes, compressed {compressed}: not asked for");
        return Err(Failure::retry(text));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let answer = A::decode(buffer.split_to(length).freeze());
    let wrong = |error| Failure::retry(format!("an answer that cannot be read: {error}"));
    answer.map(Some).map_err(wrong)
}

fn check(trailers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| trailers.get(name).and_then(|it| it.to_str().ok());
    let code = text(STATUS).and_then(|it| it.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(of_call(code, text("grpc-message").unwrap_or_default())),
        None => Err(Failure::retry("the server broke off its answer")),
    }
}

fn named<M: Method>(failure: Failure) -> Failure {
    let Failure { class, reason } = failure;
    let reason = format!("{}: {reason}", M::NAME);
    Failure { class, reason }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn lost(error: h2::Error) -> Failure {
    match error.get_io() {
        Some(error) => Failure::of_stream("connection lost", error),
        None => Failure::retry(format!("connection lost: {error}")),
    }
}

const STATUS: &str = "grpc-status";
/// Bytes before a message.
const HEAD: usize = 5;
/// RocketMQ keeps messages below 4 MiB, unless told otherwise.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Far more than a batch.
const ANSWERS_MAX: usize = 4_096;
/// Bytes on their way to us.
const WINDOW_BYTES: u32 = 8 << 20;
const HEADER_BYTES_MAX: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::super::wire::Status;
    use super::*;

    fn status() -> Status {
        Status {
            code: 20000,
            message: "OK".to_owned(),
        }
    }

    #[test]
    fn a_message_is_read_whatever_pieces_it_comes_in() {
        let bytes = frame(&status());
        let mut buffer = BytesMut::new();
        for (index, byte) in bytes.iter().enumerate() {
            let early = unframe::<Status>(&mut buffer).unwrap();
            assert_eq!(early, None, "after {index} bytes");
            buffer.put_u8(*byte);
        }
        buffer.put_u8(0);
        assert_eq!(unframe(&mut buffer).unwrap(), Some(status()));
        assert_eq!(buffer.len(), 1);
    }

    #[test]
    fn lengths_compression_and_bytes_that_nobody_asked_for_are_refused() {
        for head in [
            [0, 0xff, 0xff, 0xff, 0xff, 0],
            [1, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 1, 7],
        ] {
            let mut buffer = BytesMut::from(&head[..]);
            assert!(unframe::<Status>(&mut buffer).is_err(), "{head:?}");
        }
    }

    #[test]
    fn only_the_status_zero_is_a_good_end() {
        let trailers = |code: &'static str| {
            let mut trailers = HeaderMap::new();
            trailers.insert(STATUS, http::HeaderValue::from_static(code));
            trailers
        };
        assert!(check(&trailers("0")).is_ok());
        assert!(check(&trailers("14")).is_err());
        assert!(check(&HeaderMap::new()).is_err());
    }
}
