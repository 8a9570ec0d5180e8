//! A runtime directory and an image directory of one test, the processes in it, and zap-command with them.
//!
//! # Safety
//! What runs between fork and exec makes one raw system call.
#![allow(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use zap_client::{connection, Connection, MappedTable, RuntimeDir};
use zap_sys::signal;

/// Longest that anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything of one test; taken down with the value.
pub struct Scene {
    root: PathBuf,
}

/// What a tool said.
#[derive(Debug)]
pub struct Output {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Output {
    #[track_caller]
    pub fn expect(&self, status: i32) {
        assert_eq!(self.status, status, "out: {} err: {}", self.out, self.err);
    }
}

impl Scene {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("zap-conversation-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(name);
        fs::create_dir_all(root.join("images")).unwrap();
        RuntimeDir::at(&root.join("run")).unwrap();
        Self { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn runtime(&self) -> RuntimeDir {
        RuntimeDir::at(&self.path("run")).unwrap()
    }

    pub fn image_directory(&self) -> PathBuf {
        self.path("images")
    }

    /// The table of the only pod.
    pub fn table(&self) -> MappedTable {
        let files = fs::read_dir(self.runtime().pods_dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut tables = files.filter(|path| path.extension().is_some_and(|end| end == "table"));
        MappedTable::open(&tables.next().unwrap()).unwrap()
    }

    /// A process in a pod of its own that behaves as told.
    pub fn member(&self, behaviour: &str) -> Member {
        self.member_in(behaviour, None)
    }

    pub fn member_in(&self, behaviour: &str, pod: Option<&str>) -> Member {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "be_a_member", "--nocapture"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        self.environment(&mut command, &self.path("run"));
        command.env("MEMBER_BEHAVIOUR", behaviour).env("MEMBER_IMAGES", self.image_directory());
        command.env("MEMBER_POD", pod.unwrap_or_default());
        if behaviour == "blocks" {
            let block = || {
                let _ = signal::change_mask(libc::SIG_BLOCK, signal::bit(crate::SIGNAL));
                Ok(())
            };
            // Before any thread of the member exists. std has reset the mask by then.
            // SAFETY: one raw system call.
            unsafe { command.pre_exec(block) };
        }
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut member = Member { child, lines };
        member.expect("ready");
        member
    }

    /// Runs zap-command.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_zap-command"), arguments, &self.path("run"))
    }

    /// Runs zap-command again and again until its output is as wanted.
    #[track_caller]
    pub fn command_until(&self, arguments: &[&str], wanted: impl Fn(&Output) -> bool) -> Output {
        let mut last = None;
        wait_for("zap-command's answer", || {
            let output = self.command(arguments);
            let found = wanted(&output);
            last = Some(output);
            found
        });
        last.unwrap()
    }

    /// Starts zap-command, lets it stop itself at `fault`, and kills it there.
    pub fn command_killed_at(&self, fault: &str, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zap-command"));
        self.environment(&mut command, &self.path("run"));
        let mut child = command.args(arguments).env("ZAP_FAULT", fault).spawn().unwrap();
        wait_for("zap-command to stop itself", || is_stopped(child.id() as i32));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a coordinator that will stop itself at `fault`.
    pub fn coordinator_with_fault(&self, fault: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zap-coordinator"));
        self.environment(&mut command, &self.path("run"));
        let mut child = command.env("ZAP_FAULT", fault).spawn().unwrap();
        wait_for("the coordinator to listen", || Connection::connect(&self.runtime()).unwrap().is_some());
        // Waited for when it is killed, so that its pid stays its own until then.
        std::thread::spawn(move || child.wait());
    }

    /// Starts a coordinator that is given these limits of descriptors, soft and hard; its pid.
    pub fn coordinator_with_descriptors(&self, soft: u64, hard: u64) -> i32 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zap-coordinator"));
        self.environment(&mut command, &self.path("run"));
        let limit = move || {
            let _ = zap_sys::process::set_limit(libc::RLIMIT_NOFILE, soft, hard);
            Ok(())
        };
        // SAFETY: one raw system call.
        let mut child = unsafe { command.arg("--foreground").pre_exec(limit) }.spawn().unwrap();
        let pid = child.id() as i32;
        wait_for("the coordinator to listen", || Connection::connect(&self.runtime()).unwrap().is_some());
        // Until it ends by itself.
        std::thread::spawn(move || child.wait());
        pid
    }

    /// Asks for a checkpoint and kills the coordinator where it stops itself.
    pub fn kill_coordinator_at_fault(&self) {
        let connection = Connection::connect(&self.runtime()).unwrap().unwrap();
        let (pid, _) = connection::peer(connection.as_fd()).unwrap();
        let selection = zap_wire::message::Selection::Only;
        connection.send(&zap_wire::ToCoordinator::Checkpoint { selection, kill: false }).unwrap();
        wait_for("the coordinator to stop itself", || is_stopped(pid));
        signal::kill(pid, libc::SIGKILL).unwrap();
        assert!(connection.receive().unwrap().is_none());
        // The kernel closes an ended process's sockets in no certain order.
        wait_for("the coordinator to be gone", || !Path::new(&format!("/proc/{pid}")).exists());
    }

    pub fn run(&self, program: &str, arguments: &[&str], runtime: &Path) -> Output {
        let mut command = Command::new(program);
        self.environment(&mut command, runtime);
        let output = command.args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Output { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The complete images, sorted.
    pub fn images(&self) -> Vec<PathBuf> {
        let mut images: Vec<PathBuf> =
            self.files().filter(|path| path.extension().is_some_and(|e| e == "zimg")).collect();
        images.sort();
        images
    }

    /// Files in the image directory that are no images.
    pub fn strays(&self) -> usize {
        self.files().count() - self.images().len()
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(self.image_directory()).unwrap().map(|entry| entry.unwrap().path())
    }

    fn environment(&self, command: &mut Command, runtime: &Path) {
        command.env("ZAP_RUNTIME_DIR", runtime).env("ZAP_IDLE_SECONDS", "5").env("ZAP_TIMEOUT_SECONDS", "1");
        command.env_remove("ZAP_FAULT");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.command(&["--quit", "--kill"]);
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A member process; killed with the value.
pub struct Member {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Member {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn signal(&self, signal: i32) {
        signal::kill(self.pid(), signal).unwrap();
    }

    /// Lets a member that has children end them.
    pub fn end_children(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Lets a mute member go on.
    pub fn let_go(&self) {
        self.signal(libc::SIGUSR1);
    }

    /// Reads what it says until it says `word`.
    #[track_caller]
    pub fn expect(&mut self, word: &str) {
        self.expect_one_of(&[word]);
    }

    #[track_caller]
    pub fn expect_one_of(&mut self, words: &[&str]) {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the member has ended before it said {words:?}");
            if words.contains(&line.trim()) {
                return;
            }
        }
    }

    /// Whether it has said, until its end, that it went on.
    pub fn has_resumed(&mut self) -> bool {
        let said: Vec<String> = self.lines.by_ref().lines().map_while(Result::ok).collect();
        said.iter().any(|line| line == "resumed" || line == "abandoned")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Deref for Member {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.child
    }
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_stopped(pid: i32) -> bool {
    zap_sys::process::state(zap_sys::RealPid(pid)) == Some(b'T')
}
