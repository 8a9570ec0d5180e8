//! What an image tells of the pod's own directories (`zap-launch --private`).

use crate::{private as known, state};
use alloc::string::ToString;
use alloc::vec::Vec;
use zap_image::header::{self, bytes::Bytes, OwnDirectories};
use zap_plugin::{Refusal, SavedSection};
use zap_wire::message::SaveOrder;
use zap_wire::private::{decode, By};

/// The section, if the pod has any.
pub fn section(order: &SaveOrder) -> Result<Option<SavedSection>, Refusal> {
    let private = &order.settings.private;
    if private.is_empty() {
        return Ok(None);
    }
    let text: Vec<u8> = state::agents_table().map(|table| table.private().collect()).unwrap_or_default();
    let Some((by, store, ..)) = decode(&text) else { return Ok(None) };
    // As it stands in the other paths of the image.
    let store = if by == By::Names { known::store() } else { store };
    let own = OwnDirectories {
        namespaces: by != By::Names,
        store: Bytes(store.to_vec()),
        directories: private.directories.iter().map(|one| (Bytes(one.path.clone()), one.copied)).collect(),
        root: private.root.clone().map(Bytes),
    };
    let bytes = zap_plugin::encode(&own)?;
    let (name, version) = (header::PRIVATE.to_string(), header::PRIVATE_VERSION);
    Ok(Some(SavedSection { name, version, required: false, bytes }))
}
