//! How the named sockets of a pod are made again: what each process tells of its own ([`Note`]), and the plan that the
//! one who makes them all derives from it. Pure.
//!
//! Every name in a plan is the pod's: one of its sockets has it, or has been accepted under it. Ends whose other end was a
//! stranger's are refused, since only a name that is the stranger's would let them tell what they told.

use crate::diag::{Bound, File};
use crate::names::{self, Address, AtPath};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::Refusal;

/// User and group (SO_PEERCRED).
pub(crate) type Ids = (u32, u32);

/// What is told of a socket to whoever makes it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub inode: u32,
    pub kind: i32,
    pub role: Role,
    /// As [`crate::diag::UnixSocket::shutdown`].
    pub shutdown: u8,
    pub own: Address,
    /// The name of the other end.
    #[serde(with = "serde_bytes")]
    pub other: Vec<u8>,
    pub send_buffer: i32,
    pub ids: Ids,
    /// Of the process itself.
    pub process: Ids,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Bound,
    /// As [`crate::diag::UnixSocket::listens`].
    Listens {
        backlog: u32,
        waiting: Vec<u32>,
    },
    /// `peer` as in [`crate::diag::UnixSocket`]; `is_heard`: all that it has sent has been received.
    Connected {
        peer: u32,
        is_heard: bool,
    },
}

/// What there is for an end at the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    /// It is not connected.
    Nothing,
    /// The listener at which it waits to be accepted has not done so: the listener's inode, and its turn.
    Waits(u32, usize),
    Closed,
    /// It is closed, and nobody of the pod has its name any more: what is left is one end of a pair.
    Gone,
    /// The inode of the other end.
    End(u32),
}

/// What the leader makes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// In the order in which they are made: what needs a path for a moment only comes before what keeps it.
    pub listeners: Vec<Listener>,
}

/// A socket with a name, and who has connected to it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listener {
    pub kind: i32,
    pub address: Address,
    /// The program's own; nothing when it is there for the moment only.
    pub part: Option<u32>,
    /// Nothing when it does not listen (any more).
    pub backlog: Option<u32>,
    pub ids: Option<Ids>,
    pub accepted: Vec<Connection>,
    pub waiting: Vec<Caller>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// Nothing when it has been closed; with its send buffer.
    pub accepted: Option<(u32, i32)>,
    pub caller: Caller,
}

/// The end that has called.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// As [`Connection::accepted`].
    pub part: Option<(u32, i32)>,
    /// Empty unless it was bound.
    pub address: Address,
    /// As whom it called; nothing where nobody can ask.
    pub ids: Option<Ids>,
}

impl Plan {
    /// All names.
    pub fn addresses(&mut self) -> impl Iterator<Item = &mut Address> {
        self.listeners.iter_mut().flat_map(|listener| {
            let Listener { address, accepted, waiting, .. } = listener;
            let callers = accepted.iter_mut().map(|connection| &mut connection.caller).chain(waiting);
            core::iter::once(address).chain(callers.map(|caller| &mut caller.address))
        })
    }

    /// Who calls, in the order in which they are made, each with its type.
    pub fn callers(&self) -> impl Iterator<Item = (i32, &Caller)> {
        self.listeners.iter().flat_map(|listener| {
            let callers = listener.accepted.iter().map(|connection| &connection.caller).chain(&listener.waiting);
            callers.map(|caller| (listener.kind, caller))
        })
    }
}

/// The parts are numbered by the inodes, so that all processes number them alike: each has two, itself and, when its other
/// end is closed, that one.
pub(crate) fn part_of(inode: u32, notes: &[Note]) -> Option<u32> {
    notes.binary_search_by_key(&inode, |note| note.inode).ok().map(|index| 2 * index as u32)
}

/// What the part of an end's closed other end has more than its own.
pub(crate) const CLOSED_END: u32 = 1;

/// Both halves (RCV_SHUTDOWN, SEND_SHUTDOWN of the kernel).
const SHUT: u8 = 3;

