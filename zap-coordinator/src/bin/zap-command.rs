//! zap-command: gives orders to running pods.

use clap::Parser;
use zap_coordinator::arguments::CommandArguments;

fn main() -> std::process::ExitCode {
    zap_coordinator::command::run(&CommandArguments::parse()).into()
}
