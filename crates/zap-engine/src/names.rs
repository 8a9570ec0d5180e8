//! Whether a file that is mapped by a name that it has lost has another one (link(2), and then unlink(2) of the first). It
//! would be two files after a restart. Where the pod has it open or mapped by the other name, the coordinator finds that out;
//! here is looked for names that nobody uses at the moment.

use crate::memory::path_of;
use alloc::format;
use alloc::string::String;
use zap_plugin::Refusal;
use zap_sys::maps::Mapping;
use zap_sys::path::CPath;
use zap_sys::{fd, libc};

/// Entries of a directory that are looked at, while the program stands.
const MOST_ENTRIES: usize = 100_000;

/// Refuses the checkpoint if the mapping's file has another name.
pub fn refuse_another(mapping: &Mapping<'_>) -> Result<(), Refusal> {
    let refusal = |why: &str| {
        Err(Refusal::new(
            String::from_utf8_lossy(mapping.name),
            format!("{why}, and this name has been removed, so that it would be two files after a restart"),
        ))
    };
    // The kernel tells the number of names to those alone who may restore processes (CAP_CHECKPOINT_RESTORE).
    let path = zap_sys::small!("/proc/thread-self/map_files/{:x}-{:x}", mapping.start, mapping.end);
    match fd::stat(path.as_c_str()) {
        Ok(stat) if stat.st_nlink == 0 => Ok(()),
        Ok(_) => refusal("its file has another name"),
        // A name that is put into the place of another is mostly in the same directory.
        Err(_) => match name_beside(mapping) {
            Some(name) => refusal(&format!("its file has another name, {name}")),
            None => Ok(()),
        },
    }
}

/// Another name of the mapping's file in the directory where it had this one, if that can be read.
fn name_beside(mapping: &Mapping<'_>) -> Option<String> {
    let path = path_of(mapping);
    let end = path.iter().rposition(|c| *c == b'/')? + 1;
    let directory = CPath::new(&path[..end])?;
    let device = libc::makedev(mapping.device.0, mapping.device.1);
    // In another file system the number would be another file's.
    fd::stat(directory.as_c_str()).ok().filter(|stat| stat.st_dev == device)?;
    let open = fd::open(directory.as_c_str(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0).ok()?;
    let mut buffer = alloc::vec![0u8; 32 << 10];
    let mut seen = 0;
    let mut name = None;
    while let Ok(length @ 1..) = fd::get_dents(open, &mut buffer) {
        for (inode, entry) in fd::numbered_entries(&buffer[..length]) {
            seen += 1;
            if inode == mapping.inode && name.is_none() {
                name = Some(String::from_utf8_lossy(&[&path[..end], entry].concat()).into_owned());
            }
        }
        if name.is_some() || seen > MOST_ENTRIES {
            break;
        }
    }
    let _ = fd::close(open);
    name
}
