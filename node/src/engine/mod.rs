//! The engine: everything a device decides, in one place and without a clock, a socket or a file.
//!
//! It takes an [`Event`] and the time, changes the database, and returns [`Effect`]s for others to
//! perform: send this, scan that folder, fetch these contents, take these steps on the disk. What
//! they come back with is an event again. The node runs it on one thread beside the real network
//! and disk; the simulator runs the very same code beside simulated ones.
//!
//! | file | decides |
//! |---|---|
//! | `registry` | who belongs to the mesh, which keys are held |
//! | `peers`, `seal`, `inbound` | who is connected; own batches sealed and sent, those of others taken in |
//! | `hello`; `state`, `lacking` | acknowledgements; state transfer, given and taken |
//! | `docs`, `tree` | documents, the tree derived from them |
//! | `author`, `appeared` | what the user did to the disk; what appeared there, and which item it is |
//! | `plan`, `work`, `steps`, `pass` | what the disk lacks, and in which order it gets it |
//! | `fetch`, `express`, `group`, `settle` | contents on their way, steps on their way, what came of them |
//! | `space`, `membership`, `scan` | a folder in service; joining and leaving; looking at its disk |
//! | `ignoring`, `rules_asked` | what the ignore rules keep from the disk; what people ask of them |
//! | `brake`, `pause`, `recover` | stopping, waiting as told, healing after a crash |
//! | `block`, `limit` | devices that are not talked to, and names of devices; how fast this one may be |
//! | `status`, `wait`, `why`, `conflicts`, `abandon`, `undo` | what people and scripts ask |
//! | `journal` | the operation log |
//!
//! Orders that never change (ARCHITECTURE.md) are kept here: content synced at its source before
//! the batch that names it is sealed ([`Space::unsynced`]); sealed and durable before announced
//! (`seal`); staged files synced, then `placing` rows durable, then the swap (`group`); applied
//! and durable before acknowledged (`hello`).

mod abandon;
mod appeared;
mod author;
mod block;
mod brake;
mod confirmed;
mod conflicts;
mod docs;
mod event;
mod express;
mod fetch;
mod group;
mod hello;
mod ignoring;
mod inbound;
mod journal;
mod lacking;
mod limit;
pub(crate) mod local;
mod membership;
mod notice;
mod notices;
mod nowhere;
mod others;
mod pace;
mod pairing;
mod pass;
mod pause;
mod peers;
mod plan;
mod recover;
mod refused;
mod registry;
mod rules_asked;
mod scan;
mod seal;
mod settle;
mod space;
mod state;
mod status;
mod steps;
pub mod tree;
mod twins;
mod undo;
mod wait;
mod why;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use ownmesh_crypto::registry::Registry;
use ownmesh_crypto::{DeviceId, DeviceKeys, EpochKey, Incarnation, KeyId, MeshSecret, SpaceId};
use rand::CryptoRng;

pub use self::conflicts::Standing;
pub use self::docs::Tally;
pub use self::event::{Effect, Event, Job, Now};
pub use self::fetch::{Missed, Want, WantResult};
pub(crate) use self::membership::mode_number;
pub use self::notice::Notice;
pub(crate) use self::rules_asked::{PATTERN_HINT, rule_file};
pub use self::space::Space;
pub(crate) use self::undo::Scope;
pub use self::work::Portions;
use crate::db::{Db, DbError, marks};
use crate::disk::RelPath;

/// What an engine starts from, besides its database.
#[derive(Clone)]
pub struct Identity {
    /// This device's keys.
    pub keys: Arc<DeviceKeys>,
    /// Random number of this process: two processes with one identity give themselves away by it.
    pub instance: u64,
    /// Version of the program, for the status.
    pub version: String,
    /// The keyslots, for devices that are let in.
    pub keyslots: Vec<Vec<u8>>,
    /// The moment that [`Now::mono`] counts from.
    pub origin: Instant,
    /// Addresses this device listens at now, for tickets.
    pub hints: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("device", &self.keys.device_id())
            .finish_non_exhaustive()
    }
}

