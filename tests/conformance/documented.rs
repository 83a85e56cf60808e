//! `docs/conformance.md` names every statement, and tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/conformance.md");

#[test]
fn every_test_named_in_the_document_exists() {
    let mut sources = String::new();
    for folder in ["tests", "protocol/tests", "src"] {
        read_all(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut sources,
        );
    }
    let mut count = 0;
    for row in DOCUMENT.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.split('|').nth(3).expect("three columns");
        for test in tests.split('`').filter(|text| text.contains("::")) {
            let name = test.rsplit("::").next().expect("a name");
            let is_function = sources.contains(&format!("fn {name}("));
            let is_row = ["[", "\n"].iter().any(|end| {
                sources.contains(&format!(" {name}{end}"))
                    || sources.contains(&format!(" {name} {end}"))
            });
            assert!(is_function || is_row, "{test} does not exist");
            count += 1;
        }
    }
    assert!(count > 300, "only {count} tests are named");
}

#[test]
fn every_statement_is_in_the_document() {
    let (_, of_5_0) = DOCUMENT.split_once("## MQTT 5.0").expect("a chapter");
    let (of_5_0, of_3_1_1) = of_5_0.split_once("## MQTT 3.1.1").expect("a chapter");
    expect_all(V5, of_5_0, 251);
    expect_all(V3_1_1, of_3_1_1, 141);
}

fn expect_all(sections: &str, chapter: &str, count: usize) {
    let named: BTreeSet<&str> = chapter
        .split(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-')))
        .map(|word| word.trim_end_matches('.'))
        .collect();
    let mut found = 0;
    for section in sections.split_whitespace() {
        let (section, last) = section.split_once(':').expect("section and count");
        for number in 1..=last.parse::<u32>().expect("a number") {
            let statement = format!("{section}-{number}");
            // The text of 5.0 has no statement of this number.
            if count == 251 && statement == "2.2.1-1" {
                continue;
            }
            assert!(named.contains(statement.as_str()), "{statement} is missing");
            found += 1;
        }
    }
    assert_eq!(found, count);
}

fn read_all(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(path).expect("a source"));
        }
    }
}

/// How many statements each section of MQTT 5.0 has: its appendix B.
const V5: &str = "
1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2
3.2.2:22 3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5
3.8.4:8 3.9.2:2 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1
3.14.2:4 3.14.4:3 3.15.1:1 3.15.2:3 4.1.0:2 4.2.0:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2
4.6.0:6 4.7.0:1 4.7.1:2 4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1
6.0.0:4
";

/// How many statements each section of MQTT 3.1.1 has: its appendix B.
const V3_1_1: &str = "
1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3
3.3.4:1 3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1
3.14.1:1 3.14.4:3 4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1
4.7.3:4 4.8.0:2 6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1
";
