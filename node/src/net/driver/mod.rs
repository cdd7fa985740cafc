//! The network's one task: everything that happens meets here and nowhere else.
//!
//! One loop over a closed set of happenings: the swarm's events, streams opened to us, sessions' reports, discoveries, the
//! engine's wishes and orders, and the clock. It waits for none of them in particular and for no receiver: what is to be told
//! waits in `out`, and while that is long nothing new is taken from the swarm. Guards against deadlock between us and the engine.

mod connections;
mod dials;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::PeerId;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use ownmesh_crypto::{DeviceId, DevicePublic};
use rand::RngExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep_until, timeout};

use super::address::{from_multi, peer_id, to_multi};
use super::dialing::{Adverts, Backoff};
use super::discovery::{Finder, Found};
use super::gate::WINDOW;
use super::handle::{Command, Shared, Wishes};
use super::hello::Ours;
use super::links::Link;
use super::outbox::Outbox;
use super::session::{Ctl, Report};
use super::streams::Inbound;
use super::swarm::{Mesh, build};
use super::trouble::Troubles;
use super::{
    Loss, NetConfig, NetError, NetEvent, NetTrouble, PairAdvert, PairStream, Peer, Route, address,
};

use connections::Connection;

/// Reports of sessions that may wait.
const REPORTS: usize = 256;
/// Events for the engine that may wait here; then the swarm has to.
const OUT_MAX: usize = 256;
/// How long a listener may take to say where it listens.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// How long a connection has for a sign of life when a fresh one is there.
const PROBE_TIME: Duration = Duration::from_secs(2);
/// Words to a session that may wait; more than it is ever told.
const CTL: usize = 8;
/// How much later than the device with the lower PeerId the other one dials first: mostly spares the second connection.
const COURTESY: Duration = Duration::from_millis(150);

/// One device we know or have just dropped.
struct Device {
    public: DevicePublic,
    peer: PeerId,
    addresses: Vec<SocketAddr>,
    /// Where it was when we last heard of it.
    last: Option<SocketAddr>,
    pinned: bool,
    backoff: Backoff,
    dials: HashMap<ConnectionId, SocketAddr>,
    link: Link,
    outbox: Arc<Outbox>,
}

/// A session that has not ended.
struct SessionRef {
    device: DeviceId,
    ctl: mpsc::Sender<Ctl>,
    instance: u64,
    route: Route,
    address: SocketAddr,
    adopted: bool,
}

/// What is to be told, and which session may speak once it is.
struct Out {
    event: NetEvent,
    adopt: Option<ConnectionId>,
}

/// The task.
pub(super) struct Driver {
    swarm: Swarm<Mesh>,
    inbound: mpsc::Receiver<Inbound>,
    shared: Arc<Shared>,
    events: mpsc::Sender<NetEvent>,
    orders: mpsc::Receiver<Command>,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    finder: Finder,
    found: mpsc::Receiver<Found>,
    ours: Ours,
    port: u16,
    devices: BTreeMap<DeviceId, Device>,
    by_peer: HashMap<PeerId, DeviceId>,
    connections: HashMap<ConnectionId, Connection>,
    sessions: HashMap<ConnectionId, SessionRef>,
    pairings: HashMap<PairStream, ConnectionId>,
    next_pairing: u64,
    probes: HashMap<ConnectionId, Instant>,
    adverts: Adverts,
    troubles: Troubles,
    window_until: Option<Instant>,
    out: VecDeque<Out>,
}

impl Driver {
    /// Listens and announces; the rest begins with [`run`](Self::run).
    pub(super) async fn start(
        config: NetConfig,
        shared: Arc<Shared>,
        events: mpsc::Sender<NetEvent>,
        orders: mpsc::Receiver<Command>,
    ) -> Result<Self, NetError> {
        let (mut swarm, inbound) = build(config.transport_secret, shared.policy.clone())?;
        let (port, silent) = listen(&mut swarm, &config.listen, &shared).await?;
        let (finder, found) = Finder::start(config.discovery, config.runtime_dir, port);
        let (report, reports) = mpsc::channel(REPORTS);
        let mut instance = [0; 8];
        getrandom::fill(&mut instance).map_err(|_| NetError::Key)?;
        let ours = Ours {
            keys: config.keys,
            mesh_id: config.mesh_id,
            instance: u64::from_be_bytes(instance),
        };
        let mut driver = Self {
            swarm,
            inbound,
            shared,
            events,
            orders,
            report,
            reports,
            finder,
            found,
            ours,
            port,
            devices: BTreeMap::new(),
            by_peer: HashMap::new(),
            connections: HashMap::new(),
            sessions: HashMap::new(),
            pairings: HashMap::new(),
            next_pairing: 0,
            probes: HashMap::new(),
            adverts: Adverts::default(),
            troubles: Troubles::new(Instant::now()),
            window_until: None,
            out: VecDeque::new(),
        };
        for address in silent {
            driver.trouble(NetTrouble::Listen { address });
        }
        Ok(driver)
    }

