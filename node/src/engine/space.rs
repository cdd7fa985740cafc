//! Folders in service: adding, joining, leaving, and what each one is busy with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ownmesh_crdt::item::Content;
use ownmesh_crypto::{ContentHash, ItemId, SpaceId, SpaceSecret};
use tokio::sync::oneshot;

use super::fetch::{Fetch, Ready};
use super::group::Intent;
use super::{Effect, Engine, Event, Job, Notice, Now};
use crate::command::{AddReply, AddRequest, CommandError};
use crate::db::spaces::{self, SpaceRow};
use crate::db::{DbError, base, logs};
use crate::disk::RelPath;
use crate::disk::scan::{Found, Guard, ScanError, ScanReport, Scope};

/// How a device takes part in a space, as stored.
pub(super) const MODES: [&str; 1] = crate::command::MODES;

/// Somebody waiting for the end of a scan.
pub(super) type ScanWaiter = oneshot::Sender<Result<(), CommandError>>;

/// What the disk of a space is busy with: one thing at a time.
#[derive(Debug)]
pub(super) enum Busy {
    /// A scan; the ids it has made so far, by its numbers.
    Scan {
        job: Job,
        news: BTreeMap<u32, ItemId>,
        all: bool,
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
    /// Scan wanted next.
    pub(super) scan: Option<Scope>,
    pub(super) scan_waiters: Vec<ScanWaiter>,
    /// Whether a full scan has ended since the start.
    pub(super) scanned: bool,
    /// When the next full scan is due.
    pub(super) full_at: u64,
    /// When paths that were changing, taken or refused are looked at again.
    pub(super) retry_at: Option<u64>,
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
    /// Entries (items or copies) on their way.
    pub(super) underway: BTreeSet<ItemId>,
    /// Content that is here, staged.
    pub(super) ready: BTreeMap<ItemId, Ready>,
    /// Which entries of an item have content in `ready`.
    pub(super) staged_for: BTreeSet<(ItemId, ItemId)>,
    /// Staged files nobody wants any more, and their inode numbers.
    pub(super) unwanted: Vec<(String, u64)>,
    /// Content that a device said it does not have, until the moment it is asked again.
    pub(super) absent: BTreeMap<(ownmesh_crypto::DeviceId, ContentHash), u64>,
    pub(super) problems: BTreeMap<String, Problem>,
    /// Vector changed since it was last told.
    pub(super) ack_due: bool,
    /// The most that anybody was told is missing here, since everybody was told.
    pub(super) told_missing: u64,
    /// Deletions carried out lately: when and how many (`brake`).
    pub(super) deletions: VecDeque<(u64, u64)>,
    /// Number for names of staged files.
    pub(super) staged: u64,
    /// Last number of the list the brake has looked at.
    pub(super) brake_seen: i64,
    /// Many deletions are waiting for more: since when, and when the last came.
    pub(super) held: Option<(u64, u64)>,
}

/// Why a space that is being joined stands still: both sides are being compared.
const JOINING: &str = "joining: both sides are being compared";
/// A full scan finds what the watcher missed.
pub(super) const FULL_EVERY: u64 = 3_600_000;
/// Paths that could not be taken in or written are tried again after this time, ms.
pub(super) const RETRY: u64 = 2_000;

impl Space {
    fn new(row: SpaceRow, name: String, secret: SpaceSecret, now: Now) -> Self {
        Self {
            row,
            name,
            secret,
            busy: None,
            scan: Some(Scope::All),
            scan_waiters: Vec::new(),
            scanned: false,
            full_at: now.mono + FULL_EVERY,
            retry_at: None,
            unsynced: None,
            sync_job: None,
            steps: VecDeque::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            cursor: 0,
            again: true,
            more: false,
            fetching: BTreeMap::new(),
            underway: BTreeSet::new(),
            ready: BTreeMap::new(),
            staged_for: BTreeSet::new(),
            unwanted: Vec::new(),
            absent: BTreeMap::new(),
            problems: BTreeMap::new(),
            ack_due: false,
            told_missing: 0,
            deletions: VecDeque::new(),
            staged: 0,
            brake_seen: 0,
            held: None,
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

    pub(super) fn deadline(&self) -> Option<u64> {
        if self.busy.is_some() {
            return None;
        }
        let absent = self.absent.values().copied().min();
        self.retry_at
            .into_iter()
            .chain(absent)
            .chain(self.more.then_some(0))
            .chain(self.held.map(super::brake::held_until))
            .chain([self.full_at])
            .min()
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
                    .extend(self.ready.remove(&id).map(|r| (r.staged, r.meta.ino)));
                self.underway.remove(&id);
                self.staged_for.remove(&(*item, id));
            }
        }
    }

