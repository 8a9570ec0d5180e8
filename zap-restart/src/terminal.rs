//! The terminal in which zap-restart runs: the pod's process group that was in the foreground at the checkpoint is again, and finds
//! the modes that it had set.

use std::sync::{Mutex, PoisonError};
use zap_image::header::Terminal;
use zap_sys::terminal::{self, Modes};
use zap_sys::{libc, process, signal, RawFd, RealPid, SysError};

/// Whom the terminal has been handed over to, and how it was before.
struct Handed {
    groups: [RealPid; 2],
    before: Modes,
}

static HANDED: Mutex<Option<Handed>> = Mutex::new(None);

/// Puts `group` into the foreground, with the modes that `saved` tells of, if zap-restart is there itself: what it was started
/// as, a job in the background say, it stays. `leader` is the group of the pod's first process. True if the terminal is of
/// another size than the program knows.
pub fn hand_over(group: RealPid, leader: RealPid, saved: Option<&Terminal>) -> bool {
    let own = process::getpgrp();
    if process::foreground() != Some(own) {
        return false;
    }
    let size = terminal::with_controlling(|number| {
        let before = terminal::modes(number)?;
        if group != own {
            terminal::set_foreground(number, group)?;
        }
        *handed() = Some(Handed { groups: [group, leader], before });
        // From the background, if it is another group's now: who has blocked SIGTTOU is not stopped for it.
        if let Some(saved) = saved {
            terminal::set_modes(number, &with_saved(before, saved))?;
        }
        terminal::size(number)
    });
    size.is_ok_and(|size| saved.is_some_and(|saved| (saved.rows, saved.columns) != (size.rows, size.columns)))
}

/// The pod's group that is in the foreground, if that is another than zap-restart's.
pub fn front() -> Option<RealPid> {
    let own = process::getpgrp();
    let is_handed = handed().is_some();
    process::foreground().filter(|group| is_handed && *group != own)
}

/// Puts `group` into the foreground again, when a shell has stopped zap-restart and put it there (fg). False for one that it
/// lets run in the background.
pub fn return_to(group: RealPid) -> bool {
    process::foreground() == Some(process::getpgrp())
        && terminal::with_controlling(|number| terminal::set_foreground(number, group)).is_ok()
}

/// Puts zap-restart's own group into the foreground again, and sets the modes of before: not every caller is a shell that does. A
/// shell that has stopped the pod, or whose job in the background it is, has the terminal itself by then.
pub fn take_back() {
    let Some(Handed { groups, before }) = handed().take() else { return };
    let own = process::getpgrp();
    let is_gone = |group: RealPid| signal::kill(-group.0, 0).is_err_and(|error| error.is(libc::ESRCH));
    let is_ours = |group: &RealPid| *group == own || groups.contains(group) || is_gone(*group);
    if process::foreground().filter(is_ours).is_none() {
        return;
    }
    // From the background it would be stopped (tcsetpgrp(3)).
    let _ = signal::change_mask(libc::SIG_BLOCK, signal::bit(libc::SIGTTOU));
    let put_back = |number: RawFd| -> Result<(), SysError> {
        terminal::set_foreground(number, own)?;
        terminal::set_modes(number, &before)
    };
    let _ = terminal::with_controlling(put_back);
}

fn handed() -> std::sync::MutexGuard<'static, Option<Handed>> {
    HANDED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The modes `present` with what is the program's of them.
fn with_saved(present: Modes, saved: &Terminal) -> Modes {
    let mut modes = Modes { input: saved.input_modes, output: saved.output_modes, local: saved.local_modes, ..present };
    for (place, character) in modes.characters.iter_mut().zip(&saved.characters.0) {
        *place = *character;
    }
    modes
}
