//! What only a bridge over AMQP 1.0 has.

use super::rules::{Broken, demand};
use super::{Bridge, BridgeKind};

/// `[bridges.amqp10]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeAmqp10 {
    /// How the server names what it holds.
    pub dialect: Amqp10Dialect,
    /// How the password is shown.
    pub sasl_mechanism: Amqp10Mechanism,
    /// What the server is called in OPEN; `None` says nothing, or the virtual host.
    pub host_name: Option<String>,
    /// What messages are sent to.
    pub target: Amqp10Node,
    /// What is received from, by its name or as an address of the dialect.
    pub address: Option<String>,
    /// What the address is.
    pub source: Amqp10Node,
    /// Links on the way out at the same time, where each address needs one.
    pub links_max: u16,
    /// Bytes of a payload, 0 = as many as the server takes.
    pub message_bytes_max: usize,
    /// The priority of messages that are sent.
    pub priority: u16,
    /// `in`: how often a message may have been delivered without success, 0 = as often as it comes.
    pub deliveries_max: u32,
}

impl Default for BridgeAmqp10 {
    fn default() -> Self {
        Self {
            dialect: Amqp10Dialect::Plain,
            sasl_mechanism: Amqp10Mechanism::Plain,
            host_name: None,
            target: Amqp10Node::Topic,
            address: None,
            source: Amqp10Node::Queue,
            links_max: 64,
            message_bytes_max: 0,
            priority: 4,
            deliveries_max: 0,
        }
    }
}

/// How a server of AMQP 1.0 names what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amqp10Dialect {
    /// Addresses are topics, as they are.
    Plain,
    /// Apache Artemis.
    Artemis,
    /// Apache ActiveMQ Classic.
    ActiveMq,
    /// RabbitMQ up to 3.13.
    RabbitMq3,
    /// RabbitMQ from 4.0.
    RabbitMq4,
    /// Azure Service Bus and Event Hubs.
    Azure,
}

/// How a password is shown over AMQP 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amqp10Mechanism {
    /// As it is; anonymous without a user name.
    Plain,
    /// Not at all.
    Anonymous,
    /// The certificate says who we are.
    External,
}

/// What an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amqp10Node {
    /// Each subscriber gets each message.
    Topic,
    /// One consumer gets each message.
    Queue,
}

impl Amqp10Dialect {
    fn is_rabbitmq(self) -> bool {
        matches!(self, Self::RabbitMq3 | Self::RabbitMq4)
    }
}

/// Whether the keys of a bridge fit AMQP 1.0, or are left alone by other kinds.
pub(super) fn check(bridge: &Bridge) -> Result<(), Broken> {
    let own = &bridge.amqp10;
    if bridge.kind != BridgeKind::Amqp10 {
        let problem = "is for kind = \"amqp10\"";
        return demand("amqp10", *own == BridgeAmqp10::default(), problem);
    }
    let is_rabbitmq = own.dialect.is_rabbitmq();
    let rabbitmq = "is for amqp10.dialect = \"rabbitmq3\" and \"rabbitmq4\"";
    demand(
        "exchange",
        is_rabbitmq || bridge.exchange.is_none(),
        rabbitmq,
    )?;
    let is_free = is_rabbitmq || bridge.virtual_host.is_none();
    demand("virtual_host", is_free, rabbitmq)?;
    let is_once = bridge.virtual_host.is_none() || own.host_name.is_none();
    demand(
        "amqp10.host_name",
        is_once,
        "is made of virtual_host already",
    )?;
    check_source(bridge)?;
    check_mechanism(bridge)
}

fn check_source(bridge: &Bridge) -> Result<(), Broken> {
    let own = &bridge.amqp10;
    let receives = bridge.receives();
    let address = own.address.as_deref();
    let problem = "is missing: `in` and `both` receive from an address";
    demand("amqp10.address", !receives || address.is_some(), problem)?;
    let problem = "is of no use without `in` or `both`";
    demand("amqp10.address", receives || address.is_none(), problem)?;
    demand("amqp10.address", address != Some(""), "is empty")?;
    let fits = receives || own.deliveries_max == 0;
    demand("amqp10.deliveries_max", fits, problem)?;
    let is_consumable = own.source == Amqp10Node::Queue || own.dialect != Amqp10Dialect::RabbitMq4;
    let problem = "must be \"queue\": RabbitMQ 4 lets nobody receive from an exchange";
    demand("amqp10.source", is_consumable, problem)
}

fn check_mechanism(bridge: &Bridge) -> Result<(), Broken> {
    let mechanism = bridge.amqp10.sasl_mechanism;
    let has_certificate = bridge.certificate.is_some();
    let problem = "needs certificate and key: \"external\" is the name in the certificate";
    let fits = mechanism != Amqp10Mechanism::External || has_certificate;
    demand("amqp10.sasl_mechanism", fits, problem)?;
    let has_password = bridge.password.is_some()
        || bridge.password_file.is_some()
        || bridge.password_env.is_some();
    let problem = "is shown to nobody: use sasl_mechanism = \"plain\"";
    let is_shown = mechanism == Amqp10Mechanism::Plain || !has_password;
    demand("password", is_shown, problem)
}
