//! The scene of one test: its directories, what it starts, and the steps that most tests are made of.
//!
//! Waits are bounded, poll for what they wait for, and say what did not happen.

use crate::case::{failed, skipped, Doing, Result};
use crate::ensure;
use crate::manifest::{Build, Program};
use crate::place::{Place, User, NOBODY};
use crate::process::{self, Ended, Outcome};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{chown, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a single step may take.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A started child.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub pid: i32,
}

/// What a tool said.
#[derive(Clone, Debug)]
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Fails unless the tool ended with `status` and its messages contain `text` in any case of letters.
    pub fn expect(&self, status: i32, text: &str) -> Result {
        let contains = self.err.to_lowercase().contains(&text.to_lowercase());
        ensure!(
            self.status == status && contains,
            "expected exit status {status} and a message with {text:?}; seen exit status {}, message {:?}, output {:?}",
            self.status,
            self.err,
            self.out
        );
        Ok(())
    }
}

/// What a plain run of a program did.
#[derive(Clone, Debug)]
pub struct Plain {
    pub out: Vec<u8>,
    pub ended: Ended,
    pub processor_time: Duration,
    /// Contents of the files in `outputs`.
    pub outputs: Vec<Vec<u8>>,
}

pub struct Scene<'p> {
    pub place: &'p Place,
    pub user: User,
    /// The scene's directory.
    pub dir: PathBuf,
    runtime: RefCell<PathBuf>,
    directory: RefCell<PathBuf>,
    fault: RefCell<Option<String>>,
    virtual_ids: Cell<bool>,
    launch_options: RefCell<Vec<String>>,
    variables: RefCell<BTreeMap<String, String>>,
    scale: Cell<u32>,
    steps: RefCell<Vec<String>>,
    counter: Cell<u32>,
}

