//! Who comes first among the processes of a pod: its first process, parents before their children, and else who was made
//! earlier.
//!
//! The numbers do not tell it: they begin anew at their limit, and many processes are made within one clock tick.

use std::collections::BTreeMap;

/// Where a process comes from, as the kernel tells.
#[derive(Clone, Copy, Debug)]
pub struct Kin {
    pub parent: i32,
    /// Clock ticks after boot.
    pub started: u64,
}

/// The lower of two comes first: not the first process, ancestors among the others, when it was made, number.
pub type Seniority = (bool, usize, u64, i32);

/// That of the process `pid` in the pod of `kin`, the first process of which is `first`; 0 if that has ended.
pub fn of(pid: i32, kin: &BTreeMap<i32, Kin>, first: i32) -> Seniority {
    let parent_of = |pid: &i32| kin.get(pid).map(|one| one.parent).filter(|parent| kin.contains_key(parent));
    // What is read one after the other may go round in circles.
    let ancestors = std::iter::successors(parent_of(&pid), parent_of).take(kin.len()).count();
    (pid != first, ancestors, kin.get(&pid).map_or(0, |one| one.started), pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (name, first, given, expected) in [
            ("by time", 7, vec![(9, 7, 1), (8, 7, 2), (7, 1, 0)], vec![7, 9, 8]),
            (
                "numbers that begin anew",
                32760,
                vec![(300, 32760, 5), (301, 300, 5), (32760, 1, 5)],
                vec![32760, 300, 301],
            ),
            ("an orphan with a lower number", 32760, vec![(300, 1, 5), (32760, 1, 5)], vec![32760, 300]),
            ("an orphan and its child, the first has ended", 0, vec![(300, 32765, 5), (32765, 1, 5)], vec![32765, 300]),
            ("a circle", 7, vec![(7, 8, 0), (8, 7, 0)], vec![7, 8]),
            ("none", 7, vec![], vec![]),
        ] {
            let kin: BTreeMap<i32, Kin> =
                given.iter().map(|(pid, parent, started)| (*pid, Kin { parent: *parent, started: *started })).collect();
            let mut order: Vec<i32> = kin.keys().copied().collect();
            order.sort_by_key(|pid| of(*pid, &kin, first));
            assert_eq!(order, expected, "{name}");
        }
    }
}
