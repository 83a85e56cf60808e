//! The rows of the packet tables beside this file, valid packets and others, with the reason that
//! each is refused for.
//!
//! A row is: receiver (S or C), expected reason (`ok` or hex), first byte, body, `|`, name. In the
//! body `s:x` is a string with its length, `'x` plain characters, `{ … }` a block behind a one-byte
//! length, `*300:` repeats the next token, and all else hex.

use tidewire_protocol::codec::{ProtocolVersion, Receiver};

/// One row.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) receiver: Receiver,
    /// Zero if the packet is valid.
    pub(crate) reason: u8,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn cases(version: ProtocolVersion) -> Vec<Case> {
    let table = match version {
        ProtocolVersion::V3_1 => V3_1,
        ProtocolVersion::V3_1_1 => V3_1_1,
        ProtocolVersion::V5 => V5,
    };
    table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(case)
        .collect()
}

fn case(line: &str) -> Case {
    let (row, name) = line.split_once('|').expect("a name");
    let mut tokens = row.split_whitespace();
    let receiver = if tokens.next() == Some("S") {
        Receiver::Server
    } else {
        Receiver::Client
    };
    let reason = match tokens.next().expect("a reason") {
        "ok" => 0,
        reason => u8::from_str_radix(reason, 16).expect("a hex reason"),
    };
    let mut bytes = hex(tokens.next().expect("a first byte"));
    let mut blocks = vec![Vec::new()];
    let mut repeat = 1;
    for token in tokens {
        let field = match token {
            "{" => {
                blocks.push(Vec::new());
                continue;
            }
            "}" => {
                let block = blocks.pop().expect("an open block");
                [length(block.len()), block].concat()
            }
            _ if token.starts_with('*') => {
                repeat = token.trim_matches(['*', ':']).parse().expect("a number");
                continue;
            }
            _ => match (token.strip_prefix("s:"), token.strip_prefix('\'')) {
                (Some(text), _) => [
                    &u16::try_from(text.len())
                        .expect("a short text")
                        .to_be_bytes(),
                    text.as_bytes(),
                ]
                .concat(),
                (_, Some(text)) => text.as_bytes().to_vec(),
                _ => hex(token),
            },
        };
        blocks
            .last_mut()
            .expect("a block")
            .extend(field.repeat(repeat));
        repeat = 1;
    }
    let body = blocks.pop().expect("the body");
    assert!(blocks.is_empty(), "open block in {name}");
    bytes.extend(length(body.len()));
    bytes.extend(body);
    Case {
        name: name.trim().to_owned(),
        receiver,
        reason,
        bytes,
    }
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect(digits))
        .collect()
}

fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        bytes.push(if value > 0 { byte | 128 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

const V3_1: &str = include_str!("v3_1.txt");
const V3_1_1: &str = include_str!("v3_1_1.txt");
const V5: &str = include_str!("v5.txt");
