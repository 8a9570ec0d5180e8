//! Orders of events and what the core makes of them, without any process.

use super::*;
use zap_wire::{Phase, PROTOCOL_VERSION};

const TOOL: Peer = 1;
const PROCESS: Peer = 2;
const PID: i32 = 100;
const POD: u64 = 7;

fn member(pid: i32, virtual_pid: i32, program: &str) -> Member {
    Member { pid, virtual_pid, program: program.into(), stopped: false, not_checkpointable: None }
}

/// A core with its clock.
struct Bench {
    core: Core,
    millis: Millis,
    random: u64,
}

impl Bench {
    fn new() -> Self {
        Self { core: Core::new(Limits::default()), millis: 0, random: POD }
    }

    /// With one pod `app` of one process.
    fn with_pod() -> Self {
        let mut bench = Self::new();
        bench.launch(None, "app", PID);
        bench
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        let now = Now { millis: self.millis, epoch: 1_000_000, epoch_ns: 1_000_000_000_000_000, random: self.random };
        self.core.handle(now, event)
    }

    fn say(&mut self, peer: Peer, message: ToCoordinator) -> Vec<Action> {
        self.handle(Event::Message { peer, pid: PID, message })
    }

    fn launch(&mut self, name: Option<&str>, program: &str, pid: i32) -> Vec<Action> {
        let request = Launch {
            protocol: PROTOCOL_VERSION,
            pod: name.map(str::to_string),
            program: program.into(),
            settings: settings(),
            streams: [(0, 0); 3],
        };
        let actions = self.handle(Event::Launch { peer: TOOL, pid, request });
        for action in &actions {
            if let Action::Enter { pod, pid, virtual_pid, program } = action {
                let mut members = self.core.pod(*pod).unwrap().members.clone();
                members.push(member(*pid, *virtual_pid, program));
                self.handle(Event::Members { pod: *pod, members });
            }
        }
        self.random += 1;
        actions
    }

    fn gone(&mut self) -> Vec<Action> {
        self.handle(Event::Members { pod: POD, members: Vec::new() })
    }

    fn checkpoint(&mut self, kill: bool) -> Vec<Action> {
        self.say(TOOL, ToCoordinator::Checkpoint { selection: Selection::Only, kill })
    }

    fn examined(&mut self, verdict: Verdict) -> Vec<Action> {
        self.handle(Event::Examined { pod: POD, pid: PID, verdict })
    }

    fn suspended(&mut self) -> Vec<Action> {
        let mut actions = self.say(PROCESS, ToCoordinator::Suspended { pod_id: POD, virtual_pid: PID, threads: 1 });
        if matches!(actions[..], [Action::Survey { .. }]) {
            actions = self.handle(Event::Surveyed { pod: POD, stranger: None });
        }
        actions
    }

    fn reached(&mut self, phase: Phase) -> Vec<Action> {
        let mut actions = self.say(PROCESS, ToCoordinator::Reached { phase, stop_ns: 5_000_000 });
        if matches!(actions[..], [Action::Compare { .. }]) {
            actions = self.handle(Event::Compared { pod: POD, shares: Ok(BTreeMap::new()), kept: vec![] });
        }
        actions
    }

    fn written(&mut self) -> Vec<Action> {
        self.say(PROCESS, ToCoordinator::Written { bytes: 4096 })
    }

    fn committed(&mut self) -> Vec<Action> {
        self.handle(Event::Committed { pod: POD, outcome: Ok(Kept { images: vec!["/image".into()], bytes: 4096 }) })
    }

    /// Goes on until the process has been told to save.
    fn up_to_save(&mut self, kill: bool) {
        self.checkpoint(kill);
        self.examined(Verdict::Ready);
        self.suspended();
        self.reached(Phase::Drain);
    }
}

