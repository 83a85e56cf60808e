//! SASL before the connection is opened (AMQP 1.0 section 5.3).

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Mechanism;
use super::encoder::Encoder;
use super::frame::{self, HEAD_BYTES, Head, Kind};
use super::performative::code;
use super::value::{Items, Malformed, Value, take};
use crate::{Credentials, Failure, Stream};

/// Shows who we are.
///
/// # Errors
/// The server lacks the mechanism, does not believe us, or the stream broke off.
pub(super) async fn authenticate(
    stream: &mut dyn Stream,
    mechanism: Mechanism,
    credentials: Credentials,
    host_name: Option<&str>,
) -> Result<(), Failure> {
    let (name, response) = shown(mechanism, credentials)?;
    stream.write_all(&HEADER).await.map_err(lost)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.map_err(lost)?;
    if header != HEADER {
        let text = format!("the server speaks no AMQP 1.0 with SASL: it answers {header:02x?}");
        return Err(Failure::refused(text));
    }
    let body = read_frame(stream).await?;
    let offered = mechanisms(&body).map_err(|Malformed(it)| malformed(it))?;
    if !offered.contains(&name) {
        let text = format!("the server takes {}, not {name}", offered.join(", "));
        return Err(Failure::refused(text));
    }
    let mut init = Vec::new();
    let begin = frame::begin(&mut init, Kind::Sasl, 0);
    Encoder(&mut init).composite(code::SASL_INIT, |fields| {
        fields.some(|it| it.symbol(name));
        fields.some(|it| it.binary(response.as_bytes()));
        fields.maybe(host_name, |it, name| it.string(name));
    });
    frame::end(&mut init, begin);
    stream.write_all(&init).await.map_err(lost)?;
    stream.flush().await.map_err(lost)?;
    let body = read_frame(stream).await?;
    let answer = outcome(&body).map_err(|Malformed(it)| malformed(it))?;
    match OUTCOMES.get(answer) {
        None => Err(malformed(&format!("outcome {answer}"))),
        Some(("ok", _)) => Ok(()),
        Some((name, passes)) => {
            let text = format!("refused by the server: SASL {name}");
            match passes {
                true => Err(Failure::retry(text)),
                false => Err(Failure::refused(text)),
            }
        }
    }
}

fn shown(
    mechanism: Mechanism,
    credentials: Credentials,
) -> Result<(&'static str, String), Failure> {
    let (user_name, password) = credentials.into_text()?;
    Ok(match (mechanism, user_name) {
        (Mechanism::Plain, Some(user_name)) => ("PLAIN", format!("\0{user_name}\0{password}")),
        (Mechanism::Plain, None) | (Mechanism::Anonymous, _) => ("ANONYMOUS", String::new()),
        (Mechanism::External, user_name) => ("EXTERNAL", user_name.unwrap_or_default()),
    })
}

/// The mechanisms that a server takes: an array, or one alone.
fn mechanisms(mut body: &[u8]) -> Result<Vec<&str>, Malformed> {
    let mut offered = match fields_of(&mut body, code::SASL_MECHANISMS)?.field()? {
        Value::List(items) => items,
        one => return Ok(one.text().into_iter().collect()),
    };
    let mut names = Vec::new();
    while let Some(name) = offered.next()? {
        names.extend(name.text());
    }
    Ok(names)
}

/// The code that ends it.
fn outcome(mut body: &[u8]) -> Result<usize, Malformed> {
    let code = fields_of(&mut body, code::SASL_OUTCOME)?.field()?.number();
    let code = code.and_then(|it| usize::try_from(it).ok());
    code.ok_or(Malformed("an outcome without a code"))
}

fn fields_of<'a>(body: &mut &'a [u8], code: u64) -> Result<Items<'a>, Malformed> {
    let fields = take(body)?.composite(code)?;
    fields.ok_or(Malformed("not what comes next"))
}

async fn read_frame(stream: &mut dyn Stream) -> Result<Vec<u8>, Failure> {
    let mut bytes = [0; HEAD_BYTES];
    stream.read_exact(&mut bytes).await.map_err(lost)?;
    let head = Head::read(bytes, Kind::Sasl, FRAME_BYTES_MAX);
    let head = head.ok_or_else(|| malformed(&format!("frame {bytes:02x?}")))?;
    let mut rest = vec![0; head.bytes - HEAD_BYTES];
    stream.read_exact(&mut rest).await.map_err(lost)?;
    Ok(rest.split_off(head.start - HEAD_BYTES))
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn lost(error: std::io::Error) -> Failure {
    Failure::of_stream("connection lost during SASL", &error)
}

fn malformed(what: &str) -> Failure {
    Failure::retry(format!("the server's SASL is malformed: {what}"))
}

const HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// By code, and whether it may be better another time (section 5.3.3.6).
const OUTCOMES: [(&str, bool); 5] = [
    ("ok", false),
    ("auth", false),
    ("sys", true),
    ("sys-perm", false),
    ("sys-temp", true),
];
/// The largest frame before larger ones are agreed on (MIN-MAX-FRAME-SIZE).
const FRAME_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::Class;

    /// What a client makes of a server that says this.
    async fn answered(bytes: &[u8]) -> Failure {
        let (mut ours, mut theirs) = duplex(4_096);
        theirs.write_all(bytes).await.unwrap();
        theirs.shutdown().await.unwrap();
        let shown = Credentials::default();
        let outcome = authenticate(&mut ours, Mechanism::Plain, shown, None).await;
        outcome.unwrap_err()
    }

    #[tokio::test]
    async fn a_server_without_the_mechanism_is_told_from_one_that_speaks_something_else() {
        let other = answered(b"AMQP\0\0\x09\x01").await;
        assert_eq!(other.class, Class::Refused);
        assert!(other.reason.contains("speaks no AMQP 1.0"), "{other}");
        let mut bytes = HEADER.to_vec();
        let body = b"\x00\x53\x40\xc0\x08\x01\xa3\x05PLAIN";
        bytes.extend([0, 0, 0, 8 + 13, 2, 1, 0, 0]);
        bytes.extend(body);
        let plain_only = answered(&bytes).await;
        assert_eq!(plain_only.reason, "the server takes PLAIN, not ANONYMOUS");
    }

    #[tokio::test]
    async fn frames_that_lie_about_their_size_end_the_attempt() {
        for head in [
            [0, 0, 0, 7, 2, 1, 0, 0],
            [0xff, 0xff, 0xff, 0xff, 2, 1, 0, 0],
            [0, 0, 0, 8, 1, 1, 0, 0],
            [0, 0, 0, 8, 255, 1, 0, 0],
            [0, 0, 0, 8, 2, 0, 0, 0],
        ] {
            let mut bytes = HEADER.to_vec();
            bytes.extend(head);
            let failure = answered(&bytes).await;
            assert!(failure.reason.contains("malformed"), "{failure}");
        }
    }
}
