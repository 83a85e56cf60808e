//! `tidewire run` and `tidewire check`.

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};

use super::arguments::RunArguments;
use super::control::{Asked, Control, Wish};
use super::files::{self, Valid};
use super::pid_file::{PidFile, PidFileError};
use super::warnings;
use super::watch::Watch;
use crate::auth::acl::AclError;
use crate::config::{ConfigError, StoreConfig, StoreEngine};
use crate::server::{ReloadError, Server, StartError};

/// Why the broker ended badly, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The rules are wrong.
    #[error(transparent)]
    Acl(#[from] AclError),
    /// `tidewire reload` does not know whom to tell.
    #[error(
        "no control socket and no pid file: set control_socket or pid_file in the configuration, \
         or send SIGHUP to the broker"
    )]
    NobodyToReload,
    /// A running broker does not do what it is asked for.
    #[error("{0}")]
    Refused(String),
    /// `tidewire bridge` does not know whom to ask.
    #[error("no control socket: set control_socket in the configuration of the broker")]
    NoControlSocket,
    /// There is no broker to tell.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
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
                | Self::Acl(_)
                | Self::NobodyToReload
                | Self::NoControlSocket
                | Self::Start(
                    StartError::Users(_)
                        | StartError::Keys(_)
                        | StartError::Http(_)
                        | StartError::Acl(_)
                        | StartError::Bridge(_)
                )
        )
    }
}

/// Runs the broker until SIGTERM or SIGINT; a second signal ends the process at once.
pub fn run(arguments: &RunArguments) -> Result<(), RunError> {
    let config = arguments.config_with(files::check)?;
    let store = config.store.clone();
    super::log::start(&config.log);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut watch = Watch::new(arguments.config.clone(), &config);
        let pid_file = config.pid_file.clone();
        let control_socket = config.control_socket.clone();
        warn_of_memory(store.engine);
        warnings::log(arguments.config.as_deref(), &config);
        let mut server = Server::start(config)?;
        // Not before: a second broker by mistake must not take the file of the first.
        let _pid_file = pid_file.as_deref().map(PidFile::write).transpose()?;
        let control = control_socket.as_deref().map(Control::open).transpose()?;
        greet(server.addresses(), &store)?;
        loop {
            // Cancel safe: a signal that is not taken here is not lost to the other arms.
            let asker = tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => None,
                () = watch.changed() => None,
                Asked { wish, asker } = next_of(control.as_ref()) => match wish {
                    Wish::Reload => Some(asker),
                    Wish::Bridge(name, order) => {
                        asker.answer(server.order_bridge(&name, order)).await;
                        continue;
                    }
                },
            };
            let reloaded;
            (server, reloaded) = reload(server, arguments, &mut watch).await?;
            if let Some(asker) = asker {
                asker.answer(reloaded).await;
            }
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

/// What somebody asks on the control socket, if there is one.
async fn next_of(control: Option<&Control>) -> Asked {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// Reads the configuration again; the log says what came of it, and so does the answer.
async fn reload(
    mut server: Server,
    arguments: &RunArguments,
    watch: &mut Watch,
) -> Result<(Server, Result<String, String>), RunError> {
    let arguments = arguments.clone();
    let reloading = tokio::task::spawn_blocking(move || {
        let mut named = None;
        let reloaded = arguments
            .config_with(|config| {
                // Files that cannot be used are followed as well: they may be mended.
                named = Some(config.clone());
                files::check(config)
            })
            .map_err(ReloadError::from)
            .and_then(|config| {
                warnings::log(arguments.config.as_deref(), &config);
                server.reload(config)
            });
        (server, named, reloaded)
    });
    let (server, named, reloaded) = reloading.await.map_err(io::Error::other)?;
    if let Some(config) = named {
        watch.follow(&config);
    }
    Ok((server, report(reloaded)))
}

fn report(reloaded: Result<Vec<&str>, ReloadError>) -> Result<String, String> {
    match reloaded {
        Ok(waiting) if waiting.is_empty() => {
            tracing::info!("configuration reloaded");
            Ok("configuration reloaded".into())
        }
        Ok(waiting) => {
            let said = "configuration reloaded; some keys wait for the next start";
            tracing::warn!(?waiting, "{said}");
            Ok(format!("{said}: {}", waiting.join(", ")))
        }
        Err(error @ ReloadError::Late) => {
            tracing::error!("{error}");
            Err(error.to_string())
        }
        Err(error) => {
            let said = "configuration not reloaded, nothing is changed";
            tracing::error!(%error, "{said}");
            Err(format!("{said}: {error}"))
        }
    }
}

/// Checks the configuration with its certificates and keys.
pub fn check(arguments: &RunArguments) -> Result<(), RunError> {
    let mut valid = None;
    let config = arguments.config_with(|config| {
        valid = Some(files::read(config)?);
        Ok(())
    })?;
    warnings::show(arguments.config.as_deref(), &config)?;
    let mut out = io::stdout().lock();
    let listeners = config.listeners.len();
    writeln!(out, "configuration is valid: {listeners} listener(s)")?;
    if !config.bridges.is_empty() {
        writeln!(out, "bridges are valid: {}", config.bridges.len())?;
    }
    valid.map_or(Ok(()), |it| show(&it, &mut out))?;
    Ok(())
}

fn show(valid: &Valid, out: &mut impl Write) -> io::Result<()> {
    if let Some(users) = &valid.users {
        let count = users.user_count();
        writeln!(out, "password file is valid: {count} user(s)")?;
    }
    let tokens = valid.tokens.as_ref();
    if let Some(tokens) = tokens.filter(|it| it.key_count() > 0) {
        writeln!(out, "keys of tokens are valid: {}", tokens.key_count())?;
    }
    if valid.rules.has_rules() {
        let count = valid.rules.rule_count();
        writeln!(out, "permissions are valid: {count} rule(s)")?;
    }
    Ok(())
}

/// Whoever relies on acknowledgements has to know that they promise nothing.
fn warn_of_memory(engine: StoreEngine) {
    if engine == StoreEngine::Memory {
        tracing::warn!(
            "nothing is stored: sessions, waiting messages, retained messages and delayed wills \
             end with the process, acknowledged or not; `--store DIR` keeps them"
        );
    }
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
    let (subscribe, publish) = match addresses.first() {
        Some(url) => commands_for(url),
        None => return out.flush(),
    };
    writeln!(out, "try:")?;
    writeln!(out, "  {subscribe} -t 'sensors/#' -v")?;
    writeln!(out, "  {publish} -t sensors/kitchen -m 21.5")?;
    out.flush()
}

/// How to subscribe and to publish at the URL, but for topic and payload.
fn commands_for(url: &str) -> (String, String) {
    match url
        .strip_prefix("mqtt://")
        .and_then(|it| it.rsplit_once(':'))
    {
        Some(("127.0.0.1", "1883")) => ("mosquitto_sub".into(), "mosquitto_pub".into()),
        Some((host, port)) => {
            let host = match host.trim_matches(['[', ']']) {
                "0.0.0.0" | "::" => "localhost",
                host => host,
            };
            let to = format!("-h {host} -p {port}");
            (format!("mosquitto_sub {to}"), format!("mosquitto_pub {to}"))
        }
        None => {
            let trust = if url.starts_with("mqtts") || url.starts_with("wss") {
                " --insecure"
            } else {
                ""
            };
            let to = format!("--url {url}{trust}");
            (format!("tidewire sub {to}"), format!("tidewire pub {to}"))
        }
    }
}

/// Exit status when a second signal ends a stop that takes too long.
const EXIT_AT_ONCE: i32 = 1;
