//! Named places where a test can make a process of Zap stop itself (SIGSTOP), to be killed or continued there, or where
//! the library in a program panics.
//!
//! `ZAP_FAULT=name` names one of [`ALL`]; `ZAP_FAULT=panic:name` one of [`PANICS`], and `panic:name:2` means in the
//! program's second suspension instead of the first. `refuse:copy-forking` lets no frozen copy be made; it
//! may stand before another, with a comma between them. Compiled in, free when the variable is unset: the name is looked up once.

/// A coordinator that has just sent the signal of a checkpoint.
pub const COORDINATOR_SIGNALLED: &str = "coordinator-signalled";
/// A coordinator whose members are all suspended.
pub const COORDINATOR_SUSPENDED: &str = "coordinator-suspended";
/// A coordinator that has just ordered the members to save.
pub const COORDINATOR_SAVING: &str = "coordinator-saving";
/// A coordinator that knows all images written, before the rename.
pub const COORDINATOR_WRITTEN: &str = "coordinator-written";
/// A coordinator that is half-way through compressing an image.
pub const COORDINATOR_PACKING: &str = "coordinator-packing";
/// A coordinator that has renamed the new images, before the old ones go.
pub const COORDINATOR_RENAMED: &str = "coordinator-renamed";
/// A program that has just been suspended.
pub const PROGRAM_SUSPENDED: &str = "program-suspended";
/// A program that has drained.
pub const PROGRAM_DRAINED: &str = "program-drained";
/// A program that has forked its frozen copy.
pub const PROGRAM_SAVED: &str = "program-saved";
/// A program that is about to resume.
pub const PROGRAM_RESUMING: &str = "program-resuming";
/// The frozen copy, half-way through writing its image.
pub const WRITER_WRITING: &str = "writer-writing";
/// zap-command, after sending its request.
pub const COMMAND_REQUESTED: &str = "command-requested";
/// zap-restart, after verification and before anything starts.
pub const RESTART_PLANNED: &str = "restart-planned";
/// A restarted program, before its plugins restore.
pub const PROGRAM_RESTORING: &str = "program-restoring";

/// Every place, for tests that visit them all.
pub const ALL: [&str; 14] = [
    COORDINATOR_SIGNALLED,
    COORDINATOR_SUSPENDED,
    COORDINATOR_SAVING,
    COORDINATOR_WRITTEN,
    COORDINATOR_PACKING,
    COORDINATOR_RENAMED,
    PROGRAM_SUSPENDED,
    PROGRAM_DRAINED,
    PROGRAM_SAVED,
    PROGRAM_RESUMING,
    WRITER_WRITING,
    COMMAND_REQUESTED,
    RESTART_PLANNED,
    PROGRAM_RESTORING,
];

/// A panic as the leader begins, before any other thread is signalled.
pub const SUSPEND_BEGUN: &str = "suspend-begun";
/// A panic when threads are listed, before the first of them is signalled.
pub const SUSPEND_LISTED: &str = "suspend-listed";
/// A panic when threads are signalled and have not parked yet.
pub const SUSPEND_SIGNALLED: &str = "suspend-signalled";
/// A panic in a thread that parks, as it describes itself.
pub const THREAD_PARKING: &str = "thread-parking";
/// A panic in the helper that lists threads.
pub const HELPER_LISTING: &str = "helper-listing";
/// A panic in the helper that looks at threads which do not park.
pub const HELPER_LOOKING: &str = "helper-looking";
/// A panic while the connection to the coordinator is made.
pub const AGENT_CONNECTING: &str = "agent-connecting";
/// A panic among the children, a directory of /proc open.
pub const SAVING_CHILDREN: &str = "saving-children";
/// A panic in the middle of the list of descriptors.
pub const SAVING_DESCRIPTORS: &str = "saving-descriptors";
/// A panic after the first plugin has saved.
pub const SAVING_PLUGINS: &str = "saving-plugins";
/// A panic before pending signals are read.
pub const SAVING_SIGNALS: &str = "saving-signals";
/// A panic among the timers.
pub const SAVING_TIMERS: &str = "saving-timers";
/// A panic among the attributes of the process.
pub const SAVING_ATTRIBUTES: &str = "saving-attributes";
/// A panic while shared memory is copied, some of it made readable for that.
pub const COPYING_SHARED: &str = "copying-shared";
/// A panic before the frozen copy is forked, its pipe open.
pub const COPY_FORKING: &str = "copy-forking";
/// A panic when the frozen copy waits for its word.
pub const COPY_FORKED: &str = "copy-forked";
/// A panic when the order to refill has come.
pub const PROGRAM_REFILLING: &str = "program-refilling";
/// A panic among the plugins that are told of the end.
pub const PLUGINS_RESUMING: &str = "plugins-resuming";
/// A panic with the arena's lock held.
pub const ARENA_LOCKED: &str = "arena-locked";
/// A panic in the frozen copy's survey.
pub const WRITER_SURVEYING: &str = "writer-surveying";
/// A panic when the frozen copy lays the image out.
pub const WRITER_LAYING_OUT: &str = "writer-laying-out";
/// A panic when the frozen copy is about to say that the image is written.
pub const WRITER_SAYING: &str = "writer-saying";
/// A panic of a restarted program among its descriptors.
pub const RESTORING_DESCRIPTORS: &str = "restoring-descriptors";
/// A panic of a restarted program among its threads.
pub const RESTORING_THREADS: &str = "restoring-threads";
/// A panic in a thread that a restart has made.
pub const THREAD_ENTERING: &str = "thread-entering";
/// A panic of a restarted program among its timers.
pub const RESTORING_TIMERS: &str = "restoring-timers";

