//! The asking end: brings contents into the staging folder.
//!
//! Two sides run at once, with a bounded channel between them: this file's async side moves frames over the stream; a
//! blocking thread ([`intake`](super::intake)) decides what to ask, hashes and writes. What they share is the
//! [`Window`] of requests. Dangers: a peer that lies (everything is compared with its hash before it is called
//! fetched), one that stalls or never stops (time limits here, lengths in the window), and a full channel on both sides
//! at once (the window is shared, not sent, so neither side ever waits for the other to take a request).

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::{Either, select, try_join};
use futures::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, ItemId, SpaceId, SpaceSecret};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::block::{Block, Pool};
use super::counters::Progress;
use super::intake::Intake;
use super::road::{ContentRoad, Duplex, RoadError};
use super::window::{What, Window};
use super::wire::{Head, Status};
use crate::disk::hash::Chunk;
use crate::disk::{Disk, Meta, RelPath, Stat};

/// A content to be fetched, and what the staged file is to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// The item it is for.
    pub id: ItemId,
    /// Its hash, by the log.
    pub hash: ContentHash,
    /// Its length, by the log.
    pub size: u64,
    /// Name of the file to make in `.mesh/tmp`. The same at the next try, or what is left of this one is not found.
    pub staged: String,
    /// Permission bits.
    pub mode: u32,
    /// In ns since 1970.
    pub mtime: i64,
}

/// What we have already. Called on a blocking thread; what it says may be out of date, everything is hashed again.
pub trait Local: Send + Sync {
    /// A file with this content.
    fn whole(&self, hash: &ContentHash) -> Option<(RelPath, Stat)>;
    /// A place where this chunk stands: file, offset, length, and the file's stat when it was hashed.
    fn chunk(&self, id: &ChunkId) -> Option<(RelPath, u64, u32, Stat)>;
    /// The chunk list of this content, if it was ever known here.
    fn list_known(&self, hash: &ContentHash) -> Option<Vec<Chunk>>;
}

/// A content that lies in the staging folder, hashed, not synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOk {
    /// Its chunks, each compared with its id; empty if it is one chunk, as in `disk::hash`.
    pub chunks: Vec<Chunk>,
    /// The staged file, read back after mode and mtime were set.
    pub meta: Meta,
    /// Bytes of content and chunk list that came over the network.
    pub from_net: u64,
    /// Bytes that came from our own files or an earlier try.
    pub from_local: u64,
}

/// What became of a want.
#[derive(Debug)]
pub struct Fetched {
    /// The want.
    pub want: Want,
    /// The staged file, or why there is none.
    pub result: Result<FetchedOk, FetchError>,
}

/// Why a content was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The peer has not got it, or does not let us have it: it says the same to both.
    #[error("the device has not got the content")]
    Absent,
    /// The peer's file is being changed; the log will tell of the new content.
    #[error("the content is being replaced on the device")]
    Superseded,
    /// The peer cannot say at present.
    #[error("the device is busy")]
    Busy,
    /// The peer or the road refuses us as a whole.
    #[error("the device refuses to send content")]
    Denied,
    /// What the peer sent is not what it should be: its fault, and nothing of it is kept.
    #[error("the device sent something else than was asked for")]
    Mismatch,
    /// The stream broke.
    #[error("the connection to the device was lost")]
    Disconnected,
    /// Nothing came for too long.
    #[error("the device stopped answering")]
    TimedOut,
    /// Our disk is full.
    #[error("no space is left on the disk")]
    NoSpace,
    /// Our disk failed otherwise.
    #[error("the staged file could not be written")]
    Io(#[source] io::Error),
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io(error),
        }
    }
}

impl From<Status> for FetchError {
    fn from(status: Status) -> Self {
        match status {
            Status::Absent => Self::Absent,
            Status::Superseded => Self::Superseded,
            Status::Busy => Self::Busy,
            Status::Last | Status::More => Self::Mismatch,
        }
    }
}

/// How long a fetch waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// For the next bytes of an answer that is due.
    pub stall: Duration,
}

impl Default for FetchLimits {
    /// Half a minute: a sleeping disk wakes up in ten seconds.
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
        }
    }
}

/// Where contents are fetched into: everything of a [`fetch`] but the peer and the wants.
#[derive(Clone)]
pub struct FetchInto {
    /// The space.
    pub space: SpaceId,
    /// Its folder.
    pub disk: Arc<dyn Disk>,
    /// What we have of it.
    pub local: Arc<dyn Local>,
    /// Its hashes.
    pub secret: SpaceSecret,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// How long is waited.
    pub limits: FetchLimits,
}

/// Fetches `wants` from `peer`, with the default limits; see [`FetchInto::fetch`].
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing; FetchInto groups them for who calls often"
)]
pub async fn fetch(
    road: &dyn ContentRoad,
    peer: DeviceId,
    space: SpaceId,
    wants: Vec<Want>,
    disk: Arc<dyn Disk>,
    local: Arc<dyn Local>,
    secret: SpaceSecret,
    progress: Arc<dyn Progress>,
) -> Vec<Fetched> {
    FetchInto {
        space,
        disk,
        local,
        secret,
        progress,
        limits: FetchLimits::default(),
    }
    .fetch(road, peer, wants)
    .await
}

