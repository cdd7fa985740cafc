//! Two sides of a stream: folders with what a database would know of them, roads between them, and disks that misbehave.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, ItemId, SpaceId, SpaceSecret};
use ownmesh_node::content::wire::{Ask, WantFile};
use ownmesh_node::content::{
    ContentRoad, Duplex, FetchInto, FetchLimits, Fetched, Local, Located, PeerCounts, Progress,
    RoadError, ServeLimits, Source, SourceError, Want, answer, serve,
};
use ownmesh_node::disk::hash::{Chunk, Hashed, hash_file};
use ownmesh_node::disk::real::RealDisk;
use ownmesh_node::disk::{self, Disk, RelPath, Stat};
use tempfile::TempDir;
use tokio::io::{AsyncRead as _, AsyncWrite as _, DuplexStream, ReadBuf};

use crate::moody::{Moody, Shown};

pub(crate) const SPACE: SpaceId = SpaceId::from_bytes([5; 16]);
pub(crate) const PEER: DeviceId = DeviceId::from_bytes([6; 16]);

/// Bytes that hold no pattern, the same in every run.
pub(crate) fn noise(mut state: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Runs a test on a runtime of two threads; nothing here takes a minute unless it hangs.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs")
    })
}

/// What a database knows of a folder: each file's hash, chunks and stat.
#[derive(Default)]
pub(crate) struct Known {
    files: Mutex<BTreeMap<RelPath, Hashed>>,
    holders: Mutex<BTreeMap<ContentHash, Vec<RelPath>>>,
    told: Mutex<Vec<RelPath>>,
    denies: Mutex<bool>,
    broken: Mutex<bool>,
    disk: Mutex<Option<Arc<dyn Disk>>>,
}

impl Known {
    fn holding(&self, hash: &ContentHash) -> Vec<(RelPath, Hashed)> {
        let (files, holders) = (self.files.lock().unwrap(), self.holders.lock().unwrap());
        let paths = holders.get(hash).into_iter().flatten();
        paths
            .filter_map(|path| files.get_key_value(path))
            .map(|(path, hashed)| (path.clone(), hashed.clone()))
            .collect()
    }
}

fn hash_of(hashed: &Hashed) -> ContentHash {
    match hashed.content {
        ownmesh_crdt::item::Content::File { hash, .. } => hash,
        _ => panic!("a file has a file's content"),
    }
}

impl Local for Known {
    fn whole(&self, hash: &ContentHash) -> Option<(RelPath, Stat)> {
        self.holding(hash)
            .pop()
            .map(|(path, hashed)| (path, hashed.meta.stat()))
    }
    fn chunk(&self, id: &ChunkId) -> Option<(RelPath, u64, u32, Stat)> {
        for (path, hashed) in &*self.files.lock().unwrap() {
            let mut offset = 0;
            for chunk in &hashed.chunks {
                if chunk.id == *id {
                    return Some((path.clone(), offset, chunk.len, hashed.meta.stat()));
                }
                offset += u64::from(chunk.len);
            }
        }
        None
    }
    fn list_known(&self, hash: &ContentHash) -> Option<Vec<Chunk>> {
        self.holding(hash).pop().map(|(_, hashed)| hashed.chunks)
    }
}

impl Source for Known {
    fn allowed(&self, peer: &DeviceId, space: &SpaceId) -> bool {
        !*self.denies.lock().unwrap() && *peer == PEER && *space == SPACE
    }
    fn locate(&self, _: &SpaceId, hash: &ContentHash) -> Result<Vec<Located>, SourceError> {
        if *self.broken.lock().unwrap() {
            return Err(SourceError("the database is locked".into()));
        }
        let disk = self.disk.lock().unwrap().clone().unwrap();
        let located = |(path, hashed): (RelPath, Hashed)| Located {
            disk: Arc::clone(&disk),
            path,
            stat: hashed.meta.stat(),
            size: hashed.meta.size,
            chunks: Some(Arc::new(hashed.chunks)),
        };
        Ok(self.holding(hash).into_iter().map(located).collect())
    }
    fn superseded(&self, _: &SpaceId, _: &ContentHash, path: &RelPath) {
        self.told.lock().unwrap().push(path.clone());
    }
}

/// What a fetch said while it ran.
#[derive(Default)]
struct Tally {
    moved: PeerCounts,
    done: AtomicU64,
}

impl Progress for Tally {
    fn moved(&self, from_net: u64, from_local: u64) {
        self.moved.moved(from_net, from_local);
    }
    fn done(&self, _: &Fetched) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

/// A device with one folder.
pub(crate) struct Side {
    /// Taken away with the side.
    _dir: TempDir,
    moody: Arc<Moody>,
    known: Arc<Known>,
    counts: Arc<Tally>,
    limits: FetchLimits,
}

impl Side {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let real = RealDisk::open(dir.path()).unwrap();
        disk::prepare(&real, &SPACE).unwrap();
        let (acts, reads) = Default::default();
        let moody = Arc::new(Moody {
            real,
            room: Arc::new(AtomicU64::new(u64::MAX)),
            closed: Mutex::default(),
            says: AtomicU64::new(u64::MAX),
            acts,
            reads,
        });
        let known = Arc::new(Known::default());
        *known.disk.lock().unwrap() = Some(Arc::new(Shown(Arc::clone(&moody))));
        Self {
            _dir: dir,
            moody,
            known,
            counts: Arc::default(),
            limits: FetchLimits::default(),
        }
    }

