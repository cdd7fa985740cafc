//! The stream of a fetch: frames out, answers in, until the intake needs no more.
//!
//! What both sides share is the [`Window`] of requests. Dangers: a full channel on both sides at once (the window is
//! shared, not sent, so neither side ever waits for the other to take a request), and a peer that stops (every wait has
//! its time).

use std::pin::pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::{Either, select, try_join};
use futures::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use ownmesh_crypto::{DeviceId, SpaceId};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::block::{Block, Pool};
use super::fetch::{FetchError, FetchInto};
use super::road::{ContentRoad, Duplex, RoadError};
use super::window::{What, Window};
use super::wire::{Head, Status};

/// The stream's side, until the intake needs no more. The intake learns why it ended, then that it has.
pub(super) async fn converse(
    into: &FetchInto,
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
        pump(into, stream, shared, &arrived).await
    }
    .await;
    if let Err(broken) = ended {
        shared.broken.get_or_init(|| broken);
    }
    drop(arrived);
    ended
}

async fn pump(
    into: &FetchInto,
    stream: Box<dyn Duplex>,
    shared: &Shared,
    arrived: &mpsc::Sender<Vec<Arrival>>,
) -> Result<(), Broken> {
    let (answers, asks) = stream.split();
    let (to_write, frames) = mpsc::channel(FRAMES);
    let reader = Reader {
        io: BufReader::with_capacity(READ_BUFFER, answers),
        stall: into.limits.stall,
        space: into.space,
        shared,
        arrived,
        batch: Vec::new(),
        weight: 0,
        partial: Vec::new(),
    };
    try_join(reader.run(to_write), write(asks, frames, into.limits.stall))
        .await
        .map(|_| ())
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
pub(super) const ARRIVALS: usize = 4;
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