/// Everything a device decides.
pub struct Engine {
    pub(crate) db: Db,
    pub(crate) registry: Registry,
    pub(crate) identity: Identity,
    pub(crate) device: DeviceId,
    pub(crate) mesh: MeshSecret,
    rng: Box<dyn CryptoRng + Send>,
    /// Epoch keys this device could open, by space.
    keys: BTreeMap<SpaceId, BTreeMap<KeyId, EpochKey>>,
    /// Drawn with the first change of this process: a database restored from an old copy can then
    /// never continue a log that went on elsewhere (docs/design/0002-incarnations.md).
    incarnation: Option<Incarnation>,
    spaces: BTreeMap<i64, Space>,
    peers: BTreeMap<DeviceId, peers::Peer>,
    effects: Vec<Effect>,
    jobs: Job,
    tally: Tally,
    /// When the next acknowledgement may be sent.
    ack_at: Option<u64>,
    waits: Vec<wait::Wait>,
    pairing: Option<pairing::Window>,
    guessed: pairing::Guessed,
    /// Devices that are not talked to.
    blocked: BTreeSet<DeviceId>,
    twins: twins::Twins,
    flow: limit::Flow,
    portions: Portions,
    /// When the event in hand came.
    seen_at: Now,
    /// What went wrong lately outside any space.
    troubles: BTreeMap<String, status::Trouble>,
    journal: journal::Journal,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("device", &self.device)
            .field("spaces", &self.spaces.len())
            .finish_non_exhaustive()
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database could not be used.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The database names another device than the seed beside it.
    #[error("the key file and the database of this home belong to different devices")]
    OtherDevice,
    /// The registry does not verify.
    #[error("the list of devices in the database does not verify: {0}")]
    Registry(String),
}

