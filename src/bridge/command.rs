//! What a running bridge is told from outside.

use tidewire_bridges::Settings;

use super::map::Map;
use crate::config::Bridge;

/// What one bridge is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Go on by another configuration.
    Change(Box<Change>),
    /// Do this from now on.
    Be(Wish),
    /// Drop what waits, but for what the other side may have.
    Purge,
    /// End, and the queue with it.
    Remove,
}

/// A configuration, ready for use.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) bridge: Bridge,
    pub(super) map: Map,
    pub(super) settings: Settings,
}

/// What a bridge is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wish {
    /// Connect and pass on.
    #[default]
    Run,
    /// Send what waits, take nothing new, then rest.
    Drain,
    /// Everything was sent; nothing new is taken.
    Drained,
    /// Rest; the queue is filled.
    Pause,
    /// The configuration says that it is off: rest, and the queue is not filled.
    Off,
}

impl Wish {
    /// Whether messages are to be queued.
    pub(super) fn is_bound(self) -> bool {
        matches!(self, Self::Run | Self::Pause)
    }
}
