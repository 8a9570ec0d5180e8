//! Files that are mapped by a name that they have lost, and are saved as memory: whether anybody of the pod has them by
//! another name. Such a file would be two after a restart, and what is written to the one would never reach the other, so
//! the checkpoint is refused.

use crate::core::Open;
use std::collections::BTreeMap;
use zap_wire::message::{FileName, Hold};

/// How the kernel marks a path that leads nowhere.
const DELETED: &[u8] = b" (deleted)";

/// Refuses, by name, if a file would become two.
pub fn check(open: &[(i32, Open)]) -> Result<(), String> {
    let all = || open.iter().flat_map(|(pid, open)| open.names.iter().map(move |file| (*pid, file)));
    let mut lost: BTreeMap<u64, Vec<(i32, &FileName)>> = BTreeMap::new();
    for (pid, file) in all().filter(|(_, file)| matches!(file.hold, Hold::Lost { .. })) {
        lost.entry(file.file.1).or_default().push((pid, file));
    }
    for (other, file) in all() {
        for (pid, lost) in lost.get(&file.file.1).into_iter().flatten() {
            if let Some(why) = conflict(lost, file) {
                return Err(format!("{} of process {pid}: {}, {why}", text(&lost.path), by_whom(*pid, other, file)));
            }
        }
    }
    Ok(())
}

/// Why a file with the same inode number as the lost one may be it, and is not found to be.
fn conflict(lost: &FileName, other: &FileName) -> Option<&'static str> {
    let Hold::Lost { one_device } = lost.hold else { return None };
    if lost.file == other.file {
        let has_name = matches!(other.hold, Hold::Mapped | Hold::Open { named: true });
        return has_name.then_some("and this name has been removed, so that it would be two files after a restart");
    }
    // Devices of mappings are comparable with each other, whatever fstat(2) shows.
    let is_open = matches!(other.hold, Hold::Open { .. });
    let may_be_one = is_open && (!one_device || (lost.path == other.path && lost.path.ends_with(DELETED)));
    may_be_one.then_some("in a file system of many devices, so that nobody can tell whether both are one file")
}

/// How the file is to be had besides.
fn by_whom(pid: i32, other: i32, file: &FileName) -> String {
    let verb = if matches!(file.hold, Hold::Open { .. }) { "open" } else { "mapped" };
    let by = if pid == other { String::new() } else { format!(" by process {other}") };
    format!("is also {verb} as {}{by}", text(&file.path))
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(file: (u64, u64), path: &str, hold: Hold) -> FileName {
        FileName { file, path: path.into(), hold }
    }

    fn checked(all: &[(i32, FileName)]) -> Result<(), String> {
        let open = |(pid, file): &(i32, FileName)| (*pid, Open { names: vec![file.clone()], ..Open::default() });
        check(&all.iter().map(open).collect::<Vec<_>>())
    }

    #[test]
    fn a_file_that_would_be_two_is_refused() {
        let (sure, unsure) = (Hold::Lost { one_device: true }, Hold::Lost { one_device: false });
        let (named, nameless) = (Hold::Open { named: true }, Hold::Open { named: false });
        let (here, there) = ((1, 7), (2, 7));
        let gone = "/d/a (deleted)";
        for (what, lost, other, refused) in [
            ("open as the same", sure, name(here, gone, nameless), None),
            ("mapped as the same", sure, name(here, gone, sure), None),
            ("open by another name", sure, name(here, "/d/b", named), Some("is also open as /d/b by process 20, and")),
            ("mapped by another name", sure, name(here, "/d/b", Hold::Mapped), Some("is also mapped as /d/b by")),
            ("another file of another device", sure, name(there, "/e/b", named), None),
            ("another file without a name", sure, name(there, "/e/b (deleted)", nameless), None),
            ("another file that is mapped", unsure, name(there, "/e/b", Hold::Mapped), None),
            ("another inode", unsure, name((1, 8), "/d/b", named), None),
            ("one device for mappings, one for descriptors", sure, name(there, gone, nameless), Some("many devices")),
            ("and another name", unsure, name(there, "/d/b", named), Some("many devices")),
        ] {
            for turned in [false, true] {
                let mut all = vec![(10, name(here, gone, lost)), (20, other.clone())];
                if turned {
                    all.reverse();
                }
                match (checked(&all), refused) {
                    (Ok(()), None) => {}
                    (Err(why), Some(part)) => {
                        assert!(
                            why.starts_with("/d/a (deleted) of process 10: ") && why.contains(part),
                            "{what}: {why}"
                        );
                    }
                    (found, _) => panic!("{what}: {found:?}"),
                }
            }
        }
        let of_one = [(10, name(here, gone, sure)), (10, name(here, "/d/b", named))];
        assert!(checked(&of_one).unwrap_err().contains("is also open as /d/b, and"));
    }
}
