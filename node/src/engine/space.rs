//! One space in service: what it knows of its folder, and what it is busy with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ownmesh_crypto::{ContentHash, DeviceId, ItemId, SpaceId, SpaceSecret};

use super::brake::Went;
use super::fetch::{self, Fetch, NoRoom, Ready};
use super::group::Intent;
use super::ignoring::Ignoring;
use super::lacking::Transfer;
use super::nowhere::Denied;
use super::pace::Pace;
use super::pause::Pause;
use super::scan::{FULL_EVERY, ScanWaiter, problem_kind};
use super::{Engine, Job, Notice, Now};
use crate::db::DbError;
use crate::db::spaces::{self, SpaceRow};
use crate::disk::RelPath;
use crate::disk::names::Traits;
use crate::disk::scan::{Guard, ProblemKind, Scope};

/// What the disk of a space is busy with: one thing at a time.
#[derive(Debug)]
pub(super) enum Busy {
    /// A scan; the ids it has made so far, by its numbers.
    Scan {
        job: Job,
        news: BTreeMap<u32, ItemId>,
        scope: Scope,
        waiters: Vec<ScanWaiter>,
    },
    /// Staged files are being flushed before they are swapped in.
    SyncStaged { job: Job, group: Vec<Intent> },
    /// Steps are being taken.
    Perform { job: Job, group: Vec<Intent> },
}

/// Something a person should know about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: &'static str,
    pub(super) reason: String,
    pub(super) since: i64,
}

/// One space in service.
#[derive(Debug)]
pub struct Space {
    pub(super) row: SpaceRow,
    /// Its name.
    pub name: String,
    pub(super) secret: SpaceSecret,
    pub(super) busy: Option<Busy>,
    /// How long it waits because the user said so.
    pub(super) paused: Option<Pause>,
    /// Scan wanted next.
    pub(super) scan: Option<Scope>,
    pub(super) scan_waiters: Vec<ScanWaiter>,
    /// Whether a full scan has ended since the start.
    pub(super) scanned: bool,
    /// When the next full scan is due.
    pub(super) full_at: u64,
    /// Why not all of the folder is watched, if it is not.
    pub(super) unwatched: Option<Problem>,
    /// When paths that were changing, taken or refused are looked at again.
    pub(super) retry_at: Option<u64>,
    /// Directories looked at once more when a file in them was given time, and when.
    pub(super) later: (BTreeSet<RelPath>, Option<u64>),
    /// Directories in which something was missing that may have moved, and when that is decided.
    pub(super) doubted: BTreeMap<RelPath, u64>,
    pub(super) pace: Pace,
    /// Own content announced next must be flushed at its source first.
    pub(super) unsynced: Option<Vec<RelPath>>,
    pub(super) sync_job: Option<Job>,
    /// Items whose next step is known to be ready: planned before the queue.
    pub(super) steps: VecDeque<ItemId>,
    /// Items to plan, in order.
    pub(super) queue: VecDeque<ItemId>,
    pub(super) queued: BTreeSet<ItemId>,
    /// Last number of the `dirty` table that was read; there may be more from here on.
    pub(super) cursor: i64,
    /// The list has to be gone through again from the start.
    pub(super) again: bool,
    /// There is more to plan than one turn took: the next follows at once.
    pub(super) more: bool,
    /// Content on its way.
    pub(super) fetching: BTreeMap<Job, Fetch>,
    /// Last number of the `dirty` table that `express` has looked at.
    pub(super) express_seen: i64,
    /// Entries (items or copies) on their way.
    pub(super) underway: BTreeSet<ItemId>,
    /// Content that is here, staged.
    pub(super) ready: BTreeMap<ItemId, Ready>,
    /// Which entries of an item have content in `ready`.
    pub(super) staged_for: BTreeSet<(ItemId, ItemId)>,
    /// Large contents of which a fetch that failed may have left a part, by item and entry.
    pub(super) begun: BTreeMap<(ItemId, ItemId), ContentHash>,
    /// Files below `.mesh/tmp` nobody wants any more.
    pub(super) unwanted: Vec<String>,
    /// Number for names of staged files.
    pub(super) staged: u64,
    /// Content that a device said it does not have, until the moment it is asked again.
    pub(super) absent: BTreeMap<(DeviceId, ContentHash), u64>,
    /// The same for as long as it says so, and since when.
    pub(super) denied: Denied,
    /// Beginnings of the contents that lie in the trash here: bytes to be had without another device.
    pub(super) kept: BTreeSet<crate::disk::trash::Front>,
    /// Conflicts that people were told of.
    pub(super) conflicts: u64,
    pub(super) problems: BTreeMap<String, Problem>,
    /// State on its way here, or what came of it before there was nobody left to ask.
    pub(super) state: Option<Transfer>,
    /// When to look who could give state.
    pub(super) seek_at: Option<u64>,
    /// Vector changed since it was last told.
    pub(super) ack_due: bool,
    /// The most that anybody was told is missing here, since everybody was told.
    pub(super) told_missing: u64,
    /// Of those, the items that others were last told are not wanted here.
    pub(super) told_unwanted: u64,
    /// What was deleted here lately because others had.
    pub(super) deletions: VecDeque<Went>,
    /// What the disk had no room for.
    pub(super) no_room: Option<NoRoom>,
    /// How many deletions the question is about that the space is stopped for.
    pub(super) asked: Option<u64>,
    /// What the filesystem of its folder does.
    pub(super) traits: Traits,
    /// Entries that the disk did not take under the name they were to have, and how often.
    pub(super) awkward: BTreeMap<ItemId, u8>,
    /// Items whose steps the disk refused.
    pub(super) refused: BTreeMap<ItemId, super::refused::Refusal>,
    /// Items with a content that no file here can hold.
    pub(super) too_large: BTreeSet<ItemId>,
    /// Last number of the list the brake has looked at.
    pub(super) brake_seen: i64,
    /// Many deletions are waiting for more: since when, and when the last came.
    pub(super) held: Option<(u64, u64)>,
    pub(super) ignoring: Ignoring,
}

