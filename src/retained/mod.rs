//! The latest message of each topic.
