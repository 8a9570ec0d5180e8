//! The checkpoint of one pod, stage by stage. See "Checkpoint, step by step" in ARCHITECTURE.md.
//!
//! All or nothing: whatever fails on the way, every process that still stands is told to abandon, the temporary files go
//! and older images stay.

use super::pod::{Member, Pod, PodState};
use super::{fault_at, Action, Common, Core, Kept, Limits, Millis, Now, Open, Peer, Verdict};
use std::collections::BTreeMap;
use std::mem::Discriminant;
use zap_image::name::ImageName;
use zap_wire::message::{CheckpointRecord, Refusal, SaveOrder};
use zap_wire::{fault, FromCoordinator, Phase};

/// How much longer than any other phase the copying of files may take that are kept beside the images.
const COPY_PATIENCE: u64 = 60;

/// How much longer than any other phase saving may take: shared memory is copied while the program
/// stands, and where no process can be made it writes its image.
const SAVE_PATIENCE: u64 = 6;

/// How many times as long one that starts is waited for while it lacks a processor or a disk.
const LACKING: u64 = 4;

/// How many times as long as for one newcomer is waited where one comes after the other.
const MANY: u64 = 4;

const NOT_STARTED: &str = "process: has not finished starting (libzap is not ready in it)";

/// Where a checkpoint stands. Each stage ends when every participant has done its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Processes are looked at; none knows yet.
    Examine,
    /// Processes have been signalled, and connect.
    Suspend,
    /// All that are known stand; whether others have been made meanwhile is looked for.
    Survey,
    Drain,
    /// What several processes have open is compared.
    Compare,
    Save,
    Refill,
    Resume,
    /// The frozen copies write. With `kill` the processes still stand.
    Write,
    /// Images are synced and renamed.
    Commit,
    /// With `kill`: the images are there, the processes have been killed.
    End,
}

/// A checkpoint under way.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub stage: Stage,
    /// When everybody must be ready for the signal, however many newcomers there are.
    latest: Millis,
    /// When the present stage has taken too long.
    pub deadline: Option<Millis>,
    /// When things that give no notice were last looked at.
    pub looked: Millis,
    /// When processes that stand until their images are there last heard something.
    reminded: Millis,
    /// Which process that is none of the pod's is in the way of the survey, and since when.
    obstructed: Option<(String, Millis)>,
    /// Seconds since the epoch.
    time: u64,
    generation: u32,
    kill: bool,
    inquiry: Option<u64>,
    participants: Vec<Participant>,
}

/// One process in a checkpoint.
#[derive(Clone, Debug)]
struct Participant {
    pid: i32,
    virtual_pid: i32,
    program: String,
    ready: bool,
    /// It has been made since the checkpoint began: the others are suspended before it is ready. Where processes are made all the
    /// time there is always one that is not.
    late: bool,
    /// It has been asked to suspend itself.
    signalled: bool,
    /// It is stopped.
    halted: bool,
    /// Halted, it has been continued into Zap's handler.
    woken: bool,
    /// What it has open.
    open: Open,
    /// When it was judged for the first time.
    examined: Option<Millis>,
    /// What was in its way last, and since when.
    obstacle: Option<(Obstacle, Millis)>,
    peer: Option<Peer>,
    reached: Phase,
    /// It runs again, or has ended after its snapshot.
    resumed: bool,
    /// It has hung up while it was to stand.
    lost: bool,
    written: bool,
    stop_ns: u64,
}

/// A kind of verdict, whether the process waits, and the number of the child that it is for.
type Obstacle = (Discriminant<Verdict>, bool, Option<i32>);

fn obstacle(verdict: &Verdict) -> Obstacle {
    let child = match verdict {
        Verdict::Held(child, _) | Verdict::Blocked(child, _) => Some(*child),
        _ => None,
    };
    (std::mem::discriminant(verdict), matches!(verdict, Verdict::Starting { waits: true }), child)
}

