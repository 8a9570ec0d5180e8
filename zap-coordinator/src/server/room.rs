//! Whether there is memory for what processes copy during the stop, all of them at once: where it ends the kernel kills
//! somebody.

use crate::core::Open;
use std::collections::BTreeMap;
use zap_wire::message::MemoryLimit;

/// Refuses, by the name of what limits it, if the copies do not fit.
pub fn check(open: &[(i32, Open)]) -> Result<(), String> {
    // What each limit leaves, and the bytes that are wanted of it.
    let mut wanted: BTreeMap<(u64, u64), (&MemoryLimit, u64)> = BTreeMap::new();
    for (_, open) in open {
        for limit in &open.limits {
            let (least, bytes) = wanted.entry(limit.group).or_insert((limit, 0));
            *bytes = bytes.saturating_add(open.copying);
            if limit.available < least.available {
                *least = limit;
            }
        }
    }
    for (limit, bytes) in wanted.into_values() {
        if bytes > limit.available {
            let place = if limit.path.is_empty() { String::new() } else { format!(" in {}", limit.path) };
            let (needed, available) = (bytes >> 20, limit.available >> 20);
            return Err(format!(
                "huge pages: {needed} MiB of other memory are needed to copy them to, and {available} MiB are available{place}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_copy_is_added_up() {
        let limit = |inode, available: u64| MemoryLimit {
            group: (0, inode),
            path: if inode == 0 { String::new() } else { format!("/groups/{inode}") },
            available: available << 20,
        };
        let of = |pid, copying: u64, limits| (pid, Open { copying: copying << 20, limits, ..Open::default() });
        for (what, open, expected) in [
            ("nothing", vec![of(1, 0, vec![])], None),
            ("enough for one", vec![of(1, 20, vec![limit(0, 30)])], None),
            (
                "not enough for two",
                vec![of(1, 20, vec![limit(0, 31)]), of(2, 20, vec![limit(0, 30)])],
                Some("40 MiB of other memory are needed to copy them to, and 30 MiB are available"),
            ),
            ("groups apart", vec![of(1, 20, vec![limit(0, 50), limit(8, 25)]), of(2, 20, vec![limit(0, 50)])], None),
            (
                "a group of both",
                vec![of(1, 5, vec![limit(0, 50), limit(8, 8)]), of(2, 5, vec![limit(0, 50), limit(8, 8)])],
                Some("10 MiB of other memory are needed to copy them to, and 8 MiB are available in /groups/8"),
            ),
            ("unknown", vec![of(1, 5, vec![])], None),
            (
                "endless",
                vec![of(1, u64::MAX >> 20, vec![limit(0, 1)]), of(2, u64::MAX >> 20, vec![limit(0, 1)])],
                Some("1 MiB"),
            ),
        ] {
            match (check(&open), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(part)) => assert!(why.contains(part), "{what}: {why}"),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }
}
