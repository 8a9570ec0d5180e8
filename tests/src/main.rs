//! Runs whole programs and real applications under Zap and looks whether they notice: `zap-tests [OPTIONS] [FILTER]`.
//!
//! Each test runs in a worker, a process of its own that is the subreaper of everything the test starts: whatever a
//! test leaves behind ends with its worker, and nothing else does. The last line of output is the count.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod case;
mod changed_files;
mod command_line;
mod compressed;
mod coordinator;
mod faults;
mod foreign;
mod huge_pages;
mod ids;
mod images;
mod jobs;
mod manifest;
mod memory_group;
mod options;
mod own_directories;
mod panics;
mod place;
mod private;
mod process;
mod processes;
mod project;
mod random;
mod runner;
mod scene;
mod special;
mod state;
mod stopped;
mod storage;
mod stress;
mod terminal;

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub struct Arguments {
    filter: String,
    long: bool,
    list: bool,
    keep: bool,
    exact: bool,
    repeat: Option<u32>,
    /// Programs made from new numbers, and none from known ones.
    seeds: Option<u32>,
    worker: Option<String>,
    place: Option<PathBuf>,
    built: Option<PathBuf>,
}

const USAGE: &str = "usage: zap-tests [--long] [--list] [--keep] [--repeat N] [--seeds N] [--built DIR] [FILTER]";

fn main() -> ExitCode {
    process::close_inherited();
    process::forget_signals();
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("zap-tests: {why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let result = match (&arguments.worker, &arguments.place) {
        (Some(name), Some(place)) => runner::work(name, place, tests, arguments.long),
        _ if arguments.list => runner::list(tests),
        _ => runner::run(&arguments, tests),
    };
    result.unwrap_or_else(|why| {
        eprintln!("zap-tests: {why}");
        ExitCode::from(2)
    })
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--long" => arguments.long = true,
            "--list" => arguments.list = true,
            "--keep" => arguments.keep = true,
            "--exact" => arguments.exact = true,
            "--repeat" => arguments.repeat = Some(value()?.parse().map_err(|_| "--repeat needs a number")?),
            "--seeds" => arguments.seeds = Some(value()?.parse().map_err(|_| "--seeds needs a number")?),
            "--worker" => arguments.worker = Some(value()?),
            "--place" => arguments.place = Some(value()?.into()),
            "--built" => arguments.built = Some(value()?.into()),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            filter if arguments.filter.is_empty() => arguments.filter = filter.to_string(),
            _ => return Err("more than one filter".to_string()),
        }
    }
    Ok(arguments)
}
