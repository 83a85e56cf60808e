//! Lines of TOML.

use std::fmt::{Display, Write};

/// Keys with values and comments of one table, in order.
#[derive(Debug, Default)]
pub(super) struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Sets a key, in place of an earlier value.
    pub(super) fn set(&mut self, key: &str, value: impl Display) {
        let start = format!("{key} = ");
        self.lines.retain(|line| !line.starts_with(&start));
        self.lines.push(format!("{start}{value}"));
    }

    pub(super) fn note(&mut self, text: &str) {
        let text = text.replace(|character: char| character.is_control(), " ");
        self.lines.push(format!("# {text}"));
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        self.lines.append(&mut other.lines);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn text(&self, header: &str) -> String {
        let mut text = String::from("\n");
        if !header.is_empty() {
            text += header;
            text.push('\n');
        }
        for line in &self.lines {
            text += line;
            text.push('\n');
        }
        text
    }
}

/// A basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            control if control.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

/// A list of basic strings.
pub(super) fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = texts.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
