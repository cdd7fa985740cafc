//! Connections and their sessions: from the handshake to the last word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{PeerId, Stream};
use ownmesh_crypto::DeviceId;
use tokio::sync::{mpsc, oneshot};

use super::{CTL, Driver, Out, PROBE_TIME, SessionRef, note_listening};
use crate::net::address::{from_multi, route, transport_key};
use crate::net::counters::Protocol;
use crate::net::dialing::Backoff;
use crate::net::gate::{Refused, Role};
use crate::net::hello::{Expected, HelloError, Proven};
use crate::net::links::{Ended, Held, Step};
use crate::net::outbox::Outbox;
use crate::net::session::{Ctl, Report, Session};
use crate::net::streams::{CONTENT, CONTROL, Flooded, Inbound, PAIR};
use crate::net::swarm::MeshEvent;
use crate::net::{ContentStream, Loss, NetEvent, NetTrouble, OpenError, PairStream, pairing};

/// Content streams told to the engine and not yet heard of; more are reset.
const CONTENT_WAITING: usize = 128;
/// Content streams kept for a peer whose Hello is about to be over.
const EARLY_MAX: usize = 8;

/// A connection that is up.
pub(super) struct Connection {
    pub(super) peer: PeerId,
    pub(super) role: Role,
    pub(super) remote: SocketAddr,
    pub(super) dialer: bool,
    /// Where the control stream goes once the peer opens it.
    control: Option<oneshot::Sender<Result<Stream, OpenError>>>,
    pairing: Option<PairStream>,
    /// Content streams of a peer that finished Hello a moment before us.
    early: Vec<Stream>,
}

impl Driver {
    pub(super) fn handle_swarm(&mut self, event: SwarmEvent<MeshEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.handle_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.handle_closed(connection_id),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => self.handle_dial_error(connection_id, &error),
            SwarmEvent::IncomingConnectionError {
                error: ListenError::Denied { cause },
                ..
            } => {
                if let Some(Refused::Stranger {
                    peer,
                    address: Some(address),
                }) = cause.downcast_ref()
                {
                    self.trouble(NetTrouble::Stranger {
                        transport: transport_key(peer),
                        address: *address,
                    });
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                note_listening(&self.shared, &address, true);
                self.probe_all();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                note_listening(&self.shared, &address, false);
                self.probe_all();
            }
            SwarmEvent::Behaviour(MeshEvent::Streams(Flooded(connection))) => {
                if let Some(device) = self.device_of(connection) {
                    self.trouble(NetTrouble::Flood { device });
                }
            }
            _ => {}
        }
    }

    fn device_of(&self, connection: ConnectionId) -> Option<DeviceId> {
        self.by_peer
            .get(&self.connections.get(&connection)?.peer)
            .copied()
    }

