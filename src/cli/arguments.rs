//! The command line: commands, flags and their help.
//!
//! Owns what may be written and refuses what cannot be meant. It does nothing by itself.

mod acl;
mod bench;
mod client;
mod passwd;
mod run;
mod server;
mod store;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};

pub use acl::{AclCommand, AclTestArguments, TestedAction};
pub use bench::{BenchArguments, Scenario};
pub use client::{
    ConnectionArguments, Credentials, PublishArguments, ServerUrl, SubscribeArguments,
    UserProperty, WillArguments,
};
pub use passwd::PasswdArguments;
pub use run::{BridgeArguments, BridgeVerb, ReloadArguments, RunArguments};
pub use server::ServerArguments;
pub use store::{RetainedArguments, RetainedCommand, RetainedTarget, StoreArguments, StoreCommand};

/// An MQTT broker for versions 3.1, 3.1.1 and 5.0.
///
/// Without a command, tidewire runs the broker.
#[derive(Clone, Debug, Parser)]
#[command(name = "tidewire", version, after_help = EXIT_CODES)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; `None` runs the broker with `run`.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

impl Arguments {
    /// The arguments of this process; prints help, or what is wrong, and exits when that is all
    /// there is to do.
    pub fn of_process() -> Self {
        Self::read(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// The arguments in `words`, the first of which is the name of the program.
    ///
    /// # Errors
    ///
    /// Help was asked for, or the words cannot be meant.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments = Self::try_parse_from(words)?;
        let checked = match &arguments.command {
            Some(Command::Pub(publish)) => publish.check(),
            Some(Command::Sub(subscribe)) => subscribe.check(),
            Some(Command::Bench(bench)) => bench.check(),
            _ => Ok(()),
        };
        match checked {
            Ok(()) => Ok(arguments),
            Err(problem) => Err(Self::command().error(ErrorKind::ArgumentConflict, problem)),
        }
    }

    /// The command to carry out.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the broker
    #[command(after_help = EXIT_CODES)]
    Run(RunArguments),
    /// Check the configuration that `run` would use, and say what is wrong with it
    #[command(after_help = EXIT_CODES)]
    Check(RunArguments),
    /// Check the configuration, and tell the running broker to read it again
    #[command(after_help = EXIT_CODES)]
    Reload(ReloadArguments),
    /// Ask or tell a running broker about one of its bridges
    #[command(after_help = EXIT_CODES)]
    Bridge(BridgeArguments),
    /// Make an authority, a server and a client certificate for development
    #[command(after_help = EXIT_CODES)]
    Certs(CertsArguments),
    /// Add, change or delete a user of a password file
    #[command(after_help = EXIT_CODES)]
    Passwd(PasswdArguments),
    /// Turn a mosquitto.conf into a configuration file, with comments for what has no counterpart
    #[command(after_help = EXIT_CODES)]
    Import(ImportArguments),
    /// Ask the permission rules
    #[command(subcommand)]
    Acl(AclCommand),
    /// Publish messages
    #[command(after_help = EXIT_CODES, disable_help_flag = true)]
    Pub(PublishArguments),
    /// Subscribe and print messages
    #[command(after_help = EXIT_CODES, disable_help_flag = true)]
    Sub(SubscribeArguments),
    /// Measure a broker
    #[command(after_help = bench::BENCH_HELP, disable_help_flag = true)]
    Bench(BenchArguments),
    /// Look at, copy and shrink the store of a broker that is not running
    #[command(after_help = EXIT_CODES)]
    Store(StoreArguments),
    /// List or delete the retained messages of a broker, running or not
    #[command(after_help = EXIT_CODES)]
    Retained(RetainedArguments),
    /// Print the version
    Version,
}

/// Arguments of `tidewire import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArguments {
    /// The mosquitto.conf
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Arguments of `tidewire certs`.
#[derive(Args, Clone, Debug)]
pub struct CertsArguments {
    /// Directory to write the PEM files to
    #[arg(long, value_name = "DIR", default_value = "certs")]
    pub out: PathBuf,
    /// Name or address of the server; may be repeated
    #[arg(long = "host", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub hosts: Vec<String>,
}

/// The exit status of every command, for its help.
const EXIT_CODES: &str = "\
Exit status:
  0  success
  1  failure at run time
  2  wrong usage or configuration
  3  the store of a running broker failed; its log says what to do";
