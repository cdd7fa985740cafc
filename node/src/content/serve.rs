//! The answering end of a content stream.
//!
//! One loop per stream: a frame is read, a blocking thread answers it into a bounded channel of blocks, and while it
//! does so the blocks before are written, so that disk and network overlap. Dangers: a peer that asks and does not read
//! (a stream holds at most `QUEUE` + 2 blocks, under 3 MiB, and ends when nothing is taken for a while), and one that
//! opens stream after stream (so many per device and no more).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use ownmesh_crypto::DeviceId;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use super::answer::{Located, Source, SourceError};
use super::answer::{Out, answer_into};
use super::block::{Block, Pool};
use super::road::Duplex;
use super::wire::{Ask, WireError, frame_len};

/// Blocks of half a mebibyte that wait to be written. Two would do for overlap; one more evens out a slow read.
const QUEUE: usize = 3;

/// How much is done for a device at once.
#[derive(Debug)]
pub struct ServeLimits {
    streams_per_peer: usize,
    stall: Duration,
    open: Mutex<BTreeMap<DeviceId, usize>>,
}

impl ServeLimits {
    /// `streams_per_peer` streams may be open for one device; one on which the peer takes nothing for `stall`, or stops
    /// in the middle of a frame for as long, ends.
    pub fn new(streams_per_peer: usize, stall: Duration) -> Self {
        Self {
            streams_per_peer,
            stall,
            open: Mutex::default(),
        }
    }

    fn enter(self: &Arc<Self>, peer: &DeviceId) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(*peer).or_default();
        if *count >= self.streams_per_peer {
            return None;
        }
        *count += 1;
        Some(Place {
            limits: Arc::clone(self),
            peer: *peer,
        })
    }
}

impl Default for ServeLimits {
    /// Four streams a device (two for bulk, two for what must not wait behind it), two minutes: an asker may be copying
    /// from its own disk for a while before it reads on.
    fn default() -> Self {
        Self::new(4, Duration::from_secs(120))
    }
}

/// A stream's place under [`ServeLimits`].
#[derive(Debug)]
struct Place {
    limits: Arc<ServeLimits>,
    peer: DeviceId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .limits
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// Why a stream ended otherwise than by the asker's wish.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The device has as many streams open as it may.
    #[error("the device has too many content streams open")]
    TooManyStreams,
    /// The peer does not keep to the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The peer stopped reading, or in the middle of a frame.
    #[error("the peer stalled")]
    Stalled,
    /// The stream failed.
    #[error("the content stream failed")]
    Stream(#[source] io::Error),
    /// The answering thread panicked: a bug on our side.
    #[error("answering failed")]
    Bug,
}

/// Serves one stream until the asker closes it.
///
/// Returns: content bytes and heads written.
pub async fn serve<S: Duplex>(
    stream: S,
    peer: DeviceId,
    source: Arc<dyn Source>,
    limits: &Arc<ServeLimits>,
) -> Result<u64, ServeError> {
    let _place = limits.enter(&peer).ok_or(ServeError::TooManyStreams)?;
    let (mut asks, mut answers) = stream.split();
    let pool = Arc::new(Pool::new(QUEUE + 1));
    let (full, to_write) = mpsc::channel(QUEUE);
    let reading = async {
        while let Some(ask) = read_ask(&mut asks, limits.stall).await? {
            let (source, pool, full) = (Arc::clone(&source), Arc::clone(&pool), full.clone());
            let job = move || {
                let mut send =
                    |block: Block| full.blocking_send(block).map_err(|_| super::answer::Closed);
                let mut out = Out::new(&pool, &mut send);
                answer_into(&ask, &peer, &*source, &mut out)?;
                out.finish()
            };
            if spawn_blocking(job)
                .await
                .map_err(|_| ServeError::Bug)?
                .is_err()
            {
                break;
            }
        }
        drop(full);
        Ok(())
    };
    let ((), written) =
        futures::future::try_join(reading, write(&mut answers, to_write, &pool, limits.stall))
            .await?;
    Ok(written)
}

async fn read_ask<R: AsyncRead + Unpin>(
    io: &mut R,
    stall: Duration,
) -> Result<Option<Ask>, ServeError> {
    let mut head = [0; 4];
    // Between two frames the asker may take its time.
    let got = io.read(&mut head).await.map_err(ServeError::Stream)?;
    if got == 0 {
        return Ok(None);
    }
    let rest = async {
        io.read_exact(&mut head[got..])
            .await
            .map_err(ServeError::Stream)?;
        let mut frame = vec![0; frame_len(u32::from_be_bytes(head))?];
        io.read_exact(&mut frame)
            .await
            .map_err(ServeError::Stream)?;
        Ok(Some(Ask::from_bytes(&frame)?))
    };
    timeout(stall, rest)
        .await
        .unwrap_or(Err(ServeError::Stalled))
}

async fn write<W: AsyncWrite + Unpin>(
    io: &mut W,
    mut blocks: mpsc::Receiver<Block>,
    pool: &Pool,
    stall: Duration,
) -> Result<u64, ServeError> {
    let mut written = 0;
    loop {
        let block = match blocks.try_recv() {
            Ok(block) => block,
            Err(_) => {
                timeout(stall, io.flush())
                    .await
                    .map_err(|_| ServeError::Stalled)?
                    .map_err(ServeError::Stream)?;
                match blocks.recv().await {
                    Some(block) => block,
                    None => break,
                }
            }
        };
        let mut left = block.filled();
        while !left.is_empty() {
            let got = timeout(stall, io.write(left))
                .await
                .map_err(|_| ServeError::Stalled)?;
            match got.map_err(ServeError::Stream)? {
                0 => return Err(ServeError::Stream(io::ErrorKind::WriteZero.into())),
                got => left = &left[got..],
            }
        }
        written += block.filled().len() as u64;
        pool.give(block);
    }
    timeout(stall, io.close())
        .await
        .map_err(|_| ServeError::Stalled)?
        .map_err(ServeError::Stream)?;
    Ok(written)
}
