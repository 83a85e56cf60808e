//! Looks at the pages of a data file by plain reads, before anything is mapped.
//!
//! A page that is referred to and not there would end the process with SIGBUS once mapped; a
//! damaged one could lead LMDB anywhere. So every page in use is visited, its bounds are checked.
//!
//! # Shape
//! LMDB's: two meta pages, each the root of a free list and a main tree; leaves of the main tree
//! hold the roots of the named tables. Numbers are in the byte order of the machine. A page is a
//! number (8 bytes), padding (2), flags (2), bounds (4), then offsets of its nodes.
//!
//! # Source
//! `MDB_meta`, `MDB_page` and `MDB_node` in `mdb.c` of LMDB 0.9.70.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::StoreError;

/// What the pages say.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Names of the tables.
    pub(super) tables: Vec<Vec<u8>>,
    /// Pages in use.
    pub(super) pages: u64,
}

/// Visits every page in use.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Truncated`] or [`StoreError::Page`].
pub(super) fn survey(path: &Path, file: &File) -> Result<Survey, StoreError> {
    let file_bytes = file
        .metadata()
        .map_err(|source| StoreError::Io {
            path: path.to_owned(),
            what: "its size cannot be read",
            source,
        })?
        .len();
    let mut first = vec![0; PAGE_BYTES_MIN];
    let foreign = |problem: String| StoreError::Foreign {
        path: path.to_owned(),
        problem,
    };
    if file.read_exact_at(&mut first, 0).is_err() {
        return Err(foreign(format!("it has only {file_bytes} bytes")));
    }
    let page_bytes = Meta::read(&first).map_err(&foreign)?.page_bytes;
    let mut walk = Walk {
        path,
        file,
        file_bytes,
        page_bytes,
        visited: Vec::new(),
        survey: Survey::default(),
    };
    let mut metas = Vec::new();
    for number in 0..2 {
        let page = walk.read(number)?;
        metas.push(Meta::read(&page).map_err(&foreign)?);
    }
    let latest = metas.into_iter().max_by_key(|meta| meta.transaction);
    let Some(latest) = latest else {
        return Err(foreign("it has no meta page".into()));
    };
    walk.tree(latest.free_root, Tree::Free)?;
    walk.tree(latest.main_root, Tree::Main)?;
    Ok(walk.survey)
}

struct Meta {
    page_bytes: usize,
    free_root: u64,
    main_root: u64,
    transaction: u64,
}

impl Meta {
    fn read(page: &[u8]) -> Result<Self, String> {
        if page.iter().all(|byte| *byte == 0) {
            return Err("its first pages are zero".into());
        }
        let magic = u32_at(page, 16).unwrap_or(0);
        if u16_at(page, 10).is_none_or(|flags| flags & P_META == 0) || magic != MAGIC {
            return Err(if magic == MAGIC.swap_bytes() {
                "it comes from a machine of another byte order".into()
            } else {
                "it is not an LMDB file".into()
            });
        }
        if u32_at(page, 20) != Some(DATA_VERSION) {
            return Err("it has another version of the LMDB format".into());
        }
        let page_bytes = u32_at(page, 40).unwrap_or(0) as usize;
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=65_536).contains(&page_bytes) {
            return Err(format!("its page size is {page_bytes}"));
        }
        Ok(Self {
            page_bytes,
            free_root: u64_at(page, 80).unwrap_or(NONE),
            main_root: u64_at(page, 128).unwrap_or(NONE),
            transaction: u64_at(page, 144).unwrap_or(0),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    Free,
    Main,
    Table,
}

struct Walk<'a> {
    path: &'a Path,
    file: &'a File,
    file_bytes: u64,
    page_bytes: usize,
    /// A bit for each page.
    visited: Vec<u64>,
    survey: Survey,
}

impl Walk<'_> {
    fn tree(&mut self, root: u64, kind: Tree) -> Result<(), StoreError> {
        let mut open = vec![root];
        let mut tables = Vec::new();
        while let Some(number) = open.pop() {
            if number == NONE {
                continue;
            }
            let page = self.read(number)?;
            self.visit(number, 1)?;
            let flags = u16_at(&page, 10).unwrap_or(0);
            if u64_at(&page, 0) != Some(number) {
                return Err(self.damaged(number, "it does not bear its own number"));
            }
            let below = open.len();
            for node in self.nodes(&page, number)? {
                let node = page.get(node..).unwrap_or_default();
                match flags & (P_BRANCH | P_LEAF) {
                    P_BRANCH => open.push(branch_target(node).unwrap_or(NONE - 1)),
                    P_LEAF => self.leaf_node(node, number, kind, &mut tables)?,
                    _ => return Err(self.damaged(number, "it is neither branch nor leaf")),
                }
            }
            // In the order of their keys, in which pages mostly lie in the file.
            if let Some(below) = open.get_mut(below..) {
                self.read_ahead(below);
                below.reverse();
            }
        }
        tables
            .into_iter()
            .try_for_each(|root| self.tree(root, Tree::Table))
    }

