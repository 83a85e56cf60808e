//! The house rules that a machine can check: which way imports point, what the protocol may depend
//! on, how long files and functions are, and which words do not pass.

mod dependencies;
mod imports;
mod layers;
mod sizes;
mod source;
mod words;

use source::{Source, Violation};

fn assert_tidy(check: impl Fn(&Source) -> Vec<Violation>) {
    let sources = source::read_project();
    assert!(sources.len() > 100, "only {} files found", sources.len());
    let found: Vec<_> = sources.iter().flat_map(check).collect();
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "\n{}", lines.join("\n"));
}

#[test]
fn imports_point_down() {
    assert_tidy(layers::check_direction);
}

#[test]
fn protocol_logic_knows_no_clock_no_socket_and_no_runtime() {
    assert_tidy(layers::check_purity);
}

#[test]
fn files_functions_and_lines_are_short() {
    assert_tidy(sizes::check);
}

#[test]
fn nothing_is_left_open_allowed_or_unsafe() {
    assert_tidy(words::check);
}
