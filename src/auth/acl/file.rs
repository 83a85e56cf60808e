//! The ACL file, in mosquitto's format.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::action::Actions;
use super::pattern::{Pattern, PatternError};
use super::rule::{Effect, Rule, RuleOrigin, Who};

/// Why an ACL file is refused.
#[derive(Debug, thiserror::Error)]
pub enum AclFileError {
    /// It cannot be read.
    #[error("ACL file {}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line cannot be used.
    #[error("{}:{line}: {problem}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: AclLineError,
    },
    /// There is no rule in it.
    #[error("ACL file {}: has no rule; to deny everything, write `topic deny #`", .0.display())]
    Empty(PathBuf),
}

/// What is wrong with a line of an ACL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AclLineError {
    /// The first word.
    #[error("expected `user`, `topic` or `pattern`")]
    Word,
    /// `user` without a name.
    #[error("expected `user NAME`")]
    NoName,
    /// Nothing after `topic` or its access.
    #[error("expected `[read|write|readwrite|deny] FILTER`")]
    NoFilter,
    /// The word before the filter.
    #[error("expected `read`, `write`, `readwrite` or `deny` before a filter with spaces")]
    Access,
    /// `topic` with `%u` or `%c`.
    #[error("%u and %c are for `pattern`")]
    NameInTopic,
    /// The filter.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The last line.
    #[error("the last line has no end: the file may be half written")]
    HalfWritten,
}

/// Reads a file whole.
pub(super) fn read(file: &Path) -> Result<Vec<Rule>, AclFileError> {
    let text = std::fs::read_to_string(file).map_err(|source| AclFileError::Read {
        file: file.to_owned(),
        source,
    })?;
    parse(file, &text)
}

/// Rules in the order in which they decide: a user's own before patterns, denials before the rest,
/// as mosquitto looks at them.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Rule>, AclFileError> {
    let path = Arc::new(file.to_owned());
    let refused = |line: usize, problem: AclLineError| AclFileError::Line {
        file: file.to_owned(),
        line,
        problem,
    };
    // What stands before the first user is for clients without a user name.
    let mut who = Who {
        is_anonymous: true,
        ..Who::default()
    };
    let mut parts: [Vec<Rule>; 4] = Default::default();
    for (line, content) in (1..).zip(text.lines()) {
        let read = read_line(content).map_err(|problem| refused(line, problem))?;
        let (scope, access, pattern) = match read {
            Line::Nothing => continue,
            Line::User(name) => {
                who = Who {
                    users: vec![name.into()],
                    ..Who::default()
                };
                continue;
            }
            Line::Rule(scope, access, pattern) => (scope, access, pattern),
        };
        let (who, place) = match scope {
            Scope::Topic => (who.clone(), 0),
            Scope::Pattern => (Who::default(), 2),
        };
        let (effect, actions) = access;
        let part = &mut parts[place + usize::from(effect == Effect::Allow)];
        part.push(Rule {
            effect,
            who,
            actions,
            pattern,
            origin: RuleOrigin::Line(Arc::clone(&path), line),
        });
    }
    if parts.iter().all(Vec::is_empty) {
        return Err(AclFileError::Empty(file.to_owned()));
    }
    if !text.ends_with('\n') {
        return Err(refused(text.lines().count(), AclLineError::HalfWritten));
    }
    Ok(parts.into_iter().flatten().collect())
}

enum Line<'a> {
    Nothing,
    User(&'a str),
    Rule(Scope, (Effect, Actions), Pattern),
}

#[derive(Clone, Copy)]
enum Scope {
    Topic,
    Pattern,
}

fn read_line(line: &str) -> Result<Line<'_>, AclLineError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Line::Nothing);
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim_start();
    let scope = match word {
        "user" if rest.is_empty() => return Err(AclLineError::NoName),
        "user" => return Ok(Line::User(rest)),
        "topic" => Scope::Topic,
        "pattern" => Scope::Pattern,
        _ => return Err(AclLineError::Word),
    };
    let (access, filter) = match rest.split_once(char::is_whitespace) {
        Some((word, filter)) => match access(word) {
            Some(access) => (access, filter.trim_start()),
            // As mosquitto: a misspelled denial is no topic with a space.
            None => return Err(AclLineError::Access),
        },
        None if access(rest).is_some() => return Err(AclLineError::NoFilter),
        None => (READ_WRITE, rest),
    };
    if filter.is_empty() {
        return Err(AclLineError::NoFilter);
    }
    let pattern = Pattern::parse(filter)?;
    if matches!(scope, Scope::Topic) && pattern.has_names() {
        return Err(AclLineError::NameInTopic);
    }
    Ok(Line::Rule(scope, access, pattern))
}

fn access(word: &str) -> Option<(Effect, Actions)> {
    match word {
        "read" => Some((Effect::Allow, Actions::READ)),
        "write" => Some((Effect::Allow, Actions::WRITE)),
        "readwrite" => Some(READ_WRITE),
        "deny" => Some((Effect::Deny, Actions::ALL)),
        _ => None,
    }
}

const READ_WRITE: (Effect, Actions) = (Effect::Allow, Actions::ALL);
