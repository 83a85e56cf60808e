//! Who published a message, told to its receivers as user properties.

use tidewire_bridges::{CLIENT_ID_PROPERTY, USER_NAME_PROPERTY};
use tidewire_protocol::codec::UserProperties;

use super::{Key, Shard};
use crate::config::Mqtt;

impl Shard {
    /// Calls `encode` with the user properties of a message from a session: the client's own, and
    /// those that the configuration adds. What the client has written in their place is left out.
    pub(super) fn with_publisher(
        &self,
        session: Option<Key>,
        own: &UserProperties<'_>,
        encode: impl FnOnce(UserProperties<'_>),
    ) {
        let mqtt = &self.shared.config.mqtt;
        let session = session.and_then(|key| self.sessions.lookup(key));
        let client_id = session.filter(|_| mqtt.client_id_property);
        let user_name = session.filter(|_| mqtt.user_name_property);
        let added = [
            client_id.map(|it| (CLIENT_ID_PROPERTY, &*it.client_id)),
            user_name.and_then(|it| Some((USER_NAME_PROPERTY, it.user_name.as_deref()?))),
        ];
        let is_reserved = |name: &str| {
            mqtt.client_id_property && name == CLIENT_ID_PROPERTY
                || mqtt.user_name_property && name == USER_NAME_PROPERTY
        };
        let own = own.iter().filter(|(name, _)| !is_reserved(name));
        let pairs: Vec<_> = own.chain(added.into_iter().flatten()).collect();
        encode(UserProperties::from_pairs(&pairs));
    }
}

/// Whether messages say who published them.
pub(super) fn is_told(mqtt: &Mqtt) -> bool {
    mqtt.client_id_property || mqtt.user_name_property
}
