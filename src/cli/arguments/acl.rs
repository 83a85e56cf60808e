//! Arguments of `tidewire acl`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use tidewire_protocol::topic::Topic;

use super::RunArguments;
use crate::config::{Config, ConfigError, is_namespace};

/// What is asked about the rules.
#[derive(Subcommand, Clone, Debug)]
pub enum AclCommand {
    /// Say whether a client may do something, and which rule decides
    #[command(after_help = EXIT_CODES)]
    Test(AclTestArguments),
}

/// Arguments of `tidewire acl test`.
#[derive(Args, Clone, Debug)]
pub struct AclTestArguments {
    /// Configuration file with the rules
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// ACL file, instead of that of the configuration
    #[arg(long, value_name = "FILE")]
    pub acl_file: Option<PathBuf>,
    /// User name; without one, the client is anonymous
    #[arg(short, long, value_name = "NAME")]
    pub user: Option<String>,
    /// Client id
    #[arg(long, value_name = "ID", default_value = "test")]
    pub client: String,
    /// Name in the client's certificate
    #[arg(long, value_name = "NAME")]
    pub certificate: Option<String>,
    /// Namespace of the client, instead of that of its user or certificate in the configuration
    ///
    /// Needed where a token, the authentication server, or the O or OU of a certificate names it.
    #[arg(long, value_name = "NAME", value_parser = namespace)]
    pub namespace: Option<String>,
    /// Mount point of the client's listener, if listeners have several; "" for none
    #[arg(long, value_name = "PREFIX/", value_parser = mount_point)]
    pub mount_point: Option<String>,
    /// Where the client is
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// Group that the proof of the identity names; may be repeated
    #[arg(long = "group", value_name = "NAME")]
    pub groups: Vec<String>,
    /// The message or the will has RETAIN set
    #[arg(long)]
    pub retain: bool,
    /// What the client wants to do
    pub action: TestedAction,
    /// Topic, or the filter of a subscription
    pub topic: String,
}

/// What the client wants to do.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestedAction {
    /// Send a message
    Publish,
    /// Make a subscription
    Subscribe,
    /// Be sent a message
    Receive,
    /// Leave a will
    Will,
}

impl AclTestArguments {
    /// The configuration that holds the rules.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let run = RunArguments {
            config: self.config.clone(),
            ..RunArguments::default()
        };
        let mut config = run.config()?;
        if let Some(file) = &self.acl_file {
            config.acl.file = Some(file.clone());
        }
        Ok(config)
    }
}

fn namespace(name: &str) -> Result<String, &'static str> {
    let problem = "must be one level of a topic, without wildcards, `/` and `$`";
    is_namespace(name).then(|| name.to_owned()).ok_or(problem)
}

fn mount_point(prefix: &str) -> Result<String, &'static str> {
    let is_topic = Topic::parse(prefix, usize::MAX).is_ok();
    let is_usual = !prefix.starts_with('$') && prefix.ends_with('/');
    let problem = "must be levels of a topic without wildcards and `$`, ending with `/`";
    (prefix.is_empty() || (is_topic && is_usual))
        .then(|| prefix.to_owned())
        .ok_or(problem)
}

const EXIT_CODES: &str = "\
Exit status:
  0  allowed
  1  denied
  2  wrong usage, configuration or rules";
