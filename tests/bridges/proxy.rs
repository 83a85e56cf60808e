//! A TCP proxy that breaks links on purpose.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Carries connections to a broker until it is told to do worse.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: Mutex<Vec<TcpStream>>,
    accepted: AtomicUsize,
    /// New connections are closed at once.
    is_cut: AtomicBool,
    /// What the broker says is swallowed.
    is_mute: AtomicBool,
    /// So many bytes of the broker were.
    swallowed: AtomicUsize,
    /// What the client says is swallowed.
    is_deaf: AtomicBool,
    /// So many more bytes of the broker pass, then the connection is cut; 0 = no limit.
    bytes_until_cut: AtomicUsize,
    /// Acknowledgements of the broker that lie together change places.
    swaps: AtomicBool,
    swapped: AtomicUsize,
    /// How long everything that the broker says is held, in milliseconds.
    delay_ms: AtomicUsize,
}

impl Proxy {
    /// A proxy in front of a port of this machine.
    pub(crate) fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<State>::default();
        let proxy = Self {
            port,
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                if state.is_cut.load(Ordering::SeqCst) {
                    continue;
                }
                state.accepted.fetch_add(1, Ordering::SeqCst);
                let pairs = [(&client, &server, false), (&server, &client, true)];
                for (from, to, is_answer) in pairs {
                    let (from, to) = (copy(from), copy(to));
                    state.connections.lock().expect("alive").push(copy(&from));
                    let state = Arc::clone(&state);
                    thread::spawn(move || carry(from, to, is_answer, &state));
                }
            }
        });
        proxy
    }

    /// Ends all connections and lets none begin.
    pub(crate) fn cut(&self) {
        self.state.is_cut.store(true, Ordering::SeqCst);
        self.reset();
    }

    /// Ends all connections.
    pub(crate) fn reset(&self) {
        for stream in self.state.connections.lock().expect("alive").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn heal(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
        self.state.is_mute.store(false, Ordering::SeqCst);
        self.state.is_deaf.store(false, Ordering::SeqCst);
    }

    /// The broker is no longer heard.
    pub(crate) fn mute(&self) {
        self.state.is_mute.store(true, Ordering::SeqCst);
    }

    /// How many bytes the broker has said to nobody.
    pub(crate) fn swallowed(&self) -> usize {
        self.state.swallowed.load(Ordering::SeqCst)
    }

    /// The client is no longer heard.
    #[cfg(any(feature = "amqp091", feature = "amqp10"))]
    pub(crate) fn deafen(&self) {
        self.state.is_deaf.store(true, Ordering::SeqCst);
    }

    /// Ends the connection after so many bytes from the broker, in the middle of a packet perhaps.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.state.bytes_until_cut.store(bytes, Ordering::SeqCst);
    }

    /// From now on the broker's acknowledgements come late and in another order.
    pub(crate) fn delay_and_swap_answers(&self, delay_ms: usize) {
        self.state.delay_ms.store(delay_ms, Ordering::SeqCst);
        self.state.swaps.store(true, Ordering::SeqCst);
    }

    /// How many acknowledgements have overtaken another one.
    pub(crate) fn swapped(&self) -> usize {
        self.state.swapped.load(Ordering::SeqCst)
    }

    /// How many connections have been carried.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }
}

fn copy(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("cloned")
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_answer: bool, state: &State) {
    let mut bytes = [0; 4_096];
    let mut rest = Vec::new();
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        let silence = match is_answer {
            true => &state.is_mute,
            false => &state.is_deaf,
        };
        if silence.load(Ordering::SeqCst) {
            if is_answer {
                state.swallowed.fetch_add(count, Ordering::SeqCst);
            }
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let left = state.bytes_until_cut.load(Ordering::SeqCst);
        if is_answer && left > 0 {
            let passed = count.min(left);
            let _ = to.write_all(&bytes[..passed]);
            state.bytes_until_cut.store(left - passed, Ordering::SeqCst);
            if left <= count {
                break;
            }
            continue;
        }
        let delay_ms = state.delay_ms.load(Ordering::SeqCst) as u64;
        if is_answer && delay_ms > 0 {
            thread::sleep(Duration::from_millis(delay_ms));
        }
        let is_swapping = is_answer && state.swaps.load(Ordering::SeqCst);
        rest.extend_from_slice(&bytes[..count]);
        let passing = match is_swapping {
            true => swap_acknowledgements(&mut rest, state),
            false => std::mem::take(&mut rest),
        };
        if to.write_all(&passing).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Takes the whole packets out of `bytes`; of two acknowledgements the second goes first.
fn swap_acknowledgements(bytes: &mut Vec<u8>, state: &State) -> Vec<u8> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    while let Some(size) = packet_bytes(bytes) {
        packets.push(bytes.drain(..size).collect());
    }
    let is_acknowledgement = |packet: &Vec<u8>| matches!(packet[0] >> 4, 4 | 5 | 7);
    for pair in packets.chunks_exact_mut(2) {
        if pair.iter().all(is_acknowledgement) {
            pair.swap(0, 1);
            state.swapped.fetch_add(1, Ordering::SeqCst);
        }
    }
    packets.concat()
}

/// The size of the packet that `bytes` begins with, if it is whole.
fn packet_bytes(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let size = 2 + index + length;
            return (bytes.len() >= size).then_some(size);
        }
    }
    None
}
