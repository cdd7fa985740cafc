//! The folders in service: their disks, watchers and workers.
//!
//! Each job runs on a thread of its own and puts its result into the engine's queue; the engine
//! gives a space's disk one job at a time, fetches aside.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ownmesh_crypto::{ContentHash, DeviceId, ItemId, SpaceId, SpaceSecret};
use tokio::sync::watch as signal;

use super::Inbox;
use super::held::Held;
use super::local::{Here, NoRoad, Quiet};
use super::paced::{Pace, PacedRoad};
use super::sources::Open;
use crate::content::fetch::{FetchError, FetchInto, FetchLimits, Fetched, Want as FetchWant};
use crate::db::Db;
use crate::db::base::Reader;
use crate::disk::kept::Store;
use crate::disk::perform::{Step, perform};
use crate::disk::real::RealDisk;
use crate::disk::rules::{Rules, scan_under};
use crate::disk::scan::{Guard, Look, ScanError, Stop};
use crate::disk::watch::{Notice, Watcher};
use crate::disk::{Disk, RelPath, trash};
use crate::engine::{Engine, Event, Job, Missed, Now, Want, WantResult};
use crate::net::NetHandle;

/// One folder in service.
struct Folder {
    disk: Arc<Held>,
    id: SpaceId,
    secret: SpaceSecret,
    /// Whether it was the folder that was added when it was opened.
    right: bool,
    watcher: Arc<Mutex<Option<Watcher>>>,
    /// Turned true to end the fetches that are under way.
    rest: signal::Sender<bool>,
    /// Its trash by content.
    kept: Arc<Store>,
}

/// All of them.
pub(super) struct Folders {
    db: PathBuf,
    inbox: Inbox,
    open: BTreeMap<i64, Folder>,
}

fn worker(name: &str, work: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(work) {
        tracing::error!(%error, "no thread for a job");
    }
}

/// A job whose end the engine waits for: it hears of it even if the job panics.
fn job(
    name: &'static str,
    inbox: Inbox,
    failed: Event,
    work: impl FnOnce(&Inbox) -> Event + Send + 'static,
) {
    worker(name, move || {
        let done = catch_unwind(AssertUnwindSafe(|| work(&inbox)));
        inbox.put(done.unwrap_or_else(|_| {
            tracing::error!(name, "a job failed by a bug");
            failed
        }));
    });
}

impl Folders {
    pub(super) fn new(db: PathBuf, inbox: Inbox) -> Self {
        Self {
            db,
            inbox,
            open: BTreeMap::new(),
        }
    }

    pub(super) fn inbox(&self) -> std::sync::mpsc::SyncSender<super::Input> {
        self.inbox.0.clone()
    }

    pub(super) fn is_shut(&self, space: i64) -> bool {
        !self.open.contains_key(&space)
    }

    pub(super) fn disk(&self, space: i64) -> Option<Arc<dyn Disk>> {
        self.open
            .get(&space)
            .map(|f| f.disk.clone() as Arc<dyn Disk>)
    }

    /// The same for those who serve contents.
    pub(super) fn served(&self, space: i64) -> Option<Open> {
        let folder = self.open.get(&space)?;
        Some(Open {
            n: space,
            disk: folder.disk.clone(),
            kept: folder.kept.clone(),
            secret: folder.secret.clone(),
        })
    }