    fn handle_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        // The list may be newer at the gate than here.
        self.handle_wishes();
        let dialer = endpoint.is_dialer();
        let (Some(role), Some(remote)) = (
            self.swarm.behaviour().gate.role(&id),
            from_multi(endpoint.get_remote_address()),
        ) else {
            self.swarm.close_connection(id);
            return;
        };
        if dialer {
            self.adverts.owned(remote, peer);
        }
        let device = self.by_peer.get(&peer).copied();
        if let Some(device) = device.and_then(|device| self.devices.get_mut(&device)) {
            device.dials.remove(&id);
        }
        // Of our own dials that succeed together the first stays.
        let rivals = self
            .connections
            .values()
            .any(|c| dialer && c.dialer && c.peer == peer && c.role == role);
        let mut connection = Connection {
            peer,
            role,
            remote,
            dialer,
            control: None,
            pairing: None,
            early: Vec::new(),
        };
        match (role, device) {
            _ if rivals => {
                self.swarm.close_connection(id);
            }
            (Role::Pinned, Some(device)) => {
                let (stream, opened) = oneshot::channel();
                if *self.swarm.local_peer_id() < peer {
                    self.swarm
                        .behaviour_mut()
                        .streams
                        .open(peer, id, CONTROL, stream);
                } else {
                    connection.control = Some(stream);
                }
                self.begin_session(id, device, &connection, opened);
            }
            (Role::Pinned, None) => {
                self.swarm.close_connection(id);
            }
            (Role::Pairing, _) => {}
        }
        self.connections.insert(id, connection);
    }

    fn begin_session(
        &mut self,
        id: ConnectionId,
        device: DeviceId,
        connection: &Connection,
        stream: oneshot::Receiver<Result<Stream, OpenError>>,
    ) {
        let Some(public) = self.devices.get(&device).map(|device| device.public) else {
            return;
        };
        let (ctl, words) = mpsc::channel(CTL);
        let expected = Expected {
            device,
            sign: public.sign,
            transport: public.transport,
            dialer: connection.dialer,
            own_port: self.port,
        };
        let session = Session {
            connection: id,
            ours: self.ours.clone(),
            expected,
            tally: self.shared.ledger.tally(device, Protocol::Control),
            ctl: words,
            reports: self.report.clone(),
            events: self.events.clone(),
        };
        tokio::spawn(session.run(stream));
        let (route, address) = (route(connection.remote.ip()), connection.remote);
        self.sessions.insert(
            id,
            SessionRef {
                device,
                ctl,
                instance: 0,
                route,
                address,
                adopted: false,
            },
        );
    }

    fn handle_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(stream) = connection.pairing {
            self.shared.pair_streams().remove(&stream);
        }
        // A session in use sees the end itself, after what is still to be read.
        if self
            .sessions
            .get(&id)
            .is_some_and(|session| !session.adopted)
        {
            self.kill(id, Loss::Closed);
        }
    }

    pub(super) fn handle_inbound(&mut self, inbound: Inbound) {
        let Inbound {
            connection: id,
            peer,
            protocol,
            stream,
        } = inbound;
        let device = self.device_of(id);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if protocol == CONTROL {
            // A second control stream is dropped, which resets it.
            if let Some(control) = connection.control.take() {
                let _ = control.send(Ok(stream));
            }
        } else if protocol == CONTENT {
            let Some(device) = device else { return };
            let current = self
                .devices
                .get(&device)
                .and_then(|device| device.link.current());
            if current.is_some() && self.out.len() < CONTENT_WAITING {
                self.say_content(device, stream);
            } else if current.is_none() && connection.early.len() < EARLY_MAX {
                connection.early.push(stream);
            }
        } else if protocol == PAIR
            && connection.pairing.is_none()
            && connection.role == Role::Pairing
        {
            let pair = PairStream(self.next_pairing);
            self.next_pairing += 1;
            connection.pairing = Some(pair);
            self.pairings.insert(pair, id);
            let (sender, outgoing) = mpsc::channel(pairing::OUTGOING);
            self.shared.pair_streams().insert(pair, sender);
            let (events, reports) = (self.events.clone(), self.report.clone());
            tokio::spawn(pairing::serve(
                stream,
                pair,
                transport_key(&peer),
                outgoing,
                events,
                reports,
            ));
        }
    }

    pub(super) fn handle_report(&mut self, report: Report) {
        match report {
            Report::Proven(id, proven) => self.handle_proven(id, proven),
            Report::Failed(id, error) => self.handle_failed(id, &error),
            Report::Alive(id) => self.probed(id, true),
            Report::Ended(id, how) => self.handle_ended(id, how),
            Report::PairEnded(stream) => {
                self.shared.pair_streams().remove(&stream);
                if let Some(connection) = self.pairings.remove(&stream) {
                    self.swarm.close_connection(connection);
                }
            }
        }
    }

    fn handle_proven(&mut self, id: ConnectionId, proven: Proven) {
        let own = *self.swarm.local_peer_id();
        let (Some(session), Some(connection)) =
            (self.sessions.get_mut(&id), self.connections.get(&id))
        else {
            // Closed meanwhile; the session hears of it by `Kill`.
            return;
        };
        session.instance = proven.instance;
        session.address = match (connection.dialer, proven.port) {
            (true, _) | (_, 0) => connection.remote,
            (false, port) => SocketAddr::new(connection.remote.ip(), port),
        };
        let preferred = connection.dialer == (own < connection.peer);
        let (device_id, address) = (session.device, session.address);
        let Some(device) = self
            .devices
            .get_mut(&device_id)
            .filter(|device| device.pinned)
        else {
            self.kill(id, Loss::Removed);
            return;
        };
        device.last = Some(address);
        let steps = device.link.proven(Held {
            connection: id,
            instance: proven.instance,
            preferred,
        });
        self.know();
        self.take_steps(device_id, steps);
    }

    fn handle_failed(&mut self, id: ConnectionId, error: &HelloError) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        let device = session.device;
        let pinned = self
            .devices
            .get(&device)
            .map_or([0; 32], |device| device.public.sign);
        match error {
            HelloError::Version(theirs) => self.trouble(NetTrouble::Version {
                device,
                theirs: *theirs,
            }),
            HelloError::WrongMesh => self.trouble(NetTrouble::WrongMesh { device }),
            HelloError::WrongKey { shown } => {
                self.trouble(NetTrouble::WrongKey {
                    device,
                    pinned,
                    shown: *shown,
                    address: session.address,
                });
            }
            HelloError::Bad => self.trouble(NetTrouble::BadHello { device }),
            HelloError::Ended => {}
        }
        self.swarm.close_connection(id);
        self.delay(device);
        self.forget();
    }

    fn handle_ended(&mut self, id: ConnectionId, how: Ended) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.probes.remove(&id);
        self.swarm.close_connection(id);
        if how == Ended::Lost(Loss::Protocol) {
            self.trouble(NetTrouble::Flood {
                device: session.device,
            });
        }
        if let Some(device) = self.devices.get_mut(&session.device) {
            // Whether it heard of the removal or of the closed connection first.
            let removed = Ended::Lost(Loss::Removed);
            let how = if device.pinned { how } else { removed };
            let steps = device.link.ended(id, how);
            self.take_steps(session.device, steps);
        }
        self.forget();
    }

    /// The network of this machine changed: a connection may have no way any more, and TCP would take
    /// a minute to notice. Each shows a sign of life now, or its device is dialled anew.
    fn probe_all(&mut self) {
        let until = Instant::now() + PROBE_TIME;
        let used = self.sessions.iter().filter(|(_, s)| s.adopted);
        for (id, session) in used {
            let _ = session.ctl.try_send(Ctl::Probe);
            self.probes.entry(*id).or_insert(until);
        }
    }

    /// The answer of a connection that was asked for a sign of life, or its silence.
    pub(super) fn probed(&mut self, id: ConnectionId, alive: bool) {
        if self.probes.remove(&id).is_none() {
            return;
        }
        let Some(device_id) = self.sessions.get(&id).map(|session| session.device) else {
            return;
        };
        let Some(device) = self.devices.get_mut(&device_id) else {
            return;
        };
        let step = device.link.probed(id, alive);
        self.take_steps(device_id, step.into_iter().collect());
    }

    fn take_steps(&mut self, device_id: DeviceId, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Adopt(id) => self.announce(device_id, id, false),
                Step::MoveTo(id) => self.announce(device_id, id, true),
                Step::Probe(id) => {
                    self.word(id, Ctl::Probe);
                    self.probes.insert(id, Instant::now() + PROBE_TIME);
                }
                Step::Retire(id) => self.word(id, Ctl::Retire),
                Step::Kill(id, why) => self.word(id, Ctl::Kill(why)),
                Step::Close(id) => {
                    self.word(id, Ctl::Kill(Loss::Closed));
                    self.swarm.close_connection(id);
                }
                Step::Lost(why) => {
                    self.shared.outboxes().remove(&device_id);
                    self.say(NetEvent::Disconnected {
                        device: device_id,
                        why,
                    });
                    if let Some(device) = self.devices.get_mut(&device_id) {
                        device.backoff = Backoff::new(Instant::now(), Duration::ZERO);
                    }
                    self.delay(device_id);
                }
                Step::TwoInstances => self.trouble(NetTrouble::TwoInstances { device: device_id }),
            }
        }
    }

    fn word(&self, id: ConnectionId, word: Ctl) {
        if let Some(session) = self.sessions.get(&id) {
            let _ = session.ctl.try_send(word);
        }
    }

    fn announce(&mut self, device: DeviceId, id: ConnectionId, moved: bool) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (route, address, instance) = (session.route, session.address, session.instance);
        session.adopted = true;
        let event = if moved {
            NetEvent::Moved {
                device,
                route,
                address,
            }
        } else {
            if let Some(device) = self.devices.get_mut(&device) {
                device.outbox = Arc::default();
            }
            NetEvent::Connected {
                device,
                instance,
                route,
                address,
            }
        };
        self.out.push_back(Out {
            event,
            adopt: Some(id),
        });
        let early = self
            .connections
            .get_mut(&id)
            .map(|connection| std::mem::take(&mut connection.early));
        for stream in early.unwrap_or_default() {
            self.say_content(device, stream);
        }
    }

    fn say_content(&mut self, device: DeviceId, stream: Stream) {
        let tally = self.shared.ledger.tally(device, Protocol::Content);
        let stream = ContentStream { stream, tally };
        self.say(NetEvent::Content { device, stream });
    }

    /// The engine is being told: messages may be queued. Returns: what the session is to be told then.
    pub(super) fn ready(&mut self, id: ConnectionId) -> Option<(mpsc::Sender<Ctl>, Arc<Outbox>)> {
        let session = self.sessions.get(&id)?;
        let device = self.devices.get_mut(&session.device)?;
        // Whoever was removed a moment ago is about to be told so.
        if self.shared.policy.role(&device.peer) != Some(Role::Pinned) {
            return None;
        }
        device.backoff = Backoff::new(Instant::now(), Duration::ZERO);
        let outbox = device.outbox.clone();
        self.shared
            .outboxes()
            .insert(session.device, outbox.clone());
        Some((session.ctl.clone(), outbox))
    }

    pub(super) fn handle_open_content(
        &mut self,
        device: DeviceId,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        let current = self.devices.get(&device).filter(|device| device.pinned);
        match current.and_then(|device| Some((device.peer, device.link.current()?))) {
            Some((peer, connection)) => self
                .swarm
                .behaviour_mut()
                .streams
                .open(peer, connection, CONTENT, reply),
            None => {
                let _ = reply.send(Err(OpenError::NotConnected));
            }
        }
    }
}
