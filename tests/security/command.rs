//! `tidewire acl test` and `tidewire check`, as an operator calls them.

use std::process::Command;

use super::broker::Directory;

fn tidewire(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tidewire"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let status = output.status.code().unwrap();
    (status, String::from_utf8(said).unwrap())
}

#[test]
fn acl_test_says_which_rule_decides() {
    let files = Directory::new();
    let acl = "user alice\ntopic write a/#\ntopic deny a/secret\npattern read d/%c/#\n";
    let acl = files.write("acl", acl);
    let config = "[acl]\nfile = \"FILE\"\nsuperusers = [\"root\"]\n\n[[acl.rules]]\n\
                  clients = [\"dash\"]\nactions = [\"read\"]\ntopics = [\"#\"]\n";
    let config = config.replace("FILE", acl.to_str().unwrap());
    let config = files.write("config.toml", &config);
    let config = config.to_str().unwrap();
    for (words, status, said) in [
        (
            "--user alice --client c publish a/b",
            0,
            "allowed: publish a/b: ACL:2 (allow a/#)",
        ),
        (
            "--user alice --client c publish a/secret",
            1,
            "denied: publish a/secret: ACL:3 (deny",
        ),
        (
            "--user bob --client c publish a/b",
            1,
            "denied: publish a/b: no rule matches",
        ),
        (
            "--user bob --client c subscribe d/c/#",
            0,
            "ACL:4 (allow d/%c/#)",
        ),
        (
            "--client dash subscribe $share/g/x",
            0,
            "allowed: share x: acl.rules.0 (allow #)",
        ),
        ("--user root publish x", 0, "the user is a superuser"),
        (
            "--user root publish $SYS/x",
            1,
            "denied: no client publishes",
        ),
        (
            "--user alice --retain publish a/b",
            0,
            "allowed: retain a/b",
        ),
        (
            "--user bob subscribe #",
            0,
            "what is received is checked topic by topic",
        ),
    ] {
        let mut arguments = vec!["acl", "test", "-c", config];
        arguments.extend(words.split(' '));
        let (code, out) = tidewire(&arguments);
        let out = out.replace(acl.to_str().unwrap(), "ACL");
        assert!(
            code == status && out.contains(said),
            "{words}: {code} {out}"
        );
    }
}

#[test]
fn check_and_run_refuse_a_malformed_acl_file_with_status_2() {
    let files = Directory::new();
    let acl = files.write("acl", "topic a\nnonsense\n");
    let config = format!("[acl]\nfile = {acl:?}\n");
    let config = files.write("config.toml", &config);
    for command in ["check", "run"] {
        let (status, said) = tidewire(&[command, "-c", config.to_str().unwrap()]);
        assert_eq!(status, 2);
        assert!(said.contains("acl:2: expected `user`"), "{said}");
    }
}
