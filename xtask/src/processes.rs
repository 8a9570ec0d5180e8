//! The processes that xtask starts: it is their subreaper, and ends what they leave behind, and nothing else.
//!
//! # Safety
//! System calls on integers; each block names what holds.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// Closes what was inherited beyond the standard streams: every program under test would inherit it on.
pub fn close_inherited() {
    // SAFETY: called before anything of this process has opened a descriptor, so nobody owns one of these.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Descendants that lose their parent become this process's children from now on.
pub fn become_subreaper() {
    // SAFETY: prctl(2) with integers only. If it fails, leftovers go to the system's own reaper.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Whether root runs this.
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// CLOCK_REALTIME in nanoseconds, comparable with what a program under test has read.
pub fn wall_clock() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a pointer to this frame's own timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Living descendants of this process.
fn descendants() -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = text.rfind(')').and_then(|at| text[at + 1..].split_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let (mut found, mut next) = (Vec::new(), vec![std::process::id() as i32]);
    while let Some(parent) = next.pop() {
        let of_parent = children.remove(&parent).unwrap_or_default();
        found.extend(&of_parent);
        next.extend(of_parent);
    }
    found
}

/// Kills and reaps every descendant; returns the names of those that were alive.
pub fn kill_descendants() -> Vec<String> {
    let limit = Instant::now() + Duration::from_secs(20);
    let lives = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !text.rfind(')').is_some_and(|at| text[at + 1..].trim_start().starts_with(['Z', 'X']))
    };
    let living = descendants().into_iter().filter(lives);
    let names = living.filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    let names = names.map(|name| name.trim().to_string()).collect();
    loop {
        let found = descendants();
        if found.is_empty() || Instant::now() > limit {
            return names;
        }
        for pid in found {
            // SAFETY: integers only; pid > 1, a descendant of this process.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        // SAFETY: no status is asked for; reaps this process's own children only.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        std::thread::sleep(Duration::from_millis(2));
    }
}
