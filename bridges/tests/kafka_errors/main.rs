//! Kafka's errors, from librdkafka's own mock cluster: each ends in its class, and nothing is lost
//! or repeated on the way.

mod inward;
mod link;
mod outward;
mod transactions;
