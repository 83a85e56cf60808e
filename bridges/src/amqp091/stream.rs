//! How far a stream has been read, over all connections of a process.

use std::sync::atomic::{AtomicI64, Ordering};

use amq_protocol::protocol::BasicProperties;
use amq_protocol::types::AMQPValue;

/// Behind all of a stream that has come; 0 if nothing has.
#[derive(Debug, Default)]
pub(super) struct StreamPlace(AtomicI64);

impl StreamPlace {
    pub(super) fn pass(&self, properties: &BasicProperties) {
        let headers = properties.headers().as_ref();
        let offset = headers.and_then(|it| it.inner().get(OFFSET));
        if let Some(AMQPValue::LongLongInt(offset)) = offset {
            self.0
                .fetch_max(offset.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Where a stream goes on, if something of it has come.
    pub(super) fn next(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|it| *it > 0)
    }

    /// Another queue follows.
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// The header and the argument of a place in a stream.
pub(super) const OFFSET: &str = "x-stream-offset";

#[cfg(test)]
mod tests {
    use amq_protocol::types::FieldTable;

    use super::*;

    #[test]
    fn a_stream_goes_on_behind_what_has_come() {
        let place = StreamPlace::default();
        assert_eq!(place.next(), None);
        for offset in [10, 11, 3] {
            let mut headers = FieldTable::default();
            headers.insert(OFFSET.into(), AMQPValue::LongLongInt(offset));
            place.pass(&BasicProperties::default().with_headers(headers));
        }
        assert_eq!(place.next(), Some(12));
        place.forget();
        assert_eq!(place.next(), None);
    }
}