/// Where programs under test find others: Debian's, and after them the toolchain that runs the tests (cargo(1): CARGO), which
/// another user need not be able to enter.
fn search_path(user: User) -> OsString {
    let mut path = OsString::from("/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
    let cargo = std::env::var_os("CARGO").filter(|_| user == User::Own);
    if let Some(toolchain) = cargo.as_deref().and_then(|cargo| Path::new(cargo).parent()) {
        path.push(":");
        path.push(toolchain);
    }
    path
}

impl<'p> Scene<'p> {
    pub fn new(place: &'p Place, user: User) -> Result<Self> {
        // Short, since sockets' paths are; named after the worker.
        let dir = place.root.join("scenes").join(std::process::id().to_string());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let scene = Self {
            place,
            user,
            runtime: RefCell::new(dir.join("runtime")),
            directory: RefCell::new(dir.join("work")),
            dir,
            fault: RefCell::new(None),
            virtual_ids: Cell::new(false),
            launch_options: RefCell::default(),
            variables: RefCell::default(),
            scale: Cell::new(1),
            steps: RefCell::default(),
            counter: Cell::new(0),
        };
        scene.own(&scene.dir)?;
        for name in ["runtime", "images", "work"] {
            scene.make_directory(name, 0o700)?;
        }
        Ok(scene)
    }

    /// A path in the scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a directory that belongs to the scene's user.
    pub fn make_directory(&self, name: &str, mode: u32) -> Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir_all(&path)?;
        self.own(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Gives a file to the scene's user.
    pub fn own(&self, path: &Path) -> Result {
        if self.user == User::Nobody {
            chown(path, Some(NOBODY), Some(NOBODY)).doing(path.display())?;
        }
        Ok(())
    }

    /// The standard output of the program under test.
    pub fn out(&self) -> PathBuf {
        self.path("out")
    }

    pub fn images(&self) -> PathBuf {
        self.path("images")
    }

    pub fn runtime(&self) -> PathBuf {
        self.runtime.borrow().clone()
    }

    /// Uses another runtime directory from now on.
    pub fn use_runtime(&self, path: PathBuf) {
        *self.runtime.borrow_mut() = path;
    }

    /// Starts what follows in another directory.
    pub fn use_directory(&self, path: PathBuf) {
        *self.directory.borrow_mut() = path;
    }

    /// What is started from now on stops itself at this place of `zap_wire::fault`; `None`: at none.
    pub fn use_fault(&self, fault: Option<&str>) {
        *self.fault.borrow_mut() = fault.map(str::to_string);
    }

    /// What is launched from now on has ids that differ from the kernel's from the start.
    pub fn use_virtual_ids(&self) {
        self.virtual_ids.set(true);
    }

    /// Every program is launched with these options from now on.
    pub fn use_launch_options(&self, options: &[&str]) {
        *self.launch_options.borrow_mut() = options.iter().map(|option| option.to_string()).collect();
    }

    /// What is started from now on has this variable in its environment.
    pub fn use_variable(&self, name: &str, value: &str) {
        self.variables.borrow_mut().insert(name.to_string(), value.to_string());
    }

    /// Jobs do so many times the work from now on, as far as they can.
    pub fn use_scale(&self, scale: u32) {
        self.scale.set(scale);
    }

    fn note(&self, step: impl Into<String>) {
        self.steps.borrow_mut().push(step.into());
    }

    /// What has been done so far and what was said on standard error, for the message of a failure.
    pub fn context(&self) -> String {
        let mut text = String::new();
        for step in self.steps.borrow().iter() {
            text += &format!("\n      did: {step}");
        }
        for name in ["err", "out"] {
            let said = fs::read(self.path(name)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said[said.len().saturating_sub(1500)..]).into_owned();
            for line in said.lines() {
                text += &format!("\n      {name}: {line}");
            }
        }
        text
    }

    /// A command with the scene's environment, user and directory.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", search_path(self.user))
            .env("HOME", &self.place.root)
            .env("LC_ALL", "C.UTF-8")
            .env("ZAP_RUNTIME_DIR", self.runtime())
            .env("ZAP_CKPT_DIR", self.images())
            .env("ZAP_TEST_GO", self.path("go"))
            .current_dir(self.directory.borrow().as_path())
            .envs(self.variables.borrow().iter())
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(fault) = self.fault.borrow().as_ref() {
            command.env("ZAP_FAULT", fault);
        }
        if self.scale.get() != 1 {
            command.env("ZAP_JOB_SCALE", self.scale.get().to_string());
        }
        if self.virtual_ids.get() {
            command.env("ZAP_FORCE_VIRTUAL", "1");
        }
        if self.user == User::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// A command line of words, the first of which may be a tool's name.
    pub fn words<S: AsRef<OsStr>>(&self, words: &[S]) -> Command {
        let (first, rest) = (words[0].as_ref(), &words[1..]);
        let known = first.to_str().is_some_and(|name| name.starts_with("zap-"));
        let mut command =
            if known { self.command(self.place.tool(&first.to_string_lossy())) } else { self.command(first) };
        command.args(rest);
        command
    }

    /// Starts a command with its output appended to `out`, its messages to the scene's file of messages.
    pub fn start(&self, mut command: Command, out: &Path) -> Result<Running> {
        self.note(describe(&command));
        command.stdout(self.append(out)?).stderr(self.append(&self.path("err"))?);
        let child = command.spawn().doing(describe(&command))?;
        process::note_started(child.id() as i32);
        Ok(Running { pid: child.id() as i32 })
    }

    fn append(&self, path: &Path) -> Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(path).doing(path.display())?;
        self.own(path)?;
        Ok(file)
    }

    /// Runs a command to its end, within `PATIENCE`.
    pub fn finish(&self, command: Command) -> Result<Said> {
        let (said, ended) = self.finish_any(command)?;
        match ended {
            Ended::Exited(_) => Ok(said),
            ended => failed(format!("a tool was {ended}: {said:?}")),
        }
    }

    fn finish_any(&self, mut command: Command) -> Result<(Said, Ended)> {
        let number = self.counter.replace(self.counter.get() + 1);
        let (out, err) = (self.path(&format!("tool-{number}.out")), self.path(&format!("tool-{number}.err")));
        command.stdout(self.append(&out)?).stderr(self.append(&err)?);
        let what = describe(&command);
        let child = command.spawn().doing(&what)?;
        process::note_started(child.id() as i32);
        let waited = self.wait_within(Running { pid: child.id() as i32 }, PATIENCE);
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let mut said = Said { status: -1, out: text(&out), err: text(&err) };
        let ended = waited.doing(&what)?.ended;
        if let Ended::Exited(status) = ended {
            said.status = status;
        }
        self.note(format!("{what}: {ended}; {:?} {:?}", cut(&said.out), cut(&said.err)));
        let _ = fs::remove_file(&out);
        let _ = fs::remove_file(&err);
        Ok((said, ended))
    }

    /// Runs a tool of Zap, or any other program, with these words.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Said> {
        self.finish(self.words(words))
    }

    /// Waits for the end of a child.
    pub fn wait(&self, running: Running) -> Result<Outcome> {
        self.wait_within(running, PATIENCE)
    }

    pub fn wait_within(&self, running: Running, limit: Duration) -> Result<Outcome> {
        self.wait_while(running, limit, || {})
    }

    /// Waits for the end of a child whose own orphans are reaped meanwhile.
    fn wait_for_end(&self, running: Running, limit: Duration) -> Result<Outcome> {
        // It may be an orphan itself.
        process::note_started(running.pid);
        self.wait_while(running, limit, process::reap_orphans)
    }

    fn wait_while(&self, running: Running, limit: Duration, work: impl Fn()) -> Result<Outcome> {
        let outcome = self.until(limit, "", || {
            work();
            process::try_wait(running.pid).ok().flatten()
        });
        match outcome {
            Ok(outcome) => Ok(outcome),
            Err(_) => failed(format!(
                "process {} had not ended after {} s; its state is {:?}",
                running.pid,
                limit.as_secs(),
                process::state(running.pid)
            )),
        }
    }

    /// Polls until `look` sees something; fails with `what` after `limit`.
    pub fn until<T>(&self, limit: Duration, what: &str, look: impl Fn() -> Option<T>) -> Result<T> {
        let mut patience = Patience::new(limit);
        loop {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if patience.is_over() {
                return failed(format!("waited {} s for: {what}", limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until `running` stands stopped (SIGSTOP).
    pub fn wait_stopped(&self, pid: i32, what: &str) -> Result {
        self.until(PATIENCE, &format!("{what} (process {pid}) stops itself"), || {
            (process::state(pid) == Some('T')).then_some(())
        })
    }

    // The programs of the manifest.

    pub fn program(&self, name: &str) -> Result<Program> {
        match self.place.manifest.find(name) {
            Some(program) => Ok(program.clone()),
            None => failed(format!("{name} is not in the manifest")),
        }
    }

    fn fill(&self, program: &Program, word: &str, dir: &Path) -> String {
        let mut text = word
            .replace("{bin}", &self.place.built(&program.name).to_string_lossy())
            .replace("{src}", &self.place.source(program).to_string_lossy())
            .replace("{dir}", &dir.to_string_lossy());
        while let Some(at) = text.find("{bin:") {
            let Some(length) = text[at..].find('}') else { break };
            let built = self.place.built(&text[at + 5..at + length]);
            text.replace_range(at..at + length + 1, &built.to_string_lossy());
        }
        text
    }

    /// The command line of a program whose scratch directory is `dir`.
    pub fn line(&self, program: &Program, dir: &Path) -> Result<Vec<String>> {
        if program.build != Build::None && !self.place.built(&program.name).exists() {
            return skipped(format!("{} could not be built: no compiler", program.name));
        }
        let line: Vec<String> = program.run.iter().map(|word| self.fill(program, word, dir)).collect();
        if !Path::new(&line[0]).exists() {
            return skipped(format!("{} is not here", line[0]));
        }
        Ok(line)
    }

    /// Runs `prepare` in `dir`.
    pub fn prepare(&self, program: &Program, dir: &Path) -> Result {
        if program.prepare.is_empty() {
            return Ok(());
        }
        let line: Vec<String> = program.prepare.iter().map(|word| self.fill(program, word, dir)).collect();
        let mut command = self.words(&line);
        command.current_dir(dir);
        let out = match &program.prepare_output {
            Some(path) => PathBuf::from(self.fill(program, path, dir)),
            None => self.path("prepared"),
        };
        let ended = self.start(command, &out).and_then(|running| self.wait(running))?.ended;
        ensure!(ended == Ended::Exited(0), "preparing {}: {ended}", program.name);
        Ok(())
    }

    /// A file as standard input of a command.
    fn input(&self, program: &Program, dir: &Path, command: &mut Command) -> Result {
        if let Some(path) = &program.stdin {
            let path = self.fill(program, path, dir);
            command.stdin(File::open(&path).doing(&path)?);
        }
        Ok(())
    }

    fn outputs(&self, program: &Program, dir: &Path) -> Result<Vec<Vec<u8>>> {
        let read = |path: &String| {
            let path = self.fill(program, path, dir);
            fs::read(&path).doing(format!("the output {path}"))
        };
        program.outputs.iter().map(read).collect()
    }

    /// What a plain run does, from an earlier test of this run if there was one.
    pub fn plain(&self, program: &Program) -> Result<Plain> {
        let kept = self.place.root.join("plain").join(format!("{:?}-{}-{}", self.user, self.scale.get(), program.name));
        if !kept.exists() {
            let plain = self.run_plain(program)?;
            let fresh = self.path("plain-kept");
            fs::create_dir_all(&fresh)?;
            fs::write(fresh.join("out"), &plain.out)?;
            let status = match plain.ended {
                Ended::Exited(status) => status,
                Ended::Killed(signal) => 1000 + signal,
            };
            fs::write(fresh.join("numbers"), format!("{status} {}", plain.processor_time.as_millis()))?;
            for (number, content) in plain.outputs.iter().enumerate() {
                fs::write(fresh.join(format!("output-{number}")), content)?;
            }
            // Another test may have been faster.
            let _ = fs::rename(&fresh, &kept);
        }
        let numbers = fs::read_to_string(kept.join("numbers"))?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let read = |number: usize| fs::read(kept.join(format!("output-{number}")));
        Ok(Plain {
            out: fs::read(kept.join("out"))?,
            ended: match numbers[0] {
                status if status < 1000 => Ended::Exited(status as i32),
                signal => Ended::Killed(signal as i32 - 1000),
            },
            processor_time: Duration::from_millis(numbers[1]),
            outputs: (0..program.outputs.len()).map(read).collect::<std::io::Result<_>>()?,
        })
    }

    fn run_plain(&self, program: &Program) -> Result<Plain> {
        for left in [self.path("work-plain"), self.path("out-plain")].iter().filter(|left| left.exists()) {
            fs::remove_dir_all(left).or_else(|_| fs::remove_file(left))?;
        }
        let dir = self.make_directory("work-plain", 0o700)?;
        let out = self.path("out-plain");
        self.prepare(program, &dir)?;
        let mut command = self.words(&self.line(program, &dir)?);
        // The files to go on are there from the start: a plain run waits for nobody.
        let go = self.path("go-plain");
        fs::write(&go, "")?;
        fs::write(self.path("go-plain.2"), "")?;
        command.env("ZAP_TEST_GO", go).current_dir(&dir);
        self.input(program, &dir, &mut command)?;
        let outcome = self.start(command, &out).and_then(|running| self.wait_for_end(running, PATIENCE * 3))?;
        let said = fs::read(&out)?;
        if outcome.ended == Ended::Exited(77) {
            return skipped(String::from_utf8_lossy(&said).trim().to_string());
        }
        ensure!(
            outcome.ended == Ended::Exited(program.status),
            "a plain run of {}: {} instead of exit status {}; it printed {:?}",
            program.name,
            outcome.ended,
            program.status,
            cut(&String::from_utf8_lossy(&said))
        );
        let outputs = self.outputs(program, &dir)?;
        Ok(Plain { out: said, ended: outcome.ended, processor_time: outcome.processor_time, outputs })
    }

    // Steps.

    /// Starts a program of the manifest in the scene's scratch directory under zap-launch with these options.
    pub fn launch(&self, program: &Program, options: &[&str]) -> Result<Running> {
        self.launch_by(&[], program, options)
    }

    /// The same by a command that execs its arguments.
    pub fn launch_by(&self, by: &[&str], program: &Program, options: &[&str]) -> Result<Running> {
        let dir = self.path("work");
        self.prepare(program, &dir)?;
        let mut words: Vec<String> = by.iter().map(|word| word.to_string()).collect();
        let tool = self.place.tool("zap-launch");
        words.push(if by.is_empty() { "zap-launch".into() } else { tool.to_string_lossy().into_owned() });
        words.extend(self.launch_options.borrow().iter().cloned());
        words.extend(options.iter().map(|option| option.to_string()));
        words.extend(self.line(program, &dir)?);
        let mut command = self.words(&words);
        self.input(program, &dir, &mut command)?;
        self.start(command, &self.out())
    }

    /// Forgets what the programs of the scene have written, for another try.
    pub fn begin_anew(&self) -> Result {
        self.note("began anew");
        fs::remove_file(self.out())?;
        for name in ["work", "images"] {
            fs::remove_dir_all(self.path(name))?;
            self.make_directory(name, 0o700)?;
        }
        Ok(())
    }

    /// Waits until the program has said READY for the `count`-th time.
    pub fn wait_ready(&self, running: Running, count: usize) -> Result {
        self.wait_ready_in(&self.out(), running, count)
    }

    /// The same with another file of output.
    pub fn wait_ready_in(&self, out: &Path, running: Running, count: usize) -> Result {
        let seen = self.until(PATIENCE, &format!("the program says READY ({count})"), || {
            let said = fs::read_to_string(out).unwrap_or_default();
            if said.lines().filter(|line| *line == "READY").count() >= count {
                return Some(true);
            }
            (!process::lives(running.pid)).then_some(false)
        })?;
        if !seen {
            let ended = self.wait(running)?.ended;
            return failed(format!("the program ended before READY: {ended}"));
        }
        Ok(())
    }

    /// Tells the program to go on.
    pub fn go(&self) -> Result {
        self.note("told the program to go on");
        Ok(fs::write(self.path("go"), "")?)
    }

    /// Takes a checkpoint; the images' paths.
    pub fn checkpoint(&self, more: &[&str]) -> Result<Vec<PathBuf>> {
        let mut words = vec!["zap-command", "--checkpoint"];
        words.extend(more);
        let said = self.run(&words)?;
        ensure!(said.status == 0, "checkpoint failed: exit status {}, {:?}", said.status, said.err);
        let images: Vec<PathBuf> = said.out.lines().map(PathBuf::from).collect();
        ensure!(!images.is_empty(), "checkpoint printed no image");
        for image in &images {
            ensure!(image.is_file(), "{} is not there after the checkpoint", image.display());
        }
        Ok(images)
    }

    /// Takes a checkpoint with --kill, and waits for the program's end by it.
    pub fn checkpoint_and_kill(&self, running: Running) -> Result<Vec<PathBuf>> {
        let images = self.checkpoint(&["--kill"])?;
        let ended = self.wait(running).doing("after --checkpoint --kill")?.ended;
        ensure!(
            matches!(ended, Ended::Killed(9) | Ended::Exited(137)),
            "expected the program to be killed by --checkpoint --kill; seen: {ended}"
        );
        Ok(images)
    }

    /// Restarts these images, with output appended to `out`.
    pub fn restart(&self, options: &[&str], images: &[PathBuf], out: &Path) -> Result<Running> {
        let mut command = self.words(&["zap-restart"]);
        command.args(options).args(images);
        self.start(command, out)
    }

    /// Waits until the coordinator lists `count` pods, all of which run; their JSON.
    pub fn wait_running(&self, count: usize) -> Result<Vec<serde_json::Value>> {
        let mut patience = Patience::new(PATIENCE);
        loop {
            let pods = self.status()?;
            let running = pods.iter().all(|pod| {
                let processes = pod["processes"].as_array();
                let first = processes.and_then(|list| list.first()).is_some_and(|first| first["state"] == "running");
                let live =
                    |process: &serde_json::Value| matches!(process["state"].as_str(), Some("running" | "stopped"));
                pod["state"] == "running" && first && processes.is_some_and(|list| list.iter().all(live))
            });
            if running && pods.len() == count {
                return Ok(pods);
            }
            if patience.is_over() {
                let said = std::fs::read_to_string(self.out()).unwrap_or_default();
                return failed(format!(
                    "waited for {count} running pods; the status is {pods:?}; the program said {said:?}"
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The pods as `--status --json` shows them.
    pub fn status(&self) -> Result<Vec<serde_json::Value>> {
        let said = self.finish_quietly(&["zap-command", "--status", "--json"])?;
        ensure!(said.status == 0, "--status --json: exit status {}, {:?}", said.status, said.err);
        let json: serde_json::Value = match serde_json::from_str(&said.out) {
            Ok(json) => json,
            Err(error) => return failed(format!("--status --json is no JSON: {error}: {:?}", said.out)),
        };
        match json["pods"].as_array() {
            Some(pods) => Ok(pods.clone()),
            None => failed(format!("--status --json has no list of pods: {json}")),
        }
    }

    fn finish_quietly(&self, words: &[&str]) -> Result<Said> {
        self.quietly(|| self.run(words))
    }

    /// Does what is too much for the list of steps, unless it fails.
    pub fn quietly<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let length = self.steps.borrow().len();
        let done = work()?;
        self.steps.borrow_mut().truncate(length);
        Ok(done)
    }

    /// Waits for the end, and compares status and the whole output with a plain run's.
    pub fn expect_end(&self, running: Running, program: &Program) -> Result {
        self.expect_end_in(running, program, &self.out())
    }

    pub fn expect_end_in(&self, running: Running, program: &Program, out: &Path) -> Result {
        let plain = self.plain(program)?;
        let ended = self.wait_for_end(running, PATIENCE * 2).doing("waiting for the right end")?.ended;
        let said = fs::read(out)?;
        ensure!(
            ended == plain.ended && said == plain.out,
            "expected {} and the output of a plain run; seen {ended} and {}",
            plain.ended,
            difference(&plain.out, &said)
        );
        for (path, content) in program.outputs.iter().zip(&plain.outputs) {
            let path = self.fill(program, path, &self.path("work"));
            let seen = fs::read(&path).doing(&path)?;
            ensure!(seen == *content, "{path} differs from a plain run's: {}", difference(content, &seen));
        }
        Ok(())
    }

    /// The kernel's id of the first process of the only pod, once that runs.
    pub fn first_process(&self) -> Result<i32> {
        let pods = self.wait_running(1)?;
        match pods[0]["processes"][0]["pid"].as_i64() {
            Some(pid) => Ok(pid as i32),
            None => failed(format!("no process id in {pods:?}")),
        }
    }

    /// Process id of the coordinator: the one process of the scene that has its name.
    pub fn coordinator(&self) -> Result<i32> {
        let socket = self.runtime();
        let found = self.until(PATIENCE, "a coordinator runs", || {
            process::descendants(std::process::id() as i32).into_iter().find(|pid| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let wanted = format!("ZAP_RUNTIME_DIR={}", socket.display());
                let first = command.split(|byte| *byte == 0).next().unwrap_or_default();
                first.ends_with(b"zap-coordinator")
                    && environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            })
        });
        found.doing("looking for the coordinator")
    }

    /// Ends the coordinator and waits until it is gone.
    pub fn quit(&self, more: &[&str]) -> Result {
        let pid = self.coordinator()?;
        let mut words = vec!["zap-command", "--quit"];
        words.extend(more);
        self.run(&words)?.expect(0, "")?;
        self.until(PATIENCE, "the coordinator ends after --quit", || (!process::lives(pid)).then_some(()))
    }
}

fn describe(command: &Command) -> String {
    let mut text = String::new();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    for word in words {
        let word = word.to_string_lossy();
        let short = word.rsplit_once("/dist/bin/").map_or(&*word, |(_, name)| name);
        text += if text.is_empty() { "" } else { " " };
        text += short;
    }
    text
}

/// What is left of a limit. A virtual machine may stand still for longer than that, with all that is waited for: between two
/// looks no more passes than [`Patience::LONGEST`].
struct Patience {
    left: Duration,
    looked: Instant,
}

impl Patience {
    const LONGEST: Duration = Duration::from_secs(1);

    fn new(limit: Duration) -> Self {
        Self { left: limit, looked: Instant::now() }
    }

    fn is_over(&mut self) -> bool {
        self.left = self.left.saturating_sub(self.looked.elapsed().min(Self::LONGEST));
        self.looked = Instant::now();
        self.left.is_zero()
    }
}

/// The beginning of a long text.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

/// Where two outputs differ.
fn difference(expected: &[u8], seen: &[u8]) -> String {
    if expected == seen {
        return "the right output".to_string();
    }
    let (e, s) = (String::from_utf8_lossy(expected), String::from_utf8_lossy(seen));
    let (mut left, mut right, mut line) = (e.lines(), s.lines(), 1);
    loop {
        match (left.next(), right.next()) {
            (None, None) => return format!("{} bytes instead of {}", seen.len(), expected.len()),
            (a, b) if a == b => line += 1,
            (a, b) => {
                let show = |text: Option<&str>| text.map_or("nothing".to_string(), |text| format!("{:?}", cut(text)));
                return format!("at line {line} {} instead of {}", show(b), show(a));
            }
        }
    }
}
