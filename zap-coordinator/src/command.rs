//! What zap-command does: one request, one answer, printed.

use crate::arguments::CommandArguments;
use std::fmt::Write as _;
use std::io::Write as _;
use zap_client::{Connection, Result, RuntimeDir};
use zap_wire::message::{Selection, Status};
use zap_wire::{environment, fault, FromCoordinator, ToCoordinator};

/// Exit statuses.
const DONE: u8 = 0;
const FAILED: u8 = 1;
/// A command line that is not understood, or that does not say which of several pods it means.
pub const USAGE: u8 = 2;

/// Carries out the command; returns the exit status.
pub fn run(arguments: &CommandArguments) -> u8 {
    match answer(arguments) {
        Ok(Some(answer)) => show(arguments, answer),
        Ok(None) if arguments.status => show(arguments, FromCoordinator::Status(Status { pods: Vec::new() })),
        Ok(None) if arguments.quit => complain("zap-coordinator: none is running"),
        Ok(None) => complain("no pod is running"),
        Err(error) => complain(&error.to_string()),
    }
}

/// How many coordinators are tried, each of which ends at the moment when it is asked.
const ATTEMPTS: u32 = 4;

/// The coordinator's answer; `None` if there is neither a coordinator nor a pod.
fn answer(arguments: &CommandArguments) -> Result<Option<FromCoordinator>> {
    let Some(runtime) = RuntimeDir::open()? else { return Ok(None) };
    // A coordinator that ends at this very moment is asked again, or its successor; but only what may be asked twice, or
    // has not been asked.
    let mut asked = 0;
    for _ in 0..ATTEMPTS {
        let connection = match Connection::connect(&runtime)? {
            Some(connection) => connection,
            // Its coordinator has been killed, but a pod may live: a new coordinator knows.
            None if has_tables(&runtime) => Connection::connect_or_start(&runtime)?,
            None => return Ok(None),
        };
        if !connection.send(&request(arguments))? {
            continue;
        }
        if std::env::var(environment::FAULT).is_ok_and(|name| name == fault::COMMAND_REQUESTED) {
            let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, libc::SIGSTOP);
        }
        if let Some(answer) = connection.receive()? {
            return Ok(Some(answer));
        }
        asked += 1;
        if !arguments.status || asked == 2 {
            break;
        }
    }
    Err(zap_client::Error::new("zap-coordinator", "ended before it answered"))
}

fn request(arguments: &CommandArguments) -> ToCoordinator {
    let selection = match &arguments.pod {
        Some(name) => Selection::Named(name.clone()),
        None if arguments.all => Selection::All,
        None => Selection::Only,
    };
    if arguments.checkpoint {
        ToCoordinator::Checkpoint { selection, kill: arguments.kill }
    } else if arguments.quit {
        ToCoordinator::Quit { kill: arguments.kill }
    } else if arguments.status {
        ToCoordinator::Status
    } else if let Some(seconds) = arguments.interval {
        ToCoordinator::Interval { selection, seconds }
    } else {
        ToCoordinator::Kill { selection }
    }
}

fn has_tables(runtime: &RuntimeDir) -> bool {
    let entries = std::fs::read_dir(runtime.pods_dir()).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .any(|name| name.as_encoded_bytes().ends_with(environment::TABLE_SUFFIX.as_bytes()))
}

fn show(arguments: &CommandArguments, answer: FromCoordinator) -> u8 {
    match answer {
        FromCoordinator::Checkpointed { pods } => {
            let (mut text, mut status) = (String::new(), DONE);
            for pod in pods {
                match pod.outcome {
                    Ok(record) => record.images.iter().for_each(|image| text.extend([image.as_str(), "\n"])),
                    Err(why) => status = complain(&format!("pod {}: {why}", pod.pod)),
                }
            }
            print(&text).max(status)
        }
        FromCoordinator::Status(mut status) => {
            if let Some(name) = &arguments.pod {
                status.pods.retain(|pod| pod.name == *name);
                if status.pods.is_empty() {
                    return complain(&format!("pod {name}: there is no such pod"));
                }
            }
            if !arguments.json {
                return print(&table(&status));
            }
            match serde_json::to_string(&status) {
                Ok(text) => print(&(text + "\n")),
                Err(error) => complain(&error.to_string()),
            }
        }
        FromCoordinator::Done { .. } => DONE,
        FromCoordinator::Failed { why, usage } => {
            complain(&why);
            if usage {
                USAGE
            } else {
                FAILED
            }
        }
        _ => complain("zap-coordinator: unexpected answer"),
    }
}

/// A name as a terminal may have it: in one line, and nothing that would move its cursor.
fn printable(name: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    name.chars().map(escaped).collect()
}

/// The status for people.
fn table(status: &Status) -> String {
    let mut text = String::new();
    for pod in &status.pods {
        let last = match &pod.last_checkpoint {
            // After a restart nobody knows how long the program once stood.
            Some(last) if last.stop_us == 0 => format!("generation {}, {} bytes", last.generation, last.bytes),
            Some(last) => {
                format!("generation {}, {} bytes, stopped for {} µs", last.generation, last.bytes, last.stop_us)
            }
            None => "no checkpoint yet".to_string(),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}  {last}", pod.name, pod.state);
        for process in &pod.processes {
            let alias = if process.virtual_pid == process.pid {
                String::new()
            } else {
                format!(" (itself: {})", process.virtual_pid)
            };
            let program = printable(&process.program);
            let _ = writeln!(text, "    {}{alias}  {program}  {}", process.pid, process.state);
            if let Some(why) = &process.not_checkpointable {
                let _ = writeln!(text, "        cannot be checkpointed: {why}");
            }
        }
    }
    text
}

fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => DONE,
        Err(error) => complain(&format!("standard output: {}", zap_client::error::reason(&error))),
    }
}

fn complain(message: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "zap-command: {message}");
    FAILED
}
