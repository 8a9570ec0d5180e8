//! What is said on the coordinator's socket, and in which order.
//!
//! A tool connects, sends one request, and gets one answer. A process connects when the coordinator has signalled it,
//! says [`ToCoordinator::Suspended`], and from then on alternates: the coordinator says [`FromCoordinator::Proceed`]
//! with a phase, the process answers [`ToCoordinator::Reached`] it or [`ToCoordinator::Refused`] it. The frozen copy
//! that writes the image holds the same connection and says [`ToCoordinator::Written`] on it, at any later time. Either
//! side that hangs up early has failed: the process then resumes on its own.

use crate::private::Private;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The phases of a checkpoint, in order. Each begins when every process of the pod has ended the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// All threads stand; no code of the program runs until Resume. Reported by connecting.
    Suspend,
    /// Data in flight between processes of the pod is taken in.
    Drain,
    /// Plugins have saved, the frozen copy exists and writes on its own.
    Save,
    /// What was drained is back in place.
    Refill,
    /// The program runs again.
    Resume,
}

/// How a pod is to be run; kept for its whole life and across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSettings {
    /// Directory of the images, absolute.
    pub ckpt_dir: String,
    /// Seconds between checkpoints; 0 for none.
    pub interval: u64,
    /// Generations of images kept.
    pub keep: u32,
    /// A [`crate::Compress`] as text: `none`, `lz4`, `zstd` or `zstd:LEVEL`.
    pub compress: String,
    /// Zap's signal in this pod.
    pub signal: i32,
    /// Files that are open for writing are kept with each checkpoint.
    pub snapshot_files: bool,
    /// Directories of the pod's own.
    pub private: Private,
}

/// Device and inode of a standard stream at launch, by which it is recognised later.
pub type StreamId = (u64, u64);

/// A request to put the calling process into a pod (it becomes the program by exec, keeping its pid).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    pub protocol: u32,
    /// Name to create or join; by default one made from the program's.
    pub pod: Option<String>,
    /// Last component of the program's path.
    pub program: String,
    pub settings: PodSettings,
    /// Identity of descriptors 0, 1 and 2.
    pub streams: [StreamId; 3],
}

/// A request to make a pod for the processes of an image set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restart {
    pub protocol: u32,
    /// The pod's id in the images. A living pod with it makes the new one a clone, with an id of its own.
    pub pod_id: u64,
    /// `--pod`, or nothing to use `recorded_name` (numbered when that is taken).
    pub name: Option<String>,
    pub recorded_name: String,
    pub generation: u32,
    pub settings: PodSettings,
    pub streams: [StreamId; 3],
    /// (virtual pid, program) of each process that will come.
    pub members: Vec<(i32, String)>,
    /// Paths of the images, for `--status`.
    pub images: Vec<String>,
    /// As [`SaveOrder::ended`].
    pub ended: Option<i32>,
}

/// Which pods a command means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selection {
    /// The only one; several are an error that names them.
    Only,
    Named(String),
    All,
}

/// Why a process, or the coordinator, will not do a thing: which object, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The descriptor, mapping, thread, child … that is in the way.
    pub object: String,
    pub reason: String,
}

/// What is said to the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToCoordinator {
    // Tools.
    Launch(Launch),
    Restart(Restart),
    Checkpoint {
        selection: Selection,
        kill: bool,
    },
    Status,
    Kill {
        selection: Selection,
    },
    Interval {
        selection: Selection,
        seconds: u64,
    },
    /// End the coordinator; with `kill`, its pods too.
    Quit {
        kill: bool,
    },
    /// From zap-restart: every process of the pod is whole, and runs from now on.
    Runs {
        pod_id: u64,
    },
    // Processes.
    /// First word of a process that was signalled: its threads stand.
    Suspended {
        pod_id: u64,
        virtual_pid: i32,
        threads: u32,
    },
    /// Said in phase Drain, before it is reached: the process's open file descriptions, the shared memory that it would
    /// save, and what its plugins tell others of some of the descriptions. What is too much for one message comes in
    /// several.
    Open {
        descriptions: Vec<Seen>,
        memory: Vec<Stretch>,
        notes: Vec<Note>,
    },
    /// Said in phase Drain too: what the files are called that the process has open or has mapped shared. In several
    /// messages too.
    Names {
        files: Vec<FileName>,
    },
    /// Said in phase Drain by a process that has memory of huge pages: how much it will copy to ordinary memory, and what
    /// limits that.
    Copying {
        bytes: u64,
        limits: Vec<MemoryLimit>,
    },
    Reached {
        phase: Phase,
        stop_ns: u64,
    },
    Refused {
        phase: Phase,
        refusal: Refusal,
    },
    /// From the frozen copy: the image is whole in the descriptor it was given.
    Written {
        bytes: u64,
    },
    WriteFailed {
        refusal: Refusal,
    },
    /// First word of a restarted process, before its program runs.
    Restarted {
        pod_id: u64,
        virtual_pid: i32,
    },
    /// Asked at the door by a program that has been exec'ed in the pod and cannot open the table's path: it runs as
    /// another user.
    Table,
}

/// An open file description as one process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The process's own number for it.
    pub id: u32,
    /// A descriptor that refers to it.
    pub fd: i32,
    /// Device and inode of its file.
    pub file: (u64, u64),
    /// What is made as one thing with others: both ends of a pipe, say. Else zeroes.
    pub object: (u64, u64),
    /// Access mode: O_RDONLY, O_WRONLY or O_RDWR.
    pub access: i32,
    /// Whether the file is to be kept beside the images.
    pub keep: Keep,
}

