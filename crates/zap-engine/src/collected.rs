//! What the leader has in hand when the process is to be saved, for whoever writes the image: a frozen copy, or the leader.

use crate::agent::Agent;
use crate::fault;
use crate::memory::{self, Memory};
use crate::registry;
use crate::restart;
use crate::shared::{self, SharedCopy};
use crate::state::{self, Owned};
use crate::{
    aio, attributes, children, clocks, credentials, descriptors, halted, huge_pages, identity, own_directories,
    signals, terminal, terminals, timers, waits, watched, writer,
};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zap_image::Region;
use zap_plugin::{Description, Known, Refusal, SaveContext, Saved as SavedByPlugins, SavedSection};
use zap_sys::arch::context::SnapshotContext;
use zap_sys::path::PATH_MAX;
use zap_sys::{fd, libc, RawFd};
use zap_wire::fault as faults;
use zap_wire::message::SaveOrder;

/// What the leader has collected for the image; kept for the restart that may continue from it.
pub struct Collected {
    pub sections: Vec<SavedSection>,
}

pub static COLLECTED: Owned<Collected> = Owned::new(Collected { sections: Vec::new() });

/// How saving ended.
pub enum Saved {
    /// In the process that was saved.
    Here,
    /// In a new process with its memory.
    Restarted,
}

/// What is to be saved, and where.
pub struct Saving<'a> {
    pub agent: &'a Agent,
    pub order: &'a SaveOrder,
    pub image: RawFd,
    pub aside: &'a Aside,
}

impl Saving<'_> {
    /// Writes the image of a process that can be taken up again at `context`; returns its length in bytes.
    pub fn write(&self, memory: Memory<'_>, context: &SnapshotContext) -> Result<u64, Refusal> {
        let Saving { order, image, .. } = *self;
        let listens = (!memory.is_copy).then(|| self.agent.socket());
        let write = |sections: &[SavedSection]| {
            writer::write(&writer::Task {
                order,
                sections,
                executable: &self.aside.executable,
                memory,
                context,
                mailbox: restart::mailbox_address(),
                image,
                listens,
            })
        };
        COLLECTED.with(|collected| write(&collected.sections))
    }
}

/// What a fork does not freeze, or must not have.
pub struct Aside {
    /// What has been copied.
    pub copies: Vec<SharedCopy>,
    /// Regions of huge pages, which are kept out of the frozen copy.
    pub huge: Vec<Region>,
    /// What the program executes: a file that may be removed as soon as it goes on.
    pub executable: Vec<u8>,
    /// There are files that the frozen copy would hold open: see [`shared::holds_file`].
    pub holds_files: bool,
}

/// Collects what the process's state is.
pub fn collect(order: &SaveOrder) -> Result<Aside, Refusal> {
    clocks::stop(order.stopped_ns);
    children::save(&order.members)?;
    halted::note_continued();
    identity::save_relations();
    waits::save();
    let descriptions = descriptors::take(order);
    let owners = descriptors::claim(&descriptions)?;
    let notes: Vec<_> = order.notes.iter().map(|note| (note.object, note.bytes.clone())).collect();
    let sections =
        [Some(descriptors::listed(&descriptions)?), terminal::section(&descriptions)?].into_iter().flatten().collect();
    let mut saved = SavedByPlugins { sections, ..SavedByPlugins::default() };
    for (index, plugin) in registry::plugins().iter().enumerate() {
        let own = descriptions.iter().zip(&owners).filter(|(one, owner)| **owner == index && !one.share.follows);
        let claimed: Vec<&Description> = own.map(|(one, _)| one).collect();
        plugin.save(&mut SaveContext::new(
            &descriptions,
            claimed,
            Known {
                since_stop: clocks::since_moment,
                member: identity::member,
                watched: watched::path_of,
                terminal: terminals::virtual_of,
                files_are_read: !order.kept.is_empty() || !order.settings.private.is_empty(),
            },
            &notes,
            &mut saved,
        ))?;
        fault::point(faults::SAVING_PLUGINS);
    }
    let SavedByPlugins { mut sections, files } = saved;
    sections.push(descriptors::files(order, &descriptions, &files)?);
    sections.extend(own_directories::section(order)?);
    timers::look_before()?;
    signals::save()?;
    clocks::save();
    timers::save()?;
    attributes::save()?;
    credentials::save()?;
    COLLECTED.with(|collected| collected.sections = sections);
    let executable = executable()?;
    let maps = memory::read_all(c"/proc/thread-self/maps")?;
    aio::save(&maps)?;
    let huge = huge_pages::take();
    let holds_files = zap_sys::maps::parse(&maps).any(|mapping| shared::holds_file(&mapping));
    let copies = shared::copy_shared(&maps, &order.elsewhere, &huge)?;
    Ok(Aside { copies, huge, executable, holds_files })
}

/// The path of what the program executes, which a restart must find and map. One that the pod's user may not read refuses; who has
/// become another user is brought back by the one whose pod it is.
fn executable() -> Result<Vec<u8>, Refusal> {
    const LINK: &core::ffi::CStr = c"/proc/thread-self/exe";
    let mut buffer = [0u8; PATH_MAX];
    let path = fd::read_link(LINK, &mut buffer).map_err(|error| Refusal::new("executable", error))?;
    let refusal = |reason| Err(Refusal::new(format!("executable {}", String::from_utf8_lossy(path)), reason));
    if path.ends_with(b" (deleted)") {
        return refusal("its file has been deleted or replaced");
    }
    match fd::open(LINK, libc::O_RDONLY | libc::O_CLOEXEC, 0) {
        Ok(file) => drop(fd::close(file)),
        Err(error) if error.is(libc::EACCES) && state::is_pods_user() => {
            return refusal("cannot be read, and so not be mapped again by a restart");
        }
        Err(_) => {}
    }
    Ok(path.to_vec())
}
