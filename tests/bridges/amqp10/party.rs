//! A client of AMQP 1.0 at the far end.

use std::time::Duration;

use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::CreditMode;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Body, Message, Modified, Source, Target};
use fe2o3_amqp::types::primitives::{Symbol, Value};
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use tidewire::clock::Clock;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::java::START_MS;
use crate::rabbitmq::server::runtime;

pub(crate) type Got = Message<Body<Value>>;

/// A connection of anybody's.
pub(crate) struct Party {
    runtime: Runtime,
    _connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
    links: u32,
}

impl Party {
    pub(crate) fn connect(port: u16, profile: &SaslProfile) -> Self {
        let runtime = runtime();
        let clock = Clock::start();
        loop {
            let opened = runtime.block_on(async {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                let builder = Connection::builder()
                    .container_id(format!("party-{}", clock.now_ms()))
                    .sasl_profile(profile.clone());
                let mut connection = builder.open_with_stream(stream).await.ok()?;
                let session = Session::begin(&mut connection).await.ok()?;
                Some((connection, session))
            });
            if let Some((connection, session)) = opened {
                return Self {
                    runtime,
                    _connection: connection,
                    session,
                    links: 0,
                };
            }
            assert!(clock.now_ms() < START_MS, "no connection to {port}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn name(&mut self) -> String {
        self.links += 1;
        format!("link-{}", self.links)
    }

    /// Receives what lies at an address, or is sent there from now on.
    pub(crate) fn reader(&mut self, address: &str, capability: &str) -> Reader<'_> {
        let name = self.name();
        let source = Source::builder()
            .address(address)
            .capabilities(vec![Symbol::from(capability)]);
        let attaching = Receiver::builder()
            .name(name)
            .source(source.build())
            .credit_mode(CreditMode::Auto(100))
            .attach(&mut self.session);
        let receiver = self.runtime.block_on(attaching).expect("a link");
        Reader {
            runtime: &self.runtime,
            receiver: Some(receiver),
        }
    }

    /// Sends to an address, and waits until the server has everything.
    pub(crate) fn send(&mut self, address: &str, capability: &str, messages: Vec<Got>) {
        let name = self.name();
        let target = Target::builder()
            .address(address)
            .capabilities(vec![Symbol::from(capability)]);
        let attaching = Sender::builder()
            .name(name)
            .target(target.build())
            .attach(&mut self.session);
        self.runtime.block_on(async {
            let mut sender = attaching.await.expect("a link");
            let mut outcomes = Vec::new();
            for message in messages {
                outcomes.push(sender.send_batchable(message).await.expect("sent"));
            }
            for outcome in outcomes {
                let outcome = outcome.await.expect("an outcome");
                assert!(outcome.is_accepted(), "{outcome:?}");
            }
            sender.close().await.expect("closed");
        });
    }
}

/// A link from an address.
pub(crate) struct Reader<'a> {
    runtime: &'a Runtime,
    receiver: Option<Receiver>,
}

impl Reader<'_> {
    /// The next message, if one comes in a while.
    pub(crate) fn poll(&mut self, patience: Duration) -> Option<Got> {
        let receiver = self.receiver.as_mut().expect("it is open");
        self.runtime.block_on(async {
            let received = timeout(patience, receiver.recv::<Body<Value>>())
                .await
                .ok()?;
            let delivery = received.expect("a message");
            receiver.accept(&delivery).await.expect("accepted");
            Some(delivery.into_message())
        })
    }

    pub(crate) fn next(&mut self) -> Got {
        let got = self.poll(Duration::from_millis(START_MS));
        got.expect("a message over there")
    }

    /// Takes the next message and gives it back as one that was delivered in vain.
    pub(crate) fn fail(&mut self) -> Got {
        let receiver = self.receiver.as_mut().expect("it is open");
        self.runtime.block_on(async {
            let delivery = receiver.recv::<Body<Value>>().await.expect("a message");
            let failed = Modified {
                delivery_failed: Some(true),
                undeliverable_here: None,
                message_annotations: None,
            };
            receiver.modify(&delivery, failed).await.expect("modified");
            delivery.into_message()
        })
    }

    pub(crate) fn payload(&mut self) -> String {
        text(&self.next())
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            // The server may have ended meanwhile.
            let _ = self.runtime.block_on(receiver.close());
        }
    }
}

/// The bytes of a message, which are text in these tests.
pub(crate) fn text(message: &Got) -> String {
    match &message.body {
        Body::Data(parts) => {
            let parts = parts.iter().flat_map(|it| it.0.iter().copied());
            String::from_utf8(parts.collect()).expect("text")
        }
        other => panic!("{other:?}"),
    }
}
