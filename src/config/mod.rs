//! The typed tree of the configuration file, and `Limits`.
