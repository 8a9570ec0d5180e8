//! Stopped children (SIGSTOP, Ctrl-Z): they are continued for a checkpoint and stop again, and a restart stops them anew, and
//! their parent is not to notice. It has been told that they stopped, or has not: so it stays.
//!
//! Before the parent stands nobody continues them. It notes what it has been told ([`note`]), takes back the SIGCHLD that their
//! continuation sends ([`hush`]), and at the end waits until they have stopped again, and takes back what that causes
//! ([`settle`]).
//!
//! One that runs, and of whose continuation the parent has not been told (WCONTINUED): a restart has it stop and go on, which it
//! does without its parent, so that nobody's end leaves it stopped ([`crate::suspend::stop_again`]).

use crate::state::{self, Owned};
use crate::{children, identity};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zap_plugin::Refusal;
use zap_sys::{fd, libc, process, signal, RealPid, VirtualPid};
use zap_wire::table::{HALT_CONTINUED, HALT_FOUND, HALT_SIGNAL, HALT_WOKEN};

struct Child {
    id: VirtualPid,
    /// The parent has been told that it has stopped.
    told: bool,
}

struct Noted {
    children: Vec<Child>,
    /// SIGCHLD was pending before any of them was continued.
    was_pending: bool,
    /// What all children had to tell by then, most of which the program has been told.
    news: Vec<News>,
    /// Those that run, and of whose continuation the program has not been told.
    continued: Vec<VirtualPid>,
    /// Those of them that a restart has told to stop and to go on.
    continuing: Vec<VirtualPid>,
}

impl Noted {
    const fn none() -> Self {
        Self {
            children: Vec::new(),
            was_pending: false,
            news: Vec::new(),
            continued: Vec::new(),
            continuing: Vec::new(),
        }
    }
}

/// A child, and what it has to tell (CLD_EXITED …).
type News = (RealPid, i32);

/// Part of the image: a restart stops them too.
static NOTED: Owned<Noted> = Owned::new(Noted::none());

/// How long they are waited for, all together.
const PATIENCE_NS: u64 = 2_000_000_000;

/// How long it is waited until those that are on the point of stopping have left the processor, all together.
const LEAVING_NS: u64 = 200_000_000;

/// Notes which children stand, and whether the program has been told.
pub fn note() {
    let Some(table) = state::agents_table().filter(|table| table.halted.load(Ordering::Acquire) != 0) else { return };
    let mut children = Vec::new();
    for (pid, entry) in table.members() {
        let halt = entry.halt.load(Ordering::Acquire);
        if halt & HALT_FOUND == 0 {
            continue;
        }
        // Not a child of this process's, most often.
        let Ok(stop) = process::stop_of(pid, false) else { continue };
        // Somebody has continued it meanwhile. One whose first thread has ended is Z.
        if !matches!(process::state(pid), Some(b'T' | b'Z')) {
            continue;
        }
        let known = stop.map_or(0, |signal| signal as u16 & HALT_SIGNAL);
        if entry.halt.compare_exchange(halt, HALT_FOUND | known, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            children.push(Child { id: entry.virtual_pid(), told: stop.is_none() });
        }
    }
    let was_pending = signal::pending() & signal::bit(libc::SIGCHLD) != 0;
    let news = if children.is_empty() { Vec::new() } else { news() };
    NOTED.with(|noted| *noted = Noted { children, was_pending, news, ..Noted::none() });
}

/// Notes of whose continuation the program has not been told, beside those that Zap has continued. All processes stand.
pub fn note_continued() {
    let has_been = |pid: &RealPid| process::news_of(*pid).is_some_and(|news| news[CODE] as i32 == libc::CLD_CONTINUED);
    NOTED.with(|noted| {
        noted.continued.clear();
        if !process::has_continued_child() {
            return;
        }
        let ids = children::ids(|| {}).unwrap_or_default().into_iter().filter(has_been).map(identity::virtual_of);
        noted.continued.extend(ids.filter(|id| !noted.children.iter().any(|child| child.id == *id)));
    });
}

/// What children have to tell that they have not been waited for.
fn news() -> Vec<News> {
    let news = |pid| Some((pid, process::news_of(pid)?[CODE] as i32));
    children::ids(|| {}).unwrap_or_default().into_iter().filter_map(news).collect()
}

/// Where a [`signal::Info`] has its code and the child's id (sigaction(2): si_code, si_pid).
const CODE: usize = 2;
const SENDER: usize = 4;

/// Takes back the signal of their continuation: each has told of that before it stood.
pub fn hush() {
    NOTED.with(|noted| {
        if !noted.children.is_empty() {
            noted.take_back();
        }
    });
}

impl Noted {
    /// Takes back SIGCHLD, of which one waits at a time: what another child has to tell is told again.
    fn take_back(&mut self) {
        if self.was_pending {
            return;
        }
        let Some(taken) = signal::take_info(libc::SIGCHLD) else { return };
        let told = if self.is_theirs(RealPid(taken[SENDER] as i32), taken[CODE] as i32) {
            let new = |(pid, code): &News| !self.is_theirs(*pid, *code) && !self.news.contains(&(*pid, *code));
            news().into_iter().find(new).and_then(|(pid, _)| process::news_of(pid))
        } else {
            Some(taken)
        };
        if let Some(told) = told {
            let _ = signal::queue_info(process::getpid(), &told);
            self.was_pending = true;
        }
    }

