//! From what the disk lacks to steps on the disk, and back to base.
//!
//! The list of items that may differ (`dirty`) is gone through in order. For each item `plan` says
//! the next step; here steps are gathered into groups, contents into fetches, and their results go
//! into base. Orders kept here (ARCHITECTURE.md, order 2): staged files flushed, then `placing` rows durable,
//! then the steps, then base rows and the end of `placing` in one transaction.
//!
//! One thing at a time happens on a space's disk: a scan, a flush or a group of steps. Fetches run
//! beside them, since they only write below `.mesh/tmp`.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::item::{Content, Kind};
use ownmesh_crdt::mutated;
use ownmesh_crypto::{ContentHash, DeviceId, ItemId};

use super::author::forget_content;
use super::plan::{self, Next, Wanted};
use super::space::{Busy, RETRY};
use super::{Effect, Engine, Job, Notice, Now};
use crate::db::base::{self, Base};
use crate::db::placing::{self, Placing};
use crate::db::{Connection, DbError, chunks, dirty};
use crate::disk::base::BaseRow;
use crate::disk::hash::Chunk;
use crate::disk::perform::{Outcome, Refused, Step};
use crate::disk::{Meta, RelPath, Stat};

/// One content to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Entry it is for.
    pub id: ItemId,
    /// Its name.
    pub hash: ContentHash,
    /// Its length.
    pub size: u64,
    /// File to write below `.mesh/tmp`.
    pub staged: String,
    /// Mode and mtime the file is to have.
    pub mode: u32,
    /// ns.
    pub mtime: i64,
}

/// How a fetch of one content ended.
#[derive(Clone, Debug)]
pub struct WantResult {
    /// Entry it was for.
    pub id: ItemId,
    /// Its file as it lies staged, and its chunk list if it is large; or why not.
    pub done: Result<(Meta, Vec<Chunk>), Missed>,
}

/// Why a content was not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missed {
    /// The device does not have it (any more).
    Absent,
    /// The connection ended; another device, or the same later, may do.
    Lost,
    /// This disk has no room.
    NoSpace,
    /// This disk failed.
    Disk(String),
    /// What came was not what was asked for.
    Wrong(String),
}

/// A group of contents on their way.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) device: DeviceId,
    pub(super) wants: Vec<(Want, ItemId)>,
    pub(super) bytes: u64,
}

/// A content that is here.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// Item whose plan it belongs to.
    pub(super) item: ItemId,
    pub(super) hash: ContentHash,
    pub(super) staged: String,
    pub(super) meta: Meta,
    pub(super) chunks: Vec<Chunk>,
}

/// What a step means for base once it is done.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    /// Item whose plan it belongs to.
    item: ItemId,
    step: Step,
    then: Then,
    /// Changes in the document when it was planned: if there are no more, the item may be clean.
    changes: Option<u32>,
}

#[derive(Clone, Debug)]
enum Then {
    Put {
        wanted: Wanted,
        chunks: Vec<Chunk>,
        old: Option<Content>,
    },
    Moved {
        row: Box<Base>,
        wanted: Wanted,
    },
    Parked,
    Meta {
        row: Box<Base>,
        wanted: Wanted,
    },
    Removed {
        row: Box<Base>,
    },
}

/// Steps in one group: a crash costs at most so many to redo.
const GROUP: usize = 1_000;
/// Items planned in one turn: the engine stays answerable in between.
const TURN: usize = 2_000;
/// Contents and bytes in one fetch.
const FETCH: (usize, u64) = (256, 16 << 20);
/// Fetches under way per space.
const FETCHES: usize = 4;
/// Staged contents waiting for their turn on the disk.
const READY: usize = 4_000;
/// How long after a broken stream the same device is asked again, ms.
const LOST: u64 = 300;
/// How long a device that did not have a content is not asked for it again, ms.
const ABSENT: u64 = 5_000;

/// One planning pass: what the disk will look like after the steps gathered so far.
struct Pass<'a> {
    tx: &'a Connection,
    n: i64,
    group: Vec<Intent>,
    /// Entries as they will stand: where, or gone.
    moved: BTreeMap<ItemId, Option<(ItemId, String)>>,
    /// Names taken or freed by the group.
    names: BTreeMap<(ItemId, String), Option<ItemId>>,
    parked: BTreeSet<ItemId>,
    touched: BTreeSet<ItemId>,
}

