//! What the coordinator decides: `(state, event) → actions`, without any I/O, so that every order of events can be tried.
//!
//! An event is one thing that has happened, an action one thing to be done, in the order given. Failures of actions come
//! back as events. Times are milliseconds on a clock that only goes forward.

mod admission;
mod checkpoint;
mod commands;
mod pod;
#[cfg(test)]
mod tests;

pub use pod::{Member, Pod, PodState};

use std::collections::BTreeMap;
use zap_wire::message::{
    CheckpointRecord, FileName, Launch, MemoryLimit, Note, ObjectNote, PodSettings, Refusal, Restart, SaveOrder, Seen,
    Selection, Share, StreamId, Stretch,
};
use zap_wire::{fault, FromCoordinator, ToCoordinator};

/// A connection, by a number that is never used again.
pub type Peer = u64;

/// Milliseconds since some start.
pub type Millis = u64;

/// Limits of time, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a process to take up a signal, or to get through one phase.
    pub answer: Millis,
    /// For what is in the way, to be gone by itself.
    pub blocked: Millis,
    /// For a process that blocks Zap's signal, to unblock it by itself.
    pub masked: Millis,
    /// For a process whose libzap is not ready yet, or that waits for the child of a vfork.
    pub starting: Millis,
    /// For killed processes to be gone.
    pub ending: Millis,
    /// Without pods, until the coordinator ends itself.
    pub idle: Millis,
    /// Between two looks at something that gives no notice.
    pub look: Millis,
    /// Between two words to a process that stands until its image is there. It goes on by itself after 120 s.
    pub remind: Millis,
}

impl Limits {
    /// For everybody to be ready for the signal, since the last newcomer: longer than any single thing that is waited for.
    fn examining(&self) -> Millis {
        4 * self.starting + self.answer
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            answer: 10_000,
            blocked: 1_000,
            masked: 30,
            starting: 5_000,
            ending: 10_000,
            idle: 10_000,
            look: 10,
            remind: 30_000,
        }
    }
}

/// What is known at the time of an event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub millis: Millis,
    /// Seconds since the epoch.
    pub epoch: u64,
    /// The same in nanoseconds.
    pub epoch_ns: u64,
    /// A random number that is used at most once.
    pub random: u64,
}

/// Whether a process can be signalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ready,
    /// It can, and is stopped (SIGSTOP): it is not to be continued before the others stand.
    Stopped,
    /// Its libzap is not ready yet. One that `waits` for something may never be; one that does not could go on, and lacks a
    /// processor or a disk.
    Starting {
        waits: bool,
    },
    /// It has ended, which is about to be noticed.
    Gone,
    /// Every thread blocks Zap's signal: for the moment, as libc does, or until one is made to take it.
    Masked,
    /// It cannot take a signal before this child has done something, which may take its time.
    Held(i32, Refusal),
    /// This child is in the way, perhaps for the moment.
    Blocked(i32, Refusal),
    /// In the way for good.
    Refused(Refusal),
}

/// A generation of images that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Paths of the images.
    pub images: Vec<String>,
    /// Bytes that they have on disk.
    pub bytes: u64,
}

/// What a process has that others may have too.
#[derive(Clone, Debug, Default)]
pub struct Open {
    pub descriptions: Vec<Seen>,
    pub memory: Vec<Stretch>,
    pub notes: Vec<Note>,
    pub names: Vec<FileName>,
    /// Bytes that it will copy to ordinary memory, and what limits that.
    pub copying: u64,
    pub limits: Vec<MemoryLimit>,
}

