//! The terminal that the pod was launched from: its modes while the process is in its foreground. zap-restart sets them on its own.

use crate::identity;
use alloc::string::ToString;
use zap_image::header::{self, bytes::Bytes, Terminal};
use zap_plugin::{Description, Refusal, SavedSection};
use zap_sys::{terminal, SysError};

/// The section that tells of it; `None` for a process that is not in a terminal's foreground. One that leads a session of its own
/// since a restart has no controlling terminal, but its standard streams are zap-restart's. After [`identity::save_relations`];
/// all processes stand.
pub fn section(all: &[Description]) -> Result<Option<SavedSection>, Refusal> {
    let relations = identity::relations();
    let both = |number| Ok::<_, SysError>((terminal::modes(number)?, terminal::size(number)?));
    let found = if relations.foreground.0 == 0 && relations.session == relations.group {
        all.iter().filter(|one| one.stream.is_some()).find_map(|one| both(one.fd()).ok())
    } else if relations.foreground.0 != 0 && relations.foreground == relations.group {
        // One that has been hung up meanwhile has no modes.
        terminal::with_controlling(both).ok()
    } else {
        None
    };
    let Some((modes, size)) = found else { return Ok(None) };
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