    pub(super) fn problem(&mut self, path: &str, kind: &'static str, reason: String, since: i64) {
        // A person reads a few hundred at most; the rest only costs memory.
        if self.problems.len() < 1_000 || self.problems.contains_key(path) {
            self.problems.entry(path.to_owned()).or_insert(Problem {
                kind,
                reason,
                since,
            });
        }
    }
}

impl Engine {
    /// Takes every space of the database into service.
    pub(super) fn open_spaces(&mut self, now: Now) -> Result<(), DbError> {
        for mut row in spaces::all(self.db.read())? {
            if row.stopped.as_deref() == Some(JOINING) {
                // Nobody consented to merging yet, and whoever was asked is gone.
                self.db.write_durable(|tx| spaces::forget(tx, row.n))?;
                continue;
            }
            // A transfer of state is asked for anew.
            (row.state_from, row.state_after) = (None, None);
            let name = self.space_name(&row.id);
            let secret = self.mesh.space_secret(&row.id);
            self.effects.push(Effect::Open {
                space: row.n,
                path: row.path.clone(),
            });
            let n = row.n;
            let mut space = Space::new(row, name, secret, now);
            if ownmesh_crdt::mutated!(LoseOutbox) {
                self.db.write(|tx| logs::drop_outbox(tx, n, i64::MAX))?;
            }
            if logs::outbox_len(self.db.read(), n)? > 0 {
                // Changes of an earlier process that nobody heard of: a loss of power may have taken
                // the bytes they name, without a trace in times and sizes. They are read once more
                // and flushed before the changes are announced.
                self.db.write(|tx| base::doubt_outbox(tx, n))?;
                space.unsynced = Some(Vec::new());
            }
            self.spaces.insert(n, space);
        }
        Ok(())
    }

    /// The name of a space, or its id where the registry has not arrived.
    pub(super) fn space_name(&self, id: &SpaceId) -> String {
        self.registry
            .view()
            .spaces
            .get(id)
            .map_or_else(|| id.to_string(), |s| s.name.clone())
    }

    /// Row number of a joined space by name.
    pub(super) fn space_by_name(&self, name: &str) -> Result<i64, CommandError> {
        self.spaces
            .values()
            .find(|s| s.name == name)
            .map(|s| s.row.n)
            .ok_or_else(|| self.no_such_space(name))
    }

    fn no_such_space(&self, name: &str) -> CommandError {
        let joined: Vec<&str> = self.spaces.values().map(|s| s.name.as_str()).collect();
        let hint = if self.registry.view().spaces.values().any(|s| s.name == name) {
            format!(
                "it exists in the mesh but not on this device; join it with: mesh add PATH --space {name}"
            )
        } else if joined.is_empty() {
            "this device has no spaces yet; make one with: mesh add PATH".to_owned()
        } else {
            format!("spaces here: {}", joined.join(", "))
        };
        CommandError::not_found("space", name).hint(hint)
    }

    /// Adds a folder whose disk is prepared (marker written, filesystem known) as a space of this
    /// name: a new one, or one the mesh has. The caller has checked paths. With `hold` only the tree
    /// is fetched; the folder is left alone until [`Engine::release`].
    ///
    /// # Errors
    /// The space is here already, or the database failed.
    pub fn add_prepared(
        &mut self,
        now: Now,
        name: &str,
        path: &str,
        mode: u8,
        fs: u64,
        hold: bool,
    ) -> Result<AddReply, CommandError> {
        let id = self.mesh.space_id(name);
        if self.spaces.values().any(|s| s.row.id == id) {
            return Err(CommandError::refused(format!(
                "the space {name} is on this device already"
            ))
            .about(name));
        }
        let joined = self.registry.view().spaces.contains_key(&id);
        let failed = |e: DbError| CommandError::failed(e.to_string());
        if !joined {
            self.found_space(now, name).map_err(CommandError::failed)?;
        }
        let n = self
            .db
            .write_durable(|tx| spaces::add(tx, &id, path, mode, fs, hold.then_some(JOINING)))
            .map_err(failed)?;
        let row = spaces::all(self.db.read())
            .map_err(failed)?
            .into_iter()
            .find(|row| row.n == n)
            .ok_or_else(|| CommandError::failed("the space was not stored"))?;
        let secret = self.mesh.space_secret(&id);
        self.effects.push(Effect::Open {
            space: n,
            path: path.to_owned(),
        });
        let mut space = Space::new(row, name.to_owned(), secret, now);
        space.ack_due = true;
        self.spaces.insert(n, space);
        // What others said of it before is old: whoever takes part answers a newcomer.
        for peer in self.peers.values_mut() {
            peer.spaces.remove(&id);
        }
        self.tell_all(n)?;
        Ok(AddReply {
            space: name.to_owned(),
            path: path.to_owned(),
            joined,
            mode: MODES[usize::from(mode).min(MODES.len() - 1)].to_owned(),
            merged: None,
        })
    }