/// Kind of a scan's own failure.
pub(super) const SCAN: &str = "scan";
/// Kind of what the disk refused to do.
pub(super) const DISK: &str = "disk";
/// Paths that could not be taken in or written are tried again after this time, ms.
pub(super) const RETRY: u64 = 2_000;

impl Space {
    pub(super) fn new(row: SpaceRow, name: String, secret: SpaceSecret, now: Now) -> Self {
        Self {
            row,
            name,
            secret,
            busy: None,
            paused: None,
            scan: Some(Scope::All),
            scan_waiters: Vec::new(),
            scanned: false,
            full_at: now.mono + FULL_EVERY,
            unwatched: None,
            retry_at: None,
            later: Default::default(),
            doubted: BTreeMap::new(),
            pace: Pace::default(),
            unsynced: None,
            sync_job: None,
            steps: VecDeque::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            cursor: 0,
            again: true,
            more: false,
            fetching: BTreeMap::new(),
            express_seen: 0,
            underway: BTreeSet::new(),
            ready: BTreeMap::new(),
            staged_for: BTreeSet::new(),
            unwanted: Vec::new(),
            absent: BTreeMap::new(),
            denied: Denied::default(),
            kept: BTreeSet::new(),
            conflicts: 0,
            problems: BTreeMap::new(),
            state: None,
            seek_at: None,
            ack_due: false,
            told_missing: 0,
            told_unwanted: 0,
            deletions: VecDeque::new(),
            no_room: None,
            asked: None,
            begun: BTreeMap::new(),
            staged: 0,
            traits: Traits::default(),
            awkward: BTreeMap::new(),
            refused: BTreeMap::new(),
            too_large: BTreeSet::new(),
            brake_seen: 0,
            held: None,
            ignoring: Ignoring::default(),
        }
    }

