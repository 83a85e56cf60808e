//! `tidewire passwd`: users of a password file are added, changed and deleted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::arguments::PasswdArguments;
use crate::auth::{
    PasswordHash, ScramVerifier, User, UserNameError, check_user_name, user_of_line,
};

/// Why a password file is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// The file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no file to change.
    #[error("{} does not exist; -c begins a new file", .0.display())]
    Missing(PathBuf),
    /// A file that was to be begun is there.
    #[error("{} exists already; leave out -c to add to it", .0.display())]
    Exists(PathBuf),
    /// Another change of the file goes on, or was interrupted.
    #[error("{} exists: another change goes on or was interrupted", .0.display())]
    Busy(PathBuf),
    /// The user to delete is not there.
    #[error("{} has no user {user:?}", file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The user.
        user: String,
    },
    /// The user name cannot stand in the file.
    #[error(transparent)]
    UserName(#[from] UserNameError),
    /// No usable password was given.
    #[error("{0}")]
    Password(&'static str),
    /// The terminal failed.
    #[error("cannot read the password: {0}")]
    Terminal(io::Error),
}

/// Carries out the command.
///
/// # Errors
/// The file was left as it was.
pub fn run(arguments: &PasswdArguments) -> Result<(), PasswdError> {
    check_user_name(&arguments.user)?;
    let old = old_text(arguments)?;
    let (new, done) = if arguments.delete {
        let new = without_user(&old, &arguments.user);
        let new = new.ok_or_else(|| PasswdError::Unknown {
            file: arguments.file.clone(),
            user: arguments.user.clone(),
        })?;
        (new, "deleted")
    } else {
        let password = match arguments.password_stdin {
            true => first_line(&mut io::stdin().lock()).map_err(PasswdError::Terminal)?,
            false => ask(&arguments.user)?,
        };
        check_password(&password)?;
        let user = new_user(password.as_bytes(), arguments.scram_iterations);
        with_line(&old, &arguments.user, &user.line(&arguments.user))
    };
    replace(&arguments.file, &new)?;
    // A closed pipe does not undo the change.
    let _ = writeln!(io::stdout(), "user {:?} {done}", arguments.user);
    Ok(())
}

fn old_text(arguments: &PasswdArguments) -> Result<String, PasswdError> {
    let file = arguments.file.clone();
    match (fs::read_to_string(&file), arguments.create) {
        (Ok(_), true) => Err(PasswdError::Exists(file)),
        (Ok(text), false) => Ok(text),
        (Err(error), create) if error.kind() == io::ErrorKind::NotFound => match create {
            true => Ok(String::new()),
            false => Err(PasswdError::Missing(file)),
        },
        (Err(source), _) => Err(PasswdError::File { file, source }),
    }
}

fn check_password(password: &str) -> Result<(), PasswdError> {
    if password.is_empty() {
        return Err(PasswdError::Password("the password is empty"));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswdError::Password(
            "the password has more than 65535 bytes",
        ));
    }
    Ok(())
}

fn new_user(password: &[u8], scram_iterations: u32) -> User {
    let verifier = NonZeroU32::new(scram_iterations)
        .map(|iterations| ScramVerifier::new(password, &new_salt(), iterations));
    User {
        hash: PasswordHash::new(password, new_salt()),
        verifier,
    }
}

fn new_salt() -> [u8; 16] {
    let mut salt = [0; 16];
    SystemRandom::new()
        .fill(&mut salt)
        .expect("the system gives random numbers");
    salt
}

/// The text with this line for the user, and what happened to the user.
fn with_line(text: &str, user: &str, line: &str) -> (String, &'static str) {
    let mut new = String::new();
    let mut done = "added";
    for old in text.lines() {
        let is_user = user_of_line(old) == Some(user);
        if is_user {
            done = "changed";
        }
        new.push_str(if is_user { line } else { old });
        new.push('\n');
    }
    if done == "added" {
        new.push_str(line);
        new.push('\n');
    }
    (new, done)
}

/// The text without the user's line, if there is one.
fn without_user(text: &str, user: &str) -> Option<String> {
    let is_other = |line: &&str| user_of_line(line) != Some(user);
    let others: Vec<_> = text.lines().filter(is_other).collect();
    let is_found = others.len() < text.lines().count();
    is_found.then(|| others.iter().map(|line| format!("{line}\n")).collect())
}

