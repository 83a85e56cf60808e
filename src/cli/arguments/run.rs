//! Arguments of the broker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::{Broken, Config, ConfigError, Listener, Loader, Origin, is_secret};

/// Arguments of `tidewire run` and `tidewire check`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArguments {
    /// Configuration file; without one, the defaults hold
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to listen on instead of those of the file; may be repeated
    ///
    /// tcp://HOST:PORT, tls://HOST:PORT?cert=FILE&key=FILE, ws://HOST:PORT/PATH,
    /// wss://HOST:PORT/PATH?cert=FILE&key=FILE or unix:///PATH; any key of a listener may follow
    /// as a parameter.
    #[arg(long, value_name = "URL")]
    pub listen: Vec<String>,
    /// Let clients come without credentials, except where a listener forbids it
    #[arg(long)]
    pub allow_anonymous: bool,
    /// File of the users whose password is checked, written by `tidewire passwd`
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Threads that serve clients, 0 = one per core
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// Where sessions and messages are kept: a directory, or memory
    #[arg(long, value_name = "DIR|memory")]
    pub store: Option<String>,
    /// What is logged: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,
}

/// Arguments of `tidewire reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArguments {
    /// Those that the broker was started with, to check what it would read.
    #[command(flatten)]
    pub run: RunArguments,
    /// Control socket of the broker, instead of that of the configuration
    #[arg(long, value_name = "FILE")]
    pub control_socket: Option<PathBuf>,
    /// File with the process id of the broker that is told by a signal, which answers nothing
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

/// Arguments of `tidewire bridge`.
#[derive(Args, Clone, Debug)]
pub struct BridgeArguments {
    /// Name of the bridge
    pub name: String,
    /// What to ask for
    #[arg(value_enum)]
    pub verb: BridgeVerb,
    /// Those that the broker was started with, to find its control socket.
    #[command(flatten)]
    pub run: RunArguments,
    /// Control socket of the broker, instead of that of the configuration
    #[arg(long, value_name = "FILE")]
    pub control_socket: Option<PathBuf>,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BridgeVerb {
    /// How it is, as JSON
    State,
    /// Disconnect; the queue is filled and kept
    Pause,
    /// Connect and go on
    Resume,
    /// Take nothing new, send what waits, then disconnect
    Drain,
    /// Drop what waits; what the other broker may have stays
    Purge,
}

impl RunArguments {
    /// The configuration: flags win over the environment of the process, which wins over the file.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.config_with(|_| Ok(()))
    }

    /// As [`Self::config`], if what it names on this machine passes `check`.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn config_with(
        &self,
        check: impl FnOnce(&Config) -> Result<(), Broken>,
    ) -> Result<Config, ConfigError> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            match value.into_string() {
                Ok(value) => environment.push((name, value)),
                Err(value) if name.starts_with("TIDEWIRE_") => {
                    let found = if is_secret(&name) {
                        "a secret".to_owned()
                    } else {
                        format!("{value:?}")
                    };
                    return Err(ConfigError::Value {
                        origin: Origin::Environment(name.clone()),
                        key: name,
                        found,
                        expected: "UTF-8".into(),
                    });
                }
                Err(_) => {}
            }
        }
        self.loader(environment.into_iter())?.finish_with(check)
    }

    /// As [`Self::config`], in another environment.
    ///
    /// # Errors
    ///
    /// The first setting that cannot be used.
    pub fn config_in(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        self.loader(environment)?.finish()
    }

    fn loader(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loader, ConfigError> {
        let mut loader = Loader::default();
        if let Some(path) = &self.config {
            loader.file(path)?;
        }
        loader.environment(environment)?;
        if !self.listen.is_empty() {
            let urls = self.listen.iter();
            loader.listeners(
                urls.map(|url| Listener::from_url(url))
                    .collect::<Result<_, _>>()?,
            );
        }
        if self.allow_anonymous {
            loader.argument("--allow-anonymous", "allow_anonymous", "true")?;
        }
        if let Some(file) = &self.password_file {
            let file = file.to_string_lossy();
            loader.argument("--password-file", "auth.password_file", &file)?;
        }
        if let Some(shards) = &self.shards {
            loader.argument("--shards", "shards", shards)?;
        }
        if let Some(level) = &self.log {
            loader.argument("--log", "log.level", level)?;
        }
        match self.store.as_deref() {
            None => {}
            Some("memory") => loader.argument("--store", "store.engine", "memory")?,
            Some(directory) => {
                loader.argument("--store", "store.engine", "lmdb")?;
                loader.argument("--store", "store.directory", directory)?;
            }
        }
        Ok(loader)
    }
}