    /// Offsets of the nodes of a page.
    fn nodes(&self, page: &[u8], number: u64) -> Result<Vec<usize>, StoreError> {
        let lower = usize::from(u16_at(page, 12).unwrap_or(0));
        let upper = usize::from(u16_at(page, 14).unwrap_or(0));
        if lower < HEADER_BYTES || lower > upper || upper > self.page_bytes || lower % 2 != 0 {
            return Err(self.damaged(number, "its bounds are wrong"));
        }
        let offsets: Vec<usize> = (HEADER_BYTES..lower)
            .step_by(2)
            .map(|at| usize::from(u16_at(page, at).unwrap_or(0)))
            .collect();
        let fits = |at: &usize| *at >= upper && at + NODE_BYTES <= self.page_bytes;
        if offsets.is_empty() || !offsets.iter().all(fits) {
            return Err(self.damaged(number, "a node lies outside"));
        }
        Ok(offsets)
    }

    fn leaf_node(
        &mut self,
        node: &[u8],
        number: u64,
        kind: Tree,
        tables: &mut Vec<u64>,
    ) -> Result<(), StoreError> {
        let outside = "a row lies outside";
        let value_bytes = u32_at(node, 0).unwrap_or(0) as usize;
        let flags = u16_at(node, 4).unwrap_or(0);
        let key_end = NODE_BYTES + usize::from(u16_at(node, 6).unwrap_or(0));
        let Some(key) = node.get(NODE_BYTES..key_end) else {
            return Err(self.damaged(number, outside));
        };
        let in_page = if flags & F_BIG == 0 { value_bytes } else { 8 };
        let Some(value) = node.get(key_end..key_end + in_page) else {
            return Err(self.damaged(number, outside));
        };
        if flags & F_BIG != 0 {
            return self.overflow(u64_at(value, 0).unwrap_or(NONE), value_bytes);
        }
        if kind == Tree::Main && flags & F_TABLE != 0 {
            self.survey.tables.push(key.to_vec());
            tables.push(u64_at(value, 40).unwrap_or(NONE - 1));
        }
        Ok(())
    }

    /// Pages that hold one large value.
    fn overflow(&mut self, number: u64, value_bytes: usize) -> Result<(), StoreError> {
        let needed = (HEADER_BYTES + value_bytes).div_ceil(self.page_bytes) as u64;
        self.check_present(number.saturating_add(needed - 1))?;
        let mut header = [0; HEADER_BYTES];
        self.read_at(number, &mut header)?;
        let flags = u16_at(&header, 10).unwrap_or(0);
        let pages = u64::from(u32_at(&header, 12).unwrap_or(0));
        if flags & P_OVERFLOW == 0 || pages < needed || u64_at(&header, 0) != Some(number) {
            return Err(self.damaged(number, "it does not begin a large value"));
        }
        self.check_present(number + pages - 1)?;
        self.visit(number, pages)
    }

