//! Numbers of pseudo terminals: where a restart could not have the one that the program knows, it gets another, and the program
//! goes on with its own.

use crate::guard::Guard;
use crate::state;
use core::sync::atomic::{AtomicBool, Ordering};
use zap_plugin::Refusal;

/// Whether any number differs.
static DIFFER: AtomicBool = AtomicBool::new(false);

/// Whether any number differs: then, and only then, names are translated.
#[inline(always)]
pub fn differ() -> bool {
    DIFFER.load(Ordering::Relaxed)
}

/// Looks whether any number differs: at the start of a program, and when all processes of a restarted pod are whole.
pub fn look() {
    let has_any = state::table().is_some_and(|table| table.has_terminals());
    DIFFER.store(has_any, Ordering::Relaxed);
}

/// What is added to a number that is another terminal's in the pod, as often as needed.
const STEP: u32 = 4096;

/// The pod's number of /dev/pts/`real`. One that the pod has given to another terminal gets a new one, outsiders' too.
pub fn virtual_of(real: u32) -> u32 {
    if !differ() {
        return real;
    }
    let _guard = Guard::enter();
    let held = state::table();
    let Some(table) = held.as_deref() else { return real };
    if let Some(id) = table.terminal_of(real) {
        return id;
    }
    let is_free = |id: &u32| table.real_terminal_of(*id).is_none();
    let id = (0..64).map(|steps| real + steps * STEP).find(is_free).unwrap_or(real);
    if id != real {
        table.name_terminal(real, id);
    }
    id
}

/// The kernel's number of the terminal that the pod knows as `id`; `None` if it has none.
pub fn real_of(id: u32) -> Option<u32> {
    if !differ() {
        return Some(id);
    }
    let _guard = Guard::enter();
    let held = state::table();
    let Some(table) = held.as_deref() else { return Some(id) };
    // The number may be one that the pod knows by another.
    table.real_terminal_of(id).or_else(|| table.terminal_of(id).is_none().then_some(id))
}

/// Has the pod know /dev/pts/`real` as `id` (restart only).
pub fn name(real: u32, id: u32) -> Result<(), Refusal> {
    if state::table().is_some_and(|table| table.name_terminal(real, id)) {
        return Ok(());
    }
    Err(Refusal::new("pod table", "has no room for more terminals"))
}

/// The number in the path of a slave.
pub fn number_in(path: &[u8]) -> Option<u32> {
    let digits = path.strip_prefix(b"/dev/pts/")?;
    let is_number = !digits.is_empty() && digits.len() < 8 && digits.iter().all(u8::is_ascii_digit);
    (is_number && (digits.len() == 1 || digits[0] != b'0')).then(|| zap_sys::text::decimal(digits).0 as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_slaves() {
        assert_eq!(number_in(b"/dev/pts/0"), Some(0));
        assert_eq!(number_in(b"/dev/pts/4097"), Some(4097));
        for other in
            [&b"/dev/pts/"[..], b"/dev/pts/ptmx", b"/dev/pts/01", b"/dev/pts/1/", b"/dev/pts/123456789", b"dev/pts/1"]
        {
            assert_eq!(number_in(other), None);
        }
    }
}
