//! Puts a configuration together: defaults, file, environment, arguments.

use std::collections::HashMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::keys::{Index, Key, LISTS, TABLES, keys, rules as rules_of};
use super::masking::{is_secret, masked_line, masked_url};
use super::spelling::{nearest, similar};
use super::value::Found;
use super::{Broken, Config, ConfigError, Listener, Origin, rules};

/// A configuration under construction; what is applied later wins.
#[derive(Debug, Default)]
pub struct Loader {
    config: Config,
    /// Dotted path to the place that last set it.
    origins: HashMap<String, Origin>,
}

impl Loader {
    /// Applies a file.
    ///
    /// # Errors
    ///
    /// The first line that cannot be used.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            file: path.to_owned(),
            source,
        })?;
        self.text(path, &text)
    }

    /// Applies the text of a file; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// The first line that cannot be used.
    pub fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = |offset: usize| Origin::File {
            file: path.to_owned(),
            line: 1 + text
                .bytes()
                .take(offset)
                .filter(|byte| *byte == b'\n')
                .count(),
        };
        let tree = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            ConfigError::Syntax {
                origin: origin(offset),
                message: error.message().to_owned(),
                line: line_at(text, offset),
            }
        })?;
        let mut leaves = Vec::new();
        flatten("", tree.get_ref(), &mut leaves);
        leaves.sort_by_key(|leaf| leaf.offset);
        if tree.get_ref().contains_key("listeners") {
            self.config.listeners.clear();
        }
        leaves
            .iter()
            .try_for_each(|leaf| self.set(&leaf.path, &leaf.found, origin(leaf.offset)))
    }

    /// Applies the variables whose names start with `TIDEWIRE_`; the rest of a name is the path of
    /// a key in capitals with `_` for each dot, the value is written without quotes, lists with
    /// commas.
    ///
    /// # Errors
    ///
    /// The first variable that names no key or holds no usable value.
    pub fn environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let mut settings = Vec::new();
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let path = variable_path(rest).ok_or_else(|| unknown_variable(&name, rest))?;
            settings.push((indices(&path), path, name, value));
        }
        settings.sort();
        settings.into_iter().try_for_each(|(_, path, name, value)| {
            self.set(&path, &Found::Word(value), Origin::Environment(name))
        })
    }

    /// Applies one value from the command line to the key at the dotted `path`.
    ///
    /// # Errors
    ///
    /// The key does not exist or does not take the value.
    pub fn argument(&mut self, argument: &str, path: &str, value: &str) -> Result<(), ConfigError> {
        self.set(
            path,
            &Found::Word(value.to_owned()),
            Origin::Argument(argument.to_owned()),
        )
    }

    /// Replaces all listeners by those of the command line.
    pub fn listeners(&mut self, listeners: Vec<Listener>) {
        self.origins
            .retain(|path, _| !path.starts_with("listeners"));
        self.origins
            .insert("listeners".into(), Origin::Argument("--listen".into()));
        self.config.listeners = listeners;
    }

    /// The configuration, if its values fit together.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn finish(self) -> Result<Config, ConfigError> {
        self.finish_with(|_| Ok(()))
    }

    /// As [`Self::finish`], if what the configuration names passes `check` too.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn finish_with(
        mut self,
        check: impl FnOnce(&Config) -> Result<(), Broken>,
    ) -> Result<Config, ConfigError> {
        match rules::check(&self.config).and_then(|()| check(&self.config)) {
            Ok(()) => Ok(self.config),
            Err(Broken { key, problem }) => Err(ConfigError::Rule {
                origin: self.origin(&key),
                found: self.show(&key),
                key,
                problem,
            }),
        }
    }

    /// The value of the key at `path` as TOML.
    fn show(&mut self, path: &str) -> Option<String> {
        let (pattern, index) = (pattern(path), index(path));
        let key = keys().find(|key| key.path == pattern && !is_secret(path))?;
        let shown = (key.field)(&mut self.config, index)?.show();
        shown.map(|it| masked_url(&it))
    }

    fn set(&mut self, path: &str, found: &Found, origin: Origin) -> Result<(), ConfigError> {
        let shown = if is_secret(path) {
            "a secret".to_owned()
        } else {
            masked_url(&found.show())
        };
        let refused = |origin, expected: String| {
            Err(ConfigError::Value {
                origin,
                key: path.into(),
                found: shown.clone(),
                expected,
            })
        };
        let pattern = pattern(path);
        if LISTS.contains(&pattern.as_str()) {
            return match found {
                Found::List(items) if items.is_empty() => self.remember(path, origin),
                _ => refused(origin, format!("tables, each under [[{}]]", bare(path))),
            };
        }
        if TABLES.contains(&pattern.as_str()) {
            return refused(origin, format!("a table [{}]", bare(path)));
        }
        let Some(index) = self.grow(path) else {
            return refused(origin, "list entries numbered without gaps".into());
        };
        if let Some(list) = pattern
            .strip_suffix(".#")
            .filter(|list| LISTS.contains(list))
        {
            return match found {
                Found::Other(_) => self.remember(path, origin),
                _ => refused(origin, format!("a table, under [[{}]]", bare(list))),
            };
        }
        let key = keys().find(|key| key.path == pattern);
        let Some((key, field)) =
            key.and_then(|key| (key.field)(&mut self.config, index).map(|field| (key, field)))
        else {
            let nearest = nearest_key(path);
            return Err(ConfigError::UnknownKey {
                origin,
                key: path.into(),
                nearest,
            });
        };
        match field.set(found, key.range) {
            Ok(()) => self.remember(path, origin),
            Err(expected) => {
                let meant = meant(found, field.words());
                let default = (key.field)(&mut Config::default(), Index::default())
                    .and_then(|field| field.show())
                    .map_or_else(String::new, |default| format!(", default {default}"));
                refused(origin, expected + &default + &meant)
            }
        }
    }

    /// Adds the list entry that `path` goes through if it is the next one.
    fn grow(&mut self, path: &str) -> Option<Index> {
        let (found, index) = (indices(path), index(path));
        let config = &mut self.config;
        let is_there = match path.split('.').take(2).collect::<Vec<_>>()[..] {
            _ if found.is_empty() => true,
            ["listeners", _] => {
                reach(&mut config.listeners, index.outer)?;
                let listener = config.listeners.get_mut(index.outer)?;
                found.len() == 1 || reach(&mut listener.certificates, index.inner).is_some()
            }
            ["auth", "namespaces"] => reach(&mut config.auth.namespaces, index.outer).is_some(),
            ["acl", "groups"] => reach(&mut config.acl.groups, index.outer).is_some(),
            ["acl", "rules"] => reach(&mut config.acl.rules, index.outer).is_some(),
            ["bridges", _] => {
                reach(&mut config.bridges, index.outer)?;
                let direction = path.split('.').nth(2).unwrap_or_default();
                found.len() == 1
                    || reach(rules_of(config, index, direction)?, index.inner).is_some()
            }
            _ => true,
        };
        is_there.then_some(index)
    }

    /// Notes where a value came from; the last step of setting it.
    fn remember(&mut self, path: &str, origin: Origin) -> Result<(), ConfigError> {
        self.origins.insert(path.to_owned(), origin);
        Ok(())
    }

    /// Where a path, or else the nearest table around it, was set.
    fn origin(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.origins.get(path) {
                return origin.clone();
            }
            match path.rsplit_once('.') {
                Some((parent, _)) => path = parent,
                None => return Origin::Default,
            }
        }
    }
}

