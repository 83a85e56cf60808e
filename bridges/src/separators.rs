//! Levels of topics where the remote separates them by dots.

/// The name over there of a topic, and back: `/` and `.` change places.
pub(crate) fn exchange_separators(name: &str) -> String {
    let exchanged = name.chars().map(|it| match it {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    exchanged.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_dots_change_places() {
        assert_eq!(exchange_separators("a/b.c/d"), "a.b/c.d");
        assert_eq!(exchange_separators(&exchange_separators("/x.y")), "/x.y");
    }
}
