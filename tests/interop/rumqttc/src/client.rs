//! One face for the two clients of rumqttc, which share no types.

use std::fs;

use rumqttc::Transport;

use crate::Outcome;

/// Where the broker is.
pub(crate) struct Address {
    /// As rumqttc wants it: a name, a whole URL for WebSocket, a path for a unix socket.
    host: String,
    port: u16,
    transport: Transport,
    scheme: String,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Outcome<Self> {
        let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
        let (place, ca) = rest.split_once("?ca=").unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        let (name, port) = authority.split_once(':').unwrap_or((authority, "0"));
        let (host, transport) = match scheme {
            "tcp" => (name, Transport::Tcp),
            "tls" => (name, Transport::tls(fs::read(ca)?, None, None)),
            "ws" => (url, Transport::Ws),
            "unix" => (place, Transport::Unix),
            other => return Err(format!("no transport {other}").into()),
        };
        Ok(Self {
            host: host.to_owned(),
            port: port.parse()?,
            transport,
            scheme: scheme.to_owned(),
        })
    }

    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }
}

/// A message sent or received.
#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

/// A will with QoS 1.
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A connection of either version; dropped, it ends without a DISCONNECT.
pub(crate) trait Client: Sized {
    const VERSION: u8;

    fn connect(address: &Address, id: &str, will: Option<Will>) -> Outcome<Self>;

    /// Ends when the subscription is in force.
    async fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome<()>;

    async fn publish(&mut self, message: &Message) -> Outcome<()>;

    /// The next message that arrives.
    async fn message(&mut self) -> Outcome<Message>;

    async fn disconnect(self) -> Outcome<()>;
}

/// The same calls on the types of one version; what differs is passed in.
macro_rules! connection {
    ($version:literal, $qos:expr, $will:expr, $topic:expr) => {
        pub(crate) struct Connection {
            client: AsyncClient,
            events: EventLoop,
        }

        impl Connection {
            async fn next(&mut self) -> Outcome<Incoming> {
                loop {
                    if let Event::Incoming(packet) = self.events.poll().await? {
                        return Ok(packet);
                    }
                }
            }
        }

        impl Client for Connection {
            const VERSION: u8 = $version;

            fn connect(address: &Address, id: &str, will: Option<Will>) -> Outcome<Self> {
                let mut options = MqttOptions::new(id, &address.host, address.port);
                options.set_transport(address.transport.clone());
                if let Some(will) = will {
                    let make: fn(Will) -> LastWill = $will;
                    options.set_last_will(make(will));
                }
                let (client, events) = AsyncClient::new(options, 10);
                Ok(Self { client, events })
            }

            async fn subscribe(&mut self, filter: &str, qos: u8) -> Outcome<()> {
                let qos = $qos(qos).ok_or("no such QoS")?;
                self.client.subscribe(filter, qos).await?;
                loop {
                    let Incoming::SubAck(answer) = self.next().await? else {
                        continue;
                    };
                    let granted = answer.return_codes;
                    return match granted == [SubscribeReasonCode::Success(qos)] {
                        true => Ok(()),
                        false => Err(format!("granted {granted:?}").into()),
                    };
                }
            }

            async fn publish(&mut self, message: &Message) -> Outcome<()> {
                let qos = $qos(message.qos).ok_or("no such QoS")?;
                let (topic, payload) = (message.topic.clone(), message.payload.clone());
                let sent = self.client.publish(topic, qos, message.retain, payload);
                Ok(sent.await?)
            }

            async fn message(&mut self) -> Outcome<Message> {
                loop {
                    let Incoming::Publish(publish) = self.next().await? else {
                        continue;
                    };
                    let topic: fn(&Publish) -> String = $topic;
                    return Ok(Message {
                        topic: topic(&publish),
                        payload: publish.payload.to_vec(),
                        qos: publish.qos as u8,
                        retain: publish.retain,
                    });
                }
            }

            async fn disconnect(mut self) -> Outcome<()> {
                self.client.disconnect().await?;
                while self.events.poll().await? != Event::Outgoing(Outgoing::Disconnect) {}
                Ok(())
            }
        }
    };
}

pub(crate) mod v3_1_1 {
    use rumqttc::{
        AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, Publish, QoS,
        SubscribeReasonCode, qos,
    };

    use super::{Address, Client, Message, Outcome, Will};

    connection!(
        4,
        |number| qos(number).ok(),
        |will| LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false),
        |publish| publish.topic.clone()
    );
}

pub(crate) mod v5_0 {
    use rumqttc::Outgoing;
    use rumqttc::v5::mqttbytes::v5::{LastWill, Publish, SubscribeReasonCode};
    use rumqttc::v5::mqttbytes::{QoS, qos};
    use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};

    use super::{Address, Client, Message, Outcome, Will};

    connection!(
        5,
        qos,
        |will| LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false, None),
        |publish| String::from_utf8_lossy(&publish.topic).into_owned()
    );
}
