//! What developers run, as `cargo xtask …`: tests, the demo, the benchmark, the installable tree.

use std::process::ExitCode;

mod bench;
mod demo;
mod dist;
mod processes;
mod setup;
mod test;

const USAGE: &str = "usage: cargo xtask COMMAND
  test [--long] [FILTER]   set up, build, check, run all tests; the last line is the count
  demo                     a Python job, checkpointed in the middle, killed and restarted
  bench [--quick] [FILTER] how long things take, beside other checkpointers where they are installed
  dist [DIR]               install Zap with man pages and completions below DIR [default: target/dist]";

fn main() -> ExitCode {
    processes::close_inherited();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((command, rest)) => match command.as_str() {
            "test" => test::run(rest),
            "demo" => demo::run(rest),
            "bench" => bench::run(rest),
            "dist" => dist::run(rest),
            "help" | "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            other => Err(format!("no command {other}\n{USAGE}")),
        },
        None => Err(USAGE.to_string()),
    };
    result.unwrap_or_else(|why| {
        eprintln!("xtask: {why}");
        ExitCode::from(2)
    })
}
