//! What a terminal does with a pod that runs in it: who is in the foreground, and whom Ctrl-C reaches.

use crate::case::{skipped, Case, Result, Row};
use crate::ensure;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use std::fs;
use std::path::PathBuf;

pub fn cases() -> Vec<Case> {
    let table: [Row; 9] = [
        ("job-in-front", job_in_front),
        ("of-own-session", of_own_session),
        ("interrupt", |scene| interrupt(scene, &SCRIPT)),
        ("modes", |scene| modes(scene, "24")),
        ("modes-of-another-size", |scene| modes(scene, "50")),
        ("modes-of-own-session", modes_of_own_session),
        ("shell", shell),
        ("pager", pager),
        ("interrupt-of-a-session", |scene| interrupt(scene, &[])),
    ];
    let mut cases = Vec::new();
    for (name, run) in table {
        cases.push(Case::new(format!("terminal/{name}"), run));
        cases.push(Case::new(format!("terminal/{name}"), run).by_ordinary_user());
    }
    cases
}

/// Starts a tool of Zap in a terminal of its own, by a command that runs its arguments.
fn start(scene: &Scene, by: &[&str], tool: &str, rest: &[PathBuf]) -> Result<Running> {
    let helper = scene.place.built("in_terminal");
    if !helper.exists() {
        return skipped("in_terminal could not be built: no compiler");
    }
    let mut command = scene.words(&[&helper]);
    command.args(by).arg(scene.place.tool(tool)).args(rest);
    scene.start(command, &scene.out())
}

/// By a shell that does no job control, as a script is; it says nothing of what Ctrl-C or SIGKILL did.
const SCRIPT: [&str; 4] = ["/bin/sh", "-c", "exec 2>/dev/null; trap : INT; \"$@\"; exit $?", "sh"];

fn job_in_front(scene: &Scene) -> Result {
    let program = scene.place.built("job_in_front");
    let running = start(scene, &SCRIPT, "zap-launch", &[program])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&["--kill"])?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(137), "after --checkpoint --kill: {ended}");
    let running = start(scene, &SCRIPT, "zap-restart", &images)?;
    scene.wait_running(1)?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(
        ended == Ended::Exited(7) && said == "READY\njob: in front\nshell: has the terminal back\nOK\n",
        "seen {ended} and {said:?}"
    );
    Ok(())
}

/// The terminal of a session that the program leads could not be had again: /dev/tty is refused by name, and the program runs on.
fn of_own_session(scene: &Scene) -> Result {
    let words = ["/bin/sh", "-c", "exec 5</dev/tty; echo READY; until test -e \"$0\"; do sleep 0.01; done; exit 9"];
    let words = words.iter().map(PathBuf::from).chain([scene.path("go")]).collect::<Vec<_>>();
    let running = start(scene, &[], "zap-launch", &words)?;
    scene.wait_ready(running, 1)?;
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, "descriptor 5 (/dev/tty): is the terminal of a session")?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(9), "seen {ended}");
    Ok(())
}

/// Ctrl-C reaches all of a restarted job, as it reaches all of one that is not: the shell and what it waits for.
fn interrupt(scene: &Scene, by: &[&str]) -> Result {
    let words = ["/bin/sh", "-c", "trap 'echo the shell; exit 9' INT; echo READY; sleep 100; echo not reached"];
    let running = start(scene, by, "zap-launch", &words.map(PathBuf::from))?;
    scene.wait_ready(running, 1)?;
    scene.until(PATIENCE, "two processes", || {
        let pods = scene.status().ok()?;
        (pods.first()?["processes"].as_array()?.len() == 2).then_some(())
    })?;
    let images = scene.checkpoint(&["--kill"])?;
    scene.wait(running)?;
    let running = start(scene, by, "zap-restart", &images)?;
    scene.wait_running(1)?;
    process::kill(running.pid, libc::SIGUSR1);
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(9) && said == "READY\nthe shell\n", "seen {ended} and {said:?}");
    scene.until(PATIENCE, "nobody is left", || scene.status().is_ok_and(|pods| pods.is_empty()).then_some(()))
}

/// A program's modes are those of the terminal that it finds after a restart, and who has started zap-restart has his own again. A
/// terminal of another size is told of.
fn modes(scene: &Scene, rows: &str) -> Result {
    const LOOKING: &str =
        "\"$@\"; code=$?; case $(stty -a) in *-icanon*) stty -a;; *) echo as before;; esac; exit $code";
    let by = ["/bin/sh", "-c", LOOKING, "sh"];
    let program = scene.place.built("terminal_modes");
    scene.use_variable("ZAP_TEST_ROWS", "24");
    let running = start(scene, &SCRIPT, "zap-launch", &[program])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&["--kill"])?;
    scene.wait(running)?;
    scene.use_variable("ZAP_TEST_ROWS", rows);
    let running = start(scene, &by, "zap-restart", &images)?;
    scene.wait_running(1)?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    // OLCUC is the program's.
    let expected = format!("READY\r\nSIZE: {rows}X80\r\nOK\r\nas before\n");
    ensure!(ended == Ended::Exited(7) && said == expected, "seen {ended} and {said:?}");
    Ok(())
}

