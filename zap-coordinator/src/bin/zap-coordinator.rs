//! zap-coordinator: serves the pods of one runtime directory.

use clap::Parser;
use zap_coordinator::arguments::CoordinatorArguments;

fn main() -> std::process::ExitCode {
    let arguments = CoordinatorArguments::parse();
    match zap_coordinator::server::run(&arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("zap-coordinator: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
