//! The tests that the documents on security name are there.

use std::path::Path;

const DOCUMENTS: [&str; 2] = [
    include_str!("../../docs/negative-tests.md"),
    include_str!("../../docs/security.md"),
];

#[test]
fn every_test_named_in_the_documents_on_security_exists() {
    let mut sources = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["tests", "protocol", "bridges", "src"] {
        read_all(&root.join(folder), &mut sources);
    }
    let mut count = 0;
    for document in DOCUMENTS {
        let quoted = document.split('`').skip(1).step_by(2);
        for name in quoted.filter(|text| is_test_name(text)) {
            let is_there = sources.contains(&format!("fn {name}("))
                || sources.contains(&format!(" {name} ["))
                || sources.contains(&format!(" {name}\n"));
            assert!(is_there, "{name} does not exist");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} tests are named");
}

#[test]
fn every_negative_test_has_a_row() {
    let rows: Vec<u32> = DOCUMENTS[0]
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    let expected: Vec<u32> = (1..=34).chain([45]).collect();
    assert_eq!(rows, expected);
}

/// A sentence, unlike the name of a key.
fn is_test_name(text: &str) -> bool {
    let is_word = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    text.chars().all(is_word) && text.matches('_').count() >= 5
}

fn read_all(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                read_all(&path, sources);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