/// The search for written pages by PAGEMAP_SCAN, which Linux has since 6.7.
pub const PAGEMAP_SCAN: &str = "pagemap-scan";
/// The mapping of an image that lies on this host's own disk.
pub const IMAGE_MAPPING: &str = "image-mapping";

/// What can be refused.
const REFUSALS: [&str; 3] = [COPY_FORKING, PAGEMAP_SCAN, IMAGE_MAPPING];

/// Every place where a panic can be asked for.
pub const PANICS: [&str; 32] = [
    SUSPEND_BEGUN,
    SUSPEND_LISTED,
    SUSPEND_SIGNALLED,
    THREAD_PARKING,
    HELPER_LISTING,
    HELPER_LOOKING,
    PROGRAM_SUSPENDED,
    AGENT_CONNECTING,
    PROGRAM_DRAINED,
    SAVING_CHILDREN,
    SAVING_DESCRIPTORS,
    SAVING_PLUGINS,
    SAVING_SIGNALS,
    SAVING_TIMERS,
    SAVING_ATTRIBUTES,
    COPYING_SHARED,
    COPY_FORKING,
    COPY_FORKED,
    PROGRAM_SAVED,
    PROGRAM_REFILLING,
    PLUGINS_RESUMING,
    PROGRAM_RESUMING,
    ARENA_LOCKED,
    WRITER_SURVEYING,
    WRITER_LAYING_OUT,
    WRITER_WRITING,
    WRITER_SAYING,
    PROGRAM_RESTORING,
    RESTORING_DESCRIPTORS,
    RESTORING_THREADS,
    THREAD_ENTERING,
    RESTORING_TIMERS,
];

/// What is to happen at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process stops itself.
    Stop(&'static str),
    /// It panics, in the suspension of this number.
    Panic { place: &'static str, suspension: u32 },
    /// The system call there fails, every time.
    Refuse(&'static str),
}

/// What the variable asks for; `None` for what is not known.
pub fn parse(text: &[u8]) -> Option<Fault> {
    let find = |places: &[&'static str], name: &[u8]| places.iter().copied().find(|place| place.as_bytes() == name);
    if let Some(name) = text.strip_prefix(b"refuse:") {
        return find(&REFUSALS, name).map(Fault::Refuse);
    }
    let Some(rest) = text.strip_prefix(b"panic:") else { return find(&ALL, text).map(Fault::Stop) };
    let (name, suspension) = match rest.iter().position(|c| *c == b':') {
        Some(at) => (&rest[..at], zap_sys::text::decimal(&rest[at + 1..]).0 as u32),
        None => (rest, 1),
    };
    find(&PANICS, name).map(|place| Fault::Panic { place, suspension })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_by_table() {
        for (text, expected) in [
            ("program-saved", Some(Fault::Stop(PROGRAM_SAVED))),
            ("copy-forked", None),
            ("panic:copy-forked", Some(Fault::Panic { place: COPY_FORKED, suspension: 1 })),
            ("panic:program-saved:2", Some(Fault::Panic { place: PROGRAM_SAVED, suspension: 2 })),
            ("panic:command-requested", None),
            ("panic:", None),
            ("refuse:copy-forking", Some(Fault::Refuse(COPY_FORKING))),
            ("refuse:copy-forked", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }
}
