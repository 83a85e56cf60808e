//! JSON Web Tokens: signed claims about a client.
//!
//! Owns the keys and what a token has to say. The algorithm belongs to the key: what a token says
//! about it only chooses among keys, and `none` chooses no key.

mod key;
mod key_file;
mod remote;
mod token;

pub use key_file::KeyError;
pub use token::{Claims, TokenError, Tokens};
