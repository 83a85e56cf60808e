//! Levels of topics where the remote separates them by something else.

/// The name over there of a topic, and back: `/` and `.` change places.
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
pub(crate) fn exchange_separators(name: &str) -> String {
    exchange(name, '.')
}

/// The name in which `/` and this character have changed places.
pub(crate) fn exchange(name: &str, separator: char) -> String {
    let mut exchanged = String::with_capacity(name.len());
    exchanged.extend(name.chars().map(|it| match it {
        '/' => separator,
        it if it == separator => '/',
        it => it,
    }));
    exchanged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_and_separators_change_places() {
        assert_eq!(exchange("a/b.c/d", '.'), "a.b/c.d");
        assert_eq!(exchange(&exchange("/x-ä", '-'), '-'), "/x-ä");
    }
}
