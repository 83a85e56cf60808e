//! Arguments, start and exit status.

use std::io::{self, Write};
use std::process::ExitCode;

use tidewire::cli::arguments::{AclCommand, Arguments, Command, RetainedCommand};
use tidewire::cli::{
    acl, bench, certs, client, control, import, passwd, publish, reload, retained, run, store,
    subscribe,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Arguments::of_process().into_command() {
        Command::Run(arguments) => finish(run::run(&arguments)),
        Command::Check(arguments) => finish(run::check(&arguments)),
        Command::Reload(arguments) => finish(reload::run(&arguments)),
        Command::Bridge(arguments) => finish(control::run(&arguments)),
        Command::Certs(arguments) => {
            match certs::write_development_certificates(&arguments.out, &arguments.hosts) {
                Ok(files) => {
                    let mut out = io::stdout().lock();
                    for file in files {
                        // A closed pipe does not make the files invalid.
                        let _ = writeln!(out, "{}", file.display());
                    }
                    ExitCode::SUCCESS
                }
                Err(error) => fail(&error, 1),
            }
        }
        Command::Import(arguments) => match import::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Command::Passwd(arguments) => match passwd::run(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
        Command::Acl(AclCommand::Test(arguments)) => match acl::test(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => fail(&error, 2),
        },
        Command::Version => {
            let _ = writeln!(io::stdout(), "tidewire {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Command::Pub(arguments) => finish_client(publish::run(&arguments)),
        Command::Sub(arguments) => finish_client(subscribe::run(&arguments)),
        Command::Bench(arguments) => finish_client(bench::run(&arguments)),
        Command::Store(arguments) => finish_store(store::run(&arguments)),
        Command::Retained(arguments) => retain(&arguments.command),
    }
}

fn retain(command: &RetainedCommand) -> ExitCode {
    let (RetainedCommand::List(target) | RetainedCommand::Delete(target)) = command;
    match &target.store {
        Some(store) => finish_store(store::run_retained(command, store)),
        None => finish_client(retained::run(command)),
    }
}

fn finish(result: Result<(), run::RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, if error.is_configuration() { 2 } else { 1 }),
    }
}

fn finish_client(result: Result<(), client::ClientError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, if error.is_usage() { 2 } else { 1 }),
    }
}

fn finish_store(result: Result<(), store::StoreCommandError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &dyn std::error::Error, status: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "tidewire: {error}");
    ExitCode::from(status)
}
