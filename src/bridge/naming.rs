//! Names of messages for receivers that drop what comes twice.

use crate::queue::Lent;

/// How the messages of one bridge are called over there.
///
/// # Shape
/// `NODE.BRIDGE.sN` with the identifier in the store, which is the same after a restart; without
/// one `NODE.BRIDGE.EPOCH-N`, which is the same for as long as the process lives.
#[derive(Debug)]
pub(super) struct Naming {
    prefix: String,
    epoch: String,
}

impl Naming {
    /// `epoch` is of this process alone.
    pub(super) fn new(node: &str, bridge: &str, epoch: &str) -> Self {
        Self {
            prefix: format!("{node}.{bridge}"),
            epoch: epoch.to_owned(),
        }
    }

    /// The name of a message, the same each time it is sent.
    pub(super) fn name(&self, lent: &Lent) -> String {
        match lent.stored {
            Some(id) => format!("{}.s{:x}", self.prefix, id.0),
            None => format!("{}.{}-{:x}", self.prefix, self.epoch, lent.sequence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Header, Message};
    use crate::store::MessageId;

    #[test]
    fn a_stored_message_is_called_the_same_in_another_process() {
        let mut lent = Lent {
            sequence: 17,
            message: Message::new("t", b"", b"", Header::default()),
            sent_as: None,
            stored: Some(MessageId(0x1f)),
        };
        let first = Naming::new("plant", "up", "aa");
        assert_eq!(first.name(&lent), "plant.up.s1f");
        lent.sequence = 1;
        let second = Naming::new("plant", "up", "bb");
        assert_eq!(second.name(&lent), first.name(&lent));
        lent.stored = None;
        assert_eq!(second.name(&lent), "plant.up.bb-1");
    }
}
