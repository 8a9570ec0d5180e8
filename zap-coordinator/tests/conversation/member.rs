//! A member of a pod that behaves well or, at its second checkpoint, in one certain way badly.
//!
//! # Safety
//! Signal handlers only store to an atomic or write to a pipe.
#![allow(unsafe_code)]

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};
use zap_client::{Connection, MappedTable, RuntimeDir};
use zap_sys::{fd, net, process};
use zap_wire::message::{Launch, PodSettings, Refusal, SaveOrder};
use zap_wire::{FromCoordinator, Phase, ToCoordinator, LONGEST_MESSAGE, PROTOCOL_VERSION};

/// Write end of the pipe that the handler rings.
static BELL: AtomicI32 = AtomicI32::new(-1);

/// Runs for ever if this process has been started as a member.
pub fn run_if_asked() {
    let Ok(behaviour) = std::env::var("MEMBER_BEHAVIOUR") else { return };
    let runtime = RuntimeDir::open_or_create().unwrap();
    let pod = std::env::var("MEMBER_POD").unwrap();
    let launch = Launch {
        protocol: PROTOCOL_VERSION,
        pod: (!pod.is_empty()).then_some(pod),
        program: "member".into(),
        settings: PodSettings {
            ckpt_dir: std::env::var("MEMBER_IMAGES").unwrap(),
            interval: 0,
            keep: 1,
            compress: "none".into(),
            signal: crate::SIGNAL,
            snapshot_files: false,
            private: Default::default(),
        },
        streams: [(0, 0); 3],
    };
    let other = Launch { pod: Some("second".into()), ..launch.clone() };
    let answer = Connection::request(&runtime, &ToCoordinator::Launch(launch)).unwrap();
    let FromCoordinator::InPod { table, .. } = answer else { panic!("{answer:?}") };
    let table = MappedTable::open(table.as_ref()).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    BELL.store(write.as_raw_fd(), Ordering::Relaxed);
    handle(crate::SIGNAL);
    handle(libc::SIGUSR1);
    let entry = table.find(process::getpid()).unwrap();
    entry.ready.store(1, Ordering::Release);
    say("ready");
    if behaviour == "has-children" {
        have_children(&table);
    }
    for number in 1.. {
        while next_signal(read.as_raw_fd()) != crate::SIGNAL {
            if behaviour == "moves" {
                Connection::request(&runtime, &ToCoordinator::Launch(other.clone())).unwrap();
            }
        }
        entry.answered.store(entry.requested.load(Ordering::Acquire), Ordering::Release);
        let behaviour = if number == 2 || behaviour == "late" { behaviour.as_str() } else { "fine" };
        if behaviour == "trouble" {
            entry.trouble.store(libc::EMFILE as u16, Ordering::Release);
            continue;
        }
        say(checkpoint(&runtime, &table, behaviour, read.as_raw_fd()));
    }
    drop(write);
}

/// How many a member that has children has.
pub const CHILDREN: usize = 30;

/// Makes children that only wait, enters them, says that, and ends them when it is let go.
fn have_children(table: &MappedTable) {
    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        // SAFETY: the child makes system calls only.
        let child = unsafe { process::fork_raw(libc::SIGCHLD) }.unwrap();
        if child.0 == 0 {
            let _ = zap_sys::credentials::set_attribute(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize);
            loop {
                zap_sys::time::sleep_ns(1_000_000_000);
            }
        }
        table.enter_child(child, None).unwrap();
        children.push(child);
    }
    say("children");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_line(&mut String::new());
            for child in children {
                let _ = zap_sys::signal::kill(child.0, libc::SIGKILL);
                let _ = process::wait(child.0, 0);
            }
        });
    });
    say("alone");
}

