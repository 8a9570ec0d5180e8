//! The terminal that the pod was launched from: its modes while the process is in its foreground. zap-restart sets them on its own.

use crate::identity;
use alloc::string::ToString;

use zap_image::header::{self, bytes::Bytes, Terminal};
use zap_plugin::{Refusal, SavedSection};
use zap_sys::terminal;

/// The section that tells of it; `None` for a process that is not in a terminal's foreground. After
/// [`identity::save_relations`]; all processes stand.
pub fn section() -> Result<Option<SavedSection>, Refusal> {
    let relations = identity::relations();
    if relations.foreground.0 == 0 || relations.foreground != relations.group {
        return Ok(None);
    }
    let both = |number| Ok((terminal::modes(number)?, terminal::size(number)?));
    // One that has been hung up meanwhile has no modes.
    let Ok((modes, size)) = terminal::with_controlling(both) else { return Ok(None) };
    let found = Terminal {
        input_modes: modes.input,
        output_modes: modes.output,
        local_modes: modes.local,
        characters: Bytes(modes.characters.to_vec()),
        rows: size.rows,
        columns: size.columns,
    };
    let (name, bytes) = (header::TERMINAL.to_string(), zap_plugin::encode(&found)?);
    Ok(Some(SavedSection { name, version: header::TERMINAL_VERSION, required: false, bytes }))
}
