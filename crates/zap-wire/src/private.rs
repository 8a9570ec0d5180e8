//! Directories of a pod's own (`zap-launch --private`): what stands for each lies in a directory of the pod's below the runtime
//! directory, its *store*, under the directory's number.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Where a pod with a root directory of its own sees what Zap needs: the runtime directory, and that of libzap.so.
pub const RUNTIME_INSIDE: &str = "/.zap/run";
pub const LIBRARY_INSIDE: &str = "/.zap/lib";

/// A pod's own directories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    pub by: By,
    /// Number of the store: the name of its directory, and no other pod's.
    pub store: u64,
    pub directories: Vec<Directory>,
    /// The host's directory that is the pod's root directory.
    #[serde(with = "serde_bytes")]
    pub root: Option<Vec<u8>>,
}

impl Private {
    /// Whether the pod has none.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.root.is_none()
    }
}

/// What makes the pod see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum By {
    /// libzap's wrappers give the kernel other paths.
    #[default]
    Names,
    /// A mount namespace (mount_namespaces(7)) of the pod's own.
    Namespaces,
    /// The same, with a root directory of its own ([`Private::root`]).
    Root,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute, without symbolic links and without a slash at the end.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// It has begun as a copy of the host's.
    pub copied: bool,
}

/// What [`encode`] begins with.
const LETTERS: [(u8, By); 3] = [(b'n', By::Names), (b's', By::Namespaces), (b'r', By::Root)];

/// As it stands in the pod's table: how, the path of the store, with [`By::Root`] that of the root directory, those of the
/// directories, each with a NUL behind it, and one more. Nothing for no directories.
pub fn encode(private: &Private, store: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    if !private.is_empty() {
        text.extend(LETTERS.iter().find(|(_, by)| *by == private.by).map(|(letter, _)| *letter));
        let root = private.root.as_deref().filter(|_| private.by == By::Root);
        let paths = private.directories.iter().map(|directory| &*directory.path);
        for path in core::iter::once(store).chain(root).chain(paths) {
            text.extend_from_slice(path);
            text.push(0);
        }
        text.push(0);
    }
    text
}

/// What [`decode`] reads: how, the paths of the store and of the root directory, and those of the directories.
pub type Decoded<'a, Paths> = (By, &'a [u8], Option<&'a [u8]>, Paths);

/// Reads what [`encode`] has written.
pub fn decode(text: &[u8]) -> Option<Decoded<'_, impl Iterator<Item = &[u8]> + Clone>> {
    let (how, paths) = text.split_first()?;
    let by = LETTERS.iter().find(|(letter, _)| letter == how)?.1;
    let mut paths = paths.split(|c| *c == 0);
    let store = paths.next().filter(|path| !path.is_empty())?;
    let root = if by == By::Root { Some(paths.next().filter(|path| !path.is_empty())?) } else { None };
    Some((by, store, root, paths.take_while(|path| !path.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn texts_round_trip() {
        let directory = |path: &str| Directory { path: path.into(), copied: false };
        for by in [By::Names, By::Namespaces, By::Root] {
            let root = Some(b"/srv/tree".to_vec()).filter(|_| by == By::Root);
            let directories = vec![directory("/tmp"), directory("/var/run")];
            let private = Private { by, store: 1, directories, root: root.clone() };
            let mut text = encode(&private, b"/run/zap/private/1");
            text.extend_from_slice(&[0; 100]);
            let (found, store, found_root, directories) = decode(&text).unwrap();
            assert_eq!((found, store, found_root), (by, &b"/run/zap/private/1"[..], root.as_deref()));
            assert_eq!(directories.collect::<Vec<_>>(), [&b"/tmp"[..], b"/var/run"]);
        }
        assert!(encode(&Private::default(), b"/store").is_empty());
        assert!(decode(&[0; 10]).is_none() && decode(&[]).is_none() && decode(b"n\0\0").is_none());
    }
}
