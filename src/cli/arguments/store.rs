//! Arguments of the tools for stores and for what is retained.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::client::Credentials;
use super::server::ServerArguments;

/// Arguments of `tidewire store`.
#[derive(Args, Clone, Debug)]
pub struct StoreArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What `tidewire store` does.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreCommand {
    /// Count what the store holds
    Info {
        /// Directory of the store
        directory: PathBuf,
    },
    /// Look at every page and every row, and say what is damaged
    Check {
        /// Directory of the store
        directory: PathBuf,
    },
    /// Write everything as JSON lines; the store is not changed
    Export {
        /// Directory of the store
        directory: PathBuf,
        /// File to write, standard output without
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Fill a new store from exported lines
    Import {
        /// Directory of the new store
        directory: PathBuf,
        /// File to read, standard input without
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Give free pages back to the disk
    Compact {
        /// Directory of the store
        directory: PathBuf,
    },
}

/// Arguments of `tidewire retained`.
#[derive(Args, Clone, Debug)]
pub struct RetainedArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: RetainedCommand,
}

/// What `tidewire retained` does.
#[derive(Clone, Debug, Subcommand)]
pub enum RetainedCommand {
    /// Print topics and payload sizes
    #[command(disable_help_flag = true)]
    List(RetainedTarget),
    /// Remove messages
    #[command(disable_help_flag = true)]
    Delete(RetainedTarget),
}

/// Which retained messages, and where they are.
#[derive(Args, Clone, Debug)]
pub struct RetainedTarget {
    /// Which topics
    pub filter: String,
    /// Directory of the store of a broker that is not running; without it a running one is asked
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "host", "port"])]
    pub store: Option<PathBuf>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a doc here would replace the help of the command"
    )]
    pub server: ServerArguments,
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
