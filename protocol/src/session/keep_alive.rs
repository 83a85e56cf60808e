//! How long a silent client is believed to be alive.

/// The moment at which a client that sent nothing since `last_received_ms` is gone, or `None` for
/// a keep-alive of zero.
///
/// # Source
/// One and a half times the keep-alive [MQTT-3.1.2-22].
pub fn keep_alive_deadline_ms(last_received_ms: u64, keep_alive_seconds: u16) -> Option<u64> {
    (keep_alive_seconds > 0).then(|| last_received_ms + u64::from(keep_alive_seconds) * 1_500)
}

#[cfg(test)]
mod tests {
    use super::keep_alive_deadline_ms;

    #[test]
    fn a_client_is_gone_after_one_and_a_half_times_its_keep_alive() {
        assert_eq!(keep_alive_deadline_ms(1_000, 10), Some(16_000));
        assert_eq!(keep_alive_deadline_ms(1_000, 0), None);
    }
}
