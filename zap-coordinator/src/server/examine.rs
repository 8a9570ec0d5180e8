//! Whether a process can be signalled: judged from `/proc/<pid>` before anything of a checkpoint is felt in it.

use crate::core::Verdict;
use std::fs;
use std::path::Path;
use zap_sys::process;
use zap_wire::message::Refusal;

/// Why a program with a filter is left alone: it might forbid what Zap does, and end the program for it.
pub const FILTERED: &str = "the program has set one, or a Landlock domain, under which Zap cannot work";

/// Why a process with ids of its own is left alone.
const ELSEWHERE: &str = "is in another PID namespace than the pod; wait until it has ended";

/// What the pod table says about the process.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub ready: bool,
    /// It is setting, or has set, a seccomp filter of its own.
    pub closed: bool,
    pub filters: u32,
    pub signal: i32,
    /// It has stopped itself again after a checkpoint, in Zap's handler.
    pub in_handler: bool,
}

/// Judges the process `pid`; `is_member` tells which processes belong to the pod.
pub fn examine(pid: i32, known: Known, is_member: impl Fn(i32) -> bool) -> Verdict {
    let path = format!("/proc/{pid}");
    let Ok(status) = super::process::text(format!("{path}/status")) else {
        return if Path::new(&path).exists() { Verdict::Starting { waits: true } } else { Verdict::Gone };
    };
    if let Some(reason) = zap_client::executable::refusal_of_process(pid) {
        let object = format!("program {}", super::process::name(pid));
        return Verdict::Refused(Refusal { object, reason: reason.into() });
    }
    // Its own library could say so too, if /proc were there for it.
    if has_other_root(&path) {
        let reason = "a program that has called chroot is not supported yet";
        return Verdict::Refused(Refusal { object: "root directory".into(), reason: reason.into() });
    }
    let (mut threads, mut children) = (Vec::new(), Vec::new());
    for task in fs::read_dir(format!("{path}/task")).into_iter().flatten().flatten() {
        let status = super::process::text(task.path().join("status")).unwrap_or_default();
        // The parent of a vfork sleeps uninterruptibly until its child execs or ends.
        let sleeps = field(&status, "State:").starts_with('D');
        let list = super::process::text(task.path().join("children")).unwrap_or_default();
        let numbers = list.split_whitespace().filter_map(|word| word.parse::<i32>().ok());
        children.extend(numbers.map(|child| (child, sleeps)));
        if !status.is_empty() {
            threads.push(status);
        }
    }
    let verdict = judge(&status, &threads, known);
    // What it was does not matter any more, and its end is at hand.
    if matches!(verdict, Verdict::Refused(_)) && is_ending(Path::new("/proc"), pid) {
        return Verdict::Starting { waits: false };
    }
    if matches!(verdict, Verdict::Starting { .. }) && is_raised(&status) {
        let object = format!("program {}", super::process::name(pid));
        let reason = "is set-user-id, and has become another user by it: the loader leaves libzap out";
        return Verdict::Refused(Refusal { object, reason: reason.into() });
    }
    if !matches!(verdict, Verdict::Ready | Verdict::Stopped | Verdict::Masked) {
        return verdict;
    }
    let others =
        || children.iter().filter(|(child, _)| !is_member(*child) && is_the_programs(Path::new("/proc"), *child));
    // Looked for first: this one only takes time.
    if let Some((child, _)) = others().find(|(_, sleeps)| *sleeps) {
        let object = format!("child {child} ({})", super::process::name(*child));
        let reason = "was made with vfork, and has neither exec'ed nor ended: its parent cannot be suspended so long";
        return Verdict::Held(*child, Refusal { object, reason: reason.into() });
    }
    match others().next() {
        Some((child, _)) => Verdict::Blocked(*child, stranger(*child)),
        None => verdict,
    }
}

