//! Named places where a test can make a process of Zap stop itself (SIGSTOP), to be killed or continued there.
//!
//! `ZAP_FAULT=name` names one of [`ALL`]. Compiled in, free when the variable is unset: the name is looked up once.

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
