//! The list of all tests, and their running: some at a time, each in a worker, bounded in time, counted.

use crate::case::{Case, Stop};
use crate::huge_pages::Reserve;
use crate::place::Place;
use crate::{process, Arguments};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Exit status of a worker whose test was skipped.
const SKIPPED: u8 = 77;

/// Tests that run at the same time: most of their time they wait.
const WORKERS: usize = 3;

/// Every test, in the order in which they run; programs made from `seeds` among them.
fn cases(place: &Place, seeds: &[u64], asked: Option<u64>) -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(crate::project::cases());
    cases.extend(crate::state::cases(&place.manifest));
    cases.extend(crate::compressed::cases(&place.manifest));
    cases.extend(crate::stopped::cases());
    cases.extend(crate::special::cases());
    cases.extend(crate::terminal::cases());
    cases.extend(crate::ids::cases());
    cases.extend(crate::processes::cases());
    cases.extend(crate::command_line::cases());
    cases.extend(crate::options::cases());
    cases.extend(crate::private::cases());
    cases.extend(crate::foreign::cases());
    cases.extend(crate::coordinator::cases());
    cases.extend(crate::images::cases());
    cases.extend(crate::storage::cases());
    cases.extend(crate::changed_files::cases());
    cases.extend(crate::own_directories::cases(&place.manifest));
    cases.extend(crate::faults::cases());
    cases.extend(crate::panics::cases());
    cases.extend(crate::stress::cases());
    cases.extend(crate::random::cases(seeds, asked));
    cases.extend(crate::jobs::cases(&place.manifest));
    cases.sort_by_key(|case| case.order);
    cases
}

/// Names of all tests, without a place.
pub fn names(tests: &Path) -> Result<Vec<String>, String> {
    let place = Place::open(Path::new("/nonexistent"), tests)?;
    let seeds = crate::random::seeds(&Arguments::default());
    Ok(cases(&place, &seeds, None).into_iter().map(|case| case.name).collect())
}

/// Prints the names of all tests.
pub fn list(tests: &Path) -> Result<ExitCode, String> {
    for name in names(tests)? {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a single test, as a worker.
pub fn work(name: &str, place: &Path, tests: &Path, long: bool) -> Result<ExitCode, String> {
    process::become_subreaper().map_err(|error| error.to_string())?;
    let place = Place::open(place, tests)?;
    let seed = crate::random::seed_of(name);
    let case = cases(&place, seed.as_slice(), seed)
        .into_iter()
        .find(|case| case.name == name)
        .ok_or(format!("no test {name}"))?;
    let limit = if long { case.limit * 10 } else { case.limit };
    std::thread::spawn(move || {
        std::thread::sleep(limit);
        println!("not done after {} s", limit.as_secs());
        process::kill_descendants();
        std::process::exit(1);
    });
    let result = case.run(&place);
    process::kill_descendants();
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skipped(why)) => {
            println!("{why}");
            ExitCode::from(SKIPPED)
        }
        Err(Stop::Failed(why)) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    })
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
}

/// Runs all tests whose names contain the filter.
pub fn run(arguments: &Arguments, tests: &Path) -> Result<ExitCode, String> {
    process::become_subreaper().map_err(|error| error.to_string())?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().unwrap_or(Path::new("."));
    let place = Place::create(tests, arguments.built.as_deref().unwrap_or(beside))?;
    let mut tally = Tally::default();
    for failure in place.build_programs() {
        println!("FAIL  build: {failure}");
        tally.failed.push(format!("build of {}", failure.lines().next().unwrap_or_default()));
    }
    let root = process::user() == 0;
    let (seeds, asked) = (crate::random::seeds(arguments), crate::random::seed_of(&arguments.filter));
    let chosen = |case: &Case| {
        // A program is asked for by its whole number.
        if asked.is_some() {
            return crate::random::seed_of(&case.name) == asked && (root || !case.name.starts_with("ordinary-user/"));
        }
        let matches =
            if arguments.exact { case.name == arguments.filter } else { case.name.contains(&arguments.filter) };
        matches && (arguments.long || !case.long) && (root || !case.name.starts_with("ordinary-user/"))
    };
    let mut cases: Vec<Case> = cases(&place, &seeds, asked).into_iter().filter(chosen).collect();
    let named = |case: &Case| (case.name.clone(), case.limit, case.huge_pages);
    let names: Vec<(String, Duration, u64)> =
        (0..arguments.repeat.unwrap_or(1)).flat_map(|_| cases.iter().map(named).collect::<Vec<_>>()).collect();
    cases.clear();
    let total = names.len();
    let queue = Mutex::new(names.into_iter().enumerate());
    let tally = Mutex::new(tally);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((number, (name, limit, huge_pages))) =
                    queue.lock().ok().and_then(|mut queue| queue.next())
                {
                    // Here, and not in the worker, which may be killed.
                    let huge_pages = (huge_pages > 0).then(|| Reserve::raise(huge_pages));
                    let start = Instant::now();
                    let (status, text) = run_worker(&own, &name, limit, &place, arguments);
                    drop(huge_pages);
                    let seconds = start.elapsed().as_secs_f64();
                    let Ok(mut tally) = tally.lock() else { break };
                    let word = match status {
                        0 => {
                            tally.passed += 1;
                            "ok  "
                        }
                        status if status == i32::from(SKIPPED) => {
                            tally.skipped += 1;
                            "skip"
                        }
                        _ => {
                            tally.failed.push(name.clone());
                            "FAIL"
                        }
                    };
                    let text = if text.is_empty() { String::new() } else { format!(": {}", text.trim_end()) };
                    println!("{word}  [{:>3}/{total}] {name} ({seconds:.1} s){text}", number + 1);
                    let _ = std::io::stdout().flush();
                }
            });
        }
    });
    if arguments.keep {
        println!("kept: {}", place.root.display());
    } else {
        place.remove();
    }
    let tally = tally.into_inner().map_err(|error| error.to_string())?;
    for name in &tally.failed {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exit status and text of a worker. It ends itself after its limit; if it cannot even do that it is killed.
fn run_worker(own: &Path, name: &str, limit: Duration, place: &Place, arguments: &Arguments) -> (i32, String) {
    let mut command = Command::new(own);
    command.args(["--worker", name, "--place"]).arg(&place.root).process_group(0);
    if arguments.long {
        command.arg("--long");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return (1, error.to_string()),
    };
    let pid = child.id() as i32;
    let last = if arguments.long { limit * 10 } else { limit } + Duration::from_secs(60);
    let mut text = String::new();
    std::thread::scope(|scope| {
        let (done, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            if ended.recv_timeout(last) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                process::descendants(pid).into_iter().chain([pid]).for_each(|pid| process::kill(pid, 9));
            }
        });
        if let Some(mut out) = child.stdout.take() {
            let mut bytes = Vec::new();
            let _ = out.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        let _ = done.send(());
    });
    let status = child.wait().ok().and_then(|status| status.code()).unwrap_or(1);
    if !arguments.keep {
        let _ = std::fs::remove_dir_all(place.root.join("scenes").join(pid.to_string()));
    }
    (status, text)
}
