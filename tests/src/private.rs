//! Directories of a pod's own (`zap-launch --private`): what programs see of them is what they would see of a directory that is theirs
//! alone, and the host sees nothing.
//!
//! By other paths, unless `ZAP_PRIVATE_BY` in the environment says what makes the directories private: the cases are the same.

use crate::case::{failed, Case, Doing, Result, Row};
use crate::ensure;
use crate::scene::{Said, Scene, PATIENCE};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn cases() -> Vec<Case> {
    let table: [Row; 7] = [
        ("paths", |scene| as_if_plain(scene, paths)),
        ("paths-with-other-ids", |scene| {
            scene.use_virtual_ids();
            as_if_plain(scene, paths)
        }),
        ("tools", |scene| as_if_plain(scene, tools)),
        ("side-by-side", side_by_side),
        ("begins-empty", begins_empty),
        ("begun-inside", begun_inside),
        ("runtime-directory-is-the-hosts", runtime_directory),
    ];
    let both = |(name, run): Row| {
        let case = || Case::new(format!("private/{name}"), run);
        [case(), case().by_ordinary_user()]
    };
    table.into_iter().flat_map(both).collect()
}

/// A directory that becomes private, and one beside it that does not.
struct Directories {
    own: PathBuf,
    outer: PathBuf,
}

impl Directories {
    fn make(scene: &Scene) -> Result<Self> {
        Ok(Self { own: scene.make_directory("own", 0o700)?, outer: scene.make_directory("outer", 0o700)? })
    }

    fn begin_anew(scene: &Scene) -> Result<Self> {
        for name in ["own", "outer"] {
            fs::remove_dir_all(scene.path(name)).doing(name)?;
        }
        Self::make(scene)
    }

    fn is_own_empty(&self) -> Result {
        match fs::read_dir(&self.own)?.next() {
            Some(entry) => failed(format!("{} is in the host's directory", entry?.path().display())),
            None => Ok(()),
        }
    }
}

/// zap-launch with `own` as a directory of the pod's, and what it is to run.
fn launch<S: AsRef<OsStr>>(scene: &Scene, own: &Path, words: &[S]) -> Command {
    let mut command = scene.words(&["zap-launch", "--private"]);
    command.arg(own).args(words);
    command.env("ZAP_PRIVATE_BY", std::env::var_os("ZAP_PRIVATE_BY").unwrap_or_else(|| "names".into()));
    command
}

/// Runs what `line` says twice, plainly and with a directory of the pod's own, and compares.
fn as_if_plain(scene: &Scene, line: fn(&Scene, &Directories) -> Result<Vec<String>>) -> Result {
    let directories = Directories::make(scene)?;
    let plain = scene.finish(scene.words(&line(scene, &directories)?))?;
    ensure!(plain.status == 0, "plain: exit status {}: {}{}", plain.status, plain.out, plain.err);
    let directories = Directories::begin_anew(scene)?;
    let own = scene.finish(launch(scene, &directories.own, &line(scene, &directories)?))?;
    compare(&plain, &own)?;
    directories.is_own_empty()
}

fn compare(plain: &Said, own: &Said) -> Result {
    let differs = |(plain, own): &(&str, &str)| plain != own;
    if let Some((plain, own)) = plain.out.lines().zip(own.out.lines()).find(differs) {
        return failed(format!("{own:?} instead of {plain:?}"));
    }
    ensure!(
        own.status == plain.status && own.out == plain.out,
        "exit status {}, {:?} instead of {:?}; {:?}",
        own.status,
        own.out,
        plain.out,
        own.err
    );
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn paths(scene: &Scene, directories: &Directories) -> Result<Vec<String>> {
    let program = scene.program("private_paths")?;
    let mut line = scene.line(&program, &directories.own)?;
    line.extend([text(&directories.own), text(&directories.outer)]);
    Ok(line)
}

fn tools(scene: &Scene, directories: &Directories) -> Result<Vec<String>> {
    let program = scene.program("private_tools")?;
    let mut line = scene.line(&program, &directories.own)?;
    line.extend([text(&directories.own), text(&directories.outer)]);
    Ok(line)
}

/// Two pods, each with a server that has the same pid file and the same socket, and a client.
fn side_by_side(scene: &Scene) -> Result {
    let directories = Directories::make(scene)?;
    let program = scene.program("private_server")?;
    let mut outs = Vec::new();
    let mut running = Vec::new();
    for name in ["one", "other"] {
        let mut line = scene.line(&program, &directories.own)?;
        line.extend([text(&directories.own), name.to_string()]);
        let out = scene.path(name);
        running.push(scene.start(launch(scene, &directories.own, &line), &out)?);
        outs.push(out);
    }
    for (running, out) in running.iter().zip(&outs) {
        scene.wait_ready_in(out, *running, 1)?;
    }
    directories.is_own_empty()?;
    scene.go()?;
    for ((running, out), name) in running.into_iter().zip(&outs).zip(["one", "other"]) {
        scene.wait(running)?;
        let said = fs::read_to_string(out)?;
        ensure!(said == format!("READY\nanswered by {name}\nOK\n"), "{said:?}");
    }
    directories.is_own_empty()
}

/// What is in the host's directory is not in the pod's.
fn begins_empty(scene: &Scene) -> Result {
    let directories = Directories::make(scene)?;
    let file = directories.own.join("hosts");
    fs::write(&file, "host's")?;
    scene.own(&file)?;
    let script = "ls -A \"$0\"; echo pods > \"$0/hosts\"; cat \"$0/hosts\"";
    let said = scene.finish(launch(scene, &directories.own, &["sh", "-c", script, &text(&directories.own)]))?;
    ensure!(said.status == 0 && said.out == "pods\n", "{said:?}");
    ensure!(fs::read_to_string(&file)? == "host's", "the host's file has been written");
    Ok(())
}

/// A program that is started in the host's directory is in the pod's.
fn begun_inside(scene: &Scene) -> Result {
    let directories = Directories::make(scene)?;
    let script = "echo one > file; cat \"$0/file\"; pwd; cd .; /bin/pwd; mkdir sub && cd sub && cat ../file; cat \"$PWD/../file\"";
    let mut command = launch(scene, &directories.own, &["sh", "-c", script, &text(&directories.own)]);
    command.current_dir(&directories.own);
    let said = scene.finish(command)?;
    let own = text(&directories.own);
    ensure!(said.status == 0 && said.out == format!("one\n{own}\n{own}\none\none\n"), "{said:?}");
    directories.is_own_empty()
}

/// Zap's tools find the coordinator from inside a pod whose own directory its runtime directory lies in.
fn runtime_directory(scene: &Scene) -> Result {
    let directories = Directories::make(scene)?;
    let runtime = directories.own.join("runtime");
    fs::create_dir(&runtime)?;
    fs::set_permissions(&runtime, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    scene.own(&runtime)?;
    scene.use_runtime(runtime);
    let tool = text(&scene.place.tool("zap-command"));
    let script = "ls -A \"$0\"; \"$1\" --status > \"$0/status\" && test -s \"$0/status\" && echo told";
    let said = scene.finish(launch(scene, &directories.own, &["sh", "-c", script, &text(&directories.own), &tool]))?;
    ensure!(said.status == 0 && said.out == "told\n", "{said:?}");
    scene.until(PATIENCE, "only the runtime directory is in the host's", || {
        let names: Vec<_> =
            fs::read_dir(&directories.own).ok()?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        (names == ["runtime"]).then_some(())
    })
}
