//! Arguments of the offline tools.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    List {
        /// Which topics
        filter: String,
        /// Directory of the store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
    /// Remove messages
    Delete {
        /// Which topics
        filter: String,
        /// Directory of the store
        #[arg(long, value_name = "DIR")]
        store: PathBuf,
    },
}