/// What a process has in common with others.
#[derive(Clone, Debug, Default)]
pub struct Common {
    pub shares: Vec<Share>,
    /// What is told of the objects in `shares`.
    pub notes: Vec<ObjectNote>,
    /// Shared memory that others save.
    pub elsewhere: Vec<Stretch>,
    /// Files that are open in the pod and of which this process has shared memory.
    pub open: Vec<(u64, u64)>,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message of the process `pid`. Launch and Restart come as events of their own.
    Message {
        peer: Peer,
        pid: i32,
        message: ToCoordinator,
    },
    Launch {
        peer: Peer,
        pid: i32,
        request: Launch,
    },
    /// `record` is what is known of the images that the pod comes from.
    Restart {
        peer: Peer,
        pid: i32,
        request: Restart,
        record: CheckpointRecord,
    },
    HungUp {
        peer: Peer,
    },
    /// The pod's table, as it is now.
    Members {
        pod: u64,
        members: Vec<Member>,
    },
    /// The pod's first process has ended, with this status.
    FirstEnded {
        pod: u64,
        status: i32,
    },
    /// The process that asked for a restart has ended.
    RequesterGone {
        pod: u64,
    },
    Examined {
        pod: u64,
        pid: i32,
        verdict: Verdict,
    },
    /// The process has stopped (SIGSTOP) since it was found ready.
    Halted {
        pod: u64,
        pid: i32,
    },
    /// The process cannot suspend itself, and not say so either.
    Trouble {
        pod: u64,
        pid: i32,
        why: String,
    },
    /// Something that was to be done for the pod's checkpoint failed.
    Failed {
        pod: u64,
        why: String,
    },
    /// The table of a pod could not be made; the requester knows already.
    NotMade {
        pod: u64,
    },
    /// The table has been read anew, and every process's children looked at, when all members stood: one that is in the
    /// way.
    Surveyed {
        pod: u64,
        stranger: Option<Refusal>,
    },
    /// What each process, by its pid, has in common with others; and which files, by device and inode, have been copied.
    Compared {
        pod: u64,
        shares: Result<BTreeMap<i32, Common>, String>,
        kept: Vec<(u64, u64)>,
    },
    Committed {
        pod: u64,
        outcome: Result<Kept, String>,
    },
    /// A pod that another coordinator has left.
    Adopted {
        pod: Box<Pod>,
    },
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    Send {
        peer: Peer,
        message: Box<FromCoordinator>,
    },
    /// Hang up once everything is said.
    Close {
        peer: Peer,
    },
    /// Make a pod's table; a failure is told to `peer`.
    Make {
        peer: Peer,
        pod: u64,
        settings: PodSettings,
        streams: [StreamId; 3],
    },
    /// Enter a process into the table and watch it.
    Enter {
        pod: u64,
        pid: i32,
        virtual_pid: i32,
        program: String,
    },
    /// Take a process out of the table.
    Leave {
        pod: u64,
        pid: i32,
    },
    /// Tell `peer` that it is in the pod, with the table's path; not if making it failed.
    Welcome {
        peer: Peer,
        pod: u64,
        name: String,
    },
    /// Report the end of the process that asked for a restart.
    Watch {
        pod: u64,
        pid: i32,
    },
    /// Write the pod's metadata.
    Record {
        pod: u64,
    },
    /// Remove the pod's files.
    Remove {
        pod: u64,
    },
    /// Make the temporary files of the images, one for each (pid, image's name), as far as they are not there. Others go.
    Prepare {
        pod: u64,
        directory: String,
        images: Vec<(i32, String)>,
    },
    Examine {
        pod: u64,
        pid: i32,
    },
    Signal {
        pod: u64,
        pid: i32,
    },
    /// Continue a stopped process, which has been signalled.
    Wake {
        pod: u64,
        pid: i32,
    },
    /// Read the table anew, and look for children of its processes that are not in it.
    Survey {
        pod: u64,
    },
    /// Find what processes share, by what each has open, and copy the files that are kept beside the images.
    Compare {
        pod: u64,
        generation: u32,
        /// As in the pod's settings.
        keeps: bool,
        open: Vec<(i32, Open)>,
    },
    /// Look for trouble in the table's entry.
    Look {
        pod: u64,
        pid: i32,
    },
    /// The order to save, with the descriptor of the process's image.
    Save {
        pod: u64,
        pid: i32,
        peer: Peer,
        order: Box<SaveOrder>,
    },
    Commit {
        pod: u64,
        generation: u32,
        keep: u32,
        /// As in the pod's settings.
        compress: String,
    },
    /// Unlink the temporary files.
    Discard {
        pod: u64,
    },
    Kill {
        pod: u64,
        pid: i32,
    },
    Fault(&'static str),
    Exit,
}

/// The coordinator's state.
pub struct Core {
    limits: Limits,
    pods: BTreeMap<u64, Pod>,
    /// Requests that are answered when several pods are done.
    inquiries: Vec<Inquiry>,
    idle_since: Option<Millis>,
    next_inquiry: u64,
    exiting: bool,
}

/// A request that waits for pods.
struct Inquiry {
    number: u64,
    peer: Peer,
    kind: InquiryKind,
    /// Pods that are not done yet.
    open: Vec<u64>,
    names: Vec<String>,
    results: Vec<zap_wire::message::CheckpointResult>,
    deadline: Option<Millis>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum InquiryKind {
    Checkpoint,
    Kill,
    Quit,
}

impl Core {
    /// A coordinator without pods.
    pub fn new(limits: Limits) -> Self {
        Self { limits, pods: BTreeMap::new(), inquiries: Vec::new(), idle_since: None, next_inquiry: 0, exiting: false }
    }

