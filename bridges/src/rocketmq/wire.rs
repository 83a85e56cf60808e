//! What is said to a RocketMQ proxy, field by field; the names are those of the protocol.
//!
//! # Source
//! `apache.rocketmq.v2`: `definition.proto` and `service.proto` of apache/rocketmq-apis. Fields
//! that are neither asked for nor read are left out, which protobuf allows.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Message as Encoded, Oneof};

/// A method of the service, with what it takes and answers.
pub(super) trait Method: Encoded + Default {
    /// Its name in the path of a request.
    const NAME: &'static str;
    /// What one answer holds.
    type Answer: Encoded + Default;
}

macro_rules! methods {
    ($($request:ident => $answer:ident, $name:literal;)*) => {
        $(impl Method for $request {
            const NAME: &'static str = $name;
            type Answer = $answer;
        })*
    };
}

methods! {
    QueryRouteRequest => QueryRouteResponse, "QueryRoute";
    HeartbeatRequest => StatusResponse, "Heartbeat";
    SendMessageRequest => SendMessageResponse, "SendMessage";
    ReceiveMessageRequest => ReceiveMessageResponse, "ReceiveMessage";
    AckMessageRequest => AckMessageResponse, "AckMessage";
    ChangeInvisibleDurationRequest => ChangeInvisibleDurationResponse, "ChangeInvisibleDuration";
    ForwardRequest => StatusResponse, "ForwardMessageToDeadLetterQueue";
    TelemetryCommand => TelemetryCommand, "Telemetry";
    NotifyClientTerminationRequest => StatusResponse, "NotifyClientTermination";
}

/// `google.protobuf.Duration` and `google.protobuf.Timestamp`, which are alike.
#[derive(Clone, Copy, PartialEq, Eq, Encoded)]
pub(super) struct Time {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

#[derive(Clone, PartialEq, Eq, Hash, Encoded)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) resource_namespace: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct FilterExpression {
    /// 1 tag, 2 SQL.
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) expression: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct SubscriptionEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) expression: Option<FilterExpression>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Address {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(int32, tag = "2")]
    pub(super) port: i32,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Endpoints {
    /// 1 IPv4, 2 IPv6, 3 a name.
    #[prost(int32, tag = "1")]
    pub(super) scheme: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Broker {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// 0 is the one that is written to.
    #[prost(int32, tag = "2")]
    pub(super) id: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(super) id: i32,
    /// 1 none, 2 read, 3 write, 4 both.
    #[prost(int32, tag = "3")]
    pub(super) permission: i32,
    #[prost(message, optional, tag = "4")]
    pub(super) broker: Option<Broker>,
    #[prost(int32, repeated, tag = "5")]
    pub(super) accept_message_types: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct SystemProperties {
    #[prost(string, optional, tag = "1")]
    pub(super) tag: Option<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) keys: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) message_id: String,
    /// 1 as it is, 2 gzip.
    #[prost(int32, tag = "5")]
    pub(super) body_encoding: i32,
    /// 1 normal, 2 FIFO, 3 delay.
    #[prost(int32, tag = "6")]
    pub(super) message_type: i32,
    #[prost(message, optional, tag = "7")]
    pub(super) born_timestamp: Option<Time>,
    #[prost(string, tag = "8")]
    pub(super) born_host: String,
    #[prost(message, optional, tag = "11")]
    pub(super) delivery_timestamp: Option<Time>,
    #[prost(string, optional, tag = "12")]
    pub(super) receipt_handle: Option<String>,
    #[prost(int32, tag = "13")]
    pub(super) queue_id: i32,
    #[prost(int32, optional, tag = "16")]
    pub(super) delivery_attempt: Option<i32>,
    #[prost(string, optional, tag = "17")]
    pub(super) message_group: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(map = "string, string", tag = "2")]
    pub(super) user_properties: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(super) system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) body: Bytes,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Agent {
    /// 5 is Rust.
    #[prost(int32, tag = "1")]
    pub(super) language: i32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, tag = "4")]
    pub(super) hostname: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Publishing {
    #[prost(message, repeated, tag = "1")]
    pub(super) topics: Vec<Resource>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) subscriptions: Vec<SubscriptionEntry>,
    #[prost(message, optional, tag = "5")]
    pub(super) long_polling_timeout: Option<Time>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum Role {
    #[prost(message, tag = "5")]
    Publishing(Publishing),
    #[prost(message, tag = "6")]
    Subscription(Subscription),
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct Settings {
    /// 1 producer, 3 simple consumer.
    #[prost(int32, optional, tag = "1")]
    pub(super) client_type: Option<i32>,
    #[prost(message, optional, tag = "4")]
    pub(super) request_timeout: Option<Time>,
    #[prost(oneof = "Role", tags = "5, 6")]
    pub(super) role: Option<Role>,
    #[prost(message, optional, tag = "7")]
    pub(super) user_agent: Option<Agent>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct TelemetryCommand {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) settings: Option<Settings>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct QueryRouteRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct QueryRouteResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) message_queues: Vec<MessageQueue>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct SendMessageRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct SendMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct ReceiveMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) message_queue: Option<MessageQueue>,
    #[prost(message, optional, tag = "3")]
    pub(super) filter_expression: Option<FilterExpression>,
    #[prost(int32, tag = "4")]
    pub(super) batch_size: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) invisible_duration: Option<Time>,
    #[prost(message, optional, tag = "7")]
    pub(super) long_polling_timeout: Option<Time>,
}

