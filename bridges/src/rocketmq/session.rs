//! A connection as the proxy sees it: one client for each direction, registered for its topics.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use super::failure::{check, of_request};
use super::grpc::{Channel, Driver, Framed};
use super::requests::Outcome;
use super::settings::{ConsumerSettings, Filter, ProducerSettings, Settings};
use super::sign::VERSION;
use super::wire::{
    self, Address, Agent, Endpoints, FilterExpression, HeartbeatRequest, MessageQueue,
    NotifyClientTerminationRequest, Publishing, QueryRouteRequest, Resource, Role, Subscription,
    SubscriptionEntry, TelemetryCommand, Time,
};
use crate::Failure;

/// Where messages are received from: a topic and a broker that has queues of it.
pub(super) type Spot = (String, String);

/// What is told to the proxy, and asked of it.
pub(super) struct Session {
    pub(super) channel: Channel,
    settings: std::sync::Arc<Settings>,
    endpoints: Endpoints,
}

impl Session {
    pub(super) fn new(channel: Channel, settings: std::sync::Arc<Settings>, remote: &str) -> Self {
        Self {
            channel,
            settings,
            endpoints: endpoints_of(remote),
        }
    }

    /// The client id of the way out.
    pub(super) fn producer_id(&self) -> String {
        format!("{}.out", self.settings.name)
    }

    /// The client id of the way in.
    pub(super) fn consumer_id(&self) -> String {
        format!("{}.in", self.settings.name)
    }