/// Puts a new file in the place of the old one in one step; only its owner can read it.
fn replace(file: &Path, text: &str) -> Result<(), PasswdError> {
    // The file behind a link is replaced, not the link.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let mut new = file.clone().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut output = match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&new)
    {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(PasswdError::Busy(new));
        }
        Err(source) => return Err(PasswdError::File { file: new, source }),
    };
    let written = write_over(&mut output, text, &new, &file);
    written.map_err(|source| {
        // Nothing more to be done if this fails too: the error at hand is the one to tell.
        let _ = fs::remove_file(&new);
        PasswdError::File { file, source }
    })
}

fn write_over(output: &mut File, text: &str, new: &Path, file: &Path) -> io::Result<()> {
    output.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(file) {
        let made = output.metadata()?;
        if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
            // The broker may run as another user than the one who changes passwords.
            fchown(&*output, Some(old.uid()), Some(old.gid()))?;
        }
    }
    output.sync_all()?;
    fs::rename(new, file)?;
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Asks twice on the terminal, without echo.
fn ask(user: &str) -> Result<String, PasswdError> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| PasswdError::Password("there is no terminal to ask; use --password-stdin"))?;
    let ask = || -> io::Result<(String, String)> {
        let mut reader = io::BufReader::new(&terminal);
        write!(&terminal, "Password of {user:?}: ")?;
        let first = first_line(&mut reader)?;
        write!(&terminal, "\nThe same again: ")?;
        let second = first_line(&mut reader)?;
        writeln!(&terminal)?;
        Ok((first, second))
    };
    let (first, second) = without_echo(&terminal, ask).map_err(PasswdError::Terminal)?;
    if first == second {
        Ok(first)
    } else {
        Err(PasswdError::Password("the two passwords differ"))
    }
}

fn without_echo<T>(terminal: &File, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = tcgetattr(terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal, OptionalActions::Flush, &silent)?;
    let answer = ask();
    tcsetattr(terminal, OptionalActions::Flush, &before)?;
    answer
}

fn first_line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(input, LINE_BYTES_MAX).read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

const OWNER_ONLY: u32 = 0o600;
/// MQTT has no longer ones.
const PASSWORD_BYTES_MAX: usize = 65_535;
/// A password that is too long shows as such.
const LINE_BYTES_MAX: u64 = 65_540;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::PasswordFile;
    use std::os::unix::fs::PermissionsExt;

    /// A path in a new folder that goes away with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = format!("tidewire-passwd-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(folder);
            fs::create_dir_all(&folder).expect("folder");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_line_is_added_changed_or_removed_and_the_rest_stays() {
        let text = "# staff\nalice:old\n\nbob:x";
        assert_eq!(
            with_line(text, "alice", "alice:new"),
            ("# staff\nalice:new\n\nbob:x\n".into(), "changed")
        );
        assert_eq!(
            with_line(text, "carol", "carol:new"),
            ("# staff\nalice:old\n\nbob:x\ncarol:new\n".into(), "added")
        );
        assert_eq!(
            without_user(text, "alice").as_deref(),
            Some("# staff\n\nbob:x\n")
        );
        assert_eq!(without_user(text, "# staff"), None);
    }

    #[test]
    fn the_file_is_replaced_whole_and_for_its_owner_only() {
        let folder = Folder::new("replace");
        let file = folder.0.join("users");
        fs::write(&file, "bob:x\n").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("mode");
        replace(&file, "alice:y\n").expect("replaced");
        assert_eq!(fs::read_to_string(&file).expect("readable"), "alice:y\n");
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.0.join("users.new"), "").expect("written");
        let error = replace(&file, "carol:z\n").expect_err("busy");
        assert!(matches!(error, PasswdError::Busy(_)), "{error}");
        assert_eq!(fs::read_to_string(&file).expect("readable"), "alice:y\n");
    }

    #[test]
    fn a_new_user_can_log_in_by_password_and_by_scram() {
        let line = new_user(b"secret", 4_096).line("alice");
        let file = PasswordFile::parse(Path::new("users"), &line).expect("valid");
        assert!(file.has("alice", b"secret"));
        assert!(file.has_verifiers());
        let line = new_user(b"secret", 0).line("alice");
        let file = PasswordFile::parse(Path::new("users"), &line).expect("valid");
        assert!(!file.has_verifiers());
    }

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        let mut input: &[u8] = b" pass word \r\nmore";
        let line = first_line(&mut input).expect("read");
        assert_eq!(line, " pass word ");
        assert!(check_password(&line).is_ok());
        assert!(check_password("").is_err());
        assert!(check_password(&"x".repeat(65_536)).is_err());
    }
}
