//! Who clients are.

use std::path::PathBuf;

/// How clients prove who they are, on every listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The users and what is kept of their passwords; `None` if no password is checked.
    pub password_file: Option<PathBuf>,
    /// Threads that compute password hashes, 0 = a quarter of the cores.
    pub hashing_threads: u16,
    /// Who may take a session over from the user that had it last.
    pub session_takeover: SessionTakeover,
}

/// Who may connect with the client id of a session that somebody else had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionTakeover {
    /// Everyone: client ids are not guarded.
    Anyone,
    /// Everyone but another user; clients without a user name are not told apart.
    #[default]
    NotOtherUsers,
    /// The same user only; clients without a user name are one of their own.
    SameUser,
}
