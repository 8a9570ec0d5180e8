//! One pod: its processes, its settings, and the checkpoint under way.

use super::checkpoint::{Checkpoint, Stage};
use super::{Limits, Millis};
use std::collections::VecDeque;
use zap_wire::message::{CheckpointRecord, PodSettings, PodStatus, ProcessStatus};

/// A living process of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub pid: i32,
    pub virtual_pid: i32,
    pub program: String,
    /// Stopped by a signal.
    pub stopped: bool,
    /// Why it cannot be checkpointed any more.
    pub not_checkpointable: Option<String>,
}

/// Whether the pod's programs are there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    Running,
    /// zap-restart has not said yet that all are whole.
    Restarting {
        /// Processes that have not come yet: (virtual pid, program).
        expected: Vec<(i32, String)>,
        /// That of the pod's first process, or if that had ended, of another one.
        first: i32,
        requester_gone: bool,
    },
    /// Made for a process that is being entered.
    Launching,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: u64,
    pub name: String,
    pub settings: PodSettings,
    /// Number of the last complete checkpoint, 0 before the first.
    pub generation: u32,
    pub last: Option<CheckpointRecord>,
    pub members: Vec<Member>,
    pub state: PodState,
    /// The pod's first process, 0 if that is not known; and how it has ended.
    pub first: i32,
    pub ended: Option<i32>,
    /// All processes have been killed.
    pub(super) ending: bool,
    pub(super) checkpoint: Option<Checkpoint>,
    /// Checkpoints asked for while one was under way: number of the inquiry, and whether to kill.
    pub(super) wanted: VecDeque<(u64, bool)>,
    /// When the next checkpoint by interval is due.
    pub(super) due: Option<Millis>,
}

impl Pod {
    /// Whether not all of its processes are whole yet.
    pub fn is_restarting(&self) -> bool {
        matches!(self.state, PodState::Restarting { .. })
    }

    /// A pod whose processes are still to come.
    pub fn new(id: u64, name: String, settings: PodSettings, now: Millis) -> Self {
        let mut pod = Self {
            id,
            name,
            settings,
            generation: 0,
            last: None,
            members: Vec::new(),
            state: PodState::Launching,
            first: 0,
            ended: None,
            ending: false,
            checkpoint: None,
            wanted: VecDeque::new(),
            due: None,
        };
        pod.schedule(now);
        pod
    }

    /// Whether a checkpoint by interval is due.
    pub fn is_due(&self, now: Millis) -> bool {
        self.checkpoint.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// Sets the next checkpoint by interval.
    pub(super) fn schedule(&mut self, now: Millis) {
        self.due =
            (self.settings.interval != 0).then(|| now.saturating_add(self.settings.interval.saturating_mul(1000)));
    }

    /// The pod as `--status` shows it.
    pub(super) fn status(&self) -> PodStatus {
        let state = match (&self.state, &self.checkpoint) {
            (PodState::Restarting { .. }, _) => "restarting",
            (_, Some(_)) => "checkpointing",
            _ => "running",
        };
        let processes = self.members.iter().map(|member| ProcessStatus {
            virtual_pid: member.virtual_pid,
            pid: member.pid,
            program: member.program.clone(),
            state: if self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.is_suspended(member.pid)) {
                "suspended".into()
            } else if member.stopped {
                "stopped".into()
            } else {
                "running".into()
            },
            not_checkpointable: member.not_checkpointable.clone(),
        });
        PodStatus {
            name: self.name.clone(),
            state: state.into(),
            processes: processes.collect(),
            last_checkpoint: self.last.clone(),
        }
    }

    /// Whether nothing is left of it. A checkpoint that only has to be written and committed is finished first: its
    /// images are whole even though the program has ended meanwhile.
    pub(super) fn has_ended(&self) -> bool {
        let coming = match &self.state {
            PodState::Restarting { requester_gone, .. } => !requester_gone && !self.ending,
            PodState::Launching => true,
            PodState::Running => false,
        };
        self.members.is_empty() && !coming && self.checkpoint.is_none()
    }

    pub(super) fn deadline(&self, limits: &Limits) -> Option<Millis> {
        match &self.checkpoint {
            Some(checkpoint) => {
                let looks = matches!(checkpoint.stage, Stage::Examine | Stage::Suspend | Stage::Survey);
                let look = looks.then_some(checkpoint.looked + limits.look);
                look.into_iter().chain(checkpoint.deadline).chain(checkpoint.reminder(limits)).min()
            }
            None => self.due,
        }
    }
}
