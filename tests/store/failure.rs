//! A commit that fails is reported once, and nothing after it is acknowledged.

use std::process::Command;

use tidewire::exchange::ShardId;
use tidewire::store::{Awaited, Report, Ticket};

use super::support::{Directory, open, put_message};

const CHILD: &str = "TIDEWIRE_TEST_STORE_FAILURE";

/// Not a test by itself: runs where files cannot grow beyond a limit.
#[test]
#[ignore = "the process that another test limits"]
fn child_that_writes_until_it_fails() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let directory = Directory(path.into());
    let mut store = open(&directory);
    let queue = store.session("client");
    for acknowledged in 0..10_000 {
        let id = store.ids.next_id();
        store.submit(vec![put_message(id, &[1; 1_000], &[queue])]);
        if let Report::Failed { error } = store.next_report() {
            println!("failed after {acknowledged}: {error}");
            // What comes later is never acknowledged.
            store
                .store
                .submit(ShardId(0), Ticket(u64::MAX), Vec::new(), Awaited::Commit);
            store.store.close();
            std::mem::forget(directory);
            std::process::exit(7);
        }
    }
}

#[test]
fn a_failed_commit_is_final_and_what_was_acknowledged_before_is_there() {
    let directory = Directory::new();
    let program = std::env::current_exe().expect("this program");
    // A write beyond the limit fails with EFBIG, which nothing but the test does.
    let limited = "trap '' XFSZ; ulimit -f 2000; exec \"$0\" --exact \
                   failure::child_that_writes_until_it_fails --ignored --nocapture";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(program)
        .env(CHILD, &directory.0)
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(7), "{text}");
    let line = text
        .lines()
        .find(|it| it.starts_with("failed after "))
        .expect("a line");
    assert!(
        line.contains("a commit failed (") && line.contains("The broker stops"),
        "{line}"
    );
    let acknowledged = line["failed after ".len()..]
        .split(':')
        .next()
        .and_then(|it| it.parse().ok());
    let acknowledged: usize = acknowledged.expect("a number");
    let store = open(&directory);
    assert!(acknowledged > 100);
    assert_eq!(store.recovered.sessions[0].waiting.len(), acknowledged);
}