    /// Opens a folder, heals what a crash left in it, and watches it. A folder that cannot be
    /// opened stays shut; the next scan tries again and reports it.
    pub(super) fn open(&mut self, engine: &mut Engine, space: i64, path: &str, now: Now) {
        let disk = match RealDisk::open(path) {
            Ok(disk) => Arc::new(Held::new(disk)),
            Err(error) => {
                tracing::warn!(path, %error, "the folder cannot be opened");
                return;
            }
        };
        let seconds = u64::try_from(now.wall / 1_000).unwrap_or(0);
        let Some((id, secret)) = engine.space_keys(space) else {
            return;
        };
        let guard = engine.guard(space);
        // Not the folder it was (an empty mount point): touch nothing.
        if guard.is_none_or(|guard| crate::disk::scan::check(&*disk, &guard).is_err()) {
            tracing::warn!(path, "the folder is not the one that was added");
            self.open.insert(
                space,
                Folder {
                    disk,
                    id,
                    secret,
                    right: false,
                    watcher: Arc::default(),
                    rest: signal::channel(false).0,
                    kept: Arc::default(),
                },
            );
            return;
        }
        let does = disk.traits();
        if let Err(error) = &does {
            tracing::warn!(path, %error, "what the filesystem does could not be tried");
        }
        engine.folder_does(space, does.ok());
        if let Err(error) = engine.recover(space, &*disk, seconds) {
            tracing::error!(path, error, "what a crash left could not be cleared up");
            return;
        }
        let (watcher, lacking) = watch(path, space, engine.rules(space), &self.inbox);
        engine.watched(now, space, lacking);
        let kept = Arc::<Store>::default();
        self.open.insert(
            space,
            Folder {
                disk,
                id,
                secret,
                right: true,
                watcher: Arc::new(Mutex::new(watcher)),
                rest: signal::channel(false).0,
                kept,
            },
        );
    }

    /// Watches a folder anew: the system may allow more now.
    pub(super) fn watch(&self, engine: &Engine, space: i64, path: String) {
        let Some(folder) = self.open.get(&space) else {
            return;
        };
        folder.rest.send_replace(false);
        let (slot, inbox) = (folder.watcher.clone(), self.inbox.clone());
        let rest = folder.rest.subscribe();
        let rules = engine.rules(space);
        worker("watch", move || {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if *rest.borrow() {
                return;
            }
            // First the old one: what it watches counts against the limit.
            drop(slot.take());
            let (watcher, lacking) = watch(&path, space, rules, &inbox);
            *slot = watcher;
            drop(slot);
            inbox.put(Event::Watched { space, lacking });
        });
    }

    /// Watches a folder no more and ends what is being fetched for it, until [`Folders::watch`]. Steps and
    /// scans that are under way come to their end.
    pub(super) fn rest(&self, space: i64) {
        let Some(folder) = self.open.get(&space) else {
            return;
        };
        folder.rest.send_replace(true);
        let (slot, rest) = (folder.watcher.clone(), folder.rest.subscribe());
        worker("rest", move || {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been told to go on since, and watch again.
            if *rest.borrow() {
                drop(slot.take());
            }
        });
    }

    pub(super) fn close(&mut self, space: i64) {
        if let Some(folder) = self.open.remove(&space) {
            folder.disk.let_go();
            folder.rest.send_replace(true);
            drop_aside(folder);
        }
    }

    pub(super) fn close_all(&mut self) {
        let open = std::mem::take(&mut self.open);
        open.values().for_each(|folder| folder.disk.let_go());
        drop_aside(open);
    }

    pub(super) fn scan(&mut self, space: i64, job: Job, guard: Guard, look: Look) {
        let inbox = self.inbox.clone();
        let Some(folder) = self.open.get(&space) else {
            inbox_later(
                inbox,
                Event::Scanned {
                    space,
                    job,
                    result: Err(ScanError::RootMissing),
                },
            );
            return;
        };
        let (disk, db, secret) = (folder.disk.clone(), self.db.clone(), folder.secret.clone());
        if !folder.right || crate::disk::scan::check(&*disk, &guard).is_err() {
            // Another folder than the one that was added, or a disk that was pulled and came back:
            // opened anew by the next scan.
            self.close(space);
        }
        let failed = Event::Scanned {
            space,
            job,
            result: Err(ScanError::Stopped),
        };
        self::job("scan", inbox, failed, move |inbox| {
            let result = match Db::reader(&db) {
                Ok(conn) => {
                    super::snapshots::sweep(&*disk, &conn, space);
                    scan_under(
                        &*disk,
                        &guard,
                        &Reader { conn: &conn, space },
                        &secret,
                        &look,
                        &mut |found| {
                            if inbox.put(Event::Found { space, job, found }) {
                                Ok(())
                            } else {
                                Err(Stop)
                            }
                        },
                    )
                }
                Err(error) => Err(ScanError::Base(crate::disk::base::BaseError::new(error))),
            };
            Event::Scanned { space, job, result }
        });
    }

