//! The protocol as it is: samples of everything that is said, whose bytes are committed in `golden/`, next to this
//! crate's sources.
//!
//! What fails here cannot talk to a coordinator, or read a pod table, of the same version any more. Either it is a
//! mistake, or version, page (docs/wire-protocol.md) and golden file change in one commit.

use crate::message::{
    CheckpointRecord, CheckpointResult, FileName, Hold, Keep, Launch, MemoryLimit, Note, ObjectNote, PodSettings,
    PodStatus, ProcessStatus, Refusal, Restart, SaveOrder, Seen, Selection, Share, Status, Stretch,
};
use crate::restart::{Moved, Order, Report, RestartParts};
use crate::{decode, encode, FromCoordinator, Phase, ToCoordinator, PROTOCOL_VERSION};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR")))
}

/// Compares `text` with the golden file `name`; `version` names the constant to raise when it differs on purpose.
pub fn check(name: &str, text: &str, version: &str) {
    let path = path(name);
    if std::env::var_os("ZAP_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
    let differing = text.lines().zip(golden.lines()).find(|(here, there)| here != there);
    assert!(
        golden == text,
        "{}: differs; first line {differing:?}. If this is on purpose: raise {version}, change docs/wire-protocol.md, \
         run `ZAP_WRITE_GOLDEN=1 cargo test -p zap-wire`, and commit all three together. Otherwise put it back.",
        path.display()
    );
}

fn settings() -> PodSettings {
    PodSettings {
        ckpt_dir: "/ckpt".into(),
        interval: 600,
        keep: 2,
        compress: "none".into(),
        signal: 62,
        snapshot_files: true,
        private: crate::private::Private {
            by: crate::private::By::Names,
            store: 0x51,
            directories: vec![crate::private::Directory { path: b"/tmp".to_vec(), copied: true }],
            root: None,
        },
    }
}

fn record() -> CheckpointRecord {
    CheckpointRecord {
        generation: 3,
        time: 1_700_000_000,
        stop_us: 1500,
        bytes: 1 << 32,
        images: vec!["/ckpt/i".into()],
    }
}

fn refusal() -> Refusal {
    Refusal { object: "descriptor 5 (socket)".into(), reason: "no plugin supports this kind of descriptor".into() }
}

const POD: u64 = 0x0123_4567_89ab_cdef;
const STREAMS: [(u64, u64); 3] = [(1, 2), (3, 400), (5, 70_000)];

fn members() -> Vec<(i32, String)> {
    vec![(4711, "app".into()), (70_000, "child".into())]
}

/// One of every message, several where a part has several shapes.
fn to_coordinator() -> Vec<ToCoordinator> {
    let protocol = PROTOCOL_VERSION;
    let launch = |pod| Launch { protocol, pod, program: "app".into(), settings: settings(), streams: STREAMS };
    let restart = Restart {
        protocol,
        pod_id: POD,
        name: Some("copy".into()),
        recorded_name: "app".into(),
        generation: 3,
        settings: settings(),
        streams: STREAMS,
        members: members(),
        images: vec!["/ckpt/i".into()],
        ended: Some(3 << 8),
    };
    let stretch = Stretch { object: (1, 70), start: 0, end: 1 << 12 };
    let seen = Seen { id: 3, fd: 5, file: (13, 700), object: (13, 699), access: 1, keep: Keep::Above(7) };
    let note = Note { id: 3, bytes: vec![1, 200] };
    let name = |hold| FileName { file: (13, 700), path: b"/tmp/a (deleted)".to_vec(), hold };
    let limit = MemoryLimit { group: (30, 8), path: "/sys/fs/cgroup/a".into(), available: 1 << 30 };
    let mut all = vec![
        ToCoordinator::Launch(launch(None)),
        ToCoordinator::Launch(launch(Some("pod".into()))),
        ToCoordinator::Restart(restart),
        ToCoordinator::Checkpoint { selection: Selection::Only, kill: false },
        ToCoordinator::Checkpoint { selection: Selection::Named("pod".into()), kill: true },
        ToCoordinator::Status,
        ToCoordinator::Kill { selection: Selection::All },
        ToCoordinator::Interval { selection: Selection::Only, seconds: 600 },
        ToCoordinator::Quit { kill: true },
        ToCoordinator::Runs { pod_id: POD },
        ToCoordinator::Suspended { pod_id: POD, virtual_pid: 4711, threads: 2 },
        ToCoordinator::Open { descriptions: vec![seen], memory: vec![stretch], notes: vec![note] },
        ToCoordinator::Names { files: vec![name(Hold::Lost { one_device: true }), name(Hold::Mapped)] },
        ToCoordinator::Names { files: vec![name(Hold::Open { named: false })] },
        ToCoordinator::Copying { bytes: 2 << 30, limits: vec![limit] },
        ToCoordinator::Refused { phase: Phase::Save, refusal: refusal() },
        ToCoordinator::Written { bytes: 1 << 32 },
        ToCoordinator::WriteFailed { refusal: refusal() },
        ToCoordinator::Restarted { pod_id: POD, virtual_pid: -1 },
        ToCoordinator::Table,
    ];
    let phases = [Phase::Suspend, Phase::Drain, Phase::Save, Phase::Refill, Phase::Resume];
    all.extend(phases.map(|phase| ToCoordinator::Reached { phase, stop_ns: 1_500_000 }));
    all
}

fn from_coordinator() -> Vec<FromCoordinator> {
    let process = ProcessStatus {
        virtual_pid: 4711,
        pid: 12,
        program: "app".into(),
        state: "running".into(),
        not_checkpointable: None,
    };
    let failed = ProcessStatus { not_checkpointable: Some("libzap: has failed".into()), ..process.clone() };
    let pod = |last_checkpoint| PodStatus {
        name: "pod".into(),
        state: "running".into(),
        processes: vec![process.clone(), failed.clone()],
        last_checkpoint,
    };
    vec![
        FromCoordinator::InPod { pod_id: POD, name: "pod".into(), table: "/run/pods/1.table".into() },
        FromCoordinator::Checkpointed {
            pods: vec![
                CheckpointResult { pod: "pod".into(), outcome: Ok(record()) },
                CheckpointResult { pod: "other".into(), outcome: Err("is restarting".into()) },
            ],
        },
        FromCoordinator::Status(Status { pods: vec![pod(None), pod(Some(record()))] }),
        FromCoordinator::Done { pods: vec!["pod".into()] },
        FromCoordinator::Failed { why: "several pods".into(), usage: true },
        FromCoordinator::Proceed { phase: Phase::Drain },
        FromCoordinator::Proceed { phase: Phase::Save },
        FromCoordinator::Abandon,
        FromCoordinator::Table,
    ]
}

fn save_order() -> SaveOrder {
    SaveOrder {
        pod_id: POD,
        pod_name: "pod".into(),
        generation: 3,
        time: 1_700_000_000,
        settings: settings(),
        stopped_ns: 1_700_000_000_000_000_001,
        members: members(),
        shares: vec![Share {
            id: 3,
            description: 70,
            leads: true,
            object: 80,
            leads_object: false,
            accesses: 3,
            mapped: Some(4096),
        }],
        notes: vec![ObjectNote { object: 80, bytes: vec![1, 200] }],
        elsewhere: vec![Stretch { object: (1, 70), start: 0, end: 1 << 12 }],
        open: vec![(1, 70)],
        kept: vec![(13, 700)],
        ended: Some(9),
    }
}

// The matches below have no arm for "any other": a new variant does not compile until it has a name here, and whoever
// writes the name sees that a sample is missing above.

fn name_to(message: &ToCoordinator) -> &'static str {
    match message {
        ToCoordinator::Launch(_) => "Launch",
        ToCoordinator::Restart(_) => "Restart",
        ToCoordinator::Checkpoint { .. } => "Checkpoint",
        ToCoordinator::Status => "Status",
        ToCoordinator::Kill { .. } => "Kill",
        ToCoordinator::Interval { .. } => "Interval",
        ToCoordinator::Quit { .. } => "Quit",
        ToCoordinator::Runs { .. } => "Runs",
        ToCoordinator::Suspended { .. } => "Suspended",
        ToCoordinator::Open { .. } => "Open",
        ToCoordinator::Names { .. } => "Names",
        ToCoordinator::Copying { .. } => "Copying",
        ToCoordinator::Reached { .. } => "Reached",
        ToCoordinator::Refused { .. } => "Refused",
        ToCoordinator::Written { .. } => "Written",
        ToCoordinator::WriteFailed { .. } => "WriteFailed",
        ToCoordinator::Restarted { .. } => "Restarted",
        ToCoordinator::Table => "Table",
    }
}

