//! The road from images to a running program, as far as it lies outside of that program.
//!
//! ```text
//! image      opens a file, reads its head            → image::Image
//! generation chooses which images belong together
//! verify     reads the extents of what is not known to be untouched
//! backing    compares the host's files with those the image relies on
//! moved      directories that are elsewhere now
//! kept       files that lie whole beside the images
//! holders    who else has files open
//! measures   what is done to files, and undone
//! changed    files that the pod has open, and that are not as they were
//! barred     files that their own mode keeps their owner from opening
//! vanished   what is done about small shared files that are gone, pure
//! commons    memory that several processes share
//! huge_pages whether the host has enough of them
//! planner    header → plan, pure                      → planner::Planned
//! tree       who makes whom, pure                     → tree::Tree
//! start      pod, and the conversation with its processes until they run
//! grow       forks the tree; program: exec
//! supervise  waits for the program, passes signals and the exit status on
//! ```
//!
//! Nothing here knows what a plugin has saved; nothing is started before everything has been found right.

pub mod arguments;
pub mod backing;
pub mod barred;
pub mod changed;
pub mod chunks;
pub mod commons;
pub mod fault;
pub mod generation;
pub mod grow;
pub mod holders;
pub mod huge_pages;
pub mod image;
pub mod json;
pub mod kept;
pub mod measures;
pub mod moved;
pub mod objects;
pub mod own_directories;
pub mod places;
pub mod planner;
pub mod program;
#[cfg(test)]
mod sample;
pub mod show;
pub mod start;
pub mod supervise;
pub mod terminal;
pub mod tree;
pub mod unpack;
pub mod vanished;
pub mod verify;