/// What is said of a child that is not in the pod.
pub fn stranger(child: i32) -> Refusal {
    let status = super::process::text(format!("/proc/{child}/status")).unwrap_or_default();
    let reason = match is_elsewhere(&status) {
        true => ELSEWHERE,
        false => "is not in the pod: static, privileged or started around Zap; wait until it has ended",
    };
    Refusal { object: format!("child {child} ({})", super::process::name(child)), reason: reason.into() }
}

/// The living children of the process `pid`.
pub fn living_children(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| super::process::text(task.path().join("children")).ok());
    let numbers: Vec<i32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect();
    numbers.into_iter().filter(|child| is_the_programs(Path::new("/proc"), *child)).collect()
}

/// The verdict on the texts of `status` of the process and of each of its threads.
fn judge(status: &str, threads: &[String], known: Known) -> Verdict {
    let refused = |object: &str, reason: String| Verdict::Refused(Refusal { object: object.into(), reason });
    let tracer = number(status, "TracerPid:", 10);
    if tracer != 0 {
        return refused("tracer", format!("process {tracer} traces it (ptrace); detach that first"));
    }
    let is_over = |thread: &str| field(thread, "State:").starts_with(['Z', 'X']);
    if is_over(status) && threads.iter().all(|thread| is_over(thread)) {
        return Verdict::Gone;
    }
    if known.closed || (known.ready && number(status, "Seccomp_filters:", 10) > u64::from(known.filters)) {
        return refused("seccomp filter", FILTERED.into());
    }
    if is_elsewhere(status) {
        return refused("process", ELSEWHERE.into());
    }
    let bit = 1u64 << (known.signal - 1);
    // What the table says may be of an earlier process of this number: the kernel knows whether the handler stands.
    if !known.ready || number(status, "SigCgt:", 16) & bit == 0 {
        // It runs, or sleeps where no signal wakes it: on a disk.
        let goes_on = |thread: &String| field(thread, "State:").starts_with(['R', 'D']);
        return Verdict::Starting { waits: !threads.iter().any(goes_on) };
    }
    // Threads that are gone or only wait to be reaped cannot take a signal.
    let living = threads.iter().filter(|thread| !is_over(thread));
    let mut living = living.peekable();
    let blocks = |thread: &&String| number(thread, "SigBlk:", 16) & bit != 0;
    let stopped = |thread: &&String| field(thread, "State:").starts_with('T');
    if living.peek().is_some_and(stopped) {
        // One that blocks it gets it unblocked by the others; with none of those the program would just run on.
        if !known.in_handler && living.all(|thread| blocks(&thread)) {
            let reason = "it is stopped, and every thread of it blocks Zap's signal; continue it (SIGCONT) first";
            return refused("process", reason.into());
        }
        return Verdict::Stopped;
    }
    if living.peek().is_some() && living.all(|thread| blocks(&thread)) {
        return Verdict::Masked;
    }
    Verdict::Ready
}

/// Whether a child is the program's own and lives: Zap's short-lived helpers have no exit signal (field 38 of
/// proc_pid_stat(5)), and ended children are no processes any more.
fn is_the_programs(proc: &Path, child: i32) -> bool {
    let Ok(stat) = fs::read(proc.join(child.to_string()).join("stat")) else { return false };
    !process::has_ended(&stat) && process::stat_field(&stat, 38) != 0
}

/// Whether the process has been killed, or ends by itself, and is not a zombie yet: PF_EXITING of its flags (field 9 of
/// proc_pid_stat(5)), or SIGKILL on its way to its first thread.
fn is_ending(proc: &Path, pid: i32) -> bool {
    const EXITING: u64 = 4;
    let read = |name: &str| fs::read(proc.join(pid.to_string()).join(name)).unwrap_or_default();
    let status = String::from_utf8_lossy(&read("status")).into_owned();
    let pending = number(&status, "SigPnd:", 16) | number(&status, "ShdPnd:", 16);
    let stat = read("stat");
    // The main thread alone may have ended.
    if process::state_letter(&stat) == b'Z' {
        return false;
    }
    process::stat_field(&stat, 9) & EXITING != 0 || pending >> (libc::SIGKILL - 1) & 1 != 0
}