impl Participant {
    fn new(member: &Member) -> Self {
        Self {
            pid: member.pid,
            virtual_pid: member.virtual_pid,
            program: member.program.clone(),
            ready: false,
            late: false,
            signalled: false,
            halted: false,
            woken: false,
            open: Open::default(),
            examined: None,
            obstacle: None,
            peer: None,
            reached: Phase::Suspend,
            resumed: false,
            lost: false,
            written: false,
            stop_ns: 0,
        }
    }

    /// Pid, and the name of its image.
    fn image(&self, pod: u64, generation: u32) -> (i32, String) {
        let (program, virtual_pid) = (self.program.clone(), self.virtual_pid);
        (self.pid, ImageName { program, pod_id: pod, virtual_pid, generation }.format())
    }

    fn describe(&self) -> String {
        format!("{} (pid {})", self.program, self.pid)
    }
}

impl Checkpoint {
    /// Whether the process stands.
    pub fn is_suspended(&self, pid: i32) -> bool {
        let stands = |participant: &Participant| participant.peer.is_some() && !participant.resumed;
        self.participants.iter().any(|participant| participant.pid == pid && stands(participant))
    }

    /// When processes that stand until files are copied, or their images are there, must hear something again.
    pub fn reminder(&self, limits: &Limits) -> Option<Millis> {
        let standing = self.stage == Stage::Compare || self.kill && matches!(self.stage, Stage::Write | Stage::Commit);
        standing.then_some(self.reminded + limits.remind)
    }

    fn member_of_peer(&mut self, peer: Peer) -> Option<&mut Participant> {
        self.participants.iter_mut().find(|participant| participant.peer == Some(peer))
    }

    fn proceed(&self, phase: Phase, out: &mut Vec<Action>) {
        for peer in self.participants.iter().filter(|participant| !participant.resumed).filter_map(|p| p.peer) {
            let message = Box::new(FromCoordinator::Proceed { phase });
            out.push(Action::Send { peer, message });
        }
    }

    /// Has those that are ready, and have not been asked yet, suspend themselves.
    fn signal(&mut self, pod: u64, out: &mut Vec<Action>) {
        let due = |participant: &&mut Participant| participant.ready && !participant.signalled;
        let before = out.len();
        for participant in self.participants.iter_mut().filter(due) {
            participant.signalled = true;
            out.push(Action::Signal { pod, pid: participant.pid });
        }
        if out.len() > before {
            fault_at(out, fault::COORDINATOR_SIGNALLED);
        }
    }

    /// Has the next of those that are stopped, in the order of the pod's `members`, continued into Zap's handler, once all others
    /// stand: a parent must not notice. Until `limit` it may take up the signal then.
    fn wake(&mut self, pod: u64, members: &[Member], limit: Millis, out: &mut Vec<Action>) {
        let is_due = |participant: &Participant| participant.halted && !participant.woken && participant.peer.is_none();
        if !self.all(|participant| participant.peer.is_some() || is_due(participant)) {
            return;
        }
        let next = members.iter().map(|member| member.pid);
        let next = next.into_iter().find_map(|pid| self.participants.iter().position(|p| p.pid == pid && is_due(p)));
        if let Some(next) = next {
            self.participants[next].woken = true;
            self.deadline = Some(limit);
            out.push(Action::Wake { pod, pid: self.participants[next].pid });
        }
    }

    /// The order to make the temporary files, one for each participant.
    fn prepare(&self, pod: u64, directory: &str) -> Action {
        let images = self.participants.iter().map(|participant| participant.image(pod, self.generation)).collect();
        Action::Prepare { pod, directory: directory.to_string(), images }
    }

    fn all(&self, done: impl Fn(&Participant) -> bool) -> bool {
        self.participants.iter().all(done)
    }

    fn record(&self, kept: Kept) -> CheckpointRecord {
        CheckpointRecord {
            generation: self.generation,
            time: self.time,
            stop_us: self.participants.iter().map(|participant| participant.stop_ns / 1000).max().unwrap_or(0),
            bytes: kept.bytes,
            images: kept.images,
        }
    }
}

