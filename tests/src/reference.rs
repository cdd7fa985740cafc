//! What a correct mesh would hold, by rules of its own.
//!
//! It knows nothing of items, changes or base. It watches disks: which bytes a user's step left
//! under a name, and which of them a later user's step wrote over or deleted on a disk that showed
//! them. Everything else has to be there in the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::mem_disk::{Entry, MemDisk};
use crate::traces::Traces;

/// What is kept of one byte version.
#[derive(Clone, Debug)]
struct Version {
    /// The step that left it.
    by: String,
    /// The step that wrote over it or deleted it where it was to be seen.
    gone: Option<String>,
    /// It may end in a trash: a process ended while it was between two names, or its very bytes had
    /// been deleted elsewhere before.
    trash_will_do: bool,
    /// Nobody has to keep it: a loss of power made it.
    torn: bool,
}

/// What was written, what may be missing, what happened.
#[derive(Debug, Default)]
pub struct Reference {
    versions: BTreeMap<Entry, Version>,
    /// Steps so far, for people.
    pub log: Vec<String>,
    /// Steps so far, for a comparison of two runs.
    pub digest: u64,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// Numbers for new contents.
    pub contents: u64,
    /// Directories in which a user acted, for the watcher: device, directory.
    pub disturbed: Vec<(usize, String)>,
    /// What users put down between the calls of the job under way.
    pub fleeting: Vec<Entry>,
    /// Virtual time, for the log.
    pub now: u64,
    /// Where contents were put, and who deleted them.
    pub traces: Traces,
}

impl Reference {
    /// Adds a line to the log.
    pub fn note(&mut self, who: &str, what: &str) {
        for byte in who.bytes().chain(what.bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.log.push(format!("{:>8} {who:<6} {what}", self.now));
    }

    /// Mixes a number into the digest only.
    pub fn mix(&mut self, n: u64) {
        self.digest = (self.digest ^ n).wrapping_mul(0x0100_0000_01b3);
    }

    /// Counts a kind of event.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Follows a user's step by what the disk showed before and after it.
    ///
    /// `again`: bytes that were put down once more, in whatever place. `fleeting`: it happened
    /// between two calls of mesh.
    pub fn step(
        &mut self,
        what: &str,
        before: &BTreeMap<String, Entry>,
        after: &BTreeMap<String, Entry>,
        again: bool,
        fleeting: bool,
    ) {
        let tally = |tree: &BTreeMap<String, Entry>| {
            let mut out: BTreeMap<Entry, usize> = BTreeMap::new();
            for entry in tree
                .values()
                .filter(|e| matches!(e, Entry::File(_) | Entry::Link(_)))
            {
                *out.entry(entry.clone()).or_default() += 1;
            }
            out
        };
        let (was, is) = (tally(before), tally(after));
        for (entry, _) in was
            .iter()
            .filter(|(e, n)| is.get(*e).is_none_or(|now| now < *n))
        {
            if let Some(version) = self.versions.get_mut(entry) {
                version.gone.get_or_insert_with(|| what.to_owned());
            }
        }
        for (entry, n) in &is {
            if *n > was.get(entry).copied().unwrap_or(0) {
                let known = self.versions.get(entry);
                let trash_will_do =
                    fleeting || again || known.is_some_and(|v| v.trash_will_do || v.gone.is_some());
                let by = what.to_owned();
                self.versions.insert(
                    entry.clone(),
                    Version {
                        by,
                        gone: None,
                        trash_will_do,
                        torn: false,
                    },
                );
            } else if fleeting {
                self.fleeting.push(entry.clone());
            }
        }
    }

    /// A process ended in the middle of steps: what users did between two of them may be caught
    /// between two names, and is brought to the trash then.
    pub fn interrupted(&mut self) {
        for entry in std::mem::take(&mut self.fleeting) {
            if let Some(version) = self.versions.get_mut(&entry) {
                version.trash_will_do = true;
            }
        }
    }

    /// The bytes were put down once more, where they stood: a deletion elsewhere may still win.
    pub fn again(&mut self, entry: &Entry, what: &str) {
        let version = Version {
            by: what.to_owned(),
            gone: None,
            trash_will_do: true,
            torn: false,
        };
        self.versions.insert(entry.clone(), version);
        self.traces.again(entry);
    }

    /// A loss of power, or a backup put back: what the disk showed may be gone, what it shows now
    /// nobody wrote.
    pub fn cut(
        &mut self,
        what: &str,
        before: &BTreeMap<String, Entry>,
        after: &BTreeMap<String, Entry>,
    ) {
        self.traces.cut(before, after);
        let kept: Vec<&Entry> = after.values().collect();
        for entry in before.values().filter(|e| !kept.contains(e)) {
            if let Some(version) = self.versions.get_mut(entry) {
                version.gone.get_or_insert_with(|| what.to_owned());
            }
        }
        for entry in after.values() {
            let torn = || Version {
                by: what.to_owned(),
                gone: None,
                trash_will_do: true,
                torn: true,
            };
            self.versions
                .entry(entry.clone())
                .or_insert_with(torn)
                .trash_will_do = true;
        }
    }

    /// A backup took the place of a folder, its trash included: what was allowed to end there is
    /// where the user put it.
    pub fn emptied(&mut self, what: &str, trash: &BTreeMap<String, Entry>) {
        for entry in trash.values() {
            if let Some(version) = self.versions.get_mut(entry)
                && version.trash_will_do
            {
                version.gone.get_or_insert_with(|| what.to_owned());
            }
        }
    }

    /// The user decided against these bytes (resolving a conflict).
    pub fn decided(&mut self, what: &str, entry: &Entry) {
        if let Some(version) = self.versions.get_mut(entry) {
            version.gone.get_or_insert_with(|| what.to_owned());
        }
    }

    /// All bytes anybody wrote.
    pub fn known(&self) -> impl Iterator<Item = &Entry> {
        self.versions.keys()
    }

    /// Names under which stands what nobody wrote.
    #[must_use]
    pub fn torn(&self, disk: &MemDisk) -> Vec<String> {
        let mut out = Vec::new();
        for (path, entry) in disk.entries() {
            if matches!(entry, Entry::File(_) | Entry::Link(_))
                && !self.versions.contains_key(&entry)
            {
                out.push(format!("{path}: {entry:?}"));
            }
        }
        out
    }

    /// What is lost, given what all disks show and all trashes hold.
    #[must_use]
    pub fn lost(
        &self,
        live: &[BTreeMap<String, Entry>],
        trash: &[BTreeMap<String, Entry>],
    ) -> Vec<String> {
        let mut out = Vec::new();
        for (entry, version) in &self.versions {
            if version.gone.is_some() || version.torn {
                continue;
            }
            let is_in = |trees: &[BTreeMap<String, Entry>]| {
                trees.iter().any(|t| t.values().any(|e| e == entry))
            };
            if is_in(live) {
                continue;
            }
            let trashed = is_in(trash);
            if trashed && version.trash_will_do {
                continue;
            }
            let mut line = String::new();
            let _ = write!(
                line,
                "{}: {} (left by: {})",
                if trashed { "only in a trash" } else { "lost" },
                shown(entry),
                version.by
            );
            out.push(line);
        }
        out
    }
}

/// An entry in a few characters.
#[must_use]
pub fn shown(entry: &Entry) -> String {
    match entry {
        Entry::File(bytes) => format!(
            "{:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(48)])
        ),
        Entry::Link(target) => format!("-> {target}"),
        Entry::Dir => "a directory".to_owned(),
        Entry::Other => "something".to_owned(),
    }
}