/// Whether a configuration file holds a secret itself, and not only where to find one.
pub fn file_holds_secret(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let Ok(tree) = DeTable::parse(&text) else {
        return false;
    };
    let mut leaves = Vec::new();
    flatten("", tree.get_ref(), &mut leaves);
    leaves.iter().any(|leaf| {
        let shown = leaf.found.show();
        is_secret(&leaf.path) || masked_url(&shown) != shown
    })
}

/// Adds the entry at `index` if it is the next one; `None` if there would be a gap.
fn reach<T: Default>(list: &mut Vec<T>, index: usize) -> Option<()> {
    if index == list.len() {
        list.push(T::default());
    }
    (index < list.len()).then_some(())
}

/// The line around an offset, shortened to what fits a message, without a secret in it.
fn line_at(text: &str, offset: usize) -> String {
    let (before, after) = text.split_at_checked(offset).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let (before, begun) = before.split_at_checked(start).unwrap_or((before, ""));
    let after = after.lines().next().unwrap_or_default();
    let shown = masked_line(before, &format!("{begun}{after}"));
    shown.trim().chars().take(LINE_CHARACTERS_MAX).collect()
}

/// A value of a file with its path and the offset of its key.
struct Leaf {
    path: String,
    found: Found,
    offset: usize,
}

