//! The latest message of each topic.
//!
//! Owns the messages with the retain flag, found again by filter. Sessions and subscriptions are
//! unknown here, and so is the disk.

mod store;
mod trie;

pub use store::{Retained, RetainedFull, Walk};

#[cfg(test)]
mod tests;
