//! Own changes on their way into this process's log.
//!
//! An own change is sealed when there is somebody to tell and the registry has been exchanged with
//! them, into a batch that is durable before the first byte of it leaves; the content it names is
//! flushed at its source first (ARCHITECTURE.md, orders 1 and 5). Announced earlier, either could be
//! gone here after a power failure while others count on it. No process continues another's log
//! (docs/design/0002-incarnations.md).

use ownmesh_crdt::batch::{BatchBody, BatchHead, seal_batch};
use ownmesh_crdt::mutated;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{BatchHash, Incarnation, WriterTag};

use super::hello::ACK_EVERY;
use super::space::{DISK, RETRY};
use super::{Effect, Engine, Job, Now};
use crate::db::{Connection, DbError, logs};

/// Changes in one batch, by count and by bytes before compression.
const BATCH: (usize, usize) = (1_000, 700 << 10);

impl Engine {
    /// Seals own changes if somebody listens; flushes their content at its source first.
    pub(super) fn seal(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let id = space.row.id;
        if space.is_paused()
            || self.listeners(&id).is_empty()
            || space.sync_job.is_some()
            || !space.scanned
            || !logs::outbox_any(self.db.read(), n)?
        {
            return Ok(());
        }
        if let Some(files) = space
            .unsynced
            .as_ref()
            .filter(|_| !mutated!(AnnounceUnflushed))
        {
            let files = files.clone();
            let job = self.next_job();
            if let Some(space) = self.spaces.get_mut(&n) {
                space.sync_job = Some(job);
                space.unsynced = None;
            }
            self.effects.push(Effect::Sync {
                space: n,
                job,
                files,
            });
            return Ok(());
        }
        let Some(key) = self.current_key(&id) else {
            return Ok(());
        };
        let incarnation = self.incarnation();
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let tag = space.secret.writer_tag(&self.device, &incarnation);
        let (keys, device, rng) = (&self.identity.keys, self.device, &mut *self.rng);
        let durable = !mutated!(AnnounceBeforeDurable);
        self.db.write_as(durable, |tx| {
            loop {
                let queued = logs::outbox(tx, n, BATCH.0, BATCH.1)?;
                let Some(last) = queued.last().map(|q| q.0) else {
                    return Ok::<_, DbError>(());
                };
                let (seq, prev) = logs::by_tag(tx, n, &tag)?
                    .map_or((0, BatchHash::ZERO), |log| (log.seq, log.chain));
                let head = BatchHead {
                    tag,
                    seq: seq + 1,
                    prev,
                    key: key.id,
                };
                let seen = seen(tx, n, &tag)?;
                let body = BatchBody {
                    space: id,
                    device,
                    incarnation,
                    seen,
                    changes: queued
                        .into_iter()
                        .map(|(_, item, change)| (item, change))
                        .collect(),
                };
                let count = body.changes.len();
                let sealed = seal_batch(&head, &body, &key, keys, rng).map_err(|error| {
                    tracing::error!(%error, "own changes could not be sealed");
                    DbError::Damaged("outbox")
                })?;
                let log = logs::advance(
                    tx,
                    n,
                    &tag,
                    (&device, &incarnation),
                    head.seq,
                    &sealed.hash,
                    1,
                )?;
                logs::put_batch(tx, log, head.seq, count, &sealed.bytes)?;
                logs::drop_outbox(tx, n, last)?;
            }
        })?;
        space.ack_due = true;
        self.ack_at.get_or_insert(now.mono + ACK_EVERY);
        Ok(())
    }

    /// Files are flushed.
    pub(super) fn synced(
        &mut self,
        now: Now,
        n: i64,
        job: Job,
        error: Option<String>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        if space.sync_job == Some(job) {
            space.sync_job = None;
            if let Some(error) = error {
                space.problem("", DISK, format!("could not be flushed: {error}"), now.wall);
                space.unsynced = Some(Vec::new());
                space.retry_at = Some(now.mono + RETRY);
            }
            return Ok(());
        }
        self.staged_synced(now, n, job, error)
    }

    /// The incarnation of this process, drawn with its first own change.
    pub(super) fn incarnation(&mut self) -> Incarnation {
        let rng = &mut *self.rng;
        *self
            .incarnation
            .get_or_insert_with(|| Incarnation::random(rng))
    }

    /// Makes this process's log known before its first change: it says who wrote what.
    pub(super) fn own_log(&mut self, n: i64) -> Result<(), DbError> {
        let incarnation = self.incarnation();
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let tag = space.secret.writer_tag(&self.device, &incarnation);
        if logs::by_tag(self.db.read(), n, &tag)?.is_none() {
            let device = self.device;
            self.db.write(|tx| {
                logs::advance(tx, n, &tag, (&device, &incarnation), 0, &BatchHash::ZERO, 1)
            })?;
        }
        Ok(())
    }

    /// Somebody was told more of this process's log than this process has written: it runs twice, or
    /// once more from an earlier moment (a machine put back with its memory). Nothing tells it so but
    /// this. What it goes on to write stands in a log of its own; what it has written meanwhile to the
    /// very documents that the other wrote to is refused elsewhere, and shows there as set aside.
    pub(super) fn heard_of_own_log(&mut self, n: i64, theirs: &Vector) -> Result<(), DbError> {
        let (Some(incarnation), Some(space)) = (self.incarnation, self.spaces.get(&n)) else {
            return Ok(());
        };
        let tag = space.secret.writer_tag(&self.device, &incarnation);
        let written = logs::by_tag(self.db.read(), n, &tag)?.map_or(0, |log| log.seq);
        if theirs.get(&tag) > written && !mutated!(LogRunsTwice) {
            tracing::warn!("this process has run before from the moment it was put back to");
            self.incarnation = None;
        }
        Ok(())
    }

    /// How many own changes wait to be sealed, over all spaces.
    #[must_use]
    pub fn unsealed(&self) -> u64 {
        self.spaces
            .keys()
            .filter_map(|n| logs::outbox_len(self.db.read(), *n).ok())
            .sum()
    }
}

/// What a batch may depend on: the ends of all other logs applied here. A removed device's batch
/// will be kept only if a member's names it.
fn seen(
    tx: &Connection,
    n: i64,
    own: &WriterTag,
) -> Result<Vec<(WriterTag, u64, BatchHash)>, DbError> {
    let others = logs::all(tx, n)?
        .into_iter()
        .filter(|log| log.tag != *own && log.seq > 0);
    Ok(others.map(|log| (log.tag, log.seq, log.chain)).collect())
}
