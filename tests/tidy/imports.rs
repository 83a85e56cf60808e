//! Which paths a file names: in `use` trees, and written out in code, macros included.

use crate::source::Source;

/// One path from the root of its crate: `crate`, `std` or another crate first.
#[derive(Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
    /// Brought into scope, so that code can go on from there.
    pub(crate) is_import: bool,
    /// Inside a module for tests.
    pub(crate) is_test: bool,
}

/// All paths of a file that begin at a crate, `self` or `super`.
pub(crate) fn paths(source: &Source) -> Vec<Named> {
    let mut walk = Walk {
        source,
        modules: Vec::new(),
        home: module_of(&source.path),
        named: Vec::new(),
    };
    let mut index = 0;
    while index < source.tokens.len() {
        index = walk.step(index);
    }
    walk.named
}

/// The module that a file is: `src/net/tls.rs` is `net`, `tls`.
fn module_of(path: &str) -> Vec<String> {
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    let name = inside.trim_end_matches(".rs");
    let name = name.strip_suffix("/mod").unwrap_or(name);
    match name {
        "lib" | "main" => Vec::new(),
        _ => name.split('/').map(str::to_owned).collect(),
    }
}

struct Walk<'a> {
    source: &'a Source,
    /// The inline modules around, each with the number of braces open inside it.
    modules: Vec<Inline>,
    home: Vec<String>,
    named: Vec<Named>,
}

struct Inline {
    name: String,
    is_test: bool,
    braces: usize,
}

impl Walk<'_> {
    /// Looks at the token at `index` and returns where to go on.
    fn step(&mut self, index: usize) -> usize {
        let source = self.source;
        match source.at(index) {
            "mod" if source.at(index + 2) == "{" => {
                self.modules.push(Inline {
                    name: source.at(index + 1).to_owned(),
                    is_test: has_cfg_test(source, index),
                    braces: 1,
                });
                index + 3
            }
            "use" if source.at(index + 1) != "<" => {
                self.use_tree(index + 1, &Vec::new());
                (index..)
                    .find(|&at| matches!(source.at(at), ";" | ""))
                    .unwrap_or(index)
                    + 1
            }
            "{" => {
                self.braces(true);
                index + 1
            }
            "}" => {
                self.braces(false);
                index + 1
            }
            _ => self.path_in_code(index),
        }
    }

    fn braces(&mut self, is_open: bool) {
        let Some(module) = self.modules.last_mut() else {
            return;
        };
        if is_open {
            module.braces += 1;
        } else {
            module.braces -= 1;
        }
        if module.braces == 0 {
            self.modules.pop();
        }
    }

    /// Reads a use tree after `prefix` and returns the index behind it.
    fn use_tree(&mut self, mut index: usize, prefix: &[String]) -> usize {
        let mut segments = prefix.to_vec();
        let line = self.source.tokens.get(index).map_or(0, |token| token.line);
        loop {
            match self.source.at(index) {
                "::" | "*" => index += 1,
                "{" => {
                    index += 1;
                    while !matches!(self.source.at(index), "}" | "") {
                        index = self.use_tree(index, &segments);
                        if self.source.at(index) == "," {
                            index += 1;
                        }
                    }
                    return index + 1;
                }
                "as" => index += 2,
                "," | "}" | ";" | "" => break,
                "self" if !segments.is_empty() => index += 1,
                name => {
                    segments.push(name.to_owned());
                    index += 1;
                }
            }
        }
        self.push(&segments, line, true);
        index
    }

    fn path_in_code(&mut self, start: usize) -> usize {
        let source = self.source;
        let token = &source.tokens[start];
        if !token.is_identifier || source.at(start + 1) != "::" {
            return start + 1;
        }
        let mut segments = vec![token.text.clone()];
        let mut index = start + 1;
        while source.at(index) == "::"
            && source
                .tokens
                .get(index + 1)
                .is_some_and(|next| next.is_identifier)
        {
            segments.push(source.at(index + 1).to_owned());
            index += 2;
        }
        self.push(&segments, token.line, false);
        index
    }

    fn push(&mut self, segments: &[String], line: usize, is_import: bool) {
        let mut full = Vec::new();
        let mut rest = segments;
        if let Some("self" | "super") = rest.first().map(String::as_str) {
            full = self.home.clone();
            full.extend(self.modules.iter().map(|module| module.name.clone()));
            while let Some(("self" | "super", tail)) = rest
                .split_first()
                .map(|(first, tail)| (first.as_str(), tail))
            {
                if rest[0] == "super" {
                    full.pop();
                }
                rest = tail;
            }
            full.insert(0, "crate".to_owned());
        }
        full.extend(rest.iter().cloned());
        // What main.rs calls the library, and macros the crate.
        if let Some(first) = full.first_mut()
            && first == "tidewire"
        {
            *first = "crate".to_owned();
        }
        self.named.push(Named {
            segments: full,
            line,
            is_import,
            is_test: self.modules.iter().any(|module| module.is_test),
        });
    }
}

/// Whether the `mod` at `index` follows `#[cfg(test)]`.
fn has_cfg_test(source: &Source, index: usize) -> bool {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    index >= attribute.len() && (0..7).all(|at| source.at(index - 7 + at) == attribute[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str, text: &str) -> Vec<String> {
        paths(&Source::new(path, text))
            .iter()
            .map(|named| named.segments.join("::"))
            .collect()
    }

    #[test]
    fn groups_lines_and_renames_are_taken_apart() {
        let text = "use crate::{\n    net::{self, tls::Tls as T},\n    shard::*,\n};";
        assert_eq!(
            named("src/server.rs", text),
            ["crate::net", "crate::net::tls::Tls", "crate::shard"]
        );
    }

    #[test]
    fn super_leads_out_of_files_folders_and_inline_modules() {
        let text = "use super::trie; mod tests { use super::*; use super::super::super::net; }";
        assert_eq!(
            named("src/exchange/table.rs", text),
            [
                "crate::exchange::trie",
                "crate::exchange::table",
                "crate::net"
            ]
        );
        assert_eq!(
            named("src/exchange/mod.rs", "use super::net;"),
            ["crate::net"]
        );
    }

    #[test]
    fn paths_in_code_and_macros_count_and_captures_do_not() {
        let text = "fn f() -> impl Fn() + use<'static> { assert!(crate::net::up()); a() }";
        assert_eq!(named("src/sys.rs", text), ["crate::net::up"]);
        let text = "macro_rules! m { () => { $crate::net::up() } }";
        assert_eq!(named("src/sys.rs", text), ["crate::net::up"]);
    }

    #[test]
    fn comments_and_strings_name_nothing() {
        let text = "/// [`crate::net`]\n// use crate::net;\nconst A: &str = \"crate::net\";";
        assert_eq!(named("src/shard/mod.rs", text), Vec::<String>::new());
    }

    #[test]
    fn only_modules_for_tests_are_tests() {
        let text = "#[cfg(test)] mod tests { use a::b; } mod other { use c::d; }";
        let found = paths(&Source::new("src/sys.rs", text));
        let is_test: Vec<_> = found.iter().map(|named| named.is_test).collect();
        assert_eq!(is_test, [true, false]);
    }
}
