//! Documents inside a transaction: authoring own changes and taking in those of others.
//!
//! Own changes go to the outbox unsealed; they are sealed when there is somebody to tell
//! (`seal`). A change that cannot be taken in is set aside with its reason and never stops
//! the rest of its batch; one whose dependency is missing waits, and only its document with it.

use std::collections::BTreeSet;

use ownmesh_crdt::doc::{Applied, CheckedChange, Edit};
use ownmesh_crypto::{BatchHash, DeviceId, Incarnation, ItemId, SpaceSecret};

use super::Now;
use super::tree::Tree;
use crate::db::items::{self, ItemRow};
use crate::db::spaces::Totals;
use crate::db::{Connection, DbError, logs};

/// Documents of one space inside one transaction.
#[derive(Debug)]
pub(super) struct Docs<'a> {
    pub(super) tx: &'a Connection,
    pub(super) space: i64,
    pub(super) totals: &'a mut Totals,
    /// Counters of what happened, for the log and the simulator.
    pub(super) tally: &'a mut Tally,
    /// Unix milliseconds that own changes tell people.
    wall: i64,
    /// Whose batch is being taken in, and under which incarnation.
    pub(super) writer: Option<Writer<'a>>,
}

/// The writer of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer<'a> {
    pub(super) device: DeviceId,
    pub(super) incarnation: Incarnation,
    pub(super) secret: &'a SpaceSecret,
}

/// What happened to changes since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Own changes authored.
    pub authored: u64,
    /// Others' changes applied without opening a document.
    pub fast: u64,
    /// Others' changes applied through the document.
    pub slow: u64,
    /// Changes that were known already.
    pub known: u64,
    /// Changes that wait for another.
    pub waiting: u64,
    /// Changes set aside for good.
    pub refused: u64,
}

impl<'a> Docs<'a> {
    pub(super) fn new(
        tx: &'a Connection,
        space: i64,
        totals: &'a mut Totals,
        tally: &'a mut Tally,
        now: Now,
    ) -> Self {
        Self {
            tx,
            space,
            totals,
            tally,
            wall: now.wall,
            writer: None,
        }
    }

    /// Loads an item, or an empty one.
    pub(super) fn load(&self, id: &ItemId) -> Result<ItemRow, DbError> {
        Ok(items::get(self.tx, self.space, id)?.unwrap_or_default())
    }

    /// Authors one change on `row`, stores it and queues it for the next batch.
    /// Edits that change nothing author nothing.
    pub(super) fn author(
        &mut self,
        actor: &Incarnation,
        id: &ItemId,
        row: &mut ItemRow,
        edits: &[Edit],
    ) -> Result<bool, DbError> {
        let authored = row
            .doc
            .commit_at(actor, self.wall, edits)
            .map_err(|error| {
                tracing::error!(%id, %error, "own change refused");
                DbError::Damaged("document")
            })?;
        let Some(authored) = authored else {
            return Ok(false);
        };
        logs::put_outbox(self.tx, self.space, id, &authored.bytes)?;
        self.tally.authored += 1;
        self.tree().store(id, row)?;
        Ok(true)
    }

    /// Takes in one change of another device (or of an own earlier incarnation).
    pub(super) fn take(&mut self, id: &ItemId, bytes: &[u8]) -> Result<(), DbError> {
        self.take_all(id, &[bytes])
    }

    /// The same with many changes of one document, which is loaded and stored once for all of them.
    pub(super) fn take_all<B: AsRef<[u8]>>(
        &mut self,
        id: &ItemId,
        changes: &[B],
    ) -> Result<(), DbError> {
        let mut row = self.load(id)?;
        // Each known change would otherwise be looked for in the whole document.
        let known = if changes.len() > 1 {
            row.doc.hashes().unwrap_or_default()
        } else {
            BTreeSet::new()
        };
        let mut done = false;
        for bytes in changes {
            let bytes = bytes.as_ref();
            let change = match CheckedChange::check(bytes) {
                Ok(change) => change,
                Err(reason) => {
                    self.set_aside(id, bytes, &reason.to_string())?;
                    continue;
                }
            };
            self.know_writer(change.actor())?;
            if known.contains(&change.hash()) {
                self.tally.known += 1;
            } else {
                done |= self.apply(id, &mut row, &change)?;
            }
        }
        if !done {
            return Ok(());
        }
        // What waited for this change may follow now, in any order.
        let mut waiting = logs::take_pending(self.tx, self.space, id)?;
        let mut progress = true;
        while progress && !waiting.is_empty() {
            progress = false;
            for bytes in std::mem::take(&mut waiting) {
                let Ok(change) = CheckedChange::check(&bytes) else {
                    continue;
                };
                match row.doc.apply(&change) {
                    Ok(Applied::Missing(_)) => waiting.push(bytes),
                    Ok(_) => progress = true,
                    Err(reason) => self.set_aside(id, &bytes, &reason.to_string())?,
                }
            }
        }
        for bytes in &waiting {
            logs::put_pending(self.tx, self.space, id, bytes)?;
        }
        self.tree().store(id, &mut row)
    }

    fn apply(
        &mut self,
        id: &ItemId,
        row: &mut ItemRow,
        change: &CheckedChange,
    ) -> Result<bool, DbError> {
        match row.doc.apply(change) {
            Ok(Applied::Known) => {
                self.tally.known += 1;
                Ok(false)
            }
            Ok(Applied::Missing(_)) => {
                self.tally.waiting += 1;
                logs::put_pending(self.tx, self.space, id, change.bytes())?;
                Ok(false)
            }
            Ok(Applied::Done { fast }) => {
                if fast {
                    self.tally.fast += 1;
                } else {
                    self.tally.slow += 1;
                }
                Ok(true)
            }
            Err(reason) => {
                self.set_aside(id, change.bytes(), &reason.to_string())?;
                Ok(false)
            }
        }
    }

    /// A batch may carry changes of an earlier incarnation of its writer, which a crash kept from
    /// being sealed. Who wrote them has to be known wherever they are: it names conflict copies.
    fn know_writer(&self, actor: &Incarnation) -> Result<(), DbError> {
        let Some(writer) = self.writer.filter(|w| w.incarnation != *actor) else {
            return Ok(());
        };
        if logs::writer(self.tx, self.space, actor)?.is_none() {
            let tag = writer.secret.writer_tag(&writer.device, actor);
            logs::advance(
                self.tx,
                self.space,
                &tag,
                (&writer.device, actor),
                0,
                &BatchHash::ZERO,
                1,
            )?;
        }
        Ok(())
    }

    fn set_aside(&mut self, id: &ItemId, bytes: &[u8], reason: &str) -> Result<(), DbError> {
        tracing::warn!(%id, reason, "change set aside");
        self.tally.refused += 1;
        logs::put_quarantine(self.tx, self.space, id, bytes, reason)
    }

    pub(super) fn tree(&mut self) -> Tree<'_> {
        Tree {
            tx: self.tx,
            space: self.space,
            totals: self.totals,
        }
    }
}
