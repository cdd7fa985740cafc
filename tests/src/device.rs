//! One device of the simulation: what it is, what it keeps when its process ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{DeviceId, DeviceKeys};
use ownmesh_node::db::Db;
use ownmesh_node::engine::{Engine, Identity, Now, Portions, StartError, Tally};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::mem_disk::MemDisk;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// kill -9: what was written stays written.
    Kill,
    /// The power goes: what was not flushed may be gone.
    Power,
}

/// A copy of a device from an earlier time.
pub struct Backup {
    /// Its database.
    pub db: Vec<u8>,
    /// Its folder.
    pub disk: MemDisk,
}

/// One device.
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Arc<DeviceKeys>,
    /// Its folder.
    pub disk: MemDisk,
    /// Its running process.
    pub engine: Option<Engine>,
    /// Its database while no process runs.
    pub db: Option<Db>,
    /// Number of its process: what an earlier one had asked for never arrives.
    pub life: u64,
    /// The space's row, once it takes part.
    pub space: Option<i64>,
    /// Whether its whole disk was looked at since it started and takes part: what is missing from then
    /// on was deleted.
    pub looked: bool,
    /// It ends at the next failing call of its disk, in this way.
    pub doom: Option<End>,
    /// It ends before so many more effects are performed.
    pub doom_effects: Option<(u64, End)>,
    /// Power goes again soon after its next start.
    pub shaky: bool,
    /// What it told others that it has: batches of its own, acknowledgements.
    pub promised: Vector,
    /// Copies of it.
    pub backup: Option<Backup>,
    /// When it last was given a tick.
    pub ticked: u64,
    /// Tallies of its earlier processes.
    pub tally: Tally,
    /// What was last noted of the items being followed.
    pub followed: String,
    /// What its notices were.
    pub notices: BTreeMap<&'static str, u64>,
    /// How much its engine does at once.
    pub portions: Portions,
}

impl Device {
    /// A device without a process.
    #[must_use]
    pub fn new(name: &str, keys: Arc<DeviceKeys>, db: Db) -> Self {
        Self {
            name: name.to_owned(),
            keys,
            disk: MemDisk::new(),
            engine: None,
            db: Some(db),
            life: 0,
            space: None,
            looked: false,
            doom: None,
            doom_effects: None,
            shaky: false,
            promised: Vector::default(),
            backup: None,
            ticked: 0,
            tally: Tally::default(),
            followed: String::new(),
            notices: BTreeMap::new(),
            portions: Portions::default(),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.keys.device_id()
    }

    /// Starts a process on its database.
    ///
    /// # Errors
    /// If the engine refuses the database.
    pub fn start(&mut self, rng: &mut StdRng, now: Now) -> Result<(), StartError> {
        let Some(db) = self.db.take() else {
            return Ok(());
        };
        let identity = Identity {
            keys: Arc::clone(&self.keys),
            instance: rng.next_u64(),
            version: String::from("simulated"),
            keyslots: Vec::new(),
            origin: Instant::now(),
            hints: Arc::new(Vec::new),
        };
        self.life += 1;
        self.ticked = 0;
        let own = StdRng::seed_from_u64(rng.next_u64());
        let mut engine = Engine::start(db, identity, Box::new(own), now)?;
        engine.set_portions(self.portions);
        self.engine = Some(engine);
        Ok(())
    }

    /// Ends its process. Returns whether one ran.
    pub fn end(&mut self, how: End, rng: &mut StdRng) -> bool {
        let Some(engine) = self.engine.take() else {
            return false;
        };
        self.note_tally(engine.tally());
        let mut db = engine.into_db();
        let images = db.recorded();
        self.life += 1;
        self.looked = false;
        (self.doom, self.doom_effects) = (None, None);
        match how {
            End::Kill => self.disk.revive(),
            End::Power => {
                if !images.is_empty() {
                    let at = usize::try_from(rng.next_u64()).unwrap_or(0) % images.len();
                    db = Db::from_image(&images[at]).expect("an image is a database");
                }
                self.disk.crash_power(rng);
            }
        }
        self.db = Some(db);
        true
    }

    fn note_tally(&mut self, t: Tally) {
        let sum = &mut self.tally;
        sum.authored += t.authored;
        sum.fast += t.fast;
        sum.slow += t.slow;
        sum.known += t.known;
        sum.waiting += t.waiting;
        sum.refused += t.refused;
    }

    /// What happened to changes here in all its processes.
    #[must_use]
    pub fn tallies(&self) -> Tally {
        let mut sum = self.tally;
        if let Some(t) = self.engine.as_ref().map(Engine::tally) {
            sum.authored += t.authored;
            sum.fast += t.fast;
            sum.slow += t.slow;
            sum.known += t.known;
            sum.waiting += t.waiting;
            sum.refused += t.refused;
        }
        sum
    }
}
