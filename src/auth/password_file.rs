//! The password file: who may log in, and what is kept of their passwords.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use ring::digest;

use super::password::{HashError, PasswordHash};
use super::scram::{ScramVerifier, ScramVerifierError, sign};

/// The users of a password file.
///
/// # Shape
/// One line `USER:HASH` or `USER:HASH:VERIFIER` per user, see [`PasswordHash`] and
/// [`ScramVerifier`]; empty lines and lines that begin with `#` mean nothing.
pub struct PasswordFile {
    users: Vec<User>,
    /// User name to its place in `users`.
    places: HashMap<Box<str>, usize>,
    /// Who has a verifier: those of unknown users look like one of these.
    models: Vec<usize>,
    /// Decides what an unknown user looks like; as secret as the hashes that it comes from.
    secret: Box<[u8]>,
}

/// What is known of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What is kept of the password.
    pub hash: PasswordHash,
    /// What SCRAM needs, if the user may log in by it.
    pub verifier: Option<ScramVerifier>,
}

/// Why a password file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PasswordFileError {
    /// It cannot be read.
    #[error("password file {}: cannot be read: {source}", file.display())]
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
        problem: LineError,
    },
    /// There is no user in it: nobody could log in.
    #[error("password file {}: has no user; add one with `tidewire passwd`", .0.display())]
    Empty(PathBuf),
}

/// What is wrong with a line of a password file; says nothing of what is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// No colon.
    #[error("expected USER:HASH or USER:HASH:VERIFIER")]
    Shape,
    /// The user name.
    #[error(transparent)]
    UserName(#[from] UserNameError),
    /// The second field.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The third field.
    #[error(transparent)]
    Verifier(#[from] ScramVerifierError),
    /// The user has a line already.
    #[error("the user has a line already, line {0}")]
    Repeated(usize),
}

/// A user name that a line cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user name has 1 to 65535 bytes, no colon and no control character, does not begin with # \
     and has no space at its ends"
)]
pub struct UserNameError;

impl PasswordFile {
    /// Reads a file whole.
    ///
    /// # Errors
    /// It cannot be read, has a line that cannot be used, or no user.
    pub fn read(file: &Path) -> Result<Self, PasswordFileError> {
        let refused = |source| PasswordFileError::Read {
            file: file.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(file).map_err(refused)?;
        Self::parse(file, &text)
    }

    /// Reads the text of a file; `file` only names it in errors.
    ///
    /// # Errors
    /// A line cannot be used, or there is no user.
    pub fn parse(file: &Path, text: &str) -> Result<Self, PasswordFileError> {
        let mut users = Vec::new();
        let mut places = HashMap::new();
        let mut lines_of_users = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            if is_remark(content) {
                continue;
            }
            let refused = |problem: LineError| PasswordFileError::Line {
                file: file.to_owned(),
                line,
                problem,
            };
            let (name, user) = read_line(content).map_err(refused)?;
            if let Some(place) = places.insert(name.into(), users.len()) {
                let earlier = lines_of_users.get(place).copied().unwrap_or_default();
                return Err(refused(LineError::Repeated(earlier)));
            }
            users.push(user);
            lines_of_users.push(line);
        }
        if users.is_empty() {
            return Err(PasswordFileError::Empty(file.to_owned()));
        }
        let has_verifier = |(place, user): (usize, &User)| user.verifier.as_ref().map(|_| place);
        let models = users.iter().enumerate().filter_map(has_verifier).collect();
        let secret = digest::digest(&digest::SHA256, text.as_bytes());
        Ok(Self {
            users,
            places,
            models,
            secret: secret.as_ref().into(),
        })
    }

    /// Whether user name and password belong together. Slow on purpose: never on a shard.
    ///
    /// The hash of another user is computed for an unknown one, always the same: neither time nor
    /// its change tells who exists.
    pub fn has(&self, user_name: &str, password: &[u8]) -> bool {
        let known = self.places.get(user_name).copied();
        let place = known.or_else(|| self.choice(user_name, self.users.len()));
        let user = place.and_then(|place| self.users.get(place));
        let is_right = user.is_some_and(|user| user.hash.is_of(password));
        is_right && known.is_some()
    }

