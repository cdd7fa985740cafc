//! The node: one engine thread, the network beside it, and workers for disks and contents.
//!
//! ```text
//! network, watchers, workers, API calls ──► bounded queue ──► engine thread ──► effects
//!          ▲                                                                     │
//!          └───────────────── performed here, results come back as events ◄──────┘
//! ```
//!
//! The engine never waits for anybody: what it asks for is done elsewhere and comes back through
//! the queue. Those who wait on the full queue are the producers, so a busy engine slows disks and
//! peers down instead of filling memory. Stopping is in order: API first, then network, then the
//! engine after what is in its queue; a node that is killed instead loses nothing (see `engine`).

mod adding;
mod again;
mod answering;
mod comparing;
mod error;
mod folders;
mod handle;
mod held;
mod history;
mod keeping;
mod local;
mod paced;
mod reach;
mod snapshots;
mod sources;
mod startup;
mod troubles;
mod undoing;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ownmesh_crdt::message::Message;
use ownmesh_crypto::{DeviceId, DeviceKeys};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{broadcast, oneshot};

pub use self::error::{NodeError, Stopped};
use self::folders::Folders;
pub use self::handle::Handle;
use self::handle::HeldUp;
use self::paced::Paced;
use self::sources::Served;
use crate::content::serve::{ServeLimits, serve};
use crate::db::{Db, DbError, marks};
use crate::engine::{Effect, Engine, Event, Identity, Job, Notice, Now, StartError};
use crate::home::Home;
use crate::net::{Discovery, NetConfig, NetEvent, NetHandle, NetTrouble, Route, SendError};
use crate::pair::SponsorEffect;

/// Things waiting for the engine. Each may hold a message of 4 MiB, so few.
const QUEUE: usize = 64;
/// Content streams served to one device at once, and how long it may stall on one.
const SERVE: (usize, Duration) = (16, Duration::from_secs(60));
/// Bytes that may wait for one peer here. Batches beyond it are dropped: a peer that does not
/// acknowledge them gets them again.
const UNSENT: usize = 32 << 20;
/// Notices a slow listener may lag behind before it misses some.
const NOTICES: usize = 1_024;

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to listen; empty: everywhere, any port (the one used last time if it is free).
    pub listen: Vec<SocketAddr>,
    /// Whether to be found, and find, by multicast DNS.
    pub mdns: bool,
    /// Version shown in the status.
    pub version: String,
}

type Call = Box<dyn FnOnce(&mut Engine, Now) + Send>;

enum Input {
    Event(Event),
    Net(NetEvent),
    Call(Call),
    Stop(oneshot::Sender<()>),
}

/// Where workers put what they have.
#[derive(Clone)]
pub(crate) struct Inbox(SyncSender<Input>);

impl Inbox {
    /// Waits while the engine is behind; false when it is gone.
    pub(crate) fn put(&self, event: Event) -> bool {
        self.0.send(Input::Event(event)).is_ok()
    }
}

