//! Topic names and filters: parsing, `$share`, `$exclusive` and `$delayed`, and the naive matcher
//! that the routing trie is tested against.
//!
//! A [`Topic`] or [`TopicFilter`] is valid because it exists. Who subscribed is unknown here.

mod error;
mod filter;
mod matcher;
mod name;
mod special;

pub use error::TopicError;
pub use filter::TopicFilter;
pub use matcher::matches;
pub use name::{DelayedTopic, Topic};
pub use special::Subscribable;

use error::check_text;
