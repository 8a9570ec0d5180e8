//! The tree is made: every process forks those that are its own, comes into its session and process group, waits until
//! all are there, and execs its program.
//!
//! What they tell each other meanwhile (numbers, and how many have come) is in memory that they share.
//!
//! # Safety
//! Children of fork make system calls only, on memory that was made ready before; the shared words are atomics, mapped
//! until the family is dropped.
#![allow(unsafe_code)]

use crate::program::{become_program, Numbers};
use crate::start::{Circumstances, Ready};
use crate::tree::{Group, Maker, Tree};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI32, Ordering};
use zap_client::error::{Error, Result};
use zap_sys::signal::{self, Mask};
use zap_sys::{fd, mem, process, RealPid, SysError};
use zap_wire::table::Kind;

/// How long the processes wait for each other, in looks and the nanoseconds between them.
const LOOKS: u32 = 200_000;
const LOOK_NS: u64 = 50_000;

/// The processes of a pod, from their forks on.
pub struct Family {
    shared: Shared,
    /// Those that this process has made: (member, pid).
    own: Vec<(usize, RealPid)>,
}

/// Words that all processes of the family see: real ids, 0 as long as they are not known.
struct Shared {
    address: u64,
    members: usize,
    helpers: usize,
    ghosts: usize,
}

impl Shared {
    fn new(tree: &Tree) -> std::result::Result<Self, SysError> {
        let (members, helpers, ghosts) = (tree.places.len(), tree.helpers.len(), tree.ghosts.len());
        let mut new = Self { address: 0, members, helpers, ghosts };
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: new memory wherever the kernel likes.
        new.address = unsafe { mem::map(0, new.length(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }?;
        Ok(new)
    }

    fn length(&self) -> u64 {
        zap_sys::page_up(4 * (4 + 2 * self.members + self.helpers + self.ghosts) as u64)
    }

    fn word(&self, at: usize) -> &AtomicI32 {
        // SAFETY: callers stay within the length; zeroes are valid; nobody unmaps it while `self` lives.
        unsafe { &*((self.address as *const AtomicI32).add(at)) }
    }

    /// Members that have come to where all wait.
    fn arrived(&self) -> &AtomicI32 {
        self.word(0)
    }

    /// Not 0: something has failed.
    fn failed(&self) -> &AtomicI32 {
        self.word(1)
    }

    /// The process group that stands for the one of outside.
    fn outside_group(&self) -> &AtomicI32 {
        self.word(2)
    }

    /// The session that stands for the one of outside.
    fn outside_session(&self) -> &AtomicI32 {
        self.word(3)
    }

    fn member(&self, index: usize) -> &AtomicI32 {
        self.word(4 + index)
    }

    /// Set to the member's number as soon as it leads its process group.
    fn group(&self, member: usize) -> &AtomicI32 {
        self.word(4 + self.members + member)
    }

    fn helper(&self, index: usize) -> &AtomicI32 {
        self.word(4 + 2 * self.members + index)
    }

    /// Process groups whose leaders have ended; -1 while somebody makes one.
    fn ghost(&self, index: usize) -> &AtomicI32 {
        self.word(4 + 2 * self.members + self.helpers + index)
    }

    /// Waits until `ready`; false when something has failed, or it takes too long.
    fn wait(&self, ready: impl Fn() -> bool) -> bool {
        for _ in 0..LOOKS {
            if self.failed().load(Ordering::Acquire) != 0 {
                return false;
            }
            if ready() {
                return true;
            }
            zap_sys::time::sleep_ns(LOOK_NS);
        }
        false
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; nobody uses it any more.
        let _ = unsafe { mem::unmap(self.address, self.length()) };
    }
}

/// All that a child needs.
struct Plan<'a> {
    tree: &'a Tree,
    shared: &'a Shared,
    ready: &'a [Ready<'a>],
    sources: &'a dyn Fn(usize) -> Numbers,
    numbers: Numbers,
    circumstances: Circumstances<'a>,
    /// Numbers by which the pod knows threads: libc would take a process with such a number for one of them.
    known: &'a BTreeSet<i32>,
}

