//! Ordered start and stop of everything.
