//! POSIX message queues (mq_overview(7)) that have a name. Like a file a queue stays in the kernel, with its messages, while
//! nobody has it open: it is opened again by its name. To stat(2) it is a regular file.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::text::decimal;
use zap_plugin::sys::{fd, libc, process, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.message_queues";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// Without the slash before it, as the kernel takes it.
    #[serde(with = "serde_bytes")]
    name: Vec<u8>,
    /// Access mode and O_NONBLOCK.
    flags: i32,
    inode: u64,
}

fn claims(description: &Description) -> bool {
    /// MQUEUE_MAGIC of statfs(2).
    const MESSAGE_QUEUES: i64 = 0x1980_0202;
    description.stream.is_none()
        && description.file_type() == libc::S_IFREG
        && description.link.starts_with(b"/")
        && fd::file_system(description.fd()) == Ok(MESSAGE_QUEUES)
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        if description.stat.st_nlink == 0 {
            return Err(Refusal::new(description.name(), "a POSIX message queue whose name has been removed"));
        }
        let flags = description.status_flags() & (libc::O_ACCMODE | libc::O_NONBLOCK);
        // By its own mount, if there is one, the link has a path before the name.
        let name = description.link.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        if is_to_tell(description.fd()) {
            return Err(Refusal::new(
                description.name(),
                "a POSIX message queue that is to tell of a message (mq_notify)",
            ));
        }
        states.push(State { id: description.id, name, flags, inode: description.stat.st_ino });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// Whether this process is to be told when a message comes. The kernel says it to who may read from the queue. Nobody opens it
/// for that: the process would not be told any more once it is closed again, by whatever number.
fn is_to_tell(queue: RawFd) -> bool {
    let mut text = [0u8; 128];
    let length = fd::pread(queue, &mut text, 0).unwrap_or(0);
    text[..length]
        .split(|byte| *byte == b' ')
        .find_map(|word| word.strip_prefix(b"NOTIFY_PID:"))
        .is_some_and(|text| decimal(text).0 == i64::from(process::getpid().0))
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let refusal =
            |error| Refusal::new(format!("POSIX message queue {}", String::from_utf8_lossy(&state.name)), error);
        let name = CPath::new(&state.name).ok_or_else(|| Refusal::new("POSIX message queue", "name too long"))?;
        // O_CLOEXEC would be seen among its flags (fcntl(2), F_GETFL).
        let own = fd::open_queue(name.as_c_str(), state.flags).map_err(refusal)?;
        if fd::fstat(own).map_err(refusal)?.st_ino != state.inode {
            let text = format!("POSIX message queue {}", String::from_utf8_lossy(&state.name));
            return Err(Refusal::new(text, "is another one than at the checkpoint"));
        }
        context.install(state.id, own)?;
    }
    Ok(())
}