fn settings() -> PodSettings {
    PodSettings {
        ckpt_dir: "/images".into(),
        interval: 0,
        keep: 1,
        compress: "none".into(),
        signal: 62,
        snapshot_files: false,
        private: Default::default(),
    }
}

/// The actions in short: what they are, and what is said.
fn short(actions: &[Action]) -> Vec<String> {
    let one = |action: &Action| match action {
        Action::Send { message, .. } => match &**message {
            FromCoordinator::Proceed { phase, .. } => format!("proceed {phase:?}"),
            FromCoordinator::Abandon => "abandon".into(),
            FromCoordinator::Table => "table".into(),
            FromCoordinator::Failed { why, usage } => format!("failed({usage}) {why}"),
            FromCoordinator::Checkpointed { pods } => match &pods[..] {
                [pod] => match &pod.outcome {
                    Ok(record) => format!("checkpointed {} {}us", record.generation, record.stop_us),
                    Err(why) => format!("not checkpointed: {why}"),
                },
                pods => format!("{} results", pods.len()),
            },
            FromCoordinator::Done { pods } => format!("done {}", pods.join(" ")),
            FromCoordinator::Status(status) => format!("{} pods", status.pods.len()),
            FromCoordinator::InPod { name, .. } => format!("in pod {name}"),
        },
        Action::Welcome { name, .. } => format!("welcome {name}"),
        Action::Fault(name) => format!("fault {name}"),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_string(),
    };
    actions.iter().map(one).filter(|text| text != "Close").collect()
}

#[track_caller]
fn expect(actions: &[Action], expected: &[&str]) {
    assert_eq!(short(actions), expected);
}

#[test]
fn names_are_unique_and_pods_are_joined() {
    let mut bench = Bench::new();
    expect(&bench.launch(None, "app", 1), &["Make", "Enter", "Record", "welcome app"]);
    expect(&bench.launch(None, "app", 2), &["Make", "Enter", "Record", "welcome app-2"]);
    expect(&bench.launch(Some("app"), "other", 3), &["Enter", "Record", "welcome app"]);
    expect(&bench.launch(Some("new"), "other", 4), &["Make", "Enter", "Record", "welcome new"]);
    assert_eq!(bench.core.pods().count(), 3);
    // A process is in one pod only.
    expect(&bench.launch(Some("new"), "other", 1), &["Leave", "Enter", "Record", "welcome new"]);
    assert!(short(&bench.launch(Some("a/b"), "x", 5))[0].starts_with("failed(false) pod name"));
}

#[test]
fn several_pods_are_a_usage_error() {
    let mut bench = Bench::with_pod();
    bench.launch(None, "app", 2);
    let text = "failed(true) several pods are running (app, app-2); choose with --pod or --all";
    expect(&bench.checkpoint(false), &[text]);
    let named = Selection::Named("nope".into());
    expect(
        &bench.say(TOOL, ToCoordinator::Kill { selection: named }),
        &["failed(false) pod nope: there is no such pod"],
    );
}

#[test]
fn a_checkpoint_goes_well() {
    let mut bench = Bench::with_pod();
    expect(&bench.checkpoint(false), &["Prepare", "Examine"]);
    expect(&bench.examined(Verdict::Ready), &["Signal", "fault coordinator-signalled"]);
    expect(&bench.suspended(), &["fault coordinator-suspended", "Prepare", "proceed Drain"]);
    expect(&bench.reached(Phase::Drain), &["Save", "fault coordinator-saving"]);
    expect(&bench.reached(Phase::Save), &["proceed Refill"]);
    expect(&bench.reached(Phase::Refill), &["proceed Resume"]);
    expect(&bench.reached(Phase::Resume), &[]);
    expect(&bench.written(), &["fault coordinator-written", "Commit"]);
    expect(&bench.handle(Event::HungUp { peer: PROCESS }), &[]);
    expect(&bench.committed(), &["Record", "checkpointed 1 5000us"]);
    let status = bench.core.status();
    assert_eq!(status.pods[0].state, "running");
    assert_eq!(status.pods[0].last_checkpoint.as_ref().unwrap().bytes, 4096);
}

