//! `tidewire store` and `tidewire retained`: offline work on a store.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use tidewire_protocol::topic::{TopicError, TopicFilter};

use super::arguments::{RetainedCommand, StoreArguments, StoreCommand};
use crate::store::StoreError;
use crate::store::tools::{self, Info, TransferError};

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be exported or imported.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A file failed.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The filter is none.
    #[error("`{filter}` is no topic filter: {problem}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: TopicError,
    },
}

/// Does what `tidewire store` was asked for.
pub fn run(arguments: &StoreArguments) -> Result<(), StoreCommandError> {
    let mut bar = Bar::new();
    let mut progress = |done, total| bar.show(done, total);
    match &arguments.command {
        StoreCommand::Info { directory } => print_info(&tools::info(directory)?)?,
        StoreCommand::Check { directory } => {
            let info = tools::check(directory, &mut progress)?;
            bar.end();
            print_info(&info)?;
            writeln!(io::stdout(), "no damage found")?;
        }
        StoreCommand::Export { directory, out } => {
            match out {
                Some(path) => {
                    let mut out = BufWriter::new(File::create_new(path).map_err(of_file(path))?);
                    tools::export(directory, &mut out, &mut progress)?;
                    out.into_inner().map_err(io::Error::from)?.sync_all()?;
                }
                None => {
                    let mut out = BufWriter::new(io::stdout().lock());
                    tools::export(directory, &mut out, &mut progress)?;
                }
            }
            bar.end();
        }
        StoreCommand::Import { directory, from } => {
            let lines = match from {
                Some(path) => {
                    let mut lines = BufReader::new(File::open(path).map_err(of_file(path))?);
                    tools::import(directory, &mut lines, &mut progress)?
                }
                None => tools::import(directory, &mut io::stdin().lock(), &mut progress)?,
            };
            bar.end();
            writeln!(io::stdout(), "{lines} lines imported")?;
        }
        StoreCommand::Compact { directory } => {
            let (before, after) = tools::compact(directory)?;
            writeln!(io::stdout(), "{before} bytes before, {after} bytes now")?;
        }
    }
    Ok(())
}

/// Does what `tidewire retained` was asked for with a store that no broker has.
pub fn run_retained(command: &RetainedCommand, store: &Path) -> Result<(), StoreCommandError> {
    let (RetainedCommand::List(target) | RetainedCommand::Delete(target)) = command;
    let filter = &target.filter;
    TopicFilter::parse(filter, usize::MAX).map_err(|problem| StoreCommandError::Filter {
        filter: filter.clone(),
        problem,
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    if let RetainedCommand::Delete(_) = command {
        let count = tools::delete_retained(store, filter)?;
        writeln!(out, "{count} retained messages deleted")?;
        return Ok(out.flush()?);
    }
    let mut written = Ok(());
    tools::retained(store, filter, |message| {
        let bytes = message.payload().len();
        if written.is_ok() {
            written = writeln!(out, "{} {bytes} bytes", message.topic());
        }
    })?;
    written?;
    Ok(out.flush()?)
}

fn of_file(path: &Path) -> impl FnOnce(io::Error) -> StoreCommandError {
    let path = path.to_owned();
    |source| StoreCommandError::File { path, source }
}

fn print_info(info: &Info) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "schema version: {}", info.schema)?;
    writeln!(
        out,
        "data file: {} bytes, {} in use",
        info.file_bytes, info.used_bytes
    )?;
    for (name, rows) in &info.tables {
        writeln!(out, "{name}: {rows}")?;
    }
    Ok(())
}

/// One line on a terminal that says how far it is; nothing elsewhere.
struct Bar {
    is_terminal: bool,
}

impl Bar {
    fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, done: u64, total: u64) {
        if !self.is_terminal {
            return;
        }
        let mut out = io::stderr();
        // A terminal that is gone stops no work.
        let _ = match (done * 100).checked_div(total) {
            Some(percent) => write!(out, "\r{percent:3} %  {done} of {total} rows"),
            None => write!(out, "\r{done} rows"),
        };
    }

    fn end(&mut self) {
        if self.is_terminal {
            let _ = writeln!(io::stderr());
        }
    }
}