/// A program that leads the terminal's session leads one of its own after a restart, without a terminal: its modes are set all the
/// same, in the second life as in the third.
fn modes_of_own_session(scene: &Scene) -> Result {
    let program = scene.place.built("terminal_modes");
    scene.use_variable("ZAP_TEST_ROWS", "24");
    let mut running = start(scene, &[], "zap-launch", &[program])?;
    scene.wait_ready(running, 1)?;
    for rows in ["24", "24", "30"] {
        scene.use_variable("ZAP_TEST_ROWS", rows);
        let images = scene.checkpoint(&["--kill"])?;
        scene.wait(running)?;
        running = start(scene, &[], "zap-restart", &images)?;
        scene.wait_running(1)?;
    }
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(7) && said == "READY\r\nSIZE: 30X80\r\nOK\r\n", "seen {ended} and {said:?}");
    Ok(())
}

/// Types `text` at the terminal of `running`.
fn type_keys(scene: &Scene, running: Running, text: &str) -> Result {
    let keys = scene.path("keys");
    // Whole before it is read.
    let next = scene.path("keys.new");
    fs::write(&next, text)?;
    fs::rename(&next, &keys)?;
    process::kill(running.pid, libc::SIGUSR2);
    Ok(())
}

/// A shell with job control runs programs in the foreground after a restart, too. dash makes them by vfork.
fn shell(scene: &Scene) -> Result {
    if !crate::case::installed("dash") {
        return skipped("dash is not installed");
    }
    let keys = scene.path("keys");
    scene.use_variable("ZAP_TEST_KEYS", &keys.display().to_string());
    let said = |text: &str| {
        scene.until(PATIENCE, &format!("the shell says {text:?}"), || {
            fs::read_to_string(scene.out()).unwrap_or_default().contains(text).then_some(())
        })
    };
    // Keys are typed by a signal, for which the terminal is to be ready.
    let by = ["/bin/sh", "-c", "exec 2>/dev/null; trap : INT; echo READY; \"$@\"; exit $?", "sh"];
    let mut running = start(scene, &by, "zap-launch", &["dash", "-i"].map(PathBuf::from))?;
    scene.wait_ready(running, 1)?;
    type_keys(scene, running, "/bin/sleep 0.01; echo first=$?\n")?;
    said("first=0\n")?;
    for life in ["second", "third"] {
        let images = scene.checkpoint(&["--kill"])?;
        scene.wait(running)?;
        running = start(scene, &SCRIPT, "zap-restart", &images)?;
        scene.wait_running(1)?;
        type_keys(scene, running, &format!("/bin/sleep 0.01; echo {life}=$?\n"))?;
        said(&format!("{life}=0\n"))?;
        type_keys(scene, running, &format!("/bin/echo a | cat; echo {life} pipe=$?\n"))?;
        said(&format!("{life} pipe=0\n"))?;
    }
    // At its end it would give the terminal to the group that it was started in, which is not the pod's.
    type_keys(scene, running, "kill -KILL $$\n")?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(137), "seen {ended}");
    Ok(())
}

/// less, in the middle of a file: in another terminal it goes on where it was.
fn pager(scene: &Scene) -> Result {
    if !crate::case::installed("less") {
        return skipped("less is not installed");
    }
    let text: String = (1..=2000).map(|number| format!("line {number}\n")).collect();
    let file = scene.path("work/text");
    fs::write(&file, text)?;
    scene.own(&file)?;
    scene.use_variable("TERM", "xterm");
    let keys = scene.path("keys");
    scene.use_variable("ZAP_TEST_KEYS", &keys.display().to_string());
    let said = |text: &str| {
        scene.until(PATIENCE, &format!("less shows {text:?}"), || {
            fs::read_to_string(scene.out()).unwrap_or_default().contains(text).then_some(())
        })
    };
    let words = ["less", "-S", &file.display().to_string()].map(PathBuf::from);
    let show = |restarts: bool| -> Result<String> {
        let _ = fs::remove_file(scene.out());
        let mut running = start(scene, &SCRIPT, "zap-launch", &words)?;
        said("line 20")?;
        type_keys(scene, running, "1000g")?;
        said("line 1010")?;
        if restarts {
            let images = scene.checkpoint(&["--kill"])?;
            scene.wait(running)?;
            fs::remove_file(scene.out())?;
            running = start(scene, &SCRIPT, "zap-restart", &images)?;
            scene.wait_running(1)?;
        } else {
            fs::write(scene.out(), "")?;
        }
        type_keys(scene, running, "/1500\n")?;
        said("1500")?;
        type_keys(scene, running, "G")?;
        said("line 2000")?;
        type_keys(scene, running, "q")?;
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Exited(0), "{ended}");
        // Which of these the terminal makes of it is one of its attributes.
        Ok(fs::read_to_string(scene.out())?.replace("\r\n", "\n"))
    };
    let plain = show(false)?;
    let again = show(true)?;
    ensure!(again == plain, "{again:?} instead of {plain:?}");
    Ok(())
}
