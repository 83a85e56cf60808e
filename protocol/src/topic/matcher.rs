//! The plain matcher, level by level: slow, and obviously right.

/// Whether a topic name matches a filter; both must be valid.
///
/// # Source
/// MQTT 5.0 section 4.7.1 and 4.7.2.
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut filter_levels = filter.split('/');
    let mut topic_levels = topic.split('/');
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn the_examples_of_the_specification_hold() {
        let yes = [
            ("sport/tennis/#", "sport/tennis"),
            ("sport/#", "sport"),
            ("#", "a/b"),
            ("sport/tennis/#", "sport/tennis/player1/ranking"),
            ("+/+", "/finance"),
            ("/+", "/finance"),
            ("sport/+", "sport/"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/monitor/+", "$SYS/monitor/Clients"),
            ("a//b", "a//b"),
            ("a/+/b", "a//b"),
            ("+/#", "a"),
        ];
        for (filter, topic) in yes {
            assert!(matches(filter, topic), "{filter} {topic}");
        }
        let no = [
            ("+", "/finance"),
            ("sport/+", "sport"),
            ("#", "$SYS"),
            ("+/a", "$SYS/a"),
            ("+", "$SYS"),
            ("sport/tennis/+", "sport/tennis/player1/ranking"),
            ("a", "A"),
            ("a/b", "a"),
            ("a", "a/b"),
            ("+/+/#", "a"),
        ];
        for (filter, topic) in no {
            assert!(!matches(filter, topic), "{filter} {topic}");
        }
    }
}
