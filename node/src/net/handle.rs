//! What the engine holds of the network.
//!
//! Nothing here waits for the network except opening a content stream and shutting down: the engine may call everything else from
//! where it handles events without ever being held up.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::Stream;
use ownmesh_crypto::DeviceId;
use tokio::sync::{Notify, mpsc, oneshot};

use super::counters::{Counters, Ledger, Tally};
use super::driver::Driver;
use super::gate::Policy;
use super::outbox::Outbox;
use super::streams::gone;
use super::{
    EVENTS, NetConfig, NetError, NetEvent, OpenError, PairAdvert, PairStream, Peer, SendError,
    address,
};

/// Content streams waiting to be asked for.
const COMMANDS: usize = 64;

/// The network, to be started.
#[derive(Debug)]
pub struct Net;

impl Net {
    /// Listens, announces itself and returns: the handle, and the events. Nobody is pinned until [`NetHandle::set_peers`].
    ///
    /// Ends when all handles or the events are dropped, or by [`NetHandle::shutdown`].
    pub async fn start(
        config: NetConfig,
    ) -> Result<(NetHandle, mpsc::Receiver<NetEvent>), NetError> {
        let (events, received) = mpsc::channel(EVENTS);
        let (commands, ordered) = mpsc::channel(COMMANDS);
        let shared = Arc::new(Shared::default());
        let driver = Driver::start(config, shared.clone(), events, ordered).await?;
        tokio::spawn(driver.run());
        Ok((NetHandle { shared, commands }, received))
    }
}

/// Speaks to the network's task. Clones are cheap and equal.
#[derive(Clone, Debug)]
pub struct NetHandle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl NetHandle {
    /// Replaces the list of pinned devices. Who is no longer on it is cut off at once; who is new is looked for.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        let kept: HashSet<DeviceId> = peers.iter().map(|peer| peer.device).collect();
        self.shared.policy.pin(
            peers
                .iter()
                .filter_map(|peer| address::peer_id(&peer.public.transport))
                .collect(),
        );
        self.shared
            .outboxes()
            .retain(|device, _| kept.contains(device));
        self.shared.wish(|wishes| wishes.peers = Some(peers));
    }

    /// Replaces the list of devices that are not let in at all, not even to pair, and count as no strangers. Takes effect on
    /// those that are connected with the next [`set_peers`](Self::set_peers), which must not name them.
    pub fn set_blocked(&self, transports: impl Iterator<Item = [u8; 32]>) {
        let blocked = transports.filter_map(|transport| address::peer_id(&transport));
        self.shared.policy.block(blocked.collect());
    }

    /// Queues a message to a connected device.
    ///
    /// [`SendError::Full`] asks to stop until [`NetEvent::Writable`]. A message that was taken may still be lost with the
    /// connection, which `Disconnected` says.
    pub fn send(&self, device: DeviceId, bytes: Vec<u8>) -> Result<(), SendError> {
        let outbox = self.shared.outboxes().get(&device).cloned();
        outbox.ok_or(SendError::NotConnected)?.push(bytes)
    }

    /// Lets strangers reach the pairing protocol for five minutes.
    pub fn open_window(&self, pairing: PairAdvert) {
        self.shared
            .wish(|wishes| wishes.window = Some(Some(pairing)));
    }

    /// Ends it; strangers are cut off.
    pub fn close_window(&self) {
        self.shared.policy.set_window(None);
        self.shared.wish(|wishes| wishes.window = Some(None));
    }

    /// Sends a frame on a pairing stream.
    ///
    /// [`SendError::Full`] when far more waits than a pairing has messages.
    pub fn pair_send(&self, stream: PairStream, bytes: Vec<u8>) -> Result<(), SendError> {
        let streams = self.shared.pair_streams();
        let sender = streams.get(&stream).ok_or(SendError::NotConnected)?;
        sender.try_send(bytes).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
        })
    }

    /// Ends a pairing stream after what was sent on it.
    pub fn pair_close(&self, stream: PairStream) {
        self.shared.pair_streams().remove(&stream);
    }

    /// Where this device can be reached, the best for a ticket first; this machine's own addresses only if there are no others.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.shared.listening().clone()
    }

    /// Opens a stream for content.
    pub async fn open_content(&self, device: DeviceId) -> Result<ContentStream, OpenError> {
        let (reply, opened) = oneshot::channel();
        self.commands
            .send(Command::OpenContent { device, reply })
            .await
            .map_err(|_| OpenError::NotConnected)?;
        let stream = opened.await.map_err(|_| gone())??;
        Ok(ContentStream {
            stream,
            tally: self.shared.ledger.tally(device, super::Protocol::Content),
        })
    }

    /// Bytes to and from each device by protocol, since the start.
    pub fn counters(&self) -> Counters {
        self.shared.ledger.snapshot()
    }

    /// Ends everything: connections, adverts, tasks. Returns when it is done.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Shutdown(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// A stream for the content protocol, either end. Closing its write half tells the other end; dropping it resets it.
#[derive(Debug)]
pub struct ContentStream {
    pub(super) stream: Stream,
    pub(super) tally: Arc<Tally>,
}

impl AsyncRead for ContentStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            self.tally.received(n);
        }
        polled
    }
}

impl AsyncWrite for ContentStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            self.tally.sent(n);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// What has to be answered by the driver.
#[derive(Debug)]
pub(super) enum Command {
    OpenContent {
        device: DeviceId,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Shutdown(oneshot::Sender<()>),
}

/// What handles and driver share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) policy: Arc<Policy>,
    pub(super) ledger: Ledger,
    pub(super) wished: Notify,
    wishes: Mutex<Wishes>,
    outboxes: Mutex<HashMap<DeviceId, Arc<Outbox>>>,
    pair_streams: Mutex<HashMap<PairStream, mpsc::Sender<Vec<u8>>>>,
    listening: Mutex<Vec<SocketAddr>>,
}

/// What was asked for last; a later wish replaces an earlier one, so nothing queues up.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) peers: Option<Vec<Peer>>,
    pub(super) window: Option<Option<PairAdvert>>,
}

impl Shared {
    pub(super) fn outboxes(&self) -> MutexGuard<'_, HashMap<DeviceId, Arc<Outbox>>> {
        lock(&self.outboxes)
    }

    pub(super) fn pair_streams(
        &self,
    ) -> MutexGuard<'_, HashMap<PairStream, mpsc::Sender<Vec<u8>>>> {
        lock(&self.pair_streams)
    }

    pub(super) fn listening(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        lock(&self.listening)
    }

    pub(super) fn take_wishes(&self) -> Wishes {
        std::mem::take(&mut *lock(&self.wishes))
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut lock(&self.wishes));
        self.wished.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