    pub(super) fn sync(&self, space: i64, job: Job, files: Vec<RelPath>) {
        let inbox = self.inbox.clone();
        let Some(disk) = self.disk(space) else {
            inbox_later(
                inbox,
                Event::Synced {
                    space,
                    job,
                    error: Some("the folder is not there".into()),
                },
            );
            return;
        };
        let failed = Event::Synced {
            space,
            job,
            error: Some("the flush failed".into()),
        };
        self::job("sync", inbox, failed, move |_| {
            let done = crate::disk::flush(&*disk, &files);
            Event::Synced {
                space,
                job,
                error: done.err().map(|e| e.to_string()),
            }
        });
    }

    pub(super) fn perform(
        &self,
        space: i64,
        job: Job,
        steps: Vec<Step>,
        replaced: BTreeMap<ItemId, ContentHash>,
    ) {
        let inbox = self.inbox.clone();
        let Some(disk) = self.disk(space) else {
            let missing = |s: &Step| crate::disk::perform::Outcome {
                id: *s.id(),
                done: Err(crate::disk::perform::Refused::Missing),
            };
            let outcomes = steps.iter().map(missing).collect();
            inbox_later(
                inbox,
                Event::Performed {
                    space,
                    job,
                    outcomes,
                },
            );
            return;
        };
        let outcome = |step: &Step| crate::disk::perform::Outcome {
            id: *step.id(),
            done: Err(crate::disk::perform::Refused::Changed),
        };
        let failed = Event::Performed {
            space,
            job,
            outcomes: steps.iter().map(outcome).collect(),
        };
        self::job("perform", inbox, failed, move |_| {
            let names: BTreeMap<_, _> = steps.iter().map(|s| (*s.id(), step_name(s))).collect();
            let seconds = unix_seconds();
            let name = |id: &_| {
                let original = names.get(id).map_or("", String::as_str);
                trash::name_of(seconds, id, replaced.get(id), original)
            };
            let outcomes = perform(&*disk, &steps, &name);
            Event::Performed {
                space,
                job,
                outcomes,
            }
        });
    }

    pub(super) fn discard(&self, space: i64, staged: Vec<String>) {
        let Some(disk) = self.disk(space) else { return };
        worker("discard", move || {
            for name in staged {
                crate::disk::discard(&*disk, &name);
            }
        });
    }

