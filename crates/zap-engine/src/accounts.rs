//! What a parent is told of a child's end that the kernel of this life does not know: the CPU time that the child had used before
//! the restart, with that of its own children, and that an ended one has left a core dump.
//!
//! The parent keeps the accounts: it waits for the child when that, and its place in the pod's table, are gone.

use crate::guard::Guard;
use crate::state::{self, Owned};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use zap_sys::usage::Usage;
use zap_sys::{process, RealPid, VirtualPid};

struct Account {
    child: VirtualPid,
    usage: Usage,
    /// A wait shall tell that it has left a core dump.
    dumped: bool,
    /// The parent has been told.
    settled: AtomicBool,
}

/// As they are to be after a restart from this checkpoint.
static SAVED: Owned<Vec<Account>> = Owned::new(Vec::new());

struct Active {
    /// The process that waits: a child of its fork has other children.
    owner: RealPid,
    accounts: Vec<Account>,
}

static ACTIVE: Owned<Active> = Owned::new(Active { owner: RealPid(0), accounts: Vec::new() });

/// Bit of a wait status (wait(2), WCOREDUMP).
const DUMPED: i32 = 0x80;

/// Begins the accounts of a checkpoint.
pub fn begin() {
    SAVED.with(Vec::clear);
}

/// Notes `child`, living or ended, by its `stat` in /proc (proc(5)).
pub fn note(child: VirtualPid, stat: &[u8]) {
    /// utime, stime, cutime and cstime, of which a tick is a hundredth of a second (USER_HZ) on every architecture.
    const FIELDS: [usize; 4] = [14, 15, 16, 17];
    const TICK_US: i64 = 10_000;
    let [user, system, children_user, children_system] =
        FIELDS.map(|number| process::stat_field(stat, number) as i64 * TICK_US);
    let used = Usage { user: user + children_user, system: system + children_system, ..Usage::NONE };
    let before = ACTIVE.with(|active| {
        let known = active.accounts.iter().find(|one| one.child == child && !one.settled.load(Ordering::Relaxed));
        known.filter(|_| active.owner == state::real_pid()).map_or((Usage::NONE, false), |one| (one.usage, one.dumped))
    });
    let dumped = process::has_ended(stat) && process::stat_field(stat, 52) as i32 & DUMPED != 0;
    let account =
        Account { child, usage: used.plus(&before.0), dumped: dumped || before.1, settled: AtomicBool::new(false) };
    SAVED.with(|saved| saved.push(account));
}

/// In a restarted process: what has been noted counts.
pub fn restore() {
    let accounts = SAVED.with(core::mem::take);
    ACTIVE.with(|active| *active = Active { owner: state::real_pid(), accounts });
}

/// A wait of the program has told that `child` has ended. Returns what its usage is more than the kernel's, and puts into `status`
/// (wait(2)) what the kernel does not know. With `stays` the child is there still, and waits will tell of it again.
#[cold]
pub fn tell(child: VirtualPid, status: Option<&mut i32>, stays: bool) -> Usage {
    let guard = Guard::enter();
    ACTIVE.look(&guard, |active| {
        let of_child = |one: &&Account| one.child == child && !one.settled.load(Ordering::Relaxed);
        let Some(account) = active.accounts.iter().find(of_child).filter(|_| active.owner == state::real_pid()) else {
            return Usage::NONE;
        };
        if let Some(status) = status.filter(|_| account.dumped) {
            *status |= DUMPED;
        }
        if stays || account.settled.swap(true, Ordering::AcqRel) {
            Usage::NONE
        } else {
            account.usage
        }
    })
}