impl Core {
    /// Begins a checkpoint, or puts it behind the one under way, or behind a restart. One by interval (no inquiry) is then left
    /// out.
    pub(super) fn want_checkpoint(
        &mut self,
        now: Now,
        id: u64,
        inquiry: Option<u64>,
        kill: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        if pod.checkpoint.is_some() || pod.is_restarting() {
            pod.wanted.extend(inquiry.map(|number| (number, kill)));
            return;
        }
        let objection = match pod.members.as_slice() {
            _ if pod.ending => Some("is ending".to_string()),
            [] => Some("has no processes".to_string()),
            members => members.iter().find_map(|member| {
                let why = member.not_checkpointable.as_ref();
                why.map(|why| format!("{} (pid {}): {why}", member.program, member.pid))
            }),
        };
        if let Some(why) = objection {
            if let Some(number) = inquiry {
                self.conclude(number, id, Err(why));
            }
            return;
        }
        let checkpoint = Checkpoint {
            stage: Stage::Examine,
            latest: now.millis + self.limits.examining() * MANY,
            deadline: Some(now.millis + self.limits.examining()),
            looked: now.millis,
            reminded: now.millis,
            obstructed: None,
            time: now.epoch,
            generation: pod.generation.saturating_add(1),
            kill,
            inquiry,
            participants: pod.members.iter().map(Participant::new).collect(),
        };
        out.push(checkpoint.prepare(id, &pod.settings.ckpt_dir));
        out.extend(checkpoint.participants.iter().map(|participant| Action::Examine { pod: id, pid: participant.pid }));
        pod.checkpoint = Some(checkpoint);
    }

    pub(super) fn examined(&mut self, now: Now, id: u64, pid: i32, verdict: Verdict, out: &mut Vec<Action>) {
        let limits = self.limits;
        let under_way = |checkpoint: &&mut Checkpoint| checkpoint.stage <= Stage::Suspend;
        let Some(checkpoint) = self.checkpoint_of(id).filter(under_way) else { return };
        let is_it = |participant: &&mut Participant| participant.pid == pid && !participant.ready;
        let Some(participant) = checkpoint.participants.iter_mut().find(is_it) else { return };
        let whole = now.millis.saturating_sub(*participant.examined.get_or_insert(now.millis));
        // Each obstacle has its own time: one may come up when another has gone.
        let kind = obstacle(&verdict);
        let before = participant.obstacle.replace((kind, now.millis));
        if before.is_some_and(|(before, _)| before.0 == kind.0 && before.2 != kind.2) {
            // Another child than before: it makes them all the time, and must stand for the survey to tell.
            participant.ready = true;
            return self.advance(now, id, out);
        }
        let begun = before.filter(|(before, _)| *before == kind).map_or(now.millis, |(_, begun)| begun);
        participant.obstacle = Some((kind, begun));
        let most = limits.starting * if matches!(verdict, Verdict::Starting { .. }) { LACKING } else { 2 };
        let since = if whole < most { now.millis.saturating_sub(begun) } else { whole };
        let why = match verdict {
            Verdict::Gone => return,
            Verdict::Masked if since < limits.masked => return,
            Verdict::Ready | Verdict::Stopped | Verdict::Masked => {
                participant.ready = true;
                participant.halted = verdict == Verdict::Stopped;
                return self.advance(now, id, out);
            }
            Verdict::Starting { waits } if since < limits.starting * if waits { 1 } else { LACKING } => return,
            Verdict::Held(..) if since < limits.starting => return,
            Verdict::Blocked(..) if since < limits.blocked => return,
            Verdict::Starting { waits: true } => NOT_STARTED.to_string(),
            Verdict::Starting { waits: false } => format!("{NOT_STARTED}: it lacks a processor or a disk"),
            Verdict::Held(_, refusal) | Verdict::Blocked(_, refusal) | Verdict::Refused(refusal) => render(&refusal),
        };
        let why = format!("{}: {why}", participant.describe());
        self.fail(now, id, why, out);
    }

    pub(super) fn halted(&mut self, now: Now, id: u64, pid: i32, out: &mut Vec<Action>) {
        let checkpoint = self.checkpoint_of(id).filter(|checkpoint| checkpoint.stage <= Stage::Suspend);
        let participants = checkpoint.into_iter().flat_map(|checkpoint| &mut checkpoint.participants);
        let Some(participant) = participants.into_iter().find(|p| p.pid == pid && p.peer.is_none()) else { return };
        participant.halted = true;
        if participant.woken {
            // It has had its turn, and has stopped once more.
            out.push(Action::Wake { pod: id, pid });
        }
        self.advance(now, id, out);
    }