/// Starts nodes.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts the node of a home. Must be called within a tokio runtime, by the holder of the
    /// home's lock.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn start(home: &Home, options: Options) -> Result<Handle, NodeError> {
        let keys = Arc::new(DeviceKeys::from_seed(&home.load_seed()?));
        let db = Db::open(&home.db_path())?;
        let keyslots = home
            .keyslots()?
            .iter()
            .map(|slot| slot.to_bytes().to_vec())
            .collect();
        let origin = Instant::now();
        let mesh_secret = marks::get(db.read(), "mesh_secret")?;
        let port = marks::get(db.read(), "port")?
            .and_then(|p| Some(u16::from_be_bytes(p.try_into().ok()?)));
        let mut rng = StdRng::try_from_rng(&mut rand::rngs::SysRng)
            .map_err(|_| std::io::Error::other("no randomness"))?;
        let instance = rand::Rng::next_u64(&mut rng);
        let hints: Arc<startup::Hints> = Arc::default();
        let identity = Identity {
            keys: keys.clone(),
            instance,
            version: options.version.clone(),
            keyslots,
            origin,
            hints: {
                let hints = hints.clone();
                Arc::new(move || hints.get())
            },
        };
        let clock = Clock { origin };
        let (db_path, again) = (home.db_path(), identity.clone());
        let mut engine = Engine::start(db, identity, Box::new(rng), clock.now())?;
        let version = &options.version;
        engine.write_down(
            "started",
            None,
            None,
            format!("the node started, version {version}"),
        );
        let mesh = mesh_secret
            .and_then(|b| <[u8; 32]>::try_from(b).ok())
            .map(ownmesh_crypto::MeshSecret::from_bytes);
        let config = |listen: Vec<SocketAddr>| NetConfig {
            transport_secret: *keys.transport_secret().expose(),
            keys: keys.clone(),
            mesh_id: engine.registry.view().mesh_id,
            discovery: mesh.clone().map(|mesh| Discovery {
                tag: Arc::new(move |nonce: &[u8; 16]| mesh.discovery_tag(nonce)),
                mdns: options.mdns,
            }),
            listen,
            runtime_dir: crate::home::runtime_dir().unwrap_or_else(|_| std::env::temp_dir()),
        };
        let (net, net_events) = startup::start_net(&config, &options.listen, port).await?;
        hints.set(net.clone());
        let used = net.addresses().first().map(SocketAddr::port);
        if let Some(used) = used.filter(|used| Some(*used) != port) {
            engine
                .db
                .write(|tx| marks::put(tx, "port", &used.to_be_bytes()))?;
        }
        let (inbox, queue) = sync_channel(QUEUE);
        let (notices, _) = broadcast::channel(NOTICES);
        let served = Served::new(home.db_path());
        let handle = Handle {
            inbox: inbox.clone(),
            notices: notices.clone(),
            net: net.clone(),
            held_up: HeldUp::default(),
            served: served.clone(),
        };
        startup::feed_net(inbox.clone(), net_events)?;
        let runner = Runner {
            clock,
            folders: Folders::new(home.db_path(), Inbox(inbox)),
            served,
            limits: Arc::new(ServeLimits::new(SERVE.0, SERVE.1)),
            net,
            notices,
            unsent: BTreeMap::new(),
            runtime: tokio::runtime::Handle::current(),
            protected: vec![home.root().to_owned()],
            db_path: home.db_path(),
            held_up: handle.held_up.clone(),
            restart: Box::new(move |jobs| {
                let rng = StdRng::try_from_rng(&mut rand::rngs::SysRng)
                    .map_err(|_| StartError::Registry("no randomness".into()))?;
                let mut engine = Engine::start(
                    Db::open(&db_path)?,
                    again.clone(),
                    Box::new(rng),
                    clock.now(),
                )?;
                engine.number_jobs_from(jobs);
                Ok(engine)
            }),
        };
        std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || runner.run(engine, &queue))?;
        Ok(handle)
    }
}

/// The only place that reads clocks for the engine.
#[derive(Clone, Copy)]
struct Clock {
    origin: Instant,
}

impl Clock {
    fn now(self) -> Now {
        let mono = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Now { mono, wall }
    }
}

struct Runner {
    clock: Clock,
    folders: Folders,
    served: Arc<Served>,
    limits: Arc<ServeLimits>,
    net: NetHandle,
    notices: broadcast::Sender<Notice>,
    /// Messages a full network queue did not take, in order. Bounded by the engine's windows.
    unsent: BTreeMap<DeviceId, VecDeque<Vec<u8>>>,
    runtime: tokio::runtime::Handle,
    /// Folders that can be no part of a space.
    protected: Vec<PathBuf>,
    db_path: PathBuf,
    held_up: HeldUp,
    /// Makes the engine anew from what the database holds, numbering its jobs from there on.
    restart: Box<dyn Fn(Job) -> Result<Engine, StartError> + Send>,
}