/// All that has been told, in the order of the inodes, and where in it something is found.
pub(crate) struct Pod {
    pub notes: Vec<Note>,
    /// The inode of each listener at which somebody waits to be accepted, and whose turn it is, by the caller's inode.
    waiting: BTreeMap<u32, (u32, usize)>,
    /// Indices of those that listen, by type and name.
    listeners: BTreeMap<(i32, Vec<u8>), Vec<usize>>,
    /// For each name, and the directory where it begins, one that has it: if there is any, one that has a file there.
    names: BTreeMap<(Vec<u8>, Vec<u8>), usize>,
}

impl Pod {
    pub fn new(mut notes: Vec<Note>) -> Self {
        notes.sort_by_key(|note| note.inode);
        let (mut waiting, mut listeners, mut names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (index, note) in notes.iter().enumerate() {
            if let Role::Listens { waiting: callers, .. } = &note.role {
                waiting.extend(callers.iter().enumerate().map(|(turn, caller)| (*caller, (note.inode, turn))));
                let key = (note.kind, note.own.name.clone());
                listeners.entry(key).or_insert_with(Vec::new).push(index);
            }
            if !note.own.name.is_empty() {
                let known = names.entry((note.own.name.clone(), note.own.directory.clone())).or_insert(index);
                if note.own.place().is_some() {
                    *known = index;
                }
            }
        }
        Self { notes, waiting, listeners, names }
    }

    fn note(&self, inode: u32) -> Option<&Note> {
        part_of(inode, &self.notes).and_then(|part| self.notes.get(part as usize / 2))
    }

    /// Who listens under this name, and if that is known, has this file.
    fn listener(&self, kind: i32, name: &[u8], file: Option<File>) -> Option<&Note> {
        let all = self.listeners.get(&(kind, name.to_vec()))?.iter().filter_map(|index| self.notes.get(*index));
        let mut all = all.filter(|note| file.is_none() || note.own.file == file);
        all.next()
    }

    fn listens(&self, note: &Note) -> Option<&Note> {
        self.listener(note.kind, &note.own.name, note.own.file)
    }

    /// One that has this name, in whichever directory.
    fn named(&self, name: &[u8]) -> Option<&Note> {
        let first = (name.to_vec(), Vec::new());
        let (known, index) = self.names.range(first..).next()?;
        if known.0 == name {
            self.notes.get(*index)
        } else {
            None
        }
    }

    /// `address`, if the name can be given again without harm to what is not the pod's.
    fn usable(&self, address: &Address) -> Result<Address, Refusal> {
        if address.is_relative() && address.file.is_some() && address.place().is_none() {
            let why = "its name is relative, and its file is not in the process's working directory, \
                       or has been removed: use an absolute path";
            return Err(address.refusal(why));
        }
        if address.at_path == AtPath::Another {
            let one = self.names.get(&(address.name.clone(), address.directory.clone()));
            if one.and_then(|index| self.notes.get(*index)).and_then(|note| note.own.place()).is_none() {
                return Err(Refusal::new(
                    format!("Unix socket {}", address.shown()),
                    format!("something else has taken the place of {}", address.shown()),
                ));
            }
        }
        Ok(address.clone())
    }

    /// What there is at the other end of a socket; why it cannot be saved.
    pub fn other_of(&self, note: &Note) -> Result<Other, String> {
        match &note.role {
            Role::Bound => Ok(Other::Nothing),
            Role::Listens { waiting, .. } if waiting.contains(&0) => {
                Err("who has hung up waits at it to be accepted: not supported yet; repeat".into())
            }
            Role::Listens { waiting, .. } if waiting.iter().any(|caller| part_of(*caller, &self.notes).is_none()) => {
                Err("a process outside of the pod waits at it to be accepted; repeat".into())
            }
            Role::Listens { .. } => Ok(Other::Nothing),
            Role::Connected { peer: 0, is_heard } => match self.waiting.get(&note.inode) {
                Some((listener, turn)) if note.shutdown == 0 && *is_heard => Ok(Other::Waits(*listener, *turn)),
                Some(_) => {
                    Err("has not been accepted yet, and has sent something or shut a half: not supported yet; repeat"
                        .into())
                }
                None if note.shutdown == SHUT => match self.closed(note) {
                    Err(_) if note.own.name.is_empty() => Ok(Other::Gone),
                    closed => closed.map(|_| Other::Closed),
                },
                None => Err("waits to be accepted by a process outside of the pod".into()),
            },
            Role::Connected { peer, .. } if part_of(*peer, &self.notes).is_some() => Ok(Other::End(*peer)),
            Role::Connected { .. } => Err("is connected to a socket outside of the pod".into()),
        }
    }

    /// Where an end whose other end is closed is made: under which name, whether it is accepted there, and the name of
    /// the other end if it had called.
    fn closed(&self, note: &Note) -> Result<Closed, String> {
        let gone = || {
            let other = names::shown(&note.other);
            format!("the other end, {other}, is closed, and nobody of the pod has that name any more; close it first")
        };
        let accepts = |name: &[u8]| self.listener(note.kind, name, None);
        let is_accepted = note.other.is_empty() || self.listens(note).is_some() || accepts(&note.other).is_none();
        if note.own.name.is_empty() || !is_accepted {
            let one = accepts(&note.other).or_else(|| self.named(&note.other)).ok_or_else(gone)?;
            return Ok(Closed { is_accepted: false, address: one.own.clone(), caller: note.own.clone() });
        }
        let mut caller = Address::default();
        if !note.other.is_empty() {
            // Who has it now, and the one that is gone, would have a name without a path at the same time.
            let one = self.named(&note.other).filter(|one| one.own.has_path()).ok_or_else(gone)?;
            let has_file = one.own.place().is_some();
            if one.own.is_relative() && !has_file {
                return Err(gone());
            }
            let at_path = if has_file { AtPath::Another } else { AtPath::Nothing };
            caller = Address { at_path, file: None, ..one.own.clone() };
        }
        Ok(Closed { is_accepted: true, address: note.own.clone(), caller })
    }

    /// What makes all that is told of. `bound`: who has a name on this host.
    pub fn plan(&self, bound: impl FnOnce() -> Result<Vec<Bound>, Refusal>) -> Result<Plan, Refusal> {
        let mut plan = Plan::default();
        let part = |inode| part_of(inode, &self.notes).unwrap_or_default();
        // Indices in the plan: of the program's own by part, of the others by type, name and file.
        let (mut own, mut passing) = (BTreeMap::new(), BTreeMap::new());
        for note in &self.notes {
            let backlog = match &note.role {
                Role::Connected { .. } => continue,
                Role::Bound => None,
                Role::Listens { backlog, .. } => Some(*backlog),
            };
            own.insert(part(note.inode), plan.listeners.len());
            plan.listeners.push(Listener {
                kind: note.kind,
                address: self.usable(&note.own)?,
                part: Some(part(note.inode)),
                backlog,
                ids: backlog.map(|_| note.ids),
                accepted: Vec::new(),
                waiting: Vec::new(),
            });
        }
        let mut waiting: Vec<(usize, usize, Caller)> = Vec::new();
        for note in self.notes.iter().filter(|note| matches!(note.role, Role::Connected { .. })) {
            let refusal = |why: String| match note.own.name.is_empty() {
                true => Refusal::new(format!("Unix socket to {}", names::shown(&note.other)), why),
                false => note.own.refusal(why),
            };
            let end = |note: &Note| Some((part(note.inode), note.send_buffer));
            let (accepted, caller, address, caller_address) = match self.other_of(note).map_err(refusal)? {
                Other::Nothing | Other::Gone => continue,
                Other::Waits(listener, turn) => {
                    let address = self.usable(&note.own)?;
                    let caller = Caller { part: end(note), address, ids: Some(note.process) };
                    let place = own.get(&part(listener)).copied().unwrap_or_default();
                    waiting.push((place, turn, caller));
                    continue;
                }
                Other::Closed => match self.closed(note).map_err(refusal)? {
                    Closed { is_accepted: true, address, caller } => (Some(note), None, address, caller),
                    Closed { address, caller, .. } => (None, Some(note), address, caller),
                },
                Other::End(peer) => {
                    let Some(peer) = self.note(peer).filter(|peer| note.inode < peer.inode) else { continue };
                    // Of two names the one that is listened to, else any, but the same for both ends.
                    let has_listener = |note: &Note| self.listens(note).is_some();
                    let is_accepted = !note.own.name.is_empty()
                        && (peer.own.name.is_empty() || has_listener(note) || !has_listener(peer));
                    let (accepted, caller) = if is_accepted { (note, peer) } else { (peer, note) };
                    (Some(accepted), Some(caller), accepted.own.clone(), caller.own.clone())
                }
            };
            let connection = Connection {
                accepted: accepted.and_then(end),
                caller: Caller {
                    part: caller.and_then(end),
                    address: self.usable(&caller_address)?,
                    ids: accepted.map(|accepted| accepted.ids),
                },
            };
            let listener = self.listener(note.kind, &address.name, address.file);
            let known = listener.and_then(|listener| own.get(&part(listener.inode)));
            let key = (note.kind, address.name.clone(), address.file);
            let index = match known.or_else(|| passing.get(&key)) {
                Some(index) => *index,
                None => {
                    passing.insert(key, plan.listeners.len());
                    plan.listeners.push(Listener {
                        kind: note.kind,
                        address: self.usable(&address)?,
                        part: None,
                        backlog: None,
                        ids: caller.map(|caller| caller.ids),
                        accepted: Vec::new(),
                        waiting: Vec::new(),
                    });
                    plan.listeners.len() - 1
                }
            };
            if let Some(listener) = plan.listeners.get_mut(index) {
                listener.accepted.push(connection);
            }
        }
        waiting.sort_by_key(|(listener, turn, _)| (*listener, *turn));
        for (listener, _, caller) in waiting {
            if let Some(listener) = plan.listeners.get_mut(listener) {
                listener.waiting.push(caller);
            }
        }
        if !passing.is_empty() {
            self.refuse_strangers(&plan, &bound()?)?;
        }
        plan.listeners.sort_by_key(|listener| {
            let keeps_name = listener.part.is_some() && !listener.address.is_passing();
            (keeps_name, listener.address.place().is_some())
        });
        Ok(plan)
    }

    /// Somebody has been accepted in the pod by whom a stranger listens for.
    fn refuse_strangers(&self, plan: &Plan, bound: &[Bound]) -> Result<(), Refusal> {
        for listener in plan.listeners.iter().filter(|listener| listener.part.is_none()) {
            let address = &listener.address;
            let is_it = |one: &&Bound| match address.has_path() {
                true => address.place().is_some() && one.file.is_some() && one.file == address.file,
                false => one.name == address.name,
            };
            if bound.iter().filter(is_it).any(|one| part_of(one.inode, &self.notes).is_none()) {
                return Err(address.refusal("has been accepted for a process outside of the pod, which listens there"));
            }
        }
        Ok(())
    }
}

struct Closed {
    is_accepted: bool,
    address: Address,
    caller: Address,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Place;
    use zap_plugin::sys::libc;