impl Engine {
    /// Starts from a database. Perform the effects it returns first ([`Engine::effects`]).
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        mut db: Db,
        identity: Identity,
        rng: Box<dyn CryptoRng + Send>,
        now: Now,
    ) -> Result<Self, StartError> {
        let mesh = marks::get(db.read(), "mesh_secret")?
            .and_then(|b| <[u8; 32]>::try_from(b).ok())
            .map(MeshSecret::from_bytes)
            .ok_or_else(|| {
                DbError::NotOurs(db.path().map(ToOwned::to_owned).unwrap_or_default())
            })?;
        let device = identity.keys.device_id();
        if marks::get(db.read(), "device")?.as_deref() != Some(device.as_bytes().as_slice()) {
            return Err(StartError::OtherDevice);
        }
        let registry = registry::load(&mut db)?;
        let mut engine = Self {
            db,
            registry,
            identity,
            device,
            mesh,
            rng,
            keys: BTreeMap::new(),
            incarnation: None,
            spaces: BTreeMap::new(),
            peers: BTreeMap::new(),
            effects: Vec::new(),
            jobs: 0,
            tally: Tally::default(),
            ack_at: None,
            waits: Vec::new(),
            pairing: None,
            guessed: pairing::Guessed::default(),
            blocked: BTreeSet::new(),
            twins: twins::Twins::default(),
            flow: limit::Flow::default(),
            portions: Portions::default(),
            seen_at: now,
            troubles: BTreeMap::new(),
            journal: journal::Journal::default(),
        };
        engine.open_grants();
        engine.load_blocked()?;
        engine.load_limits(now)?;
        engine.open_spaces(now)?;
        engine.load_pauses(now)?;
        engine.effects.push(Effect::Peers);
        Ok(engine)
    }

    /// Handles one event. Effects gather until [`Engine::effects`] takes them.
    ///
    /// # Errors
    /// Only if the database fails: nothing of the event is kept then, and the node should stop
    /// rather than go on with a disk that is full or gone.
    pub fn handle(&mut self, now: Now, event: Event) -> Result<(), DbError> {
        match event {
            Event::PeerUp {
                device,
                route,
                address,
                ..
            } => self.peer_up(now, device, route, address)?,
            Event::PeerDown { device } => self.peer_down(now, &device),
            Event::Message { device, bytes } => self.message(now, &device, &bytes)?,
            Event::Found { space, job, found } => self.found(now, space, job, found)?,
            Event::Scanned { space, job, result } => self.scanned(now, space, job, result)?,
            Event::Synced { space, job, error } => self.synced(now, space, job, error)?,
            Event::Performed {
                space,
                job,
                outcomes,
            } => self.performed(now, space, job, outcomes)?,
            Event::Fetched {
                space,
                job,
                results,
            } => self.fetched(now, space, job, results)?,
            Event::Disturbed { space, dirs } => self.disturbed(space, dirs),
            Event::Swept { space, gone } => self.drop_kept(space, &gone),
            Event::Watched { space, lacking } => self.watched(now, space, lacking),
            Event::Superseded { space, path } => {
                self.disturbed(space, vec![path.parent().unwrap_or(RelPath::ROOT)]);
            }
            Event::Tick => {}
        }
        self.turn(now)
    }

    /// What follows from whatever happened: seal, send, plan, acknowledge.
    pub(crate) fn turn(&mut self, now: Now) -> Result<(), DbError> {
        self.seen_at = now;
        self.end_pauses(now)?;
        let spaces: Vec<i64> = self.spaces.keys().copied().collect();
        for n in spaces {
            self.seal(now, n)?;
            self.work(now, n)?;
        }
        self.close_gaps(now)?;
        self.seek_state(now)?;
        self.serve_asked(now)?;
        self.pump_all(now)?;
        self.acknowledge(now)?;
        self.check_waits(now)?;
        self.look_for_conflicts()?;
        self.close_expired(now);
        Ok(())
    }

    /// Something is asked between two events, at this time.
    pub(crate) fn wake(&mut self, now: Now) {
        self.seen_at = now;
    }

    /// Handles an event and passes over its errors: for callers that answer to a person.
    pub(crate) fn nudge(&mut self, now: Now) {
        if let Err(error) = self.handle(now, Event::Tick) {
            tracing::error!(%error, "the database failed");
        }
    }

    /// Takes the effects gathered so far, in the order they are to be performed.
    pub fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Tick`] is due at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let spaces = self.spaces.values().filter_map(|s| s.deadline());
        let waits = self.waits.iter().map(|w| w.due(self.seen_at.mono));
        let awake = self.spaces.values().filter(|s| !s.is_paused());
        let seeks = awake.filter_map(|s| s.seek_at);
        let window = self.pairing.as_ref().map(|w| w.until);
        let gaps = self
            .peers
            .values()
            .flat_map(|p| p.spaces.values())
            .flat_map(|s| s.gap_at.into_iter().chain(s.patience_ends()));
        spaces
            .chain(waits)
            .chain(gaps)
            .chain(seeks)
            .chain(self.ack_at)
            .chain(self.flow.held_until())
            .chain(window)
            .min()
    }

    /// What happened to changes since the start.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The database, for tests that look inside and workers that read.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Starts to keep what a loss of power could leave of the database; see [`Db::record`].
    ///
    /// # Errors
    /// Fails if the database cannot be read.
    pub fn record(&mut self) -> Result<(), DbError> {
        self.db.record()
    }

    /// Stops, and gives the database back as it was last committed.
    #[must_use]
    pub fn into_db(self) -> Db {
        self.db
    }

    /// The spaces in service.
    pub fn open_spaces_list(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values()
    }

    /// This device.
    #[must_use]
    pub fn device(&self) -> DeviceId {
        self.device
    }

    /// The newest job given out.
    pub fn last_job(&self) -> Job {
        self.jobs
    }

    /// Jobs of an engine made anew are numbered above those of the one before.
    pub fn number_jobs_from(&mut self, jobs: Job) {
        self.jobs = jobs;
    }

    pub(crate) fn next_job(&mut self) -> Job {
        self.jobs += 1;
        self.jobs
    }

    fn notice(&mut self, notice: Notice) {
        self.note_down(&notice);
        self.effects.push(Effect::Notice(notice));
    }
}
