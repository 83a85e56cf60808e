//! What `pub`, `sub` and `bench` say when nothing works.

use crate::program::{Folder, outcome};

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let folder = Folder::new();
    let url = ["--url", "mqtt://127.0.0.1:1"];
    for command in [
        &["pub", "-t", "a", "-m", "b"][..],
        &["sub", "-t", "a"],
        &["bench", "pairs"],
    ] {
        let (status, said) = outcome(&folder.0, &[command, &url].concat());
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("cannot connect to 127.0.0.1:1: "), "{said}");
    }
}

#[test]
fn what_cannot_be_sent_is_wrong_usage() {
    let folder = Folder::new();
    for arguments in [
        &["pub", "-t", "a/#", "-m", "b"][..],
        &["sub", "-t", "a/#/b"],
        &["sub", "-t", "$share//b"],
        &["pub", "-t", "a", "-m", "b", "--url", "mqtts://localhost"],
    ] {
        let (status, said) = outcome(&folder.0, arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
    }
}
