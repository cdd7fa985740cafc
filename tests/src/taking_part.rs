//! Leaving the space and joining it again, with the files that are there, as `mesh add --merge` does.

use ownmesh_crdt::item::Content;
use ownmesh_node::db::logs;
use ownmesh_node::engine::{Effect, Event, Space};
use ownmesh_node::status::SpaceState;

use crate::mem_disk::Entry;
use crate::transition::{below, one_in};
use crate::world::{Act, SPACE, World};

/// How long a tree is waited for before both sides are compared as far as they are known, ms.
const TREE: u64 = 20_000;

impl World {
    /// What the engine takes part in, after a start or a change of that.
    pub(crate) fn count_spaces(&mut self, d: usize) {
        let device = &mut self.devices[d];
        let engine = device.engine.as_ref();
        let space = engine.and_then(|e| e.open_spaces_list().map(Space::number).next());
        if device.space != space {
            // Of what it told before it gave its copy up nothing has to be true any more.
            device.promised = ownmesh_crdt::vector::Vector::default();
            device.looked = false;
        }
        device.space = space;
    }

    /// Gives the space up on a device for a while: its files stay where they are.
    pub(crate) fn leave(&mut self, d: usize) {
        let device = &mut self.devices[d];
        if device.doom.is_some() || device.doom_effects.is_some() {
            return;
        }
        let Some(engine) = &mut device.engine else {
            return;
        };
        if engine.leave(SPACE).is_err() {
            return;
        }
        // What its user deletes from now on is nobody else's.
        self.devices[d].looked = false;
        self.note(d, "leaves");
        self.reference().count("spaces left");
        self.reference().traces.left(d);
        self.count_spaces(d);
        self.perform_effects(d);
        let delay = 50 + self.delay(40_000);
        self.later(delay, Act::Add { d });
    }

    /// Adds the space as `mesh add` does: held first, if there are files.
    pub fn add_again(&mut self, d: usize) {
        if self.devices[d].space.is_some() || self.devices[d].engine.is_none() {
            return;
        }
        let hold = !self.devices[d].disk.entries().is_empty();
        self.add_as(d, hold);
        if hold {
            let (life, until) = (self.devices[d].life, self.now + TREE);
            self.later(50, Act::Release { d, life, until });
        }
    }

    /// Both sides are compared, and the user says that they are to be merged; or thinks better of it.
    pub(crate) fn release(&mut self, d: usize, life: u64, until: u64) {
        let now = self.moment();
        let device = &mut self.devices[d];
        let Some(engine) = device.engine.as_mut().filter(|_| device.life == life) else {
            return;
        };
        if !engine.open_spaces_list().any(|s| s.stopped().is_some()) {
            return;
        }
        // Of a device that is about to end nothing comes; if it does not, it answers a little later.
        let ending = device.doom.is_some() || device.doom_effects.is_some();
        if ending || !engine.tree_is_here(SPACE) && self.now < until {
            self.later(500, Act::Release { d, life, until });
            return;
        }
        if one_in(&mut self.rng, 8) && self.weather.weights[10] > 0 {
            return self.leave(d);
        }
        let all = self.knows_all(d);
        let disk = self.devices[d].disk.entries();
        let tree = self.devices[d].engine.as_ref();
        let tree = tree.and_then(|e| e.tree_of(SPACE));
        let there = |path: &str, entry: &Entry| {
            let Some((tree, secret)) = &tree else {
                return false;
            };
            match (tree.get(path), entry) {
                (Some(Some(Content::File { hash, .. })), Entry::File(bytes)) => {
                    *hash == secret.content_hash(bytes)
                }
                (Some(Some(Content::Link { target })), Entry::Link(to)) => target == to,
                _ => false,
            }
        };
        self.reference().traces.joined(&disk, there, all);
        self.note(d, "merges its folder");
        self.reference().count("folders merged");
        if let Some(engine) = &mut self.devices[d].engine {
            engine.release(SPACE, now);
        }
        self.perform_effects(d);
    }

    /// Whether a device has heard of all that any other has noticed, and no other is about to notice a
    /// whole folder.
    fn knows_all(&self, d: usize) -> bool {
        let looks = |other: usize| {
            let spaces = self.devices[other].engine.iter();
            let mut spaces = spaces.flat_map(|e| e.status(self.time()).spaces);
            spaces.any(|s| matches!(s.state, SpaceState::Scanning | SpaceState::Stopped))
        };
        if (0..self.devices.len()).any(|other| other != d && looks(other)) {
            return false;
        }
        let vector = |d: usize| {
            let (engine, n) = (self.devices[d].engine.as_ref()?, self.devices[d].space?);
            let conn = engine.db().read();
            let sealed = logs::outbox_len(conn, n).ok()? == 0;
            logs::vector(conn, n).ok().filter(|_| sealed)
        };
        let here = vector(d);
        here.is_some() && (0..self.devices.len()).all(|other| vector(other) == here)
    }

    /// A folder is closed: a worker that is taking steps in it gets no further, as after a kill.
    pub(crate) fn close(&mut self, d: usize, space: Option<i64>) {
        let under_way = |act: &Act| match act {
            Act::Run { d: at, effect, .. } => {
                let of = match effect {
                    Effect::Scan { space, .. }
                    | Effect::Sync { space, .. }
                    | Effect::Perform { space, .. }
                    | Effect::Fetch { space, .. } => Some(*space),
                    _ => None,
                };
                *at == d && (space.is_none() || space == of)
            }
            Act::Give { d: at, event, .. } => *at == d && matches!(event, Event::Fetched { .. }),
            _ => false,
        };
        let keys: Vec<_> = self
            .queue
            .iter()
            .filter(|(_, act)| under_way(act))
            .map(|(k, _)| *k)
            .collect();
        for key in keys {
            let Some(Act::Run {
                effect: Effect::Perform { steps, .. },
                ..
            }) = self.queue.remove(&key)
            else {
                continue;
            };
            let disk = self.devices[d].disk.clone();
            let calls = below(&mut self.rng, steps.len() * 3 + 1) as u64;
            let seconds = self.seconds();
            let name =
                |id: &ownmesh_crypto::ItemId| ownmesh_node::disk::trash::name(seconds, id, "f");
            disk.crash_after(calls);
            let _ = ownmesh_node::disk::perform::perform(&disk, &steps, &name);
            disk.revive();
            self.note(d, "closes its folder in the middle of steps");
            self.reference().count("steps cut off by closing");
        }
    }
}