    pub(super) fn sweep(&self, space: i64) {
        let (Some(open), inbox) = (self.served(space), self.inbox.clone()) else {
            return;
        };
        worker("sweep", move || {
            let sweep = || trash::sweep(&*open.disk, unix_seconds());
            let (swept, gone) = open.kept.lost(&*open.disk, sweep);
            match swept {
                Ok(0) => {}
                Ok(n) => {
                    tracing::info!(n, "old versions left the trash");
                    inbox.put(Event::Swept { space, gone });
                }
                Err(error) => tracing::debug!(%error, "the trash could not be looked through"),
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "each is a different thing")]
    pub(super) fn fetch(
        &self,
        engine: &Engine,
        runtime: &tokio::runtime::Handle,
        (net, pace): (NetHandle, Pace),
        space: i64,
        job: Job,
        device: DeviceId,
        wants: Vec<Want>,
    ) {
        let inbox = self.inbox.clone();
        let lost: Vec<WantResult> = wants
            .iter()
            .map(|w| WantResult {
                id: w.id,
                done: Err(Missed::Lost),
            })
            .collect();
        let Some(folder) = self.open.get(&space) else {
            let results = lost;
            inbox_later(
                inbox,
                Event::Fetched {
                    space,
                    job,
                    results,
                },
            );
            return;
        };
        let from_here = device == engine.device();
        let into = FetchInto {
            space: folder.id,
            disk: folder.disk.clone(),
            local: Arc::new(Here {
                db: self.db.clone(),
                space,
                conn: Mutex::new(None),
                disk: folder.disk.clone(),
                kept: folder.kept.clone(),
                secret: folder.secret.clone(),
            }),
            secret: folder.secret.clone(),
            progress: Arc::new(Quiet),
            limits: FetchLimits::default(),
        };
        let wanted: Vec<FetchWant> = wants
            .into_iter()
            .map(|w| FetchWant {
                id: w.id,
                hash: w.hash,
                size: w.size,
                staged: w.staged,
                mode: w.mode,
                mtime: w.mtime,
            })
            .collect();
        let road = PacedRoad {
            net,
            pace,
            rest: folder.rest.subscribe(),
        };
        let fetching = runtime.spawn(async move {
            let results = if from_here {
                into.fetch(&NoRoad, device, wanted).await
            } else {
                into.fetch(&road, device, wanted).await
            };
            results.into_iter().map(result).collect()
        });
        runtime.spawn(async move {
            // The engine waits for the end of it, even if that is a bug.
            let results = fetching.await.unwrap_or_else(|error| {
                tracing::error!(%error, "a fetch failed by a bug");
                lost
            });
            let _sent = tokio::task::spawn_blocking(move || {
                inbox.put(Event::Fetched {
                    space,
                    job,
                    results,
                })
            })
            .await;
        });
    }
}

/// Watches a folder; says what of it is not watched, if something is not.
fn watch(
    path: &str,
    space: i64,
    rules: Arc<Rules>,
    inbox: &Inbox,
) -> (Option<Watcher>, Option<String>) {
    let inbox = inbox.clone();
    let watcher = Watcher::start(path, rules, move |notice| {
        let (dirs, lacking) = match notice {
            Notice::Dirs(dirs) => (dirs, None),
            Notice::Everything(reason) => (Vec::new(), Some(reason).filter(|r| r.lasts())),
        };
        if let Some(reason) = lacking {
            let lacking = Some(reason.to_string());
            inbox.put(Event::Watched { space, lacking });
        }
        inbox.put(Event::Disturbed { space, dirs });
    });
    match watcher {
        Ok(watcher) => {
            let lacking = watcher.lacking().map(|reason| reason.to_string());
            (Some(watcher), lacking)
        }
        Err(error) => (None, Some(error.to_string())),
    }
}

/// Puts a space's marker into the folder that stands at `path` now; returns its filesystem.
pub(super) fn mark(path: &str, id: &SpaceId) -> std::io::Result<u64> {
    let disk = RealDisk::open(path)?;
    crate::disk::prepare(&disk, id)?;
    disk.fs_id()
}

/// A watcher waits for its thread, and that may be waiting for the engine's queue: never on the
/// engine's thread.
fn drop_aside(what: impl Send + 'static) {
    worker("close", move || drop(what));
}

/// From a thread that is not the engine's: it must never wait for its own queue.
fn inbox_later(inbox: Inbox, event: Event) {
    worker("answer", move || {
        inbox.put(event);
    });
}

fn step_name(step: &Step) -> String {
    let path = match step {
        Step::MakeDir { path, .. }
        | Step::Write { path, .. }
        | Step::Link { path, .. }
        | Step::Remove { path, .. }
        | Step::Meta { path, .. } => path,
        Step::Move { from, .. } | Step::Park { from, .. } => from,
        Step::Unpark { to, .. } => to,
    };
    path.name().unwrap_or("").to_owned()
}

pub(super) fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn result(fetched: Fetched) -> WantResult {
    let done = match fetched.result {
        Ok(ok) => Ok((ok.meta, ok.chunks)),
        Err(error) => Err(match error {
            FetchError::Absent => Missed::Absent,
            FetchError::Superseded | FetchError::Busy => Missed::Later,
            FetchError::Denied | FetchError::Disconnected | FetchError::TimedOut => Missed::Lost,
            FetchError::Mismatch => Missed::Wrong(error.to_string()),
            FetchError::NoSpace => Missed::NoSpace,
            FetchError::Io(source) => Missed::Disk(source.to_string()),
        }),
    };
    WantResult {
        id: fetched.want.id,
        done,
    }
}