    /// The space.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.row.id
    }

    /// Its row number in the database.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.row.n
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.row.path
    }

    /// The keys its content is named with.
    #[must_use]
    pub fn secret(&self) -> &SpaceSecret {
        &self.secret
    }

    /// Whether something is under way for it, on the disk or in the network.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
            || self.sync_job.is_some()
            || !self.fetching.is_empty()
            || self.scan.is_some()
    }

    /// Why it stands still, if it does.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.row.stopped.as_deref()
    }

    /// Who gives it the state it lacks, if it lacks any.
    #[must_use]
    pub fn state_from(&self) -> Option<DeviceId> {
        self.state.as_ref().and_then(|t| t.from)
    }

    /// A device went away, or left the space: another one is asked for what it gave.
    pub(super) fn gives_no_more(&mut self, now: Now, device: &DeviceId) {
        if let Some(state) = self.state.as_mut().filter(|t| t.from == Some(*device)) {
            state.from = None;
            self.seek_at = Some(now.mono);
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        if self.busy.is_some() || self.is_paused() {
            return self.pause_ends();
        }
        let absent = self.absent.values().copied().min();
        self.retry_at
            .into_iter()
            .chain(absent)
            .chain(self.later.1)
            .chain(self.more.then_some(0))
            .chain(self.held.map(super::brake::held_until))
            .chain(self.ignoring.alone_until)
            .chain([self.full_at])
            .min()
    }

    /// The group of steps that was given out as this job: the disk is free then. Of an older job nothing
    /// is left.
    pub(super) fn group_of(&mut self, job: Job) -> Option<Vec<Intent>> {
        match self.busy.take() {
            Some(
                Busy::SyncStaged {
                    job: running,
                    group,
                }
                | Busy::Perform {
                    job: running,
                    group,
                },
            ) if running == job => Some(group),
            other => {
                self.busy = other;
                None
            }
        }
    }

    /// Asks for a scan of some directories at a time to come.
    pub(super) fn look_later(&mut self, dirs: impl IntoIterator<Item = RelPath>, at: u64) {
        self.later.0.extend(dirs);
        if !self.later.0.is_empty() {
            self.later.1 = Some(self.later.1.map_or(at, |due| due.min(at)));
        }
    }

    /// Asks for the look that decides on what was missing in these directories. It comes when it is due,
    /// however often they are looked at before.
    pub(super) fn look_again(&mut self, dirs: BTreeSet<RelPath>, at: u64) {
        for dir in dirs {
            let due = *self.doubted.entry(dir.clone()).or_insert(at);
            self.look_later([dir], due);
        }
    }

    /// Directories that a look which starts now decides on.
    pub(super) fn decided(&mut self, now: u64) -> BTreeSet<RelPath> {
        let mut due = BTreeSet::new();
        self.doubted.retain(|dir, at| {
            let waits = now < *at;
            if !waits {
                due.insert(dir.clone());
            }
            waits
        });
        due
    }

    /// Asks for a scan of a part, or of all with `None`.
    pub(super) fn want_scan(&mut self, dirs: Option<Vec<RelPath>>) {
        self.scan = Some(match (self.scan.take(), dirs) {
            (Some(Scope::All), _) | (_, None) => Scope::All,
            (None, Some(dirs)) => Scope::Dirs(dirs),
            (Some(Scope::Dirs(mut have)), Some(dirs)) => {
                for dir in dirs {
                    if !have.contains(&dir) {
                        have.push(dir);
                    }
                }
                // So many changed directories cost no less one by one.
                if have.len() > 10_000 {
                    Scope::All
                } else {
                    Scope::Dirs(have)
                }
            }
        });
    }

    /// Lets go of the staged contents of an item that are not wanted: newer ones came meanwhile, or
    /// the disk shows them already.
    pub(super) fn discard(
        &mut self,
        item: &ItemId,
        wanted: impl Fn(&ItemId, &ContentHash) -> bool,
    ) {
        let first = (*item, ItemId::from_bytes([0; 16]));
        let last = (*item, ItemId::from_bytes([0xff; 16]));
        let entries: Vec<ItemId> = self
            .staged_for
            .range(first..=last)
            .map(|(_, id)| *id)
            .collect();
        for id in entries {
            if self
                .ready
                .get(&id)
                .is_some_and(|r| r.item == *item && !wanted(&id, &r.hash))
            {
                self.unwanted
                    .extend(self.ready.remove(&id).map(|r| r.staged));
                self.underway.remove(&id);
                self.staged_for.remove(&(*item, id));
            }
        }
        let gone: Vec<_> = self
            .begun
            .range(first..=last)
            .filter(|((_, id), hash)| !wanted(id, hash))
            .map(|(key, hash)| (*key, *hash))
            .collect();
        for (key, hash) in gone {
            self.begun.remove(&key);
            self.unwanted.push(fetch::part_name(&hash, &key.1));
        }
    }

    /// Adds what could not be read in these directories: a look at a directory alone does not list a
    /// closed one in it, and so would not find again what is wrong with it.
    pub(super) fn unreadable_in(&self, dirs: &mut Vec<RelPath>) {
        let unread = problem_kind(ProblemKind::Unreadable);
        for path in self.problems.iter().filter(|(_, p)| p.kind == unread) {
            if let Ok(path) = RelPath::parse(path.0)
                && path.parent().is_some_and(|dir| dirs.contains(&dir))
                && !dirs.contains(&path)
            {
                dirs.push(path);
            }
        }
    }

    /// A part was scanned: what a scan had found wrong with it is over, or comes again with its report.
    pub(super) fn looked_at(&mut self, scope: &Scope) {
        match scope {
            Scope::All => self.problems.clear(),
            Scope::Dirs(dirs) => self.problems.retain(|path, p| {
                let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                let looked_at = !path.is_empty() && dirs.iter().any(|d| d.as_str() == dir);
                // What is wrong with a database is not said again while nothing changes in it.
                let lasts = p.kind == DISK || p.kind == problem_kind(ProblemKind::Database);
                p.kind != SCAN && (lasts || !looked_at)
            }),
        }
    }

    /// What is wrong with the disk as a whole is tried again, and comes again if it still is.
    pub(super) fn forget_disk_problem(&mut self, now: u64) {
        let full = self.no_room.as_ref().is_some_and(|full| now < full.until);
        if !full && self.problems.get("").is_some_and(|p| p.kind == DISK) {
            self.problems.remove("");
        }
    }

    /// Whether it stands still because its folder is not the one it was.
    pub(super) fn is_without_folder(&self) -> bool {
        self.stopped().is_some_and(|why| why.starts_with("folder"))
    }

    pub(super) fn problem(&mut self, path: &str, kind: &'static str, reason: String, since: i64) {
        // A person reads a few hundred at most; the rest only costs memory.
        if self.problems.len() < 1_000 || self.problems.contains_key(path) {
            // What is no file concerns nobody until it is in the way of one.
            if kind == DISK && self.problems.get(path).is_some_and(|p| p.kind == "special") {
                self.problems.remove(path);
            }
            self.problems.entry(path.to_owned()).or_insert(Problem {
                kind,
                reason,
                since,
            });
        }
    }
}

