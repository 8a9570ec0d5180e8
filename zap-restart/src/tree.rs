//! Who makes whom: the tree of processes, their sessions and process groups. Pure; `grow` does it.
//!
//! A process is in the session in which its parent was when it forked, and only setsid(2) leads out of it: so a child
//! that is in another session than its parent's was made before the parent had led its own. A session whose leader has
//! ended, and a process whose parent has, need somebody for a moment: a helper, which makes what is its own and ends.
//!
//! A child in a session in which its parent never was is an orphan whose parent is a subreaper (PR_SET_CHILD_SUBREAPER), or
//! has been one: a helper in that session makes it, and the parent adopts it as the kernel has it.

use std::collections::BTreeMap;

/// Where a process stood: virtual ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
}

/// Who forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Restart,
    Member(usize),
    Helper(usize),
}

/// A process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The process leads it.
    Own,
    /// That of a member, which leads it.
    Member(usize),
    /// That in which the pod's first process was, with others outside of the pod: zap-restart's.
    Outside,
    /// One whose leader has ended: see [`Tree::ghosts`].
    Ghost(usize),
}

/// How a process comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub maker: Maker,
    /// Made before its maker leads a session.
    pub early: bool,
    pub leads_session: bool,
    pub group: Group,
    /// Adopts what its descendants leave behind.
    pub subreaper: bool,
}

/// A process that makes others and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Helper {
    pub maker: Maker,
    /// The virtual id of the session that it leads, if it leads one.
    pub session: Option<i32>,
}

/// The whole tree, by the index of each process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub places: Vec<Place>,
    pub helpers: Vec<Helper>,
    /// Virtual ids of groups whose leaders have ended.
    pub ghosts: Vec<i32>,
    /// The session and the group of the first process, where they are not its own.
    pub outside_session: Option<i32>,
    pub outside_group: Option<i32>,
}

/// Plans the tree of `kin`, the pod's first process first. An error names the process that cannot be had again.
pub fn plan(kin: &[Kin]) -> Result<Tree, String> {
    let Some(first) = kin.first() else { return Ok(Tree::default()) };
    let index: BTreeMap<i32, usize> = kin.iter().enumerate().map(|(index, one)| (one.pid, index)).collect();
    let mut tree = Tree {
        outside_session: (!index.contains_key(&first.session)).then_some(first.session),
        outside_group: None,
        ..Tree::default()
    };
    // The group of the first process is zap-restart's, so that what is typed at the terminal reaches it, unless it has
    // a session of its own.
    if first.session != first.pid {
        tree.outside_group = Some(first.group);
    }
    let mut helpers: BTreeMap<(Option<usize>, Option<i32>), usize> = BTreeMap::new();
    for one in kin {
        let leads_session = one.session == one.pid;
        let group = if Some(one.group) == tree.outside_group && Some(one.session) == tree.outside_session {
            Group::Outside
        } else if one.group == one.pid {
            Group::Own
        } else if let Some(leader) = index.get(&one.group).filter(|leader| kin[**leader].group == one.group) {
            Group::Member(*leader)
        } else {
            let known = tree.ghosts.iter().position(|ghost| *ghost == one.group);
            Group::Ghost(known.unwrap_or_else(|| {
                tree.ghosts.push(one.group);
                tree.ghosts.len() - 1
            }))
        };
        let parent = index.get(&one.parent).copied();
        let (maker, early) = match parent {
            Some(parent) if leads_session || kin[parent].session == one.session => (Maker::Member(parent), false),
            Some(parent) if kin[parent].session == kin[parent].pid => (Maker::Member(parent), true),
            // Settled below.
            Some(parent) => (Maker::Member(parent), true),
            None if one.parent == first.parent && (leads_session || one.session == first.session) => {
                (Maker::Restart, false)
            }
            None => {
                // Its parent has ended. Somebody in its session makes a helper that makes it.
                let leader = index.get(&one.session).copied().filter(|_| !leads_session);
                let foreign = !leads_session && leader.is_none() && Some(one.session) != tree.outside_session;
                let session = foreign.then_some(one.session);
                let helper = *helpers.entry((leader, session)).or_insert_with(|| {
                    let maker = leader.map_or(Maker::Restart, Maker::Member);
                    tree.helpers.push(Helper { maker, session });
                    tree.helpers.len() - 1
                });
                (Maker::Helper(helper), false)
            }
        };
        tree.places.push(Place { maker, early, leads_session, group, subreaper: false });
    }
    tree.find_adopted(kin, &index)?;
    Ok(tree)
}

