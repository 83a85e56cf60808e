//! Why a configuration is refused.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration is refused; the message is complete and fit for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}, found `{line}`")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        message: String,
        /// The line.
        line: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`, did you mean `{nearest}`?")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// Dotted path, or the name of an environment variable.
        key: String,
        /// The known key that is spelled most like it.
        nearest: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: `{key}` is {found}, expected {expected}")]
    Value {
        /// Where.
        origin: Origin,
        /// Dotted path.
        key: String,
        /// The value.
        found: String,
        /// What the key takes.
        expected: String,
    },
    /// Values that are fine alone but not together, or not on this machine.
    #[error("{origin}: `{key}` {problem}{}", suffix(found.as_deref()))]
    Rule {
        /// Where the key, or the table it is missing from, was set.
        origin: Origin,
        /// Dotted path.
        key: String,
        /// What is wrong, to be read after the key.
        problem: String,
        /// The value, unless the key is missing.
        found: Option<String>,
    },
    /// A URL that does not describe a listener or a server.
    #[error("`{url}` {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong, to be read after the URL.
        problem: String,
    },
}

fn suffix(found: Option<&str>) -> String {
    found.map_or_else(String::new, |found| format!(", found {found}"))
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file, counted from 1.
    File {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// An argument of the command line.
    Argument(String),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Argument(argument) => write!(f, "argument {argument}"),
            Self::Default => f.write_str("configuration"),
        }
    }
}