    /// `mesh add`: checked, compared and asked about outside the engine.
    pub fn add(
        &mut self,
        request: AddRequest,
        now: Now,
        done: oneshot::Sender<Result<AddReply, CommandError>>,
    ) {
        self.seen_at = now;
        self.effects.push(Effect::Add { request, done });
    }

    /// Names and folders of the spaces here.
    pub(crate) fn taken_paths(&self) -> Vec<(String, String)> {
        self.spaces
            .values()
            .map(|s| (s.name.clone(), s.row.path.clone()))
            .collect()
    }

    /// Whether the mesh has a space of this name, as far as is known here.
    pub(crate) fn knows_space(&self, name: &str) -> bool {
        let id = self.mesh.space_id(name);
        self.registry.view().spaces.contains_key(&id)
    }

    /// Whether another device is connected.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Whether a space of this name may be added, and whether that joins one of the mesh. A name
    /// that was typed and that nobody has makes a new space.
    pub(crate) fn may_add(
        &self,
        name: &str,
        _explicit: bool,
    ) -> Result<(bool, SpaceId), CommandError> {
        let bad = name.is_empty()
            || name.len() > 64
            || name.contains(['/', ':'])
            || name.chars().any(char::is_control);
        if bad {
            return Err(
                CommandError::usage(format!("{name:?} cannot be the name of a space"))
                    .hint("1 to 64 bytes without / and :; choose one with --space NAME"),
            );
        }
        let id = self.mesh.space_id(name);
        if self.spaces.values().any(|s| s.row.id == id) {
            return Err(CommandError::refused(format!(
                "the space {name} is on this device already"
            ))
            .about(name));
        }
        Ok((self.registry.view().spaces.contains_key(&id), id))
    }

    /// Whether the tree of a held space is as complete as the connected devices can make it.
    pub(crate) fn tree_is_here(&self, name: &str) -> bool {
        let Ok(n) = self.space_by_name(name) else {
            return true;
        };
        let Some(space) = self.spaces.get(&n) else {
            return true;
        };
        let Ok(have) = logs::vector(self.db.read(), n) else {
            return false;
        };
        let mut told = false;
        for peer in self.peers.values() {
            if let Some(theirs) = peer.spaces.get(&space.row.id).filter(|s| s.joined) {
                told = true;
                // What it has not sealed yet is in its count of items, not in its vector: it
                // seals when it hears that somebody joined.
                let items = space.row.totals.items.max(0).cast_unsigned();
                if !have.covers(&theirs.vector) || items < theirs.items {
                    return false;
                }
            }
        }
        told && space.row.state_from.is_none()
    }

