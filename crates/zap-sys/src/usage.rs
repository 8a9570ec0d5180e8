//! What a process has used: getrusage(2) and times(2).
//!
//! # Safety
//! Pointers handed to the kernel come from references that outlive the call.
#![allow(unsafe_code)]

use crate::errno::call;

/// A sum of what getrusage(2) tells, or a difference between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Microseconds in user and in kernel mode.
    pub user: i64,
    pub system: i64,
    /// Largest resident set in KiB; sums take the larger one.
    pub max_rss: i64,
    /// Page faults (minor, major), block operations (in, out), context switches (voluntary, involuntary).
    pub counts: [i64; 6],
}

impl Usage {
    /// Nothing used.
    pub const NONE: Self = Self { user: 0, system: 0, max_rss: 0, counts: [0; 6] };

    /// Of a time in nanoseconds, all of it counted as in user mode.
    pub fn of_time(ns: i64) -> Self {
        Self { user: ns / 1000, ..Self::NONE }
    }

    /// The fields of `raw` that count something.
    pub fn from_raw(raw: &libc::rusage) -> Self {
        let us = |time: &libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
        Self {
            user: us(&raw.ru_utime),
            system: us(&raw.ru_stime),
            max_rss: raw.ru_maxrss,
            counts: [raw.ru_minflt, raw.ru_majflt, raw.ru_inblock, raw.ru_oublock, raw.ru_nvcsw, raw.ru_nivcsw],
        }
    }

    /// Adds this to `raw`.
    pub fn add_to(&self, raw: &mut libc::rusage) {
        let sum = Self::from_raw(raw).plus(self);
        let time = |us: i64| libc::timeval { tv_sec: us.max(0) / 1_000_000, tv_usec: us.max(0) % 1_000_000 };
        raw.ru_utime = time(sum.user);
        raw.ru_stime = time(sum.system);
        raw.ru_maxrss = sum.max_rss;
        let counts = [
            &mut raw.ru_minflt,
            &mut raw.ru_majflt,
            &mut raw.ru_inblock,
            &mut raw.ru_oublock,
            &mut raw.ru_nvcsw,
            &mut raw.ru_nivcsw,
        ];
        for (to, from) in counts.into_iter().zip(sum.counts) {
            *to = from.max(0);
        }
    }

    /// Both together.
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.user += other.user;
        sum.system += other.system;
        sum.max_rss = self.max_rss.max(other.max_rss);
        sum.counts.iter_mut().zip(other.counts).for_each(|(to, from)| *to += from);
        sum
    }

    /// What this has more than `other`; of the resident set, this one's.
    pub fn minus(&self, other: &Self) -> Self {
        let mut difference = *self;
        difference.user -= other.user;
        difference.system -= other.system;
        difference.counts.iter_mut().zip(other.counts).for_each(|(to, from)| *to -= from);
        difference
    }
}

/// getrusage(2). A `who` that does not exist has used nothing.
pub fn of(who: i32) -> Usage {
    // SAFETY: all-zero is a valid value of this structure of integers.
    let mut raw: libc::rusage = unsafe { core::mem::zeroed() };
    let _ = call!(SYS_getrusage, who, &mut raw as *mut libc::rusage);
    Usage::from_raw(&raw)
}

/// The result of times(2): ticks since some point before the boot.
pub fn ticks() -> i64 {
    call!(SYS_times, 0).unwrap_or(0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences() {
        let one = Usage { user: 5, system: 3, max_rss: 10, counts: [1, 2, 3, 4, 5, 6] };
        let other = Usage { user: 2, system: 4, max_rss: 20, counts: [1; 6] };
        assert_eq!(one.plus(&other), Usage { user: 7, system: 7, max_rss: 20, counts: [2, 3, 4, 5, 6, 7] });
        assert_eq!(one.minus(&other), Usage { user: 3, system: -1, max_rss: 10, counts: [0, 1, 2, 3, 4, 5] });
        let own = of(libc::RUSAGE_SELF);
        // SAFETY: as in `of`.
        let mut raw: libc::rusage = unsafe { core::mem::zeroed() };
        own.add_to(&mut raw);
        assert_eq!(Usage::from_raw(&raw), own);
    }
}
