//! Programs made from numbers: each combines kinds of state at random, and goes through checkpoint, resume, kill and
//! restart. `zap-tests random/SEED` runs any one of them again.

use crate::case::{Case, Result};
use crate::manifest::{Build, Program};
use crate::scene::Scene;
use crate::Arguments;

/// Seeds 1 to this number are always among them.
const FIXED: u32 = 400;
/// So many more are new in each run.
const NEW: u32 = 100;
/// The same in a `--long` run: an hour's work for two processors.
const LONG_NEW: u32 = 11_000;

const NAME: &str = "random";

/// The seeds of a run; new ones differ from run to run.
pub fn seeds(arguments: &Arguments) -> Vec<u64> {
    let (fixed, new) = match (arguments.seeds, arguments.long) {
        (Some(count), _) => (0, count),
        (None, true) => (FIXED, LONG_NEW),
        (None, false) => (FIXED, NEW),
    };
    let asked = seed_of(&arguments.filter).into_iter();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let first = since.as_secs() % 1_000_000_000 * 1000 + 1_000_000;
    (1..=u64::from(fixed)).chain((0..u64::from(new)).map(|at| first + at)).chain(asked).collect()
}

/// The seed in the name of a case.
pub fn seed_of(name: &str) -> Option<u64> {
    name.strip_prefix("ordinary-user/").unwrap_or(name).strip_prefix("random/")?.parse().ok()
}

/// The cases of these seeds, each once: as an ordinary user every other one, and both if it is asked for by its name.
pub fn cases(seeds: &[u64], asked: Option<u64>) -> Vec<Case> {
    let mut cases = Vec::new();
    for seed in seeds {
        let seed = *seed;
        let case = || Case::new(format!("random/{seed}"), move |scene: &Scene| run(scene, seed)).order(6);
        let both = asked == Some(seed);
        if both || seed % 2 == 0 {
            cases.push(case().by_ordinary_user());
        }
        if both || seed % 2 == 1 {
            cases.push(case());
        }
    }
    cases.dedup_by(|a, b| a.name == b.name);
    cases
}

fn run(scene: &Scene, seed: u64) -> Result {
    let mut program: Program = scene.program(NAME)?;
    // Under a name of its own, by which its plain output is kept.
    program.name = format!("{NAME}-{seed}");
    program.build = Build::None;
    program.run = vec![format!("{{bin:{NAME}}}"), seed.to_string(), "{dir}".into()];
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}
