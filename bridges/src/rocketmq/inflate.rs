//! Bodies that their senders have compressed.

use bytes::Bytes;
use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};

use crate::Failure;

/// What was compressed; `GZIP` is said of zlib too, which RocketMQ's older clients take for all
/// that is above 4 KiB.
///
/// # Errors
/// It is neither, or too large.
pub(super) fn inflated(body: &[u8]) -> Result<Bytes, Failure> {
    let inflated = match body {
        // Without optional fields: ten bytes, of which the fourth says so.
        [0x1f, 0x8b, 8, 0, _, _, _, _, _, _, rest @ ..] => {
            decompress_to_vec_with_limit(rest, BODY_BYTES_MAX)
        }
        [0x78, ..] => decompress_to_vec_zlib_with_limit(body, BODY_BYTES_MAX),
        _ => return Err(Failure::poison("the body is neither gzip nor zlib")),
    };
    let wrong = |error| Failure::poison(format!("the body cannot be inflated: {error}"));
    inflated.map(Bytes::from).map_err(wrong)
}

/// What a body may become.
const BODY_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zlib_and_gzip_are_inflated_and_nothing_else() {
        // python3 -c 'import zlib; print(zlib.compress(b"aaaaaaaaaa").hex())'
        let zlib = [
            0x78, 0x9c, 0x4b, 0x4c, 0x84, 0x01, 0x00, 0x14, 0xe1, 0x03, 0xcb,
        ];
        assert_eq!(inflated(&zlib).unwrap(), "aaaaaaaaaa");
        let deflated = &zlib[2..7];
        let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
        gzip.extend_from_slice(deflated);
        assert_eq!(inflated(&gzip).unwrap(), "aaaaaaaaaa");
        assert!(inflated(b"aaaa").is_err());
        assert!(inflated(&zlib[..5]).is_err());
    }
}