impl Runner {
    fn run(mut self, mut engine: Engine, queue: &Receiver<Input>) {
        let _runtime = self.runtime.clone();
        let _entered = _runtime.enter();
        self.perform(&mut engine);
        loop {
            let input = match engine.deadline() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(Duration::from_millis(
                    at.saturating_sub(self.clock.now().mono),
                )),
            };
            let now = self.clock.now();
            let result = match input {
                Ok(Input::Event(event)) => engine.handle(now, event),
                Ok(Input::Net(event)) => self.net_event(&mut engine, now, event),
                Ok(Input::Call(call)) => {
                    call(&mut engine, now);
                    engine.handle(self.clock.now(), Event::Tick)
                }
                Ok(Input::Stop(done)) => {
                    self.folders.close_all();
                    drop(engine);
                    let _told = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => engine.handle(now, Event::Tick),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match result {
                Ok(()) => {}
                Err(error @ DbError::Sqlite(_)) => {
                    let Some(anew) = self.start_over(engine, &error, queue) else {
                        return;
                    };
                    engine = anew;
                }
                Err(error) => {
                    tracing::error!(%error, "the database failed");
                    self.tell("database", format!("the database failed: {error}"));
                }
            }
            self.perform(&mut engine);
        }
    }

    fn net_event(&mut self, engine: &mut Engine, now: Now, event: NetEvent) -> Result<(), DbError> {
        match event {
            NetEvent::Connected {
                device,
                instance,
                route,
                address,
            } => {
                self.unsent.remove(&device);
                engine.handle(
                    now,
                    Event::PeerUp {
                        device,
                        instance,
                        route: route_name(route),
                        address: Some(address.to_string()),
                    },
                )
            }
            NetEvent::Moved {
                device,
                route,
                address,
            } => engine.peer_moved(&device, route_name(route), &address.to_string()),
            NetEvent::Disconnected { device, .. } => {
                self.unsent.remove(&device);
                engine.handle(now, Event::PeerDown { device })
            }
            NetEvent::Message { device, bytes } => {
                engine.pacer().received(now.mono, bytes.len());
                engine.handle(now, Event::Message { device, bytes })
            }
            NetEvent::Writable { device } => {
                self.flush(device);
                Ok(())
            }
            NetEvent::Content { device, stream } => {
                let (source, limits) = (self.served.clone(), self.limits.clone());
                let stream = Paced::new(stream, self.pace(engine), None);
                self.runtime.spawn(async move {
                    if let Err(error) = serve(stream, device, source, &limits).await {
                        tracing::debug!(%device, %error, "serving content ended");
                    }
                });
                Ok(())
            }
            NetEvent::PairFrame {
                stream,
                remote_transport_pub,
                bytes,
            } => {
                engine.pair_frame(now, stream, remote_transport_pub, &bytes);
                Ok(())
            }
            NetEvent::PairClosed { stream } => {
                engine.pair_closed(now, stream);
                Ok(())
            }
            NetEvent::Trouble { trouble, count } => {
                tracing::debug!(?trouble, count, "network");
                if let NetTrouble::TwoInstances { device } = &trouble {
                    engine.runs_twice(now, device);
                }
                let (about, message) = troubles::say(&trouble, &|d| engine.device_name(d));
                engine.trouble_with(about, troubles::kind(&trouble), message, now);
                Ok(())
            }
        }
    }

    fn send(&mut self, device: DeviceId, bytes: Vec<u8>, comes_again: bool) {
        let waiting = self.unsent.entry(device).or_default();
        if comes_again && waiting.iter().map(Vec::len).sum::<usize>() > UNSENT {
            return;
        }
        waiting.push_back(bytes);
        self.flush(device);
    }

    fn flush(&mut self, device: DeviceId) {
        let Some(waiting) = self.unsent.get_mut(&device) else {
            return;
        };
        while let Some(bytes) = waiting.pop_front() {
            match self.net.send(device, bytes.clone()) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    waiting.push_front(bytes);
                    return;
                }
                Err(error @ SendError::TooLong { .. }) => {
                    tracing::error!(%device, %error, "message not sent");
                }
                Err(error) => {
                    tracing::debug!(%device, %error, "message not sent");
                    waiting.clear();
                }
            }
        }
        self.unsent.remove(&device);
    }

    fn perform(&mut self, engine: &mut Engine) {
        loop {
            let effects = engine.effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform_one(engine, effect);
            }
        }
    }

    fn perform_one(&mut self, engine: &mut Engine, effect: Effect) {
        match effect {
            Effect::Send { device, message } => {
                let again = matches!(message, Message::Batches { .. });
                self.send(device, message.encode(), again);
            }
            Effect::Peers => self.set_peers(engine),
            Effect::Open { space, path } => {
                self.folders.open(engine, space, &path, self.clock.now());
                self.served.update(engine, &self.folders);
            }
            Effect::Mark { space } => {
                self.folders.close(space);
                let fs = engine
                    .space_path(space)
                    .zip(engine.space_keys(space))
                    .map_or_else(
                        || Err("the space is gone".to_owned()),
                        |(path, (id, _))| {
                            folders::mark(&path, &id).map_err(|e| format!("{path}: {e}"))
                        },
                    );
                engine.marked(space, fs);
                if let Some(path) = engine.space_path(space) {
                    self.folders.open(engine, space, &path, self.clock.now());
                    self.served.update(engine, &self.folders);
                }
            }
            Effect::Watch { space, path } => {
                self.folders.watch(engine, space, path);
                self.served.update(engine, &self.folders);
            }
            Effect::Rest { space } => {
                self.folders.rest(space);
                self.served.update(engine, &self.folders);
            }
            Effect::Close { space } => {
                self.folders.close(space);
                self.served.update(engine, &self.folders);
            }
            Effect::Scan {
                space,
                job,
                guard,
                look,
            } => {
                if self.folders.is_shut(space)
                    && let Some(path) = engine.space_path(space)
                {
                    self.folders.open(engine, space, &path, self.clock.now());
                    self.served.update(engine, &self.folders);
                }
                self.folders.scan(space, job, guard, look);
            }
            Effect::Sync { space, job, files } => self.folders.sync(space, job, files),
            Effect::Discard { space, staged } => self.folders.discard(space, staged),
            Effect::Sweep { space } => self.folders.sweep(space),
            Effect::Perform {
                space,
                job,
                steps,
                replaced,
            } => self.folders.perform(space, job, steps, replaced),
            Effect::Fetch {
                space,
                job,
                device,
                wants,
            } => {
                let road = (self.net.clone(), self.pace(engine));
                self.folders
                    .fetch(engine, &self.runtime, road, space, job, device, wants);
            }
            Effect::Notice(notice) => drop(self.notices.send(notice)),
            Effect::OpenWindow { advert } => self.net.open_window(advert),
            Effect::CloseWindow => self.net.close_window(),
            Effect::Pair(SponsorEffect::Send { stream, bytes }) => {
                if let Err(error) = self.net.pair_send(stream, bytes) {
                    tracing::debug!(%error, "pairing message not sent");
                }
            }
            Effect::Pair(SponsorEffect::Close { stream }) => self.net.pair_close(stream),
            Effect::Pair(_) => {}
            Effect::Add { request, done } => {
                let handle = Handle {
                    inbox: self.folders.inbox(),
                    notices: self.notices.clone(),
                    net: self.net.clone(),
                    held_up: self.held_up.clone(),
                    served: self.served.clone(),
                };
                let protected = self.protected.clone();
                self.runtime.spawn(async move {
                    let result = adding::add(&handle, request, protected).await;
                    drop(done.send(result));
                });
            }
        }
    }
}

fn route_name(route: Route) -> &'static str {
    match route {
        Route::Loopback => "loopback",
        Route::Lan => "lan",
        Route::Direct => "direct",
    }
}