    const PLACE: AtPath = AtPath::Own(Place { mode: 0o600, user: 1, group: 2 });

    /// A name's file has its own number.
    fn address(name: &str) -> Address {
        let has_path = name.starts_with(['/', 'r']);
        Address {
            name: name.as_bytes().to_vec(),
            file: has_path.then_some((name.bytes().map(u32::from).sum(), 7)),
            at_path: if has_path { PLACE } else { AtPath::Unknown },
            ..Address::default()
        }
    }

    fn note(inode: u32, role: Role, own: &str, other: &str) -> Note {
        Note {
            inode,
            kind: libc::SOCK_STREAM,
            role,
            shutdown: 0,
            own: address(own),
            other: other.as_bytes().to_vec(),
            send_buffer: inode as i32,
            ids: (inode, 0),
            process: (7, 8),
        }
    }

    fn connected(peer: u32) -> Role {
        Role::Connected { peer, is_heard: true }
    }

    fn closed(inode: u32, own: &str, other: &str) -> Note {
        Note { shutdown: 3, ..note(inode, connected(0), own, other) }
    }

    fn listens(waiting: &[u32]) -> Role {
        Role::Listens { backlog: 5, waiting: waiting.to_vec() }
    }

    fn with(note: Note, file: u32, at_path: AtPath) -> Note {
        Note { own: Address { file: Some((file, 7)), at_path, ..note.own }, ..note }
    }

