//! `tidewire reload`.

use std::io::{self, Write};

use super::arguments::ReloadArguments;
use super::files;
use super::pid_file::hang_up;
use super::run::{RunError, validate};

/// Checks what the broker would read, and tells it to.
pub fn run(arguments: &ReloadArguments) -> Result<(), RunError> {
    let config = arguments.run.config_with(files::check)?;
    validate(&config)?;
    let pid_file = arguments.pid_file.clone().or(config.pid_file);
    let pid_file = pid_file.ok_or(RunError::NoPidFile)?;
    hang_up(&pid_file)?;
    writeln!(
        io::stdout(),
        "the broker reads its configuration again; its log says the rest"
    )?;
    Ok(())
}
