//! The host's huge pages: raised by root while a test runs that needs some, one such test at a time, then put back.

use crate::case::{failed, Result};
use std::fs::{self, File};

/// How many the host has; also what a test locks that changes it.
const NUMBER: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Huge pages of 2 MiB that are there until this is dropped.
#[derive(Debug)]
pub struct Reserve {
    /// The lock of it, and how many there were.
    raised: Option<(File, u64)>,
}

impl Reserve {
    /// Adds `count` pages to the host's. Who may not goes without, and its programs say that they cannot run.
    pub fn raise(count: u64) -> Self {
        let raised = || {
            let lock = File::open(NUMBER).ok()?;
            // Others who run these tests wait here.
            lock.lock().ok()?;
            let before = number().ok()?;
            set_number(before + count).ok()?;
            Some((lock, before))
        };
        Self { raised: raised() }
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Some((_, before)) = &self.raised {
            let _ = set_number(*before);
        }
    }
}

/// How many huge pages the host has.
pub fn number() -> Result<u64> {
    read(NUMBER)
}

/// How many of them nobody uses.
pub fn free() -> Result<u64> {
    read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
}

/// Makes them so many; those that are in use stay.
pub fn set_number(number: u64) -> Result {
    Ok(fs::write(NUMBER, number.to_string())?)
}

fn read(path: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    match text.trim().parse() {
        Ok(number) => Ok(number),
        Err(_) => failed(format!("{path} says {text:?}")),
    }
}
