//! zap-coordinator: serves the pods of one runtime directory.

use clap::Parser;
use std::process::ExitCode;
use zap_client::usage;
use zap_coordinator::arguments::CoordinatorArguments;

/// Exit status of a command line that is not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match CoordinatorArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) if usage::print("zap-coordinator", &said) => return USAGE.into(),
        Err(_) => return ExitCode::SUCCESS,
    };
    match zap_coordinator::server::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zap-coordinator: {error}");
            ExitCode::FAILURE
        }
    }
}