    pub(super) fn suspended(&mut self, now: Now, peer: Peer, pid: i32, id: u64, out: &mut Vec<Action>) {
        let checkpoint = self.checkpoint_of(id).filter(|checkpoint| checkpoint.stage <= Stage::Suspend);
        let expected = checkpoint.and_then(|checkpoint| {
            let is_it = |participant: &&mut Participant| participant.pid == pid && participant.signalled;
            checkpoint.participants.iter_mut().find(is_it).filter(|participant| participant.peer.is_none())
        });
        match expected {
            Some(participant) => {
                participant.peer = Some(peer);
                self.advance(now, id, out);
            }
            // It answers a request that has been given up, or that another coordinator made.
            None => out.push(Action::Send { peer, message: Box::new(FromCoordinator::Abandon) }),
        }
    }

    pub(super) fn open(&mut self, peer: Peer, more: Open) {
        let checkpoint = self.pod_of_peer(peer).and_then(|id| self.in_stage(id, Stage::Drain));
        if let Some(participant) = checkpoint.and_then(|checkpoint| checkpoint.member_of_peer(peer)) {
            participant.open.descriptions.extend(more.descriptions);
            participant.open.memory.extend(more.memory);
            participant.open.notes.extend(more.notes);
            participant.open.names.extend(more.names);
            participant.open.copying = participant.open.copying.saturating_add(more.copying);
            participant.open.limits.extend(more.limits);
        }
    }

    /// All that are known stand; `stranger` is a process that is in the way.
    pub(super) fn surveyed(&mut self, now: Now, id: u64, stranger: Option<Refusal>, out: &mut Vec<Action>) {
        let limit = self.limits;
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let Some(checkpoint) = pod.checkpoint.as_mut().filter(|checkpoint| checkpoint.stage == Stage::Survey) else {
            return;
        };
        if let Some(stranger) = stranger {
            let before = checkpoint.obstructed.take().filter(|(object, _)| *object == stranger.object);
            let since = before.map_or(now.millis, |(_, since)| since);
            checkpoint.obstructed = Some((stranger.object.clone(), since));
            if now.millis.saturating_sub(since) >= limit.blocked {
                self.fail(now, id, render(&stranger), out);
            }
            return;
        }
        fault_at(out, fault::COORDINATOR_SUSPENDED);
        out.push(checkpoint.prepare(id, &pod.settings.ckpt_dir));
        checkpoint.proceed(Phase::Drain, out);
        checkpoint.stage = Stage::Drain;
        checkpoint.deadline = Some(now.millis + limit.answer);
    }

    /// It is known what the processes share: for each pid.
    pub(super) fn compared(
        &mut self,
        now: Now,
        id: u64,
        shares: Result<BTreeMap<i32, Common>, String>,
        kept: Vec<(u64, u64)>,
        out: &mut Vec<Action>,
    ) {
        let limit = self.limits.answer * SAVE_PATIENCE;
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let Some(checkpoint) = pod.checkpoint.as_mut().filter(|checkpoint| checkpoint.stage == Stage::Compare) else {
            return;
        };
        let mut shares = match shares {
            Ok(shares) => shares,
            Err(why) => return self.fail(now, id, why, out),
        };
        // They may have become known in another order than that in which the pod has them by now.
        let places: BTreeMap<i32, usize> =
            pod.members.iter().enumerate().map(|(place, member)| (member.pid, place)).collect();
        checkpoint.participants.sort_by_key(|one| places.get(&one.pid).copied().unwrap_or(usize::MAX));
        let order = SaveOrder {
            pod_id: id,
            pod_name: pod.name.clone(),
            generation: checkpoint.generation,
            time: checkpoint.time,
            settings: pod.settings.clone(),
            stopped_ns: now.epoch_ns,
            members: checkpoint.participants.iter().map(|p| (p.virtual_pid, p.program.clone())).collect(),
            shares: Vec::new(),
            notes: Vec::new(),
            elsewhere: Vec::new(),
            open: Vec::new(),
            kept,
            ended: pod.ended,
        };
        for participant in &checkpoint.participants {
            if let Some(peer) = participant.peer {
                let Common { shares, notes, elsewhere, open } = shares.remove(&participant.pid).unwrap_or_default();
                let order = Box::new(SaveOrder { shares, notes, elsewhere, open, ..order.clone() });
                out.push(Action::Save { pod: id, pid: participant.pid, peer, order });
            }
        }
        fault_at(out, fault::COORDINATOR_SAVING);
        checkpoint.stage = Stage::Save;
        checkpoint.deadline = Some(now.millis + limit);
    }