    /// Runs until it is told to stop or nobody is left to tell it.
    pub(super) async fn run(mut self) {
        let (shared, events) = (self.shared.clone(), self.events.clone());
        let stopped = loop {
            self.tell();
            let deadline = self.tick();
            let waits = !self.out.is_empty();
            let takes = self.out.len() < OUT_MAX;
            tokio::select! {
                () = shared.wished.notified() => self.handle_wishes(),
                room = events.reserve(), if waits => {
                    if room.is_err() {
                        break None;
                    }
                }
                () = events.closed() => break None,
                order = self.orders.recv() => match order {
                    Some(Command::OpenContent { device, reply }) => self.handle_open_content(device, reply),
                    Some(Command::Shutdown(reply)) => break Some(reply),
                    None => break None,
                },
                Some(report) = self.reports.recv(), if takes => self.handle_report(report),
                Some(found) = self.found.recv() => self.handle_found(found),
                Some(stream) = self.inbound.recv(), if takes => self.handle_inbound(stream),
                event = self.swarm.select_next_some(), if takes => self.handle_swarm(event),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {}
            }
        };
        self.stop(stopped);
    }

    fn stop(self, reply: Option<oneshot::Sender<()>>) {
        self.shared.outboxes().clear();
        self.shared.pair_streams().clear();
        self.shared.listening().clear();
        drop(self);
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    /// Hands over what the engine has room for. A session may speak once its `Connected` is on its way.
    fn tell(&mut self) {
        while !self.out.is_empty() {
            let Ok(permit) = self.events.clone().try_reserve_owned() else {
                return;
            };
            let Some(Out { event, adopt }) = self.out.pop_front() else {
                return;
            };
            // Whoever reads `Connected` may send at once, so the queue is there before.
            let ready = adopt.and_then(|connection| self.ready(connection));
            permit.send(event);
            if let Some((ctl, outbox)) = ready {
                let _ = ctl.try_send(Ctl::Adopt(outbox));
            }
        }
    }

    fn say(&mut self, event: NetEvent) {
        self.out.push_back(Out { event, adopt: None });
    }

    fn trouble(&mut self, trouble: NetTrouble) {
        if let Some(count) = self.troubles.report(Instant::now(), &trouble) {
            self.say(NetEvent::Trouble { trouble, count });
        }
    }

    /// Does what is due. Returns: when something will be.
    fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.window_until.is_some_and(|until| until <= now) {
            self.set_window(None);
        }
        let late: Vec<ConnectionId> = self
            .probes
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| *id)
            .collect();
        for connection in late {
            self.probed(connection, false);
        }
        let next_dial = self.dial_due(now);
        let next_probe = self.probes.values().min().copied();
        [self.window_until, next_probe, next_dial]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_wishes(&mut self) {
        let Wishes { peers, window } = self.shared.take_wishes();
        if let Some(peers) = peers {
            self.set_peers(peers);
        }
        if let Some(window) = window {
            self.set_window(window);
        }
    }

    fn set_peers(&mut self, peers: Vec<Peer>) {
        let now = Instant::now();
        let own = *self.swarm.local_peer_id();
        let kept: HashSet<DeviceId> = peers.iter().map(|peer| peer.device).collect();
        for (id, device) in &mut self.devices {
            device.pinned = device.pinned && kept.contains(id);
        }
        self.by_peer.retain(|_, device| kept.contains(device));
        for Peer {
            device,
            public,
            addresses,
        } in peers
        {
            let Some(peer) = peer_id(&public.transport).filter(|peer| *peer != own) else {
                continue;
            };
            let head_start = if own < peer { Duration::ZERO } else { COURTESY };
            let entry = self.devices.entry(device).or_insert_with(|| Device {
                public,
                peer,
                addresses: Vec::new(),
                last: None,
                pinned: true,
                backoff: Backoff::new(now, head_start),
                dials: HashMap::new(),
                link: Link::default(),
                outbox: Arc::default(),
            });
            if entry.peer != peer {
                self.by_peer.remove(&entry.peer);
            }
            if entry.addresses != addresses || !entry.pinned {
                entry.backoff = Backoff::new(now, head_start);
            }
            (entry.public, entry.peer, entry.addresses, entry.pinned) =
                (public, peer, addresses, true);
            self.by_peer.insert(peer, device);
        }
        self.expel();
        self.forget();
        self.know();
    }

