//! `cargo xtask bench`: how long things take under Zap, in one run beside the bare machine and other checkpointers.
//!
//! Medians of several takes. CRIU and DMTCP have columns of their own; where they are not on PATH these say so.

use crate::{processes, setup};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

mod others;

/// Names of C programs in xtask/bench.
const PROGRAMS: [&str; 3] = ["gap", "idle", "calls"];

/// Reading a clock stays a call of the vDSO, or of a copy of it that leads to Zap.
const CLOCK_AIM: &str = "≤ 1.50×";

/// A row of the table: what, then bare, Zap, CRIU, DMTCP, and what is aimed at.
type Row = [String; 6];

pub struct Bench {
    pub directory: PathBuf,
    takes: usize,
    rows: Vec<Row>,
}

/// Places in the file of notes of gap.c, in bytes.
const READY: u64 = 0;
const RESET: u64 = 8;
const LONGEST: u64 = 16;
const ARMED: u64 = 24;
const FIRST: u64 = 32;

pub fn run(words: &[String]) -> Result<ExitCode, String> {
    let quick = words.iter().any(|word| word == "--quick");
    let filter = words.iter().find(|word| !word.starts_with('-')).cloned().unwrap_or_default();
    processes::become_subreaper();
    setup::packages(&["gcc".to_string(), "libc6-dev".to_string()]);
    setup::build()?;
    let directory = std::env::temp_dir().join(format!("zap-bench-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut bench = Bench { directory, takes: if quick { 3 } else { 9 }, rows: Vec::new() };
    let result = bench.measure(&filter, quick);
    processes::kill_descendants();
    let _ = fs::remove_dir_all(&bench.directory);
    bench.print();
    result.map(|()| ExitCode::SUCCESS)
}

impl Bench {
    fn measure(&mut self, filter: &str, quick: bool) -> Result<(), String> {
        for name in PROGRAMS {
            let source = setup::workspace().join(format!("xtask/bench/{name}.c"));
            let mut command = Command::new("gcc");
            command.args(["-O2", "-pthread", "-o"]).arg(self.path(name)).arg(source);
            if !command.status().is_ok_and(|status| status.success()) {
                return Err(format!("{name}.c: gcc failed"));
            }
        }
        let wanted = |name: &str| name.contains(filter);
        for (megabytes, aim) in [(16, "≤ 5 ms"), (1024, "≤ 40 ms")] {
            if wanted("stop") {
                self.stop(megabytes, aim)?;
            }
            if wanted("restart") {
                self.restart(megabytes)?;
            }
        }
        if wanted("launch") {
            self.launch(if quick { 21 } else { 101 })?;
        }
        if wanted("image") {
            self.image()?;
        }
        for compress in ["none", "lz4", "zstd"] {
            if wanted("compress") {
                self.compress(compress)?;
            }
        }
        if wanted("calls") {
            self.calls(quick)?;
        }
        Ok(())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn row(&mut self, what: &str, cells: [String; 4], aim: &str) {
        let [bare, zap, criu, dmtcp] = cells;
        println!("measured: {what}: {zap}");
        self.rows.push([what.to_string(), bare, zap, criu, dmtcp, aim.to_string()]);
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(setup::built().join(name));
        command.env("ZAP_RUNTIME_DIR", self.path("run")).env("ZAP_CKPT_DIR", &self.directory);
        command.stdin(Stdio::null());
        command
    }

    /// A fresh file of notes, and gap.c's arguments.
    pub fn notes(&self) -> Result<File, String> {
        let path = self.path("notes");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).map_err(text)?;
        file.set_len(4096).map_err(text)?;
        Ok(file)
    }

    /// Starts gap.c by `command` and waits until its memory is there.
    pub fn start_gap(&self, mut command: Command, megabytes: u64, notes: &File) -> Result<Child, String> {
        command.arg(self.path("gap")).arg(self.path("notes")).arg(megabytes.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map_err(text)?;
        wait_for("the program is ready", || (get(notes, READY) == 1).then_some(()))?;
        Ok(child)
    }

    /// The longest gap of the program's clock over `checkpoint`, in milliseconds.
    pub fn gap_over(&self, notes: &File, checkpoint: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
        set(notes, RESET, 1)?;
        wait_for("the gap is reset", || (get(notes, RESET) == 0).then_some(()))?;
        checkpoint()?;
        Ok(get(notes, LONGEST) as f64 / 1e6)
    }

    /// Milliseconds from the start of `restart` to the program's first reading of the clock.
    pub fn first_after<T>(
        &self,
        notes: &File,
        restart: impl FnOnce() -> Result<T, String>,
    ) -> Result<(f64, T), String> {
        set(notes, FIRST, 0)?;
        set(notes, ARMED, 1)?;
        let start = processes::wall_clock();
        let value = restart()?;
        let first = wait_for("the restarted program runs", || Some(get(notes, FIRST)).filter(|first| *first != 0))?;
        Ok(((first - start) as f64 / 1e6, value))
    }

    fn stop(&mut self, megabytes: u64, aim: &str) -> Result<(), String> {
        let notes = self.notes()?;
        let mut child = self.start_gap(self.tool("zap-launch"), megabytes, &notes)?;
        let mut seen = Vec::new();
        for _ in 0..self.takes {
            seen.push(self.gap_over(&notes, || succeed(self.tool("zap-command").arg("--checkpoint")).map(|_| ()))?);
        }
        // Without any checkpoint: what the machine itself does to such a loop in the time of one.
        let idle = self.gap_over(&notes, || {
            std::thread::sleep(Duration::from_millis(200));
            Ok(())
        })?;
        let _ = child.kill();
        let _ = child.wait();
        let zap = median(seen);
        let (criu, dmtcp) = (others::criu_stop(self, megabytes, zap), others::dmtcp_stop(self, megabytes, zap));
        let what = format!("stop, {megabytes} MiB resident");
        self.row(&what, [milliseconds(idle), milliseconds(zap), criu, dmtcp], aim);
        Ok(())
    }

    fn restart(&mut self, megabytes: u64) -> Result<(), String> {
        let notes = self.notes()?;
        let mut child = self.start_gap(self.tool("zap-launch"), megabytes, &notes)?;
        let said = succeed(self.tool("zap-command").args(["--checkpoint", "--kill"]))?;
        let _ = child.wait();
        let image = String::from_utf8_lossy(&said.stdout).trim().to_string();
        let mut seen = Vec::new();
        for _ in 0..self.takes {
            let start = || self.tool("zap-restart").arg(&image).spawn().map_err(text);
            let (time, mut child) = self.first_after(&notes, start)?;
            seen.push(time);
            succeed(self.tool("zap-command").arg("--kill"))?;
            let _ = child.wait();
        }
        let _ = fs::remove_file(&image);
        let zap = median(seen);
        let (criu, dmtcp) = (others::criu_restart(self, megabytes, zap), others::dmtcp_restart(self, megabytes, zap));
        let what = format!("restart to first instruction, {megabytes} MiB");
        self.row(&what, [String::new(), milliseconds(zap), criu, dmtcp], "≤ 30 ms");
        Ok(())
    }

    /// zap-launch /bin/true with a coordinator running, beside /bin/true.
    fn launch(&mut self, takes: usize) -> Result<(), String> {
        let mut keeper = self.tool("zap-launch").arg(self.path("idle")).stdout(Stdio::null()).spawn().map_err(text)?;
        let time = |command: &mut Command| -> Result<f64, String> {
            let start = Instant::now();
            succeed(command)?;
            Ok(start.elapsed().as_secs_f64() * 1e3)
        };
        let (mut bare, mut zap) = (Vec::new(), Vec::new());
        for _ in 0..takes {
            bare.push(time(&mut Command::new("/bin/true"))?);
            zap.push(time(self.tool("zap-launch").arg("/bin/true"))?);
        }
        let _ = keeper.kill();
        let _ = keeper.wait();
        let (bare, zap) = (median(bare), median(zap));
        let cells = [
            milliseconds(bare),
            format!("+{}", milliseconds(zap - bare)),
            others::criu_none(),
            others::dmtcp_launch(takes, bare, zap - bare),
        ];
        self.row("launch of /bin/true", cells, "≤ +5 ms");
        Ok(())
    }

    /// Size of an image, time until it is safe, and time of a restart from it.
    fn compress(&mut self, compress: &str) -> Result<(), String> {
        const MEGABYTES: u64 = 256;
        let notes = self.notes()?;
        let mut launch = self.tool("zap-launch");
        launch.args(["--compress", compress]).env("GAP_ALIKE", "1");
        let mut child = self.start_gap(launch, MEGABYTES, &notes)?;
        let (mut checkpoints, mut restarts, mut image) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..self.takes {
            let start = Instant::now();
            let said = succeed(self.tool("zap-command").arg("--checkpoint"))?;
            checkpoints.push(start.elapsed().as_secs_f64() * 1e3);
            image = String::from_utf8_lossy(&said.stdout).trim().to_string();
        }
        succeed(self.tool("zap-command").arg("--kill"))?;
        let _ = child.wait();
        for _ in 0..self.takes {
            let start = || self.tool("zap-restart").arg(&image).spawn().map_err(text);
            let (time, mut child) = self.first_after(&notes, start)?;
            restarts.push(time);
            succeed(self.tool("zap-command").arg("--kill"))?;
            let _ = child.wait();
        }
        let size = fs::metadata(&image).map_err(text)?.len();
        let _ = fs::remove_file(&image);
        let shown =
            format!("{} KiB, {}, {}", size / 1024, milliseconds(median(checkpoints)), milliseconds(median(restarts)));
        let what = format!("image, checkpoint, restart; {MEGABYTES} MiB, --compress {compress}");
        self.row(&what, [String::new(), shown, String::new(), String::new()], "");
        Ok(())
    }

    fn image(&mut self) -> Result<(), String> {
        let child = self.tool("zap-launch").arg(self.path("idle")).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(text)?;
        let mut ready = [0; 6];
        if let Some(out) = child.stdout.as_mut() {
            std::io::Read::read_exact(out, &mut ready).map_err(text)?;
        }
        let said = succeed(self.tool("zap-command").args(["--checkpoint", "--kill"]))?;
        let _ = child.wait();
        let image = String::from_utf8_lossy(&said.stdout).trim().to_string();
        let size = fs::metadata(&image).map_err(text)?.len();
        let cells = [String::new(), format!("{} KiB", size / 1024), String::new(), String::new()];
        self.row("image of an idle C program", cells, "≤ 1024 KiB");
        Ok(())
    }

    /// Single calls, bare, in a pod, and after a restart, in which ids are others, turn by turn on one processor: what disturbs
    /// one turn disturbs all.
    fn calls(&mut self, quick: bool) -> Result<(), String> {
        let rounds = if quick { "20000" } else { "100000" };
        let (mut bare, mut zap, mut restarted) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.takes {
            bare.push(read_calls(&succeed(Command::new(self.path("calls")).arg(rounds))?));
            zap.push(read_calls(&succeed(self.tool("zap-launch").arg(self.path("calls")).arg(rounds))?));
            restarted.push(self.restarted_calls(rounds)?);
        }
        let times = |runs: &[Calls], at: usize| -> Vec<f64> {
            runs.iter().filter_map(|run| run.get(at)).map(|(_, time)| *time).collect()
        };
        for at in 0..bare[0].len() {
            let name = bare[0][at].0.clone();
            let (bare, zap) = (times(&bare, at), times(&zap, at));
            let aim = match name.as_str() {
                "execve" | "fork+exec+wait" | "posix_spawn+wait" => "≤ +1 ms",
                "getpid" | "gettid" | "getppid" => "no slower",
                "clock_gettime" => CLOCK_AIM,
                _ if median(bare.clone()) > 10_000.0 => "≤ 1.10×",
                _ => "≤ +50 ns",
            };
            let shown = beside(&bare, &zap);
            self.row(&name, [nanoseconds(median(bare)), shown, String::new(), String::new()], aim);
        }
        // What is dearer when ids are others is to be known; but for the clock there is no aim.
        for at in 0..bare[0].len() {
            let aim = if bare[0][at].0 == "clock_gettime" { CLOCK_AIM } else { "" };
            let name = format!("{}, restarted", bare[0][at].0);
            let (bare, restarted) = (times(&bare, at), times(&restarted, at));
            let shown = beside(&bare, &restarted);
            self.row(&name, [nanoseconds(median(bare)), shown, String::new(), String::new()], aim);
        }
        Ok(())
    }

    /// The calls of a program that has been restarted before it begins.
    fn restarted_calls(&self, rounds: &str) -> Result<Calls, String> {
        let (go, ready) = (self.path("go"), self.path("go.ready"));
        let mut launch = self.tool("zap-launch");
        launch.arg(self.path("calls")).arg(rounds).arg(&go).stdout(Stdio::null());
        let mut child = launch.spawn().map_err(text)?;
        wait_for("the program is ready", || ready.exists().then_some(()))?;
        let said = succeed(self.tool("zap-command").args(["--checkpoint", "--kill"]))?;
        let _ = child.wait();
        let image = String::from_utf8_lossy(&said.stdout).trim().to_string();
        fs::write(&go, "").map_err(text)?;
        let calls = read_calls(&succeed(self.tool("zap-restart").arg(&image))?);
        [go, ready, image.into()].iter().try_for_each(fs::remove_file).map_err(text)?;
        Ok(calls)
    }

    fn print(&self) {
        let head = ["", "bare", "Zap", "CRIU", "DMTCP", "aim"].map(str::to_string);
        let all: Vec<&Row> = std::iter::once(&head).chain(&self.rows).collect();
        let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        println!();
        for row in &all {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line += cell;
                line += &" ".repeat(width(column).saturating_sub(cell.chars().count()) + 2);
            }
            println!("{}", line.trim_end());
        }
    }
}

/// Names of calls, and how many nanoseconds each took.
type Calls = Vec<(String, f64)>;

/// What calls take, beside the same ones bare in the same turns.
fn beside(bare: &[f64], seen: &[f64]) -> String {
    let ratio = median(bare.iter().zip(seen).map(|(bare, seen)| seen / bare).collect());
    let more = median(bare.iter().zip(seen).map(|(bare, seen)| seen - bare).collect());
    let sign = if more < 0.0 { "" } else { "+" };
    format!("{} ({ratio:.2}×, {sign}{})", nanoseconds(median(seen.to_vec())), nanoseconds(more))
}

fn read_calls(output: &Output) -> Calls {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, time)| Some((name.to_string(), time.parse().ok()?)))
        .collect()
}

/// Runs a command that must succeed.
pub fn succeed(command: &mut Command) -> Result<Output, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

fn get(notes: &File, at: u64) -> i64 {
    let mut bytes = [0; 8];
    match notes.read_exact_at(&mut bytes, at) {
        Ok(()) => i64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}

fn set(notes: &File, at: u64, value: i64) -> Result<(), String> {
    notes.write_all_at(&value.to_le_bytes(), at).map_err(text)
}

fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> Result<T, String> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if Instant::now() > end {
            return Err(format!("waited 60 s for: {what}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

pub fn milliseconds(time: f64) -> String {
    format!("{time:.1} ms")
}

fn nanoseconds(time: f64) -> String {
    if time.abs() < 10_000.0 {
        format!("{time:.0} ns")
    } else {
        format!("{:.1} µs", time / 1000.0)
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// Whether a program is on PATH.
pub fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory: PathBuf| Path::new(&directory).join(name).is_file())
}
