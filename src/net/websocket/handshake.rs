//! The HTTP upgrade, from both sides.

use std::io;
use std::net::IpAddr;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::Request;
use tungstenite::http::HeaderMap;

use super::frame::Role;
use super::{Origins, WebSocket, WebSocketError, WebSocketSettings};

/// Answers the upgrade request of a client and gives the stream of MQTT bytes.
///
/// A refused client gets an HTTP error first. The caller limits the time this may take.
///
/// # Errors
/// The stream fails or ends, or the request is refused.
///
/// # Source
/// RFC 6455 section 4.2, MQTT 5.0 section 6
pub async fn accept<S>(
    mut stream: S,
    settings: &WebSocketSettings,
) -> Result<WebSocket<S>, WebSocketError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = read_head(&mut stream, settings.handshake_bytes_max).await;
    let checked = head.and_then(|(request, rest)| Ok((check(&request, settings)?, rest)));
    match checked {
        Ok((response, rest)) => {
            stream.write_all(response.as_bytes()).await?;
            stream.flush().await?;
            Ok(WebSocket::new(
                stream,
                Role::Server,
                settings.frame_bytes_max,
                rest,
            ))
        }
        Err(WebSocketError::Refused { status, reason }) => {
            let response = format!(
                "HTTP/1.1 {status} {}\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n",
                status_text(status),
                if status == 426 {
                    "Sec-WebSocket-Version: 13\r\n"
                } else {
                    ""
                },
            );
            stream.write_all(response.as_bytes()).await?;
            stream.shutdown().await?;
            Err(WebSocketError::Refused { status, reason })
        }
        Err(error) => Err(error),
    }
}

/// Asks a server for the upgrade, with the sub-protocol `mqtt`; for tools.
///
/// # Errors
/// The stream fails or ends, `host` or `path` cannot stand in a request, or the server refuses.
pub async fn connect<S>(
    mut stream: S,
    host: &str,
    path: &str,
) -> Result<WebSocket<S>, WebSocketError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if host
        .chars()
        .chain(path.chars())
        .any(|character| character <= ' ')
    {
        return Err(refused(
            400,
            "host or path with a space or control character",
        ));
    }
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
         Sec-WebSocket-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (response, rest): (Response, _) = read_head(
        &mut stream,
        WebSocketSettings::default().handshake_bytes_max,
    )
    .await?;
    if response.status().as_u16() != 101 {
        return Err(refused(
            response.status().as_u16(),
            "the server did not upgrade",
        ));
    }
    let headers = response.headers();
    let is_accepted = text(headers, "sec-websocket-accept") == derive_accept_key(key.as_bytes())
        && has_token(headers, "upgrade", "websocket")
        && has_token(headers, "connection", "upgrade");
    if !is_accepted || text(headers, "sec-websocket-protocol") != "mqtt" {
        return Err(refused(
            101,
            "the answer of the server does not fit the request",
        ));
    }
    let frame_bytes_max = WebSocketSettings::default().frame_bytes_max;
    Ok(WebSocket::new(stream, Role::Client, frame_bytes_max, rest))
}

/// Reads one HTTP head, and what came after it.
async fn read_head<S, T>(stream: &mut S, bytes_max: usize) -> Result<(T, Vec<u8>), WebSocketError>
where
    S: AsyncRead + Unpin,
    T: TryParse,
{
    let mut bytes = Vec::new();
    let mut block = [0; BLOCK_BYTES];
    loop {
        let length = stream.read(&mut block).await?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        // Only the last four bytes read so far can hold the start of the end of the head.
        let checked = bytes.len().saturating_sub(3);
        bytes.extend_from_slice(&block[..length]);
        if bytes[checked..]
            .windows(4)
            .any(|window| window == b"\r\n\r\n")
        {
            let parsed = T::try_parse(&bytes).map_err(|_| refused(400, "malformed http head"))?;
            let (head_length, head) = parsed.ok_or_else(|| refused(400, "malformed http head"))?;
            if head_length > bytes_max {
                return Err(refused(431, "http head over the limit"));
            }
            return Ok((head, bytes.split_off(head_length)));
        }
        if bytes.len() >= bytes_max {
            return Err(refused(431, "http head over the limit"));
        }
    }
}

/// The response that upgrades the connection, if the request deserves it.
fn check(request: &Request, settings: &WebSocketSettings) -> Result<String, WebSocketError> {
    let headers = request.headers();
    if request.uri().path() != settings.path {
        return Err(refused(404, "wrong path"));
    }
    if !has_token(headers, "upgrade", "websocket") || !has_token(headers, "connection", "upgrade") {
        return Err(refused(400, "no upgrade to websocket"));
    }
    if text(headers, "sec-websocket-version") != "13" {
        return Err(refused(426, "websocket version is not 13"));
    }
    if !is_allowed(&settings.origins, headers) {
        return Err(refused(403, "origin not allowed"));
    }
    let key = text(headers, "sec-websocket-key");
    if key.len() != KEY_CHARACTERS || !key.ends_with("==") {
        return Err(refused(400, "malformed websocket key"));
    }
    let protocol = tokens(headers, "sec-websocket-protocol")
        .find(|offered| SUB_PROTOCOLS.contains(offered))
        .ok_or_else(|| refused(400, "no mqtt sub-protocol"))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n",
        derive_accept_key(key.as_bytes()),
    ))
}

fn is_allowed(origins: &Origins, headers: &HeaderMap) -> bool {
    // Values that are no text are no known origin.
    let mut found = headers
        .get_all("origin")
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .peekable();
    match origins {
        Origins::Any => true,
        Origins::Local => found.all(is_local),
        Origins::Listed(origins) => {
            found.peek().is_some() && found.all(|origin| origins.iter().any(|it| it == origin))
        }
    }
}

/// Whether an origin such as `http://localhost:3000` is a page served by this machine.
fn is_local(origin: &str) -> bool {
    let authority = origin.split_once("://").map_or("", |(_, rest)| rest);
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split_once(']').map_or("", |(host, _)| host),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// The comma separated values of every header of this name.
fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token))
}

/// A mask nobody on the way can foresee.
///
/// # Source
/// RFC 6455 section 10.3
pub(super) fn random_mask() -> io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    SystemRandom::new()
        .fill(&mut mask)
        .map_err(|_| io::Error::other("no random numbers"))?;
    Ok(mask)
}

fn status_text(status: u16) -> &'static str {
    match status {
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Bad Request",
    }
}

fn refused(status: u16, reason: &'static str) -> WebSocketError {
    WebSocketError::Refused { status, reason }
}

const SUB_PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// 16 bytes in base64.
const KEY_CHARACTERS: usize = 24;
const BLOCK_BYTES: usize = 1024;
