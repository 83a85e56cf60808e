//! Why a text is no topic, and the checks that names and filters share.

use thiserror::Error;

/// Why a text is not a valid topic name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// A topic has at least one character.
    #[error("topic is empty")]
    Empty,
    /// More bytes than a length prefix can hold.
    #[error("topic has {bytes} bytes, more than {TOPIC_BYTES_MAX}")]
    TooLong {
        /// The length of the text.
        bytes: usize,
    },
    /// The null character is forbidden.
    #[error("topic contains the null character")]
    Null,
    /// A topic name holds `+` or `#`.
    #[error("topic name contains a wildcard")]
    Wildcard,
    /// `+` shares its level with other characters, or `#` is not the whole last level.
    #[error("wildcard is not a whole level, or # is not the last")]
    MisplacedWildcard,
    /// More levels than this broker allows.
    #[error("topic has more than {levels_max} levels")]
    TooManyLevels {
        /// The most levels allowed.
        levels_max: usize,
    },
    /// `$share/` without a valid group name and a filter after it.
    #[error("shared subscription lacks a valid group or a filter")]
    InvalidShare,
    /// `$exclusive/` with a wildcard in its topic.
    #[error("exclusive subscription contains a wildcard")]
    ExclusiveWildcard,
    /// `$delayed/` without a number of seconds and a topic after it.
    #[error("delayed topic lacks its seconds or its topic")]
    InvalidDelay,
}

/// Checks what names and filters have in common: length, null characters and depth.
pub(super) fn check_text(text: &str, levels_max: usize) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty); // [MQTT-4.7.3-1]
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong { bytes: text.len() }); // [MQTT-4.7.3-3]
    }
    let mut levels = 1;
    for byte in text.bytes() {
        match byte {
            0 => return Err(TopicError::Null), // [MQTT-4.7.3-2]
            b'/' => levels += 1,
            _ => {}
        }
    }
    if levels > levels_max {
        return Err(TopicError::TooManyLevels { levels_max });
    }
    Ok(())
}

/// The longest topic name or filter.
const TOPIC_BYTES_MAX: usize = 65_535;