    /// Every pod.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// The pod with this id.
    pub fn pod(&self, id: u64) -> Option<&Pod> {
        self.pods.get(&id)
    }

    /// Takes an event in; returns what is to be done.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match event {
            Event::Message { peer, pid, message } => self.message(now, peer, pid, message, out),
            Event::Launch { peer, pid, request } => self.launch(now, peer, pid, request, out),
            Event::Restart { peer, pid, request, record } => self.restart(now, peer, pid, request, record, out),
            Event::HungUp { peer } => self.hung_up(now, peer, out),
            Event::Members { pod, members } => self.members(now, pod, members, out),
            Event::RequesterGone { pod } => self.requester_gone(now, pod, out),
            Event::Examined { pod, pid, verdict } => self.examined(now, pod, pid, verdict, out),
            Event::Halted { pod, pid } => self.halted(now, pod, pid, out),
            Event::Trouble { pod, pid, why } => self.trouble(now, pod, pid, &why, out),
            Event::Failed { pod, why } => self.fail(now, pod, why, out),
            Event::NotMade { pod } => {
                self.pods.remove(&pod);
            }
            Event::Surveyed { pod, stranger } => self.surveyed(now, pod, stranger, out),
            Event::Compared { pod, shares, kept } => self.compared(now, pod, shares, kept, out),
            Event::Committed { pod, outcome } => self.committed(now, pod, outcome, out),
            Event::FirstEnded { pod: id, status } => {
                if let Some(pod) = self.pods.get_mut(&id) {
                    pod.ended = Some(status);
                    out.push(Action::Record { pod: id });
                }
            }
            Event::Adopted { pod } => {
                self.pods.insert(pod.id, *pod);
            }
            Event::Tick => self.tick(now, out),
        }
        self.settle(now, out);
        actions
    }

    /// Takes back the decision to end: somebody has come at the last moment.
    pub fn stay(&mut self) {
        self.exiting = false;
        self.idle_since = None;
    }