impl Pass<'_> {
    /// Where an entry will be.
    fn path(&self, id: &ItemId) -> Result<Option<RelPath>, DbError> {
        let mut names = Vec::new();
        let mut at = *id;
        for _ in 0..4_096 {
            if at == ItemId::ROOT {
                names.reverse();
                return RelPath::parse(&names.join("/"))
                    .map(Some)
                    .map_err(|_| DbError::Damaged("name"));
            }
            let (parent, name) = match self.moved.get(&at) {
                Some(Some(place)) => place.clone(),
                Some(None) => return Ok(None),
                None => match base::get(self.tx, self.n, &at)? {
                    Some(b) => (b.row.parent, b.row.name),
                    None => return Ok(None),
                },
            };
            names.push(name);
            at = parent;
        }
        Ok(None)
    }

    /// What will stand under a name.
    fn at(&self, parent: &ItemId, name: &str) -> Result<Option<ItemId>, DbError> {
        if let Some(known) = self.names.get(&(*parent, name.to_owned())) {
            return Ok(*known);
        }
        Ok(base::at(self.tx, self.n, parent, name)?.map(|b| b.row.id))
    }

    fn place(&mut self, id: ItemId, parent: ItemId, name: &str) {
        self.names.insert((parent, name.to_owned()), Some(id));
        self.moved.insert(id, Some((parent, name.to_owned())));
    }

    fn free(&mut self, b: &Base) {
        self.names.insert((b.row.parent, b.row.name.clone()), None);
    }

    fn push(&mut self, item: ItemId, step: Step, then: Then, changes: Option<u32>) {
        self.touched.insert(*step.id());
        self.group.push(Intent {
            item,
            step,
            then,
            changes,
        });
    }
}

/// What became of planning one item.
enum Planned {
    Clean,
    Stepped,
    Fetch(Vec<Wanted>),
    /// Something else has to happen first.
    Later,
}

impl Engine {
    /// Gives the disk of a space something to do, if there is anything.
    pub(super) fn work(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        {
            let Some(space) = self.spaces.get_mut(&n) else {
                return Ok(());
            };
            space.more = false;
            if now.mono >= space.full_at {
                space.want_scan(None);
                space.full_at = now.mono + super::space::FULL_EVERY;
            }
            if space.retry_at.is_some_and(|at| now.mono >= at) {
                space.retry_at = None;
                space.again = true;
                if space.row.stopped.is_some() {
                    space.want_scan(None);
                }
            }
            let before = space.absent.len();
            space.absent.retain(|_, until| *until > now.mono);
            space.again |= space.absent.len() < before;
        }
        self.start_scan(n);
        if self
            .spaces
            .get(&n)
            .is_some_and(|s| s.again && s.row.stopped.is_some())
        {
            self.look_again(n)?;
        }
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        // Nothing is written before the first full scan: what is there must be known first.
        if space.row.stopped.is_some() || !space.scanned {
            return Ok(());
        }
        if space.busy.is_some() {
            return self.fetch_ahead(n);
        }
        let full = self.load_queue(n)?;
        if self.brake(now, n)? {
            return Ok(());
        }
        self.plan(now, n)?;
        if let Some(space) = self.spaces.get_mut(&n) {
            // What is still queued otherwise waits for a fetch that is under way.
            let rest = if space.queue.is_empty() {
                space.again || full
            } else {
                space.fetching.is_empty()
            };
            space.more = space.busy.is_none() && rest;
        }
        Ok(())
    }

