//! The connector, over connections that end.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewire_protocol::codec::{ConnAck, ConnAckProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;
use crate::mqtt::{MqttConnector, Settings};
use crate::{
    Connected, Connector, Credentials, CredentialsSource, Dial, Dialled, PortSink, PortSource,
    ServerOrder, Sink, Source,
};

const PATIENCE: Duration = Duration::from_secs(10);

/// Leads to these, one after the other.
fn dial(streams: impl IntoIterator<Item = DuplexStream>) -> Dial {
    let streams: VecDeque<_> = streams.into_iter().collect();
    let streams = Mutex::new(streams);
    Dial(Arc::new(move |_| {
        let stream = streams.lock().unwrap().pop_front().unwrap();
        Box::pin(async {
            Ok(Dialled {
                stream: Box::new(stream),
                remote: "duplex".into(),
            })
        })
    }))
}

fn settings(dial: Dial) -> Settings {
    Settings {
        servers: 1,
        order: ServerOrder::Failover,
        home_probe: None,
        dial,
        version: Some(V5),
        bridge_bit: false,
        client_id: "edge".into(),
        node: "edge".into(),
        credentials: CredentialsSource(Arc::new(|| Ok(Credentials::default()))),
        keep_alive_seconds: 0,
        session_expiry_seconds: 3_600,
        starts_clean: false,
        is_durable: false,
        receive_maximum: NonZeroU16::MAX,
        inflight_max: 10,
        topic_aliases_max: 0,
        packet_bytes_max: 1 << 20,
        connect_timeout: PATIENCE,
        ack_timeout: PATIENCE,
        subscriptions: Vec::new(),
        will: None,
        greeting: None,
    }
}

/// The other end of a connection.
struct Server(DuplexStream);

impl Server {
    async fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, V5, &mut bytes).unwrap();
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> String {
        let mut bytes = Vec::new();
        loop {
            if let Some((packet, _)) = decode(&bytes, V5, Receiver::Server, 1 << 20).unwrap() {
                return show(&packet);
            }
            bytes.push(self.0.read_u8().await.unwrap());
        }
    }

    /// Connects the connector to this server.
    async fn greet(
        &mut self,
        connector: &mut MqttConnector,
        session_present: bool,
    ) -> Connected<PortSink, PortSource> {
        let answer = Packet::ConnAck(Box::new(ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: ConnAckProperties::default(),
        }));
        let greeting = async {
            self.receive().await;
            self.send(&answer).await;
        };
        let (link, ()) = tokio::join!(connector.connect(), greeting);
        link.unwrap()
    }
}

#[tokio::test]
async fn what_was_accepted_as_its_connection_ended_is_acknowledged_on_the_next_one() {
    let (ours_1, theirs_1) = duplex(1 << 16);
    let (ours_2, theirs_2) = duplex(1 << 16);
    let mut connector = MqttConnector::new(settings(dial([ours_1, ours_2])));
    let mut server = Server(theirs_1);
    let mut link = server.greet(&mut connector, false).await;
    server.send(&publish(5, QoS::ExactlyOnce, false)).await;
    let received = link.source.receive().await.unwrap();
    drop(server);
    link.sink.settled().await.unwrap_err();
    let receipts = received.into_iter().map(|it| it.receipt).collect();
    link.source.accept(receipts);
    let mut server = Server(theirs_2);
    let _link = server.greet(&mut connector, true).await;
    server.send(&publish(5, QoS::ExactlyOnce, true)).await;
    let answer = timeout(PATIENCE, server.receive()).await;
    assert_eq!(answer.expect("an answer"), "pubrec 5");
}
