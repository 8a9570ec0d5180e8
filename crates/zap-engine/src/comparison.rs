//! What the frozen copy lacks of the program's memory: what the program keeps out of its forks (MADV_DONTFORK).
//!
//! Runs during the stop, in the program; what is missing is let through a second fork.

use crate::memory::read_all;
use crate::pieces::without;
use alloc::vec::Vec;
use zap_plugin::Refusal;
use zap_sys::{fd, maps};

/// Tells what a forked copy lacks. Its buffers are made before the fork, so that they are in both.
pub struct Comparison {
    here: Vec<u8>,
    there: Vec<u8>,
}

impl Comparison {
    /// Makes room for the lists of mappings.
    pub fn prepare() -> Result<Self, Refusal> {
        const SPARE: usize = 64 * 1024;
        let length = read_all(c"/proc/thread-self/maps")?.len() + SPARE;
        Ok(Self { here: alloc::vec![0; length], there: alloc::vec![0; length] })
    }

    /// Where the list of the copy's mappings is to be.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.there
    }

    /// Mappings of this process that its copy lacks, but for what is `known` (ascending): (start, end). The copy's list has this
    /// `length`.
    pub fn missing_in(&mut self, length: usize, known: &[(u64, u64)]) -> Result<Vec<(u64, u64)>, Refusal> {
        let refusal = |error| Refusal::new("frozen copy", error);
        let here = fd::read_file(c"/proc/thread-self/maps", &mut self.here).map_err(refusal)?;
        let there = &self.there[..length];
        let mut there = maps::parse(there).peekable();
        let mut missing = Vec::new();
        for mapping in maps::parse(here).filter(|mapping| mapping.name != b"[vsyscall]") {
            while there.next_if(|other| other.end <= mapping.start).is_some() {}
            if there.peek().is_none_or(|other| other.start > mapping.start) {
                let overlaps = |range: &&(u64, u64)| range.0 < mapping.end && range.1 > mapping.start;
                let holes: Vec<(u64, u64)> = known.iter().filter(overlaps).copied().collect();
                missing.extend(without(mapping.start, mapping.end, &holes));
            }
        }
        Ok(missing)
    }
}