    /// Whether there is such a user.
    pub fn knows(&self, user_name: &str) -> bool {
        self.places.contains_key(user_name)
    }

    /// Tells a user's line from any other that the file may have for it later.
    pub fn mark(&self, user_name: &str) -> Option<u64> {
        let user = self.users.get(*self.places.get(user_name)?)?;
        let line = digest::digest(&digest::SHA256, user.line(user_name).as_bytes());
        let first = line.as_ref().first_chunk().copied()?;
        Some(u64::from_be_bytes(first))
    }

    /// What SCRAM checks the proof of a user against; one that no proof fits to for users who are
    /// unknown or have none. `None` if nobody has one.
    pub fn verifier(&self, user_name: &str) -> Option<ScramVerifier> {
        let verifier_at = |place: usize| self.users.get(place)?.verifier.as_ref();
        let model = *self
            .models
            .get(self.choice(user_name, self.models.len())?)?;
        let decoy = verifier_at(model)?.decoy(&self.secret, user_name);
        let own = self.places.get(user_name).copied().and_then(verifier_at);
        Some(own.cloned().unwrap_or(decoy))
    }

    /// Whether anyone can log in by SCRAM.
    pub fn has_verifiers(&self) -> bool {
        !self.models.is_empty()
    }

    /// How many users there are, at least one.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// One of `count`, always the same for a name; `None` of none.
    fn choice(&self, user_name: &str, count: usize) -> Option<usize> {
        let [a, b, c, d, ..] = sign(&self.secret, user_name.as_bytes());
        let number = u32::from_be_bytes([a, b, c, d]);
        usize::try_from(number).unwrap_or(0).checked_rem(count)
    }
}

/// Not for logs.
impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordFile({} users)", self.users.len())
    }
}

impl User {
    /// The line of the user with this name, without its end.
    pub fn line(&self, user_name: &str) -> String {
        let Self { hash, verifier } = self;
        match verifier {
            Some(verifier) => format!("{user_name}:{hash}:{verifier}"),
            None => format!("{user_name}:{hash}"),
        }
    }
}