    pub(crate) fn impatient(&self, stall: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        let (moody, known, counts) = (
            Arc::clone(&self.moody),
            Arc::clone(&self.known),
            Arc::clone(&self.counts),
        );
        Self {
            _dir: dir,
            moody,
            known,
            counts,
            limits: FetchLimits { stall },
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.moody.real.root().join(path)
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Hashes every file; returns a want for each, in the order of the paths.
    pub(crate) fn scan(&self) -> Vec<Want> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![RelPath::ROOT];
        while let Some(dir) = dirs.pop() {
            for listed in self.moody.real.list(&dir).unwrap() {
                let path = dir.join(&listed.name.unwrap()).unwrap();
                match listed.meta.kind {
                    _ if path.as_str() == disk::PRIVATE => {}
                    disk::MetaKind::Dir => dirs.push(path),
                    _ => {
                        let hashed = hash_file(&self.moody.real, &path, &secret()).unwrap();
                        files.insert(path, hashed);
                    }
                }
            }
        }
        let wants = files
            .iter()
            .map(|(path, hashed)| want(path, hashed))
            .collect();
        let mut holders: BTreeMap<ContentHash, Vec<RelPath>> = BTreeMap::new();
        for (path, hashed) in &files {
            holders
                .entry(hash_of(hashed))
                .or_default()
                .push(path.clone());
        }
        *self.known.holders.lock().unwrap() = holders;
        *self.known.files.lock().unwrap() = files;
        wants
    }

    pub(crate) fn want_for(&self, path: &str) -> Want {
        let path = RelPath::parse(path).unwrap();
        want(&path, &self.known.files.lock().unwrap()[&path])
    }

    /// Takes the files' present stats for those of what was hashed.
    pub(crate) fn believe_the_stats(&self) {
        for (path, hashed) in &mut *self.known.files.lock().unwrap() {
            hashed.meta = self.moody.real.meta(path).unwrap().unwrap();
        }
    }

    pub(crate) fn list_known(&self, hash: &ContentHash) -> Option<Vec<Chunk>> {
        self.known.list_known(hash)
    }

    pub(crate) fn forget(&self) {
        self.known.files.lock().unwrap().clear();
    }

    pub(crate) fn deny(&self) {
        *self.known.denies.lock().unwrap() = true;
    }

    /// The same behind the `reads`th read of a file.
    pub(crate) fn deny_after(&self, path: &str, reads: u64) {
        let known = Arc::clone(&self.known);
        self.after_reads(path, reads, move |_| *known.denies.lock().unwrap() = true);
    }

    pub(crate) fn break_database(&self) {
        *self.known.broken.lock().unwrap() = true;
    }

    /// How many results this side was told of while they came.
    pub(crate) fn told(&self) -> usize {
        self.counts.done.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn superseded(&self) -> Vec<RelPath> {
        self.known.told.lock().unwrap().clone()
    }

    pub(crate) fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.known) as Arc<dyn Source>
    }

    /// Does `act` to the file behind its `reads`th read from now on.
    pub(crate) fn after_reads(
        &self,
        path: &str,
        reads: u64,
        act: impl FnOnce(&Path) + Send + 'static,
    ) {
        let path = RelPath::parse(path).unwrap();
        self.moody.reads.lock().unwrap().remove(&path);
        self.moody
            .acts
            .lock()
            .unwrap()
            .entry(path)
            .or_default()
            .push((reads, Box::new(act)));
    }