/// One checkpoint; how it ended.
fn checkpoint(runtime: &RuntimeDir, table: &MappedTable, behaviour: &str, bell: i32) -> &'static str {
    let begun = Instant::now();
    let (how, at) = behaviour.rsplit_once('-').unwrap_or((behaviour, ""));
    let does = |what: &str, phase: &str| how == what && at == phase;
    if does("hang-up", "suspend") {
        return "abandoned";
    }
    let Ok(Some(connection)) = Connection::connect(runtime) else { return "abandoned" };
    let say = |message: ToCoordinator| connection.send(&message);
    let refusal = Refusal { object: "descriptor 5 (socket:[99])".into(), reason: "no plugin claims it".into() };
    if does("refuse", "suspend") {
        let _ = say(ToCoordinator::Refused { phase: Phase::Suspend, refusal });
        return "abandoned";
    }
    let pod_id = table.pod_id.load(Ordering::Relaxed);
    if say(ToCoordinator::Suspended { pod_id, virtual_pid: process::getpid().0, threads: 1 }).is_err() {
        return "abandoned";
    }
    let mut bytes = 0;
    loop {
        let mut buffer = vec![0u8; LONGEST_MESSAGE];
        let number = connection.as_fd().as_raw_fd();
        let Ok((length, descriptors, _)) = receive(number, &mut buffer) else { return "abandoned" };
        if length == 0 {
            return "abandoned";
        }
        let FromCoordinator::Proceed { phase } = zap_wire::decode(&buffer[..length]).unwrap() else {
            return "abandoned";
        };
        let name = format!("{phase:?}").to_lowercase();
        if does("hang-up", &name) {
            return "abandoned";
        }
        if does("mute", &name) {
            while next_signal(bell) != libc::SIGUSR1 {}
            return "abandoned";
        }
        if does("refuse", &name) {
            let _ = say(ToCoordinator::Refused { phase, refusal: refusal.clone() });
            continue;
        }
        if let [image_file, order] = descriptors.as_slice() {
            let mut text = vec![0; fd::fstat(*order).unwrap().st_size as usize];
            fd::pread(*order, &mut text, 0).unwrap();
            fd::close(*order).unwrap();
            let order: SaveOrder = zap_wire::decode(&text).unwrap();
            let image = crate::image::of_generation(order.generation);
            fd::write_all(*image_file, &image).unwrap();
            bytes = image.len() as u64;
            fd::close(*image_file).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
        let stop_ns = begun.elapsed().as_nanos() as u64;
        if say(ToCoordinator::Reached { phase, stop_ns }).is_err() {
            return "abandoned";
        }
        let writes = if behaviour == "late" { Phase::Resume } else { Phase::Save };
        if phase == writes {
            let failure = Refusal { object: "image".into(), reason: "no space left on device".into() };
            let _ = match behaviour {
                "write-fails" => say(ToCoordinator::WriteFailed { refusal: failure }),
                behaviour if behaviour.starts_with("hang-up") => Ok(true),
                _ => say(ToCoordinator::Written { bytes }),
            };
        }
        if phase == Phase::Resume {
            return "resumed";
        }
    }
}

fn receive(number: i32, buffer: &mut [u8]) -> zap_sys::Result<(usize, net::Descriptors, i32)> {
    loop {
        match net::receive_with_descriptors(number, buffer, 0) {
            Err(error) if error.is(libc::EINTR) => {}
            other => return other,
        }
    }
}

/// One line, past the test harness's own output.
fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("\n{word}\n").as_bytes()).and_then(|()| out.flush());
}

fn next_signal(bell: i32) -> i32 {
    let mut byte = [0u8; 1];
    loop {
        match fd::read(bell, &mut byte) {
            Ok(1) => return i32::from(byte[0]),
            Err(error) if error.is(libc::EINTR) => {}
            other => panic!("{other:?}"),
        }
    }
}

extern "C" fn ring(number: i32) {
    let _ = fd::write(BELL.load(Ordering::Relaxed), &[number as u8]);
}

fn handle(number: i32) {
    // SAFETY: the handler only writes to a pipe.
    unsafe { libc::signal(number, ring as *const () as libc::sighandler_t) };
}