    /// Tells the gate where devices of ours have been. Adverts do not count: whoever hears one can repeat it as his own.
    fn know(&self) {
        let met = |device: &Device| {
            device
                .addresses
                .iter()
                .copied()
                .chain(device.last)
                .collect()
        };
        let all = self.devices.values().flat_map::<Vec<_>, _>(met);
        let all = all.map(|address| address.ip()).collect();
        self.shared.policy.know(all);
    }

    /// Drops devices that are neither pinned nor still ending.
    fn forget(&mut self) {
        let sessions = &self.sessions;
        self.devices.retain(|id, device| {
            device.pinned || sessions.values().any(|session| session.device == *id)
        });
    }

    fn set_window(&mut self, pairing: Option<PairAdvert>) {
        self.window_until = pairing.map(|_| Instant::now() + WINDOW);
        self.shared.policy.set_window(self.window_until);
        self.finder.announce_pairing(pairing);
        self.expel();
    }

    /// Closes what the gate would not let in any more.
    fn expel(&mut self) {
        for connection in self.swarm.behaviour().gate.expelled() {
            self.kill(connection, Loss::Removed);
            self.swarm.close_connection(connection);
        }
    }

    fn kill(&self, connection: ConnectionId, why: Loss) {
        if let Some(session) = self.sessions.get(&connection) {
            let _ = session.ctl.try_send(Ctl::Kill(why));
        }
    }

    fn handle_found(&mut self, found: Found) {
        match found {
            Found::At { source, addresses } => {
                if self.adverts.found(source, &addresses) {
                    self.hurry();
                }
            }
            Found::Gone { source } => self.adverts.gone(&source),
            Found::Trouble(what) => self.trouble(NetTrouble::Discovery { what }),
        }
    }

    fn chance(&self) -> f64 {
        rand::rng().random()
    }
}

/// Listens on all that work, and on loopback if none of them covers it.
///
/// Returns: the port of the first, which the others that left it open share where they can; and those that failed.
async fn listen(
    swarm: &mut Swarm<Mesh>,
    wanted: &[SocketAddr],
    shared: &Shared,
) -> Result<(u16, Vec<SocketAddr>), NetError> {
    let mut port = 0;
    let mut failed = Vec::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let covered = |a: &SocketAddr| a.is_ipv4() && (a.ip().is_unspecified() || a.ip().is_loopback());
    let loopback =
        (!wanted.iter().any(covered)).then_some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    for address in wanted.iter().copied().chain(loopback) {
        let shared_port = SocketAddr::new(
            address.ip(),
            if address.port() == 0 {
                port
            } else {
                address.port()
            },
        );
        // Only the first is waited for: a kind of address this machine has none of never says where it listens.
        let first = port == 0;
        let mut result = listen_on(swarm, shared_port, first, shared).await;
        if result.is_err() && shared_port != address {
            result = listen_on(swarm, address, first, shared).await;
        }
        match result {
            Ok(got) if port == 0 => port = got,
            Ok(_) => {}
            Err(error) => {
                failed.push(address);
                last = error;
            }
        }
    }
    if port == 0 {
        return Err(NetError::Listen {
            tried: failed,
            source: last,
        });
    }
    Ok((port, failed))
}

async fn listen_on(
    swarm: &mut Swarm<Mesh>,
    address: SocketAddr,
    wait: bool,
    shared: &Shared,
) -> io::Result<u16> {
    let listener = swarm
        .listen_on(to_multi(address))
        .map_err(io::Error::other)?;
    if !wait {
        return Ok(address.port());
    }
    let until = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr {
                    listener_id,
                    address,
                } => {
                    note_listening(shared, &address, true);
                    if let Some(address) = from_multi(&address).filter(|_| listener_id == listener)
                    {
                        return Ok(address.port());
                    }
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                } if listener_id == listener => {
                    return Err(reason
                        .err()
                        .unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
                }
                _ => {}
            }
        }
    };
    timeout(LISTEN_TIME, until)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Keeps the list for tickets: private networks first, then public addresses, this machine last.
fn note_listening(shared: &Shared, multi: &libp2p::Multiaddr, there: bool) {
    let Some(address) = from_multi(multi).filter(address::dialable) else {
        return;
    };
    let mut all = shared.listening();
    all.retain(|known| *known != address);
    if there {
        all.push(address);
    }
    all.sort_by_key(|address| {
        let near = match address::route(address.ip()) {
            Route::Lan => 0,
            Route::Direct => 1,
            Route::Loopback => 2,
        };
        (near, address.is_ipv6(), *address)
    });
}
