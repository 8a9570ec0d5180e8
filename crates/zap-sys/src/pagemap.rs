//! Which pages of the calling process hold data of its own: PAGEMAP_SCAN (Linux 6.7), and `/proc/self/pagemap` before.
//!
//! # Safety
//! The kernel writes into vectors that outlive the call.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::{RawFd, PAGE_SIZE};

/// The page is file-backed or shared (and so not the process's own).
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The page is the kernel's zero page: reads as zero, holds nothing.
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// The page is a guard that MADV_GUARD_INSTALL made (Linux 6.15; guards themselves came with 6.13).
const PAGE_IS_GUARD: u64 = 1 << 8;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It holds data of the process's own.
    Data,
    /// It is a guard: nobody can touch it, and it holds nothing.
    Guard,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const fn pagemap_scan_request() -> u64 {
    // _IOWR('f', 16, struct pm_scan_arg)
    (3 << 30) | ((core::mem::size_of::<ScanArgument>() as u64) << 16) | ((b'f' as u64) << 8) | 16
}

/// Finds pages through an open `/proc/self/pagemap`.
pub struct PageFinder {
    pagemap: RawFd,
    has_scan: bool,
    /// [`PAGE_IS_GUARD`], or 0 on a kernel that does not know it.
    guard: u64,
}

impl PageFinder {
    /// Looks through `pagemap`, a descriptor of `/proc/self/pagemap`. `allow_scan` false forces the older way.
    pub fn new(pagemap: RawFd, allow_scan: bool) -> Self {
        Self { pagemap, has_scan: allow_scan, guard: PAGE_IS_GUARD }
    }

    /// Calls `each(start, end, kind)` for every run of pages in `[start, end)` of a private mapping that are guards or
    /// hold data of the process's own: written, present or swapped out, and not the zero page. Runs come in order.
    pub fn private_pages(&mut self, start: u64, end: u64, mut each: impl FnMut(u64, u64, Kind)) -> Result<()> {
        let mut at = start;
        while self.has_scan && at < end {
            match self.scan(at, end, &mut each) {
                Ok(next) => at = next,
                Err(error) if error.is(libc::EINVAL) && self.guard != 0 => self.guard = 0,
                Err(error) if error.is(libc::ENOTTY) || error.is(libc::EINVAL) => self.has_scan = false,
                Err(error) => return Err(error),
            }
        }
        if at < end {
            self.read_entries(at, end, &mut each)?;
        }
        Ok(())
    }

    fn scan(&self, start: u64, end: u64, each: &mut impl FnMut(u64, u64, Kind)) -> Result<u64> {
        let mut found = [PageRegion::default(); 128];
        let mut argument = ScanArgument {
            size: core::mem::size_of::<ScanArgument>() as u64,
            start,
            end,
            vec: found.as_mut_ptr() as u64,
            vec_len: found.len() as u64,
            // Not FILE and not PFNZERO (inverted), and PRESENT or SWAPPED.
            category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED | self.guard,
            ..ScanArgument::default()
        };
        let count = call!(SYS_ioctl, self.pagemap, pagemap_scan_request(), &mut argument as *mut ScanArgument)?;
        for region in &found[..count.min(found.len())] {
            if region.categories & PAGE_IS_GUARD != 0 {
                each(region.start, region.end, Kind::Guard);
            } else if region.categories & PAGE_IS_PRESENT != 0 || self.guard != 0 {
                each(region.start, region.end, Kind::Data);
            } else {
                probe(region.start, region.end, each);
            }
        }
        // walk_end is where the walk stopped; a kernel that does not advance would make us loop for ever.
        Ok(if argument.walk_end > start { argument.walk_end } else { end })
    }

    /// The way of kernels before 6.7: one 64-bit word per page. Zero pages cannot be told apart here; they are saved.
    fn read_entries(&self, start: u64, end: u64, each: &mut impl FnMut(u64, u64, Kind)) -> Result<()> {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE_OR_SHARED: u64 = 1 << 61;
        let page = PAGE_SIZE as u64;
        let mut buffer = [0u8; 4096];
        let mut at = start;
        while at < end {
            let want = (((end - at) / page) as usize * 8).min(buffer.len());
            let got = crate::fd::pread(self.pagemap, &mut buffer[..want], at / page * 8)? & !7;
            if got == 0 {
                break;
            }
            for word in buffer[..got].chunks_exact(8) {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(word);
                let entry = u64::from_ne_bytes(bytes);
                if entry & FILE_OR_SHARED == 0 {
                    if entry & PRESENT != 0 {
                        each(at, at + page, Kind::Data);
                    } else if entry & SWAPPED != 0 {
                        probe(at, at + page, each);
                    }
                }
                at += page;
            }
        }
        Ok(())
    }
}

/// Tells guards from pages that are swapped out, where the kernel calls both swapped: a guard cannot be read. In memory
/// that nobody may read all pages are taken for data, which is right for those that are swapped out.
fn probe(start: u64, end: u64, each: &mut impl FnMut(u64, u64, Kind)) {
    let mut at = start;
    while at < end {
        let mut byte = [0u8; 1];
        let guard = crate::mem::read_own_file(at, &mut byte).is_err_and(|error| error.is(libc::EFAULT));
        let next = at + PAGE_SIZE as u64;
        each(at, next, if guard { Kind::Guard } else { Kind::Data });
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use std::vec::Vec;

    #[test]
    fn both_ways_find_the_same() {
        let page = PAGE_SIZE as u64;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory wherever the kernel likes.
        let start = unsafe { crate::mem::map(0, 8 * page, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }.unwrap();
        for number in [1, 2, 5] {
            // SAFETY: a page of the mapping.
            unsafe { *((start + number * page) as *mut u8) = 1 };
        }
        let pagemap = crate::fd::open(c"/proc/self/pagemap", libc::O_RDONLY | libc::O_CLOEXEC, 0).unwrap();
        for allow_scan in [true, false] {
            let mut found = Vec::new();
            let mut finder = PageFinder::new(pagemap, allow_scan);
            let each = |from: u64, to: u64, _| found.extend((from - start) / page..(to - start) / page);
            finder.private_pages(start, start + 8 * page, each).unwrap();
            assert_eq!(found, [1, 2, 5], "scan: {allow_scan}");
            assert!(allow_scan || !finder.has_scan);
        }
        let _ = crate::fd::close(pagemap);
        // SAFETY: as above, and nobody uses it any more.
        unsafe { crate::mem::unmap(start, 8 * page) }.unwrap();
    }
}