impl Tree {
    /// A child that was made before its parent led a session is in that in which the parent was made. Others that seem to
    /// be early were adopted: a helper makes them.
    fn find_adopted(&mut self, kin: &[Kin], index: &BTreeMap<i32, usize>) -> Result<(), String> {
        let mut adopted = Vec::new();
        for (at, (place, one)) in self.places.iter().zip(kin).enumerate().filter(|(_, (place, _))| place.early) {
            let Maker::Member(parent) = place.maker else { continue };
            let led = kin[parent].session == kin[parent].pid;
            if !led || self.session_at_birth(kin, parent) != Some(one.session) {
                adopted.push((at, parent));
            }
        }
        adopted.iter().for_each(|(_, parent)| self.places[*parent].subreaper = true);
        for (at, parent) in adopted {
            let session = kin[at].session;
            let unknown = || format!("process {}: how it came into session {session} is not known", kin[at].pid);
            let helper = match index.get(&session).copied() {
                Some(leader) if self.would_adopt(kin, index, leader) == Some(parent) => {
                    Helper { maker: Maker::Member(leader), session: None }
                }
                None if Some(session) != self.outside_session => {
                    Helper { maker: Maker::Member(parent), session: Some(session) }
                }
                _ => return Err(unknown()),
            };
            let known = self.helpers.iter().position(|known| *known == helper);
            // One session cannot be made in two places.
            if known.is_none() && helper.session.is_some_and(|id| self.helpers.iter().any(|of| of.session == Some(id)))
            {
                return Err(unknown());
            }
            let helper = known.unwrap_or_else(|| {
                self.helpers.push(helper);
                self.helpers.len() - 1
            });
            self.places[at] = Place { maker: Maker::Helper(helper), early: false, ..self.places[at] };
        }
        Ok(())
    }

    /// The member that adopts what a child of `from` leaves behind, `from` being alive: its nearest ancestor that is a
    /// subreaper, or itself.
    fn would_adopt(&self, kin: &[Kin], index: &BTreeMap<i32, usize>, from: usize) -> Option<usize> {
        let mut at = from;
        // What images say of parents may go round in circles.
        for _ in kin {
            if self.places[at].subreaper {
                return Some(at);
            }
            at = *index.get(&kin[at].parent)?;
        }
        None
    }

    /// The virtual id of the session in which a process is made.
    fn session_at_birth(&self, kin: &[Kin], of: usize) -> Option<i32> {
        match self.places[of].maker {
            Maker::Restart => self.outside_session,
            Maker::Helper(helper) => match self.helpers[helper] {
                Helper { session: Some(session), .. } => Some(session),
                Helper { maker: Maker::Member(leader), .. } => Some(kin[leader].session),
                _ => self.outside_session,
            },
            Maker::Member(parent) if self.places[of].early => self.session_at_birth(kin, parent),
            Maker::Member(parent) => Some(kin[parent].session),
        }
    }

