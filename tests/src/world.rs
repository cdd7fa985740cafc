//! Virtual time and what happens next in it.
//!
//! Everything that happens is an [`Act`] at a moment; the next one is taken, whatever follows from
//! it is put back with a delay drawn from the seed. Two runs of one seed are the same run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ownmesh_crypto::registry::{self, By, JoinPath};
use ownmesh_crypto::{DeviceId, DeviceKeys, DeviceSeed, MasterKey, MeshSecret, SpaceSecret};
use ownmesh_node::db::{Db, NewMesh, marks};
use ownmesh_node::disk::{self, Disk};
use ownmesh_node::engine::{Effect, Event, Now};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::device::{Device, End};
use crate::link::{Link, Pair, pair, side};
use crate::mem_disk::Entry;
use crate::reference::Reference;
use crate::transition::{below, one_in};
pub use crate::weather::Weather;

/// The name of the one space.
pub const SPACE: &str = "docs";
/// Wall time at the start, Unix ms.
const WALL: i64 = 1_700_000_000_000;

/// Something that is going to happen.
pub(crate) enum Act {
    /// Bytes arrive.
    Deliver {
        to: usize,
        from: usize,
        session: u64,
        bytes: Vec<u8>,
    },
    /// A side of a link sees that it stands.
    Up {
        at: usize,
        other: usize,
        session: u64,
    },
    /// A side of a link sees that it is gone.
    Down {
        at: usize,
        other: usize,
        session: u64,
    },
    /// Two devices try to connect.
    Connect(Pair),
    /// An effect is performed.
    Run { d: usize, life: u64, effect: Effect },
    /// What came of it reaches the engine.
    Give { d: usize, life: u64, event: Event },
    /// A process starts.
    Restart { d: usize },
    /// The space is added on a device; held until both sides are compared if its folder has files.
    Add { d: usize },
    /// Both sides are compared, if all that is connected has told its tree; given up `until` then.
    Release { d: usize, life: u64, until: u64 },
}

/// The world.
pub struct World {
    pub(crate) rng: StdRng,
    /// Virtual time, ms.
    pub now: u64,
    pub(crate) wall: i64,
    pub(crate) queue: BTreeMap<(u64, u64), Act>,
    order: u64,
    pub(crate) sessions: u64,
    /// The devices.
    pub devices: Vec<Device>,
    pub(crate) links: BTreeMap<Pair, Link>,
    pub(crate) shared: Arc<Mutex<Reference>>,
    /// How things go.
    pub weather: Weather,
    /// What went wrong so badly that the run ends.
    pub failure: Option<String>,
    pub(crate) mesh: MeshSecret,
    late: Vec<Vec<u8>>,
    ticks: u64,
    /// How often users acted within a job.
    pub(crate) slipped: u32,
    /// Start of an item's id whose fate is noted (MESH_ITEM).
    follow: Option<String>,
    /// Acts so far.
    pub acts: u64,
}

