//! Performs what the engines say, as the node does: scans, flushes, steps on the disk, fetches.
//!
//! Each job takes time: it is run at a moment drawn from the seed, and what came of it reaches the
//! engine at a later one. In between processes end, links are cut, and users act; within a job they
//! act between two calls to the disk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use ownmesh_crdt::item::ItemState;
use ownmesh_crypto::{ContentHash, DeviceId, ItemId};
use ownmesh_node::db::{base, items};
use ownmesh_node::disk::base::{BaseError, BaseReader, BaseRow};
use ownmesh_node::disk::perform::{Step, perform};
use ownmesh_node::disk::rules::scan_under;
use ownmesh_node::disk::scan::{Found, Guard, Look};
use ownmesh_node::disk::{Disk, RelPath, trash};
use ownmesh_node::engine::{Effect, Engine, Event, Notice, Now, Want, WantResult};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mem_disk::MemDisk;
use crate::transition::{below, one_in, user};
use crate::world::{Act, World};

/// How often users act within a job in one life: each act leads to jobs, and they would never end.
const SLIPS: u32 = 400;

/// An engine whose base is read by a scan while the findings change it.
struct Shared<'a>(RefCell<&'a mut Engine>, i64);

impl Shared<'_> {
    fn with<T>(&self, read: impl FnOnce(&base::Reader<'_>) -> T) -> T {
        let engine = self.0.borrow();
        read(&base::Reader {
            conn: engine.db().read(),
            space: self.1,
        })
    }
}

impl BaseReader for Shared<'_> {
    fn children(&self, dir: &ItemId) -> Result<Vec<BaseRow>, BaseError> {
        self.with(|r| r.children(dir))
    }

    fn by_inode(&self, dev: u64, ino: u64) -> Result<Option<BaseRow>, BaseError> {
        self.with(|r| r.by_inode(dev, ino))
    }

    fn get(&self, id: &ItemId) -> Result<Option<BaseRow>, BaseError> {
        self.with(|r| r.get(id))
    }

    fn path_of(&self, id: &ItemId) -> Result<Option<RelPath>, BaseError> {
        self.with(|r| r.path_of(id))
    }
}

impl World {
    /// One effect: done at once where the node does so, put off where it takes time.
    pub(crate) fn effect(&mut self, d: usize, effect: Effect) {
        match effect {
            Effect::Send { device, message } => self.send(d, &device, &message),
            Effect::Open { space, .. } => {
                let seconds = self.seconds();
                let disk = self.devices[d].disk.clone();
                let Some(engine) = &mut self.devices[d].engine else {
                    return;
                };
                let healed = engine.recover(space, &disk, seconds);
                if self.ended_within(d) {
                    return;
                }
                if let Err(error) = healed {
                    self.failure.get_or_insert(format!(
                        "{} does not recover: {error}",
                        self.devices[d].name
                    ));
                }
                self.check_torn(d);
            }
            Effect::Scan { .. } | Effect::Sync { .. } | Effect::Perform { .. } => {
                let (life, delay) = (self.devices[d].life, self.delay(60));
                self.later(delay, Act::Run { d, life, effect });
            }
            // A life lasts hours, and the verdict asks for all of what the trash was given.
            Effect::Sweep { .. } => {}
            Effect::Discard { staged, .. } => {
                staged.iter().for_each(|name| {
                    ownmesh_node::disk::discard(&self.devices[d].disk, name);
                });
                self.ended_within(d);
            }
            Effect::Fetch { .. } => {
                let (life, delay) = (self.devices[d].life, self.delay(self.weather.content));
                self.later(delay, Act::Run { d, life, effect });
            }
            Effect::Mark { space } => {
                let fs = Disk::fs_id(&self.devices[d].disk);
                if let Some(engine) = &mut self.devices[d].engine {
                    engine.marked(space, fs.map_err(|e| e.to_string()));
                }
            }
            Effect::Notice(notice) => {
                let what = match &notice {
                    Notice::Conflict { .. } => "conflict notices",
                    Notice::Trouble { .. } => "troubles",
                    Notice::Updated { .. } => "groups performed",
                    _ => return,
                };
                if matches!(notice, Notice::Trouble { .. }) {
                    self.note(d, &format!("{notice:?}"));
                }
                *self.devices[d].notices.entry(what).or_default() += 1;
            }
            Effect::Close { space } => self.close(d, Some(space)),
            Effect::Peers
            | Effect::OpenWindow { .. }
            | Effect::CloseWindow
            | Effect::Pair(_)
            | Effect::Watch { .. }
            | Effect::Rest { .. }
            | Effect::Add { .. } => {}
        }
    }