fn name_from(message: &FromCoordinator) -> &'static str {
    match message {
        FromCoordinator::InPod { .. } => "InPod",
        FromCoordinator::Checkpointed { .. } => "Checkpointed",
        FromCoordinator::Status(_) => "Status",
        FromCoordinator::Done { .. } => "Done",
        FromCoordinator::Failed { .. } => "Failed",
        FromCoordinator::Proceed { .. } => "Proceed",
        FromCoordinator::Abandon => "Abandon",
        FromCoordinator::Table => "Table",
    }
}

fn name_report(report: &Report) -> &'static str {
    match report {
        Report::Ready => "Ready",
        Report::Refused { .. } => "Refused",
        Report::Publish { .. } => "Publish",
        Report::Subscribe { .. } => "Subscribe",
        Report::Memory { .. } => "Memory",
        Report::CloseOff { .. } => "CloseOff",
        Report::Fill { .. } => "Fill",
        Report::Open { .. } => "Open",
    }
}

fn name_order(order: &Order) -> &'static str {
    match order {
        Order::Given => "Given",
        Order::Filled => "Filled",
        Order::Go => "Go",
    }
}

/// A line of the golden file: `Type::Variant bytes`. What is written must also be read, as the same.
fn line<T>(kind: &str, name: &str, message: &T) -> String
where
    T: serde::Serialize + for<'de> serde::Deserialize<'de>,
{
    let bytes = encode(message).unwrap();
    let again = encode(&decode::<T>(&bytes).unwrap()).unwrap();
    assert_eq!(bytes, again, "{kind}::{name} is read as something else");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}::{name} {hex}\n")
}