#[test]
fn written_may_come_between_the_other_answers() {
    let mut bench = Bench::with_pod();
    bench.up_to_save(false);
    expect(&bench.written(), &[]);
    expect(&bench.reached(Phase::Save), &["proceed Refill"]);
    expect(&bench.reached(Phase::Refill), &["proceed Resume"]);
    expect(&bench.reached(Phase::Resume), &["fault coordinator-written", "Commit"]);
}

#[test]
fn kill_holds_the_process_until_the_image_is_safe() {
    let mut bench = Bench::with_pod();
    bench.up_to_save(true);
    expect(&bench.reached(Phase::Save), &[]);
    expect(&bench.written(), &["fault coordinator-written", "Commit"]);
    expect(&bench.committed(), &["Record", "Kill"]);
    expect(&bench.handle(Event::HungUp { peer: PROCESS }), &[]);
    expect(&bench.gone(), &["checkpointed 1 5000us", "Remove"].iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(bench.core.pods().count(), 0);
}

#[test]
fn who_stands_for_long_is_reminded() {
    let mut bench = Bench::with_pod();
    bench.up_to_save(true);
    bench.reached(Phase::Save);
    bench.written();
    assert_eq!(bench.core.deadline(), Some(30_000));
    bench.millis = 29_999;
    expect(&bench.handle(Event::Tick), &[]);
    for millis in [30_000, 60_000] {
        bench.millis = millis;
        expect(&bench.handle(Event::Tick), &["proceed Suspend"]);
        expect(&bench.handle(Event::Tick), &[]);
        expect(&bench.reached(Phase::Suspend), &[]);
    }
    expect(&bench.committed(), &["Record", "Kill"]);
}

#[test]
fn kill_is_not_done_when_the_image_fails() {
    let mut bench = Bench::with_pod();
    bench.up_to_save(true);
    bench.reached(Phase::Save);
    let refusal = Refusal { object: "image".into(), reason: "no space left".into() };
    let expected = ["abandon", "Discard", "not checkpointed: app (pid 100): image: no space left"];
    expect(&bench.say(PROCESS, ToCoordinator::WriteFailed { refusal }), &expected);

    let mut bench = Bench::with_pod();
    bench.up_to_save(true);
    bench.reached(Phase::Save);
    bench.written();
    let outcome = Err("/images: fsync: no space left on device".to_string());
    let expected = ["abandon", "Discard", "not checkpointed: /images: fsync: no space left on device"];
    expect(&bench.handle(Event::Committed { pod: POD, outcome }), &expected);
    assert_eq!(bench.core.pods().count(), 1);
}

#[test]
fn a_hang_up_in_any_phase_calls_it_off() {
    for steps in 0..6 {
        let mut bench = Bench::with_pod();
        bench.checkpoint(false);
        bench.examined(Verdict::Ready);
        bench.suspended();
        let phases = [Phase::Drain, Phase::Save, Phase::Refill, Phase::Resume];
        for phase in phases.iter().take(steps) {
            bench.reached(*phase);
        }
        let resumed = steps >= 4;
        let texts = short(&bench.handle(Event::HungUp { peer: PROCESS }));
        let outcome = "not checkpointed: app (pid 100): process: ended or hung up before its image was written";
        assert_eq!(texts, ["Discard", outcome], "after {steps} phases, resumed: {resumed}");
        assert_eq!(bench.core.status().pods[0].state, "running");
    }
}

#[test]
fn refusals_name_process_and_object() {
    let mut bench = Bench::with_pod();
    bench.checkpoint(false);
    bench.examined(Verdict::Ready);
    bench.suspended();
    let refusal = Refusal { object: "descriptor 5 (socket:[99])".into(), reason: "no plugin claims it".into() };
    let expected =
        ["abandon", "Discard", "not checkpointed: app (pid 100): descriptor 5 (socket:[99]): no plugin claims it"];
    expect(&bench.say(PROCESS, ToCoordinator::Refused { phase: Phase::Save, refusal: refusal.clone() }), &expected);
    // As the very first word, too: who says it waits for an answer.
    bench.checkpoint(false);
    bench.examined(Verdict::Ready);
    expect(&bench.say(9, ToCoordinator::Refused { phase: Phase::Suspend, refusal }), &expected);
}

#[test]
fn who_has_failed_is_refused_at_once() {
    let mut bench = Bench::with_pod();
    let failed = Member { not_checkpointable: Some("libzap has failed".into()), ..member(PID, PID, "app") };
    bench.handle(Event::Members { pod: POD, members: vec![failed] });
    let actions = bench.say(TOOL, ToCoordinator::Checkpoint { selection: Selection::Only, kill: true });
    expect(&actions, &["not checkpointed: app (pid 100): libzap has failed"]);
    let status = bench.core.status();
    assert_eq!(status.pods[0].processes[0].not_checkpointable.as_deref(), Some("libzap has failed"));
}

#[test]
fn who_blocks_or_starts_is_waited_for_and_then_refused() {
    let by =
        |child: i32| Verdict::Blocked(child, Refusal { object: format!("child {child}"), reason: "blocks".into() });
    let blocked = || by(62);
    let mut bench = Bench::with_pod();
    bench.checkpoint(false);
    expect(&bench.examined(blocked()), &[]);
    bench.millis = 10;
    expect(&bench.handle(Event::Tick), &["Examine"]);
    expect(&bench.examined(Verdict::Starting { waits: true }), &[]);
    // Each obstacle has a time of its own.
    bench.millis = 1000;
    expect(&bench.examined(blocked()), &[]);
    bench.millis = 2000;
    expect(&bench.examined(blocked()), &["Discard", "not checkpointed: app (pid 100): child 62: blocks"]);
    // One that makes children all the time must stand before it is judged.
    bench.checkpoint(false);
    expect(&bench.examined(by(63)), &[]);
    expect(&bench.examined(by(64)), &["Signal", "fault coordinator-signalled"]);
    bench.handle(Event::Failed { pod: POD, why: String::new() });
    bench.checkpoint(false);
    expect(&bench.examined(Verdict::Starting { waits: true }), &[]);
    bench.millis = 7000;
    // The word of its end may come late.
    expect(&bench.examined(Verdict::Gone), &[]);
    expect(&bench.examined(Verdict::Starting { waits: true }), &[]);
    bench.millis = 12_000;
    assert!(short(&bench.examined(Verdict::Starting { waits: true }))[1].contains("has not finished starting"));
}

#[test]
fn silence_is_bounded() {
    let mut bench = Bench::with_pod();
    bench.checkpoint(false);
    bench.examined(Verdict::Ready);
    assert!(bench.core.deadline().unwrap() <= 10);
    bench.millis = 10_000;
    let text = "not checkpointed: app (pid 100): process: did not answer within 10 s (phase Suspend)";
    expect(&bench.handle(Event::Tick), &["Discard", text]);
    // It comes at last, and is sent away.
    expect(&bench.suspended(), &["abandon"]);
}

#[test]
fn examination_is_bounded() {
    let mut bench = Bench::with_pod();
    // As of a process that is there twice: its second half is never judged.
    let twice = vec![member(PID, PID, "app"), member(PID, PID, "app")];
    bench.handle(Event::Members { pod: POD, members: twice });
    bench.checkpoint(false);
    expect(&bench.examined(Verdict::Ready), &[]);
    bench.millis = 29_990;
    expect(&bench.handle(Event::Tick), &["Examine"]);
    bench.millis = 30_000;
    let text = "not checkpointed: app (pid 100): process: could not be signalled in 30 s";
    expect(&bench.handle(Event::Tick), &["Discard", text]);
}

#[test]
fn requests_queue_up() {
    let mut bench = Bench::with_pod();
    bench.checkpoint(false);
    expect(&bench.checkpoint(false), &[]);
    bench.examined(Verdict::Ready);
    bench.suspended();
    for phase in [Phase::Drain, Phase::Save, Phase::Refill, Phase::Resume] {
        bench.reached(phase);
    }
    bench.written();
    expect(&bench.committed(), &["Record", "Prepare", "Examine", "checkpointed 1 5000us"]);
    let gone = "not checkpointed: app (pid 100): process: ended before its state was saved";
    expect(&bench.gone(), &["Discard", "Remove", gone]);
}

#[test]
fn a_program_that_ends_after_its_snapshot_leaves_a_whole_image() {
    let mut bench = Bench::with_pod();
    bench.up_to_save(false);
    bench.reached(Phase::Save);
    bench.reached(Phase::Refill);
    bench.reached(Phase::Resume);
    expect(&bench.gone(), &[]);
    bench.written();
    expect(&bench.committed(), &["Record", "Remove", "checkpointed 1 5000us"]);
}

/// As a process of number `pid`, whose connection has the number `pid` too.
fn say_as(bench: &mut Bench, pid: i32, message: ToCoordinator) -> Vec<Action> {
    bench.handle(Event::Message { peer: pid as Peer, pid, message })
}

fn suspended_as(bench: &mut Bench, pid: i32) -> Vec<Action> {
    say_as(bench, pid, ToCoordinator::Suspended { pod_id: POD, virtual_pid: pid, threads: 1 })
}

fn examined_as(bench: &mut Bench, pid: i32) -> Vec<Action> {
    bench.handle(Event::Examined { pod: POD, pid, verdict: Verdict::Ready })
}

fn members(pids: &[i32]) -> Event {
    Event::Members { pod: POD, members: pids.iter().map(|pid| member(*pid, *pid, "app")).collect() }
}

#[test]
fn several_processes_are_taken_together() {
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101]));
    expect(&bench.checkpoint(false), &["Prepare", "Examine", "Examine"]);
    expect(&examined_as(&mut bench, 100), &[]);
    expect(&examined_as(&mut bench, 101), &["Signal", "Signal", "fault coordinator-signalled"]);
    expect(&suspended_as(&mut bench, 100), &[]);
    // One has made another before it was suspended, and one has ended.
    expect(&bench.handle(members(&[100, 102])), &["Examine"]);
    expect(&examined_as(&mut bench, 102), &["Signal", "fault coordinator-signalled"]);
    expect(&suspended_as(&mut bench, 102), &["Survey"]);
    expect(&bench.handle(members(&[100, 102, 103])), &["Examine"]);
    expect(&bench.handle(Event::Surveyed { pod: POD, stranger: None }), &[]);
    expect(&examined_as(&mut bench, 103), &["Signal", "fault coordinator-signalled"]);
    expect(&suspended_as(&mut bench, 103), &["Survey"]);
    let all = ["fault coordinator-suspended", "Prepare", "proceed Drain", "proceed Drain", "proceed Drain"];
    expect(&bench.handle(Event::Surveyed { pod: POD, stranger: None }), &all);
    let reached = |phase| ToCoordinator::Reached { phase, stop_ns: 1 };
    expect(&say_as(&mut bench, 100, reached(Phase::Drain)), &[]);
    expect(&say_as(&mut bench, 103, reached(Phase::Drain)), &[]);
    expect(&say_as(&mut bench, 102, reached(Phase::Drain)), &["Compare"]);
    let shares = Ok(BTreeMap::new());
    expect(
        &bench.handle(Event::Compared { pod: POD, shares, kept: vec![] }),
        &["Save", "Save", "Save", "fault coordinator-saving"],
    );
    // What one refuses is off for all.
    let refusal = Refusal { object: "descriptor 5".into(), reason: "is odd".into() };
    let outcome = "not checkpointed: app (pid 102): descriptor 5: is odd";
    expect(
        &say_as(&mut bench, 102, ToCoordinator::Refused { phase: Phase::Save, refusal }),
        &["abandon", "abandon", "abandon", "Discard", outcome],
    );
}