    pub(super) fn reached(&mut self, now: Now, peer: Peer, phase: Phase, stop_ns: u64, out: &mut Vec<Action>) {
        let Some(id) = self.pod_of_peer(peer) else { return };
        let Some(checkpoint) = self.checkpoint_of(id) else { return };
        let expected = match checkpoint.stage {
            Stage::Drain => Some(Phase::Drain),
            Stage::Save => Some(Phase::Save),
            Stage::Refill => Some(Phase::Refill),
            Stage::Resume => Some(Phase::Resume),
            _ => None,
        };
        let Some(participant) = checkpoint.member_of_peer(peer) else { return };
        participant.stop_ns = participant.stop_ns.max(stop_ns);
        if phase == Phase::Suspend {
            // The answer to a reminder, at whatever stage it comes.
            return;
        }
        if expected == Some(phase) && participant.reached < phase {
            participant.reached = phase;
            participant.resumed |= phase == Phase::Resume;
            self.advance(now, id, out);
        } else if !participant.resumed {
            let why = format!("{}: process: answered out of turn (phase {phase:?})", participant.describe());
            self.fail(now, id, why, out);
        }
    }

    pub(super) fn written(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        let Some(id) = self.pod_of_peer(peer) else { return };
        if let Some(checkpoint) = self.checkpoint_of(id).filter(|checkpoint| checkpoint.stage >= Stage::Save) {
            if let Some(participant) = checkpoint.member_of_peer(peer) {
                participant.written = true;
            }
            self.advance(now, id, out);
        }
    }

    pub(super) fn has_written(&mut self, peer: Peer) -> bool {
        let Some(id) = self.pod_of_peer(peer) else { return true };
        self.checkpoint_of(id).and_then(|it| it.member_of_peer(peer)).is_none_or(|participant| participant.written)
    }

    pub(super) fn refused(&mut self, now: Now, peer: Peer, pid: i32, refusal: &Refusal, out: &mut Vec<Action>) {
        // A process that cannot even suspend says so as its first word.
        let Some(id) = self.pod_of_peer(peer).or_else(|| self.pod_awaiting(pid)) else {
            // What it was asked has been given up meanwhile.
            return out.push(Action::Close { peer });
        };
        let Some(checkpoint) = self.checkpoint_of(id) else { return };
        let says = |participant: &&Participant| participant.peer == Some(peer) || participant.pid == pid;
        let Some(participant) = checkpoint.participants.iter().find(says) else { return };
        let why = format!("{}: {}", participant.describe(), render(refusal));
        if participant.peer.is_none() {
            // A helper that speaks for it, and waits for a word.
            out.push(Action::Send { peer, message: Box::new(FromCoordinator::Abandon) });
        }
        self.fail(now, id, why, out);
    }

    pub(super) fn trouble(&mut self, now: Now, id: u64, pid: i32, why: &str, out: &mut Vec<Action>) {
        let Some(checkpoint) = self.checkpoint_of(id).filter(|it| it.stage <= Stage::Suspend) else { return };
        let who =
            checkpoint.participants.iter().find(|participant| participant.pid == pid && participant.peer.is_none());
        if let Some(participant) = who {
            let why = format!("{}: {why}", participant.describe());
            self.fail(now, id, why, out);
        }
    }

