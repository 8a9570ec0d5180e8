//! What the leader has in hand when the process is to be saved, for whoever writes the image: a frozen copy, or the leader.

use crate::agent::Agent;
use crate::fault;
use crate::memory::{self, Memory};
use crate::registry;
use crate::restart;
use crate::shared::{self, SharedCopy};
use crate::state::Owned;
use crate::{
    aio, attributes, children, clocks, credentials, descriptors, huge_pages, identity, signals, timers, waits, writer,
};
use alloc::vec::Vec;
use zap_image::Region;
use zap_plugin::{Description, Refusal, SaveContext, SavedSection};
use zap_sys::arch::context::SnapshotContext;
use zap_sys::RawFd;
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
    /// There are files that the frozen copy would hold open: see [`shared::holds_file`].
    pub holds_files: bool,
}

/// Collects what the process's state is.
pub fn collect(order: &SaveOrder) -> Result<Aside, Refusal> {
    clocks::stop(order.stopped_ns);
    children::save(&order.members)?;
    identity::save_relations();
    waits::save();
    let descriptions = descriptors::take(&order.shares);
    let owners = descriptors::claim(&descriptions)?;
    let notes: Vec<_> = order.notes.iter().map(|note| (note.object, note.bytes.clone())).collect();
    let mut sections = alloc::vec![descriptors::listed(&descriptions)?];
    for (index, plugin) in registry::plugins().iter().enumerate() {
        let own = descriptions.iter().zip(&owners).filter(|(one, owner)| **owner == index && !one.share.follows);
        let claimed: Vec<&Description> = own.map(|(one, _)| one).collect();
        plugin.save(&mut SaveContext::new(&descriptions, claimed, clocks::since_moment, &notes, &mut sections))?;
        fault::point(faults::SAVING_PLUGINS);
    }
    signals::save()?;
    clocks::save();
    timers::save()?;
    attributes::save()?;
    credentials::save()?;
    COLLECTED.with(|collected| collected.sections = sections);
    let maps = memory::read_all(c"/proc/thread-self/maps")?;
    aio::save(&maps)?;
    let huge = huge_pages::take();
    let holds_files = zap_sys::maps::parse(&maps).any(|mapping| shared::holds_file(&mapping));
    let copies = shared::copy_shared(&maps, &order.elsewhere, &huge)?;
    Ok(Aside { copies, huge, holds_files })
}