    pub(crate) fn room_for(&self, bytes: u64) {
        self.moody.room.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn close(&self, path: &str) {
        let path = RelPath::parse(path).unwrap();
        self.moody.closed.lock().unwrap().insert(path);
    }

    pub(crate) fn says_room_for(&self, bytes: u64) {
        self.moody.says.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> &PeerCounts {
        &self.counts.moved
    }

    pub(crate) async fn fetch(&self, road: &Road, wants: Vec<Want>) -> Vec<Fetched> {
        self.fetch_from(road, wants).await
    }

    pub(crate) async fn fetch_from(
        &self,
        road: &dyn ContentRoad,
        wants: Vec<Want>,
    ) -> Vec<Fetched> {
        let into = FetchInto {
            space: SPACE,
            disk: Arc::new(Shown(Arc::clone(&self.moody))),
            local: Arc::clone(&self.known) as Arc<dyn Local>,
            secret: secret(),
            progress: Arc::clone(&self.counts) as _,
            limits: self.limits,
        };
        into.fetch(road, PEER, wants).await
    }

    /// Everything said to somebody who asks for these, byte by byte.
    pub(crate) fn answers_to(&self, wants: &[Want]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (n, want) in (0..).zip(wants) {
            let asks = [
                Ask::Files {
                    space: SPACE,
                    wants: vec![WantFile { n, hash: want.hash }],
                },
                Ask::List {
                    n,
                    space: SPACE,
                    hash: want.hash,
                },
            ];
            for ask in asks {
                let mut send = |more: &[u8]| {
                    bytes.extend_from_slice(more);
                    true
                };
                answer::answer(&ask, &PEER, &*self.known, &mut send).unwrap();
            }
        }
        bytes
    }

    pub(crate) fn staged_hash(&self, want: &Want) -> ContentHash {
        secret().content_hash(&std::fs::read(self.path(disk::TMP).join(&want.staged)).unwrap())
    }

    pub(crate) fn is_staged(&self, want: &Want) -> bool {
        self.path(disk::TMP).join(&want.staged).exists()
    }

    pub(crate) fn part_size(&self, want: &Want) -> u64 {
        let path = self.path(disk::TMP).join(format!("{}.part", want.staged));
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    }

    pub(crate) fn staged_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(disk::TMP)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Puts a staged file at its place, and knows it.
    pub(crate) fn place(&self, want: &Want, path: &str) {
        std::fs::rename(self.path(disk::TMP).join(&want.staged), self.path(path)).unwrap();
        self.scan();
    }
}

pub(crate) fn secret() -> SpaceSecret {
    SpaceSecret::from_bytes([9; 32])
}

fn want(path: &RelPath, hashed: &Hashed) -> Want {
    Want {
        id: ItemId::from_bytes([0; 16]),
        hash: hash_of(hashed),
        size: hashed.meta.size,
        staged: path.as_str().replace('/', "-"),
        mode: 0o640,
        mtime: 1_600_000_000_123_456_789,
    }
}

/// How a cut stream shows.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    End,
    Silence,
}

/// An in-process road to a side that serves.
pub(crate) struct Road {
    to: Result<Arc<dyn Source>, RoadError>,
    limits: Arc<ServeLimits>,
    cut: Option<(usize, Cut)>,
    serving: Arc<AtomicU64>,
}

impl Road {
    pub(crate) fn to(side: &Side) -> Self {
        Self {
            to: Ok(side.source()),
            ..Self::closed()
        }
    }

    pub(crate) fn closed() -> Self {
        Self {
            to: Err(RoadError::NotConnected),
            limits: Arc::default(),
            cut: None,
            serving: Arc::default(),
        }
    }

    pub(crate) fn refusing() -> Self {
        Self {
            to: Err(RoadError::Refused),
            ..Self::closed()
        }
    }

    /// The asker sees so many bytes of answers and then this.
    pub(crate) fn cut_after(self, bytes: usize, how: Cut) -> Self {
        Self {
            cut: Some((bytes, how)),
            ..self
        }
    }

    pub(crate) fn streams(self, streams: usize) -> Self {
        Self {
            limits: Arc::new(ServeLimits::new(streams, Duration::from_secs(5))),
            ..self
        }
    }

    pub(crate) async fn hold(&self) -> Box<dyn Duplex> {
        let stream = self.open(&PEER).await.unwrap();
        while self.serving.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        stream
    }

    pub(crate) async fn until_free(&self) {
        while self.serving.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl ContentRoad for Road {
    fn open<'a>(&'a self, _: &'a DeviceId) -> BoxFuture<'a, Result<Box<dyn Duplex>, RoadError>> {
        Box::pin(async move {
            let source = Arc::clone(self.to.as_ref().map_err(|error| *error)?);
            let (near, far) = tokio::io::duplex(256 << 10);
            let (limits, serving) = (Arc::clone(&self.limits), Arc::clone(&self.serving));
            serving.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = serve(Io::new(far), PEER, source, &limits).await;
                serving.fetch_sub(1, Ordering::SeqCst);
            });
            Ok(Box::new(Io {
                stream: near,
                cut: self.cut,
            }) as Box<dyn Duplex>)
        })
    }
}

/// tokio's pipe with the traits of futures.
pub(crate) struct Io {
    stream: DuplexStream,
    cut: Option<(usize, Cut)>,
}

impl Io {
    pub(crate) fn new(stream: DuplexStream) -> Self {
        Self { stream, cut: None }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let buf = match &self.cut {
            Some((0, Cut::End)) => return Poll::Ready(Ok(0)),
            Some((0, Cut::Silence)) => return Poll::Pending,
            Some((left, _)) => {
                let len = buf.len().min(*left);
                &mut buf[..len]
            }
            None => buf,
        };
        let mut into = ReadBuf::new(buf);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
        let got = into.filled().len();
        if let Some((left, _)) = &mut self.cut {
            *left -= got;
        }
        Poll::Ready(Ok(got))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
