//! Changes to inputs, some of which know how MQTT lays out lengths and strings.

use super::Random;

/// Applies one to four changes; `other` is an input to take parts from.
pub(super) fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        change(input, other, random);
    }
    // Most inputs are a byte of choice and a packet, which is worth most with the right length.
    if random.below(2) == 0 {
        mend_remaining_length(input);
    }
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(11) {
        0 => flip(input, at, 1 << random.below(8)),
        1 => set(input, at, random.byte()),
        2 | 3 => set(input, at, INTERESTING[random.below(INTERESTING.len())]),
        4 => input.insert(at, INTERESTING[random.below(INTERESTING.len())]),
        5 => {
            let end = (at + 1 + random.below(8)).min(input.len());
            input.drain(at.min(end)..end);
        }
        6 => {
            let part = part_of(input, random);
            input.splice(at..at, part);
        }
        7 => {
            let part = part_of(other, random);
            input.splice(at..at, part);
        }
        8 => {
            let part = part_of(other, random);
            let end = (at + part.len()).min(input.len());
            input.splice(at..end, part);
        }
        9 => {
            let word = WORDS[random.below(WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        _ => set_length(input, at, random),
    }
}

/// Makes the two bytes at `at` the length of some part of what follows them.
fn set_length(input: &mut [u8], at: usize, random: &mut Random) {
    let Some([high, low, rest @ ..]) = input.get_mut(at..) else {
        return;
    };
    let length = u16::try_from(random.below(rest.len() + 1)).unwrap_or(u16::MAX);
    [*high, *low] = length.to_be_bytes();
}

/// Gives the packet after the first byte the remaining length that it has.
fn mend_remaining_length(input: &mut Vec<u8>) {
    let Some(after_first) = input.get(LENGTH_AT..) else {
        return;
    };
    let old = after_first
        .iter()
        .take(4)
        .take_while(|byte| **byte >= 0x80)
        .count();
    let old = (old + 1).min(after_first.len());
    let mut rest = after_first.len() - old;
    let mut length = Vec::new();
    loop {
        let byte = (rest % 128) as u8;
        rest /= 128;
        length.push(if rest > 0 { byte | 0x80 } else { byte });
        if rest == 0 {
            break;
        }
    }
    input.splice(LENGTH_AT..LENGTH_AT + old, length);
}

fn flip(input: &mut [u8], at: usize, mask: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= mask;
    }
}

fn set(input: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = value;
    }
}

/// Up to 32 bytes, or all that there is.
fn part_of(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let start = random.below(bytes.len());
    let longest = match random.below(8) {
        0 => bytes.len(),
        _ => 32,
    };
    let end = (start + 1 + random.below(longest)).min(bytes.len());
    bytes[start.min(end)..end].to_vec()
}

const LENGTH_AT: usize = 2;
const INTERESTING: [u8; 24] = [
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0B, 0x1F, 0x23, 0x26, 0x2A, 0x7F, 0x80, 0x81, 0xC0, 0xFF,
    0xED, 0xF4, b'+', b'#', b'/', b'$', b'a', 0x10,
];
const WORDS: [&[u8]; 12] = [
    b"\0\x04MQTT",
    b"\0\x06MQIsdp",
    b"\0\x01a",
    b"\0\x03a/b",
    b"$share/g/",
    b"$delayed/5/",
    b"$exclusive/",
    b"\x26\0\x01k\0\x01v",
    b"\x0B\x01",
    b"\x23\0\x01",
    b"\x1F\0\x01r",
    b"\xC3\xA9",
];