    /// Reads the next part of the list. Returns whether there may be more of it.
    fn load_queue(&mut self, n: i64) -> Result<bool, DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(false);
        };
        let mut full = false;
        while space.queue.is_empty() {
            let part = dirty::after(self.db.read(), n, space.cursor, TURN)?;
            if part.is_empty() {
                if !std::mem::take(&mut space.again) || space.cursor == 0 {
                    return Ok(false);
                }
                space.cursor = 0;
                continue;
            }
            full = part.len() == TURN;
            space.cursor = part.last().map_or(0, |p| p.0);
            for (_, item) in part {
                if space.queued.insert(item) {
                    space.queue.push_back(item);
                }
            }
        }
        Ok(full)
    }

    /// While the disk is busy: asks for the contents of what comes next, so that the network does
    /// not wait for flushes. Items that need no content are put aside for the next pass.
    fn fetch_ahead(&mut self, n: i64) -> Result<(), DbError> {
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let slots = FETCHES.saturating_sub(space.fetching.len());
        let room = (slots * FETCH.0).min(READY.saturating_sub(space.ready.len()));
        let mut bytes_left = slots as u64 * FETCH.1;
        if room < FETCH.0 {
            return Ok(());
        }
        self.load_queue(n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let registry = &self.registry;
        let names = |d: &DeviceId| {
            registry
                .view()
                .devices
                .get(d)
                .map_or_else(|| d.to_string(), |e| e.name.clone())
        };
        let mut wants = Vec::new();
        for _ in 0..TURN {
            if wants.len() >= room || bytes_left == 0 {
                break;
            }
            let Some(item) = space.queue.pop_front() else {
                break;
            };
            let sides = plan::sides(self.db.read(), n, &item, &space.secret, &names)?;
            let before = wants.len();
            for next in plan::next(&sides) {
                if let Next::Make(wanted) | Next::Replace(_, wanted) = next {
                    let file = matches!(wanted.content, Some(Content::File { .. }));
                    if file
                        && !space.ready.contains_key(&wanted.id)
                        && !space.underway.contains(&wanted.id)
                    {
                        bytes_left = bytes_left.saturating_sub(wanted.bytes());
                        wants.push((item, wanted));
                    }
                }
            }
            if wants.len() == before {
                space.steps.push_back(item);
            } else {
                space.queued.remove(&item);
            }
        }
        self.start_fetches(n, wants);
        Ok(())
    }

    fn plan(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        if space.queue.is_empty() && space.steps.is_empty() {
            return Ok(());
        }
        let mut wants: Vec<(ItemId, Wanted)> = Vec::new();
        let slots = FETCHES.saturating_sub(space.fetching.len());
        let room = slots * FETCH.0;
        let mut bytes_left = slots as u64 * FETCH.1;
        let mut queue: Vec<ItemId> = Vec::new();
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        while queue.len() < TURN {
            let Some(item) = space.steps.pop_front().or_else(|| space.queue.pop_front()) else {
                break;
            };
            space.queued.remove(&item);
            queue.push(item);
        }
        let (registry, space) = (&self.registry, space);
        let names = |d: &DeviceId| {
            registry
                .view()
                .devices
                .get(d)
                .map_or_else(|| d.to_string(), |e| e.name.clone())
        };
        let mut left = Vec::new();
        let group =
            self.db.write(|tx| {
                let mut pass = Pass {
                    tx,
                    n,
                    group: Vec::new(),
                    moved: BTreeMap::new(),
                    names: BTreeMap::new(),
                    parked: BTreeSet::new(),
                    touched: BTreeSet::new(),
                };
                for item in queue {
                    if pass.group.len() >= GROUP
                        || wants.len() >= room && space.ready.is_empty()
                        || wants.len() >= READY
                    {
                        left.push(item);
                        continue;
                    }
                    let sides = plan::sides(tx, n, &item, &space.secret, &names)?;
                    match one(&mut pass, space, &item, &sides, &mut Vec::new(), &names)? {
                        Planned::Clean => dirty::clean(tx, n, &item)?,
                        Planned::Stepped | Planned::Later => {}
                        Planned::Fetch(wanted) => {
                            if wants.len() + wanted.len() <= room && bytes_left > 0 {
                                let bytes: u64 = wanted.iter().map(Wanted::bytes).sum();
                                bytes_left = bytes_left.saturating_sub(bytes);
                                wants.extend(wanted.into_iter().map(|w| (item, w)));
                            } else {
                                left.push(item);
                            }
                        }
                    }
                }
                for id in pass.parked.clone() {
                    let item = base::get(tx, n, &id)?
                        .and_then(|b| b.row.copy_of)
                        .map_or(id, |c| c.0);
                    let sides = plan::sides(tx, n, &item, &space.secret, &names)?;
                    one(&mut pass, space, &item, &sides, &mut Vec::new(), &names)?;
                }
                // An item that was parked but found no place in this pass must not stay parked.
                if let Some(cut) = pass.group.iter().position(
                    |i| matches!(&i.step, Step::Park { id, .. } if pass.parked.contains(id)),
                ) {
                    pass.group.truncate(cut);
                }
                Ok::<_, DbError>(pass.group)
            })?;
        if let Some(space) = self.spaces.get_mut(&n) {
            for item in left.into_iter().rev() {
                if space.queued.insert(item) {
                    space.steps.push_front(item);
                }
            }
            let staged = std::mem::take(&mut space.unwanted);
            if !staged.is_empty() {
                self.effects.push(Effect::Discard { space: n, staged });
            }
        }
        self.start_fetches(n, wants);
        if group.is_empty() {
            return Ok(());
        }
        self.start_group(now, n, group)
    }

    fn start_group(&mut self, now: Now, n: i64, group: Vec<Intent>) -> Result<(), DbError> {
        let staged: Vec<RelPath> = group
            .iter()
            .filter_map(|i| match &i.step {
                Step::Write { staged, .. } => {
                    Some(crate::disk::private(crate::disk::TMP).join(staged).ok()?)
                }
                _ => None,
            })
            .collect();
        if staged.is_empty() || mutated!(SwapUnflushed) {
            return self.perform_group(now, n, group);
        }
        let job = self.next_job();
        if let Some(space) = self.spaces.get_mut(&n) {
            space.busy = Some(Busy::SyncStaged { job, group });
        }
        // A handful is flushed one by one, more by one flush of the filesystem.
        let files = if staged.len() <= 8 {
            staged
        } else {
            Vec::new()
        };
        self.effects.push(Effect::Sync {
            space: n,
            job,
            files,
        });
        Ok(())
    }

    /// Staged files are flushed: now the rows, then the steps.
    pub(super) fn staged_synced(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        error: Option<String>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let group = match space.busy.take() {
            Some(Busy::SyncStaged {
                job: running,
                group,
            }) if running == job => group,
            other => {
                space.busy = other;
                return Ok(());
            }
        };
        if let Some(error) = error {
            space.problem(
                "",
                "disk",
                format!("could not be flushed: {error}"),
                now.wall,
            );
            space.retry_at = Some(now.mono + RETRY);
            return Ok(());
        }
        self.perform_group(now, n, group)
    }

    fn perform_group(&mut self, _now: Now, n: i64, group: Vec<Intent>) -> Result<(), DbError> {
        let ready = self.spaces.get(&n).map(|s| &s.ready);
        self.db.write_as(!mutated!(PlacingNotDurable), |tx| {
            for intent in &group {
                let (path, staged) = match &intent.step {
                    Step::Write { path, staged, .. } => (path.to_string(), Some(staged.clone())),
                    Step::Move { to, .. } | Step::Unpark { to, .. } => (to.to_string(), None),
                    Step::Park { from, .. } => (from.to_string(), None),
                    Step::MakeDir { path, .. }
                    | Step::Link { path, .. }
                    | Step::Remove { path, .. }
                    | Step::Meta { path, .. } => (path.to_string(), None),
                };
                let id = *intent.step.id();
                let ino = ready.and_then(|r| r.get(&id)).map_or(0, |r| r.meta.ino);
                placing::put(
                    tx,
                    n,
                    &Placing {
                        id,
                        item: intent.item,
                        path,
                        staged,
                        ino,
                    },
                )?;
            }
            Ok::<_, DbError>(())
        })?;
        let job = self.next_job();
        let steps = group.iter().map(|i| i.step.clone()).collect();
        if let Some(space) = self.spaces.get_mut(&n) {
            space.busy = Some(Busy::Perform { job, group });
        }
        self.effects.push(Effect::Perform {
            space: n,
            job,
            steps,
        });
        Ok(())
    }

    /// Steps were taken: base follows what the disk shows.
    pub(super) fn performed(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        outcomes: Vec<Outcome>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let group = match space.busy.take() {
            Some(Busy::Perform {
                job: running,
                group,
            }) if running == job => group,
            other => {
                space.busy = other;
                return Ok(());
            }
        };
        let (mut done, mut rescan, mut retry) = (0_u64, Vec::new(), false);
        let mut removed = 0_u64;
        let mut displaced = false;
        let mut problems = Vec::new();
        let metas: BTreeMap<ItemId, Meta> =
            space.ready.iter().map(|(id, r)| (*id, r.meta)).collect();
        // What was not taken out of its place still stands there, whatever became of it.
        let in_place: BTreeSet<ItemId> = group
            .iter()
            .zip(&outcomes)
            .filter(|(i, o)| matches!(i.step, Step::Park { .. }) && o.done.is_err())
            .map(|(i, _)| *i.step.id())
            .collect();
        self.db.write(|tx| {
            // Rows of moved entries first make room for one another.
            for (intent, outcome) in group.iter().zip(&outcomes) {
                if outcome.done.is_ok() && matches!(intent.then, Then::Moved { .. }) {
                    base::remove(tx, n, intent.step.id())?;
                } else if outcome.done.is_err()
                    && matches!(intent.step, Step::Unpark { .. })
                    && !in_place.contains(intent.step.id())
                {
                    // Not a deletion: it stands aside, or is made again.
                    super::recover::unparked(
                        tx,
                        n,
                        intent.step.id(),
                        outcome.done == Err(Refused::Aside),
                    )?;
                }
            }
            for (intent, outcome) in group.iter().zip(&outcomes) {
                placing::remove(tx, n, intent.step.id())?;
                match &outcome.done {
                    Ok(meta) => {
                        done += 1;
                        removed += u64::from(matches!(intent.then, Then::Removed { .. }));
                        displaced |= settle(tx, n, intent, meta.as_ref())?;
                    }
                    Err(refused) => {
                        if mutated!(BaseBeforeSwap)
                            && let Some(meta) = metas.get(intent.step.id())
                        {
                            settle(tx, n, intent, Some(meta))?;
                        }
                        let path = step_path(&intent.step);
                        match refused {
                            Refused::Aside
                            | Refused::Changed
                            | Refused::Occupied
                            | Refused::Missing
                            | Refused::NotEmpty => {
                                rescan.push(path.parent().unwrap_or(RelPath::ROOT));
                                if *refused == Refused::NotEmpty {
                                    rescan.push(path.clone());
                                }
                            }
                            _ => {
                                retry = true;
                                problems.push((path.to_string(), refused.to_string()));
                            }
                        }
                    }
                }
            }
            Ok::<_, DbError>(())
        })?;
        for (intent, outcome) in group.iter().zip(&outcomes) {
            let id = intent.step.id();
            // A content that came meanwhile waits for its own step.
            if matches!(intent.then, Then::Put { .. }) {
                space.underway.remove(id);
                space.staged_for.remove(&(intent.item, *id));
                if let Some(ready) = space.ready.remove(id)
                    && outcome.done.is_err()
                {
                    space.unwanted.push((ready.staged, ready.meta.ino));
                }
            }
            if outcome.done.is_err() {
                space.staged += 1;
            }
            if outcome.done.is_ok() {
                space.problems.remove(step_path(&intent.step).as_str());
            }
            if space.queued.insert(intent.item) {
                space.queue.push_back(intent.item);
            }
        }
        if removed > 0 {
            space.deletions.push_back((now.mono, removed));
        }
        for (path, reason) in problems {
            space.problem(&path, "disk", reason, now.wall);
        }
        if displaced {
            space.want_scan(None);
        }
        if !rescan.is_empty() {
            rescan.sort();
            rescan.dedup();
            space.want_scan(Some(rescan));
        }
        if retry {
            space.retry_at = Some(now.mono + RETRY);
        }
        space.again = true;
        space.ack_due |= done > 0;
        let name = space.name.clone();
        if done > 0 {
            self.notice(Notice::Updated {
                space: name,
                items: done,
            });
        }
        Ok(())
    }

    fn start_fetches(&mut self, n: i64, wants: Vec<(ItemId, Wanted)>) {
        if wants.is_empty() {
            return;
        }
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let id = space.row.id;
        let wall_ns = self.seen_at.wall.saturating_mul(1_000_000);
        let holders: Vec<DeviceId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.ready && p.spaces.get(&id).is_some_and(|s| s.joined))
            .map(|(d, _)| *d)
            .collect();
        let mut groups: BTreeMap<DeviceId, Vec<Fetch>> = BTreeMap::new();
        for (item, wanted) in wants {
            let Some(Content::File { size, hash }) = wanted.content else {
                continue;
            };
            // Nobody to ask: this disk itself may hold the bytes; the device then only names the job.
            let local = (holders.is_empty()
                && base::holding(self.db.read(), n, &hash, 1).is_ok_and(|b| !b.is_empty()))
            .then_some(self.device);
            let from = holders
                .iter()
                .copied()
                .find(|d| !space.absent.contains_key(&(*d, hash)))
                .or(local);
            let Some(device) = from else { continue };
            if !space.underway.insert(wanted.id) {
                continue;
            }
            // The same name at the next try, so that a large content goes on where it stopped; a new
            // one after a step that failed, whose file below `.mesh/tmp` may be the user's.
            let short: String = hash.to_string().chars().take(16).collect();
            let staged = format!("s-{short}-{}-{}", wanted.id, space.staged);
            let want = Want {
                id: wanted.id,
                hash,
                size,
                staged,
                mode: wanted.mode,
                mtime: wanted.mtime.unwrap_or(wall_ns),
            };
            let list = groups.entry(device).or_default();
            let full = list
                .last()
                .is_none_or(|f| f.wants.len() >= FETCH.0 || f.bytes >= FETCH.1);
            if full {
                list.push(Fetch {
                    device,
                    wants: Vec::new(),
                    bytes: 0,
                });
            }
            if let Some(fetch) = list.last_mut() {
                fetch.bytes += size;
                fetch.wants.push((want, item));
            }
        }
        for fetch in groups.into_values().flatten() {
            let job = self.next_job();
            let wants = fetch.wants.iter().map(|w| w.0.clone()).collect();
            self.effects.push(Effect::Fetch {
                space: n,
                job,
                device: fetch.device,
                wants,
            });
            if let Some(space) = self.spaces.get_mut(&n) {
                space.fetching.insert(job, fetch);
            }
        }
    }

    /// Contents arrived, or not.
    pub(super) fn fetched(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        results: Vec<WantResult>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(fetch) = space.fetching.remove(&job) else {
            return Ok(());
        };
        let mut trouble = Vec::new();
        for ((want, item), result) in fetch.wants.into_iter().zip(results) {
            match result.done {
                Ok((meta, chunks)) => {
                    let id = want.id;
                    space.staged_for.insert((item, id));
                    let before = space.ready.insert(
                        want.id,
                        Ready {
                            item,
                            hash: want.hash,
                            staged: want.staged,
                            meta,
                            chunks,
                        },
                    );
                    if let Some(before) = before.filter(|b| b.staged != space.ready[&id].staged) {
                        space.unwanted.push((before.staged, before.meta.ino));
                    }
                    if space.queued.insert(item) {
                        space.steps.push_back(item);
                    }
                }
                Err(missed) => {
                    space.underway.remove(&want.id);
                    match missed {
                        Missed::Lost => {
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + LOST);
                        }
                        Missed::Absent => {
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + ABSENT);
                        }
                        Missed::Wrong(reason) => {
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + 12 * ABSENT);
                            trouble.push(reason);
                        }
                        Missed::NoSpace => {
                            space.problem("", "disk", "no room left on the disk".into(), now.wall);
                            space.retry_at = Some(now.mono + 5 * RETRY);
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + 5 * RETRY);
                        }
                        Missed::Disk(reason) => {
                            space.problem("", "disk", reason, now.wall);
                            space
                                .absent
                                .insert((fetch.device, want.hash), now.mono + ABSENT);
                        }
                    }
                }
            }
        }
        space.again = true;
        for reason in trouble {
            let name = self.device_name(&fetch.device);
            self.trouble(
                "content",
                format!("{name} sent wrong content: {reason}"),
                now,
            );
        }
        Ok(())
    }
}