#[test]
fn those_that_are_stopped_are_continued_when_the_others_stand() {
    let stopped = |bench: &mut Bench, pid| bench.handle(Event::Examined { pod: POD, pid, verdict: Verdict::Stopped });
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101, 102]));
    bench.checkpoint(false);
    expect(&stopped(&mut bench, 102), &[]);
    expect(&stopped(&mut bench, 101), &[]);
    let signals = ["Signal", "Signal", "Signal", "fault coordinator-signalled"];
    expect(&examined_as(&mut bench, 100), &signals);
    // Nobody helps one that has not had its turn.
    bench.millis = 10;
    expect(&bench.handle(Event::Tick), &["Look"]);
    // In the order of the pod: a parent before its children.
    let woken = |actions: Vec<Action>| match actions.as_slice() {
        [Action::Wake { pid, .. }] => *pid,
        other => panic!("{other:?}"),
    };
    assert_eq!(woken(suspended_as(&mut bench, 100)), 101);
    bench.millis = 20;
    expect(&bench.handle(Event::Tick), &["Look"]);
    // Each has its own time for an answer.
    bench.millis = 9_000;
    assert_eq!(woken(suspended_as(&mut bench, 101)), 102);
    bench.millis = 18_000;
    expect(&bench.handle(Event::Tick), &["Look"]);
    expect(&suspended_as(&mut bench, 102), &["Survey"]);
}

