//! The coordinator and zap-command as whole programs, with processes that speak a member's part of the protocol.

mod image;
mod member;
mod scene;

use scene::Scene;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use zap_client::{connection, trusted, Connection, RuntimeDir};
use zap_image::name::ImageName;
use zap_sys::{net, RealPid, VirtualPid};
use zap_wire::ToCoordinator;

/// The signal of the members, which handle it by libc's functions: the default one is libc's own.
const SIGNAL: i32 = 62;

/// Not a test of its own: the member process is this same executable, started again by [`Scene::member`].
#[test]
fn be_a_member() {
    member::run_if_asked();
}

#[test]
fn checkpoint_is_printed_committed_and_recorded() {
    let scene = Scene::new();
    let mut member = scene.member("fine");
    let output = scene.command(&["--checkpoint"]);
    output.expect(0);
    let images = scene.images();
    assert_eq!(
        output.out.lines().collect::<Vec<_>>(),
        images.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>()
    );
    let name = ImageName::parse(images[0].file_name().unwrap().to_str().unwrap()).unwrap();
    assert_eq!((name.generation, name.virtual_pid), (1, member.pid()));
    assert_eq!(fs::metadata(&images[0]).unwrap().mode() & 0o777, 0o600);
    assert_eq!(image::generation(&fs::read(&images[0]).unwrap()), 1);
    assert!(trusted::is_untouched(&scene.runtime(), &fs::File::open(&images[0]).unwrap()));
    member.expect("resumed");
    let status = scene.command(&["--status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let pod = &status["pods"][0];
    assert_eq!(pod["state"], "running");
    assert_eq!(pod["processes"][0]["pid"], member.pid());
    assert_eq!(pod["last_checkpoint"]["generation"], 1);
    assert_eq!(pod["last_checkpoint"]["images"][0], images[0].to_str().unwrap());
    assert!(pod["last_checkpoint"]["stop_us"].as_u64().unwrap() >= 1000);
    // The next generation takes the place of this one.
    scene.command(&["--checkpoint"]).expect(0);
    let images = scene.images();
    assert_eq!(images.len(), 1);
    assert!(images[0].to_str().unwrap().ends_with("_2.zimg"));
    assert_eq!(scene.strays(), 0);
}

#[test]
fn an_image_may_be_written_late() {
    let scene = Scene::new();
    let mut member = scene.member("late");
    scene.command(&["--checkpoint"]).expect(0);
    member.expect("resumed");
    assert_eq!(scene.images().len(), 1);
}

#[test]
fn kill_ends_the_pod_at_the_snapshot() {
    let scene = Scene::new();
    let mut member = scene.member("fine");
    scene.command(&["--checkpoint", "--kill"]).expect(0);
    assert_eq!(scene.images().len(), 1);
    assert!(!member.has_resumed());
    assert!(scene.command(&["--status"]).out.is_empty());
    assert_eq!(fs::read_dir(scene.runtime().pods_dir()).unwrap().count(), 0);
}

#[test]
fn failures_leave_the_pod_running_and_old_images_alone() {
    let behaviours = [
        ("refuse-suspend", "descriptor 5 (socket:[99]): no plugin claims it"),
        ("refuse-drain", "descriptor 5 (socket:[99]): no plugin claims it"),
        ("refuse-save", "descriptor 5 (socket:[99]): no plugin claims it"),
        ("refuse-refill", "descriptor 5 (socket:[99]): no plugin claims it"),
        ("hang-up-suspend", "did not answer within 1 s"),
        ("hang-up-drain", "hung up before its image was written"),
        ("hang-up-save", "hung up before its image was written"),
        ("hang-up-refill", "hung up before its image was written"),
        ("hang-up-resume", "hung up before its image was written"),
        ("write-fails", "image: no space left on device"),
        ("trouble", "cannot reach the coordinator: too many open files"),
        ("mute-drain", "did not answer within 1 s (phase Drain)"),
    ];
    for (behaviour, reason) in behaviours {
        let scene = Scene::new();
        // Well the first time, badly the second, well again the third.
        let member = scene.member(behaviour);
        scene.command(&["--checkpoint"]).expect(0);
        let before = scene.images();
        let output = scene.command(&["--checkpoint"]);
        output.expect(1);
        let text = format!("(pid {}): ", member.pid());
        assert!(output.err.contains(&text) && output.err.contains(reason), "{behaviour}: {}", output.err);
        assert_eq!(scene.images(), before, "{behaviour}");
        assert_eq!(scene.strays(), 0, "{behaviour}");
        member.let_go();
        scene.command(&["--checkpoint"]).expect(0);
        assert_eq!(scene.images().len(), 1, "{behaviour}");
        assert_ne!(scene.images(), before, "{behaviour}");
    }
}

#[test]
fn a_failed_checkpoint_with_kill_does_not_kill() {
    let scene = Scene::new();
    let _member = scene.member("write-fails");
    scene.command(&["--checkpoint"]).expect(0);
    scene.command(&["--checkpoint", "--kill"]).expect(1);
    scene.command(&["--checkpoint"]).expect(0);
}

#[test]
fn who_does_not_take_the_signal_by_itself_is_reached() {
    let scene = Scene::new();
    let member = scene.member("fine");
    member.signal(libc::SIGSTOP);
    scene.command_until(&["--status"], |output| output.out.contains("stopped"));
    scene.command(&["--checkpoint"]).expect(0);
    let _second = scene.member_in("blocks", Some("second"));
    let output = scene.command(&["--checkpoint", "--pod", "second"]);
    // Unless ptrace(2) is forbidden here.
    assert!(output.status == 0 || output.err.contains("every thread blocks"), "{}", output.err);
    // Several pods: which one?
    let output = scene.command(&["--checkpoint"]);
    output.expect(2);
    assert!(output.err.contains("second"), "{}", output.err);
}

#[test]
fn a_process_that_joins_another_pod_leaves_its_own() {
    let scene = Scene::new();
    let first = scene.member_in("moves", Some("first"));
    let second = scene.member_in("fine", Some("second"));
    first.let_go();
    let output = scene.command_until(&["--status", "--json"], |output| !output.out.contains("first"));
    let status: serde_json::Value = serde_json::from_str(&output.out).unwrap();
    let processes = status["pods"][0]["processes"].as_array().unwrap();
    let mut pids: Vec<_> = processes.iter().filter_map(|process| process["pid"].as_i64()).collect();
    pids.sort_unstable();
    let mut expected = [i64::from(second.pid()), i64::from(first.pid())];
    expected.sort_unstable();
    assert_eq!(pids, expected);
}

#[test]
fn a_directory_that_is_gone_is_named_before_anything_is_felt() {
    let scene = Scene::new();
    let _member = scene.member("fine");
    fs::remove_dir_all(scene.image_directory()).unwrap();
    let output = scene.command(&["--checkpoint"]);
    output.expect(1);
    assert!(output.err.contains(scene.image_directory().to_str().unwrap()), "{}", output.err);
}

#[test]
fn kill_and_quit_end_everything() {
    let scene = Scene::new();
    let (_first, _second) = (scene.member("fine"), scene.member("fine"));
    scene.command(&["--quit"]).expect(1);
    scene.command(&["--kill"]).expect(2);
    scene.command(&["--kill", "--all"]).expect(0);
    assert!(scene.command(&["--status"]).out.is_empty());
    scene.command(&["--quit"]).expect(0);
    let output = scene.command(&["--status", "--json"]);
    output.expect(0);
    assert_eq!(output.out.trim(), r#"{"pods":[]}"#);
    let output = scene.command(&["--kill"]);
    output.expect(1);
    assert!(output.err.contains("no pod is running"));
}

#[test]
fn interval_checkpoints_by_itself() {
    let scene = Scene::new();
    let mut member = scene.member("fine");
    scene.command(&["--interval", "1"]).expect(0);
    member.expect("resumed");
    scene.command(&["--interval", "0"]).expect(0);
}

#[test]
fn a_command_that_is_killed_changes_nothing() {
    let scene = Scene::new();
    let mut member = scene.member("fine");
    scene.command_killed_at(zap_wire::fault::COMMAND_REQUESTED, &["--checkpoint"]);
    member.expect("resumed");
    let output = scene.command_until(&["--status"], |output| output.out.contains("generation 1"));
    assert_eq!(output.status, 0);
}

#[test]
fn a_coordinator_that_is_killed_is_replaced() {
    use zap_wire::fault::*;
    let places =
        [COORDINATOR_SIGNALLED, COORDINATOR_SUSPENDED, COORDINATOR_SAVING, COORDINATOR_WRITTEN, COORDINATOR_RENAMED];
    for place in places {
        let scene = Scene::new();
        scene.coordinator_with_fault(place);
        let mut member = scene.member_in("fine", Some("kept"));
        scene.kill_coordinator_at_fault();
        // Nobody is left standing: the program went on by itself.
        member.expect_one_of(&["resumed", "abandoned"]);
        let output = scene.command(&["--status"]);
        output.expect(0);
        assert!(
            output.out.contains("kept") && output.out.contains(&member.pid().to_string()),
            "{place}: {}",
            output.out
        );
        scene.command(&["--checkpoint"]).expect(0);
        assert_eq!(scene.images().len(), 1, "{place}");
        assert_eq!(scene.strays(), 0, "{place}");
    }
}

#[test]
fn members_for_which_there_is_no_room_stay_members() {
    let scene = Scene::new();
    scene.coordinator_with_descriptors(24, 24);
    let mut parent = scene.member("has-children");
    parent.expect("children");
    let everybody = member::CHILDREN + 1;
    let count = |output: &scene::Output| {
        let status: serde_json::Value = serde_json::from_str(&output.out).unwrap();
        status["pods"][0]["processes"].as_array().map_or(0, Vec::len)
    };
    for _ in 0..2 {
        assert_eq!(count(&scene.command(&["--status", "--json"])), everybody);
        let output = scene.command(&["--checkpoint"]);
        output.expect(1);
        assert!(output.err.contains("cannot watch one more process: too many open files"), "{}", output.err);
    }
    // Nobody says that those end, but a look is due every second.
    parent.end_children();
    parent.expect("alone");
    scene.command_until(&["--status", "--json"], |output| count(output) == 1);
    scene.command(&["--checkpoint"]).expect(0);
    assert_eq!(scene.images().len(), 1);
}

#[test]
fn nobody_is_a_member_because_the_table_says_so() {
    let scene = Scene::new();
    let member = scene.member("fine");
    let table = scene.table();
    // A process and its child, as a member could enter them: all that is in the table is right.
    let mut stranger =
        Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(stranger.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child: i32 = line.trim().parse().unwrap();
    for pid in [stranger.id() as i32, child] {
        let entry = table.enter(RealPid(pid), VirtualPid(pid)).unwrap();
        entry.start_time.store(zap_sys::process::start_time(RealPid(pid)).unwrap(), Ordering::Relaxed);
        entry.ready.store(1, Ordering::Release);
    }
    let status = scene.command(&["--status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    let processes = status["pods"][0]["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 1, "{processes:?}");
    assert_eq!(processes[0]["pid"], member.pid());
    scene.command(&["--checkpoint"]).expect(0);
    scene.command(&["--kill"]).expect(0);
    assert!(stranger.try_wait().unwrap().is_none());
    zap_sys::signal::kill(child, libc::SIGKILL).unwrap();
    assert!(stranger.wait().unwrap().success());
}

#[test]
fn strangers_at_the_door_are_sent_away() {
    let scene = Scene::new();
    let _member = scene.member("fine");
    let name = scene.table().door();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let connect = || {
        let number = net::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).unwrap();
        net::connect_abstract(number, &name[..length]).unwrap();
        number
    };
    let is_sent_away = |number| {
        let patience = libc::timeval { tv_sec: 10, tv_usec: 0 };
        net::set_option(number, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &patience).unwrap();
        let heard = net::receive(number, &mut [0u8; 64], 0);
        zap_sys::fd::close(number).unwrap();
        heard == Ok(0) || heard.is_err_and(|error| error.is(libc::ECONNRESET))
    };
    // Nothing is being restarted.
    assert!(is_sent_away(connect()));
    // A restart that waits for its processes: as long as this process, which has asked for it, lives.
    let request = zap_wire::message::Restart {
        protocol: zap_wire::PROTOCOL_VERSION,
        pod_id: 77,
        name: Some("restarted".into()),
        recorded_name: "restarted".into(),
        generation: 1,
        settings: zap_wire::message::PodSettings {
            ckpt_dir: scene.image_directory().to_str().unwrap().into(),
            interval: 0,
            keep: 1,
            compress: "none".into(),
            signal: crate::SIGNAL,
            snapshot_files: false,
            private: Default::default(),
        },
        streams: [(0, 0); 3],
        members: vec![(5, "app".into())],
        images: Vec::new(),
        ended: None,
    };
    Connection::request(&scene.runtime(), &ToCoordinator::Restart(request)).unwrap();
    // One that says nothing, one that says what is not true.
    let (mute, liar) = (connect(), connect());
    let lie = zap_wire::encode(&ToCoordinator::Restarted { pod_id: 77, virtual_pid: 5 }).unwrap();
    net::send(liar, &lie, 0).unwrap();
    assert!(is_sent_away(liar) && is_sent_away(mute));
    let status = scene.command(&["--status", "--pod", "restarted"]);
    assert_eq!(status.out.lines().count(), 1, "{}", status.out);
    scene.command(&["--kill", "--pod", "restarted"]).expect(0);
}

#[test]
fn the_coordinator_takes_the_descriptors_that_it_may_have() {
    let scene = Scene::new();
    scene.coordinator_with_descriptors(24, 4096);
    let mut parent = scene.member("has-children");
    parent.expect("children");
    let output = scene.command(&["--checkpoint"]);
    output.expect(1);
    assert!(!output.err.contains("too many open files"), "{}", output.err);
    parent.end_children();
    parent.expect("alone");
    scene.command(&["--checkpoint"]).expect(0);
}

#[test]
fn simultaneous_starts_make_one_coordinator() {
    let scene = Scene::new();
    let runtime = scene.runtime();
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let runtime = runtime.clone();
            std::thread::spawn(move || {
                let connection = Connection::connect_or_start(&runtime).unwrap();
                use std::os::fd::AsFd;
                connection::peer(connection.as_fd()).unwrap().0
            })
        })
        .collect();
    let pids: Vec<i32> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
    assert!(pids.iter().all(|pid| *pid == pids[0] && *pid > 0), "{pids:?}");
}

#[test]
fn unsafe_runtime_directories_are_refused_by_every_tool() {
    let scene = Scene::new();
    let path = scene.path("other");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = |expected: &str| {
        for program in [env!("CARGO_BIN_EXE_zap-command"), env!("CARGO_BIN_EXE_zap-coordinator")] {
            let arguments: &[&str] = if program.ends_with("command") { &["--status"] } else { &["--foreground"] };
            let output = scene.run(program, arguments, &path);
            output.expect(1);
            assert!(output.err.contains(path.to_str().unwrap()) && output.err.contains(expected), "{}", output.err);
        }
    };
    refused("too open");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    if zap_client::runtime::effective_user() == 0 {
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        refused("belongs to user 65534");
    }
    fs::remove_dir(&path).unwrap();
    symlink(scene.runtime().path(), &path).unwrap();
    refused("symbolic link");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    refused("not a directory");
    assert!(RuntimeDir::at(&path).is_err());
}