#[test]
fn messages_are_as_committed() {
    let mut text = String::new();
    text.extend(to_coordinator().iter().map(|message| line("ToCoordinator", name_to(message), message)));
    text.extend(from_coordinator().iter().map(|message| line("FromCoordinator", name_from(message), message)));
    text += &line("SaveOrder", "SaveOrder", &save_order());
    let parts = RestartParts {
        pod_id: POD,
        table: "/run/pods/1.table".into(),
        streams: [0, 1, -1],
        report: 1018,
        spare: vec![7],
        restorer: (0x1000, 0x2000),
        vdso: (0x7fff_0000_0000, 0x6000),
        started_ns: 1_700_000_000_000_000_001,
        image_backed: vec![(0x40_0000, 0x1000), (0x7f00_0000_0000, 1 << 32)],
        moved: vec![Moved { from: b"/old".to_vec(), to: b"/new".to_vec() }],
    };
    text += &line("RestartParts", "RestartParts", &parts);
    let reports = [
        Report::Ready,
        Report::Refused { object: "pipe".into(), reason: "full".to_string() },
        Report::Publish { key: 70, part: 1 },
        Report::Subscribe { key: 70, part: 0 },
        Report::Memory { device: 1, inode: 70 },
        Report::CloseOff { mode: 0o640, seals: 15 },
        Report::Fill { device: 13, inode: 700, from: 4096 },
        Report::Open { path: b"/a".to_vec(), flags: 2 },
    ];
    text.extend(reports.iter().map(|report| line("Report", name_report(report), report)));
    text.extend([Order::Given, Order::Filled, Order::Go].iter().map(|order| line("Order", name_order(order), order)));
    check(&format!("protocol-{PROTOCOL_VERSION}.txt"), &text, "PROTOCOL_VERSION");
}
