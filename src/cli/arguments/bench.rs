//! Arguments of the load generator.

use clap::{Args, ValueEnum};
use tidewire_protocol::codec::{ProtocolVersion, QoS};

use super::client::{Credentials, ServerUrl, qos, version};

/// Arguments of `tidewire bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArguments {
    /// What to measure
    pub scenario: Scenario,
    /// Server: mqtt://HOST:PORT, mqtts://, ws://HOST:PORT/PATH, wss:// or unix:///PATH
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub url: ServerUrl,
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
}

impl BenchArguments {
    /// Whether the flags make sense together, beyond what clap can tell.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.scenario {
            Scenario::Pairs if self.clients < 2 => {
                Err("scenario pairs needs --clients 2 or more".into())
            }
            _ => Ok(()),
        }
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
}
