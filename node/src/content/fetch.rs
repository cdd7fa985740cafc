//! The asking end: brings contents into the staging folder.
//!
//! Two sides run at once, with a bounded channel between them: `talk` moves frames over the stream; a
//! blocking thread (`intake`) decides what to ask, hashes and writes. Dangers: a peer that lies
//! (everything is compared with its hash before it is called fetched), and one that stalls or never stops (time limits
//! while waiting, lengths in the [`window`](super::window)).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, ItemId, SpaceId, SpaceSecret};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::counters::Progress;
use super::intake::Intake;
use super::road::ContentRoad;
use super::talk::{ARRIVALS, Shared, converse};
use super::wire::Status;
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
        let stream_ended = converse(self, road, &peer, &shared, arrived).await;
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
}
