//! `cargo xtask test`: format, lints, units, whole programs, real applications, faults; one count at the end.

use crate::{processes, setup};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Sums over all parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The last line, in the form in which cargo test says it, for those who read that.
    fn summary(self, elapsed: Duration) -> String {
        let Self { passed, failed, skipped } = self;
        let word = if failed == 0 { "ok" } else { "FAILED" };
        format!(
            "test result: {word}. {passed} passed; {failed} failed; {skipped} ignored; 0 measured; 0 filtered out; \
             finished in {:.2}s",
            elapsed.as_secs_f64()
        )
    }
}

pub fn run(words: &[String]) -> Result<ExitCode, String> {
    let (mut long, mut filter) = (false, None);
    for word in words {
        match word.as_str() {
            "--long" => long = true,
            option if option.starts_with('-') => return Err(format!("test: unknown option {option}")),
            _ if filter.is_none() => filter = Some(word.as_str()),
            _ => return Err("test: more than one filter".to_string()),
        }
    }
    processes::become_subreaper();
    let start = Instant::now();
    setup::packages(&setup::listed());
    let mut tally = Tally::default();
    if filter.is_none() {
        tally.add(check("format", &mut setup::cargo(&["fmt", "--all", "--check"])));
        let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--release", "--", "--deny", "warnings"];
        tally.add(check("lints", &mut setup::cargo(&lints)));
    }
    if let Err(why) = setup::build() {
        println!("FAIL  build: {why}");
        tally.add(Tally { failed: 1, ..Tally::default() });
        println!("{}", tally.summary(start.elapsed()));
        return Ok(ExitCode::FAILURE);
    }
    if let Err(why) = setup::sources() {
        println!("sources: what compiles them is skipped: {why}");
    }
    let mut units = setup::cargo(&["test", "--release", "--workspace", "--no-fail-fast"]);
    units.arg("--").args(filter).env_remove("ZAP_RUNTIME_DIR").env_remove("ZAP_CKPT_DIR");
    tally.add(part("units", &mut units, true));
    let mut programs = Command::new(setup::built().join("zap-tests"));
    programs.args(long.then_some("--long")).args(filter).stdin(Stdio::null());
    tally.add(part("programs", &mut programs, false));
    let left = processes::kill_descendants();
    if !left.is_empty() {
        println!("left behind, and ended: {}", left.join(" "));
    }
    println!("{}", tally.summary(start.elapsed()));
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A command that passes or fails as a whole.
fn check(name: &str, command: &mut Command) -> Tally {
    let start = Instant::now();
    let passed = command.status().is_ok_and(|status| status.success());
    println!("{}  {name} ({:.1} s)", if passed { "ok  " } else { "FAIL" }, start.elapsed().as_secs_f64());
    if passed {
        Tally { passed: 1, ..Tally::default() }
    } else {
        Tally { failed: 1, ..Tally::default() }
    }
}

/// A command that prints counts. One that fails without having counted a failure is itself one.
fn part(name: &str, command: &mut Command, quiet: bool) -> Tally {
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut kept = Vec::new();
    let passed =
        match command.stdout(Stdio::piped()).stderr(if quiet { Stdio::piped() } else { Stdio::inherit() }).spawn() {
            Ok(mut child) => {
                // cargo says on standard error which test binary runs; kept for a failure only.
                let messages = child.stderr.take().map(|err| {
                    std::thread::spawn(move || BufReader::new(err).lines().map_while(Result::ok).collect::<Vec<_>>())
                });
                for line in BufReader::new(
                    child
                        .stdout
                        .take()
                        .into_iter()
                        .next()
                        .map_or_else(|| Box::new(std::io::empty()) as Box<dyn std::io::Read>, |out| Box::new(out)),
                )
                .lines()
                .map_while(Result::ok)
                {
                    match counts(&line) {
                        Some(seen) => tally.add(seen),
                        None if quiet => kept.push(line),
                        None => println!("{line}"),
                    }
                }
                let passed = child.wait().is_ok_and(|status| status.success());
                if !passed {
                    kept.extend(messages.and_then(|thread| thread.join().ok()).unwrap_or_default());
                }
                passed
            }
            Err(error) => {
                println!("{name}: {error}");
                false
            }
        };
    if !passed {
        tally.failed = tally.failed.max(1);
        let interesting = |line: &&String| !line.ends_with("... ok") && !line.trim().is_empty();
        kept.iter().filter(interesting).for_each(|line| println!("    {line}"));
    }
    println!(
        "{}  {name}: {} passed, {} failed, {} skipped ({:.1} s)",
        if passed { "ok  " } else { "FAIL" },
        tally.passed,
        tally.failed,
        tally.skipped,
        start.elapsed().as_secs_f64()
    );
    tally
}

/// The counts in a line of cargo test (`test result: …`) or of the program tests.
fn counts(line: &str) -> Option<Tally> {
    let line = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let mut tally = Tally::default();
    let mut found = 0;
    for word in line.split([';', ',']) {
        let (number, what) = word.trim().split_once(' ')?;
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => tally.passed = number,
            "failed" => tally.failed = number,
            "skipped" | "ignored" => tally.skipped = number,
            _ => continue,
        }
        found += 1;
    }
    (found == 3).then_some(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_kinds_of_summary() {
        let table = [
            (
                "test result: ok. 7 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some(Tally { passed: 7, failed: 1, skipped: 2 }),
            ),
            ("10 passed, 0 failed, 3 skipped", Some(Tally { passed: 10, failed: 0, skipped: 3 })),
            ("ok    [1/2] state/pipes/plain (0.1 s)", None),
            ("test x ... ok", None),
            ("", None),
        ];
        for (line, expected) in table {
            assert_eq!(counts(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_line_is_that_of_cargo_test() {
        let table = [
            (
                Tally { passed: 3171, failed: 0, skipped: 50 },
                Duration::from_millis(754_321),
                "test result: ok. 3171 passed; 0 failed; 50 ignored; 0 measured; 0 filtered out; finished in 754.32s",
            ),
            (
                Tally { passed: 1, failed: 2, skipped: 0 },
                Duration::ZERO,
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            ),
        ];
        for (tally, elapsed, expected) in table {
            assert_eq!(tally.summary(elapsed), expected);
            assert_eq!(counts(expected), Some(tally), "{expected}");
        }
    }
}
