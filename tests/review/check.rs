//! `tidewire check` says which line of which file to change.

use crate::program::{Folder, outcome};

fn assert_refused(text: &str, expected: &str) {
    let folder = Folder::new();
    folder.write("t.toml", text);
    for command in ["check", "run"] {
        let (status, said) = outcome(&folder.0, &[command, "-c", "t.toml"]);
        assert_eq!(status, Some(2), "{command}: {said}");
        assert!(said.contains(expected), "{command}: {said}");
    }
}

#[test]
fn a_missing_certificate_is_named_with_its_line_and_key() {
    assert_refused(
        "[[listeners]]\nbind = \"127.0.0.1:0\"\ntransport = \"tls\"\n\
         [[listeners.certificates]]\ncertificate = \"none.crt\"\nkey = \"none.key\"\n",
        "t.toml:5: `listeners.0.certificates.0.certificate` cannot be used: I/O error: No such \
         file or directory (os error 2), found \"none.crt\"",
    );
}

#[test]
fn a_missing_password_file_is_named_with_its_line_and_key() {
    assert_refused(
        "[auth]\npassword_file = \"none\"\n",
        "t.toml:2: `auth.password_file` cannot be used",
    );
}

#[test]
fn rules_that_cannot_be_used_are_named_with_their_line_and_key() {
    assert_refused(
        "[acl]\nfile = \"none\"\n",
        "t.toml:2: `acl.file` cannot be used",
    );
    assert_refused(
        "[[acl.rules]]\nactions = [\"read\"]\ntopics = [\"a/#/b\"]\n",
        "t.toml:3: `acl.rules.0.topics` cannot hold \"a/#/b\"",
    );
    assert_refused(
        "[[acl.rules]]\nactions = [\"read\"]\ntopics = [\"a\"]\ngroups = [\"g\"]\n",
        "t.toml:4: `acl.rules.0.groups` cannot hold \"g\": it is not in acl.groups",
    );
}

#[test]
fn a_missing_revocation_list_is_named_with_its_line_and_key() {
    let folder = Folder::new();
    let (status, said) = outcome(&folder.0, &["certs", "--out", "certs"]);
    assert_eq!(status, Some(0), "{said}");
    folder.write(
        "t.toml",
        "[[listeners]]\nbind = \"127.0.0.1:0\"\ntransport = \"tls\"\n\
         client_ca = \"certs/ca.crt\"\nclient_certificates = \"required\"\n\
         client_crl = \"none.crl\"\n[[listeners.certificates]]\n\
         certificate = \"certs/server.crt\"\nkey = \"certs/server.key\"\n",
    );
    let (status, said) = outcome(&folder.0, &["check", "-c", "t.toml"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(
        said.contains("t.toml:6: `listeners.0.client_crl` cannot be used"),
        "{said}"
    );
}

#[test]
fn an_unknown_owner_of_a_socket_is_named_with_its_line_and_key() {
    assert_refused(
        "[[listeners]]\ntransport = \"unix\"\nbind = \"t.sock\"\nunix_owner = \"nobody-has-it\"\n",
        "t.toml:4: `listeners.0.unix_owner` cannot be used: \"nobody-has-it\" is not in \
         /etc/passwd",
    );
}

#[test]
fn a_broken_rule_shows_what_was_found() {
    assert_refused(
        "[[listeners]]\nbind = \"0.0.0.0\"\n",
        "t.toml:2: `listeners.0.bind` must be host:port, an IPv6 address in brackets, found \
         \"0.0.0.0\"",
    );
    assert_refused(
        "[limits]\nqueue_bytes_max = 5\n",
        "t.toml:2: `limits.queue_bytes_max` must hold one packet of limits.packet_bytes_max, \
         found 5",
    );
}

#[test]
fn sharing_by_property_needs_its_name() {
    assert_refused(
        "[mqtt]\nshare_strategy = \"hash_property\"\n",
        "`mqtt.share_property` is needed for share_strategy",
    );
}

#[test]
fn text_that_is_not_toml_is_shown() {
    assert_refused(
        "shards = 1\nshards = 2\n",
        "t.toml:2: duplicate key, found `shards = 2`",
    );
}

#[test]
fn a_certificate_of_an_argument_is_named_with_the_argument() {
    let folder = Folder::new();
    let listen = "tls://127.0.0.1:0?cert=none.crt&key=none.key";
    let (status, said) = outcome(&folder.0, &["check", "--listen", listen]);
    assert_eq!(status, Some(2), "{said}");
    let expected = "argument --listen: `listeners.0.certificates.0.certificate` cannot be used";
    assert!(said.contains(expected), "{said}");
}
