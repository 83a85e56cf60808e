//! Bridges between real processes: two and three nodes of ours, mosquitto, RabbitMQ and Kafka.
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod client;
mod dead_link;
mod durable;
mod faults;
mod federation;
mod hot;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
mod mosquitto;
mod process;
mod proxy;
#[cfg(feature = "amqp091")]
mod rabbitmq;
mod ring;
