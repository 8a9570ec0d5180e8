//! What processes of a pod have in common: which of their descriptors are one open file description, and which of those
//! are of one object, as the ends of a pipe are; and who saves which part of the memory that they share.

use crate::core::{Common, Open};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use zap_sys::{process, RealPid, SysError};
use zap_wire::message::{ObjectNote, Seen, Share, Stretch};

/// A descriptor of a process.
pub type Place = (i32, i32);

/// The order of two descriptors' open file descriptions, by kcmp(2).
pub fn order_of_descriptions(a: Place, b: Place) -> Result<Ordering, SysError> {
    let compare = |a: Place, b: Place| process::compare_descriptions((RealPid(a.0), a.1), (RealPid(b.0), b.1));
    match compare(a, b) {
        // A process's first thread has no descriptors any more when it has ended, and the others live on.
        Err(error) if error.is(libc::EBADF) => compare((living_thread(a.0), a.1), (living_thread(b.0), b.1)),
        result => result,
    }
}

/// A thread of the process `pid` that has not ended; `pid` itself if none is found.
fn living_thread(pid: i32) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lives = |task: &std::fs::DirEntry| {
        let stat = std::fs::read(task.path().join("stat")).unwrap_or_default();
        !matches!(process::state_letter(&stat), b'Z' | b'X')
    };
    let name = tasks.filter(lives).find_map(|task| task.file_name().to_str()?.parse().ok());
    name.unwrap_or(pid)
}

/// A description, with the processes that have it: (pid, the process's number for it), the leading one first.
struct Known {
    seen: Seen,
    holders: Vec<(i32, u32)>,
}

/// What each process has in common with others, by its pid. The first process that has a thing leads it: `open` is in the
/// order of the processes' standing in the pod.
pub fn compare(
    open: &[(i32, Open)],
    order: impl Fn(Place, Place) -> Result<Ordering, SysError>,
) -> Result<BTreeMap<i32, Common>, String> {
    super::names::check(open)?;
    super::room::check(open)?;
    let mut shares = shares(open, order)?;
    let notes = notes(open, &shares);
    let files: BTreeSet<(u64, u64)> =
        open.iter().flat_map(|(_, open)| &open.descriptions).map(|seen| seen.file).collect();
    let mut seen: BTreeMap<(u64, u64), Vec<Stretch>> = BTreeMap::new();
    let mut result = BTreeMap::new();
    for (pid, open) in open {
        let objects_of_memory: BTreeSet<(u64, u64)> = open.memory.iter().map(|stretch| stretch.object).collect();
        let elsewhere = objects_of_memory.iter().filter_map(|object| seen.get(object)).flatten().copied().collect();
        for stretch in &open.memory {
            seen.entry(stretch.object).or_default().push(*stretch);
        }
        for object in &objects_of_memory {
            seen.entry(*object).and_modify(merge);
        }
        let shares = shares.remove(pid).unwrap_or_default();
        let objects: BTreeSet<u64> = shares.iter().map(|share| share.object).collect();
        let notes = notes.iter().filter(|note| objects.contains(&note.object)).cloned().collect();
        let open = objects_of_memory.into_iter().filter(|object| files.contains(object)).collect();
        result.insert(*pid, Common { shares, notes, elsewhere, open });
    }
    Ok(result)
}

/// What is told of descriptions whose objects several processes have: once of each, by the process that leads it.
fn notes(open: &[(i32, Open)], shares: &BTreeMap<i32, Vec<Share>>) -> Vec<ObjectNote> {
    let mut all = Vec::new();
    for (pid, open) in open {
        for note in &open.notes {
            let share = shares.get(pid).and_then(|shares| shares.iter().find(|share| share.id == note.id));
            if let Some(share) = share.filter(|share| share.object != 0 && share.leads) {
                all.push(ObjectNote { object: share.object, bytes: note.bytes.clone() });
            }
        }
    }
    all
}

