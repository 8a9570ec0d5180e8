//! `cargo xtask demo`: a Python job, checkpointed in the middle, killed, restarted, and compared with one that nobody
//! interrupted.

use crate::{processes, setup};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Progress lines of the job, and after how many of them it is checkpointed.
const LINES: usize = 12;
const MIDDLE: usize = 5;

struct Demo {
    directory: PathBuf,
    python: PathBuf,
    job: PathBuf,
}

pub fn run(words: &[String]) -> Result<ExitCode, String> {
    if !words.is_empty() {
        return Err("usage: cargo xtask demo".to_string());
    }
    processes::become_subreaper();
    setup::packages(&["python3".to_string()]);
    setup::build()?;
    let directory = std::env::temp_dir().join(format!("zap-demo-{}", std::process::id()));
    fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let demo = Demo { directory, python: python()?, job: setup::workspace().join("xtask/demo/planets.py") };
    let result = demo.play();
    processes::kill_descendants();
    let _ = fs::remove_dir_all(&demo.directory);
    result
}

fn python() -> Result<PathBuf, String> {
    let path = PathBuf::from("/usr/bin/python3");
    if path.exists() {
        Ok(path)
    } else {
        Err("the demo needs python3 (as root: apt-get install python3)".to_string())
    }
}

impl Demo {
    fn play(&self) -> Result<ExitCode, String> {
        println!("\nA simulation of the planets in Python, {}.", self.job.display());
        println!("\n1  run without interruption, for comparison");
        let whole = self.path("whole");
        let start = Instant::now();
        let status = self.start(Command::new(&self.python), &whole)?.wait().map_err(text)?;
        if !status.success() {
            return Err(format!("the job by itself: {status}"));
        }
        let expected = read(&whole);
        println!("   done in {:.1} s", start.elapsed().as_secs_f64());

        println!("\n2  run under zap-launch");
        let out = self.path("out");
        let mut command = self.tool("zap-launch");
        command.arg(&self.python);
        let mut child = self.start(command, &out)?;
        let shown = self.follow(&out, 0, MIDDLE - 2)?;
        println!("   zap-command --checkpoint: the job runs on");
        self.checkpoint(&[])?;
        let stop = self.stop_time();
        let shown = self.follow(&out, shown, MIDDLE)?;

        println!("\n3  zap-command --checkpoint --kill");
        let image = self.checkpoint(&["--kill"])?;
        let status = child.wait().map_err(text)?;
        let size = fs::metadata(&image).map_err(text)?.len();
        println!("   the job is dead ({status}); its image is {}", image.display());

        println!("\n4  zap-restart --background IMAGE");
        let start = Instant::now();
        let mut command = self.tool("zap-restart");
        command.arg("--background").arg(&image);
        let output = File::options().append(true).open(&out).map_err(text)?;
        let status = command.stdin(Stdio::null()).stdout(output).status().map_err(text)?;
        let restart = start.elapsed();
        if !status.success() {
            return Err(format!("zap-restart: {status}"));
        }
        self.follow(&out, shown, LINES)?;
        let seen = self.wait_whole(&out, expected.lines().count())?;

        let same = seen == expected;
        println!("\nresult      {}", if same { "the same, to the last digit" } else { "DIFFERENT" });
        if !same {
            println!("expected:\n{expected}\nseen:\n{seen}");
        }
        if let Some(stop) = stop {
            println!("stop        {:.2} ms", stop as f64 / 1000.0);
        }
        println!("image       {:.1} MiB", size as f64 / f64::from(1 << 20));
        println!("restart     {:.1} ms", restart.as_secs_f64() * 1000.0);
        Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(setup::built().join(name));
        command.env("ZAP_RUNTIME_DIR", self.path("run")).env("ZAP_CKPT_DIR", &self.directory);
        command
    }

    fn start(&self, mut command: Command, out: &Path) -> Result<std::process::Child, String> {
        let out = OpenOptions::new().create(true).append(true).open(out).map_err(text)?;
        command.arg(&self.job).stdin(Stdio::null()).stdout(out).current_dir(&self.directory);
        command.spawn().map_err(text)
    }

    /// Takes a checkpoint; the image.
    fn checkpoint(&self, more: &[&str]) -> Result<PathBuf, String> {
        let said = self.tool("zap-command").arg("--checkpoint").args(more).output().map_err(text)?;
        if !said.status.success() {
            return Err(format!("the checkpoint failed: {}", String::from_utf8_lossy(&said.stderr)));
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()))
    }

    /// Shows lines of progress beyond the first `from` until there are `to`; how many have been shown.
    fn follow(&self, out: &Path, from: usize, to: usize) -> Result<usize, String> {
        let (mut shown, end) = (from, Instant::now() + Duration::from_secs(300));
        while shown < to {
            let said = read(out);
            let complete = said.rfind('\n').map_or("", |at| &said[..at]);
            for line in complete.lines().skip(shown).filter(|line| line.starts_with("step")) {
                println!("   {line}");
                shown += 1;
            }
            if Instant::now() > end {
                return Err("the job makes no progress".to_string());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(shown)
    }

    /// The output, once it has `lines` lines.
    fn wait_whole(&self, out: &Path, lines: usize) -> Result<String, String> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let said = read(out);
            if said.matches('\n').count() >= lines {
                return Ok(said);
            }
            if Instant::now() > end {
                return Err(format!("the restarted job did not come to its end:\n{said}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How long the last checkpoint stopped the program, in microseconds.
    fn stop_time(&self) -> Option<u64> {
        let said = self.tool("zap-command").args(["--status", "--json"]).output().ok()?;
        let json: serde_json::Value = serde_json::from_slice(&said.stdout).ok()?;
        json["pods"][0]["last_checkpoint"]["stop_us"].as_u64()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