/// Whether a line of a password file can hold the name.
///
/// # Errors
/// It cannot.
pub fn check_user_name(name: &str) -> Result<(), UserNameError> {
    let fits = (1..=USER_NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('#')
        && name.trim() == name
        && !name.contains(|it: char| it == ':' || it.is_control());
    if fits { Ok(()) } else { Err(UserNameError) }
}

/// The user name that a line is about.
pub(crate) fn user_of_line(line: &str) -> Option<&str> {
    if is_remark(line) {
        return None;
    }
    line.split_once(':').map(|(name, _)| name)
}

fn read_line(line: &str) -> Result<(&str, User), LineError> {
    let (name, rest) = line.split_once(':').ok_or(LineError::Shape)?;
    check_user_name(name)?;
    let (hash, verifier) = match rest.trim_end().split_once(':') {
        Some((hash, verifier)) => (hash, Some(verifier.parse()?)),
        None => (rest.trim_end(), None),
    };
    let hash = hash.parse()?;
    Ok((name, User { hash, verifier }))
}

fn is_remark(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

const USER_NAME_BYTES_MAX: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    const SHA512: &str = "$6$zcsCfjkef8Z+LJdB$pgGn6NaxU4A+j08lPHk1k3r2rss790mXwZjA3KhbOi1I1Cs1quBQJ\
                          cKmyQCdzFYQ2oEzRiFsmJdWCMP4Uva+0Q==";
    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
                            $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\
                            :wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn parse(text: &str) -> Result<PasswordFile, String> {
        PasswordFile::parse(Path::new("users"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn users_log_in_with_their_own_password_only() {
        let text = format!("# users\n\nbob:{SHA512}\r\nalice:{SHA512}:{VERIFIER}\n");
        let file = parse(&text).expect("valid");
        assert_eq!(file.user_count(), 2);
        assert!(file.has("bob", b"secret"));
        assert!(file.has("alice", b"secret"));
        assert!(!file.has("alice", b"Secret"));
        assert!(
            !file.has("carol", b"secret"),
            "the right password of another user"
        );
        assert!(!file.has("", b"secret"));
    }

    #[test]
    fn an_unknown_user_costs_the_hash_of_another_and_always_the_same() {
        let file = parse(&format!("bob:{SHA512}\nalice:{SHA512}")).expect("valid");
        let mut places = [0, 0];
        for number in 0..100 {
            let name = format!("nobody-{number}");
            let place = file.choice(&name, 2).expect("one of two");
            assert_eq!(Some(place), file.choice(&name, 2));
            places[place] += 1;
        }
        assert!(places.iter().all(|count| *count > 20), "{places:?}");
    }

    #[test]
    fn users_without_a_verifier_look_like_those_with_one() {
        let file = parse(&format!("bob:{SHA512}\nalice:{SHA512}:{VERIFIER}")).expect("valid");
        let verifier = file.verifier("alice").expect("some");
        assert_eq!(verifier.to_string(), VERIFIER);
        for name in ["bob", "carol"] {
            let decoy = file.verifier(name).expect("some").to_string();
            assert!(decoy.starts_with("SCRAM-SHA-256$4096:"), "{decoy}");
            assert_ne!(decoy, VERIFIER);
        }
        // As many iterations as anyone has.
        let other = VERIFIER.replace("$4096:", "$8192:");
        let text = format!("alice:{SHA512}:{VERIFIER}\ndora:{SHA512}:{other}");
        let file = parse(&text).expect("valid");
        let has_many = |name: &usize| {
            let decoy = file.verifier(&name.to_string()).expect("some").to_string();
            decoy.starts_with("SCRAM-SHA-256$8192:")
        };
        let many = (0..100).filter(has_many).count();
        assert!((20..80).contains(&many), "{many}");
        let file = parse(&format!("bob:{SHA512}")).expect("valid");
        assert!(!file.has_verifiers());
        assert_eq!(file.verifier("bob"), None);
    }

    #[test]
    fn malformed_lines_are_refused_with_file_and_line() {
        for (text, expected) in [
            (
                "# a\nbob",
                "users:2: expected USER:HASH or USER:HASH:VERIFIER",
            ),
            (
                "bob:secret",
                "users:1: the hash must begin with $argon2id$, $7$ or $6$",
            ),
            (
                "bob:",
                "users:1: the hash must begin with $argon2id$, $7$ or $6$",
            ),
            (":$6$a$b", "users:1: a user name has 1 to 65535 bytes"),
            (" bob:$6$a$b", "users:1: a user name has 1 to 65535 bytes"),
            (
                "bob:$6$a",
                "users:1: the hash must be $6$SALT$HASH in base64",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{error}");
        }
        let error = parse(&format!("bob:{SHA512}:x")).expect_err("verifier");
        assert!(
            error.starts_with("users:1: the SCRAM verifier must be"),
            "{error}"
        );
        let error = parse(&format!("bob:{SHA512}\n#\nbob:{SHA512}")).expect_err("twice");
        assert_eq!(error, "users:3: the user has a line already, line 1");
        assert!(!error.contains("$6$"), "hashes stay out of messages");
    }

    #[test]
    fn a_file_without_users_or_that_cannot_be_read_is_refused() {
        for text in ["", "\n \n", "# bob:$6$a$b\n"] {
            let error = parse(text).expect_err("empty");
            assert!(
                error.starts_with("password file users: has no user"),
                "{error}"
            );
        }
        let missing = Path::new("no/such/file");
        let error = PasswordFile::read(missing)
            .expect_err("missing")
            .to_string();
        assert!(
            error.starts_with("password file no/such/file: cannot be read"),
            "{error}"
        );
    }
}