#[test]
fn one_that_stops_after_it_was_found_ready_waits_too() {
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101]));
    bench.checkpoint(false);
    examined_as(&mut bench, 101);
    examined_as(&mut bench, 100);
    let halted = |bench: &mut Bench| bench.handle(Event::Halted { pod: POD, pid: 101 });
    expect(&halted(&mut bench), &[]);
    expect(&suspended_as(&mut bench, 100), &["Wake"]);
    // Stopped once more before it was there.
    expect(&halted(&mut bench), &["Wake"]);
    expect(&suspended_as(&mut bench, 101), &["Survey"]);
    expect(&halted(&mut bench), &[]);
}

#[test]
fn images_name_members_in_the_order_of_the_pod() {
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101]));
    bench.checkpoint(false);
    bench.handle(members(&[101, 100]));
    for pid in [100, 101] {
        examined_as(&mut bench, pid);
    }
    for pid in [100, 101] {
        suspended_as(&mut bench, pid);
    }
    bench.handle(Event::Surveyed { pod: POD, stranger: None });
    for pid in [100, 101] {
        say_as(&mut bench, pid, ToCoordinator::Reached { phase: Phase::Drain, stop_ns: 1 });
    }
    let actions = bench.handle(Event::Compared { pod: POD, shares: Ok(BTreeMap::new()), kept: vec![] });
    let said: Vec<(i32, Vec<i32>)> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Save { pid, order, .. } => Some((*pid, order.members.iter().map(|(pid, _)| *pid).collect())),
            _ => None,
        })
        .collect();
    assert_eq!(said, [(101, vec![101, 100]), (100, vec![101, 100])]);
}

