//! State transfer, the taking side: who is asked for it, what came, and who is asked next.
//!
//! The danger guarded against is a newcomer that waits for a device which will never answer (it left
//! the space, its folder is gone, its key has not come) beside one that would: whoever gives nothing
//! for a while is followed by the next. What has come is kept if the next knows all that the first
//! counted as told when it began; where the logs stand is believed with the last page only.

use ownmesh_crdt::message::Message;
use ownmesh_crdt::mutated;
use ownmesh_crdt::page::{LogMark, PageBody, Point, open_page};
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{BatchHash, DeviceId, KeyId, SpaceId};

use super::docs::Docs;
use super::peers::PeerSpace;
use super::{Effect, Engine, Now};
use crate::db::{Connection, DbError, dirty, items, logs, spaces};

/// Who gives no page for so long is followed by the next, ms: a page behind the window of batches
/// that may be queued before it, over a slow line.
const PATIENCE: u64 = 60_000;

/// A transfer of state to this device. It ends with the process: the next one asks anew.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    /// Who is asked; nobody if there is nobody to ask.
    pub(super) from: Option<DeviceId>,
    /// Where the next page begins.
    next: Point,
    /// Where the logs stood at the first page.
    marks: Vec<LogMark>,
}

impl Engine {
    /// Asks for state where it is lacking and nobody is asked, or whoever is asked gives none.
    pub(super) fn seek_state(&mut self, now: Now) -> Result<(), DbError> {
        let due = |s: &&super::Space| !s.is_paused() && s.seek_at.is_some_and(|at| now.mono >= at);
        let numbers: Vec<i64> = self.spaces.values().filter(due).map(|s| s.row.n).collect();
        for n in numbers {
            self.ask_for_state(now, n)?;
        }
        Ok(())
    }

    fn ask_for_state(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        let have = logs::vector(self.db.read(), n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        let id = space.row.id;
        space.seek_at = None;
        let givers: Vec<(DeviceId, &PeerSpace)> = self
            .peers
            .iter()
            .filter_map(|(device, peer)| Some((*device, peer.spaces.get(&id)?)))
            .filter(|(_, theirs)| theirs.joined && !theirs.paused && pruned(&have, theirs))
            .collect();
        let asked = space.state.as_ref().and_then(|t| t.from);
        let next = givers.iter().find(|(d, _)| Some(*d) > asked);
        let Some((from, theirs)) = next.or(givers.first()) else {
            // One that has begun waits for somebody to end it; where nothing lacks none begins.
            if let Some(transfer) = &mut space.state {
                transfer.from = None;
            }
            return Ok(());
        };
        let mut transfer = space.state.take().unwrap_or_default();
        let knows = |m: &LogMark| theirs.vector.get(&m.tag) >= m.seq;
        if !transfer.marks.iter().all(knows) {
            transfer = Transfer::default();
        } else if transfer.from != Some(*from) {
            // Each device has an order of its own within a document.
            transfer.next.part = 0;
        }
        transfer.from = Some(*from);
        self.effects.push(Effect::Send {
            device: *from,
            message: Message::WantState {
                space: id,
                begin: transfer.next,
            },
        });
        space.state = Some(transfer);
        space.seek_at = (!mutated!(GiverForEver)).then_some(now.mono + PATIENCE);
        Ok(())
    }

    /// Takes a page of state in; the vector is adopted with the last.
    pub(super) fn take_page(
        &mut self,
        now: Now,
        from: &DeviceId,
        id: &SpaceId,
        bytes: &[u8],
    ) -> Result<(), DbError> {
        let Some(n) = self.number(id) else {
            return Ok(());
        };
        let Some(space) = self.spaces.get_mut(&n).filter(|s| !s.is_paused()) else {
            return Ok(());
        };
        let Some(transfer) = space.state.as_mut().filter(|t| t.from == Some(*from)) else {
            return Ok(());
        };
        let (registry, keys, tally) = (&self.registry, &self.keys, &mut self.tally);
        let key = |k: &KeyId| keys.get(id)?.get(k).cloned();
        let signer = |d: &DeviceId| registry.view().devices.get(d).map(|e| e.public.sign);
        let page: PageBody = match open_page(bytes, &key, &signer, id) {
            Ok(page) if page.device == *from && page.begin == transfer.next => page,
            Ok(_) => return Ok(()),
            Err(error) => {
                let name = self.device_name(from);
                self.trouble(
                    "state",
                    format!("state from {name} was refused: {error}"),
                    now,
                );
                return Ok(());
            }
        };
        let next = page.next();
        if !page.last && next == page.begin {
            // Nothing, and not the end: another one is asked in time.
            return Ok(());
        }
        if page.begin == Point::default() {
            transfer.marks.clone_from(&page.logs);
        }
        let mut row = space.row.clone();
        let marks = &transfer.marks;
        let row = self.db.write(|tx| {
            // Who wrote with which incarnation names conflict copies: known before any document.
            for mark in &page.logs {
                if logs::by_tag(tx, n, &mark.tag)?.is_none() {
                    let writer = (&mark.device, &mark.incarnation);
                    logs::advance(tx, n, &mark.tag, writer, 0, &BatchHash::ZERO, 1)?;
                }
            }
            let mut totals = row.totals;
            let mut docs = Docs::new(tx, n, &mut totals, tally, now);
            for (item, changes) in &page.docs {
                docs.take_all(item, changes)?;
            }
            if page.last {
                adopt(tx, n, marks)?;
            }
            row.totals = totals;
            spaces::update(tx, &row)?;
            Ok::<_, DbError>(row)
        })?;
        space.row = row;
        space.again = true;
        if page.last {
            space.state = None;
            space.ack_due = true;
            // Another one may have pruned what this one did not know.
            space.seek_at = Some(now.mono);
            return Ok(());
        }
        transfer.next = next;
        space.seek_at = Some(now.mono + PATIENCE);
        self.effects.push(Effect::Send {
            device: *from,
            message: Message::WantState {
                space: *id,
                begin: next,
            },
        });
        Ok(())
    }
}

/// Whether a device has what is lacking here and no longer holds the batches of it.
fn pruned(have: &Vector, theirs: &PeerSpace) -> bool {
    theirs.vector.iter().any(|(tag, seq)| {
        let have = have.get(tag);
        have < seq && theirs.lowest.get(tag) > have + 1
    })
}

/// Takes the logs over as they stood when the transfer began.
fn adopt(tx: &Connection, n: i64, marks: &[LogMark]) -> Result<(), DbError> {
    for mark in marks {
        if logs::by_tag(tx, n, &mark.tag)?.is_none_or(|l| l.seq < mark.seq) {
            let writer = (&mark.device, &mark.incarnation);
            let log = logs::advance(tx, n, &mark.tag, writer, mark.seq, &mark.hash, 1)?;
            logs::prune(tx, log, mark.seq)?;
            logs::set_low(tx, log, mark.seq + 1)?;
        }
    }
    // Copies may be named after writers that only batches told of meanwhile.
    for (id, spot) in items::conflicts(tx, n)? {
        dirty::mark(tx, n, &id, spot.size)?;
    }
    Ok(())
}