/// Of each object of shared memory, up to which offset all of it is mapped somewhere in the pod.
fn mapped(open: &[(i32, Open)]) -> BTreeMap<(u64, u64), u64> {
    let mut stretches: Vec<Stretch> = open.iter().flat_map(|(_, open)| &open.memory).copied().collect();
    stretches.sort_unstable();
    let mut ends = BTreeMap::new();
    for stretch in stretches {
        let end = ends.entry(stretch.object).or_insert(0);
        if stretch.start <= *end {
            *end = stretch.end.max(*end);
        }
    }
    ends
}

/// Makes one stretch, of the same object, of those that overlap or touch.
fn merge(stretches: &mut Vec<Stretch>) {
    stretches.sort_unstable_by_key(|stretch| (stretch.start, stretch.end));
    stretches.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
}

/// Where the kernel lets nobody compare, and what helps.
fn refusal((pid, fd): Place, holder: i32, error: SysError) -> String {
    let is_forbidden = error.is(libc::EPERM) || error.is(libc::ENOSYS);
    let advice = if is_forbidden { "; kcmp(2) is forbidden here: allow it (CAP_SYS_PTRACE)" } else { "" };
    format!("descriptor {fd} of process {pid}: cannot be compared with those of process {holder}: {error}{advice}")
}

/// Descriptions of one file and one way of access.
#[derive(Default)]
struct Descriptions {
    /// In the order in which they were found.
    known: Vec<Known>,
    /// Their indices, in the kernel's order; none as long as only one process has any.
    sorted: Vec<usize>,
    /// The only process that has any: it has said itself that they are different ones, so nothing is compared.
    only: Option<i32>,
}

impl Descriptions {
    /// Takes in what process `pid` has as `seen`.
    fn add(
        &mut self,
        pid: i32,
        seen: &Seen,
        order: impl Fn(Place, Place) -> Result<Ordering, SysError>,
    ) -> Result<(), String> {
        if self.known.is_empty() {
            self.only = Some(pid);
        }
        let new = Known { seen: *seen, holders: vec![(pid, seen.id)] };
        if self.only == Some(pid) {
            self.known.push(new);
            return Ok(());
        }
        if let Some(only) = self.only.take() {
            for index in 0..self.known.len() {
                if let Err(place) = self.find((only, self.known[index].seen.fd), &order)? {
                    self.sorted.insert(place, index);
                }
            }
        }
        match self.find((pid, seen.fd), order)? {
            Ok(index) => self.known[index].holders.push((pid, seen.id)),
            Err(place) => {
                self.sorted.insert(place, self.known.len());
                self.known.push(new);
            }
        }
        Ok(())
    }