fn flatten(prefix: &str, table: &DeTable<'_>, leaves: &mut Vec<Leaf>) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        let offset = key.span().start;
        match value.get_ref() {
            DeValue::Table(table) if TABLES.contains(&pattern(&path).as_str()) => {
                flatten(&path, table, leaves);
            }
            DeValue::Array(items)
                if LISTS.contains(&pattern(&path).as_str()) && !items.is_empty() =>
            {
                for (index, item) in items.iter().enumerate() {
                    let path = join(&path, &index.to_string());
                    let (offset, found) = (item.span().start, Found::from_file(item.get_ref()));
                    leaves.push(Leaf {
                        path: path.clone(),
                        found,
                        offset,
                    });
                    if let DeValue::Table(table) = item.get_ref() {
                        flatten(&path, table, leaves);
                    }
                }
            }
            other => leaves.push(Leaf {
                path,
                found: Found::from_file(other),
                offset,
            }),
        }
    }
}

/// A name with a dot of its own is quoted, so that it is no path.
fn join(prefix: &str, name: &str) -> String {
    let name = if name.contains('.') {
        format!("{name:?}")
    } else {
        name.to_owned()
    };
    if prefix.is_empty() {
        name
    } else {
        format!("{prefix}.{name}")
    }
}

/// The path with `#` for each index.
fn pattern(path: &str) -> String {
    let parts = path
        .split('.')
        .map(|part| if is_index(part) { "#" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The path without its indices, as in the header of a table.
fn bare(path: &str) -> String {
    let parts = path
        .split('.')
        .filter(|part| *part != "#" && !is_index(part));
    parts.collect::<Vec<_>>().join(".")
}

fn is_index(part: &str) -> bool {
    part.parse::<usize>().is_ok()
}

fn index(path: &str) -> Index {
    let mut found = indices(path).into_iter();
    Index {
        outer: found.next().unwrap_or(0),
        inner: found.next().unwrap_or(0),
    }
}

fn indices(path: &str) -> Vec<usize> {
    path.split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// The path of the key that a variable names, given what follows the prefix.
fn variable_path(rest: &str) -> Option<String> {
    if rest.chars().any(char::is_lowercase) {
        return None;
    }
    let rest = rest.to_lowercase();
    keys().find_map(|key| variable_match(key, &rest))
}

fn variable_match(key: &Key, rest: &str) -> Option<String> {
    let mut path = Vec::new();
    let mut rest = rest;
    for part in key.path.split('.') {
        if !path.is_empty() {
            rest = rest.strip_prefix('_')?;
        }
        let length = match part {
            "#" => rest.bytes().take_while(u8::is_ascii_digit).count(),
            name => rest.starts_with(name).then_some(name.len())?,
        };
        let (taken, after) = rest.split_at(length);
        if part == "#" {
            taken.parse::<usize>().ok()?;
        }
        path.push(taken);
        rest = after;
    }
    rest.is_empty().then(|| path.join("."))
}

fn unknown_variable(name: &str, rest: &str) -> ConfigError {
    let names = keys().map(|key| fill(&key.path.replace('.', "_").to_uppercase(), rest, '_'));
    ConfigError::UnknownKey {
        origin: Origin::Environment(name.to_owned()),
        key: name.to_owned(),
        nearest: format!("{PREFIX}{}", nearest(rest, names)),
    }
}

fn nearest_key(path: &str) -> String {
    let tables = TABLES.into_iter().chain(LISTS);
    let names = keys().map(|key| key.path).chain(tables);
    nearest(path, names.map(|name| fill(name, path, '.')))
}

/// Puts the indices of `like` into the places of a pattern.
fn fill(pattern: &str, like: &str, separator: char) -> String {
    let indices = like.split(separator).filter(|part| is_index(part));
    let filled = indices.fold(pattern.to_owned(), |name, index| {
        name.replacen('#', index, 1)
    });
    filled.replace('#', "0")
}

/// For a word that is spelled much like one of `words`, the question whether it was meant.
fn meant(found: &Found, words: &[&str]) -> String {
    let is_wrong = |it: &&str| !words.contains(it);
    let written = found.texts().into_iter().find(is_wrong);
    let near = written.and_then(|it| similar(it, words.iter().copied()));
    near.map_or_else(String::new, |it| format!(", did you mean {it:?}?"))
}

const PREFIX: &str = "TIDEWIRE_";
/// Of a line that is shown in a message.
const LINE_CHARACTERS_MAX: usize = 60;