#[test]
fn where_processes_are_made_all_the_time_nobody_waits_for_all_to_have_started() {
    let starts = |bench: &mut Bench, pid| {
        bench.handle(Event::Examined { pod: POD, pid, verdict: Verdict::Starting { waits: true } })
    };
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101]));
    bench.checkpoint(false);
    expect(&examined_as(&mut bench, 100), &[]);
    // One that was there before is waited for while nobody stands.
    expect(&starts(&mut bench, 101), &[]);
    bench.handle(members(&[100, 101, 102]));
    expect(&starts(&mut bench, 102), &[]);
    expect(&examined_as(&mut bench, 101), &["Signal", "Signal", "fault coordinator-signalled"]);
    bench.millis = 10;
    expect(&bench.handle(Event::Tick), &["Look", "Look", "Examine"]);
    expect(&examined_as(&mut bench, 102), &["Signal", "fault coordinator-signalled"]);
    expect(&suspended_as(&mut bench, 100), &[]);
    expect(&suspended_as(&mut bench, 101), &[]);
    expect(&suspended_as(&mut bench, 102), &["Survey"]);
    // One that never comes is not waited for for ever.
    expect(&bench.handle(members(&[100, 101, 102, 103])), &["Examine"]);
    expect(&starts(&mut bench, 103), &[]);
    bench.millis = 5020;
    let outcome = "not checkpointed: app (pid 103): process: has not finished starting (libzap is not ready in it)";
    expect(&starts(&mut bench, 103), &["abandon", "abandon", "abandon", "Discard", outcome]);
}