    fn read(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        self.check_present(number)?;
        let mut page = vec![0; self.page_bytes];
        self.read_at(number, &mut page)?;
        Ok(page)
    }

    /// Asks the system for pages that are read soon, neighbours together. Nothing depends on it.
    fn read_ahead(&self, numbers: &[u64]) {
        let is_near = |one: &u64, next: &u64| {
            let distance = next.checked_sub(*one);
            distance.is_some_and(|it| (1..=NEIGHBOURS).contains(&it))
        };
        for run in numbers.chunk_by(is_near) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            let page_bytes = self.page_bytes as u64;
            let bytes = NonZeroU64::new((last - first + 1).saturating_mul(page_bytes));
            let from = first.saturating_mul(page_bytes);
            if from < self.file_bytes {
                will_need(self.file, from, bytes);
            }
        }
    }

    fn read_at(&self, number: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let at = number.saturating_mul(self.page_bytes as u64);
        self.file
            .read_exact_at(out, at)
            .map_err(|source| StoreError::Io {
                path: self.path.to_owned(),
                what: "a page cannot be read",
                source,
            })
    }

    fn check_present(&self, number: u64) -> Result<(), StoreError> {
        if number < self.file_bytes / self.page_bytes as u64 {
            return Ok(());
        }
        Err(StoreError::Truncated {
            path: self.path.to_owned(),
            found_bytes: self.file_bytes,
            page: number,
        })
    }

    fn visit(&mut self, number: u64, count: u64) -> Result<(), StoreError> {
        for number in number..number + count {
            let word = usize::try_from(number / 64).unwrap_or(usize::MAX - 1);
            if word >= self.visited.len() {
                self.visited.resize(word + 1, 0);
            }
            let bit = 1 << (number % 64);
            match self.visited.get_mut(word) {
                Some(bits) if *bits & bit == 0 => *bits |= bit,
                _ => return Err(self.damaged(number, "it is in use twice")),
            }
        }
        let before = self.survey.pages;
        self.survey.pages += count;
        if before / PAGES_PER_LINE != self.survey.pages / PAGES_PER_LINE {
            let of = self.file_bytes / self.page_bytes as u64;
            tracing::info!(
                pages = self.survey.pages,
                of,
                "looking at the pages of the store"
            );
        }
        Ok(())
    }

    fn damaged(&self, page: u64, problem: &'static str) -> StoreError {
        StoreError::Page {
            path: self.path.to_owned(),
            page,
            problem,
        }
    }
}

#[cfg(target_os = "linux")]
fn will_need(file: &File, from: u64, bytes: Option<NonZeroU64>) {
    let _ = rustix::fs::fadvise(file, from, bytes, rustix::fs::Advice::WillNeed);
}

#[cfg(not(target_os = "linux"))]
fn will_need(_: &File, _: u64, _: Option<NonZeroU64>) {}

/// The page below: 48 bits in three pieces.
fn branch_target(node: &[u8]) -> Option<u64> {
    let low = u64::from(u32_at(node, 0)?);
    let high = u64::from(u16_at(node, 4)?);
    Some(high << 32 | low)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const PAGE_BYTES_MIN: usize = 512;
const MAGIC: u32 = 0xBEEF_C0DE;
const DATA_VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const NODE_BYTES: usize = 8;
/// Pages with so few between them are read together.
const NEIGHBOURS: u64 = 16;
/// Pages between two lines in the log: a gigabyte.
const PAGES_PER_LINE: u64 = 1 << 18;
/// The root of an empty tree.
const NONE: u64 = u64::MAX;
const P_BRANCH: u16 = 0x01;
const P_LEAF: u16 = 0x02;
const P_OVERFLOW: u16 = 0x04;
const P_META: u16 = 0x08;
const F_BIG: u16 = 0x01;
const F_TABLE: u16 = 0x02;