impl FetchInto {
    /// Fetches `wants` from `peer` over one stream, which is opened only if something is not at hand.
    ///
    /// Of a large content that fails half way, what came is left as `<staged>.part` for the next try. Dropping the
    /// future ends the fetch likewise.
    ///
    /// Returns: one result for each want, in their order.
    pub async fn fetch(
        &self,
        road: &dyn ContentRoad,
        peer: DeviceId,
        wants: Vec<Want>,
    ) -> Vec<Fetched> {
        let shared = Arc::new(Shared::default());
        let (arrived, arrivals) = mpsc::channel(ARRIVALS);
        let intake = Intake::new(self.clone(), wants, Arc::clone(&shared), arrivals);
        let work = spawn_blocking(move || intake.run());
        let stream_ended = self.converse(road, &peer, &shared, arrived).await;
        if let Err(broken) = stream_ended {
            tracing::debug!(%peer, ?broken, "a content stream ended early");
        }
        match work.await {
            Ok(fetched) => fetched,
            // A panic there is a bug; it goes on where somebody sees it.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Vec::new(),
            },
        }
    }

    /// The stream's side, until the intake needs no more. The intake learns why it ended, then that it has.
    async fn converse(
        &self,
        road: &dyn ContentRoad,
        peer: &DeviceId,
        shared: &Shared,
        arrived: mpsc::Sender<Vec<Arrival>>,
    ) -> Result<(), Broken> {
        let ended = async {
            if !shared.needed().await {
                return Ok(());
            }
            let stream = road.open(peer).await.map_err(|error| match error {
                RoadError::NotConnected => Broken::Disconnected,
                RoadError::Refused => Broken::Denied,
                RoadError::TimedOut => Broken::TimedOut,
            })?;
            self.pump(stream, shared, &arrived).await
        }
        .await;
        if let Err(broken) = ended {
            shared.broken.get_or_init(|| broken);
        }
        drop(arrived);
        ended
    }

    async fn pump(
        &self,
        stream: Box<dyn Duplex>,
        shared: &Shared,
        arrived: &mpsc::Sender<Vec<Arrival>>,
    ) -> Result<(), Broken> {
        let (answers, asks) = stream.split();
        let (to_write, frames) = mpsc::channel(FRAMES);
        let reader = Reader {
            io: BufReader::with_capacity(READ_BUFFER, answers),
            stall: self.limits.stall,
            space: self.space,
            shared,
            arrived,
            batch: Vec::new(),
            weight: 0,
            partial: Vec::new(),
        };
        try_join(reader.run(to_write), write(asks, frames, self.limits.stall))
            .await
            .map(|_| ())
    }
}

/// Why the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Disconnected,
    TimedOut,
    Denied,
    Mismatch,
}

impl From<Broken> for FetchError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Disconnected => Self::Disconnected,
            Broken::TimedOut => Self::TimedOut,
            Broken::Denied => Self::Denied,
            Broken::Mismatch => Self::Mismatch,
        }
    }
}

/// What stream and intake have in common.
#[derive(Debug)]
pub(super) struct Shared {
    window: Mutex<Window>,
    state: Mutex<bool>,
    wake: Notify,
    pub(super) pool: Pool,
    pub(super) broken: OnceLock<Broken>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            window: Mutex::default(),
            state: Mutex::new(false),
            wake: Notify::new(),
            pool: Pool::new(ARRIVALS + 2),
            broken: OnceLock::new(),
        }
    }
}

impl Shared {
    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the stream that there is something new in the window.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tells the stream that nothing more will be asked.
    pub(super) fn finish(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    fn finished(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to ask (true) or it is clear that there will not be.
    async fn needed(&self) -> bool {
        loop {
            if !self.window().is_empty() {
                return true;
            }
            if self.finished() {
                return false;
            }
            self.wake.notified().await;
        }
    }
}

/// What came for a want, or why nothing will.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A whole small content.
    File(usize, Result<Vec<u8>, Status>),
    /// A chunk list.
    List(usize, Result<Vec<u8>, Status>),
    /// The next bytes of a large content.
    Piece(usize, Result<Block, Status>),
}

/// Batches of arrivals between the sides; a batch holds at most one piece or [`BATCH`] bytes and one answer, so 4 MiB.
const ARRIVALS: usize = 4;
/// A batch is handed over at this many bytes (256 KiB), or as soon as the stream has to be waited for.
const BATCH: usize = 256 << 10;
/// Frames that wait to be written; more are not needed, the window is what bounds.
const FRAMES: usize = 4;
/// Bytes read at once (128 KiB); longer pieces go past the buffer.
const READ_BUFFER: usize = 128 << 10;

struct Reader<'a, R> {
    io: BufReader<R>,
    stall: Duration,
    space: SpaceId,
    shared: &'a Shared,
    arrived: &'a mpsc::Sender<Vec<Arrival>>,
    batch: Vec<Arrival>,
    weight: usize,
    /// A file or list of which not all pieces have come.
    partial: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn run(mut self, frames: mpsc::Sender<Vec<u8>>) -> Result<(), Broken> {
        let ended = self.talk(frames).await;
        // What came before the stream broke counts.
        ended.and(self.hand_over().await)
    }