    pub(super) fn hung_up(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        let Some(id) = self.pod_of_peer(peer) else { return };
        let Some(checkpoint) = self.checkpoint_of(id) else { return };
        let (stage, kill) = (checkpoint.stage, checkpoint.kill);
        let Some(participant) = checkpoint.member_of_peer(peer) else { return };
        let harmless = participant.written && (participant.resumed || (stage >= Stage::Resume && !kill));
        if harmless {
            participant.resumed = true;
            return self.advance(now, id, out);
        }
        if stage >= Stage::Commit {
            participant.lost = true;
            return;
        }
        let what = if participant.written { "before it was resumed" } else { "before its image was written" };
        participant.peer = None;
        let why = format!("{}: process: ended or hung up {what}", participant.describe());
        self.fail(now, id, why, out);
    }

    pub(super) fn members_changed(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        if pod.state == PodState::Launching && !pod.members.is_empty() {
            pod.state = PodState::Running;
        }
        let Some(checkpoint) = &mut pod.checkpoint else { return };
        let mut gone = None;
        if checkpoint.stage <= Stage::Survey {
            // One that had not been suspended yet has ended by itself, and is in no image.
            let is_there = |pid: i32| pod.members.iter().any(|member| member.pid == pid);
            let others = pod.members.len();
            checkpoint.participants.retain(|p| p.peer.is_some() || is_there(p.pid) || others == 0);
            let known: Vec<i32> = checkpoint.participants.iter().map(|participant| participant.pid).collect();
            let newcomers = || pod.members.iter().filter(|member| !known.contains(&member.pid));
            let refuses = newcomers().find_map(|member| {
                let why = member.not_checkpointable.as_ref()?;
                Some(format!("{} (pid {}): {why}", member.program, member.pid))
            });
            if let Some(why) = refuses {
                return self.fail(now, id, why, out);
            }
            for member in newcomers() {
                checkpoint.participants.push(Participant { late: true, ..Participant::new(member) });
                checkpoint.stage = Stage::Examine;
                checkpoint.deadline = Some((now.millis + self.limits.examining()).min(checkpoint.latest));
                out.push(Action::Examine { pod: id, pid: member.pid });
            }
        }
        for participant in &mut checkpoint.participants {
            if !pod.members.iter().any(|member| member.pid == participant.pid) {
                if checkpoint.stage < Stage::Save || participant.reached < Phase::Save {
                    gone = Some(participant.describe());
                } else {
                    // Its snapshot is taken: the image will be whole without it.
                    participant.resumed = true;
                }
            }
        }
        match gone {
            Some(who) => self.fail(now, id, format!("{who}: process: ended before its state was saved"), out),
            None => self.advance(now, id, out),
        }
    }

    pub(super) fn committed(&mut self, now: Now, id: u64, outcome: Result<Kept, String>, out: &mut Vec<Action>) {
        let Some(checkpoint) = self.in_stage(id, Stage::Commit) else { return };
        let kept = match outcome {
            Ok(kept) => kept,
            Err(why) => return self.fail(now, id, why, out),
        };
        let record = checkpoint.record(kept);
        let deadline = now.millis + self.limits.ending;
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let Some(checkpoint) = &mut pod.checkpoint else { return };
        pod.generation = record.generation;
        pod.last = Some(record);
        out.push(Action::Record { pod: id });
        let lost = checkpoint
            .participants
            .iter()
            .find(|participant| participant.lost && pod.members.iter().any(|member| member.pid == participant.pid));
        if let Some(participant) = lost.filter(|_| checkpoint.kill) {
            let why = format!("{}: ran on by itself, and was not killed; its images are whole", participant.describe());
            return self.finish(now, id, Err(why), out);
        }
        if !checkpoint.kill {
            return self.finish_well(now, id, out);
        }
        checkpoint.stage = Stage::End;
        checkpoint.deadline = Some(deadline);
        pod.ending = true;
        out.extend(pod.members.iter().map(|member| Action::Kill { pod: id, pid: member.pid }));
        self.advance(now, id, out);
    }

