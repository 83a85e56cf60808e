//! The variable byte integer: seven bits a byte, low bits first, at most four bytes.
//!
//! # Source
//! MQTT 5.0 section 1.5.5.

use super::DecodeError;

/// The value that `bytes` begins with and its length, or `None` if it is not complete.
pub(super) fn read_prefix(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            // [MQTT-1.5.5-1]
            if byte == 0 && index > 0 {
                return Err(DecodeError::VariableByteIntegerNotMinimal { value });
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::VariableByteIntegerTooLong);
    }
    Ok(None)
}

/// Number of bytes that `value` takes.
pub(super) fn size(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// The bytes of `value`, of which the first [`size`] count.
pub(super) fn bytes(value: usize) -> ([u8; 4], usize) {
    debug_assert!(value <= MAX, "checked by the callers");
    let mut bytes = [0; 4];
    let mut rest = value;
    let size = size(value);
    for (index, byte) in bytes.iter_mut().enumerate().take(size) {
        *byte = u8::try_from(rest & 0x7F).unwrap_or(0);
        if index + 1 < size {
            *byte |= 0x80;
        }
        rest >>= 7;
    }
    (bytes, size)
}

/// Appends `value`, at most [`MAX`].
pub(super) fn put(out: &mut Vec<u8>, value: usize) {
    if let Ok(byte @ 0..=0x7F) = u8::try_from(value) {
        out.push(byte);
        return;
    }
    let (bytes, size) = bytes(value);
    out.extend_from_slice(bytes.get(..size).unwrap_or(&bytes));
}

/// The largest value: 268,435,455.
pub(super) const MAX: usize = 0x0FFF_FFFF;
