//! Who may connect at all, and to which protocols.
//!
//! First behaviour of the swarm: the derive asks behaviours in order and stops at the first refusal, so no other behaviour ever
//! learns of somebody refused here. The PeerId is authenticated only once the handshake is over, so that is where strangers are
//! told from pinned devices; before it only the address can be judged.
//!
//! Guards against everybody who is not pinned. The other half, per protocol, is the stream handler's, which offers each connection
//! what its [`Role`] allows and nothing else.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
    NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};

use super::address::from_multi;
use super::strangers::{Place, Strangers};

/// How long a pairing window stays open.
pub(crate) const WINDOW: Duration = Duration::from_secs(300);
/// Strangers connected at the same time while it is open.
const STRANGERS_MAX: usize = 4;

/// What a connection may be used for; fixed when it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// Control and content.
    Pinned,
    /// The pairing protocol alone.
    Pairing,
}

/// Who is allowed what, shared by gate and streams, changed by the driver.
#[derive(Debug, Default)]
pub(crate) struct Policy(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    pinned: HashSet<PeerId>,
    blocked: HashSet<PeerId>,
    sponsor: Option<Sponsor>,
    window_until: Option<Instant>,
    familiar: HashSet<IpAddr>,
}

/// With whom a new device pairs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sponsor {
    /// With this one: its ticket says so.
    Known(PeerId),
    /// With whoever answers where it dials: a code names nobody, the pairing itself shows who has it.
    Any,
}

impl Policy {
    /// Replaces the pinned list.
    pub(crate) fn pin(&self, peers: HashSet<PeerId>) {
        self.lock().pinned = peers;
    }

    /// Replaces the list of those that are refused whatever else holds.
    pub(crate) fn block(&self, peers: HashSet<PeerId>) {
        self.lock().blocked = peers;
    }

    fn blocks(&self, peer: &PeerId) -> bool {
        self.lock().blocked.contains(peer)
    }

    /// With whom a new device pairs.
    pub(crate) fn set_sponsor(&self, sponsor: Sponsor) {
        self.lock().sponsor = Some(sponsor);
    }

    /// Opens or closes the pairing window.
    pub(crate) fn set_window(&self, until: Option<Instant>) {
        self.lock().window_until = until;
    }

    /// Replaces the addresses at which pinned devices are known to be. That lets nobody in: it only keeps room for them.
    pub(crate) fn know(&self, addresses: HashSet<IpAddr>) {
        self.lock().familiar = addresses;
    }

    fn place(&self, ip: IpAddr) -> Place {
        if self.lock().familiar.contains(&ip) {
            Place::Familiar
        } else {
            Place::Elsewhere
        }
    }

    /// What this peer may do now; `None`: nothing.
    pub(crate) fn role(&self, peer: &PeerId) -> Option<Role> {
        let lists = self.lock();
        if lists.blocked.contains(peer) {
            return None;
        }
        if lists.pinned.contains(peer) {
            return Some(Role::Pinned);
        }
        let open = lists
            .window_until
            .is_some_and(|until| Instant::now() < until);
        let sponsor = match lists.sponsor {
            Some(Sponsor::Known(known)) => known == *peer,
            Some(Sponsor::Any) => true,
            None => false,
        };
        (open || sponsor).then_some(Role::Pairing)
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the gate refused a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not pinned")]
    Stranger {
        peer: PeerId,
        address: Option<SocketAddr>,
    },
    #[error("blocked by the user")]
    Blocked,
    #[error("too many strangers at once")]
    Crowd,
    #[error("this address was refused too often")]
    Address,
}

/// The behaviour.
#[derive(Debug)]
pub(crate) struct Gate {
    policy: Arc<Policy>,
    strangers: Strangers,
    pending: HashMap<ConnectionId, (IpAddr, Place)>,
    live: HashMap<ConnectionId, (PeerId, Role)>,
}

impl Gate {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            strangers: Strangers::default(),
            pending: HashMap::new(),
            live: HashMap::new(),
        }
    }

    /// Connections that would not be let in any more: their peer was removed, or the window they came in by is closed.
    pub(crate) fn expelled(&self) -> Vec<ConnectionId> {
        let role = |peer: &PeerId| self.policy.role(peer);
        let out = |(peer, had): &(PeerId, Role)| match had {
            Role::Pinned => role(peer) != Some(Role::Pinned),
            Role::Pairing => role(peer).is_none(),
        };
        self.live
            .iter()
            .filter(|(_, entry)| out(entry))
            .map(|(id, _)| *id)
            .collect()
    }

    /// What this connection was let in for.
    pub(crate) fn role(&self, connection: &ConnectionId) -> Option<Role> {
        self.live.get(connection).map(|(_, role)| *role)
    }

    fn admit(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let address = from_multi(address);
        if self.policy.blocks(&peer) {
            // Known and unwanted: its tries count against nobody else at that address.
            return Err(ConnectionDenied::new(Refused::Blocked));
        }
        let Some(role) = self.policy.role(&peer) else {
            if let Some(address) = address {
                self.strangers.refused(Instant::now(), address.ip());
            }
            return Err(ConnectionDenied::new(Refused::Stranger { peer, address }));
        };
        let crowd = self
            .live
            .values()
            .filter(|(_, role)| *role == Role::Pairing)
            .count();
        if role == Role::Pairing && crowd >= STRANGERS_MAX {
            return Err(ConnectionDenied::new(Refused::Crowd));
        }
        self.live.insert(id, (peer, role));
        Ok(())
    }

    fn settled(&mut self, id: &ConnectionId) {
        if let Some((ip, place)) = self.pending.remove(id) {
            self.strangers.settled(ip, place);
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = std::convert::Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(address) = from_multi(remote) else {
            return Err(ConnectionDenied::new(Refused::Address));
        };
        let place = self.policy.place(address.ip());
        if !self.strangers.begin(Instant::now(), address.ip(), place) {
            return Err(ConnectionDenied::new(Refused::Address));
        }
        self.pending.insert(id, (address.ip(), place));
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.settled(&id);
        self.admit(id, peer, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(id, peer, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.live.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.settled(&connection_id);
                self.live.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