#[test]
fn a_newcomer_has_its_own_time_however_long_the_checkpoint_has_lasted() {
    let starts = |bench: &mut Bench, pid, waits| {
        bench.handle(Event::Examined { pod: POD, pid, verdict: Verdict::Starting { waits } })
    };
    let mut bench = Bench::with_pod();
    bench.handle(members(&[100, 101]));
    bench.checkpoint(false);
    expect(&examined_as(&mut bench, 100), &[]);
    expect(&starts(&mut bench, 101, false), &[]);
    // Now and then it waits for a moment.
    bench.millis = 11_900;
    expect(&starts(&mut bench, 101, true), &[]);
    bench.millis = 12_000;
    // One that could go on lacks a processor: that is nobody's fault.
    expect(&starts(&mut bench, 101, false), &[]);
    bench.handle(members(&[100, 101, 102]));
    expect(&starts(&mut bench, 102, true), &[]);
    bench.millis = 16_900;
    expect(&starts(&mut bench, 102, true), &[]);
    expect(&starts(&mut bench, 101, false), &[]);
    bench.millis = 20_000;
    let outcome =
        "not checkpointed: app (pid 101): process: has not finished starting (libzap is not ready in it): it lacks a \
                   processor or a disk";
    expect(&starts(&mut bench, 101, false), &["Discard", outcome]);
}

#[test]
fn a_stranger_among_the_children_is_waited_for_and_then_refused() {
    let mut bench = Bench::with_pod();
    bench.checkpoint(false);
    bench.examined(Verdict::Ready);
    bench.say(PROCESS, ToCoordinator::Suspended { pod_id: POD, virtual_pid: PID, threads: 1 });
    let stranger = || {
        let refusal = Refusal { object: "child 5".into(), reason: "is not in the pod".into() };
        Event::Surveyed { pod: POD, stranger: Some(refusal) }
    };
    expect(&bench.handle(stranger()), &[]);
    bench.millis = 500;
    expect(&bench.handle(Event::Tick), &["Survey"]);
    expect(&bench.handle(stranger()), &[]);
    bench.millis = 1000;
    expect(&bench.handle(stranger()), &["abandon", "Discard", "not checkpointed: child 5: is not in the pod"]);
}

#[test]
fn intervals() {
    let mut bench = Bench::with_pod();
    let request = ToCoordinator::Interval { selection: Selection::Only, seconds: 5 };
    expect(&bench.say(TOOL, request), &["Record", "done app"]);
    assert_eq!(bench.core.deadline(), Some(5000));
    bench.millis = 5000;
    expect(&bench.handle(Event::Tick), &["Prepare", "Examine"]);
    bench.gone();
    assert_eq!(bench.core.pods().count(), 0);
}

