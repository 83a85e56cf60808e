//! What `tidewire run` tells whoever started it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::program::{Folder, command};

/// Starts a broker, stops it when it is ready, and returns what it wrote: output and log.
fn greeting(listen: &str) -> (String, String) {
    let folder = Folder::new();
    let mut child = command(&folder.0, &["run", "--shards", "1", "--listen", listen])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("pub") {
        assert_ne!(output.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let id = child.id().to_string();
    let kill = std::process::Command::new("kill").arg(id).status();
    assert!(kill.unwrap().success());
    let log = child.wait_with_output().unwrap().stderr;
    (said, String::from_utf8(log).unwrap())
}

#[test]
fn what_to_try_names_the_port_that_was_chosen() {
    let (said, _) = greeting("tcp://127.0.0.1:0");
    let (_, address) = said.split_once("mqtt://127.0.0.1:").unwrap();
    let port = address.lines().next().unwrap();
    assert!(
        said.contains(&format!(
            "mosquitto_sub -h 127.0.0.1 -p {port} -t 'sensors/#' -v"
        )),
        "{said}"
    );
    let publish = format!("mosquitto_pub -h 127.0.0.1 -p {port} -t sensors/kitchen -m 21.5");
    assert!(said.contains(&publish), "{said}");
}

#[test]
fn what_to_try_fits_a_unix_socket() {
    let (said, _) = greeting("unix://t.sock");
    let url = said
        .lines()
        .find_map(|line| line.strip_prefix("  listening on "));
    let subscribe = format!("tidewire sub --url {} -t 'sensors/#' -v", url.unwrap());
    assert!(said.contains(&subscribe), "{said}");
}

#[test]
fn a_log_that_no_terminal_reads_has_no_colors() {
    let (_, log) = greeting("tcp://127.0.0.1:0");
    assert!(log.contains("stopping"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
}
