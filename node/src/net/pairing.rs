//! Pairing streams: a stranger's at the sponsor, and the new device's own.
//!
//! Both carry frames and know nothing of their meaning. Guards against strangers who hold a stream without using it, send more than
//! a pairing takes, or stop inside a frame. The new device runs a swarm of its own which listens nowhere. With a ticket it speaks to the
//! sponsor's PeerId alone; with a code it does not know that, takes the first that opens a pairing stream, and says whose PeerId it is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{PeerId, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{interval, timeout};

use super::address::{dialable, peer_id, to_multi, transport_key};
use super::discovery::Found;
use super::frame::{self, Frame, FrameError, FrameReader, PAIR_MAX};
use super::gate::{Policy, Sponsor};
use super::session::Report;
use super::streams::PAIR;
use super::swarm::{self, Mesh};
use super::{NetError, NetEvent, OpenError, PairStream};

/// All that a stranger may send, bytes.
const STRANGER_TOTAL: usize = 64 << 10;
/// The first frame of a stranger must come within this; later ones wait for people.
const FIRST_FRAME: Duration = Duration::from_secs(30);
/// Frames waiting to be sent to a stranger: an enrolment of 4 MiB in frames of 64 KiB, and some.
pub(super) const OUTGOING: usize = 80;
/// How long the other side may take to hear the last frame.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often all known addresses of the sponsor are tried.
const REDIAL: Duration = Duration::from_secs(1);
/// Addresses of the sponsor tried.
const ADDRESSES_MAX: usize = 32;

/// Carries one stranger's stream until either side ends it.
pub(super) async fn serve(
    stream: Stream,
    id: PairStream,
    remote_transport_pub: [u8; 32],
    mut outgoing: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<NetEvent>,
    reports: mpsc::Sender<Report>,
) {
    let (read, mut write) = stream.split();
    let hear = async {
        let mut reader = FrameReader::new(read);
        let mut total = 0;
        if !timeout(FIRST_FRAME, reader.wait())
            .await
            .is_ok_and(|begun| begun.unwrap_or(false))
        {
            return;
        }
        while let Ok(Frame::Data(bytes)) = reader.next(PAIR_MAX).await {
            total += bytes.len();
            let event = NetEvent::PairFrame {
                stream: id,
                remote_transport_pub,
                bytes,
            };
            if total > STRANGER_TOTAL || events.send(event).await.is_err() {
                return;
            }
        }
    };
    let say = async {
        while let Some(bytes) = outgoing.recv().await {
            if frame::write(&mut write, &bytes).await.is_err()
                || frame::flush(&mut write).await.is_err()
            {
                return;
            }
        }
        // Ended by us: let the last frame arrive.
        let _ = timeout(FAREWELL, write.close()).await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        () = hear => {}
        () = say => {}
    }
    let _ = events.send(NetEvent::PairClosed { stream: id }).await;
    let _ = reports.send(Report::PairEnded(id)).await;
}

/// Where the sponsor was looked for, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tried {
    /// Where.
    pub address: SocketAddr,
    /// The last failure; `None`: no answer yet.
    pub failure: Option<String>,
}

/// The sponsor, met.
pub(crate) struct Met {
    /// The pairing stream.
    pub(crate) stream: Stream,
    /// Where it answered.
    pub(crate) address: SocketAddr,
    /// The key of its PeerId, proved by the connection.
    pub(crate) transport: [u8; 32],
}

/// Looks for the sponsor at all addresses that come in, until one answers, with the right key if that is known, and opens a pairing stream.
pub(crate) struct DialPair {
    swarm: Swarm<Mesh>,
    sponsor: Option<PeerId>,
    known: BTreeMap<SocketAddr, Option<String>>,
    dials: BTreeMap<usize, (ConnectionId, SocketAddr)>,
}

impl DialPair {
    /// A swarm for this attempt alone.
    pub(crate) fn new(
        transport_secret: [u8; 32],
        sponsor_transport: Option<&[u8; 32]>,
    ) -> Result<Self, NetError> {
        let known = |key| peer_id(key).ok_or(NetError::Key);
        let sponsor = sponsor_transport.map(known).transpose()?;
        let policy = Arc::new(Policy::default());
        policy.set_sponsor(sponsor.map_or(Sponsor::Any, Sponsor::Known));
        // Nobody opens streams to a joiner: with the queue dropped they are reset.
        let (swarm, _) = swarm::build(transport_secret, policy)?;
        Ok(Self {
            swarm,
            sponsor,
            known: BTreeMap::new(),
            dials: BTreeMap::new(),
        })
    }

    /// What was tried so far.
    pub(crate) fn tried(&self) -> Vec<Tried> {
        self.known
            .iter()
            .map(|(address, failure)| Tried {
                address: *address,
                failure: failure.clone(),
            })
            .collect()
    }

