//! The Rust files of the project, as tokens with their lines.

use std::fmt;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One file, read as far as the checks need it.
pub(crate) struct Source {
    /// Relative to the root of the project, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
}

/// An identifier, a literal, `::`, a bracket or any other single sign.
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
    pub(crate) is_identifier: bool,
}

/// What a check found.
#[derive(Debug)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let stream: TokenStream = text.parse().expect(path);
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            tokens,
        }
    }

    pub(crate) fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation {
            path: self.path.clone(),
            line,
            what: what.into(),
        }
    }

    /// The text of the token at `index`, empty beyond the end.
    pub(crate) fn at(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// All `.rs` files but those that are built or fetched.
pub(crate) fn read_project() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    read_folder(root, root, &mut sources);
    sources
}

fn read_folder(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                read_folder(root, &path, sources);
            }
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(root).expect("below the root");
            let text = fs::read_to_string(&path).expect("a source file in UTF-8");
            let relative = relative.to_string_lossy().replace('\\', "/");
            sources.push(Source::new(&relative, &text));
        }
    }
}

fn flatten(stream: TokenStream, out: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let push = |out: &mut Vec<Token>, text: &str, line, is_identifier| {
            out.push(Token {
                text: text.to_owned(),
                line,
                is_identifier,
            });
        };
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(out, open, line, false);
                flatten(group.stream(), out);
                push(out, close, group.span_close().start().line, false);
            }
            TokenTree::Ident(ident) => {
                let text = ident.to_string();
                push(out, text.trim_start_matches("r#"), line, true);
            }
            TokenTree::Punct(punct) => match (punct.as_char(), out.last_mut()) {
                (':', Some(last)) if last.text == ":" => last.text.push(':'),
                (sign, _) => push(out, &sign.to_string(), line, false),
            },
            TokenTree::Literal(literal) => push(out, &literal.to_string(), line, false),
        }
    }
}
