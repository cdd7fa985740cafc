//! Streams of our protocols on explicit connections.
//!
//! Exists because libp2p-stream keeps one inbound stream waiting and silently drops the rest, picks any of several connections, and
//! forgets no connection. Here a burst of inbound streams waits in a bounded queue, what exceeds it is reset where the opener sees
//! it at once, an opener names the connection, and every opening ends within [`OPEN_TIMEOUT`].
//!
//! Guards against a peer that opens streams faster than they are taken, and against protocols offered to somebody who may not use
//! them: a handler offers what its connection's [`Role`] allows.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use tokio::sync::{mpsc, oneshot};

use super::OpenError;
use super::gate::{Policy, Role};

/// Hello, registry, log, requests.
pub(crate) const CONTROL: StreamProtocol = StreamProtocol::new("/mesh/control/1");
/// File content.
pub(crate) const CONTENT: StreamProtocol = StreamProtocol::new("/mesh/content/1");
/// The pairing protocol.
pub(crate) const PAIR: StreamProtocol = StreamProtocol::new("/mesh/pair/1");

/// Inbound streams of all connections that wait to be taken.
const INBOUND_MAX: usize = 256;
/// Streams being opened on one connection.
const OPENING_MAX: usize = 64;
/// How long negotiating a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream somebody opened to us.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) connection: ConnectionId,
    pub(crate) peer: PeerId,
    pub(crate) protocol: StreamProtocol,
    pub(crate) stream: Stream,
}

/// Where an opened stream, or the failure, goes.
pub(crate) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// Asks a connection's handler for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    protocol: StreamProtocol,
    reply: Reply,
}

/// The behaviour.
#[derive(Debug)]
pub(crate) struct Streams {
    policy: Arc<Policy>,
    inbound: mpsc::Sender<Inbound>,
    requests: VecDeque<(PeerId, ConnectionId, Open)>,
    flooded: Vec<ConnectionId>,
    waker: Option<Waker>,
}

/// A connection whose peer opened more than could be taken.
#[derive(Debug)]
pub(crate) struct Flooded(pub(crate) ConnectionId);

impl Streams {
    /// Returns: the behaviour, and the queue of streams opened to us.
    pub(crate) fn new(policy: Arc<Policy>) -> (Self, mpsc::Receiver<Inbound>) {
        let (inbound, taken) = mpsc::channel(INBOUND_MAX);
        (
            Self {
                policy,
                inbound,
                requests: VecDeque::new(),
                flooded: Vec::new(),
                waker: None,
            },
            taken,
        )
    }

    /// Opens a stream on this connection. A connection that is gone drops `reply`.
    pub(crate) fn open(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocol: StreamProtocol,
        reply: Reply,
    ) {
        if self.requests.len() >= INBOUND_MAX {
            let _ = reply.send(Err(OpenError::TooMany));
            return;
        }
        self.requests
            .push_back((peer, connection, Open { protocol, reply }));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn handler(&self, connection: ConnectionId, peer: PeerId) -> Handler {
        // The gate has let this peer in, so it has a role; if not, the narrower one.
        let role = self.policy.role(&peer).unwrap_or(Role::Pairing);
        Handler {
            connection,
            peer,
            role,
            inbound: self.inbound.clone(),
            waiting: VecDeque::new(),
            opening: 0,
            flooded: false,
        }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Flooded;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        Overflow: THandlerOutEvent<Self>,
    ) {
        self.flooded.push(connection);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(connection) = self.flooded.pop() {
            return Poll::Ready(ToSwarm::GenerateEvent(Flooded(connection)));
        }
        if let Some((peer_id, connection, event)) = self.requests.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event,
            });
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// An inbound stream had to be reset.
#[derive(Debug)]
pub(crate) struct Overflow;

/// One connection's half.
pub(crate) struct Handler {
    connection: ConnectionId,
    peer: PeerId,
    role: Role,
    inbound: mpsc::Sender<Inbound>,
    waiting: VecDeque<Open>,
    opening: usize,
    flooded: bool,
}

impl Handler {
    fn offered(&self) -> Vec<StreamProtocol> {
        match self.role {
            Role::Pinned => vec![CONTROL, CONTENT],
            Role::Pairing => vec![PAIR],
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Overflow;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.offered()), ()).with_timeout(OPEN_TIMEOUT)
    }

    /// Pinned connections stay; a stranger's lives as long as its streams and the swarm's idle time.
    fn connection_keep_alive(&self) -> bool {
        self.role == Role::Pinned
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Upgrade, Reply, Overflow>> {
        if std::mem::take(&mut self.flooded) {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Overflow));
        }
        while let Some(Open { protocol, reply }) = self.waiting.pop_front() {
            if reply.is_closed() {
                continue;
            }
            self.opening += 1;
            let protocol =
                SubstreamProtocol::new(Upgrade(vec![protocol]), reply).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if !self.offered().contains(&open.protocol) {
            let _ = open.reply.send(Err(OpenError::Refused));
        } else if self.waiting.len() + self.opening >= OPENING_MAX {
            let _ = open.reply.send(Err(OpenError::TooMany));
        } else {
            self.waiting.push_back(open);
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), Reply>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol),
                ..
            }) => {
                let inbound = Inbound {
                    connection: self.connection,
                    peer: self.peer,
                    protocol,
                    stream,
                };
                // A stream that does not fit is dropped, which resets it.
                self.flooded |= self.inbound.try_send(inbound).is_err();
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: reply,
            }) => {
                self.opening -= 1;
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: reply }) => {
                self.opening -= 1;
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::Apply(never) => match never {},
                    StreamUpgradeError::NegotiationFailed => OpenError::Refused,
                    StreamUpgradeError::Io(error) => OpenError::Io(error),
                };
                let _ = reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Agrees on one of these names and hands the bare stream over.
#[derive(Debug)]
pub(crate) struct Upgrade(Vec<StreamProtocol>);

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

/// A connection went away before the stream was opened.
pub(crate) fn gone() -> OpenError {
    OpenError::Io(io::ErrorKind::ConnectionReset.into())
}
