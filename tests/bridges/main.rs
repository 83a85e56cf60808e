//! Bridges between real processes: two and three nodes of ours, mosquitto, RabbitMQ, Artemis, Kafka
//! and RocketMQ.
#![expect(clippy::panic, reason = "a test fails by panicking")]

#[cfg(feature = "amqp10")]
mod amqp10;
mod certificates;
mod client;
mod connections;
mod dead_link;
mod durable;
mod failover;
mod faults;
mod federation;
mod full;
mod hot;
#[cfg(any(feature = "amqp10", feature = "kafka", feature = "rocketmq"))]
mod java;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
mod mirror;
mod mosquitto;
mod payloads;
mod process;
mod proxy;
#[cfg(feature = "kafka")]
mod publisher;
#[cfg(feature = "amqp091")]
mod rabbitmq;
mod ring;
#[cfg(feature = "rocketmq")]
mod rocketmq;
#[cfg(any(feature = "amqp091", feature = "amqp10"))]
mod silence;