impl Engine {
    /// What must be true of a space's folder.
    pub(crate) fn guard(&self, n: i64) -> Option<Guard> {
        self.spaces.get(&n).map(|s| Guard {
            space: s.row.id,
            fs_id: s.row.fs,
        })
    }

    /// A space's id and keys.
    pub(crate) fn space_keys(&self, n: i64) -> Option<(SpaceId, SpaceSecret)> {
        self.spaces.get(&n).map(|s| (s.row.id, s.secret.clone()))
    }

    /// A space's folder.
    pub(crate) fn space_path(&self, n: i64) -> Option<String> {
        self.spaces.get(&n).map(|s| s.row.path.clone())
    }

    /// Stops a space, or lets it go on.
    pub(super) fn set_stopped(&mut self, n: i64, why: Option<String>) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        if space.row.stopped == why {
            return Ok(());
        }
        let asks = |w: &Option<String>| w.as_deref().is_some_and(|w| w.starts_with("deletions"));
        if asks(&space.row.stopped) && why.is_some() {
            // A question that waits for an answer is not forgotten over a trouble with the disk.
            return Ok(());
        }
        space.brake_seen = 0;
        space.held = None;
        space.row.stopped.clone_from(&why);
        space.again = true;
        // The others are told: a stopped device confirms nothing.
        space.ack_due = true;
        let (row, name) = (space.row.clone(), space.name.clone());
        self.db.write(|tx| spaces::update(tx, &row))?;
        if let Some(why) = row
            .stopped
            .as_deref()
            .filter(|why| *why != super::membership::JOINING)
        {
            self.write_down("stopped", None, Some(&name), why);
        }
        let state = if why.is_some() { "stopped" } else { "idle" };
        self.notice(Notice::Space {
            space: name,
            state: state.into(),
        });
        Ok(())
    }
}