    async fn talk(&mut self, frames: mpsc::Sender<Vec<u8>>) -> Result<(), Broken> {
        loop {
            // A full channel means that answers are due; the next one leads here again.
            while let Ok(permit) = frames.try_reserve() {
                let Some(ask) = self.shared.window().next_ask(self.space) else {
                    break;
                };
                permit.send(ask.to_frame().map_err(|_| Broken::Mismatch)?);
            }
            if self.io.buffer().is_empty() {
                self.hand_over().await?;
                if !self.wait().await? {
                    return Ok(());
                }
            }
            if !self.io.buffer().is_empty() {
                self.answer().await?;
            }
        }
    }

    /// Waits for bytes or for news in the window.
    ///
    /// Returns: false when all is done.
    async fn wait(&mut self) -> Result<bool, Broken> {
        // What is still under way then belongs to a content that was given up.
        if self.shared.finished() {
            return Ok(false);
        }
        let awaits = self.shared.window().awaits();
        if !awaits {
            self.shared.wake.notified().await;
            return Ok(true);
        }
        let bytes = pin!(timeout(self.stall, self.io.fill_buf()));
        match select(bytes, pin!(self.shared.wake.notified())).await {
            Either::Left((Err(_), _)) => Err(Broken::TimedOut),
            Either::Left((Ok(Err(_) | Ok([])), _)) => Err(Broken::Disconnected),
            Either::Left((Ok(Ok(_)), _)) | Either::Right(_) => Ok(true),
        }
    }

    /// Reads one head and its bytes.
    async fn answer(&mut self) -> Result<(), Broken> {
        let mut head = [0; Head::LEN];
        self.fill(&mut head).await?;
        let head = Head::from_bytes(head).map_err(|_| Broken::Mismatch)?;
        let request = self
            .shared
            .window()
            .on_head(&head)
            .map_err(|_| Broken::Mismatch)?;
        let len = usize::try_from(head.len).map_err(|_| Broken::Mismatch)?;
        let (want, bad) = match head.status {
            Status::Last | Status::More => (request.want, None),
            status => (request.want, Some(status)),
        };
        let arrival = match (request.what, bad) {
            (What::Part { .. }, Some(status)) => Arrival::Piece(want, Err(status)),
            (What::Part { .. }, None) => {
                let mut block = self.shared.pool.take();
                fill(&mut self.io, block.free(len), self.stall).await?;
                block.advance(len);
                Arrival::Piece(want, Ok(block))
            }
            (what, bad) => {
                let from = self.partial.len();
                self.partial.resize(from + len, 0);
                fill(&mut self.io, &mut self.partial[from..], self.stall).await?;
                if head.status == Status::More {
                    return Ok(());
                }
                let bytes = std::mem::take(&mut self.partial);
                let result = bad.map_or(Ok(bytes), Err);
                match what {
                    What::List { .. } => Arrival::List(want, result),
                    What::File { .. } | What::Part { .. } => Arrival::File(want, result),
                }
            }
        };
        self.batch.push(arrival);
        self.weight += len + Head::LEN;
        if self.weight >= BATCH {
            self.hand_over().await
        } else {
            Ok(())
        }
    }

    async fn hand_over(&mut self) -> Result<(), Broken> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.weight = 0;
        // The intake goes only when it has all it wants or failed for itself.
        self.arrived
            .send(std::mem::take(&mut self.batch))
            .await
            .map_err(|_| Broken::Disconnected)
    }

    async fn fill(&mut self, buf: &mut [u8]) -> Result<(), Broken> {
        fill(&mut self.io, buf, self.stall).await
    }
}

/// Reads until `buf` is full; each read has `stall` to bring something.
async fn fill<R: AsyncRead + Unpin>(
    io: &mut R,
    mut buf: &mut [u8],
    stall: Duration,
) -> Result<(), Broken> {
    while !buf.is_empty() {
        let read = timeout(stall, io.read(buf))
            .await
            .map_err(|_| Broken::TimedOut)?;
        match read.map_err(|_| Broken::Disconnected)? {
            0 => return Err(Broken::Disconnected),
            got => buf = &mut buf[got..],
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(
    mut io: W,
    mut frames: mpsc::Receiver<Vec<u8>>,
    stall: Duration,
) -> Result<(), Broken> {
    while let Some(frame) = frames.recv().await {
        let sent = async {
            io.write_all(&frame).await?;
            if frames.is_empty() {
                io.flush().await
            } else {
                Ok(())
            }
        };
        timeout(stall, sent)
            .await
            .map_err(|_| Broken::TimedOut)?
            .map_err(|_| Broken::Disconnected)?;
    }
    // All answers are in: whether the peer still hears the end is its affair.
    let _ = timeout(stall, io.close()).await;
    Ok(())
}
