//! The mechanism inside the program: how it is suspended, saved, and taken up again.
//!
//! The laws of this place, each with an experiment behind it:
//! - No libc between suspend and resume: a thread that stands still may hold malloc's, stdio's or the loader's lock.
//! - Own memory only ([`arena`]); kernel work through `zap_sys`, which cannot re-enter a wrapper.
//! - A thread is never suspended inside a guarded section ([`guard`]): its end is awaited.
//! - No panic, assert or unwrap that could fire in a user's program: what is impossible is refused by name.
//! - The engine knows no plugin: the root hands it a list of them ([`registry`]).
#![cfg_attr(not(test), no_std)]
extern crate alloc;

pub mod accounts;
pub mod agent;
pub mod aio;
mod aio_polls;
pub mod alternate_stacks;
pub mod arena;
pub mod attributes;
pub mod beside;
pub mod blocking;
pub mod breakdown;
pub mod broadcast;
pub mod checkpoint;
pub mod children;
pub mod clocks;
pub mod collected;
mod comparison;
mod credentials;
pub mod deadline;
pub mod descriptors;
pub mod exec_memory;
pub mod fault;
mod frozen_copy;
pub mod guard;
mod halted;
mod huge_pages;
pub mod identity;
pub mod image_backed;
pub mod in_hand;
mod in_place;
pub mod init;
pub mod inodes;
mod io_owners;
pub mod libcs_signal;
pub mod locked;
pub mod locks;
pub mod masking;
pub mod memory;
mod mounts;
mod names;
pub mod next;
mod overdue;
mod own_directories;
pub mod own_ids;
pub mod path_rooms;
mod pieces;
mod priorities;
pub mod private;
pub mod private_paths;
pub mod proc_texts;
pub mod registry;
pub mod restart;
mod room;
pub mod shared;
pub mod signals;
mod smaps;
pub mod state;
pub mod stragglers;
pub mod suspend;
mod terminal;
pub mod terminals;
pub mod threads;
pub mod timer_helper;
pub mod timers;
pub mod vdso;
mod waits;
pub mod watched;
pub mod writer;