    pub(super) fn tick_checkpoint(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let limits = self.limits;
        let Some(checkpoint) = self.checkpoint_of(id) else { return };
        if checkpoint.deadline.is_some_and(|deadline| now.millis >= deadline) {
            let stage = checkpoint.stage;
            let slow = |participant: &&Participant| match stage {
                Stage::Examine => !participant.ready,
                Stage::Suspend => participant.peer.is_none(),
                Stage::Drain => participant.reached < Phase::Drain,
                Stage::Save => participant.reached < Phase::Save,
                Stage::Refill => participant.reached < Phase::Refill,
                _ => !participant.resumed,
            };
            let who = checkpoint.participants.iter().find(slow).map(Participant::describe).unwrap_or_default();
            let patience = if stage == Stage::Save { SAVE_PATIENCE } else { 1 };
            let seconds = limits.answer * patience / 1000;
            let why = match stage {
                Stage::Examine => format!("{who}: process: could not be signalled in {} s", limits.examining() / 1000),
                Stage::Compare => {
                    let seconds = limits.answer * COPY_PATIENCE / 1000;
                    format!("files of the pod: not copied within {seconds} s")
                }
                Stage::End => format!("{who}: was killed but has not ended yet; its images are whole"),
                _ => format!("{who}: process: did not answer within {seconds} s (phase {stage:?})"),
            };
            return if stage == Stage::End {
                self.finish(now, id, Err(why), out)
            } else {
                self.fail(now, id, why, out)
            };
        }
        if checkpoint.reminder(&limits).is_some_and(|due| now.millis >= due) {
            checkpoint.reminded = now.millis;
            checkpoint.proceed(Phase::Suspend, out);
        }
        if now.millis < checkpoint.looked + limits.look {
            return;
        }
        checkpoint.looked = now.millis;
        for participant in &checkpoint.participants {
            let pid = participant.pid;
            match checkpoint.stage {
                Stage::Examine | Stage::Suspend if !participant.ready => out.push(Action::Examine { pod: id, pid }),
                // It has not had its turn.
                Stage::Examine | Stage::Suspend if participant.halted && !participant.woken => {}
                Stage::Examine | Stage::Suspend if participant.signalled && participant.peer.is_none() => {
                    out.push(Action::Look { pod: id, pid })
                }
                _ => {}
            }
        }
        if checkpoint.stage == Stage::Survey {
            out.push(Action::Survey { pod: id });
        }
    }

    pub(super) fn tick_interval(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        if pod.checkpoint.is_none() && pod.due.is_some_and(|due| now.millis >= due) {
            pod.schedule(now.millis);
            self.want_checkpoint(now, id, None, false, out);
        }
    }

    /// Calls the checkpoint off: every process that stands resumes, nothing of it stays.
    pub(super) fn fail(&mut self, now: Now, id: u64, why: String, out: &mut Vec<Action>) {
        let Some(checkpoint) = self.checkpoint_of(id) else { return };
        for participant in checkpoint.participants.iter().filter(|participant| !participant.resumed) {
            if let Some(peer) = participant.peer {
                out.push(Action::Send { peer, message: Box::new(FromCoordinator::Abandon) });
            }
        }
        out.push(Action::Discard { pod: id });
        self.finish(now, id, Err(why), out);
    }

