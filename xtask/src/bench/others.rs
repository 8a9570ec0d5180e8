//! The same rows for CRIU and DMTCP, where they are installed, each with its ratio to what Zap took in this run. A row that
//! fails says so and the table goes on.

use super::{median, milliseconds, on_path, succeed, Bench};
use std::fs;
use std::process::Command;
use std::time::Instant;

const ABSENT: &str = "not measured";

/// What was measured, and how many times as long as `zap` that is.
fn shown(result: Result<f64, String>, zap: f64) -> String {
    result.map_or_else(
        |why| {
            println!("other: {}", why.lines().next().unwrap_or_default());
            "failed".to_string()
        },
        |time| format!("{} ({:.1}×)", milliseconds(time), time / zap),
    )
}

/// CRIU has no launcher: nothing is added.
pub fn criu_none() -> String {
    if on_path("criu") { "+0.0 ms" } else { ABSENT }.to_string()
}

fn criu(bench: &Bench, action: &str) -> Result<Command, String> {
    let images = bench.path("criu");
    fs::create_dir_all(&images).map_err(|error| error.to_string())?;
    let mut command = Command::new("criu");
    command.args([action, "--shell-job", "-D"]).arg(images);
    Ok(command)
}

/// A fresh run of gap.c in a session of its own, as CRIU wants it.
fn start_bare(bench: &Bench, megabytes: u64, notes: &fs::File) -> Result<u32, String> {
    let mut command = Command::new("setsid");
    command.arg("--wait");
    let child = bench.start_gap(command, megabytes, notes)?;
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
    Ok(children.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(child.id()))
}

fn end(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
}

pub fn criu_stop(bench: &Bench, megabytes: u64, zap: f64) -> String {
    if !on_path("criu") {
        return ABSENT.to_string();
    }
    let measure = || {
        let notes = bench.notes()?;
        let pid = start_bare(bench, megabytes, &notes)?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut dump = criu(bench, "dump")?;
            dump.args(["--leave-running", "-t", &pid.to_string()]);
            seen.push(bench.gap_over(&notes, || succeed(&mut dump).map(|_| ()))?);
        }
        end(pid);
        Ok(median(seen))
    };
    shown(measure(), zap)
}

pub fn criu_restart(bench: &Bench, megabytes: u64, zap: f64) -> String {
    if !on_path("criu") {
        return ABSENT.to_string();
    }
    let measure = || {
        let notes = bench.notes()?;
        let pid = start_bare(bench, megabytes, &notes)?;
        succeed(criu(bench, "dump")?.args(["-t", &pid.to_string()]))?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut restore = criu(bench, "restore")?;
            seen.push(bench.first_after(&notes, || succeed(restore.arg("--restore-detached")))?.0);
            end(pid);
        }
        Ok(median(seen))
    };
    shown(measure(), zap)
}

/// The port of this run's own DMTCP coordinator.
const PORT: &str = "7913";

fn dmtcp(bench: &Bench, tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["--coord-port", PORT]);
    if tool != "dmtcp_command" {
        command.arg("--ckptdir").arg(bench.path("dmtcp"));
    }
    command
}

pub fn dmtcp_stop(bench: &Bench, megabytes: u64, zap: f64) -> String {
    if !on_path("dmtcp_launch") {
        return ABSENT.to_string();
    }
    let measure = || {
        let notes = bench.notes()?;
        let mut child = bench.start_gap(dmtcp(bench, "dmtcp_launch"), megabytes, &notes)?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut command = dmtcp(bench, "dmtcp_command");
            seen.push(bench.gap_over(&notes, || succeed(command.arg("--bcheckpoint")).map(|_| ()))?);
        }
        succeed(dmtcp(bench, "dmtcp_command").arg("--quit"))?;
        let _ = child.wait();
        Ok(median(seen))
    };
    shown(measure(), zap)
}

pub fn dmtcp_restart(bench: &Bench, megabytes: u64, zap: f64) -> String {
    if !on_path("dmtcp_launch") {
        return ABSENT.to_string();
    }
    let measure = || {
        let notes = bench.notes()?;
        let _ = fs::remove_dir_all(bench.path("dmtcp"));
        let mut child = bench.start_gap(dmtcp(bench, "dmtcp_launch"), megabytes, &notes)?;
        succeed(dmtcp(bench, "dmtcp_command").arg("--bcheckpoint"))?;
        succeed(dmtcp(bench, "dmtcp_command").arg("--kill"))?;
        let _ = child.wait();
        let entries = fs::read_dir(bench.path("dmtcp")).map_err(|error| error.to_string())?;
        let image = entries.flatten().map(|entry| entry.path()).find(|path| path.extension() == Some("dmtcp".as_ref()));
        let image = image.ok_or("DMTCP wrote no image")?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut restart = dmtcp(bench, "dmtcp_restart");
            let start = || restart.arg(&image).spawn().map_err(|error| error.to_string());
            let (time, mut child) = bench.first_after(&notes, start)?;
            seen.push(time);
            succeed(dmtcp(bench, "dmtcp_command").arg("--kill"))?;
            let _ = child.wait();
        }
        succeed(dmtcp(bench, "dmtcp_command").arg("--quit"))?;
        Ok(median(seen))
    };
    shown(measure(), zap)
}

/// What DMTCP adds to a launch that takes `bare`, beside the `zap` that Zap adds.
pub fn dmtcp_launch(takes: usize, bare: f64, zap: f64) -> String {
    if !on_path("dmtcp_launch") {
        return ABSENT.to_string();
    }
    let measure = || {
        let mut seen = Vec::new();
        for _ in 0..takes {
            let start = Instant::now();
            succeed(Command::new("dmtcp_launch").args(["--coord-port", PORT, "/bin/true"]))?;
            seen.push(start.elapsed().as_secs_f64() * 1e3);
        }
        succeed(Command::new("dmtcp_command").args(["--coord-port", PORT, "--quit"]))?;
        Ok(median(seen) - bare)
    };
    format!("+{}", shown(measure(), zap))
}
