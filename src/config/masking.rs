//! What error messages leave out: passwords, tokens and the like.

/// Whether the value of a key, a table's or a variable's, is nobody's business.
pub fn is_secret(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.ends_with("password") || path.ends_with("authorization")
}

/// A text without what stands between `://` and `@` in its URLs.
pub(crate) fn masked_url(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let ends = |it: char| it.is_whitespace() || matches!(it, '"' | '\'' | '`' | ',');
        let end = after.find(ends).unwrap_or(after.len());
        // A password may hold `@` and, by mistake, `/`.
        let end = after.get(..end).and_then(|url| url.rfind('@'));
        rest = match end.and_then(|at| after.get(at..)) {
            Some(host) => {
                out.push_str(MASK);
                host
            }
            None => after,
        };
    }
    out + rest
}

/// The part of a line of a broken file that can be shown; `before` is what the file holds before
/// the line.
pub(super) fn masked_line(before: &str, line: &str) -> String {
    // The middle of a long text may be anything.
    let is_within = |quotes: &str| before.matches(quotes).count() % 2 == 1;
    if is_within("\"\"\"") || is_within("'''") {
        return MASK.to_owned();
    }
    let mut end = 0;
    for word in line.split_inclusive(|it: char| !(it.is_alphanumeric() || it == '_' || it == '-')) {
        end += word.len();
        let word = word.trim_end_matches(|it: char| !(it.is_alphanumeric() || it == '_'));
        if names_secret(word) {
            return format!("{}{MASK}", line.get(..end).unwrap_or_default());
        }
    }
    masked_url(line)
}

/// Whether a value beside the word may be a secret: better one line too many.
fn names_secret(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let holds = |list: &[&str]| list.iter().any(|it| word.contains(it));
    let is_key = matches!(&*word, "key" | "api_key" | "private_key" | "secret_key");
    let is_place = ["_file", "_env", "_in", "_claim", "_seconds", "_max"]
        .iter()
        .any(|it| word.ends_with(it));
    is_key || (!is_place && holds(&SECRETS))
}

/// What stands for what is left out.
const MASK: &str = "..";
const SECRETS: [&str; 9] = [
    "passw",
    "passphrase",
    "pwd",
    "authorization",
    "secret",
    "token",
    "credential",
    "bearer",
    "basic",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        for (text, shown) in [
            ("https://u:pass@h:1/a", "https://..@h:1/a"),
            ("https://u:p@ss/w@h", "https://..@h"),
            (
                "[\"mqtt://a\", \"mqtt://u:pw@b\"]",
                "[\"mqtt://a\", \"mqtt://..@b\"]",
            ),
            ("https://h/a", "https://h/a"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(masked_url(text), shown);
        }
    }

    #[test]
    fn a_line_is_shown_up_to_the_name_of_a_secret() {
        for (line, shown) in [
            ("shards = 1", "shards = 1"),
            ("key_file = k.pem", "key_file = k.pem"),
            ("password = \"hunter2", "password .."),
            ("authorization \"hunter2\"", "authorization .."),
            ("\"Authorization\" = hunter2", "\"Authorization\".."),
            (
                "http = { url = 1, authorization='hunter2' ",
                "http = { url = 1, authorization=..",
            ),
            ("client-secret: hunter2", "client-secret:.."),
            ("key = hunter2", "key .."),
            ("url = https://u:hunter2@h", "url = https://..@h"),
        ] {
            assert_eq!(masked_line("", line), shown);
        }
        assert_eq!(masked_line("password = \"\"\"\n", "hunter2"), "..");
    }
}
