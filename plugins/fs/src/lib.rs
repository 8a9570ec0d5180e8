//! Plugin fs: what a program has open that is no socket: files, directories, devices, pipes, event descriptors, the
//! standard streams.
//!
//! One noun, one file, one image section. Each noun says which descriptions are its own, saves their state as the
//! kernel shows it, and makes them again.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

mod devices;
mod epolls;
mod eventfds;
mod files;
mod inotifies;
mod message_queues;
mod pipes;
mod record_locks;
mod signalfds;
mod streams;
mod timerfds;
pub mod unread;

use zap_plugin::{Description, Keep, Plugin, Refusal, RestoreContext, SaveContext};

/// The plugin.
pub struct Fs;

/// A kind of description: the functions that a noun's file gives.
struct Noun {
    claims: fn(&Description) -> bool,
    object: fn(&Description) -> Option<(u64, u64)>,
    keeps: fn(&Description) -> Keep,
    save: fn(&[&Description], &mut SaveContext<'_>) -> Result<(), Refusal>,
    restore: fn(&mut RestoreContext<'_>) -> Result<(), Refusal>,
    refill: fn(&mut RestoreContext<'_>) -> Result<(), Refusal>,
}

/// In the order in which they are asked and saved: streams come first, since a stream may be anything; message queues look like
/// files.
const NOUNS: &[Noun] = &[
    streams::NOUN,
    message_queues::NOUN,
    files::NOUN,
    devices::NOUN,
    pipes::NOUN,
    eventfds::NOUN,
    signalfds::NOUN,
    timerfds::NOUN,
    inotifies::NOUN,
    epolls::NOUN,
];

fn no_object(_: &Description) -> Option<(u64, u64)> {
    None
}

fn keeps_nothing(_: &Description) -> Keep {
    Keep::No
}

fn nothing_to_refill(_: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    Ok(())
}

fn noun_of(description: &Description) -> Option<usize> {
    NOUNS.iter().position(|noun| (noun.claims)(description))
}

impl Plugin for Fs {
    fn name(&self) -> &'static str {
        "fs"
    }

    fn claims(&self, description: &Description) -> bool {
        noun_of(description).is_some()
    }

    fn object(&self, description: &Description) -> Option<(u64, u64)> {
        noun_of(description).and_then(|noun| (NOUNS[noun].object)(description))
    }

    fn keeps(&self, description: &Description) -> Keep {
        noun_of(description).map_or(Keep::No, |noun| (NOUNS[noun].keeps)(description))
    }

    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        let claimed = context.claimed.clone();
        for (index, noun) in NOUNS.iter().enumerate() {
            let own: alloc::vec::Vec<&Description> =
                claimed.iter().copied().filter(|description| noun_of(description) == Some(index)).collect();
            if !own.is_empty() {
                (noun.save)(&own, context)?;
            }
        }
        record_locks::save(context)
    }

    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        NOUNS.iter().try_for_each(|noun| (noun.restore)(context))
    }

    fn refill(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        NOUNS.iter().try_for_each(|noun| (noun.refill)(context))?;
        record_locks::refill(context)
    }
}