    /// The index of the description that is open at `wanted`, or the place in the kernel's order where it belongs.
    fn find(
        &self,
        wanted: Place,
        order: impl Fn(Place, Place) -> Result<Ordering, SysError>,
    ) -> Result<Result<usize, usize>, String> {
        let (mut low, mut high) = (0, self.sorted.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let known = &self.known[self.sorted[middle]];
            let place = (known.holders[0].0, known.seen.fd);
            match order(place, wanted).map_err(|error| refusal(wanted, place.0, error))? {
                Ordering::Equal => return Ok(Ok(self.sorted[middle])),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }
}

fn shares(
    open: &[(i32, Open)],
    order: impl Fn(Place, Place) -> Result<Ordering, SysError>,
) -> Result<BTreeMap<i32, Vec<Share>>, String> {
    let mut files: BTreeMap<((u64, u64), i32), Descriptions> = BTreeMap::new();
    for (pid, open) in open {
        for seen in &open.descriptions {
            files.entry((seen.file, seen.access)).or_default().add(*pid, seen, &order)?;
        }
    }
    let mut objects: BTreeMap<(u64, u64), Vec<&Known>> = BTreeMap::new();
    for (index, known) in files.values().flat_map(|all| &all.known).enumerate() {
        // Those of no object are each one of their own.
        let alone = (0, index as u64);
        let key = if known.seen.object == (0, 0) { alone } else { known.seen.object };
        objects.entry(key).or_default().push(known);
    }
    let mapped = mapped(open);
    let rank = |pid: i32| open.iter().position(|(other, _)| *other == pid);
    let mut result: BTreeMap<i32, Vec<Share>> = BTreeMap::new();
    let mut names = 1..;
    let mut name = || names.next().unwrap_or(0);
    for descriptions in objects.values() {
        let leaders: BTreeSet<_> = descriptions.iter().map(|known| rank(known.holders[0].0)).collect();
        // What is in a pipe can be looked at from its reading end alone: another user may not open that anew.
        let order = |known: &&&Known| (known.seen.access == libc::O_WRONLY, rank(known.holders[0].0));
        let leader = descriptions.iter().min_by_key(order).map(|known| known.holders[0].0);
        let object = if leaders.len() > 1 { name() } else { 0 };
        let accesses = descriptions.iter().fold(0, |bits, known| bits | 1 << (known.seen.access & 3));
        for known in descriptions {
            let description = if known.holders.len() > 1 { name() } else { 0 };
            let mapped = mapped.get(&known.seen.file).copied();
            if object == 0 && description == 0 && mapped.is_none() {
                continue;
            }
            for (index, (pid, id)) in known.holders.iter().enumerate() {
                let leads = index == 0;
                let leads_object = leads && Some(*pid) == leader;
                let share = Share { id: *id, description, leads, object, leads_object, accesses, mapped };
                result.entry(*pid).or_default().push(share);
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zap_wire::message::{Keep, Note};

    fn seen(id: u32, fd: i32, inode: u64, is_pipe: bool, access: i32) -> Seen {
        let file = (1, inode);
        Seen { id, fd, file, object: if is_pipe { file } else { (0, 0) }, access, keep: Keep::No }
    }

    #[test]
    fn table() {
        // A pipe of which 30 has the reading and 20 the writing end, a file that 10 and 20 share, /dev/null opened twice.
        let of = |descriptions| Open { descriptions, ..Open::default() };
        let open = vec![
            (10, of(vec![seen(0, 3, 7, false, 2), seen(1, 4, 5, false, 0)])),
            (20, of(vec![seen(0, 3, 7, false, 2), seen(1, 9, 8, true, 1)])),
            (30, of(vec![seen(4, 0, 8, true, 0), seen(5, 1, 5, false, 0)])),
        ];
        // Two are one, the others in the order of their places.
        let order = |a: Place, b: Place| Ok(if [a, b] == [(10, 3), (20, 3)] { Ordering::Equal } else { a.cmp(&b) });
        let found = shares(&open, order).unwrap();
        let file = found[&10][0];
        assert_eq!((found[&10].len(), file.id, file.leads, file.object), (1, 0, true, 0));
        assert_ne!(file.description, 0);
        assert_eq!((found[&20][0].description, found[&20][0].leads), (file.description, false));
        let (write, read) = (found[&20][1], found[&30][0]);
        assert_eq!(
            (write.id, write.description, write.leads, write.leads_object, write.accesses),
            (1, 0, true, false, 3)
        );
        assert_eq!((read.id, read.description, read.leads, read.leads_object), (4, 0, true, true));
        assert_eq!((found[&30].len(), read.object != 0, read.object), (1, true, write.object));
        let error = shares(&open, |_, _| Err(SysError::new("kcmp", libc::EPERM))).unwrap_err();
        assert!(error.starts_with("descriptor 3 of process 20: cannot be compared"), "{error}");
        assert!(error.ends_with("allow it (CAP_SYS_PTRACE)"), "{error}");
    }

    #[test]
    fn many_are_compared_in_few_steps() {
        // Each of 200 processes has /dev/null open once by itself, once together with its neighbour.
        let of = |pid: i32| Open {
            descriptions: vec![seen(0, 3, 7, false, 2), seen(1, 4 + pid % 2, 7, false, 2)],
            ..Open::default()
        };
        let open: Vec<(i32, Open)> = (0..200).map(|pid| (pid, of(pid))).collect();
        let identity = |(pid, fd): Place| if fd == 3 { 1000 - pid } else { 2000 + pid / 2 };
        let steps = std::cell::Cell::new(0);
        let order = |a: Place, b: Place| {
            steps.set(steps.get() + 1);
            Ok(identity(a).cmp(&identity(b)))
        };
        let found = shares(&open, order).unwrap();
        assert_eq!(found.len(), 200);
        for (pid, shares) in &found {
            assert_eq!((shares.len(), shares[0].id, shares[0].leads), (1, 1, pid % 2 == 0), "{pid}");
        }
        assert!(steps.get() < 400 * 10, "{}", steps.get());
    }

    #[test]
    fn what_is_told_goes_to_all_who_have_the_object() {
        let note = |id| Note { id, bytes: vec![id as u8] };
        let told = |id, fd, inode, object| Seen { object, ..seen(id, fd, inode, false, 2) };
        // 10 and 20 have one socket together, 20 has another one of the same object; 30 has one alone.
        let of = |descriptions, notes| Open { descriptions, notes, ..Open::default() };
        let open = vec![
            (10, of(vec![told(1, 3, 7, (9, 9))], vec![note(1)])),
            (20, of(vec![told(2, 3, 7, (9, 9)), told(3, 4, 8, (9, 9))], vec![note(2), note(3)])),
            (30, of(vec![told(4, 3, 5, (8, 8))], vec![note(4)])),
        ];
        let order = |a: Place, b: Place| Ok(if a.1 == b.1 { Ordering::Equal } else { a.cmp(&b) });
        let found = compare(&open, order).unwrap();
        let bytes = |pid: i32| found[&pid].notes.iter().map(|note| note.bytes[0]).collect::<Vec<_>>();
        assert_eq!((bytes(10), bytes(20), bytes(30)), (vec![1, 3], vec![1, 3], vec![]));
        assert_eq!(found[&10].notes[0].object, found[&10].shares[0].object);
    }

    #[test]
    fn files_that_are_open_and_mapped() {
        let stretch = |inode, start, end| Stretch { object: (1, inode), start, end };
        let open = vec![
            (10, Open { descriptions: vec![seen(0, 3, 7, false, 2)], ..Open::default() }),
            (20, Open { memory: vec![stretch(7, 4, 9), stretch(7, 0, 5), stretch(8, 3, 5)], ..Open::default() }),
            (
                30,
                Open {
                    descriptions: vec![seen(1, 3, 8, false, 2)],
                    memory: vec![stretch(7, 12, 13)],
                    ..Open::default()
                },
            ),
        ];
        let found = compare(&open, |a, b| Ok(a.cmp(&b))).unwrap();
        let shares =
            |pid: i32| found[&pid].shares.iter().map(|one| (one.id, one.leads, one.mapped)).collect::<Vec<_>>();
        assert_eq!((shares(10), shares(30)), (vec![(0, true, Some(9))], vec![(1, true, Some(0))]));
        assert_eq!(
            (&found[&10].open, &found[&20].open, &found[&30].open),
            (&vec![], &vec![(1, 7), (1, 8)], &vec![(1, 7)])
        );
    }

    #[test]
    fn memory_is_saved_once() {
        let stretch = |inode, start, end| Stretch { object: (1, inode), start, end };
        let of = |memory| Open { memory, ..Open::default() };
        let open = vec![
            (10, of(vec![stretch(5, 0, 10), stretch(6, 0, 4)])),
            (20, of(vec![stretch(5, 5, 20)])),
            (30, of(vec![stretch(5, 0, 20), stretch(7, 0, 1)])),
        ];
        let found = compare(&open, |a, b| Ok(a.cmp(&b))).unwrap();
        assert!(found[&10].elsewhere.is_empty());
        assert_eq!(found[&20].elsewhere, [stretch(5, 0, 10)]);
        assert_eq!(found[&30].elsewhere, [stretch(5, 0, 20)]);
    }
}