    /// Adds an address and tries it at once.
    pub(crate) fn add(&mut self, address: SocketAddr) {
        if dialable(&address)
            && self.known.len() < ADDRESSES_MAX
            && !self.known.contains_key(&address)
        {
            self.known.insert(address, None);
            self.dial(address);
        }
    }

    /// Goes on until a stream is open. Cancel-safe.
    pub(crate) async fn connect(&mut self, news: &mut mpsc::Receiver<Found>) -> Met {
        let mut again = interval(REDIAL);
        again.reset();
        let mut opening: Option<Opening> = None;
        let mut listening = true;
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                        let Some(address) = self.settle(connection_id) else { continue };
                        if opening.is_some() {
                            self.swarm.close_connection(connection_id);
                            continue;
                        }
                        let (reply, opened) = oneshot::channel();
                        self.swarm.behaviour_mut().streams.open(peer_id, connection_id, PAIR, reply);
                        opening = Some(Opening { address, peer: peer_id, connection: connection_id, opened });
                    }
                    SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                        if let Some(address) = self.settle(connection_id) {
                            self.known.insert(address, Some(explain(&error)));
                        }
                    }
                    _ => {}
                },
                found = news.recv(), if listening => match found {
                    Some(Found::At { addresses, .. }) => addresses.into_iter().for_each(|address| self.add(address)),
                    Some(_) => {}
                    None => listening = false,
                },
                opened = answer(&mut opening), if opening.is_some() => {
                    let Some(Opening { address, peer, connection, .. }) = opening.take() else { continue };
                    match opened {
                        Some(stream) => return Met { stream, address, transport: transport_key(&peer) },
                        None => {
                            self.swarm.close_connection(connection);
                            self.known.insert(address, Some("refused: is the pairing window open?".into()));
                        }
                    }
                }
                _ = again.tick(), if opening.is_none() => {
                    for address in self.known.keys().copied().collect::<Vec<_>>() {
                        if !self.dials.values().any(|(_, dialled)| *dialled == address) {
                            self.dial(address);
                        }
                    }
                }
            }
        }
    }

    /// Keeps the swarm running beside the stream.
    pub(crate) fn carry(self, stream: Stream) -> PairIo {
        let mut swarm = self.swarm;
        let task = tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        let (read, write) = stream.split();
        PairIo {
            reader: FrameReader::new(read),
            write,
            swarm: task.abort_handle(),
        }
    }

    fn dial(&mut self, address: SocketAddr) {
        let opts = match self.sponsor {
            Some(sponsor) => DialOpts::peer_id(sponsor)
                .addresses(vec![to_multi(address)])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(to_multi(address))
                .allocate_new_port()
                .build(),
        };
        let id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                let key = self.dials.last_key_value().map_or(0, |(last, _)| last + 1);
                self.dials.insert(key, (id, address));
            }
            Err(error) => {
                self.known.insert(address, Some(explain(&error)));
            }
        }
    }

    fn settle(&mut self, connection: ConnectionId) -> Option<SocketAddr> {
        let key = *self.dials.iter().find(|(_, (id, _))| *id == connection)?.0;
        self.dials.remove(&key).map(|(_, address)| address)
    }
}

/// A stream being opened at the address that answered first.
struct Opening {
    address: SocketAddr,
    peer: PeerId,
    connection: ConnectionId,
    opened: oneshot::Receiver<Result<Stream, OpenError>>,
}

/// Never, if none is.
async fn answer(opening: &mut Option<Opening>) -> Option<Stream> {
    match opening {
        Some(Opening { opened, .. }) => opened.await.ok()?.ok(),
        None => std::future::pending().await,
    }
}

fn explain(error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { .. } => "another device answers there".into(),
        DialError::Transport(errors) => match errors.first() {
            Some((_, libp2p::TransportError::Other(error))) => error.to_string(),
            _ => "cannot be dialled".into(),
        },
        DialError::Denied { .. } => "too many attempts at once".into(),
        _ => "given up".into(),
    }
}

/// The new device's end of the pairing stream.
pub(crate) struct PairIo {
    reader: FrameReader<ReadHalf<Stream>>,
    write: WriteHalf<Stream>,
    swarm: AbortHandle,
}

impl PairIo {
    /// Sends one frame.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        frame::write(&mut self.write, bytes).await?;
        frame::flush(&mut self.write).await
    }

    /// The next frame of at most `limit` bytes; `None`: the sponsor has ended the pairing.
    pub(crate) async fn recv(&mut self, limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
        Ok(match self.reader.next(limit).await? {
            Frame::Data(bytes) => Some(bytes),
            Frame::End | Frame::Ping | Frame::Pong => None,
        })
    }

    /// Ends the stream and waits a moment for the sponsor to have heard everything.
    pub(crate) async fn finish(mut self) {
        let _ = timeout(FAREWELL, self.write.close()).await;
        let _ = timeout(FAREWELL, self.reader.next(PAIR_MAX)).await;
    }
}

impl Drop for PairIo {
    fn drop(&mut self) {
        self.swarm.abort();
    }
}
