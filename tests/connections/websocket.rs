//! WebSocket listeners, spoken to by hand.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use tidewire::config::{Listener, Transport};

use crate::broker::{Broker, listener, log_line, open};
use crate::client::{Client, connect, publish};

const BINARY: u8 = 0x82;

/// Binary frames over a TCP stream, each write a frame.
pub(crate) struct Stream {
    socket: TcpStream,
    /// Payload of the current frame still to be read.
    left: usize,
}

impl Stream {
    pub(crate) fn upgrade(mut socket: TcpStream) -> Self {
        let answer = ask(&mut socket, &request("Sec-WebSocket-Protocol: mqtt\r\n"));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        Self { socket, left: 0 }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut head = [0; 2];
            self.socket.read_exact(&mut head)?;
            assert_eq!(head[0], BINARY, "a whole binary frame");
            let mut length = [0; 8];
            self.left = match head[1] {
                126 => {
                    self.socket.read_exact(&mut length[6..])?;
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                127 => {
                    self.socket.read_exact(&mut length)?;
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                short => short.into(),
            };
        }
        let room = buffer.len().min(self.left);
        let count = self.socket.read(&mut buffer[..room])?;
        self.left -= count;
        Ok(count)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write_all(&frame(BINARY, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn request(headers: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         {headers}\r\n"
    )
}

/// The head of the answer to a request.
fn ask(socket: &mut TcpStream, request: &str) -> String {
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read(&mut byte).unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn start(change: impl FnOnce(&mut Listener)) -> Broker {
    let mut listener = Listener {
        transport: Transport::Ws,
        ..listener()
    };
    change(&mut listener);
    Broker::start(|config| config.listeners = vec![crate::broker::listener(), listener])
}

fn upgraded(broker: &Broker) -> Client<Stream> {
    Client::new(Stream::upgrade(open(broker.addresses[1]).stream))
}

/// The frames end with a close frame of this code, and the connection.
fn closes_with(broker: &Broker, frames: &[u8], code: u16) {
    let mut socket = upgraded(broker).stream.socket;
    socket.write_all(frames).unwrap();
    let answer = Client::new(socket).until_closed();
    let expected = [&[0x88, 2][..], &code.to_be_bytes()].concat();
    assert_eq!(answer, expected, "{:02x?}", &frames[..frames.len().min(16)]);
}

#[test]
fn mqtt_is_spoken_in_frames_that_hold_part_of_a_packet_or_many() {
    let broker = start(|_| {});
    let mut client = upgraded(&broker);
    for byte in connect("parts") {
        client.send(&[byte]);
    }
    assert_eq!(client.packet().first, 0x20, "CONNACK");
    client.subscribe("a", 0);
    client.send(&publish("a", 0, 0, b"x").repeat(3));
    for _ in 0..3 {
        assert!(client.packet().body.ends_with(b"x"));
    }
}

/// [MQTT-6.0.0-4] lets a frame hold many packets. Clients that read one of each frame, such as Paho
/// for C, would wait for more before they read the second.
#[test]
fn each_packet_leaves_in_a_frame_of_its_own() {
    let broker = start(|_| {});
    let mut client = upgraded(&broker);
    client.connect("apart");
    client.subscribe("a", 1);
    let own = publish("a", 1, 1, b"x");
    client.send(&[&own[..], &[0xC0, 0], &own, &[0xC0, 0]].concat());
    let mut packet_types = Vec::new();
    for _ in 0..6 {
        packet_types.push(client.packet().first & 0xF0);
        assert_eq!(client.stream.left, 0, "the frame ends with the packet");
    }
    packet_types.sort_unstable();
    assert_eq!(packet_types, [0x30, 0x30, 0x40, 0x40, 0xD0, 0xD0]);
}

#[test]
fn a_packet_of_the_largest_size_may_come_in_one_frame() {
    let broker = start(|_| {});
    let mut client = upgraded(&broker);
    client.connect("large");
    client.send(&publish("a", 1, 1, &vec![0; (16 << 20) - 64]));
    assert_eq!(client.packet().first, 0x40, "PUBACK");
}

#[test]
fn compression_is_not_negotiated_and_a_compressed_frame_is_refused() {
    let broker = start(|_| {});
    let mut socket = open(broker.addresses[1]).stream;
    let offer = "Sec-WebSocket-Protocol: mqtt\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let answer = ask(&mut socket, &request(offer));
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let lower = answer.to_lowercase();
    assert!(!lower.contains("extensions"), "{answer}");
    closes_with(&broker, &frame(0xc2, &connect("compressed")), 1002);
    broker.serves();
}

#[test]
fn frames_that_break_the_rules_close_the_connection() {
    let broker = start(|_| {});
    let huge = [&[BINARY, 0xff][..], &[0x7f; 8], &[0; 4]].concat();
    closes_with(&broker, &huge, 1009);
    closes_with(&broker, &frame(0x09, b"x"), 1002);
    closes_with(&broker, &frame(0x81, &connect("text")), 1003);
    let mut unmasked = frame(BINARY, &connect("unmasked"));
    unmasked[1] &= 0x7f;
    closes_with(&broker, &unmasked, 1002);
    closes_with(&broker, &frame(0x80, b"x"), 1002);
    broker.serves();
}

#[test]
fn ping_is_answered_with_pong_and_close_with_close() {
    let broker = start(|_| {});
    let mut client = upgraded(&broker);
    client.connect("ping");
    let socket = &mut client.stream.socket;
    socket.write_all(&frame(0x89, b"are you there")).unwrap();
    let mut pong = [0; 15];
    socket.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\x8a\x0dare you there");
    socket
        .write_all(&frame(0x88, &1000_u16.to_be_bytes()))
        .unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, [0x88, 2, 3, 0xe8]);
}

#[test]
fn a_flood_of_pings_before_connect_keeps_no_pongs() {
    let broker = start(|_| {});
    let mut client = upgraded(&broker);
    let socket = &mut client.stream.socket;
    let timeout = std::time::Duration::from_millis(700);
    socket.set_write_timeout(Some(timeout)).unwrap();
    let pings = frame(0x89, &[b'p'; 125]).repeat(500);
    // Only the latest pings are answered, so the broker can read on for ever.
    for _ in 0..200 {
        if socket.write_all(&pings).is_err() {
            break;
        }
    }
    broker.serves();
}

fn status_of(broker: &Broker, headers: &str) -> String {
    let mut socket = open(broker.addresses[1]).stream;
    let answer = ask(&mut socket, &request(headers));
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_sub_protocol_is_refused_and_logged() {
    let broker = start(|_| {});
    assert_eq!(
        status_of(&broker, "Sec-WebSocket-Protocol: chat\r\n"),
        "400"
    );
    assert_eq!(status_of(&broker, ""), "400");
    assert!(log_line("sub-protocol").contains("connection refused"));
}

#[test]
fn pages_of_other_machines_are_refused_where_the_machine_is_the_credential() {
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    let of = |origin: &str| format!("{mqtt}Origin: {origin}\r\n");
    let broker = start(|_| {});
    assert_eq!(status_of(&broker, mqtt), "101");
    assert_eq!(status_of(&broker, &of("http://localhost:3000")), "101");
    assert_eq!(status_of(&broker, &of("https://evil.example")), "403");
    let broker = start(|listener| listener.allow_anonymous = Some(false));
    assert_eq!(status_of(&broker, &of("https://any.example")), "101");
    // Said or not, nobody needs a login here.
    let broker = start(|listener| listener.allow_anonymous = Some(true));
    assert_eq!(status_of(&broker, &of("https://evil.example")), "403");
    let broker = start(|listener| {
        listener.allow_anonymous = Some(true);
        listener.origins = vec!["*".into()];
    });
    assert_eq!(status_of(&broker, &of("https://any.example")), "101");
    let broker = start(|listener| listener.origins = vec!["https://good.example".into()]);
    assert_eq!(status_of(&broker, &of("https://good.example")), "101");
    assert_eq!(status_of(&broker, &of("http://good.example")), "403");
    assert_eq!(status_of(&broker, &of("http://localhost")), "403");
    assert_eq!(status_of(&broker, mqtt), "403");
}

#[test]
fn lengths_that_lie_end_a_websocket_as_they_end_a_tcp_connection() {
    let broker = Broker::start(|config| {
        config.listeners = vec![Listener {
            transport: Transport::Ws,
            ..listener()
        }];
    });
    let too_long = [&[0x10, 0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0; 16]].concat();
    let overlong = [&[0x10, 0x8d, 0x80, 0x00][..], &connect("a")[2..]].concat();
    let mut longer = connect("a");
    longer[1] -= 1;
    let announced = [&[0x10, 0xff, 0xff, 0xff, 0x7f][..], &connect("a")[2..]].concat();
    for bytes in [too_long, overlong, longer, announced] {
        let mut client = Client::new(Stream::upgrade(open(broker.addresses[0]).stream));
        client.send(&bytes);
        let mut rest = Vec::new();
        // A CONNACK with a reason may come, and the close frame.
        let _ = client.stream.socket.read_to_end(&mut rest);
        assert!(
            !rest.windows(4).any(|it| it == [0x20, 3, 0, 0]),
            "{bytes:02x?}"
        );
        assert!(rest.len() < 64, "{rest:02x?}");
    }
    let mut client = Client::new(Stream::upgrade(open(broker.addresses[0]).stream));
    client.connect("witness");
}
