//! Words that do not pass: what is not done, what silences a lint, and `unsafe`.

use crate::source::{Source, Violation};

/// The one file with an unsafe block: opening the environment of the store.
const UNSAFE: &str = "src/store/environment.rs";

/// Whether nothing is left open, allowed or unsafe.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let is_product = ["src/", "protocol/src/", "bridges/src/"]
        .iter()
        .any(|folder| source.path.starts_with(folder));
    (0..source.tokens.len())
        .filter_map(|at| {
            let before = |count: usize| at.checked_sub(count).map_or("", |at| source.at(at));
            let what = match (source.at(at), source.at(at + 1)) {
                (word @ ("todo" | "unimplemented"), "!") => format!("`{word}!` is not done"),
                ("allow", "(") if matches!(before(1), "[" | ",") => {
                    "`allow` outlives its cause: use `expect` with a reason".to_owned()
                }
                ("unsafe", _) if is_product && source.path != UNSAFE => {
                    format!("`unsafe` has its place in {UNSAFE} alone")
                }
                _ => return None,
            };
            Some(source.violation(source.tokens[at].line, what))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Source::new(path, text)).len()
    }

    #[test]
    fn open_ends_and_silenced_lints_are_found_everywhere() {
        for text in [
            "fn f() { todo!() }",
            "fn f() { unimplemented!(\"later\") }",
            "#[allow(dead_code)] fn f() {}",
            "#![allow(clippy::all)]",
            "#[cfg_attr(test, allow(dead_code))] fn f() {}",
        ] {
            assert_eq!(count("tests/a.rs", text), 1, "{text}");
        }
    }

    #[test]
    fn unsafe_is_found_in_the_product_outside_its_place() {
        let text = "fn f() { unsafe { g() } }";
        assert_eq!(count("src/net/a.rs", text), 1);
        assert_eq!(count("protocol/src/a.rs", text), 1);
        assert_eq!(count("src/store/environment.rs", text), 0);
    }

    #[test]
    fn expectations_comments_and_strings_pass() {
        let text = "#[expect(dead_code, reason = \"todo!\")] fn f() { allow(1) } // unsafe";
        assert_eq!(count("src/a.rs", text), 0);
    }
}