    fn planned(notes: &[Note]) -> Result<Plan, Refusal> {
        Pod::new(notes.to_vec()).plan(|| Ok(Vec::new()))
    }

    /// Parts of what is accepted and of who has called, and of who waits, for each listener with its part and name.
    type Shape = Vec<(Option<u32>, String, Vec<(Option<u32>, Option<u32>)>, Vec<u32>)>;

    fn shape(notes: &[Note]) -> Shape {
        let part = |end: &Option<(u32, i32)>| end.map(|(part, _)| part);
        let ends = |one: &Connection| (part(&one.accepted), part(&one.caller.part));
        let waiting = |one: &Listener| one.waiting.iter().filter_map(|caller| part(&caller.part)).collect();
        let listeners = planned(notes).unwrap().listeners;
        listeners
            .iter()
            .map(|one| (one.part, one.address.shown(), one.accepted.iter().map(ends).collect(), waiting(one)))
            .collect()
    }

    #[test]
    fn who_is_made_through_whom() {
        let here = || note(10, listens(&[]), "/s", "");
        let table: Vec<(&str, Vec<Note>, Shape)> = vec![
            ("a listener", vec![here()], vec![(Some(0), "/s".into(), vec![], vec![])]),
            (
                "a connection to it",
                vec![here(), note(20, connected(30), "", "/s"), note(30, connected(20), "/s", "")],
                vec![(Some(0), "/s".into(), vec![(Some(4), Some(2))], vec![])],
            ),
            (
                "its listener is gone",
                vec![note(20, connected(30), "", "/s"), note(30, connected(20), "/s", "")],
                vec![(None, "/s".into(), vec![(Some(2), Some(0))], vec![])],
            ),
            (
                "closed ends: who had called, who had been accepted",
                vec![here(), closed(20, "/s", ""), closed(30, "", "/s")],
                vec![(Some(0), "/s".into(), vec![(Some(2), None), (None, Some(4))], vec![])],
            ),
            (
                "both have a name",
                vec![here(), note(20, connected(30), "/c", "/s"), note(30, connected(20), "/s", "/c")],
                vec![(Some(0), "/s".into(), vec![(Some(4), Some(2))], vec![])],
            ),
            (
                "who waits, in the order of their calls",
                vec![
                    note(10, listens(&[30, 20]), "\0s", ""),
                    note(20, connected(0), "", "\0s"),
                    note(30, connected(0), "", "\0s"),
                ],
                vec![(Some(0), "@s".into(), vec![], vec![4, 2])],
            ),
            (
                "bound, and one whose file is gone, which comes first",
                vec![note(10, Role::Bound, "/s", ""), with(note(20, listens(&[]), "/s", ""), 1, AtPath::Another)],
                vec![(Some(2), "/s".into(), vec![], vec![]), (Some(0), "/s".into(), vec![], vec![])],
            ),
            (
                "accepted by one of two listeners of that name, by its file",
                vec![
                    here(),
                    with(note(11, listens(&[]), "/s", ""), 1, AtPath::Another),
                    with(closed(20, "/s", ""), 1, AtPath::Another),
                ],
                vec![(Some(2), "/s".into(), vec![(Some(4), None)], vec![]), (Some(0), "/s".into(), vec![], vec![])],
            ),
            (
                "who called is gone, and another has its name",
                vec![
                    here(),
                    note(15, connected(25), "/c", "/s"),
                    closed(20, "/s", "/c"),
                    note(25, connected(15), "/s", "/c"),
                ],
                vec![(Some(0), "/s".into(), vec![(Some(6), Some(2)), (Some(4), None)], vec![])],
            ),
        ];
        for (name, notes, expected) in table {
            assert_eq!(shape(&notes), expected, "{name}");
        }
        let made = planned(&[here(), note(20, connected(30), "", "/s"), note(30, connected(20), "/s", "")]).unwrap();
        let Listener { backlog, ids, accepted, .. } = &made.listeners[0];
        // Each end is told of the other; buffers are each end's own.
        assert_eq!((*backlog, *ids), (Some(5), Some((10, 0))));
        assert_eq!((accepted[0].accepted, accepted[0].caller.part), (Some((4, 30)), Some((2, 20))));
        assert_eq!(accepted[0].caller.ids, Some((30, 0)));
    }