    /// When the next [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<Millis> {
        let pods = self.pods.values().filter_map(|pod| pod.deadline(&self.limits));
        let inquiries = self.inquiries.iter().filter_map(|inquiry| inquiry.deadline);
        let idle = self.idle_since.map(|since| since + self.limits.idle);
        pods.chain(inquiries).chain(idle).min()
    }

    fn message(&mut self, now: Now, peer: Peer, pid: i32, message: ToCoordinator, out: &mut Vec<Action>) {
        match message {
            // These come as events of their own, or are answered at the door.
            ToCoordinator::Launch(_) | ToCoordinator::Restart(_) | ToCoordinator::Table => {}
            ToCoordinator::Checkpoint { selection, kill } => self.checkpoint(now, peer, &selection, kill, out),
            ToCoordinator::Status => {
                let status = self.status();
                reply(out, peer, FromCoordinator::Status(status));
            }
            ToCoordinator::Kill { selection } => self.kill(now, peer, &selection, out),
            ToCoordinator::Interval { selection, seconds } => self.interval(now, peer, &selection, seconds, out),
            ToCoordinator::Quit { kill } => self.quit(now, peer, kill, out),
            ToCoordinator::Runs { pod_id } => self.runs(now, peer, pod_id, out),
            ToCoordinator::Suspended { pod_id, .. } => self.suspended(now, peer, pid, pod_id, out),
            ToCoordinator::Open { descriptions, memory, notes } => {
                self.open(peer, Open { descriptions, memory, notes, ..Open::default() })
            }
            ToCoordinator::Names { files } => self.open(peer, Open { names: files, ..Open::default() }),
            ToCoordinator::Copying { bytes, limits } => {
                self.open(peer, Open { copying: bytes, limits, ..Open::default() })
            }
            ToCoordinator::Reached { phase, stop_ns } => self.reached(now, peer, phase, stop_ns, out),
            // Said by the program when its frozen copy has ended, which may have written all before.
            ToCoordinator::WriteFailed { .. } if self.has_written(peer) => {}
            ToCoordinator::Refused { refusal, .. } | ToCoordinator::WriteFailed { refusal } => {
                self.refused(now, peer, pid, &refusal, out)
            }
            ToCoordinator::Written { .. } => self.written(now, peer, out),
            ToCoordinator::Restarted { pod_id, virtual_pid } => self.restarted(peer, pid, pod_id, virtual_pid, out),
        }
    }

    fn members(&mut self, now: Now, id: u64, members: Vec<Member>, out: &mut Vec<Action>) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        if pod.ending {
            let known: Vec<i32> = pod.members.iter().map(|member| member.pid).collect();
            let new = members.iter().filter(|member| !known.contains(&member.pid));
            out.extend(new.map(|member| Action::Kill { pod: id, pid: member.pid }));
        }
        pod.members = members;
        self.members_changed(now, id, out);
    }

    /// What follows from any event: checkpoints that have waited begin, pods that have ended go, requests that are complete are
    /// answered.
    fn settle(&mut self, now: Now, out: &mut Vec<Action>) {
        let waiting: Vec<u64> = self.pods.values().filter(|pod| !pod.wanted.is_empty()).map(|pod| pod.id).collect();
        waiting.into_iter().for_each(|id| self.take_wanted(now, id, out));
        let ended: Vec<u64> = self.pods.values().filter(|pod| pod.has_ended()).map(|pod| pod.id).collect();
        for id in ended {
            for (number, _) in self.pods.get_mut(&id).map(|pod| std::mem::take(&mut pod.wanted)).unwrap_or_default() {
                self.conclude(number, id, Err("has ended".to_string()));
            }
            self.pods.remove(&id);
            out.push(Action::Remove { pod: id });
            for inquiry in self.inquiries.iter_mut().filter(|inquiry| inquiry.kind != InquiryKind::Checkpoint) {
                inquiry.open.retain(|open| *open != id);
            }
        }
        let (complete, open) =
            std::mem::take(&mut self.inquiries).into_iter().partition(|inquiry| inquiry.open.is_empty());
        self.inquiries = open;
        let complete: Vec<Inquiry> = complete;
        for inquiry in complete {
            let answer = match inquiry.kind {
                InquiryKind::Checkpoint => FromCoordinator::Checkpointed { pods: inquiry.results },
                InquiryKind::Kill | InquiryKind::Quit => FromCoordinator::Done { pods: inquiry.names },
            };
            reply(out, inquiry.peer, answer);
            if inquiry.kind == InquiryKind::Quit {
                self.exiting = true;
            }
        }
        if self.exiting {
            out.push(Action::Exit);
        }
        if self.pods.is_empty() && self.inquiries.is_empty() {
            self.idle_since.get_or_insert(now.millis);
        } else {
            self.idle_since = None;
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let pods: Vec<u64> = self.pods.keys().copied().collect();
        for pod in pods {
            self.tick_checkpoint(now, pod, out);
            self.tick_interval(now, pod, out);
        }
        self.tick_inquiries(now, out);
        if self.idle_since.is_some_and(|since| now.millis >= since + self.limits.idle) {
            self.exiting = true;
        }
    }

    /// The pods that are meant, or the answer that says why there are none.
    fn select(&self, selection: &Selection) -> Result<Vec<u64>, Box<FromCoordinator>> {
        let failed = |why: String, usage: bool| Box::new(FromCoordinator::Failed { why, usage });
        match selection {
            Selection::All => Ok(self.pods.keys().copied().collect()),
            Selection::Named(name) => match self.pods.values().find(|pod| pod.name == *name) {
                Some(pod) => Ok(vec![pod.id]),
                None => Err(failed(format!("pod {name}: there is no such pod"), false)),
            },
            Selection::Only => match self.pods.len() {
                0 => Err(failed("no pod is running".into(), false)),
                1 => Ok(self.pods.keys().copied().collect()),
                _ => {
                    let names: Vec<&str> = self.pods.values().map(|pod| pod.name.as_str()).collect();
                    Err(failed(
                        format!("several pods are running ({}); choose with --pod or --all", names.join(", ")),
                        true,
                    ))
                }
            },
        }
    }
}

/// An answer to a tool, after which the connection has served.
fn reply(out: &mut Vec<Action>, peer: Peer, message: FromCoordinator) {
    out.push(Action::Send { peer, message: Box::new(message) });
    out.push(Action::Close { peer });
}

fn fail_reply(out: &mut Vec<Action>, peer: Peer, why: impl Into<String>) {
    reply(out, peer, FromCoordinator::Failed { why: why.into(), usage: false });
}

/// The faults of which the core says when they are due.
fn fault_at(out: &mut Vec<Action>, name: &'static str) {
    debug_assert!(fault::ALL.contains(&name));
    out.push(Action::Fault(name));
}
