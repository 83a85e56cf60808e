//! What the protocol crate is built from.

use std::process::Command;

/// Everything that may be linked into the protocol; none of it knows a socket, clock or runtime.
const PROTOCOL_TREE: [&str; 3] = ["bytes", "thiserror", "tidewire-protocol"];

#[test]
fn the_protocol_depends_on_no_runtime_socket_or_clock() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--prefix", "none"])
        .args(["--package", "tidewire-protocol"])
        .args(["--edges", "normal,build,no-proc-macro"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(tree.contains("thiserror"), "{tree}");
    assert_eq!(strangers(&tree), Vec::<&str>::new());
}

#[test]
fn a_runtime_in_the_tree_is_found() {
    let tree = "tidewire-protocol v0.1.0 (/a)\nthiserror v2.0.1\ntokio v1.51.0\n";
    assert_eq!(strangers(tree), ["tokio"]);
}

fn strangers(tree: &str) -> Vec<&str> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !PROTOCOL_TREE.contains(name))
        .collect()
}