    #[test]
    fn a_worker_in_another_directory_has_the_same_listener() {
        let elsewhere = |note: Note| with(note, address("relative").file.unwrap().0, AtPath::Nothing);
        let notes = [
            note(10, listens(&[]), "relative", ""),
            note(20, connected(30), "", "relative"),
            elsewhere(note(30, connected(20), "relative", "")),
        ];
        assert_eq!(shape(&notes), [(Some(0), "relative".into(), vec![(Some(4), Some(2))], vec![])]);
    }

    #[test]
    fn what_cannot_be_made() {
        let unheard = Role::Connected { peer: 0, is_heard: false };
        let here = |waiting: &[u32]| note(10, listens(waiting), "/s", "");
        for (notes, why) in [
            (vec![note(20, connected(30), "", "/s")], "connected to a socket outside"),
            (vec![note(20, connected(0), "", "/s")], "accepted by a process outside"),
            (vec![here(&[20]), note(20, unheard, "", "/s")], "has sent something"),
            (vec![here(&[20]), Note { shutdown: 2, ..note(20, connected(0), "", "/s") }], "shut a half"),
            (vec![here(&[0])], "who has hung up waits"),
            (vec![here(&[20])], "outside of the pod waits"),
            (vec![here(&[]), closed(20, "/s", "/c")], "nobody of the pod has that name"),
            (vec![note(5, Role::Bound, "\0c", ""), here(&[]), closed(20, "/s", "\0c")], "nobody of the pod has"),
        ] {
            let pod = Pod::new(notes);
            let refused = pod.notes.iter().find_map(|note| pod.other_of(note).err());
            assert!(refused.as_ref().is_some_and(|text| text.contains(why)), "{why}: {refused:?}");
        }
        for (notes, why) in [
            (vec![with(note(10, listens(&[]), "relative", ""), 1, AtPath::Nothing)], "is relative"),
            (vec![with(note(10, listens(&[]), "relative", ""), 1, AtPath::Another)], "is relative"),
            (vec![with(note(10, listens(&[]), "/s", ""), 1, AtPath::Another)], "taken the place of /s"),
        ] {
            let refused = planned(&notes).unwrap_err().reason;
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }

    #[test]
    fn a_name_that_is_gone() {
        let pod = Pod::new(vec![closed(20, "", "/s")]);
        assert_eq!(pod.other_of(&pod.notes[0]), Ok(Other::Gone));
        assert!(pod.plan(|| Ok(Vec::new())).unwrap().listeners.is_empty());
    }

    #[test]
    fn a_stranger_s_listener_is_left_alone() {
        let stranger = |name: &str| Bound { inode: 99, name: name.as_bytes().to_vec(), file: address(name).file };
        for name in ["/s", "\0s"] {
            let pod = Pod::new(vec![closed(20, name, "")]);
            assert!(pod.plan(|| Ok(vec![stranger("/other")])).is_ok());
            let refused = pod.plan(|| Ok(vec![stranger("/other"), stranger(name)])).unwrap_err();
            assert!(refused.reason.contains("which listens there"), "{refused}");
        }
    }

    #[test]
    fn many_are_planned_in_few_steps() {
        let count = 20_000;
        let mut notes = vec![note(1, listens(&[]), "/s", "")];
        for pair in 1..=count {
            notes.push(note(2 * pair, connected(2 * pair + 1), "", "/s"));
            notes.push(note(2 * pair + 1, connected(2 * pair), "/s", ""));
        }
        // Each with each would be some minutes.
        let plan = planned(&notes).unwrap();
        assert_eq!(plan.listeners[0].accepted.len(), count as usize);
    }
}