/// When a file is kept whole beside the images (`zap_image::kept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    #[default]
    No,
    /// If the pod keeps files ([`PodSettings::snapshot_files`]).
    IfWanted,
    /// If more than so many bytes of it are not saved as memory.
    Above(u64),
}

/// What a process tells of one of its open file descriptions to whoever makes its object again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// [`Seen::id`].
    pub id: u32,
    /// The plugin's own language.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A [`Note`] as it is handed on, to every process that has a description of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectNote {
    /// [`Share::object`].
    pub object: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A part of an object of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stretch {
    /// Device and inode, as the process's list of mappings shows them.
    pub object: (u64, u64),
    /// Offsets in the object: first byte, and behind the last.
    pub start: u64,
    pub end: u64,
}

/// A file as one process has it: what is known of its names, where a file that has lost one is saved as memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileName {
    /// Device and inode: of what is mapped, as the list of mappings shows them; of what is open, as fstat(2) does.
    pub file: (u64, u64),
    /// The path by which the process came to it, as the kernel tells it now.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    pub hold: Hold,
}

/// How a process has a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hold {
    /// Mapped shared, by a name that it has lost: saved as memory ([`Stretch`]). With `one_device` fstat(2) shows the same
    /// device for it.
    Lost { one_device: bool },
    /// Mapped, by a name that it has.
    Mapped,
    /// Open; whether it has any name.
    Open { named: bool },
}

/// What limits the memory that several processes may take together: that of the host, or a control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLimit {
    /// Device and inode of the group's directory, which tell it from others; zeroes for the host.
    pub group: (u64, u64),
    /// The directory's path; empty for the host.
    pub path: String,
    /// Bytes that are left.
    pub available: u64,
}

/// What a description of one process has in common with those of others. Processes are told of no other ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// [`Seen::id`].
    pub id: u32,
    /// Names the description among those of the pod; 0 when no other process has it.
    pub description: u64,
    /// This process saves it, and makes it again.
    pub leads: bool,
    /// Names the object; 0 when no other description in another process is of it.
    pub object: u64,
    /// This process saves what is the object's own, and makes it again.
    pub leads_object: bool,
    /// Which access modes there are among the pod's descriptions of the object: bit `1 << access` for each.
    pub accesses: u32,
    /// The file is mapped shared in the pod, by [`Stretch`]es that are saved as memory: up to this offset without a gap.
    pub mapped: Option<u64>,
}

/// The order to save. It has no bound, since a pod has none: it comes in a file in memory, whose descriptor goes with the
/// image's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SaveOrder {
    pub pod_id: u64,
    pub pod_name: String,
    pub generation: u32,
    /// Seconds since the epoch.
    pub time: u64,
    pub settings: PodSettings,
    /// CLOCK_REALTIME in nanoseconds, when all processes stood: here the clocks of all stop.
    pub stopped_ns: u64,
    /// (virtual pid, program) of every process of the pod.
    pub members: Vec<(i32, String)>,
    pub shares: Vec<Share>,
    /// Of the objects in `shares`: one for each description in the pod of which something was told.
    pub notes: Vec<ObjectNote>,
    /// What other processes save of the shared memory.
    pub elsewhere: Vec<Stretch>,
    /// Device and inode of each file that is open in the pod and of which this process has such memory.
    pub open: Vec<(u64, u64)>,
    /// Device and inode of each file of the pod that is kept beside the images.
    pub kept: Vec<(u64, u64)>,
    /// How the pod's first process has ended, as wait(2) tells it; nothing while it lives.
    pub ended: Option<i32>,
}

/// What the coordinator says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromCoordinator {
    // To tools.
    /// The pod is there and the caller a member; its table's path.
    InPod {
        pod_id: u64,
        name: String,
        table: String,
    },
    Checkpointed {
        pods: Vec<CheckpointResult>,
    },
    Status(Status),
    Done {
        pods: Vec<String>,
    },
    /// The request could not be carried out; `usage` when it was ambiguous (exit status 2).
    Failed {
        why: String,
        usage: bool,
    },
    // To processes. With Save come two descriptors: of the image, and of a file with a [`SaveOrder`].
    Proceed {
        phase: Phase,
    },
    /// The checkpoint is off: put everything back and resume.
    Abandon,
    /// The pod's table comes with it, as a descriptor.
    Table,
}

/// One pod's part of the answer to a checkpoint request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointResult {
    pub pod: String,
    /// Paths of the images, or why there are none.
    pub outcome: Result<CheckpointRecord, String>,
}

/// A complete checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    pub generation: u32,
    /// Seconds since the epoch.
    pub time: u64,
    /// Longest time that a process stood, in microseconds; 0 if that is not known, as after a restart.
    pub stop_us: u64,
    /// Bytes of all images.
    pub bytes: u64,
    pub images: Vec<String>,
}

/// Answer to `--status`; serialized as JSON by zap-command in just this shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub pods: Vec<PodStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodStatus {
    pub name: String,
    /// `running`, `checkpointing` or `restarting`.
    pub state: String,
    pub processes: Vec<ProcessStatus>,
    pub last_checkpoint: Option<CheckpointRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    pub virtual_pid: i32,
    pub pid: i32,
    pub program: String,
    /// `running`, `stopped` or `suspended`.
    pub state: String,
    /// Why it cannot be checkpointed any more; absent if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_checkpointable: Option<String>,
}
