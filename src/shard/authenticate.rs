//! AUTH: a client proves again who it is, while everything else goes on.

use tidewire_protocol::codec::{Auth, ReasonCode};

use super::{Key, Shard};

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
                self.answer(key, &answer.packet());
            }
            // [MQTT-4.12.1-2]
            Err(error) => self.disconnect(key, error.reason(), &error.to_string(), now_ms),
        }
    }
}
