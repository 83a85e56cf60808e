use super::frame::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("runtime")
        .block_on(future)
}

/// A masked frame; `first` is the whole first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut mask = [7, 1, 200, 33];
    write_header(&mut frame, 0, payload.len(), Some(mask));
    frame[0] = first;
    let start = frame.len();
    frame.extend_from_slice(payload);
    apply_mask(&mut frame[start..], &mut mask);
    frame
}

fn server(stream: DuplexStream) -> WebSocket<DuplexStream> {
    WebSocket::new(stream, Role::Server, 100_000, Vec::new())
}

/// What the server reads and what it answers, when the client sends these pieces and ends.
async fn exchange(pieces: &[&[u8]], room: usize) -> (io::Result<Vec<u8>>, Vec<u8>) {
    let (mut client, stream) = duplex(1 << 20);
    let mut server = server(stream);
    let mut read = Vec::new();
    let mut buffer = vec![0; room];
    for piece in pieces {
        client.write_all(piece).await.expect("sent");
        // Lets the server see the piece alone.
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut target = ReadBuf::new(&mut buffer);
        if let Poll::Ready(result) = Pin::new(&mut server).poll_read(&mut context, &mut target) {
            if let Err(error) = result {
                return (Err(error), replies(server, client).await);
            }
            read.extend_from_slice(target.filled());
        }
    }
    client.shutdown().await.expect("shut");
    let result = loop {
        match server.read(&mut buffer).await {
            Ok(0) => break Ok(read),
            Ok(length) => read.extend_from_slice(&buffer[..length]),
            Err(error) => break Err(error),
        }
    };
    (result, replies(server, client).await)
}

async fn replies(mut server: WebSocket<DuplexStream>, mut client: DuplexStream) -> Vec<u8> {
    server.shutdown().await.expect("shut");
    drop(server);
    let mut replies = Vec::new();
    client.read_to_end(&mut replies).await.expect("replies");
    replies
}

