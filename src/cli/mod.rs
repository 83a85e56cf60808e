//! The commands of the `tidewire` binary.
