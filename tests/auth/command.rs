//! `tidewire passwd` and `tidewire check`, as an operator calls them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::broker::{Broker, login};

/// A folder that goes away with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("tidewire-command-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The exit status, and what was written to standard output and error.
fn tidewire(arguments: &[&str], file: &Path, user: Option<&str>, input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(arguments)
        .arg(file)
        .args(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

#[test]
fn users_are_added_changed_and_deleted() {
    let folder = Folder::new("users");
    let file = folder.0.join("users");
    let set = ["passwd", "--password-stdin"];
    let create = ["passwd", "--password-stdin", "-c"];
    let (status, said) = tidewire(&set, &file, Some("alice"), "secret\n");
    assert!(status == 1 && said.contains("does not exist"), "{said}");
    let (status, said) = tidewire(&create, &file, Some("alice"), "first\n");
    assert_eq!((status, said.as_str()), (0, "user \"alice\" added\n"));
    let (status, said) = tidewire(&create, &file, Some("bob"), "secret\n");
    assert!(status == 1 && said.contains("exists already"), "{said}");
    let (status, said) = tidewire(&set, &file, Some("alice"), "second\n");
    assert_eq!((status, said.as_str()), (0, "user \"alice\" changed\n"));
    assert_eq!(tidewire(&set, &file, Some("bob"), "secret\n").0, 0);
    let lines = std::fs::read_to_string(&file).unwrap();
    assert!(!lines.contains("second") && lines.lines().count() == 2);

    let broker = Broker::with(&lines, |_| {});
    assert_eq!(broker.connect(&login("a", "alice", "second")).1, 0);
    assert_eq!(broker.connect(&login("b", "alice", "first")).1, 0x86);

    assert_eq!(tidewire(&["passwd", "-D"], &file, Some("alice"), "").0, 0);
    let (status, said) = tidewire(&["passwd", "-D"], &file, Some("alice"), "");
    assert!(status == 1 && said.contains("no user"), "{said}");
    let lines = std::fs::read_to_string(&file).unwrap();
    assert!(lines.starts_with("bob:$argon2id$") && lines.lines().count() == 1);
}

#[test]
fn an_empty_password_or_a_name_with_a_colon_changes_nothing() {
    let folder = Folder::new("refused");
    let file = folder.0.join("users");
    let create = ["passwd", "--password-stdin", "-c"];
    for (user, password) in [("alice", "\n"), ("a:b", "secret\n"), ("#a", "secret\n")] {
        assert_eq!(tidewire(&create, &file, Some(user), password).0, 1);
        assert!(!file.exists());
    }
}

#[test]
fn check_names_the_line_of_a_malformed_password_file() {
    let folder = Folder::new("check");
    let file = folder.0.join("users");
    let check = ["check", "--password-file"];
    let (status, said) = tidewire(&check, &file, None, "");
    assert!(status == 2 && said.contains("cannot be read"), "{said}");
    for (text, expected) in [
        ("", "has no user"),
        ("# nobody\n", "has no user"),
        (
            "# users\nalice:secret\n",
            "users:2: the hash must begin with",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let (status, said) = tidewire(&check, &file, None, "");
        assert!(status == 2 && said.contains(expected), "{said}");
    }
    std::fs::write(&file, super::broker::users()).unwrap();
    let (status, said) = tidewire(&check, &file, None, "");
    assert!(status == 0 && said.contains("2 user(s)"), "{said}");
}
