//! `tidewire reload`.

use std::io::{self, Write};
use std::path::Path;

use super::arguments::ReloadArguments;
use super::control::Broker;
use super::files;
use super::pid_file::hang_up;
use super::run::RunError;
use super::warnings;

/// Checks what the broker would read, and has it read: over its control socket, which says what
/// came of it, or else by a signal.
pub fn run(arguments: &ReloadArguments) -> Result<(), RunError> {
    let config = arguments.run.config_with(files::check)?;
    warnings::show(arguments.run.config.as_deref(), &config)?;
    let asked_by_signal = arguments.pid_file.is_some() && arguments.control_socket.is_none();
    let socket = arguments.control_socket.clone().or(config.control_socket);
    let pid_file = arguments.pid_file.clone().or(config.pid_file);
    let said = match (socket.filter(|_| !asked_by_signal), pid_file) {
        (Some(socket), pid_file) => match (Broker::at(&socket), pid_file) {
            (Ok(broker), _) => broker.reload()?,
            // A socket that the configuration names since waits for the next start.
            (Err(_), Some(pid_file)) if arguments.control_socket.is_none() => signal(&pid_file)?,
            (Err(error), _) => return Err(error),
        },
        (None, Some(pid_file)) => signal(&pid_file)?,
        (None, None) => return Err(RunError::NobodyToReload),
    };
    writeln!(io::stdout(), "{said}")?;
    Ok(())
}

fn signal(pid_file: &Path) -> Result<String, RunError> {
    hang_up(pid_file)?;
    Ok("the broker reads its configuration again; only its log says what comes of it".into())
}
