//! `tidewire run` and `tidewire check`.

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};

use super::arguments::RunArguments;
use crate::auth::{PasswordFile, PasswordFileError};
use crate::bridge::{self, BridgeError};
use crate::config::{Config, ConfigError, StoreConfig, StoreEngine};
use crate::net::door::{OpenError, check_certificates};
use crate::server::{Server, StartError};

/// Why the broker ended badly, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate or key is wrong.
    #[error(transparent)]
    Files(#[from] OpenError),
    /// The password file is wrong.
    #[error(transparent)]
    Users(#[from] PasswordFileError),
    /// A bridge is wrong.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The broker cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl RunError {
    /// Whether the operator has to change the configuration.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Files(_)
                | Self::Users(_)
                | Self::Bridge(_)
                | Self::Start(StartError::Users(_) | StartError::Bridge(_))
        )
    }
}

/// Runs the broker until SIGTERM or SIGINT; a second signal ends the process at once.
pub fn run(arguments: &RunArguments) -> Result<(), RunError> {
    let config = arguments.config()?;
    let store = config.store.clone();
    super::log::start(&config.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(config)?;
        greet(server.addresses(), &store)?;
        // Cancel safe: a signal that is not taken here is not lost to the other arm.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        let stopped = tokio::task::spawn_blocking(move || server.stop());
        tokio::select! {
            stopped = stopped => stopped.map_err(io::Error::other)??,
            _ = terminate.recv() => std::process::exit(EXIT_AT_ONCE),
            _ = interrupt.recv() => std::process::exit(EXIT_AT_ONCE),
        }
        Ok(())
    })
}

/// Checks the configuration with its certificates and keys.
pub fn check(arguments: &RunArguments) -> Result<(), RunError> {
    let config = arguments.config()?;
    check_certificates(&config)?;
    bridge::check(&config)?;
    let Config {
        listeners,
        auth,
        bridges,
        ..
    } = config;
    let users = auth.password_file.as_deref();
    let users = users.map(PasswordFile::read).transpose()?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "configuration is valid: {} listener(s)",
        listeners.len()
    )?;
    if !bridges.is_empty() {
        writeln!(out, "bridges are valid: {}", bridges.len())?;
    }
    if let Some(users) = users {
        writeln!(
            out,
            "password file is valid: {} user(s)",
            users.user_count()
        )?;
    }
    Ok(())
}

fn greet(addresses: &[String], store: &StoreConfig) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "tidewire {} is ready", env!("CARGO_PKG_VERSION"))?;
    for address in addresses {
        writeln!(out, "  listening on {address}")?;
    }
    match store.engine {
        StoreEngine::Lmdb => writeln!(out, "  storing in {}", store.directory.display())?,
        StoreEngine::Memory => writeln!(
            out,
            "sessions, queues and retained messages are kept in memory (--store DIR keeps them)"
        )?,
    }
    writeln!(out, "try:")?;
    writeln!(out, "  mosquitto_sub -t 'sensors/#' -v")?;
    writeln!(out, "  mosquitto_pub -t sensors/kitchen -m 21.5")?;
    out.flush()
}

/// Exit status when a second signal ends a stop that takes too long.
const EXIT_AT_ONCE: i32 = 1;