fn step_path(step: &Step) -> &RelPath {
    match step {
        Step::Move { to, .. } | Step::Unpark { to, .. } => to,
        Step::Park { from, .. } => from,
        Step::MakeDir { path, .. }
        | Step::Write { path, .. }
        | Step::Link { path, .. }
        | Step::Remove { path, .. }
        | Step::Meta { path, .. } => path,
    }
}

/// Base follows one step. Returns whether something else had been standing there.
fn settle(tx: &Connection, n: i64, intent: &Intent, meta: Option<&Meta>) -> Result<bool, DbError> {
    let stat = meta.map(Meta::stat);
    let mut displaced = false;
    match (&intent.then, meta, stat) {
        (
            Then::Put {
                wanted,
                chunks,
                old,
            },
            Some(meta),
            Some(stat),
        ) => {
            if let Some(Content::File { hash, .. }) = &wanted.content {
                chunks::put(tx, n, hash, chunks)?;
            }
            displaced = make_room(tx, n, wanted)?;
            base::put(tx, n, &row(wanted, meta, stat))?;
            forget_content(tx, n, old.as_ref(), wanted.content.as_ref(), &wanted.id)?;
        }
        (Then::Moved { row, wanted }, Some(meta), Some(stat)) => {
            let mut b = (**row).clone();
            b.row.parent = wanted.parent;
            b.row.name.clone_from(&wanted.name);
            b.row.seen.p.clone_from(&wanted.seen.p);
            if b.row.kind != Kind::Dir {
                b.row.stat = stat;
                b.row.mtime = meta.mtime_ns;
            }
            displaced = make_room(tx, n, wanted)?;
            base::put(tx, n, &b)?;
        }
        (Then::Meta { row, wanted }, Some(meta), Some(stat)) => {
            let mut b = (**row).clone();
            b.asked_mode = wanted.mode;
            b.asked_mtime = wanted.mtime.unwrap_or(b.asked_mtime);
            (b.row.mode, b.row.mtime, b.row.stat, b.row.racy) =
                (meta.mode, meta.mtime_ns, stat, b.row.kind == Kind::File);
            base::put(tx, n, &b)?;
        }
        (Then::Removed { row }, _, _) => {
            base::remove(tx, n, &row.row.id)?;
            forget_content(tx, n, row.row.content.as_ref(), None, &row.row.id)?;
        }
        _ => {}
    }
    if let (Some(changes), Then::Put { wanted, .. }) = (intent.changes, &intent.then) {
        // The usual case, one file that arrived: nothing happened to it meanwhile, nor to what its
        // place and life depend on.
        let same = crate::db::items::get(tx, n, &intent.item)?.is_some_and(|i| {
            i.doc.changes == changes
                && i.spot.conflict == 0
                && i.spot.alive
                && i.spot.ep == Some(wanted.parent)
                && i.spot.shown.as_deref() == Some(wanted.name.as_str())
        });
        if same && wanted.copy_of.is_none() && base::copies(tx, n, &intent.item)?.is_empty() {
            dirty::clean(tx, n, &intent.item)?;
        }
    }
    Ok(displaced)
}