    pub(super) fn resource(&self, name: &str) -> Resource {
        Resource {
            resource_namespace: self.settings.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// Registers what is configured; the server's side of it goes on in tasks.
    pub(super) async fn register(&self, tasks: &mut JoinSet<Outcome>) -> Result<(), Failure> {
        if let Some(producer) = &self.settings.producer {
            let settings = self.producer_settings(producer);
            self.begin(self.producer_id(), settings, tasks).await?;
        }
        if let Some(consumer) = &self.settings.consumer {
            let settings = self.consumer_settings(consumer);
            self.begin(self.consumer_id(), settings, tasks).await?;
        }
        Ok(())
    }

    async fn begin(
        &self,
        client_id: String,
        settings: wire::Settings,
        tasks: &mut JoinSet<Outcome>,
    ) -> Result<(), Failure> {
        let command = TelemetryCommand {
            settings: Some(settings),
            ..TelemetryCommand::default()
        };
        let (question, mut answers) = self
            .channel
            .converse(&client_id, Framed::of(&command))
            .await?;
        let answer = answers.next().await?;
        let status = answer.and_then(|it| it.status);
        check(status).map_err(|status| of_request(&format!("client {client_id:?}"), &status))?;
        tasks.spawn(async move {
            // The session lasts as long as the question is open.
            let _question = question;
            loop {
                match answers.next().await {
                    // Orders for clients of other kinds.
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        return Outcome::Ended(Failure::retry("the server ended our session"));
                    }
                    Err(failure) => return Outcome::Ended(failure),
                }
            }
        });
        Ok(())
    }

    fn producer_settings(&self, producer: &ProducerSettings) -> wire::Settings {
        let topics = producer.topics.iter().map(|it| self.resource(it));
        self.client_settings(
            wire::PRODUCER,
            Role::Publishing(Publishing {
                topics: topics.collect(),
            }),
        )
    }

    fn consumer_settings(&self, consumer: &ConsumerSettings) -> wire::Settings {
        let entries = consumer.topics.iter().map(|topic| SubscriptionEntry {
            topic: Some(self.resource(topic)),
            expression: Some(expression_of(&consumer.filter)),
        });
        self.client_settings(
            wire::SIMPLE_CONSUMER,
            Role::Subscription(Subscription {
                group: Some(self.resource(&consumer.group)),
                subscriptions: entries.collect(),
                long_polling_timeout: Some(time_of(LONG_POLLING)),
            }),
        )
    }

    fn client_settings(&self, client_type: i32, role: Role) -> wire::Settings {
        wire::Settings {
            client_type: Some(client_type),
            request_timeout: Some(time_of(self.settings.ack_timeout)),
            role: Some(role),
            user_agent: Some(Agent {
                language: wire::RUST,
                version: VERSION.to_owned(),
                hostname: self.settings.name.clone(),
            }),
        }
    }

    /// Where the queues of a topic are.
    pub(super) async fn route(&self, topic: &str) -> Result<Vec<MessageQueue>, Failure> {
        let request = QueryRouteRequest {
            topic: Some(self.resource(topic)),
            endpoints: Some(self.endpoints.clone()),
        };
        let patience = self.settings.ack_timeout;
        let client_id = self.producer_id();
        let answer = self
            .channel
            .call(&client_id, Framed::of(&request), patience)
            .await?;
        let refused = |status| of_request(&format!("topic {topic:?}"), &status);
        check(answer.status).map_err(refused)?;
        Ok(answer.message_queues)
    }

    /// All places that messages are received from, with a queue for each.
    pub(super) async fn spots(&self) -> Result<BTreeMap<Spot, MessageQueue>, Failure> {
        let mut spots = BTreeMap::new();
        let consumer = self.settings.consumer.as_ref();
        for topic in consumer.iter().flat_map(|it| &it.topics) {
            let queues = self.route(topic).await?;
            let readable = queues.into_iter();
            let readable = readable.filter(|it| wire::READABLE.contains(&it.permission));
            for queue in readable {
                let broker = queue.broker.as_ref();
                // Others than 0 are copies.
                let name = broker.filter(|it| it.id == 0).map(|it| it.name.clone());
                if let Some(name) = name {
                    spots.entry((topic.clone(), name)).or_insert(queue);
                }
            }
        }
        Ok(spots)
    }

    /// Topics have to exist that something always goes to.
    pub(super) async fn check_topics(&self) -> Result<(), Failure> {
        let producer = self.settings.producer.as_ref();
        for topic in producer.iter().flat_map(|it| &it.topics) {
            self.route(topic).await?;
        }
        Ok(())
    }

    /// Signs of life, one for each client.
    pub(super) fn heartbeats(&self) -> Vec<(String, HeartbeatRequest)> {
        let producer = self.settings.producer.as_ref();
        let producer = producer.map(|_| HeartbeatRequest {
            group: None,
            client_type: wire::PRODUCER,
        });
        let consumer = self.settings.consumer.as_ref();
        let consumer = consumer.map(|it| HeartbeatRequest {
            group: Some(self.resource(&it.group)),
            client_type: wire::SIMPLE_CONSUMER,
        });
        let producer = producer.map(|it| (self.producer_id(), it));
        let consumer = consumer.map(|it| (self.consumer_id(), it));
        producer.into_iter().chain(consumer).collect()
    }

    /// Tells the proxy that nothing more is to come.
    pub(super) async fn say_goodbye(&self) {
        for (client_id, heartbeat) in self.heartbeats() {
            let request = NotifyClientTerminationRequest {
                group: heartbeat.group,
            };
            // It finds out by itself, too.
            let _ = self
                .channel
                .call(&client_id, Framed::of(&request), GOODBYE)
                .await;
        }
    }
}

/// The connection's own work, as long as there is one.
pub(super) async fn drive(driver: Driver) -> Outcome {
    Outcome::Ended(match driver.await {
        Ok(()) => Failure::retry("the server closed the connection"),
        Err(error) => Failure::retry(format!("connection lost: {error}")),
    })
}

/// Brokers whose proxies are others than the one we are connected to, in words.
pub(super) fn warnings_of(spots: &BTreeMap<Spot, MessageQueue>) -> Vec<String> {
    let mut found: Vec<&Endpoints> = Vec::new();
    for broker in spots.values().filter_map(|it| it.broker.as_ref()) {
        if let Some(endpoints) = broker.endpoints.as_ref()
            && !found.contains(&endpoints)
        {
            found.push(endpoints);
        }
    }
    if found.len() < 2 {
        return Vec::new();
    }
    let addresses = found.iter().flat_map(|it| &it.addresses);
    let addresses: Vec<String> = addresses
        .map(|it| format!("{}:{}", it.host, it.port))
        .collect();
    vec![format!(
        "each broker has a proxy of its own ({}), and one of them is received from: make a bridge \
         for each",
        addresses.join(", ")
    )]
}

pub(super) fn expression_of(filter: &Filter) -> FilterExpression {
    let (kind, expression) = match filter {
        Filter::Tags(tags) => (wire::TAG, tags),
        Filter::Sql(sql) => (wire::SQL, sql),
    };
    FilterExpression {
        kind,
        expression: expression.clone(),
    }
}

pub(super) fn time_of(duration: Duration) -> Time {
    Time::of_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn endpoints_of(remote: &str) -> Endpoints {
    let address = remote.split_once("://").map_or(remote, |it| it.1);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "8081"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let scheme = match host.parse() {
        Ok(IpAddr::V4(_)) => wire::IPV4,
        Ok(IpAddr::V6(_)) => wire::IPV6,
        Err(_) => wire::NAME,
    };
    Endpoints {
        scheme,
        addresses: vec![Address {
            host: host.to_owned(),
            port: port.parse().unwrap_or(8081),
        }],
    }
}

/// How long the server may wait for a message before it says that there is none.
pub(super) const LONG_POLLING: Duration = Duration::from_secs(15);
const GOODBYE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::super::wire::Broker;
    use super::*;

    fn queue(broker: &str, port: i32) -> (Spot, MessageQueue) {
        let endpoints = endpoints_of(&format!("rocketmq://127.0.0.1:{port}"));
        let queue = MessageQueue {
            broker: Some(Broker {
                name: broker.to_owned(),
                id: 0,
                endpoints: Some(endpoints),
            }),
            ..MessageQueue::default()
        };
        (("t".to_owned(), broker.to_owned()), queue)
    }

    #[test]
    fn brokers_behind_other_proxies_are_warned_of() {
        let one = BTreeMap::from([queue("a", 1), queue("b", 1)]);
        assert!(warnings_of(&one).is_empty());
        let two = BTreeMap::from([queue("a", 1), queue("b", 2)]);
        let warnings = warnings_of(&two);
        assert!(
            warnings[0].contains("127.0.0.1:1, 127.0.0.1:2"),
            "{warnings:?}"
        );
    }

    #[test]
    fn an_address_is_said_with_its_kind() {
        let kind = |remote: &str| {
            let endpoints = endpoints_of(remote);
            let address = &endpoints.addresses[0];
            (endpoints.scheme, address.host.clone(), address.port)
        };
        assert_eq!(kind("rocketmqs://[::1]:9"), (2, "::1".to_owned(), 9));
        assert_eq!(
            kind("rocketmq://proxy.example:8081"),
            (3, "proxy.example".to_owned(), 8081)
        );
    }
}