    fn ids(&self) -> impl Iterator<Item = VirtualPid> + '_ {
        self.children.iter().map(|child| child.id).chain(self.continuing.iter().copied())
    }

    /// Whether it is Zap's doing that the child `pid` tells this.
    fn is_theirs(&self, pid: RealPid, code: i32) -> bool {
        matches!(code, libc::CLD_STOPPED | libc::CLD_CONTINUED) && self.ids().any(|id| identity::real_of(id) == pid)
    }
}

/// Waits until those that have been continued have stopped again, and takes back what that has caused.
pub fn settle() {
    NOTED.with(|noted| {
        let until = zap_sys::time::monotonic_ns() + PATIENCE_NS;
        let (mut any, mut leaving) = (false, LEAVING_NS);
        for child in &noted.children {
            let real = identity::real_of(child.id);
            if await_stop(real, until) {
                any = true;
                leave_processor(real, &mut leaving);
                if child.told {
                    let _ = process::stop_of(real, true);
                }
            }
        }
        for id in &noted.continuing {
            any = true;
            while is_continuing(*id) && zap_sys::time::monotonic_ns() < until {
                zap_sys::time::sleep_ns(20_000);
            }
        }
        if any {
            noted.take_back();
        }
        *noted = Noted::none();
    });
}

/// The like of [`note`] in a restarted process, when all its children are made and none runs.
pub fn note_restarted() -> Result<(), Refusal> {
    let was_pending = crate::signals::was_pending(libc::SIGCHLD);
    NOTED.with(|noted| {
        noted.continuing = core::mem::take(&mut noted.continued);
        noted.continuing.iter().try_for_each(|id| tell_to_continue(*id))?;
        if noted.ids().next().is_some() {
            (noted.was_pending, noted.news) = (was_pending, news());
        }
        Ok(())
    })
}

/// Has the child `id` stop and go on before it runs: it does not until its parent is complete.
fn tell_to_continue(id: VirtualPid) -> Result<(), Refusal> {
    let real = crate::restart::await_member(id)?;
    if let Some(entry) = state::agents_table().and_then(|table| table.find(real)) {
        entry.halt.store(HALT_CONTINUED, Ordering::Release);
    }
    Ok(())
}

/// Whether the child `id` has still to stop or to go on.
fn is_continuing(id: VirtualPid) -> bool {
    let entry = state::agents_table().and_then(|table| table.find(identity::real_of(id)));
    entry.is_some_and(|entry| entry.halt.load(Ordering::Acquire) & HALT_CONTINUED != 0)
}

/// Waits until the child `pid` has stopped again. False if it will not: it has not been continued, or somebody else has done that
/// too, or it has ended.
fn await_stop(pid: RealPid, until: u64) -> bool {
    let mut pause = 20_000;
    loop {
        let entry = state::agents_table().and_then(|table| table.find(pid));
        if entry.is_none_or(|entry| entry.halt.load(Ordering::Acquire) & HALT_WOKEN == 0) {
            return false;
        }
        match process::stop_of(pid, false) {
            Ok(Some(_)) => return true,
            Ok(None) if zap_sys::time::monotonic_ns() < until && !has_ended(pid) => {}
            _ => return false,
        }
        zap_sys::time::sleep_ns(pause);
        pause = (pause * 2).min(1_000_000);
    }
}

fn has_ended(pid: RealPid) -> bool {
    let code = process::news_of(pid).map(|news| news[CODE] as i32);
    matches!(code, Some(libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED))
}

/// Waits until the parent of the calling process has been told that this goes on: whichever thread is the first to do so tells it
/// (get_signal of kernel/signal.c), and then stands again.
pub fn await_told(own: RealPid) {
    leave_processor(own, &mut LEAVING_NS.clone());
}

/// Waits until no thread of the stopped process is on a processor any more: a moment after it has stopped, the last one tells
/// its parent so (do_signal_stop of kernel/signal.c). What a thread waits in (proc_pid_wchan(5)) is 0 until then. Not for the
/// calling one, nor longer than `longest` nanoseconds, of which it takes what it needs.
fn leave_processor(pid: RealPid, longest: &mut u64) {
    const LOOK_NS: u64 = 20_000;
    let mut threads = Vec::new();
    let tasks = zap_sys::small!("/proc/{pid}/task");
    let _ = fd::each_number(tasks.as_c_str(), |thread| threads.push(thread));
    let caller = process::gettid().0;
    for thread in threads.into_iter().filter(|thread| *thread != caller) {
        let path = zap_sys::small!("/proc/{pid}/task/{thread}/wchan");
        let is_there = || fd::read_file(path.as_c_str(), &mut [0u8; 64]).is_ok_and(|text| text == b"0");
        let begun = zap_sys::time::monotonic_ns();
        let waited = || zap_sys::time::monotonic_ns().saturating_sub(begun);
        while waited() < *longest && is_there() {
            zap_sys::time::sleep_ns(LOOK_NS);
        }
        *longest = longest.saturating_sub(waited());
    }
}