    /// The members that `maker` makes, early ones or the others.
    pub fn made_by(&self, maker: Maker, early: bool) -> impl Iterator<Item = usize> + '_ {
        let is_it = move |(_, place): &(usize, &Place)| place.maker == maker && place.early == early;
        self.places.iter().enumerate().filter(is_it).map(|(index, _)| index)
    }

    /// The helpers that `maker` makes.
    pub fn helpers_of(&self, maker: Maker) -> impl Iterator<Item = usize> + '_ {
        self.helpers.iter().enumerate().filter(move |(_, helper)| helper.maker == maker).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(pid: i32, parent: i32, group: i32, session: i32) -> Kin {
        Kin { pid, parent, group, session }
    }

    #[test]
    fn table() {
        use Group::{Ghost, Member as Of, Outside, Own};
        use Maker::{Helper, Member, Restart};
        type Expected = Vec<(Maker, bool, bool, Group)>;
        let table: Vec<(&str, Vec<Kin>, Expected)> = vec![
            ("alone", vec![kin(10, 2, 10, 1)], vec![(Restart, false, false, Outside)]),
            ("its own session", vec![kin(10, 2, 10, 10)], vec![(Restart, false, true, Own)]),
            (
                "a pipeline of a script",
                vec![kin(10, 2, 10, 1), kin(11, 10, 10, 1), kin(12, 11, 10, 1)],
                vec![
                    (Restart, false, false, Outside),
                    (Member(0), false, false, Outside),
                    (Member(1), false, false, Outside),
                ],
            ),
            (
                "jobs of a shell",
                vec![kin(10, 2, 10, 1), kin(11, 10, 11, 1), kin(12, 10, 11, 1)],
                vec![
                    (Restart, false, false, Outside),
                    (Member(0), false, false, Own),
                    (Member(0), false, false, Of(1)),
                ],
            ),
            (
                "a job whose leader has ended",
                vec![kin(10, 2, 10, 1), kin(12, 10, 11, 1), kin(13, 10, 11, 1)],
                vec![
                    (Restart, false, false, Outside),
                    (Member(0), false, false, Ghost(0)),
                    (Member(0), false, false, Ghost(0)),
                ],
            ),
            (
                "a child of before setsid",
                vec![kin(10, 2, 10, 1), kin(11, 10, 11, 11), kin(12, 11, 10, 1), kin(13, 11, 11, 11)],
                vec![
                    (Restart, false, false, Outside),
                    (Member(0), false, true, Own),
                    (Member(1), true, false, Outside),
                    (Member(1), false, false, Of(1)),
                ],
            ),
            (
                "a daemon that has forked twice",
                vec![kin(10, 2, 10, 1), kin(12, 1, 11, 11)],
                vec![(Restart, false, false, Outside), (Helper(0), false, false, Ghost(0))],
            ),
            (
                "an orphan that leads a session",
                vec![kin(10, 2, 10, 1), kin(12, 1, 12, 12), kin(13, 12, 12, 12)],
                vec![(Restart, false, false, Outside), (Helper(0), false, true, Own), (Member(1), false, false, Of(1))],
            ),
            (
                "an orphan in a member's session",
                vec![kin(10, 2, 10, 10), kin(12, 1, 10, 10)],
                vec![(Restart, false, true, Own), (Helper(0), false, false, Of(0))],
            ),
            (
                "orphans of sessions whose leaders have ended, with a subreaper",
                vec![kin(10, 2, 10, 1), kin(12, 10, 11, 11), kin(13, 10, 13, 11), kin(14, 13, 13, 11)],
                vec![
                    (Restart, false, false, Outside),
                    (Helper(0), false, false, Ghost(0)),
                    (Helper(0), false, false, Own),
                    (Member(2), false, false, Of(2)),
                ],
            ),
            (
                "an orphan of a member's session, with a subreaper that leads its own",
                vec![kin(10, 2, 10, 10), kin(11, 10, 10, 10), kin(12, 11, 12, 12), kin(13, 10, 13, 12)],
                vec![
                    (Restart, false, true, Own),
                    (Member(0), false, false, Of(0)),
                    (Member(1), false, true, Own),
                    (Helper(0), false, false, Own),
                ],
            ),
        ];
        for (name, given, expected) in table {
            let tree = plan(&given).unwrap();
            let found: Expected = tree.places.iter().map(|p| (p.maker, p.early, p.leads_session, p.group)).collect();
            assert_eq!(found, expected, "{name}");
        }
        let daemon = plan(&[kin(10, 2, 10, 1), kin(12, 1, 11, 11)]).unwrap();
        assert_eq!(daemon.helpers, [super::Helper { maker: Restart, session: Some(11) }]);
        assert_eq!((daemon.ghosts, daemon.outside_session, daemon.outside_group), (vec![11], Some(1), Some(10)));
        let adopted = plan(&[kin(10, 2, 10, 10), kin(12, 1, 10, 10)]).unwrap();
        assert_eq!(adopted.helpers, [super::Helper { maker: Member(0), session: None }]);
        let of_subreaper = plan(&[kin(10, 2, 10, 1), kin(12, 10, 11, 11)]).unwrap();
        assert_eq!(of_subreaper.helpers, [super::Helper { maker: Member(0), session: Some(11) }]);
        assert_eq!(of_subreaper.places.iter().map(|place| place.subreaper).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn what_cannot_be() {
        let why = "how it came into session";
        for (name, given, expected) in [
            (
                "a session of somebody who is no descendant",
                vec![kin(10, 2, 10, 1), kin(11, 10, 11, 1), kin(12, 10, 12, 12), kin(13, 11, 13, 12)],
                format!("process 13: {why} 12 is not known"),
            ),
            (
                "a nearer subreaper",
                vec![
                    kin(10, 2, 10, 1),
                    kin(11, 10, 11, 1),
                    kin(12, 11, 12, 12),
                    kin(13, 11, 13, 12),
                    kin(14, 10, 14, 12),
                ],
                format!("process 14: {why} 12 is not known"),
            ),
            (
                "one session in two places",
                vec![kin(10, 2, 10, 1), kin(11, 10, 11, 1), kin(12, 11, 12, 9), kin(13, 10, 13, 9)],
                format!("process 13: {why} 9 is not known"),
            ),
            (
                "a circle",
                vec![kin(10, 2, 10, 1), kin(11, 12, 11, 11), kin(12, 11, 12, 1), kin(13, 10, 13, 11)],
                format!("process 13: {why} 11 is not known"),
            ),
        ] {
            assert_eq!(plan(&given).unwrap_err(), expected, "{name}");
        }
    }
}
