//! Whether an image is whole: every chunk of its extents is read and compared with its checksums, and so is what belongs to it and
//! lies beside it.

use crate::image::Image;
use crate::kept::KeptFiles;
use crate::{chunks, own_directories};
use zap_client::error::Result;

/// Checks every chunk of the image.
pub fn extents(image: &Image) -> Result<()> {
    chunks::each(image, |_, _| Ok(()))
}

/// Checks the image, and what lies beside it: kept files, and what the pod's own directories held.
pub fn whole(image: &Image) -> Result<()> {
    extents(image)?;
    KeptFiles::open(std::slice::from_ref(image), None, true, true)?;
    own_directories::verify(image)
}
