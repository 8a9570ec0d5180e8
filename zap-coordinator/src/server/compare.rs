//! What processes of a pod have in common: which of their descriptors are one open file description, and which of those
//! are of one object, as the ends of a pipe are; and who saves which part of the memory that they share.

use crate::core::{Common, Open};
use std::collections::{BTreeMap, BTreeSet};
use zap_sys::{process, RealPid, SysError};
use zap_wire::message::{Seen, Share, Stretch};

/// A descriptor of a process.
pub type Place = (i32, i32);

/// Whether two descriptors are one open file description, by kcmp(2).
pub fn same_description(a: Place, b: Place) -> Result<bool, SysError> {
    process::same_description((RealPid(a.0), a.1), (RealPid(b.0), b.1))
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
    same: impl Fn(Place, Place) -> Result<bool, SysError>,
) -> Result<BTreeMap<i32, Common>, String> {
    let mut shares = shares(open, same)?;
    let mut seen: BTreeMap<(u64, u64), Vec<Stretch>> = BTreeMap::new();
    let mut result = BTreeMap::new();
    for (pid, open) in open {
        let objects: BTreeSet<(u64, u64)> = open.memory.iter().map(|stretch| stretch.object).collect();
        let elsewhere = objects.iter().filter_map(|object| seen.get(object)).flatten().copied().collect();
        for stretch in &open.memory {
            seen.entry(stretch.object).or_default().push(*stretch);
        }
        let shares = shares.remove(pid).unwrap_or_default();
        result.insert(*pid, Common { shares, elsewhere });
    }
    Ok(result)
}

fn shares(
    open: &[(i32, Open)],
    same: impl Fn(Place, Place) -> Result<bool, SysError>,
) -> Result<BTreeMap<i32, Vec<Share>>, String> {
    let mut files: BTreeMap<(u64, u64), Vec<Known>> = BTreeMap::new();
    for (pid, open) in open {
        for seen in &open.descriptions {
            let known = files.entry(seen.file).or_default();
            let mut found = None;
            for (index, other) in known.iter().enumerate() {
                let (holder, _) = other.holders[0];
                if holder == *pid || other.seen.access != seen.access {
                    continue;
                }
                let failed = |error| {
                    format!(
                        "descriptor {} of process {pid}: cannot be compared with those of process {holder}: {error}",
                        seen.fd
                    )
                };
                if same((holder, other.seen.fd), (*pid, seen.fd)).map_err(failed)? {
                    found = Some(index);
                    break;
                }
            }
            match found {
                Some(index) => known[index].holders.push((*pid, seen.id)),
                None => known.push(Known { seen: *seen, holders: vec![(*pid, seen.id)] }),
            }
        }
    }
    let mut objects: BTreeMap<(u64, u64), Vec<&Known>> = BTreeMap::new();
    for (index, known) in files.values().flatten().enumerate() {
        // Those of no object are each one of their own.
        let alone = (0, index as u64);
        let key = if known.seen.object == (0, 0) { alone } else { known.seen.object };
        objects.entry(key).or_default().push(known);
    }
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
            if object == 0 && description == 0 {
                continue;
            }
            for (index, (pid, id)) in known.holders.iter().enumerate() {
                let leads = index == 0;
                let leads_object = leads && Some(*pid) == leader;
                let share = Share { id: *id, description, leads, object, leads_object, accesses };
                result.entry(*pid).or_default().push(share);
            }
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: u32, fd: i32, inode: u64, is_pipe: bool, access: i32) -> Seen {
        let file = (1, inode);
        Seen { id, fd, file, object: if is_pipe { file } else { (0, 0) }, access }
    }

    #[test]
    fn table() {
        // A pipe of which 30 has the reading and 20 the writing end, a file that 10 and 20 share, /dev/null opened twice.
        let of = |descriptions| Open { descriptions, memory: Vec::new() };
        let open = vec![
            (10, of(vec![seen(0, 3, 7, false, 2), seen(1, 4, 5, false, 0)])),
            (20, of(vec![seen(0, 3, 7, false, 2), seen(1, 9, 8, true, 1)])),
            (30, of(vec![seen(4, 0, 8, true, 0), seen(5, 1, 5, false, 0)])),
        ];
        let same = |a: Place, b: Place| Ok([a, b] == [(10, 3), (20, 3)]);
        let found = shares(&open, same).unwrap();
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
    }

    #[test]
    fn memory_is_saved_once() {
        let stretch = |inode, start, end| Stretch { object: (1, inode), start, end };
        let of = |memory| Open { descriptions: Vec::new(), memory };
        let open = vec![
            (10, of(vec![stretch(5, 0, 10), stretch(6, 0, 4)])),
            (20, of(vec![stretch(5, 5, 20)])),
            (30, of(vec![stretch(5, 0, 20), stretch(7, 0, 1)])),
        ];
        let found = compare(&open, |_, _| Ok(false)).unwrap();
        assert!(found[&10].elsewhere.is_empty());
        assert_eq!(found[&20].elsewhere, [stretch(5, 0, 10)]);
        assert_eq!(found[&30].elsewhere, [stretch(5, 0, 10), stretch(5, 5, 20)]);
    }
}