/// What base still has under the name of an entry that stands there now was moved or deleted by the
/// user in the moment before. A scan finds out which: its row waits under a name that nothing has.
/// Returns whether there was one.
fn make_room(tx: &Connection, n: i64, wanted: &Wanted) -> Result<bool, DbError> {
    match base::at(tx, n, &wanted.parent, &wanted.name)? {
        Some(mut other) if other.row.id != wanted.id => {
            other.row.name = base::nowhere(&other.row.id);
            base::put(tx, n, &other)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn row(wanted: &Wanted, meta: &Meta, stat: Stat) -> Base {
    Base {
        row: BaseRow {
            id: wanted.id,
            copy_of: wanted.copy_of,
            parent: wanted.parent,
            name: wanted.name.clone(),
            kind: wanted.kind,
            content: wanted.content.clone(),
            seen: wanted.seen.clone(),
            mode: meta.mode,
            mtime: meta.mtime_ns,
            stat,
            racy: false,
        },
        asked_mode: if wanted.copy_of.is_some() {
            meta.mode
        } else {
            wanted.mode
        },
        asked_mtime: wanted.mtime.unwrap_or(meta.mtime_ns),
    }
}

/// Plans one item. `above`: items whose place waits for this one; seeing itself there means a
/// circle, which is cut by parking.
fn one(
    pass: &mut Pass<'_>,
    space: &mut super::Space,
    item: &ItemId,
    sides: &plan::Sides,
    above: &mut Vec<ItemId>,
    names: &dyn Fn(&DeviceId) -> String,
) -> Result<Planned, DbError> {
    let mut fetch = Vec::new();
    let mut out = Planned::Later;
    space.discard(item, |id, hash| sides.wants(id, hash));
    for next in plan::next(sides) {
        match next {
            Next::Clean => {
                space.discard(item, |_, _| false);
                return Ok(Planned::Clean);
            }
            Next::Rekey(old, _) if pass.touched.contains(&old) => return Ok(Planned::Later),
            Next::Rekey(old, b) => {
                base::remove(pass.tx, pass.n, &old)?;
                base::put(pass.tx, pass.n, &b)?;
                let sides = plan::sides(pass.tx, pass.n, item, &space.secret, names)?;
                return one(pass, space, item, &sides, above, names);
            }
            Next::Adopt(b) => {
                base::put(pass.tx, pass.n, &b)?;
                // Whatever else there is to do shows in the next look.
                let sides = plan::sides(pass.tx, pass.n, item, &space.secret, names)?;
                return one(pass, space, item, &sides, above, names);
            }
            Next::Make(wanted) => {
                if pass.touched.contains(&wanted.id) {
                    continue;
                }
                above.push(wanted.id);
                let free = vacate(pass, space, &wanted, above, names)?;
                above.pop();
                if !free {
                    continue;
                }
                if let Some(more) = make(pass, space, item, wanted, None, sides.changes)? {
                    fetch.push(more);
                } else {
                    out = Planned::Stepped;
                }
            }
            Next::Replace(b, wanted) => {
                if pass.touched.contains(&wanted.id) || pass.path(&b.row.id)?.is_none() {
                    continue;
                }
                if let Some(more) = make(pass, space, item, wanted, Some(&b), sides.changes)? {
                    fetch.push(more);
                } else {
                    out = Planned::Stepped;
                }
            }
            Next::Move(b, wanted) => {
                if pass.touched.contains(&wanted.id) && !pass.parked.contains(&wanted.id) {
                    continue;
                }
                above.push(wanted.id);
                let free = vacate(pass, space, &wanted, above, names)?;
                above.pop();
                if free && shift(pass, item, &b, wanted)? {
                    out = Planned::Stepped;
                }
            }
            Next::Meta(b, wanted) => {
                let Some(path) = pass.path(&b.row.id)? else {
                    continue;
                };
                if pass.touched.contains(&wanted.id) {
                    continue;
                }
                let mtime = wanted.mtime.unwrap_or(b.row.mtime);
                let step = Step::Meta {
                    id: wanted.id,
                    path,
                    mode: wanted.mode,
                    mtime,
                    expect: b.row.stat,
                };
                pass.push(*item, step, Then::Meta { row: b, wanted }, None);
                out = Planned::Stepped;
            }
            Next::Remove(b) => {
                if take_away(pass, item, b)? {
                    out = Planned::Stepped;
                }
            }
        }
    }
    Ok(if fetch.is_empty() {
        out
    } else {
        Planned::Fetch(fetch)
    })
}

/// Makes an entry whose name is free, or replaces what stands there; returns what has to be fetched first.
fn make(
    pass: &mut Pass<'_>,
    space: &mut super::Space,
    item: &ItemId,
    wanted: Wanted,
    over: Option<&Base>,
    changes: u32,
) -> Result<Option<Wanted>, DbError> {
    let Some(dir) = pass.path(&wanted.parent)? else {
        return Ok(None);
    };
    let Ok(path) = dir.join(&wanted.name) else {
        return Ok(None);
    };
    let id = wanted.id;
    let mut chunks = Vec::new();
    let step = match (&wanted.content, wanted.kind) {
        (_, Kind::Dir) => Step::MakeDir {
            id,
            path,
            mode: wanted.mode,
        },
        (Some(Content::Link { target }), _) => Step::Link {
            id,
            path,
            target: target.clone(),
            over: over.map(|b| b.row.stat),
        },
        (Some(Content::File { hash, .. }), _) => match space.ready.get(&id) {
            Some(ready) if ready.hash == *hash => {
                chunks.clone_from(&ready.chunks);
                Step::Write {
                    id,
                    path,
                    staged: ready.staged.clone(),
                    over: over.map(|b| b.row.stat),
                    mode: wanted.mode,
                    mtime: wanted.mtime.unwrap_or(ready.meta.mtime_ns),
                }
            }
            _ => return Ok((!space.underway.contains(&id)).then_some(wanted)),
        },
        (None, _) => return Ok(None),
    };
    pass.place(id, wanted.parent, &wanted.name);
    let old = over.and_then(|b| b.row.content.clone());
    pass.push(
        *item,
        step,
        Then::Put {
            wanted,
            chunks,
            old,
        },
        Some(changes),
    );
    Ok(None)
}

fn shift(pass: &mut Pass<'_>, item: &ItemId, b: &Base, wanted: Wanted) -> Result<bool, DbError> {
    let Some(dir) = pass.path(&wanted.parent)? else {
        return Ok(false);
    };
    // Into its own inside: what is above it moves first, and it in a later pass.
    let mut up = wanted.parent;
    for _ in 0..4_096 {
        if up == b.row.id {
            return Ok(false);
        }
        let parent = match pass.moved.get(&up) {
            Some(Some((parent, _))) => *parent,
            _ => match base::get(pass.tx, pass.n, &up)? {
                Some(row) => row.row.parent,
                None => break,
            },
        };
        up = parent;
    }
    let Ok(to) = dir.join(&wanted.name) else {
        return Ok(false);
    };
    let id = wanted.id;
    let step = if pass.parked.remove(&id) {
        Step::Unpark { id, to }
    } else {
        let Some(from) = pass.path(&id)? else {
            return Ok(false);
        };
        pass.free(b);
        Step::Move {
            id,
            from,
            to,
            expect: b.row.stat,
        }
    };
    pass.place(id, wanted.parent, &wanted.name);
    pass.push(
        *item,
        step,
        Then::Moved {
            row: Box::new(b.clone()),
            wanted,
        },
        None,
    );
    Ok(true)
}

fn take_away(pass: &mut Pass<'_>, item: &ItemId, b: Box<Base>) -> Result<bool, DbError> {
    let id = b.row.id;
    if pass.touched.contains(&id) {
        return Ok(false);
    }
    let Some(path) = pass.path(&id)? else {
        return Ok(false);
    };
    if b.row.kind == Kind::Dir && base::has_children(pass.tx, pass.n, &id)? {
        // Its content goes first, in a group of its own.
        return Ok(false);
    }
    pass.free(&b);
    pass.moved.insert(id, None);
    let step = Step::Remove {
        id,
        path,
        kind: b.row.kind,
        expect: b.row.stat,
    };
    pass.push(*item, step, Then::Removed { row: b }, None);
    Ok(true)
}

/// Makes the name an entry is to have free: what stands there goes its own way first, or is parked
/// if that leads in a circle. Returns false if it is not free in this pass.
fn vacate(
    pass: &mut Pass<'_>,
    space: &mut super::Space,
    wanted: &Wanted,
    above: &mut Vec<ItemId>,
    names: &dyn Fn(&DeviceId) -> String,
) -> Result<bool, DbError> {
    let Some(other) = pass.at(&wanted.parent, &wanted.name)? else {
        return Ok(true);
    };
    if other == wanted.id {
        return Ok(true);
    }
    let Some(row) = base::get(pass.tx, pass.n, &other)? else {
        return Ok(false);
    };
    if above.contains(&other) {
        return park(pass, other, &row);
    }
    if pass.touched.contains(&other) || above.len() > 64 {
        return Ok(false);
    }
    let item = row.row.copy_of.map_or(other, |c| c.0);
    let sides = plan::sides(pass.tx, pass.n, &item, &space.secret, names)?;
    above.push(other);
    let _planned = one(pass, space, &item, &sides, above, names)?;
    above.pop();
    if pass.at(&wanted.parent, &wanted.name)?.is_none() {
        return Ok(true);
    }
    // It is to go into the very directory that waits for its place, or for that of another.
    let mut goes_inside = false;
    if let Some(place) = sides.wanted.iter().find(|w| w.id == other) {
        for waiting in above.iter().chain([&wanted.id]) {
            goes_inside |= is_inside(pass, place.parent, *waiting)?;
        }
    }
    if goes_inside {
        park(pass, other, &row)
    } else {
        Ok(false)
    }
}

/// Whether the mesh's tree has a directory at or below another.
fn is_inside(pass: &Pass<'_>, dir: ItemId, outer: ItemId) -> Result<bool, DbError> {
    let mut at = dir;
    for _ in 0..4_096 {
        if at == outer {
            return Ok(true);
        }
        let spot = crate::db::items::place(pass.tx, pass.n, &at)?;
        match spot.and_then(|s| s.ep) {
            Some(up) if at != ItemId::ROOT => at = up,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Takes an entry out of its place, for the time of this group.
fn park(pass: &mut Pass<'_>, id: ItemId, row: &Base) -> Result<bool, DbError> {
    if pass.touched.contains(&id) {
        return Ok(false);
    }
    let Some(from) = pass.path(&id)? else {
        return Ok(false);
    };
    pass.free(row);
    pass.parked.insert(id);
    let item = row.row.copy_of.map_or(id, |c| c.0);
    let expect = row.row.stat;
    pass.push(item, Step::Park { id, from, expect }, Then::Parked, None);
    Ok(true)
}