    pub(crate) fn run(&mut self, d: usize, effect: Effect) {
        match effect {
            Effect::Scan {
                space,
                job,
                guard,
                look,
            } => self.run_scan(d, space, job, &guard, &look),
            Effect::Sync { space, job, files } => {
                let disk = &self.devices[d].disk;
                let done = ownmesh_node::disk::flush(disk, &files);
                let error = done.err().map(|e| e.to_string());
                if !self.ended_within(d) {
                    self.soon(d, Event::Synced { space, job, error });
                }
            }
            Effect::Perform {
                space,
                job,
                steps,
                replaced,
            } => self.run_perform(d, space, job, &steps, &replaced),
            Effect::Fetch {
                space,
                job,
                device,
                wants,
            } => self.run_fetch(d, space, job, &device, wants),
            _ => {}
        }
        self.watch();
    }

    pub(crate) fn soon(&mut self, d: usize, event: Event) {
        let (life, delay) = (self.devices[d].life, self.delay(20));
        self.later(delay, Act::Give { d, life, event });
    }

    /// Ends a process whose disk stopped working under it. Returns whether it did.
    pub(crate) fn ended_within(&mut self, d: usize) -> bool {
        if !self.devices[d].disk.crashed() {
            return false;
        }
        let how = self.devices[d].doom.unwrap_or(crate::device::End::Kill);
        self.reference().interrupted();
        self.end_soon(d, how);
        true
    }

    /// Has a user act between two of the coming calls, perhaps.
    pub(crate) fn slip(&mut self, d: usize, calls: usize, reads: bool) -> bool {
        if self.weather.slips == 0 || self.slipped >= SLIPS {
            return false;
        }
        if !one_in(&mut self.rng, self.weather.slips) {
            return false;
        }
        self.slipped += 1;
        let (at, seed) = (below(&mut self.rng, calls) as u64, self.rng.next_u64());
        let (shared, name) = (Arc::clone(&self.shared), self.devices[d].name.clone());
        let act = move |disk: &MemDisk| {
            let mut r = shared.lock().unwrap_or_else(PoisonError::into_inner);
            user(
                &mut StdRng::seed_from_u64(seed),
                disk,
                d,
                &name,
                &mut r,
                true,
            );
        };
        if reads {
            self.devices[d].disk.before_read(at, act);
        } else {
            self.devices[d].disk.before_op(at, act);
        }
        true
    }

    fn run_scan(&mut self, d: usize, space: i64, job: u64, guard: &Guard, look: &Look) {
        let slips = self.slip(d, 6, true);
        let (secret, now) = (self.secret(), self.moment());
        let at_once = one_in(&mut self.rng, 2);
        let disk = self.devices[d].disk.clone();
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        let shared = Shared(RefCell::new(engine), space);
        let mut groups: Vec<Vec<Found>> = Vec::new();
        let mut failed = None;
        let mut lines = Vec::new();
        let result = scan_under(&disk, guard, &shared, &secret, look, &mut |found| {
            lines.push(format!(
                "finds {}",
                found.iter().map(brief).collect::<Vec<_>>().join(", ")
            ));
            if at_once {
                failed = failed.take().or(shared
                    .0
                    .borrow_mut()
                    .handle(now, Event::Found { space, job, found })
                    .err());
            } else {
                groups.push(found);
            }
            Ok(())
        });
        if slips {
            disk.disarm();
        }
        for line in lines {
            self.note(d, &line);
        }
        self.reference().count("scans");
        if let Some(error) = failed {
            self.failure.get_or_insert(format!(
                "{}: the engine failed: {error:?}",
                self.devices[d].name
            ));
            return;
        }
        let life = self.devices[d].life;
        let mut delay = 0;
        for found in groups {
            delay += self.delay(20);
            self.later(
                delay,
                Act::Give {
                    d,
                    life,
                    event: Event::Found { space, job, found },
                },
            );
        }
        delay += self.delay(20);
        self.later(
            delay,
            Act::Give {
                d,
                life,
                event: Event::Scanned { space, job, result },
            },
        );
        self.perform_effects(d);
    }

