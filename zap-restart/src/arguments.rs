//! The command lines of zap-restart and zap-image, from which help, man page and completions are made too.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use zap_wire::restart::Moved;

/// Restart a checkpointed pod from its images
///
/// Takes image files, or directories that hold them, and of several generations restarts the newest complete one. The
/// program's standard streams become those of zap-restart, and its exit status is zap-restart's; zap-restart's own
/// failures are 125.
#[derive(Debug, Parser)]
#[command(
    name = "zap-restart",
    version = zap_client::VERSION,
    after_help = "Exit status: the program's, of which death by a signal is zap-restart's own too; 0 with --background, \
                  as soon as it runs; 125 if zap-restart itself fails, and then nothing has been started."
)]
pub struct Restart {
    /// Image files (ckpt_*.zimg) or directories of them
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Give the pod this name instead of its recorded one
    #[arg(long, value_name = "NAME")]
    pub pod: Option<String>,

    /// Return as soon as the program runs again
    #[arg(long)]
    pub background: bool,

    /// Put later images into this directory instead of the one the images are in
    #[arg(long, value_name = "DIR")]
    pub ckpt_dir: Option<PathBuf>,

    /// Read and check every page before starting, even of images that are known to be untouched
    #[arg(long)]
    pub verify: bool,

    /// What becomes of files that the program writes and that have changed since the checkpoint
    ///
    /// truncate: output files that have grown are cut back to their length at the checkpoint. keep: they stay as they are.
    /// snapshot: all that were open for writing become what they were, if they have been kept with the checkpoint
    /// (zap-launch --snapshot-files). What is cut off or replaced is put beside the images. By default they are cut back if
    /// the pod keeps its name and nobody else has them open.
    #[arg(long, value_name = "POLICY")]
    pub files: Option<Files>,

    /// The directory OLD of the checkpoint is NEW here; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = crate::moved::parse)]
    pub map: Vec<Moved>,
}

/// What becomes of files that have changed since the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Files {
    Truncate,
    Keep,
    Snapshot,
}

/// Look at checkpoint images
#[derive(Debug, Parser)]
#[command(
    name = "zap-image",
    version = zap_client::VERSION,
    after_help = "Exit status: 0 done, 1 it failed or an image is not whole, 2 usage."
)]
pub struct Image {
    #[command(subcommand)]
    pub action: Action,
}

/// What zap-image does.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print what an image holds: process, threads, descriptors, memory, files, sections, checksums
    Show(Images),
    /// Read images whole and check every checksum
    Verify(Images),
}

/// The images of either action.
#[derive(Debug, clap::Args)]
pub struct Images {
    /// Image files (ckpt_*.zimg)
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_sound() {
        Restart::command().debug_assert();
        Image::command().debug_assert();
    }

    #[test]
    fn directories_that_have_moved() {
        let given = Restart::parse_from(["zap-restart", "--map", "/a/=/b", "--map=/c=/d=e", "x.zimg"]);
        let moved = |from: &[u8], to: &[u8]| Moved { from: from.to_vec(), to: to.to_vec() };
        assert_eq!(given.map, [moved(b"/a", b"/b"), moved(b"/c", b"/d=e")]);
        for wrong in ["/a", "a=/b", "/a=b", "=/b", "/a="] {
            assert!(Restart::try_parse_from(["zap-restart", "--map", wrong, "x.zimg"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options() {
        let given = Restart::parse_from(["zap-restart", "--pod", "x", "--background", "a.zimg", "dir"]);
        assert_eq!((given.pod.as_deref(), given.background, given.images.len()), (Some("x"), true, 2));
        assert!(Restart::try_parse_from(["zap-restart"]).is_err());
    }
}
