//! What the tests of this connector share.

use std::sync::Arc;
use std::time::Duration;

use super::{Dialect, Mechanism, Node, Settings};
use crate::{Credentials, CredentialsSource, Dial, Failure, ServerOrder};

/// Settings of a bridge without a server.
pub(super) fn settings() -> Settings {
    Settings {
        name: "b.n".into(),
        servers: 1,
        order: ServerOrder::Failover,
        dial: Dial(Arc::new(|_| {
            Box::pin(async { Err(Failure::retry("no server")) })
        })),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        mechanism: Mechanism::Plain,
        host_name: None,
        dialect: Dialect::Artemis,
        exchange: "amq.topic".into(),
        target: Node::Topic,
        source: None,
        credit: 10,
        inflight_max: 10,
        links_max: 2,
        message_bytes_max: 0,
        priority: 4,
        idle_timeout: Duration::ZERO,
        connect_timeout: Duration::from_secs(5),
        ack_timeout: Duration::from_secs(5),
    }
}
