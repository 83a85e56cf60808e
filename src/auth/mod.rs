//! Who a client is, and what it may do.

/// Whether clients may publish to a topic: the broker's own topics and the prefixes that are
/// subscription syntax are not theirs.
pub fn may_publish(topic: &str) -> bool {
    let first = topic.split('/').next().unwrap_or(topic);
    !matches!(
        first,
        "$SYS" | "$share" | "$exclusive" | "$delayed" | "$queue"
    )
}

#[cfg(test)]
mod tests {
    use super::may_publish;

    #[test]
    fn clients_cannot_publish_to_the_brokers_topics() {
        assert!(may_publish("a/b"));
        assert!(may_publish("$other"));
        assert!(!may_publish("$SYS/broker/uptime"));
        assert!(!may_publish("$share/g/a"));
    }
}
