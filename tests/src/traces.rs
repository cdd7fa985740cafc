//! Where contents stood, how often a user put them somewhere, and who deleted them.
//!
//! From that follows what a correct mesh does not hold in the end: what a user deleted and nobody made
//! again, and a content in more files than users put it in. Nothing here knows how mesh tells a move
//! from a deletion, so it judges only where any right way comes to the same, and is
//! silent about a content as soon as something happened to it that may end in two ways.

use std::collections::{BTreeMap, BTreeSet};

use crate::mem_disk::Entry;
use crate::reference::shown;

/// What happened to one content.
#[derive(Clone, Debug, Default)]
struct Trace {
    /// Paths it was seen at, on any disk.
    paths: BTreeSet<String>,
    /// How often a user's step put it under a name: written, copied, moved.
    placed: usize,
    /// On which device a user took it away without putting anything in its place, and when.
    deleted: Option<(usize, u64)>,
    /// It may live again, by rights.
    may_live: bool,
    /// It may stand in any number of files.
    may_repeat: bool,
}

/// What happened to contents.
#[derive(Debug, Default)]
pub struct Traces {
    all: BTreeMap<Entry, Trace>,
    /// A backup came back: what was deleted since may live again, and what was moved stands twice.
    pub off: bool,
    /// Whether the device whose user acts next knows what is on its disk: before it does, what is
    /// not there is no deletion.
    pub noticed: bool,
}

/// What a user takes away in the last moment before a process ends, ms, may not be known to have been
/// there.
const MOMENT: u64 = 5_000;

type Tree = BTreeMap<String, Entry>;

fn contents(tree: &Tree) -> BTreeMap<&Entry, BTreeSet<&str>> {
    let mut out: BTreeMap<&Entry, BTreeSet<&str>> = BTreeMap::new();
    for (path, entry) in tree {
        if matches!(entry, Entry::File(_) | Entry::Link(_)) {
            out.entry(entry).or_default().insert(path);
        }
    }
    out
}

impl Traces {
    /// Follows a user's step on device `d`. `fleeting`: between two calls of mesh.
    pub fn step(&mut self, d: usize, now: u64, before: &Tree, after: &Tree, fleeting: bool) {
        let (was, is) = (contents(before), contents(after));
        let none = BTreeSet::new();
        for entry in was
            .keys()
            .chain(is.keys())
            .copied()
            .collect::<BTreeSet<_>>()
        {
            let (was, is) = (
                was.get(entry).unwrap_or(&none),
                is.get(entry).unwrap_or(&none),
            );
            let trace = self.all.entry(entry.clone()).or_default();
            let paths = was.union(is).map(|p| (*p).to_owned());
            trace.paths.extend(paths);
            trace.placed += is.difference(was).count();
            if was != is && fleeting {
                (trace.may_live, trace.may_repeat) = (true, true);
            }
            if is.is_empty() && was.iter().all(|path| !after.contains_key(*path)) {
                trace.deleted.get_or_insert((d, now));
                trace.may_live |= !self.noticed;
            }
        }
    }

    /// A content was put down once more where it stood.
    pub fn again(&mut self, entry: &Entry) {
        let trace = self.all.entry(entry.clone()).or_default();
        trace.placed += 1;
        (trace.may_live, trace.may_repeat) = (true, true);
    }

    /// A process ended; with the power, what it knew of its disk may be gone.
    pub fn ended(&mut self, d: usize, now: u64, power: bool) {
        for trace in self.all.values_mut() {
            trace.may_live |= trace
                .deleted
                .is_some_and(|(at, when)| at == d && (power || when + MOMENT > now));
        }
    }

    /// A device gave its copy up: what was deleted there the others may not have heard of.
    pub fn left(&mut self, d: usize) {
        for trace in self.all.values_mut() {
            trace.may_live |= trace.deleted.is_some_and(|(at, _)| at == d);
        }
    }

    /// A folder is merged with what the mesh has. If its device does not know all that others do,
    /// what they deleted may be new to it; what they moved, or show under another name, is.
    /// `there`: whether the mesh's tree, as the device knows it, has a content at a path.
    pub fn joined(&mut self, disk: &Tree, there: impl Fn(&str, &Entry) -> bool, knows_all: bool) {
        // A deletion that the device has not heard of is no match for what it has under the name.
        for trace in self.all.values_mut() {
            trace.may_live |= !knows_all && trace.paths.iter().any(|p| disk.contains_key(p));
        }
        for (path, entry) in disk {
            let trace = self.all.entry(entry.clone()).or_default();
            trace.paths.insert(path.clone());
            trace.may_live |= !knows_all;
            trace.placed += usize::from(!knows_all || !there(path, entry));
        }
    }

    /// What a disk shows after a loss of power nobody may have put there.
    pub fn cut(&mut self, before: &Tree, after: &Tree) {
        let (was, is) = (contents(before), contents(after));
        for (entry, paths) in is {
            if was.get(entry) != Some(&paths) {
                let trace = self.all.entry(entry.clone()).or_default();
                (trace.may_live, trace.may_repeat) = (true, true);
            }
        }
    }

    /// A user took deletions back, or made files of conflict copies.
    pub fn unsure(&mut self) {
        for trace in self.all.values_mut() {
            trace.may_live = true;
        }
    }

    /// What stands on the disks in the end and should not.
    #[must_use]
    pub fn wrong(&self, live: &[Tree]) -> Vec<String> {
        let mut out = Vec::new();
        for (entry, paths) in live.iter().take(1).flat_map(contents) {
            let judged = |t: &&Trace| !self.off && t.placed > 0;
            let Some(trace) = self.all.get(entry).filter(judged) else {
                continue;
            };
            let alone = trace.paths.len() == 1 && trace.placed == 1;
            let copied = trace.paths.iter().any(|p| p.contains("(conflict"));
            if trace.deleted.is_some() && alone && !copied && !trace.may_live {
                out.push(format!(
                    "deleted, and there again: {} at {paths:?}",
                    shown(entry)
                ));
            }
            if paths.len() > trace.placed && !trace.may_repeat {
                out.push(format!(
                    "put in {} places, stands in {paths:?}: {}",
                    trace.placed,
                    shown(entry)
                ));
            }
        }
        out
    }
}