/// Whether the process `path` (in /proc) has another root directory than this one.
fn has_other_root(path: &str) -> bool {
    let root = |of: &str| fs::read_link(format!("{of}/root")).ok();
    matches!((root(path), root("/proc/self")), (Some(its), Some(own)) if its != own)
}

/// Whether a process runs as another user than whoever has started it.
fn is_raised(status: &str) -> bool {
    let mut users = field(status, "Uid:").split_whitespace();
    let real = users.next();
    users.next() != real
}

/// Whether a process is in a PID namespace below this one: it has an id in each.
fn is_elsewhere(status: &str) -> bool {
    field(status, "NSpid:").split_whitespace().count() > 1
}

/// The rest of the line that begins with `name`.
pub(super) fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

pub(super) fn number(status: &str, name: &str, radix: u32) -> u64 {
    u64::from_str_radix(field(status, name), radix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, tracer: u32, filters: u32, blocked: u64) -> String {
        format!(
            "Name:\tapp\nState:\t{state}\nTracerPid:\t{tracer}\nSigBlk:\t{blocked:016x}\nSeccomp:\t0\n\
             SigCgt:\t{:016x}\nSeccomp_filters:\t{filters}\n",
            1u64 << 61
        )
    }

    #[test]
    fn verdicts_by_table() {
        let ready = Known { ready: true, closed: false, filters: 1, signal: 62, in_handler: false };
        let all = 1u64 << 61;
        let fine = status("S (sleeping)", 0, 1, 0);
        let blocking = status("S (sleeping)", 0, 1, all);
        let runs = status("R (running)", 0, 1, 0);
        let dead = status("Z (zombie)", 0, 1, 0);
        let stopped = |blocked| status("T (stopped)", 0, 1, blocked);
        let kind = |verdict| match verdict {
            Verdict::Ready => "ready".to_string(),
            Verdict::Stopped => "stopped".to_string(),
            Verdict::Starting { waits: true } => "starting".to_string(),
            Verdict::Starting { waits: false } => "starting, could go on".to_string(),
            Verdict::Gone => "gone".to_string(),
            Verdict::Masked => "masked".to_string(),
            Verdict::Held(_, refusal) => format!("held by {}", refusal.object),
            Verdict::Blocked(_, refusal) => format!("blocked by {}", refusal.object),
            Verdict::Refused(refusal) => format!("refused for {}", refusal.object),
        };
        let table = [
            (fine.clone(), vec![fine.clone()], ready, "ready"),
            (fine.clone(), vec![blocking.clone(), fine.clone()], ready, "ready"),
            (dead.clone(), vec![dead.clone(), fine.clone()], ready, "ready"),
            (fine.clone(), vec![fine.clone()], Known { ready: false, ..ready }, "starting"),
            (runs.clone(), vec![fine.clone(), runs], Known { ready: false, ..ready }, "starting, could go on"),
            (blocking.clone(), vec![blocking.clone()], ready, "masked"),
            (dead.clone(), vec![dead.clone()], ready, "gone"),
            (dead.clone(), vec![dead, blocking.clone()], ready, "masked"),
            (blocking.clone(), vec![blocking], Known { signal: 61, ..ready }, "starting"),
            (stopped(0), vec![stopped(0), stopped(0)], ready, "stopped"),
            (stopped(0), vec![stopped(0), stopped(all)], ready, "stopped"),
            (stopped(0), vec![stopped(all), stopped(all)], ready, "refused for process"),
            (stopped(0), vec![stopped(all)], Known { in_handler: true, ..ready }, "stopped"),
            (status("t (tracing stop)", 5, 1, 0), vec![], ready, "refused for tracer"),
            (fine.clone(), vec![], Known { ready: false, closed: true, ..ready }, "refused for seccomp filter"),
            (status("S (sleeping)", 0, 2, 0), vec![fine], ready, "refused for seccomp filter"),
        ];
        for (status, threads, known, expected) in table {
            assert_eq!(kind(judge(&status, &threads, known)), expected, "{status}");
        }
    }
}