impl Family {
    /// Makes all processes.
    pub fn grow(
        ready: &[Ready<'_>],
        tree: &Tree,
        sources: &dyn Fn(usize) -> Numbers,
        numbers: Numbers,
        circumstances: Circumstances<'_>,
    ) -> Result<Self> {
        let failed = |error: SysError| Error::new("processes of the pod", error);
        let shared = Shared::new(tree).map_err(failed)?;
        if !circumstances.background {
            shared.outside_group().store(process::getpgrp().0, Ordering::Release);
            shared.outside_session().store(process::getsid().0, Ordering::Release);
        }
        let threads = ready.iter().flat_map(|one| &one.image.header.threads);
        let known: BTreeSet<i32> = threads.map(|thread| thread.virtual_tid).collect();
        let mut family = Self { shared, own: Vec::new() };
        let plan = Plan { tree, shared: &family.shared, ready, sources, numbers, circumstances, known: &known };
        let mut own = Vec::new();
        let mut result = Ok(());
        let mut helpers = Vec::new();
        for member in tree.made_by(Maker::Restart, false) {
            match plan.fork(|| plan.live(member), plan.main_of(member)) {
                Ok(pid) => own.push((member, pid)),
                Err(error) => result = Err(error),
            }
        }
        for helper in tree.helpers_of(Maker::Restart) {
            match plan.fork(|| plan.help(helper), 0) {
                Ok(pid) => helpers.push(pid),
                Err(error) => result = Err(error),
            }
        }
        for pid in helpers {
            let _ = process::wait(pid.0, 0);
        }
        family.own = own;
        if let Err(error) = result {
            family.abandon();
            return Err(failed(error));
        }
        Ok(family)
    }

    /// The number of a member.
    pub fn pid(&self, member: usize) -> RealPid {
        RealPid(self.shared.member(member).load(Ordering::Acquire))
    }

    /// How a member has ended that was said to have, if this process can know.
    pub fn ending(&self, member: usize) -> Option<i32> {
        let (_, pid) = self.own.iter().find(|(index, _)| *index == member)?;
        process::wait(pid.0, 0).ok().map(|(_, status)| status)
    }

    /// Ids of process groups and sessions: what they are, the kernel's, and the pod's.
    pub fn groups_and_sessions(&self, tree: &Tree) -> Vec<(Kind, RealPid, i32)> {
        let real = |word: &AtomicI32| RealPid(word.load(Ordering::Acquire));
        let mut all = Vec::new();
        all.extend(tree.outside_group.map(|id| (Kind::Group, real(self.shared.outside_group()), id)));
        all.extend(tree.outside_session.map(|id| (Kind::Session, real(self.shared.outside_session()), id)));
        all.extend(tree.ghosts.iter().enumerate().map(|(at, id)| (Kind::Group, real(self.shared.ghost(at)), *id)));
        let helpers = tree.helpers.iter().enumerate();
        all.extend(helpers.filter_map(|(at, one)| Some((Kind::Session, real(self.shared.helper(at)), one.session?))));
        all
    }

    /// Ends all of it, and what it has made: a helper of the engine shares memory with its maker, and not its end.
    pub fn abandon(&self) {
        self.shared.failed().store(1, Ordering::Release);
        let all =
            (0..self.shared.members).map(|member| self.pid(member).0).chain(self.own.iter().map(|(_, pid)| pid.0));
        let mut family: Vec<i32> = all.filter(|pid| *pid > 0).collect::<BTreeSet<_>>().into_iter().collect();
        // Stopped they make no more of them.
        for pid in &family {
            let _ = signal::kill(*pid, libc::SIGSTOP);
        }
        let mut at = 0;
        while let Some(parent) = family.get(at) {
            let more: Vec<i32> = children(*parent).into_iter().filter(|child| !family.contains(child)).collect();
            family.extend(more);
            at += 1;
        }
        for pid in family {
            let _ = signal::kill(pid, libc::SIGKILL);
        }
        for (_, pid) in &self.own {
            let _ = process::wait(pid.0, 0);
        }
    }
}

/// The children that the threads of the process `pid` have made.
fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

impl Plan<'_> {
    /// The number by which the pod knows the main thread of a member.
    fn main_of(&self, member: usize) -> i32 {
        self.ready[member].image.header.process.virtual_pid
    }

    /// Whether a process that the pod is to know as `main` may have this number.
    fn fits(&self, number: i32, main: i32) -> bool {
        number == main || !self.known.contains(&number)
    }

    /// Makes a process that lives by `life`. Numbers that do not fit are used up.
    fn fork(&self, life: impl Fn() -> Infallible, main: i32) -> std::result::Result<RealPid, SysError> {
        loop {
            // SAFETY: the child makes system calls only, and execs or ends.
            let child = unsafe { process::fork_raw(libc::SIGCHLD) }?;
            if child.0 == 0 {
                if !self.fits(process::getpid().0, main) {
                    process::exit_process(0);
                }
                life();
            }
            if self.fits(child.0, main) {
                return Ok(child);
            }
            let _ = process::wait(child.0, 0);
            signal::take_pending(libc::SIGCHLD);
        }
    }

    fn fail(&self) -> ! {
        self.shared.failed().store(1, Ordering::Release);
        process::exit_process(zap_restorer::FAILED_STATUS)
    }