#[test]
fn frames_cut_at_any_byte_give_the_same_payload() {
    let long: Vec<u8> = (0..=255).cycle().take(300).collect();
    let input = [
        masked(0x80 | BINARY, b"abcde"),
        masked(BINARY, &long),
        masked(0x80 | PING, b"hi"),
        masked(CONTINUATION, b""),
        masked(0x80 | CONTINUATION, b"tail"),
        masked(0x80 | PONG, b"unasked"),
        masked(0x80 | CLOSE, &1000u16.to_be_bytes()),
    ]
    .concat();
    let payload = [b"abcde", &long[..], b"tail"].concat();
    let replies = b"\x8A\x02hi\x88\x02\x03\xE8";
    run(async {
        for cut in 0..=input.len() {
            let (head, tail) = input.split_at(cut);
            for room in [1, 7, 4096] {
                let (read, sent) = exchange(&[head, tail], room).await;
                assert_eq!(read.expect("valid"), payload, "cut at {cut}, room {room}");
                assert_eq!(sent, replies);
            }
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(exchange(&bytes, 4096).await.0.expect("valid"), payload);
    });
}

#[test]
fn violations_close_with_their_code() {
    let mut unmasked = Vec::new();
    write_header(&mut unmasked, BINARY, 1, None);
    unmasked.push(1);
    let wasteful = b"\x82\xFE\x00\x01\0\0\0\0x".to_vec();
    let table: [(&str, Vec<u8>, u16); 13] = [
        ("text", masked(0x80 | TEXT, b"x"), 1003),
        ("unmasked", unmasked, 1002),
        ("reserved bit", masked(0xC0 | BINARY, b"x"), 1002),
        ("reserved opcode", masked(0x83, b"x"), 1002),
        ("long ping", masked(0x80 | PING, &[0; 126]), 1002),
        ("fragmented ping", masked(PING, b"x"), 1002),
        ("lone continuation", masked(0x80 | CONTINUATION, b"x"), 1002),
        (
            "nested",
            [masked(BINARY, b"x"), masked(0x80 | BINARY, b"x")].concat(),
            1002,
        ),
        ("wasteful length", wasteful, 1002),
        ("too big", masked(0x80 | BINARY, &vec![0; 100_001]), 1009),
        ("short close", masked(0x80 | CLOSE, b"x"), 1002),
        (
            "close code",
            masked(0x80 | CLOSE, &1005u16.to_be_bytes()),
            1002,
        ),
        ("close reason", masked(0x80 | CLOSE, b"\x03\xE8\xFF"), 1007),
    ];
    run(async {
        for (name, input, code) in table {
            let (read, sent) = exchange(&[&input], 4096).await;
            assert_eq!(
                read.expect_err(name).kind(),
                io::ErrorKind::InvalidData,
                "{name}"
            );
            assert_eq!(
                sent,
                [&[0x88, 2][..], &code.to_be_bytes()].concat(),
                "{name}"
            );
        }
        let cut = masked(0x80 | BINARY, b"abc");
        let (read, _) = exchange(&[&cut[..cut.len() - 1]], 4096).await;
        assert_eq!(read.expect_err("cut").kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn both_sides_of_the_handshake_agree_and_echo() {
    run(async {
        let (client, stream) = duplex(64);
        let settings = WebSocketSettings::default();
        let (client, server) = tokio::join!(
            connect(client, "localhost", "/mqtt"),
            accept(stream, &settings)
        );
        let (mut client, mut server) = (client.expect("client"), server.expect("server"));
        let sent: Vec<u8> = (0..200_000u32)
            .map(|number| number.to_le_bytes()[0])
            .collect();
        let echo = async {
            let mut received = vec![0; 200_000];
            server.read_exact(&mut received).await.expect("read");
            server.write_all(&received).await.expect("written");
            server.shutdown().await.expect("shut");
        };
        let ask = async {
            client.write_all(&sent).await.expect("written");
            client.flush().await.expect("flushed");
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.expect("read");
            received
        };
        let ((), received) = tokio::join!(echo, ask);
        assert_eq!(received, sent);
        assert_eq!(
            (client.outgoing.capacity(), client.early.capacity()),
            (0, 0)
        );
    });
}

#[test]
fn bad_requests_are_answered_with_their_status() {
    let request = |path: &str, headers: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        )
    };
    let good = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: x, mqttv3.1\r\n";
    let origin = format!("{good}Origin: https://a\r\n");
    let table = [
        (request("/mqtt?x=1", &origin), 101),
        (request("/other", &origin), 404),
        (request("/mqtt", good), 403),
        (request("/mqtt", &origin.replace("mqttv3.1", "y")), 400),
        (request("/mqtt", &origin.replace("13", "8")), 426),
        (
            request("/mqtt", &format!("X: {}\r\n{origin}", "x".repeat(9000))),
            431,
        ),
        ("POST /mqtt HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("\0\r\n\r\n".to_owned(), 400),
    ];
    let settings = WebSocketSettings {
        origins: Origins::Listed(vec!["https://a".to_owned()]),
        ..Default::default()
    };
    run(async {
        for (request, status) in table {
            let (mut client, stream) = duplex(1 << 16);
            client.write_all(request.as_bytes()).await.expect("sent");
            let result = accept(stream, &settings).await;
            assert_eq!(result.is_ok(), status == 101, "{request}");
            drop(result);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("answer");
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert_eq!(
                answer.contains("Sec-WebSocket-Protocol: mqttv3.1\r\n"),
                status == 101
            );
        }
    });
}

#[test]
fn only_pages_of_this_machine_pass_where_the_machine_is_the_credential() {
    let table = [
        (None, true),
        (Some("http://localhost:3000"), true),
        (Some("https://127.0.0.1"), true),
        (Some("http://[::1]:8080"), true),
        (Some("http://evil.example"), false),
        (Some("http://localhost.evil.example"), false),
        (Some("http://127.0.0.1.evil.example"), false),
        (
            Some("http://localhost\r\nOrigin: http://evil.example"),
            false,
        ),
        (Some("null"), false),
    ];
    let settings = WebSocketSettings {
        origins: Origins::Local,
        ..Default::default()
    };
    run(async {
        for (origin, is_allowed) in table {
            let origin = origin.map_or_else(String::new, |it| format!("Origin: {it}\r\n"));
            let request = format!(
                "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n{origin}\r\n"
            );
            let (mut client, stream) = duplex(1 << 16);
            client.write_all(request.as_bytes()).await.expect("sent");
            assert_eq!(
                accept(stream, &settings).await.is_ok(),
                is_allowed,
                "{origin}"
            );
        }
    });
}

#[test]
fn frames_sent_with_the_request_are_not_lost() {
    run(async {
        let (mut client, stream) = duplex(4096);
        let request = "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        let input = [request.as_bytes(), &masked(0x80 | BINARY, b"hello")].concat();
        client.write_all(&input).await.expect("sent");
        let mut server = accept(stream, &WebSocketSettings::default())
            .await
            .expect("accepted");
        let mut received = [0; 5];
        server.read_exact(&mut received).await.expect("read");
        assert_eq!(&received, b"hello");
    });
}
