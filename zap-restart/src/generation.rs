//! Which of the given images are restarted together: the newest generation of one pod that has all its members.

use crate::image::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use zap_client::error::{Error, Result};

/// What of an image decides where it belongs.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub path: &'a Path,
    pub pod_id: u64,
    pub generation: u32,
    pub virtual_pid: i32,
    /// Virtual pids of the generation's processes.
    pub members: Vec<i32>,
}

impl<'a> Candidate<'a> {
    /// By the image's header.
    pub fn of(image: &'a Image) -> Self {
        let pod = &image.header.pod;
        Self {
            path: &image.path,
            pod_id: pod.id,
            generation: pod.generation,
            virtual_pid: image.header.process.virtual_pid,
            members: pod.members.iter().map(|member| member.virtual_pid).collect(),
        }
    }
}

/// What is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Indices of the newest complete generation's images, in the order of the members.
    pub images: Vec<usize>,
    /// Why it is not the newest of those given.
    pub passed_over: Option<Error>,
}

/// Chooses the newest complete generation.
pub fn choose(candidates: &[Candidate<'_>]) -> Result<Choice> {
    let Some(first) = candidates.first() else { return Err(Error::new("images", "none given")) };
    if let Some(other) = candidates.iter().find(|candidate| candidate.pod_id != first.pod_id) {
        let why = format!("is of another pod than {}; restart one pod at a time", first.path.display());
        return Err(Error::new(other.path.display(), why));
    }
    let mut generations: BTreeMap<u32, BTreeMap<i32, usize>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let taken = generations.entry(candidate.generation).or_default().insert(candidate.virtual_pid, index);
        if let Some(taken) = taken {
            let why = format!("is the same process at the same checkpoint as {}", candidates[taken].path.display());
            return Err(Error::new(candidate.path.display(), why));
        }
    }
    let mut incomplete: Option<Error> = None;
    for (generation, images) in generations.iter().rev() {
        let Some(sample) = images.values().next().map(|index| &candidates[*index]) else { continue };
        let members: BTreeSet<i32> = sample.members.iter().copied().collect();
        if let Some(stranger) = images.iter().find(|(virtual_pid, _)| !members.contains(virtual_pid)) {
            return Err(Error::new(candidates[*stranger.1].path.display(), "is not a member of its own checkpoint"));
        }
        let Some(absent) = members.iter().find(|virtual_pid| !images.contains_key(virtual_pid)) else {
            let images = sample.members.iter().map(|virtual_pid| images[virtual_pid]).collect();
            let passed_over = incomplete
                .map(|error| Error { why: format!("{}; restarting checkpoint {generation}", error.why), ..error });
            return Ok(Choice { images, passed_over });
        };
        let why =
            format!("checkpoint {generation} is incomplete: the image of process {absent} is not among those given");
        incomplete.get_or_insert(Error::new(sample.path.display(), why));
    }
    Err(incomplete.unwrap_or_else(|| Error::new("images", "none given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(path: &str, pod_id: u64, generation: u32, virtual_pid: i32, members: &[i32]) -> Candidate<'static> {
        let path = Path::new(Box::leak(path.to_string().into_boxed_str()));
        Candidate { path, pod_id, generation, virtual_pid, members: members.to_vec() }
    }

    #[test]
    fn table() {
        const OLDER: &str =
            "a: checkpoint 2 is incomplete: the image of process 8 is not among those given; restarting checkpoint 1";
        let one = |generation| candidate("a", 1, generation, 7, &[7]);
        let of_two = |path, generation, virtual_pid| candidate(path, 1, generation, virtual_pid, &[7, 8]);
        for (name, given, expected) in [
            ("one", vec![one(1)], Ok((vec![0], ""))),
            ("newest", vec![one(1), one(3), one(2)], Ok((vec![1], ""))),
            ("members in order", vec![of_two("b", 1, 8), of_two("a", 1, 7)], Ok((vec![1, 0], ""))),
            ("older complete", vec![of_two("a", 2, 7), of_two("a", 1, 7), of_two("b", 1, 8)], Ok((vec![1, 2], OLDER))),
            ("incomplete", vec![of_two("x", 2, 7)], Err("x: checkpoint 2 is incomplete: the image of process 8")),
            ("two pods", vec![one(1), candidate("y", 2, 1, 7, &[7])], Err("y: is of another pod than a")),
            ("twice", vec![one(1), candidate("z", 1, 1, 7, &[7])], Err("z: is the same process")),
            ("stranger", vec![candidate("s", 1, 1, 9, &[7])], Err("s: is not a member")),
            ("none", vec![], Err("images: none")),
        ] {
            match (choose(&given), expected) {
                (Ok(choice), Ok((images, passed_over))) => {
                    assert_eq!(choice.images, images, "{name}");
                    let said = choice.passed_over.map(|error| error.to_string()).unwrap_or_default();
                    assert_eq!(said, passed_over, "{name}");
                }
                (Err(error), Err(expected)) => assert!(error.to_string().starts_with(expected), "{name}: {error}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }
}
