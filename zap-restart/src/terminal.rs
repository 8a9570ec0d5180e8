//! The terminal in which zap-restart runs: the pod's process group that was in the foreground at the checkpoint is again, and finds
//! the modes that it had set.

use std::sync::{Mutex, PoisonError};
use zap_image::header::Terminal;
use zap_sys::terminal::{self, Modes};
use zap_sys::{libc, process, signal, RawFd, RealPid, SysError};

/// Whom the terminal is for.
#[derive(Clone)]
pub struct Front {
    /// To be put into the foreground; `None` for a pod that leads a session of its own, which cannot have the terminal.
    pub group: Option<RealPid>,
    /// Of the pod's first process.
    pub leader: RealPid,
    pub saved: Option<Terminal>,
}

struct Handed {
    front: Front,
    /// How the terminal was before; `None` as long as it has not been handed over.
    before: Option<Modes>,
}

static HANDED: Mutex<Option<Handed>> = Mutex::new(None);

/// Puts the group into the foreground, with the modes that it had set, if zap-restart is there itself: what it was started as, a job
/// in the background say, it stays, until a shell puts it there ([`resume`]). True if the terminal is of another size than
/// the program knows.
pub fn hand_over(front: Front) -> bool {
    let own = process::getpgrp();
    let mut handed = handed();
    let handed = handed.insert(Handed { front, before: None });
    if process::foreground() != Some(own) {
        return false;
    }
    let size = terminal::with_controlling(|number| {
        let before = terminal::modes(number)?;
        if let Some(group) = handed.front.group.filter(|group| *group != own) {
            terminal::set_foreground(number, group)?;
        }
        handed.before = Some(before);
        // From the background, if it is another group's now: who has blocked SIGTTOU is not stopped for it.
        if let Some(saved) = &handed.front.saved {
            terminal::set_modes(number, &with_saved(before, saved))?;
        }
        terminal::size(number)
    });
    let is_other = |saved: &Terminal| size.is_ok_and(|size| (saved.rows, saved.columns) != (size.rows, size.columns));
    handed.front.saved.as_ref().is_some_and(is_other)
}

/// The group, another than zap-restart's, that has the terminal.
pub fn in_front() -> Option<RealPid> {
    let own = process::getpgrp();
    process::foreground().filter(|group| *group != own)
}

/// When a shell has continued zap-restart, which had stopped with the pod while `before` had the terminal: hands it over again, if
/// the shell has put zap-restart into the foreground (fg). The group that is to go on.
pub fn resume(before: Option<RealPid>) -> Option<RealPid> {
    let own = process::getpgrp();
    if process::foreground() != Some(own) {
        return None;
    }
    let front = handed().as_ref().filter(|handed| handed.before.is_none()).map(|handed| handed.front.clone());
    if let Some(front) = front {
        let group = front.group;
        hand_over(front);
        return group.filter(|group| *group != own);
    }
    let group = before.filter(|_| handed().is_some())?;
    terminal::with_controlling(|number| terminal::set_foreground(number, group)).ok().map(|()| group)
}

/// Puts zap-restart's own group into the foreground again, and sets the modes of before: not every caller is a shell that does. A
/// shell that has stopped the pod, or whose job in the background it is, has the terminal itself by then.
pub fn take_back() {
    let Some(Handed { front, before: Some(before) }) = handed().take() else { return };
    let own = process::getpgrp();
    let is_gone = |group: RealPid| signal::kill(-group.0, 0).is_err_and(|error| error.is(libc::ESRCH));
    let is_ours =
        |group: &RealPid| [Some(own), front.group, Some(front.leader)].contains(&Some(*group)) || is_gone(*group);
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