#[test]
fn kill_and_quit() {
    let mut bench = Bench::with_pod();
    let refused = "failed(false) pods are running (app); end them too with --quit --kill";
    expect(&bench.say(TOOL, ToCoordinator::Quit { kill: false }), &[refused]);
    expect(&bench.say(TOOL, ToCoordinator::Kill { selection: Selection::Only }), &["Kill"]);
    // A child that was forked meanwhile is killed too.
    let child = member(101, 101, "app");
    expect(&bench.handle(Event::Members { pod: POD, members: vec![child] }), &["Kill"]);
    expect(&bench.gone(), &["Remove", "done app"]);
    expect(&bench.say(TOOL, ToCoordinator::Quit { kill: true }), &["done ", "Exit"]);
}

#[test]
fn idle_coordinators_end() {
    let mut bench = Bench::with_pod();
    assert_eq!(bench.core.deadline(), None);
    bench.gone();
    assert_eq!(bench.core.deadline(), Some(10_000));
    bench.millis = 10_000;
    expect(&bench.handle(Event::Tick), &["Exit"]);
}

#[test]
fn restarts() {
    let mut bench = Bench::with_pod();
    let request = Restart {
        protocol: PROTOCOL_VERSION,
        pod_id: POD,
        name: None,
        recorded_name: "app".into(),
        generation: 4,
        settings: settings(),
        streams: [(0, 0); 3],
        members: vec![(100, "app".into())],
        images: vec!["/image".into()],
        ended: None,
    };
    let record = CheckpointRecord { generation: 4, time: 0, stop_us: 0, bytes: 0, images: vec!["/image".into()] };
    // The original lives: the clone gets an id and a name of its own.
    let restart =
        |request: &Restart| Event::Restart { peer: TOOL, pid: 50, request: request.clone(), record: record.clone() };
    expect(&bench.handle(restart(&request)), &["Make", "Watch", "Record", "welcome app-2"]);
    let clone = bench.core.pods().find(|pod| pod.name == "app-2").unwrap().id;
    assert_ne!(clone, POD);
    assert_eq!(bench.core.status().pods[1].state, "restarting");
    // A checkpoint waits for the restart.
    let wanted = ToCoordinator::Checkpoint { selection: Selection::Named("app-2".into()), kill: false };
    expect(&bench.handle(Event::Message { peer: 77, pid: 51, message: wanted }), &[]);
    let back = ToCoordinator::Restarted { pod_id: clone, virtual_pid: 100 };
    let actions = bench.handle(Event::Message { peer: PROCESS, pid: 200, message: back });
    expect(&actions, &["Record", "Enter"]);
    let member = member(200, 100, "app");
    bench.handle(Event::Members { pod: clone, members: vec![member] });
    // Signals for it still end zap-restart.
    assert_eq!(bench.core.status().pods[1].state, "restarting");
    // Of nobody's pod.
    let unknown = ToCoordinator::Runs { pod_id: 4711 };
    expect(&bench.handle(Event::Message { peer: TOOL, pid: 50, message: unknown }), &[]);
    assert_eq!(bench.core.status().pods[1].state, "restarting");
    let runs = ToCoordinator::Runs { pod_id: clone };
    expect(&bench.handle(Event::Message { peer: TOOL, pid: 50, message: runs }), &["Prepare", "Examine"]);
    assert_eq!(bench.core.status().pods[1].state, "checkpointing");
    assert_eq!(bench.core.pod(clone).unwrap().generation, 4);
    // A name that is asked for must be free.
    let named = Restart { name: Some("app".into()), ..request.clone() };
    let text = "failed(false) pod app: the name is in use; choose another with --pod";
    expect(&bench.handle(restart(&named)), &[text]);
    // Whoever asked dies before anything has come.
    bench.random = 99;
    expect(&bench.handle(restart(&request)), &["Make", "Watch", "Record", "welcome app-3"]);
    expect(&bench.handle(Event::RequesterGone { pod: 99 }), &["Remove"]);
}
