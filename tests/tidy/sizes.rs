//! How long files, functions and lines may be.

use crate::source::{Source, Violation};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Whether file, functions and lines keep their limits.
pub(crate) fn check(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(source.violation(1, format!("{lines} lines, at most {FILE_LINES_MAX}")));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let what = format!("{columns} columns, at most {COLUMNS_MAX}");
            found.push(source.violation(index + 1, what));
        }
    }
    found.extend(functions(source).filter_map(|(name, start, end)| {
        let lines = end - start + 1;
        let what = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}");
        (lines > FUNCTION_LINES_MAX).then(|| source.violation(start, what))
    }));
    found
}

/// Name, first and last line of every function with a body.
fn functions(source: &Source) -> impl Iterator<Item = (&str, usize, usize)> {
    let starts = (0..source.tokens.len()).filter(|&at| {
        source.at(at) == "fn" && source.tokens.get(at + 1).is_some_and(|it| it.is_identifier)
    });
    starts.filter_map(|start| {
        let body = body(source, start)?;
        let end = closing(source, body)?;
        let line = |at: usize| source.tokens[at].line;
        Some((source.at(start + 1), line(start), line(end)))
    })
}

/// The brace that opens the body of the function at `start`; none of a mere declaration.
fn body(source: &Source, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in start..source.tokens.len() {
        match source.at(at) {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.checked_sub(1)?,
            "{" if depth == 0 => return Some(at),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn closing(source: &Source, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in open..source.tokens.len() {
        match source.at(at) {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        check(&Source::new("src/a.rs", text)).len()
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_passes() {
        let function = |lines: usize| format!("fn f(a: [u8; 2]) {{\n{}}}", "\n".repeat(lines - 2));
        assert_eq!(count(&function(70)), 0);
        assert_eq!(count(&function(71)), 1);
        assert_eq!(count(&format!("impl A {{ {} }}", function(71))), 1);
        let declared = format!("trait A {{ fn f();\n{}fn g() {{}} }}", "\n".repeat(90));
        assert_eq!(count(&declared), 0);
    }

    #[test]
    fn a_file_of_801_lines_and_a_line_of_101_columns_are_found() {
        assert_eq!(count(&"\n".repeat(800)), 0);
        assert_eq!(count(&"\n".repeat(801)), 1);
        assert_eq!(count(&format!("//{}", "ü".repeat(98))), 0);
        assert_eq!(count(&format!("//{}", "ü".repeat(99))), 1);
    }
}
