//! Appends fields to a buffer.

use super::{EncodeError, PacketId, varint};

/// Appends binary data, or a string, behind its two-byte length; nothing on error.
pub(super) fn put_binary(out: &mut Vec<u8>, data: &[u8]) -> Result<(), EncodeError> {
    let length =
        u16::try_from(data.len()).map_err(|_| EncodeError::FieldTooLong { bytes: data.len() })?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    Ok(())
}

pub(super) fn put_string(out: &mut Vec<u8>, string: &str) -> Result<(), EncodeError> {
    put_binary(out, string.as_bytes())
}

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_packet_id(out: &mut Vec<u8>, packet_id: PacketId) {
    put_u16(out, packet_id.value());
}

/// Appends what `write` appends, behind its length as a variable byte integer.
///
/// Most blocks are shorter than 128 bytes: one byte is kept free, longer lengths move the block.
pub(super) fn put_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let length_at = out.len();
    out.push(0);
    write(out)?;
    let bytes = out.len() - length_at - 1;
    if bytes > varint::MAX {
        return Err(EncodeError::PacketTooLong { bytes });
    }
    if let (Ok(byte @ 0..=0x7F), Some(length)) = (u8::try_from(bytes), out.get_mut(length_at)) {
        *length = byte;
        return Ok(());
    }
    let (length, size) = varint::bytes(bytes);
    out.splice(length_at..=length_at, length.into_iter().take(size));
    Ok(())
}
