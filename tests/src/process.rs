//! Processes of a test: a test is the subreaper of all that it starts, so that none can be left behind.
//!
//! # Safety
//! System calls on plain integers and on structures of this file's own; each block names what holds.
#![allow(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Descendants that lose their parent become this process's children from now on.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl(2) with integers only.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes what was inherited beyond the standard streams: it would be inherited on by every program under test.
pub fn close_inherited() {
    // SAFETY: called before anything of this process has opened a descriptor, so nobody owns one of these.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Signals as a shell gives them to what it starts in front: one that runs in its background ignores those of the keyboard, and
/// nohup(1) hang-ups, and every program under test would.
pub fn forget_signals() {
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGPIPE, 32, 33];
    // SAFETY: the default disposition runs no code; the set is initialized before it is used.
    unsafe {
        (1..=64).filter(|number| !kept.contains(number)).for_each(|number| {
            libc::signal(number, libc::SIG_DFL);
        });
        let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// The caller's user id.
pub fn user() -> u32 {
    // SAFETY: getuid(2) cannot fail.
    unsafe { libc::getuid() }
}

/// sigqueue(3).
pub fn queue(pid: i32, signal: i32, value: i32) {
    // SAFETY: no memory of this process is touched.
    unsafe { libc::sigqueue(pid, signal, libc::sigval { sival_ptr: value as usize as *mut libc::c_void }) };
}

/// Sends `signal` to `pid`; a process that is gone is no error.
pub fn kill(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: integers only; pid > 1 excludes process groups and "everything".
        unsafe { libc::kill(pid, signal) };
    }
}

/// Forbids a process to have more memory of its own than it has (RLIMIT_DATA), or allows it any again.
pub fn limit_memory(pid: i32, yes: bool) -> io::Result<()> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = text.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap_or_default();
    let kilobytes: u64 = field.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let soft = if yes { kilobytes * 1024 } else { libc::RLIM_INFINITY };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit of this frame's own, and no place for the old one.
    match unsafe { libc::prlimit(pid, libc::RLIMIT_DATA, &limit, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Killed(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "exit status {status}"),
            Ended::Killed(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// An ended child, and the processor time that it and its children took.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub ended: Ended,
    pub processor_time: Duration,
}

/// Reaps `pid` if it has ended.
pub fn try_wait(pid: i32) -> io::Result<Option<Outcome>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to this frame's own variables of the right types.
    let reaped = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped == 0 {
        return Ok(None);
    }
    if reaped < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid rusage, and filled in by the kernel.
    let usage = unsafe { usage.assume_init() };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let ended = if libc::WIFEXITED(status) {
        Ended::Exited(libc::WEXITSTATUS(status))
    } else {
        Ended::Killed(libc::WTERMSIG(status))
    };
    Ok(Some(Outcome { ended, processor_time: time(usage.ru_utime) + time(usage.ru_stime) }))
}

/// Children that a test has started itself.
static STARTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Notes a child that the test will wait for.
pub fn note_started(pid: i32) {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
}

/// Reaps ended children that the test has not started, as the machine's first process does: programs wait until such a
/// process is gone.
pub fn reap_orphans() {
    let started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    for pid in children_of(std::process::id() as i32).into_iter().filter(|pid| !started.contains(pid)) {
        // SAFETY: integers and no place for a status; a process that is no child of this one is an error and no more.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
    }
}

/// Fields of /proc/PID/stat after the name: state, parent, …
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text[text.rfind(')')? + 1..].split_whitespace().map(str::to_string).collect())
}

/// The state letter of a process, `None` if it is gone.
pub fn state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// What a process has read by calls, in bytes (rchar of proc_pid_io(5)).
pub fn bytes_read(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or_default()
}

/// Whether a process has a controlling terminal (field 7 of proc_pid_stat(5)).
pub fn has_terminal(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields.get(4).is_some_and(|number| number != "0"))
}

/// The session of a process, `None` if it is gone.
pub fn session(pid: i32) -> Option<i32> {
    stat(pid)?.get(3)?.parse().ok()
}

/// Processor time that a living process and its descendants have taken, those among them that have ended and been waited
/// for.
pub fn processor_time(pid: i32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks: u64 = (11..=14).filter_map(|at| fields.get(at)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every Linux that Zap runs on.
    Some(Duration::from_millis(ticks * 10) + children_of(pid).into_iter().filter_map(processor_time).sum())
}

/// The children of a process that have not been waited for.
fn children_of(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

/// All living descendants of `root`, without it.
pub fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            found.push(*child);
            next.push(*child);
        }
    }
    found
}

/// Kills every descendant of this process and reaps them.
pub fn kill_descendants() {
    let own = std::process::id() as i32;
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let found = descendants(own);
        if found.is_empty() || Instant::now() > limit {
            return;
        }
        found.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        while matches!(try_wait(-1), Ok(Some(_))) {}
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether the process has not ended. A main thread that has ended, or that another one is about to replace by exec, is a
/// zombie beside threads that live; it may be replaced between two looks.
pub fn lives(pid: i32) -> bool {
    let is_dead = || matches!(state(pid), None | Some('Z' | 'X'));
    let alone = || fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |tasks| tasks.count() <= 1);
    !(is_dead() && alone()) || is_living_child(pid)
}

/// Whether `pid` is a child of this process that has not ended: while another thread than the first execs, only that one
/// is left, and it is a zombie for a moment.
fn is_living_child(pid: i32) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: a place of this frame's own of the right type; the child is not reaped.
    let result = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), options) };
    // SAFETY: zeroed, which is a valid siginfo_t, and filled in by the kernel; 0 where no child has ended.
    result == 0 && unsafe { info.assume_init().si_pid() } == 0
}

/// Gives the calling thread, and what it starts, mounts of its own that end with them.
pub fn private_mounts() -> io::Result<()> {
    // SAFETY: an integer only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (none, root, flags) = (std::ptr::null(), c"/".as_ptr(), libc::MS_REC | libc::MS_PRIVATE);
    // SAFETY: a constant string and null pointers, which a change of propagation ignores.
    match unsafe { libc::mount(none, root, none, flags, none.cast()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
