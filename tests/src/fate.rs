//! What fate does to devices: cuts, kills, losses of power, backups, clocks; and users' answers.

use std::sync::PoisonError;

use ownmesh_crdt::vector::Vector;
use ownmesh_node::command::Keep;
use ownmesh_node::db::Db;
use ownmesh_node::engine::{Effect, Event};

use crate::device::{Backup, End};
use crate::link::{Pair, pair, side};
use crate::mem_disk::Entry;
use crate::transition::{below, one_in, user};
use crate::world::{Act, SPACE, World};

impl World {
    /// One step of users or fate.
    pub fn transition(&mut self) {
        let sum: usize = self.weather.weights.iter().sum();
        let mut at = below(&mut self.rng, sum);
        let what = self.weather.weights.iter().position(|w| {
            let here = at < *w;
            at = at.wrapping_sub(*w);
            here
        });
        let d = below(&mut self.rng, self.devices.len());
        let pairs: Vec<Pair> = self.links.keys().copied().collect();
        let p = pairs[below(&mut self.rng, pairs.len())];
        match what.unwrap_or(0) {
            1 => {
                self.reference().count("cuts");
                self.note(p.0, &format!("is cut off from {}", self.devices[p.1].name));
                let back = one_in(&mut self.rng, 3);
                self.cut(p, back);
            }
            2 => self.join(p),
            3 => self.end_soon(d, End::Kill),
            4 => self.end_soon(d, End::Power),
            5 => self.put_back(d),
            6 => self.back_up(d),
            7 => self.answer(d),
            8 => {
                let by =
                    i64::try_from(below(&mut self.rng, 200_000_000)).unwrap_or(0) - 100_000_000;
                self.wall += by;
                self.reference().count("clock jumps");
                self.set_clocks();
            }
            9 => {
                let how = if one_in(&mut self.rng, 2) {
                    End::Kill
                } else {
                    End::Power
                };
                self.doom_by(d, how);
            }
            10 => self.leave(d),
            11 => self.start_over(d),
            12 => {
                self.devices[d].shaky = true;
                self.doom_by(d, End::Power);
            }
            _ => self.user(d),
        }
        self.watch();
    }

    /// A user acts.
    pub fn user(&mut self, d: usize) {
        if self.devices[d].space.is_none() && !one_in(&mut self.rng, 4) {
            return;
        }
        let mut r = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let device = &self.devices[d];
        r.traces.noticed = device.looked;
        user(&mut self.rng, &device.disk, d, &device.name, &mut r, false);
    }

    /// The process will end in the middle of something.
    pub(crate) fn doom_by(&mut self, d: usize, how: End) {
        let after = below(&mut self.rng, 12) as u64;
        let effects = one_in(&mut self.rng, 3);
        let device = &mut self.devices[d];
        let Some(engine) = device.engine.as_mut() else {
            return;
        };
        engine.record().expect("a database in memory is read");
        if effects {
            device.doom_effects = Some((after, how));
        } else {
            device.doom = Some(how);
            device.disk.crash_after(after);
        }
        self.note(d, "is going to end soon");
        self.reference().count("ends in the middle of work");
    }

    pub(crate) fn back_up(&mut self, d: usize) {
        let device = &mut self.devices[d];
        let Some(engine) = device.engine.take() else {
            return;
        };
        // A copy of a database in use is one of its commits.
        let mut db = engine.into_db();
        let image = db.image().expect("an image");
        device.backup = Some(Backup {
            db: image,
            disk: device.disk.fork(),
        });
        device.db = Some(db);
        device.engine = None;
        // What was written in the last moment it may not know of.
        device.looked = false;
        self.note(d, "is stopped and backed up");
        self.reference().traces.ended(d, self.now, false);
        for other in 0..self.devices.len() {
            if other != d {
                self.cut(pair(d, other), true);
                if let Some(link) = self.links.get_mut(&pair(d, other)) {
                    link.seen[side(d, other)] = None;
                }
            }
        }
        self.devices[d].disk.revive();
        self.devices[d].life += 1;
        self.later(100, Act::Restart { d });
    }

    /// The steps that a worker of a device is about to take; it is somebody else's then to take them.
    pub(crate) fn take_steps(
        &mut self,
        d: usize,
    ) -> Option<Vec<ownmesh_node::disk::perform::Step>> {
        let is_it = |act: &Act| matches!(act, Act::Run { d: at, effect: Effect::Perform { .. }, .. } if *at == d);
        let key = self
            .queue
            .iter()
            .find(|(_, act)| is_it(act))
            .map(|(k, _)| *k)?;
        match self.queue.remove(&key) {
            Some(Act::Run {
                effect: Effect::Perform { steps, .. },
                ..
            }) => Some(steps),
            _ => None,
        }
    }

