//! Negative test 31: ACL files that say nothing, or nothing clear, at start.

use super::broker::{Directory, refusal};

#[test]
fn a_broker_does_not_start_with_an_acl_file_that_says_nothing() {
    let files = Directory::new();
    for text in ["", "\n", "# only a comment\n", "user alice\n"] {
        let error = refusal(&files.write("acl", text));
        assert!(error.contains("has no rule"), "{text:?}: {error}");
    }
    let missing = refusal(&files.path("missing"));
    assert!(missing.contains("missing: cannot be read"), "{missing}");
    let directory = refusal(&files.path(""));
    assert!(directory.contains("cannot be read"), "{directory}");
}

#[test]
fn a_malformed_line_is_named_with_file_and_number() {
    let files = Directory::new();
    for (text, place) in [
        ("topic a\nallow all\n", "acl:2: expected"),
        ("topic a\ntopic read b/#/c\n", "acl:2: the topic filter"),
        (
            "user alice\ntopic read secr",
            "acl:2: the last line has no end",
        ),
    ] {
        let error = refusal(&files.write("acl", text));
        assert!(error.contains(place), "{error}");
    }
    std::fs::write(files.path("binary"), [0xFF, 0xFE, b'\n']).unwrap();
    let binary = refusal(&files.path("binary"));
    assert!(binary.contains("cannot be read"), "{binary}");
}
