//! Arguments of the load generator.

use clap::{Args, ValueEnum};
use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::client::{Credentials, qos, version};
use super::server::ServerArguments;

/// Arguments of `tidewire bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArguments {
    /// What to measure
    pub scenario: Scenario,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub server: ServerArguments,
    /// Protocol version: 3.1, 3.1.1 or 5.0
    #[arg(short = 'V', long, value_name = "VERSION", default_value = "5.0", value_parser = version)]
    pub version: ProtocolVersion,
    /// QoS of publications and subscriptions: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub qos: QoS,
    /// Payload bytes, at least 20 for publisher, sequence and time stamp
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(20..=268_000_000))]
    pub payload: u32,
    /// Clients; what they do depends on the scenario
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Seconds that are measured
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Seconds of load before the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub warm_up: u32,
    /// Messages of one publisher that may be under way
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// Seconds for which the server keeps sessions, 0 = not at all; before 5.0 it decides
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub session_expiry: u32,
    /// Scenario rate: messages per second of all publishers together
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: u32,
    /// Filters: in scenario wildcards of all subscribers (default 100000), in scenario connect
    /// subscriptions of each connection (default 0)
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub filters: Option<u32>,
    /// Scenario connect: seconds of keep-alive, with pings; 0 = off
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub keep_alive: u16,
    /// Scenario durable: messages of each step, if --seconds are not over before
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub messages: u64,
    /// Scenario durable: unacknowledged messages of all publishers together, a step for each number
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    #[arg(default_values_t = [1, 100, 1_000, 10_000])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub outstanding: Vec<u32>,
    /// Process id of a server on this computer, to report its processor time and memory
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub credentials: Credentials,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

impl BenchArguments {
    /// Whether the flags make sense together, beyond what clap can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        self.server.check(&self.credentials)?;
        match self.scenario {
            Scenario::FanIn | Scenario::FanOut | Scenario::Connect => Ok(()),
            _ if self.clients < 2 => Err("this scenario needs --clients 2 or more".into()),
            Scenario::Wildcards if self.filters() < self.clients / 2 => {
                Err("each subscriber needs a filter: raise --filters or lower --clients".into())
            }
            _ => Ok(()),
        }
    }

    /// Filters of scenario wildcards.
    pub(in crate::cli) fn filters(&self) -> u32 {
        self.filters.unwrap_or(100_000)
    }
}

/// What `tidewire bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Each publisher has one subscriber
    Pairs,
    /// Many publishers, one subscriber
    FanIn,
    /// One publisher, many subscribers
    FanOut,
    /// Idle connections, and with --filters their subscriptions
    Connect,
    /// Pairs that publish at a fixed rate; latency counts from the time a message was due
    Rate,
    /// Pairs whose subscribers hold many wildcard filters, and publishers many topics
    Wildcards,
    /// Publish to persistent sessions that are away, then let them return
    Durable,
}

/// What the result means.
pub(super) const BENCH_HELP: &str = "\
The result, with --json as one object; the last word of a key is its unit:
  delivered_messages, delivered_messages_per_second   after the warm-up
  expected_messages    sent after the warm-up, times the receivers of each
  lost_, duplicate_, out_of_order_messages            of those sent after the warm-up
  latency_p50_us .. latency_max_us     from sending, in scenario rate from the time it was due
  schedule_lag_p50_us .. schedule_lag_max_us          rate: how late messages were sent
  server_cpu_us_per_message, server_memory_peak_bytes with --pid; peak resident memory since start
  generator_cpu_us_per_message         processor time of this command itself
  server_rss_bytes_per_filter          wildcards, with --pid
  connections_per_second, lost_connections            connect
  server_rss_, server_pss_bytes_per_connection        connect, with --pid: user-space memory after
                                       minus before; rss counts shared pages in full, pss in part
  server_rss_, server_pss_bytes_per_subscription      connect with --filters and --pid
  steps                durable: for each number of outstanding messages the acknowledgements per
                       second, their time, the rate of draining and what the server wrote to disk

Exit status:
  0  success
  1  failure at run time; messages above QoS 0 or connections were lost, or messages duplicated
  2  wrong usage or configuration";