    /// As the node does after a write of the database that failed: a new engine on what was
    /// committed; a worker that is taking steps gets no further.
    pub(crate) fn start_over(&mut self, d: usize) {
        let device = &mut self.devices[d];
        if device.space.is_none() || device.doom.is_some() || device.doom_effects.is_some() {
            return;
        }
        let Some(engine) = device.engine.take() else {
            return;
        };
        let jobs = engine.last_job() + 1_000_000;
        device.db = Some(engine.into_db());
        let life = device.life;
        for other in 0..self.devices.len() {
            if other != d {
                self.cut(pair(d, other), true);
                if let Some(link) = self.links.get_mut(&pair(d, other)) {
                    link.seen[side(d, other)] = None;
                }
            }
        }
        self.close(d, None);
        self.note(d, "starts over");
        self.reference().count("starts over");
        let now = self.moment();
        let rng = &mut self.rng;
        self.devices[d].start(rng, now).expect("it starts");
        self.devices[d].life = life;
        self.devices[d].looked = false;
        self.reference().traces.ended(d, self.now, false);
        self.count_spaces(d);
        if let Some(engine) = &mut self.devices[d].engine {
            engine.number_jobs_from(jobs);
        }
        self.perform_effects(d);
        self.give(d, Event::Tick);
        for other in 0..self.devices.len() {
            if other != d {
                let delay = self.delay(300);
                self.later(delay, Act::Connect(pair(d, other)));
            }
        }
    }

    /// The database of an earlier time comes back, with or without the folder.
    pub(crate) fn put_back(&mut self, d: usize) {
        if self.devices[d].backup.is_none() {
            return;
        }
        self.end(d, End::Kill);
        let before = self.devices[d].disk.entries();
        let trashed = self.devices[d].disk.entries_below(".mesh/trash");
        let folder_too = one_in(&mut self.rng, 2);
        let device = &mut self.devices[d];
        let Some(backup) = &device.backup else { return };
        let db = Db::from_image(&backup.db).expect("a backup is a database");
        if folder_too {
            device.disk.restore(&backup.disk);
        }
        device.space = ownmesh_node::db::spaces::all(db.read())
            .ok()
            .and_then(|s| s.first().map(|s| s.n));
        device.db = Some(db);
        device.promised = Vector::default();
        let after = device.disk.entries();
        self.note(
            d,
            if folder_too {
                "gets its backup back, folder too"
            } else {
                "gets its database back"
            },
        );
        let mut r = self.reference();
        r.count("restored backups");
        r.traces.off = true;
        if folder_too {
            let what = format!("{} {} was restored", r.now, self.devices[d].name);
            r.cut(&what, &before, &after);
            r.emptied(&what, &trashed);
        }
        drop(r);
        self.set_clocks();
        let delay = 50 + self.delay(3_000);
        self.later(delay, Act::Restart { d });
        self.later(delay + 5, Act::Add { d });
    }

    /// The user settles a conflict, or answers the brake.
    fn answer(&mut self, d: usize) {
        let secret = self.secret();
        let now = self.moment();
        let name = self.devices[d].name.clone();
        let choice = below(&mut self.rng, 3);
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        if engine.open_spaces_list().any(|s| s.stopped().is_some()) {
            self.answer_brake(d);
            return;
        }
        let conflicts = engine.conflicts();
        let Some(one) = conflicts.first() else { return };
        let keep = [Keep::Here, Keep::There, Keep::Both][choice];
        let versions = self.versions_of(d, &one.item);
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        let done = engine.resolve(&one.item, keep, now);
        let mut r = self.reference();
        r.note(
            &name,
            &format!("resolves {} keeping {keep:?}: {done:?}", one.path),
        );
        r.count("conflicts resolved");
        if keep != Keep::Both && done.is_ok() {
            let what = format!("{} {name} resolved {}", r.now, one.path);
            let against: Vec<Entry> = r
                .known()
                .filter(|e| match e {
                    Entry::File(bytes) => versions.contains(&secret.content_hash(bytes)),
                    Entry::Link(target) => {
                        versions.contains(&secret.content_hash(target.as_bytes()))
                    }
                    _ => false,
                })
                .cloned()
                .collect();
            against.iter().for_each(|e| r.decided(&what, e));
        }
        if keep == Keep::Both {
            r.traces.unsure();
        }
        drop(r);
        self.perform_effects(d);
    }

    /// Answers the question of a stopped device.
    pub fn answer_brake(&mut self, d: usize) {
        let go_on = one_in(&mut self.rng, 2);
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        let done = if go_on {
            engine.go_on(SPACE)
        } else {
            engine.revert(SPACE)
        };
        if done.is_ok() && !go_on {
            self.reference().traces.unsure();
        }
        if done.is_ok() {
            self.note(
                d,
                if go_on {
                    "says: go on"
                } else {
                    "says: bring it back"
                },
            );
            self.reference().count(if go_on {
                "brake: go on"
            } else {
                "brake: bring back"
            });
        }
        self.perform_effects(d);
        self.give(d, Event::Tick);
    }
}
