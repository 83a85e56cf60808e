//! AUTH: a client proves again who it is, while everything else goes on.

use tidewire_protocol::codec::{Auth, Packet, ReasonCode, UserProperties};

use super::{Key, Shard};
use crate::auth::METHOD;

impl Shard {
    pub(super) fn receive_auth(&mut self, key: Key, auth: &Auth<'_>, now_ms: u64) {
        let Some(connection) = self.connections.lookup_mut(key) else {
            return;
        };
        let Some(authentication) = &mut connection.authentication else {
            // [MQTT-4.12.0-7]
            let why = "AUTH without an authentication method in CONNECT";
            self.disconnect(key, ReasonCode::ProtocolError, why, now_ms);
            return;
        };
        match authentication.receive(auth) {
            Ok(answer) => {
                let packet = Packet::Auth(Auth {
                    reason: answer.reason,
                    authentication_method: Some(METHOD),
                    authentication_data: Some(&answer.data),
                    reason_string: None,
                    user_properties: UserProperties::default(),
                });
                self.answer(key, &packet);
            }
            // [MQTT-4.12.1-2]
            Err(error) => self.disconnect(key, error.reason(), &error.to_string(), now_ms),
        }
    }
}