    /// Makes what the caller, which is `maker`, is to make.
    fn make(&self, maker: Maker, early: bool) {
        for member in self.tree.made_by(maker, early) {
            if self.fork(|| self.live(member), self.main_of(member)).is_err() {
                self.fail();
            }
        }
        if early {
            return;
        }
        for helper in self.tree.helpers_of(maker) {
            match self.fork(|| self.help(helper), 0) {
                Ok(pid) => {
                    let _ = process::wait(pid.0, 0);
                    signal::take_pending(libc::SIGCHLD);
                }
                Err(_) => self.fail(),
            }
        }
    }

    /// A helper's whole life.
    fn help(&self, helper: usize) -> ! {
        if self.tree.helpers[helper].session.is_some() && process::setsid().is_err() {
            self.fail();
        }
        self.shared.helper(helper).store(process::getpid().0, Ordering::Release);
        self.make(Maker::Helper(helper), false);
        process::exit_process(0)
    }

    /// A member's life, up to its exec.
    fn live(&self, member: usize) -> ! {
        let (place, shared) = (&self.tree.places[member], self.shared);
        let own = process::getpid();
        shared.member(member).store(own.0, Ordering::Release);
        // Before it has any descendants; the engine sets what the program had set.
        if place.subreaper {
            process::set_subreaper(true);
        }
        self.make(Maker::Member(member), true);
        // In the background the first process leads the session and the group that stand for those of outside.
        let leads_outside = self.circumstances.background && place.maker == Maker::Restart && !place.leads_session;
        if (place.leads_session || leads_outside) && process::setsid().is_err() {
            self.fail();
        }
        if leads_outside {
            let _ = shared.outside_session().compare_exchange(0, own.0, Ordering::AcqRel, Ordering::Relaxed);
            let _ = shared.outside_group().compare_exchange(0, own.0, Ordering::AcqRel, Ordering::Relaxed);
        }
        self.make(Maker::Member(member), false);
        if !self.join(member, leads_outside) {
            self.fail();
        }
        shared.arrived().fetch_add(1, Ordering::AcqRel);
        if !shared.wait(|| shared.arrived().load(Ordering::Acquire) as usize == shared.members) {
            self.fail();
        }
        let one = &self.ready[member];
        let number = one.image.header.pod.signal;
        let mask: Mask = self.circumstances.mask | if (1..=64).contains(&number) { signal::bit(number) } else { 0 };
        become_program(&one.program, (self.sources)(member), self.numbers, mask)
    }

    /// Comes into the process group. False if that cannot be.
    fn join(&self, member: usize, leads_outside: bool) -> bool {
        let shared = self.shared;
        let own = process::getpid();
        // A group of another PID namespace is 0 here: one can be in it, but not come into it.
        let enter =
            |group: i32| process::getpgrp().0 == group || (group > 0 && process::setpgid(own, RealPid(group)).is_ok());
        let await_word = |word: &AtomicI32| {
            let known = shared.wait(|| word.load(Ordering::Acquire) > 0);
            if known {
                word.load(Ordering::Acquire)
            } else {
                -1
            }
        };
        match self.tree.places[member].group {
            Group::Own => {
                let leads = enter(own.0);
                shared.group(member).store(own.0, Ordering::Release);
                leads
            }
            Group::Member(leader) => enter(await_word(shared.group(leader))),
            Group::Outside if leads_outside => true,
            Group::Outside if self.circumstances.background => enter(await_word(shared.outside_group())),
            // Zap-restart's, which does not change.
            Group::Outside => enter(shared.outside_group().load(Ordering::Acquire)),
            Group::Ghost(ghost) => {
                let word = shared.ghost(ghost);
                if word.compare_exchange(0, -1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                    return enter(await_word(word));
                }
                self.follow_ghost(word)
            }
        }
    }

    /// Has a process lead a group for the moment until this one is in it, too.
    fn follow_ghost(&self, word: &AtomicI32) -> bool {
        let Ok(gate) = fd::pipe2(libc::O_CLOEXEC) else { return false };
        let life = || -> Infallible {
            let _ = fd::close(gate.1);
            let _ = fd::read(gate.0, &mut [0u8; 1]);
            process::exit_process(0)
        };
        let Ok(leader) = self.fork(life, 0) else { return false };
        let _ = fd::close(gate.0);
        let joined = process::setpgid(leader, leader).is_ok() && process::setpgid(process::getpid(), leader).is_ok();
        let _ = fd::close(gate.1);
        let _ = process::wait(leader.0, 0);
        signal::take_pending(libc::SIGCHLD);
        word.store(if joined { leader.0 } else { 0 }, Ordering::Release);
        joined
    }
}