impl World {
    /// A mesh of devices; those from number `known` on are let in later ([`World::admit`]).
    #[must_use]
    pub fn new(seed: u64, names: &[&str], known: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys: Vec<Arc<DeviceKeys>> = names
            .iter()
            .map(|_| Arc::new(DeviceKeys::from_seed(&DeviceSeed::random(&mut rng))))
            .collect();
        let mesh = MeshSecret::random(&mut rng);
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let root = MasterKey::random(&mut rng).root(&salt, 0);
        let at = WALL.unsigned_abs() / 1_000;
        let genesis = registry::genesis(&root, salt, "mesh", at).expect("a genesis");
        let id = genesis.mesh_id();
        let by = By::Root(&root);
        let first = registry::device(
            by,
            &id,
            names[0],
            "test",
            &keys[0].card(),
            JoinPath::First,
            at,
        )
        .expect("a device");
        let may =
            registry::delegation(by, &id, keys[0].device_id(), true, at).expect("a delegation");
        let mut early: Vec<Vec<u8>> = [genesis, may, first]
            .iter()
            .map(|s| s.bytes().to_vec())
            .collect();
        let mut late = Vec::new();
        for (n, name) in names.iter().enumerate().skip(1) {
            let by = By::Device(&keys[0]);
            let bytes =
                registry::device(by, &id, name, "test", &keys[n].card(), JoinPath::Ticket, at)
                    .expect("a device");
            if n < known { &mut early } else { &mut late }.push(bytes.bytes().to_vec());
        }
        let mut devices = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let mut db = Db::memory().expect("a database");
            let mut statements = early.clone();
            if n >= known {
                statements.extend(late.clone());
            }
            let device = keys[n].device_id();
            db.found(&NewMesh {
                mesh_secret: mesh.clone(),
                statements,
                device,
                device_name: (*name).to_owned(),
            })
            .expect("a home");
            devices.push(Device::new(name, Arc::clone(&keys[n]), db));
        }
        let mut links = BTreeMap::new();
        for a in 0..names.len() {
            for b in a + 1..names.len() {
                links.insert((a, b), Link::default());
            }
        }
        let weather = Weather::draw(&mut rng);
        let mut world = Self {
            rng,
            now: 1,
            wall: WALL,
            queue: BTreeMap::new(),
            order: 0,
            sessions: 0,
            devices,
            links,
            shared: Arc::default(),
            weather,
            failure: None,
            mesh,
            late,
            ticks: 0,
            slipped: 0,
            follow: std::env::var("MESH_ITEM").ok(),
            acts: 0,
        };
        world.set_clocks();
        world
    }

    /// Hashes and names of the space.
    #[must_use]
    pub fn secret(&self) -> SpaceSecret {
        self.mesh.space_secret(&self.mesh.space_id(SPACE))
    }

    /// What was written and what happened.
    pub fn reference(&self) -> MutexGuard<'_, Reference> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, d: usize, what: &str) {
        self.reference().note(&self.devices[d].name, what);
    }

    pub(crate) fn moment(&self) -> Now {
        Now {
            mono: self.now,
            wall: self.wall + i64::try_from(self.now).unwrap_or(0),
        }
    }

    /// Unix seconds.
    pub(crate) fn seconds(&self) -> u64 {
        u64::try_from(self.moment().wall / 1_000).unwrap_or(0)
    }

    pub(crate) fn set_clocks(&mut self) {
        let ns = self.moment().wall * 1_000_000;
        for device in &self.devices {
            device.disk.set_clock(ns);
        }
        let now = self.now;
        self.reference().now = now;
    }

    pub(crate) fn later(&mut self, delay: u64, act: Act) {
        self.order += 1;
        self.queue.insert((self.now + delay, self.order), act);
    }

    /// A delay up to `most`, mostly short.
    pub(crate) fn delay(&mut self, most: usize) -> u64 {
        let most = if one_in(&mut self.rng, 4) {
            most
        } else {
            most / 8
        };
        below(&mut self.rng, most + 1) as u64
    }

    pub(crate) fn device_number(&self, id: &DeviceId) -> Option<usize> {
        self.devices.iter().position(|d| d.id() == *id)
    }

    // --- what is done from outside ---------------------------------------------------------

    /// Starts a device's process.
    pub fn start(&mut self, d: usize) {
        let now = self.moment();
        let rng = &mut self.rng;
        if let Err(error) = self.devices[d].start(rng, now) {
            self.failure
                .get_or_insert(format!("{} does not start: {error}", self.devices[d].name));
            return;
        }
        let took_part = self.devices[d].space.is_some();
        self.count_spaces(d);
        if took_part && self.devices[d].space.is_none() {
            // It was still comparing.
            self.later(1_000, Act::Add { d });
        }
        if std::mem::take(&mut self.devices[d].shaky) {
            self.doom_by(d, End::Power);
        }
        self.note(d, "starts");
        self.perform_effects(d);
        self.give(d, Event::Tick);
        for other in 0..self.devices.len() {
            if other != d {
                let delay = self.delay(300);
                self.later(delay, Act::Connect(pair(d, other)));
            }
        }
    }

    /// Adds the space on a running device: founds it, or joins it.
    pub fn add(&mut self, d: usize) {
        self.add_as(d, false);
    }

    /// The same; held: its folder is left alone until it is released, as `mesh add` does with one
    /// that is not empty.
    pub(crate) fn add_as(&mut self, d: usize, hold: bool) {
        let id = self.mesh.space_id(SPACE);
        let now = self.moment();
        let device = &mut self.devices[d];
        if device.engine.is_none() || device.space.is_some() {
            return;
        }
        let prepared = disk::prepare(&device.disk, &id);
        if self.ended_within(d) {
            return self.later(10_000, Act::Add { d });
        }
        prepared.expect("a folder");
        let device = &mut self.devices[d];
        let Some(engine) = device.engine.as_mut() else {
            return;
        };
        let fs = device.disk.fs_id().expect("a folder");
        if let Err(error) =
            engine.add_prepared(now, SPACE, &format!("/{}", device.name), 0, fs, hold)
        {
            self.failure
                .get_or_insert(format!("the space could not be added: {error:?}"));
            return;
        }
        self.count_spaces(d);
        self.note(
            d,
            if hold {
                "compares the space"
            } else {
                "adds the space"
            },
        );
        self.perform_effects(d);
        self.give(d, Event::Tick);
    }

    /// Lets the devices in that were left out: the first device, restarted, knows them.
    pub fn admit(&mut self) {
        let late = std::mem::take(&mut self.late);
        self.end(0, End::Kill);
        if let Some(db) = &mut self.devices[0].db {
            db.write_durable(|tx| late.iter().try_for_each(|s| marks::put_statement(tx, s)))
                .expect("a statement is kept");
        }
        self.start(0);
    }

    /// What is on a disk of the user's: what stands in the private folder for a moment is no more
    /// flushed than where it was. A content that was only fetched is none of it.
    fn all_on(&self, d: usize) -> BTreeMap<String, Entry> {
        let disk = &self.devices[d].disk;
        let secret = self.secret();
        let fetched = |path: &str, entry: &Entry| match entry {
            Entry::File(bytes) => {
                let hash = secret.content_hash(bytes).to_string();
                path.starts_with(&format!("tmp/s-{}", &hash[..16]))
            }
            _ => false,
        };
        let private = disk.entries_below(".mesh").into_iter();
        let private = private.filter(|(path, entry)| !fetched(path, entry));
        let private = private.map(|(path, entry)| (format!(".mesh/{path}"), entry));
        disk.entries().into_iter().chain(private).collect()
    }

    /// Ends a process.
    pub fn end(&mut self, d: usize, how: End) {
        let before = self.all_on(d);
        let rng = &mut self.rng;
        if !self.devices[d].end(how, rng) {
            return;
        }
        self.note(
            d,
            if how == End::Kill {
                "is killed"
            } else {
                "loses power"
            },
        );
        let mut r = self.reference();
        r.count(if how == End::Kill {
            "kills"
        } else {
            "power losses"
        });
        if how == End::Power {
            let what = format!("{} {} lost power", r.now, self.devices[d].name);
            r.cut(&what, &before, &self.all_on(d));
        }
        drop(r);
        if how == End::Power {
            self.check_promises(d);
        }
        self.reference()
            .traces
            .ended(d, self.now, how == End::Power);
        for other in 0..self.devices.len() {
            if other != d {
                self.cut(pair(d, other), true);
                if let Some(link) = self.links.get_mut(&pair(d, other)) {
                    link.seen[side(d, other)] = None;
                }
            }
        }
        self.check_torn(d);
    }

    // --- what happens ----------------------------------------------------------------------

    /// The moment of the next thing to happen.
    fn next_at(&self) -> Option<u64> {
        let queued = self.queue.keys().next().map(|k| k.0);
        queued
            .into_iter()
            .chain(self.deadlines().map(|d| d.0))
            .min()
    }

    fn deadlines(&self) -> impl Iterator<Item = (u64, usize)> {
        self.devices.iter().enumerate().filter_map(|(n, d)| {
            let at = d.engine.as_ref()?.deadline()?;
            Some((at.max(self.now).max(d.ticked + 1), n))
        })
    }

    /// Lets everything happen until `end`.
    pub fn run_until(&mut self, end: u64) {
        while self.failure.is_none() && self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
        self.set_clocks();
    }

    /// Lets the next thing happen.
    pub fn step(&mut self) {
        self.acts += 1;
        let queued = self.queue.keys().next().copied();
        let due = self.deadlines().min();
        if let Some((at, d)) = due.filter(|(at, _)| queued.is_none_or(|q| *at < q.0)) {
            self.now = at;
            self.set_clocks();
            self.devices[d].ticked = at;
            self.ticks += 1;
            if self.ticks > 3_000 {
                self.failure
                    .get_or_insert(format!("{} only ticks", self.devices[d].name));
            }
            self.give(d, Event::Tick);
            return;
        }
        let Some((key, act)) = self.queue.pop_first() else {
            return;
        };
        self.now = self.now.max(key.0);
        self.ticks = 0;
        self.set_clocks();
        self.act(act);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Deliver {
                to,
                from,
                session,
                bytes,
            } => {
                let link = &self.links[&pair(to, from)];
                if link.session == Some(session) && link.seen[side(to, from)] == Some(session) {
                    let device = self.devices[from].id();
                    self.reference().mix(bytes.len() as u64);
                    self.give(to, Event::Message { device, bytes });
                }
            }
            Act::Up { at, other, session } => {
                if self.links[&pair(at, other)].session != Some(session)
                    || self.devices[at].engine.is_none()
                {
                    return;
                }
                if let Some(link) = self.links.get_mut(&pair(at, other)) {
                    link.seen[side(at, other)] = Some(session);
                }
                self.note(at, &format!("is connected to {}", self.devices[other].name));
                let device = self.devices[other].id();
                self.give(
                    at,
                    Event::PeerUp {
                        device,
                        instance: self.devices[other].life,
                        route: "test",
                        address: None,
                    },
                );
            }
            Act::Down { at, other, session } => {
                let Some(link) = self.links.get_mut(&pair(at, other)) else {
                    return;
                };
                let seen = &mut link.seen[side(at, other)];
                if *seen == Some(session) {
                    *seen = None;
                    let device = self.devices[other].id();
                    self.note(at, &format!("has lost {}", self.devices[other].name));
                    self.give(at, Event::PeerDown { device });
                    let delay = self.delay(1_000);
                    self.later(delay, Act::Connect(pair(at, other)));
                }
            }
            Act::Connect(p) => self.connect(p),
            Act::Run { d, life, effect } => {
                if self.devices[d].life == life && self.devices[d].engine.is_some() {
                    self.run(d, effect);
                }
            }
            Act::Give { d, life, event } => {
                if self.devices[d].life == life {
                    // The first look at a folder is one at all of it.
                    self.devices[d].looked |= self.devices[d].space.is_some()
                        && matches!(event, Event::Scanned { result: Ok(_), .. });
                    self.give(d, event);
                }
            }
            Act::Restart { d } => {
                if self.devices[d].engine.is_none() {
                    self.start(d);
                }
            }
            Act::Add { d } => self.add_again(d),
            Act::Release { d, life, until } => self.release(d, life, until),
        }
        self.watch();
    }

    /// Hands an event to an engine and performs what it says.
    pub(crate) fn give(&mut self, d: usize, event: Event) {
        let now = self.moment();
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        if let Err(error) = engine.handle(now, event) {
            self.failure.get_or_insert(format!(
                "{}: the engine failed: {error:?}",
                self.devices[d].name
            ));
            return;
        }
        if let Some(item) = &self.follow {
            self.follow(d, &item.clone());
        }
        self.perform_effects(d);
    }

    pub(crate) fn perform_effects(&mut self, d: usize) {
        let Some(engine) = &mut self.devices[d].engine else {
            return;
        };
        for effect in engine.effects() {
            if let Some((left, how)) = &mut self.devices[d].doom_effects {
                if *left == 0 {
                    let how = *how;
                    self.end_soon(d, how);
                    return;
                }
                *left -= 1;
            }
            self.effect(d, effect);
            if self.devices[d].engine.is_none() {
                return;
            }
        }
    }

    /// Ends a process and has it started again after a while.
    pub(crate) fn end_soon(&mut self, d: usize, how: End) {
        self.end(d, how);
        let delay = 50 + self.delay(8_000);
        self.later(delay, Act::Restart { d });
    }

    /// What users did is noticed by the watcher: mostly, and after a while.
    pub(crate) fn watch(&mut self) {
        let seen = std::mem::take(&mut self.reference().disturbed);
        for (d, dir) in seen {
            let Some(space) = self.devices[d]
                .space
                .filter(|_| self.devices[d].engine.is_some())
            else {
                continue;
            };
            if one_in(&mut self.rng, 12) {
                continue;
            }
            let dirs = disk::RelPath::parse(&dir).into_iter().collect();
            let (life, delay) = (self.devices[d].life, 1 + self.delay(400));
            self.later(
                delay,
                Act::Give {
                    d,
                    life,
                    event: Event::Disturbed { space, dirs },
                },
            );
        }
    }
}
