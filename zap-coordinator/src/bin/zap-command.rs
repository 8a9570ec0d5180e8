//! zap-command: gives orders to running pods.

use clap::Parser;
use std::process::ExitCode;
use zap_client::usage;
use zap_coordinator::arguments::CommandArguments;
use zap_coordinator::command;

fn main() -> ExitCode {
    match CommandArguments::try_parse() {
        Ok(arguments) => command::run(&arguments).into(),
        Err(said) if usage::print("zap-command", &said) => command::USAGE.into(),
        Err(_) => ExitCode::SUCCESS,
    }
}
