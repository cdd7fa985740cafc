//! The working side of a fetch, on a blocking thread: looks at what is at hand, decides what to ask, hashes, writes.
//!
//! Small contents are staged as they come. Large ones are put together one after the other (`assemble`), in the order
//! in which their ranges are asked; ranges are asked only when the writing comes near them, so that a peer does not wait
//! with bytes in hand while we copy from our own disk. Danger: something left in the staging folder that is not what
//! its name says; every way out of here either returns the staged file or takes it away.

use std::collections::VecDeque;
use std::sync::Arc;

use ownmesh_tiering::chunker::ONE_CHUNK;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::assemble::{AssembleError, Moved, Outcome, Place, SupplyError, assemble};
use super::feed::Feed;
use super::fetch::{FetchError, FetchInto, Fetched, FetchedOk, Want};
use super::plan::{From as Origin, Plan};
use super::staging::Staging;
use super::talk::{Arrival, Broken, Shared};
use super::window::{Request, WINDOW_ITEMS, What};
use super::wire::list_from_bytes;
use crate::disk::Stage;
use crate::disk::hash::Chunk;

/// How far before the writing ranges are asked, in bytes (64 MiB): a third of a second of copying, four windows.
const LOOKAHEAD: u64 = 64 << 20;
/// Large contents in work at once hold their plans in memory; this many bytes of content (256 MiB) have 512 steps...
const LARGE_BYTES: u64 = 256 << 20;
/// ...and no more contents than this, which a round trip of 50 ms each would take 3 s for, one after the other.
const LARGE_FILES: usize = 64;

pub(super) struct Intake {
    into: FetchInto,
    wants: Vec<Want>,
    results: Vec<Option<Result<FetchedOk, FetchError>>>,
    open: usize,
    /// The wants before this one were looked at.
    looked: usize,
    large: (usize, u64),
    pub(super) shared: Arc<Shared>,
    arrivals: mpsc::Receiver<Vec<Arrival>>,
    batch: VecDeque<Arrival>,
    ready: VecDeque<Ready>,
    /// Ranges not asked yet, each with the place on the line of all plans at which it begins.
    later: VecDeque<(u64, Request)>,
    /// Where the writing is on that line, and where its last plan ends.
    line: (u64, u64),
}

/// A large content whose plan is made and whose ranges are, or will be, asked.
struct Ready {
    want: usize,
    plan: Plan,
    base: u64,
    moved: Moved,
    /// Left by an earlier pass.
    stage: Option<Box<dyn Stage>>,
}

impl Intake {
    pub(super) fn new(
        into: FetchInto,
        wants: Vec<Want>,
        shared: Arc<Shared>,
        arrivals: mpsc::Receiver<Vec<Arrival>>,
    ) -> Self {
        Self {
            into,
            results: wants.iter().map(|_| None).collect(),
            open: wants.len(),
            wants,
            looked: 0,
            large: (0, 0),
            shared,
            arrivals,
            batch: VecDeque::new(),
            ready: VecDeque::new(),
            later: VecDeque::new(),
            line: (0, 0),
        }
    }

    /// Works until every want has its result.
    pub(super) fn run(mut self) -> Vec<Fetched> {
        let _end = Finish(Arc::clone(&self.shared));
        while self.open > 0 {
            if let Some(ready) = self.ready.pop_front() {
                self.put_together(ready);
            } else if let Some(arrival) = self.at_hand() {
                self.take(arrival);
            } else if self.may_look() {
                self.look();
            } else if let Some(arrival) = self.wait() {
                self.take(arrival);
            } else {
                self.give_up();
            }
        }
        let results = self.results.into_iter();
        self.wants
            .into_iter()
            .zip(results)
            .map(|(want, result)| Fetched {
                want,
                result: result.unwrap_or(Err(FetchError::Disconnected)),
            })
            .collect()
    }