/// One of these is set.
#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct ReceiveMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    pub(super) message: Option<Message>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct AckMessageEntry {
    #[prost(string, tag = "1")]
    pub(super) message_id: String,
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct AckMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) topic: Option<Resource>,
    #[prost(message, repeated, tag = "3")]
    pub(super) entries: Vec<AckMessageEntry>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct AckMessageResultEntry {
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct AckMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<AckMessageResultEntry>,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct ChangeInvisibleDurationRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(super) receipt_handle: String,
    #[prost(message, optional, tag = "4")]
    pub(super) invisible_duration: Option<Time>,
    #[prost(string, tag = "5")]
    pub(super) message_id: String,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct ChangeInvisibleDurationResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
}

/// `ForwardMessageToDeadLetterQueueRequest`.
#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(super) receipt_handle: String,
    #[prost(string, tag = "4")]
    pub(super) message_id: String,
    #[prost(int32, tag = "5")]
    pub(super) delivery_attempt: i32,
    #[prost(int32, tag = "6")]
    pub(super) max_delivery_attempts: i32,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct HeartbeatRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(super) client_type: i32,
}

#[derive(Clone, PartialEq, Eq, Encoded)]
pub(super) struct NotifyClientTerminationRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
}

impl Time {
    pub(super) fn of_ms(ms: u64) -> Self {
        Self {
            seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
            nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap_or(0),
        }
    }

    /// Milliseconds; what is before zero is zero.
    pub(super) fn ms(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let nanos = u64::try_from(self.nanos).unwrap_or(0);
        seconds
            .saturating_mul(1_000)
            .saturating_add(nanos / 1_000_000)
    }
}

pub(super) const PRODUCER: i32 = 1;
pub(super) const SIMPLE_CONSUMER: i32 = 3;
pub(super) const NORMAL: i32 = 1;
pub(super) const FIFO: i32 = 2;
pub(super) const DELAY: i32 = 3;
pub(super) const TAG: i32 = 1;
pub(super) const SQL: i32 = 2;
pub(super) const RUST: i32 = 5;
pub(super) const IPV4: i32 = 1;
pub(super) const IPV6: i32 = 2;
pub(super) const NAME: i32 = 3;
pub(super) const IDENTITY: i32 = 1;
pub(super) const GZIP: i32 = 2;
/// Permissions that let a queue be read.
pub(super) const READABLE: [i32; 2] = [2, 4];
