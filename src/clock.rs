//! The only caller of the system clocks.