    /// The mesh's tree of a space: paths and contents, and the keys to compare by.
    pub(crate) fn tree_of(
        &self,
        name: &str,
    ) -> Option<(BTreeMap<String, Option<Content>>, SpaceSecret)> {
        let n = self.space_by_name(name).ok()?;
        let conn = self.db.read();
        let mut out = BTreeMap::new();
        let mut open = vec![(ItemId::ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for (id, spot) in crate::db::items::children(conn, n, &dir).ok()? {
                let Some(shown) = spot.shown else { continue };
                let path = format!("{prefix}{shown}");
                let row = crate::db::items::get(conn, n, &id).ok()??;
                let state = ownmesh_crdt::item::ItemState::from_registers(&row.doc.regs)?;
                out.insert(path.clone(), state.content().cloned());
                if spot.kind == Some(ownmesh_crdt::item::Kind::Dir) {
                    open.push((id, format!("{path}/")));
                }
            }
        }
        Some((out, self.spaces.get(&n)?.secret.clone()))
    }

    /// Lets a held space go on: its folder and the mesh are merged.
    pub(crate) fn release(&mut self, name: &str, now: Now) {
        if let Ok(n) = self.space_by_name(name) {
            if let Err(error) = self.set_stopped(n, None) {
                tracing::error!(%error, "the space could not be released");
            }
            self.nudge(now);
        }
    }

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

    /// Leaves a space: forgets it here, keeps the files.
    ///
    /// # Errors
    /// No such space.
    pub fn leave(&mut self, name: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        self.db
            .write_durable(|tx| spaces::forget(tx, n))
            .map_err(failed)?;
        if let Some(space) = self.spaces.remove(&n) {
            self.effects.push(Effect::Close { space: n });
            self.say_left(&space.row.id);
            // Whoever joins again begins a log that nobody has seen any of.
            self.incarnation = None;
            for peer in self.peers.values_mut() {
                peer.spaces.remove(&space.row.id);
            }
        }
        Ok(())
    }

    /// Changes how this device takes part.
    ///
    /// # Errors
    /// No such space, no such mode.
    pub fn set_mode(&mut self, name: &str, mode: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        let mode = mode_number(mode)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        space.row.mode = mode;
        space.again = true;
        let row = space.row.clone();
        self.db
            .write(|tx| spaces::update(tx, &row))
            .map_err(|e: DbError| CommandError::failed(e.to_string()))
    }

    /// The watcher saw something, or a peer's question showed it.
    pub(super) fn disturbed(&mut self, n: i64, dirs: Vec<RelPath>) {
        if let Some(space) = self.spaces.get_mut(&n) {
            space.want_scan((!dirs.is_empty()).then_some(dirs));
        }
    }

    /// The folder that stands there now is the space's: on this filesystem, with a new marker.
    pub fn marked(&mut self, n: i64, fs: Result<u64, String>) {
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        match fs {
            Ok(fs) => {
                space.row.fs = fs;
                space.want_scan(None);
                if let Err(error) = self.set_stopped(n, None) {
                    tracing::error!(%error, "the space could not go on");
                }
            }
            Err(reason) => {
                let wall = self.seen_at.wall;
                space.problem("", "folder", reason, wall);
            }
        }
    }

    /// Starts a scan if one is wanted and the disk is free.
    pub(super) fn start_scan(&mut self, n: i64) {
        let job = self.next_job();
        let Some(space) = self.spaces.get_mut(&n) else {
            return;
        };
        let stopped = space.row.stopped.as_deref();
        if space.busy.is_some() || stopped == Some(JOINING) {
            return;
        }
        let Some(scope) = space.scan.take() else {
            return;
        };
        let all = scope == Scope::All;
        let waiters = if all {
            std::mem::take(&mut space.scan_waiters)
        } else {
            Vec::new()
        };
        let guard = Guard {
            space: space.row.id,
            fs_id: space.row.fs,
        };
        space.busy = Some(Busy::Scan {
            job,
            news: BTreeMap::new(),
            all,
            waiters,
        });
        self.effects.push(Effect::Scan {
            space: n,
            job,
            guard,
            scope,
        });
    }

    /// Looks at a space's disk now; answers through `done` when that has ended.
    pub fn scan(&mut self, name: &str, now: Now, done: ScanWaiter) {
        match self.space_by_name(name) {
            Err(error) => drop(done.send(Err(error))),
            Ok(n) => {
                if let Some(space) = self.spaces.get_mut(&n) {
                    space.want_scan(None);
                    space.scan_waiters.push(done);
                }
                self.start_scan(n);
                drop(self.turn(now));
            }
        }
    }

    /// Findings arrived: author them.
    pub(super) fn found(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        found: Vec<Found>,
    ) -> Result<(), DbError> {
        let incarnation = self.incarnation();
        self.own_log(n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let Some(Busy::Scan {
            job: running, news, ..
        }) = &mut space.busy
        else {
            return Ok(());
        };
        if *running != job || space.row.mode == 3 {
            return Ok(());
        }
        let act = match space.row.act {
            // One act is what a person does at one go: it ends a minute after its last deletion.
            Some((act, at)) if now.wall.abs_diff(at) < 60_000 => act,
            _ => {
                let mut act = [0; 8];
                self.rng.fill_bytes(&mut act);
                act
            }
        };
        let content = found.iter().any(|f| {
            matches!(
                f,
                Found::Created {
                    content: Some(_),
                    ..
                } | Found::Edited { .. }
            )
        });
        let authored = self.tally.authored;
        let mut row = space.row.clone();
        let (secret, tally) = (&space.secret, &mut self.tally);
        let (row, news) = self.db.write(|tx| {
            let mut totals = row.totals;
            let mut made = news.clone();
            let mut author = super::author::Author {
                docs: super::docs::Docs::new(tx, n, &mut totals, tally),
                secret,
                actor: incarnation,
                act,
                news: &mut made,
                deleted: false,
            };
            for one in found {
                author.take(one)?;
            }
            if author.deleted {
                row.act = Some((act, now.wall));
            }
            row.totals = totals;
            spaces::update(tx, &row)?;
            Ok::<_, DbError>((row, made))
        })?;
        space.row = row;
        if let Some(Busy::Scan { news: kept, .. }) = &mut space.busy {
            *kept = news;
        }
        if self.tally.authored != authored {
            space.again = true;
            if content {
                space.unsynced = Some(Vec::new());
            }
        }
        Ok(())
    }

    /// A scan ended: problems are listed, a folder that is not the one it was stops the space.
    pub(super) fn scanned(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        result: Result<ScanReport, ScanError>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let (all, waiters) = match space.busy.take() {
            Some(Busy::Scan {
                job: running,
                all,
                waiters,
                ..
            }) if running == job => (all, waiters),
            other => {
                space.busy = other;
                return Ok(());
            }
        };
        space.again = true;
        let mut answer = Ok(());
        match result {
            Ok(report) => {
                if all {
                    space.problems.clear();
                    space.scanned = true;
                    space.full_at = now.mono + FULL_EVERY;
                }
                for problem in report.problems {
                    if problem.kind == crate::disk::scan::ProblemKind::Changing {
                        let dir = problem.path.parent().unwrap_or(RelPath::ROOT);
                        space.retry_at = Some(now.mono + 500);
                        space.want_scan(Some(vec![dir]));
                    }
                    let path = problem.path.to_string();
                    space.problem(&path, problem_kind(problem.kind), problem.reason, now.wall);
                }
                if space
                    .row
                    .stopped
                    .as_deref()
                    .is_some_and(|why| why.starts_with("folder"))
                {
                    self.set_stopped(n, None)?;
                }
            }
            Err(error) => {
                let reason = error.to_string();
                answer = Err(CommandError::failed(reason.clone()));
                match error {
                    ScanError::MarkerMissing
                    | ScanError::OtherFilesystem
                    | ScanError::RootMissing
                    | ScanError::Io(_) => {
                        space.retry_at = Some(now.mono + 10 * RETRY);
                        self.set_stopped(n, Some(format!("folder: {reason}")))?;
                    }
                    ScanError::Stopped => {}
                    ScanError::Base(_) => tracing::error!(%reason, "base could not be read"),
                }
            }
        }
        for waiter in waiters {
            drop(waiter.send(answer.clone()));
        }
        Ok(())
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
        let state = if why.is_some() { "stopped" } else { "idle" };
        self.notice(Notice::Space {
            space: name,
            state: state.into(),
        });
        Ok(())
    }

    /// The incarnation of this process, drawn with its first own change.
    pub(super) fn incarnation(&mut self) -> ownmesh_crypto::Incarnation {
        let rng = &mut *self.rng;
        *self
            .incarnation
            .get_or_insert_with(|| ownmesh_crypto::Incarnation::random(rng))
    }

    /// Makes this process's log known before its first change: it says who wrote what.
    pub(super) fn own_log(&mut self, n: i64) -> Result<(), DbError> {
        let incarnation = self.incarnation();
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let tag = space.secret.writer_tag(&self.device, &incarnation);
        if logs::by_tag(self.db.read(), n, &tag)?.is_none() {
            let device = self.device;
            self.db.write(|tx| {
                logs::advance(
                    tx,
                    n,
                    &tag,
                    (&device, &incarnation),
                    0,
                    &ownmesh_crypto::BatchHash::ZERO,
                    1,
                )
            })?;
        }
        Ok(())
    }

    /// Handles an event and passes over its errors: for callers that answer to a person.
    pub(crate) fn nudge(&mut self, now: Now) {
        if let Err(error) = self.handle(now, Event::Tick) {
            tracing::error!(%error, "the database failed");
        }
    }

    /// How many own changes wait to be sealed, over all spaces.
    #[must_use]
    pub fn unsealed(&self) -> u64 {
        self.spaces
            .keys()
            .filter_map(|n| logs::outbox_len(self.db.read(), *n).ok())
            .sum()
    }
}

fn problem_kind(kind: crate::disk::scan::ProblemKind) -> &'static str {
    use crate::disk::scan::ProblemKind as K;
    match kind {
        K::Unreadable => "unreadable",
        K::Name => "name",
        K::Special => "special",
        K::Changing => "changing",
    }
}

/// A mode's number.
pub(crate) fn mode_number(mode: &str) -> Result<u8, CommandError> {
    MODES
        .iter()
        .position(|m| *m == mode)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| {
            CommandError::usage(format!("there is no mode {mode:?}"))
                .hint(format!("modes: {}", MODES.join(", ")))
        })
}