    fn run_perform(
        &mut self,
        d: usize,
        space: i64,
        job: u64,
        steps: &[Step],
        replaced: &BTreeMap<ItemId, ContentHash>,
    ) {
        self.reference().fleeting.clear();
        let slips = self.slip(d, steps.len() * 3 + 1, false);
        self.note(
            d,
            &format!(
                "performs {}",
                steps.iter().map(step_line).collect::<Vec<_>>().join(", ")
            ),
        );
        let seconds = self.seconds();
        let name = |id: &ItemId| {
            let step = steps.iter().find(|s| s.id() == id);
            trash::name_of(
                seconds,
                id,
                replaced.get(id),
                step.and_then(|s| step_path(s).name()).unwrap_or("unnamed"),
            )
        };
        let disk = self.devices[d].disk.clone();
        let outcomes = perform(&disk, steps, &name);
        if slips {
            disk.disarm();
        }
        self.check_torn(d);
        if self.ended_within(d) {
            return;
        }
        for outcome in outcomes.iter().filter(|o| o.done.is_err()) {
            self.note(
                d,
                &format!(
                    "was refused {:.4}: {:?}",
                    outcome.id.to_string(),
                    outcome.done
                ),
            );
            self.reference().count("steps refused");
        }
        self.reference().count("groups of steps");
        let (life, delay) = (self.devices[d].life, self.delay(self.weather.disk));
        let event = Event::Performed {
            space,
            job,
            outcomes,
        };
        self.later(delay, Act::Give { d, life, event });
    }

    fn run_fetch(&mut self, d: usize, space: i64, job: u64, from: &DeviceId, wants: Vec<Want>) {
        let Some(s) = self.device_number(from) else {
            return;
        };
        let mut results = Vec::new();
        for want in &wants {
            let done = self.fetch_one(d, space, s, want);
            if self.ended_within(d) {
                return;
            }
            self.note(
                d,
                &format!(
                    "fetches {} from {}: {}",
                    short(&want.id),
                    self.devices[s].name,
                    done.as_ref()
                        .map_or_else(|e| format!("{e:?}"), |_| "here".into())
                ),
            );
            self.reference().count(if done.is_ok() {
                "contents fetched"
            } else {
                "fetches failed"
            });
            results.push(WantResult { id: want.id, done });
        }
        let (life, delay) = (self.devices[d].life, self.delay(self.weather.content));
        self.later(
            delay,
            Act::Give {
                d,
                life,
                event: Event::Fetched {
                    space,
                    job,
                    results,
                },
            },
        );
    }

    /// No file may ever hold under its own name what nobody wrote.
    pub(crate) fn check_torn(&mut self, d: usize) {
        let torn = self.reference().torn(&self.devices[d].disk);
        if !torn.is_empty() {
            self.failure.get_or_insert(format!(
                "{} shows what nobody wrote: {}",
                self.devices[d].name,
                torn.join("; ")
            ));
        }
    }

    /// Hashes of all versions of an item, as a device knows it.
    pub(crate) fn versions_of(&self, d: usize, item: &str) -> Vec<ContentHash> {
        let (Some(engine), Some(space)) = (&self.devices[d].engine, self.devices[d].space) else {
            return Vec::new();
        };
        let secret = self.secret();
        let mut out = Vec::new();
        let Ok(page) = items::page(engine.db().read(), space, None, 100_000) else {
            return out;
        };
        for row in page
            .iter()
            .filter(|row| row.id.is_some_and(|id| id.to_string() == item))
        {
            for (_, content) in ItemState::from_registers(&row.doc.regs)
                .map(|s| s.versions)
                .unwrap_or_default()
            {
                out.push(match content {
                    ownmesh_crdt::item::Content::File { hash, .. } => hash,
                    ownmesh_crdt::item::Content::Link { target } => {
                        secret.content_hash(target.as_bytes())
                    }
                });
            }
        }
        out
    }

    /// Now, for callers of engines.
    #[must_use]
    pub fn time(&self) -> Now {
        self.moment()
    }
}

fn short(id: &ItemId) -> String {
    id.to_string().chars().take(4).collect()
}

fn brief(found: &Found) -> String {
    match found {
        Found::Created { name, kind, .. } => format!("new {kind:?} {name}"),
        Found::Edited { id, .. } => format!("edited {}", short(id)),
        Found::Touched { id, .. } => format!("touched {}", short(id)),
        Found::Refreshed { id, .. } => format!("refreshed {}", short(id)),
        Found::Moved { id, name, .. } => format!("moved {} to {name}", short(id)),
        Found::Gone { id } => format!("gone {}", short(id)),
        Found::Forgotten { id } => format!("forgotten {}", short(id)),
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

fn step_line(step: &Step) -> String {
    let what = match step {
        Step::MakeDir { .. } => "mkdir",
        Step::Write { over: None, .. } => "write",
        Step::Write { .. } => "replace",
        Step::Link { .. } => "link",
        Step::Move { from, .. } => {
            return format!("move {} {from} -> {}", short(step.id()), step_path(step));
        }
        Step::Park { .. } => "park",
        Step::Unpark { .. } => "unpark",
        Step::Remove { .. } => "remove",
        Step::Meta { .. } => "meta",
    };
    format!("{what} {} {}", short(step.id()), step_path(step))
}