    fn at_hand(&mut self) -> Option<Arrival> {
        if self.batch.is_empty() {
            match self.arrivals.try_recv() {
                Ok(batch) => self.batch = batch.into(),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
        }
        self.batch.pop_front()
    }

    pub(super) fn wait(&mut self) -> Option<Arrival> {
        while self.batch.is_empty() {
            self.batch = self.arrivals.blocking_recv()?.into();
        }
        self.batch.pop_front()
    }

    /// Whether the next want's turn has come.
    fn may_look(&self) -> bool {
        let Some(want) = self.wants.get(self.looked) else {
            return false;
        };
        let (files, bytes) = self.large;
        let room = is_small(want)
            || files == 0
            || (files < LARGE_FILES && bytes.saturating_add(want.size) <= LARGE_BYTES);
        let window = self.shared.window();
        // Copying a very large one may take minutes, for which no peer should wait with answers in hand.
        let alone = want.size <= LARGE_BYTES || window.is_empty();
        room && alone && window.queued() < 2 * WINDOW_ITEMS
    }

    fn next_want(&mut self) -> usize {
        let at = self.looked;
        self.looked += 1;
        if !is_small(&self.wants[at]) {
            self.large.0 += 1;
            self.large.1 = self.large.1.saturating_add(self.wants[at].size);
        }
        at
    }

    /// Looks what is at hand of the next want, and asks for it if it is nothing whole.
    fn look(&mut self) {
        let at = self.next_want();
        let want = &self.wants[at];
        if let Some(whole) = Staging::new(&self.into, want)
            .and_then(|staging| staging.copy_whole())
            .transpose()
        {
            return self.done(at, whole);
        }
        let (hash, size) = (want.hash, want.size);
        if is_small(want) {
            if !self.has_room(size) {
                return self.done(at, Err(FetchError::NoSpace));
            }
            return self.ask(Request {
                want: at,
                hash,
                what: What::File { size },
            });
        }
        let known = self.into.local.list_known(&hash);
        match known
            .filter(|list| list.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>() == size)
        {
            Some(list) => self.plan(at, &list, 0),
            None => self.ask(Request {
                want: at,
                hash,
                what: What::List { size },
            }),
        }
    }

    /// Whether so much more fits on the disk, as far as it can say: what does not is not asked for.
    fn has_room(&self, bytes: u64) -> bool {
        !matches!(self.into.disk.free_bytes(), Ok(free) if bytes > free)
    }

    fn ask(&self, request: Request) {
        self.shared.window().push(request);
        self.shared.wake();
    }

    pub(super) fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::File(at, Ok(bytes)) => {
                let result = Staging::new(&self.into, &self.wants[at])
                    .and_then(|staging| staging.small(&bytes));
                if result.is_ok() {
                    self.into.progress.moved(bytes.len() as u64, 0);
                }
                self.done(at, result);
            }
            Arrival::List(at, Ok(bytes)) => {
                self.into.progress.moved(bytes.len() as u64, 0);
                match list_from_bytes(&bytes, self.wants[at].size) {
                    Ok(list) => self.plan(at, &list, bytes.len() as u64),
                    Err(_) => self.done(at, Err(FetchError::Mismatch)),
                }
            }
            Arrival::File(at, Err(status)) | Arrival::List(at, Err(status)) => {
                self.done(at, Err(status.into()));
            }
            // Left over from a content that was given up.
            Arrival::Piece(_, Ok(block)) => self.shared.pool.give(block),
            Arrival::Piece(_, Err(_)) => {}
        }
    }

    /// Takes what has arrived in the middle of a large content, up to the next piece of one.
    pub(super) fn keep_up(&mut self) {
        while let Some(arrival) = self.at_hand() {
            match arrival {
                Arrival::Piece(want, _) if self.results[want].is_none() => {
                    return self.batch.push_front(arrival);
                }
                other => self.take(other),
            }
        }
    }

    fn plan(&mut self, want: usize, list: &[Chunk], list_bytes: u64) {
        let wanted = &self.wants[want];
        let left = Staging::new(&self.into, wanted).map_or(0, |staging| staging.part_size());
        let local = &self.into.local;
        let plan = Plan::new(wanted.hash, list, |chunk, offset| {
            match local.chunk(&chunk.id) {
                Some((path, offset, len, stat)) if len == chunk.len => {
                    Origin::Local { path, offset, stat }
                }
                // A guess: it may have been left by a try for another content.
                _ if offset + u64::from(chunk.len) <= left => Origin::Part,
                _ => Origin::Net,
            }
        });
        if !self.has_room(plan.ranges().iter().map(|(_, len)| u64::from(*len)).sum()) {
            return self.done(want, Err(FetchError::NoSpace));
        }
        let moved = Moved {
            from_net: list_bytes,
            ..Moved::default()
        };
        self.get_ready(Ready {
            want,
            plan,
            base: 0,
            moved,
            stage: None,
        });
    }

    fn get_ready(&mut self, mut ready: Ready) {
        ready.base = self.line.1;
        self.line.1 += ready.plan.size;
        let (want, hash) = (ready.want, ready.plan.hash);
        for (offset, len) in ready.plan.ranges() {
            self.later.push_back((
                ready.base + offset,
                Request {
                    want,
                    hash,
                    what: What::Part { offset, len },
                },
            ));
        }
        self.ready.push_back(ready);
        self.reach(self.line.0);
    }

    /// The writing has come to `place` on the line: what comes soon is asked.
    pub(super) fn reach(&mut self, place: u64) {
        self.line.0 = self.line.0.max(place);
        let until = self.line.0 + LOOKAHEAD;
        let mut any = false;
        while let Some((_, request)) = self.later.pop_front_if(|(begins, _)| *begins <= until) {
            self.shared.window().push(request);
            any = true;
        }
        if any {
            self.shared.wake();
        }
    }

    fn put_together(&mut self, mut ready: Ready) {
        let into = self.into.clone();
        let want = self.wants[ready.want].clone();
        self.reach(ready.base);
        let staging = match Staging::new(&into, &want) {
            Ok(staging) => staging,
            Err(error) => return self.done(ready.want, Err(error)),
        };
        let mut stage = match ready
            .stage
            .take()
            .map_or_else(|| into.disk.stage(&want.staged), Ok)
        {
            Ok(stage) => stage,
            Err(error) => return self.done(ready.want, Err(error.into())),
        };
        let place = Place {
            disk: &*into.disk,
            secret: &into.secret,
            staged: &staging.path,
            part: &staging.part,
        };
        let before = ready.moved;
        let mut feed = Feed {
            want: ready.want,
            base: ready.base,
            piece: None,
            refused: None,
            intake: self,
        };
        let outcome = assemble(
            &ready.plan,
            &place,
            &mut *stage,
            &mut feed,
            &mut ready.moved,
        );
        let refused = feed.close();
        let moved = ready.moved;
        into.progress.moved(
            moved.from_net - before.from_net,
            moved.from_local - before.from_local,
        );
        let result = match outcome {
            Ok(Outcome::Holes(holes)) => {
                tracing::debug!(
                    staged = want.staged,
                    holes = holes.len(),
                    "own files changed, asking for their chunks"
                );
                let plan = ready.plan.again(&holes);
                return self.get_ready(Ready {
                    plan,
                    stage: Some(stage),
                    ..ready
                });
            }
            Ok(Outcome::Whole) => staging.finish(stage, ready.plan.list(), moved),
            Err(error) => {
                let error = match error {
                    AssembleError::Supply(SupplyError) => {
                        refused.unwrap_or_else(|| self.why_ended())
                    }
                    AssembleError::Mismatch => FetchError::Mismatch,
                    AssembleError::Io(error) => error.into(),
                };
                staging.give_up(stage, moved.written, &error);
                Err(error)
            }
        };
        self.reach(ready.base + ready.plan.size);
        self.done(ready.want, result);
    }

    fn why_ended(&self) -> FetchError {
        self.shared
            .broken
            .get()
            .copied()
            .unwrap_or(Broken::Disconnected)
            .into()
    }

    /// The stream is gone: what is at hand whole is still taken, the rest has failed.
    fn give_up(&mut self) {
        while self.looked < self.wants.len() {
            let at = self.next_want();
            let staging = Staging::new(&self.into, &self.wants[at]);
            if let Some(whole) = staging.and_then(|staging| staging.copy_whole()).transpose() {
                self.done(at, whole);
            }
        }
        for at in 0..self.wants.len() {
            if self.results[at].is_none() {
                self.done(at, Err(self.why_ended()));
            }
        }
    }

    fn done(&mut self, at: usize, result: Result<FetchedOk, FetchError>) {
        if self.results[at].is_some() {
            return;
        }
        if !is_small(&self.wants[at]) {
            self.large.0 = self.large.0.saturating_sub(1);
            self.large.1 = self.large.1.saturating_sub(self.wants[at].size);
            if result.is_err() {
                self.later.retain(|(_, request)| request.want != at);
                self.shared.window().forget(at);
            }
        }
        let fetched = Fetched {
            want: self.wants[at].clone(),
            result,
        };
        self.into.progress.done(&fetched);
        self.results[at] = Some(fetched.result);
        self.open -= 1;
    }
}

fn is_small(want: &Want) -> bool {
    want.size <= ONE_CHUNK as u64
}

/// Ends the stream when the intake ends, also by a panic.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}