    /// Goes through the stages as far as the participants allow.
    fn advance(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let limits = self.limits;
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let Some(checkpoint) = &mut pod.checkpoint else { return };
        let answer = now.millis + limits.answer;
        if checkpoint.stage == Stage::Suspend {
            checkpoint.signal(id, out);
            checkpoint.wake(id, &pod.members, answer, out);
        }
        loop {
            let limit = Some(answer);
            let (stage, deadline) = match checkpoint.stage {
                Stage::Examine if checkpoint.all(|participant| participant.ready || participant.late) => {
                    checkpoint.signal(id, out);
                    checkpoint.wake(id, &pod.members, answer, out);
                    (Stage::Suspend, limit)
                }
                Stage::Suspend if checkpoint.all(|participant| participant.peer.is_some()) => {
                    out.push(Action::Survey { pod: id });
                    (Stage::Survey, limit)
                }
                Stage::Drain if checkpoint.all(|participant| participant.reached >= Phase::Drain) => {
                    let open = checkpoint.participants.iter_mut();
                    let open = open.map(|participant| (participant.pid, std::mem::take(&mut participant.open)));
                    let (generation, keeps) = (checkpoint.generation, pod.settings.snapshot_files);
                    out.push(Action::Compare { pod: id, generation, keeps, open: open.collect() });
                    checkpoint.reminded = now.millis;
                    (Stage::Compare, Some(now.millis + limits.answer * COPY_PATIENCE))
                }
                Stage::Save if checkpoint.all(|participant| participant.reached >= Phase::Save) => {
                    if checkpoint.kill {
                        (Stage::Write, None)
                    } else {
                        checkpoint.proceed(Phase::Refill, out);
                        (Stage::Refill, limit)
                    }
                }
                Stage::Refill if checkpoint.all(|p| p.reached >= Phase::Refill || p.resumed) => {
                    checkpoint.proceed(Phase::Resume, out);
                    (Stage::Resume, limit)
                }
                Stage::Resume if checkpoint.all(|participant| participant.resumed) => (Stage::Write, None),
                Stage::Write if checkpoint.all(|participant| participant.written) => {
                    fault_at(out, fault::COORDINATOR_WRITTEN);
                    let (generation, keep) = (checkpoint.generation, pod.settings.keep.max(1));
                    let compress = pod.settings.compress.clone();
                    out.push(Action::Commit { pod: id, generation, keep, compress });
                    (Stage::Commit, None)
                }
                Stage::End if pod.members.is_empty() => return self.finish_well(now, id, out),
                _ => return,
            };
            checkpoint.stage = stage;
            checkpoint.deadline = deadline;
        }
    }

    /// Ends the checkpoint that has just become the pod's last one.
    fn finish_well(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let record = self.pods.get(&id).and_then(|pod| pod.last.clone());
        self.finish(now, id, record.ok_or_else(|| "no record".to_string()), out);
    }

    fn finish(&mut self, now: Now, id: u64, outcome: Result<CheckpointRecord, String>, out: &mut Vec<Action>) {
        let Some(pod) = self.pods.get_mut(&id) else { return };
        let Some(checkpoint) = pod.checkpoint.take() else { return };
        if let Some(number) = checkpoint.inquiry {
            self.conclude(number, id, outcome);
        }
        self.take_wanted(now, id, out);
    }

    /// Begins what has been waiting behind a checkpoint or a restart.
    pub(super) fn take_wanted(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        // The next may be refused at once, and then it is the turn of the one after it.
        let is_free = |pod: &&mut Pod| pod.checkpoint.is_none() && !pod.is_restarting();
        while let Some(pod) = self.pods.get_mut(&id).filter(is_free) {
            let Some((number, kill)) = pod.wanted.pop_front() else { break };
            self.want_checkpoint(now, id, Some(number), kill, out);
        }
    }

    fn checkpoint_of(&mut self, id: u64) -> Option<&mut Checkpoint> {
        self.pods.get_mut(&id)?.checkpoint.as_mut()
    }

    fn in_stage(&mut self, id: u64, stage: Stage) -> Option<&mut Checkpoint> {
        self.checkpoint_of(id).filter(|checkpoint| checkpoint.stage == stage)
    }

    /// The pod that waits for the process `pid` to connect.
    fn pod_awaiting(&self, pid: i32) -> Option<u64> {
        let awaits = |checkpoint: &Checkpoint| {
            checkpoint.stage <= Stage::Suspend
                && checkpoint
                    .participants
                    .iter()
                    .any(|participant| participant.pid == pid && participant.peer.is_none())
        };
        self.pods.values().find(|pod| pod.checkpoint.as_ref().is_some_and(awaits)).map(|pod| pod.id)
    }

    fn pod_of_peer(&self, peer: Peer) -> Option<u64> {
        let takes_part = |checkpoint: &Checkpoint| checkpoint.participants.iter().any(|p| p.peer == Some(peer));
        self.pods.values().find(|pod| pod.checkpoint.as_ref().is_some_and(takes_part)).map(|pod| pod.id)
    }
}

/// A refusal in words.
fn render(refusal: &Refusal) -> String {
    format!("{}: {}", refusal.object, refusal.reason)
}
