//! What changes the value of a placeholder.

use std::borrow::Cow;
use std::ops::Range;

use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};

use super::TemplateError;
use crate::hex::hex_of;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Lower,
    Upper,
    /// One level of a topic: what would be more, or a wildcard, is escaped as `%2F` and the like.
    Level,
    Replace(String, String),
    /// The bytes in hexadecimal digits.
    Hex,
    /// The bytes in base64, RFC 4648 section 4.
    Base64,
    /// So many hexadecimal digits, the first of SHA-256 of the bytes.
    Hash(usize),
    /// Characters, counted from 0; what is beyond the last is left out.
    Slice(Range<usize>),
    Default(String),
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let unknown = || TemplateError::Filter(text.to_owned());
        let (name, arguments) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or_else(unknown)?),
            None => (text, ""),
        };
        let mut texts = arguments.split('\'').skip(1).step_by(2).map(str::to_owned);
        let filter = match name {
            "hex" => Self::Hex,
            "b64" => Self::Base64,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            "level" => Self::Level,
            "hash" => {
                let digits = arguments.trim().parse().ok();
                let digits = digits.filter(|it| (1..=HASH_DIGITS).contains(it));
                Self::Hash(digits.ok_or_else(unknown)?)
            }
            "replace" => {
                let from = texts.next().filter(|it| !it.is_empty());
                Self::Replace(from.ok_or_else(unknown)?, texts.next().ok_or_else(unknown)?)
            }
            "slice" => {
                let (from, to) = arguments.split_once(',').ok_or_else(unknown)?;
                let index = |text: &str| text.trim().parse::<usize>().map_err(|_| unknown());
                let (from, to) = (index(from)?, index(to)?);
                Self::Slice((from < to).then_some(from..to).ok_or_else(unknown)?)
            }
            "default" => Self::Default(texts.next().ok_or_else(unknown)?),
            _ => return Err(unknown()),
        };
        Ok(filter)
    }

    /// The changed value; `None` is a missing one, or bytes where text is needed.
    pub(super) fn apply<'a>(&self, value: Option<Cow<'a, [u8]>>) -> Option<Cow<'a, [u8]>> {
        if let Self::Default(text) = self {
            let given = value.filter(|it| str::from_utf8(it).is_ok());
            return given.or_else(|| Some(Cow::Owned(text.clone().into_bytes())));
        }
        let bytes = value?;
        let text = || str::from_utf8(&bytes).ok();
        let changed = match self {
            Self::Default(_) => return Some(bytes),
            Self::Hex => hex_of(&bytes),
            Self::Base64 => Base64::encode_string(&bytes),
            Self::Hash(digits) => {
                let mut hash = hex_of(digest(&SHA256, &bytes).as_ref());
                hash.truncate(*digits);
                hash
            }
            Self::Lower => text()?.to_lowercase(),
            Self::Upper => text()?.to_uppercase(),
            Self::Replace(from, to) => text()?.replace(from, to),
            Self::Level => escape_level(text()?),
            Self::Slice(range) => {
                let from = text()?.chars().skip(range.start);
                from.take(range.len()).collect()
            }
        };
        Some(Cow::Owned(changed.into_bytes()))
    }
}

fn escape_level(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '/' => escaped += "%2F",
            '+' => escaped += "%2B",
            '#' => escaped += "%23",
            '%' => escaped += "%25",
            '\0' => escaped += "%00",
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// All of SHA-256.
const HASH_DIGITS: usize = 64;
