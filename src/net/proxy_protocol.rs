//! The PROXY protocol header, versions 1 and 2, sent by a load balancer before the MQTT bytes.
//!
//! Reads exactly the header. Whether the sender may be trusted is for the listener to know.
//!
//! # Source
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a proxy header was refused.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The stream failed, or ended inside the header.
    #[error("proxy header: {0}")]
    Io(#[from] io::Error),
    /// Whoever sent the header may not speak for others.
    #[error("proxy header: the peer is not a trusted proxy")]
    Untrusted,
    /// The bytes are no valid header.
    #[error("proxy header: {0}")]
    Malformed(&'static str),
}

/// Reads the header: the address of the client, or none when the proxy speaks for itself or does
/// not know.
///
/// Not one byte beyond the header is consumed. The caller limits the time this may take.
///
/// # Errors
/// The stream fails or ends early, or the header is malformed or too long.
pub async fn read_header<S>(stream: &mut S) -> Result<Option<SocketAddr>, ProxyError>
where
    S: AsyncRead + Unpin,
{
    // The shortest header of version 1 is longer than the signature of version 2.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        read_binary(stream).await
    } else if start.starts_with(b"PROXY ") {
        read_text(stream, &start).await
    } else {
        Err(ProxyError::Malformed("no signature"))
    }
}

async fn read_text<S>(stream: &mut S, start: &[u8]) -> Result<Option<SocketAddr>, ProxyError>
where
    S: AsyncRead + Unpin,
{
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == TEXT_BYTES_MAX {
            return Err(ProxyError::Malformed("line too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2])
        .map_err(|_| ProxyError::Malformed("line is not text"))?;
    parse_text(line)
}

fn parse_text(line: &str) -> Result<Option<SocketAddr>, ProxyError> {
    let words: Vec<&str> = line.split(' ').collect();
    if words.get(1) == Some(&"UNKNOWN") {
        return Ok(None);
    }
    let [
        "PROXY",
        family,
        source,
        destination,
        source_port,
        destination_port,
    ] = words[..]
    else {
        return Err(ProxyError::Malformed("wrong number of words"));
    };
    let address = |text: &str| {
        let address: IpAddr = text
            .parse()
            .map_err(|_| ProxyError::Malformed("bad address"))?;
        match (family, address) {
            ("TCP4", IpAddr::V4(_)) | ("TCP6", IpAddr::V6(_)) => Ok(address),
            _ => Err(ProxyError::Malformed("address does not fit its family")),
        }
    };
    address(destination)?;
    port(destination_port)?;
    Ok(Some(SocketAddr::new(address(source)?, port(source_port)?)))
}

fn port(text: &str) -> Result<u16, ProxyError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ProxyError::Malformed("bad port"));
    }
    text.parse().map_err(|_| ProxyError::Malformed("bad port"))
}

async fn read_binary<S>(stream: &mut S) -> Result<Option<SocketAddr>, ProxyError>
where
    S: AsyncRead + Unpin,
{
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > BINARY_BYTES_MAX {
        return Err(ProxyError::Malformed("header too long"));
    }
    if command >> 4 != 2 {
        return Err(ProxyError::Malformed("unknown version"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match command & 0x0F {
        0 => Ok(None),
        1 => parse_binary(family, &body),
        _ => Err(ProxyError::Malformed("unknown command")),
    }
}

/// # Shape
/// source address, destination address, source port, destination port, then TLVs, whose values are
/// not read
fn parse_binary(family: u8, body: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let addresses_bytes = match family {
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => UNIX_ADDRESSES_BYTES,
        0x00 => body.len(),
        _ => return Err(ProxyError::Malformed("unknown address family")),
    };
    let truncated = || ProxyError::Malformed("addresses cut short");
    let (_, values) = body
        .split_at_checked(addresses_bytes)
        .ok_or_else(truncated)?;
    check_values(values)?;
    match family {
        0x11 | 0x12 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = *body else {
                return Err(truncated());
            };
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(SocketAddr::new(
                Ipv4Addr::new(a, b, c, d).into(),
                port,
            )))
        }
        0x21 | 0x22 => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or_else(truncated)?;
            let (_, ports) = rest.split_first_chunk::<16>().ok_or_else(truncated)?;
            let [high, low, _, _, ..] = *ports else {
                return Err(truncated());
            };
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        _ => Ok(None),
    }
}

/// # Shape
/// One byte of type, two of length, the value; repeated.
fn check_values(mut rest: &[u8]) -> Result<(), ProxyError> {
    while let [_, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after
            .get(length..)
            .ok_or(ProxyError::Malformed("value cut short"))?;
    }
    match rest {
        [] => Ok(()),
        _ => Err(ProxyError::Malformed("value cut short")),
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const TEXT_BYTES_MAX: usize = 107;
const BINARY_BYTES_MAX: usize = 4096;
const UNIX_ADDRESSES_BYTES: usize = 216;

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short body");
        [
            &SIGNATURE[..],
            &[command, family],
            &length.to_be_bytes(),
            body,
        ]
        .concat()
    }

    fn run(bytes: &[u8]) -> (Result<Option<SocketAddr>, ProxyError>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("runtime");
        let mut rest = bytes;
        let result = runtime.block_on(read_header(&mut rest));
        (result, rest.to_vec())
    }

    #[test]
    fn valid_headers_give_their_source_and_leave_what_follows() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];
        let mut six = [0; 36];
        (six[15], six[33]) = (1, 80);
        let table: [(Vec<u8>, Option<&str>); 9] = [
            (
                b"PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\n".to_vec(),
                Some("1.2.3.4:80"),
            ),
            (b"PROXY TCP6 ::1 ::2 80 443\r\n".to_vec(), Some("[::1]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 whatever\r\n".to_vec(), None),
            (binary(0x21, 0x11, &four), Some("1.2.3.4:80")),
            (
                binary(0x21, 0x11, &[&four[..], &[4, 0, 1, 9]].concat()),
                Some("1.2.3.4:80"),
            ),
            (binary(0x21, 0x21, &six), Some("[::1]:80")),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x21, 0x31, &[0; 216]), None),
        ];
        for (mut header, expected) in table {
            let length = header.len();
            header.extend_from_slice(b"\x10\x00mqtt");
            let (result, rest) = run(&header);
            let expected = expected.map(|text| text.parse().expect("address"));
            assert_eq!(result.expect("valid"), expected);
            assert_eq!(rest, b"\x10\x00mqtt");
            for cut in 0..length {
                assert!(run(&header[..cut]).0.is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
        let cut = |values: &[u8]| binary(0x21, 0x11, &[&[0; 12][..], values].concat());
        let table: [Vec<u8>; 12] = [
            cut(&[4]),
            cut(&[4, 0]),
            cut(&[4, 0, 3, 1, 2]),
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::2 80 443\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 70000\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 +80 443\r\n".to_vec(),
            long,
            binary(0x11, 0x11, &[0; 12]),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x11, &[0; 5000]),
        ];
        for header in table {
            assert!(run(&header).0.is_err(), "{header:?}");
        }
    }
}
