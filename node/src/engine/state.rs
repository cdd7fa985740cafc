//! State transfer, the giving side: everything of a space, page by page, for a device that lacks
//! what logs no longer hold.
//!
//! The taking side is in `lacking`. Each page is made from what was asked and nothing remembered, so
//! that a page asked for twice, or of another device, does no harm. What is told here is in some log
//! and flushed at its source, and what is told after the marks of the first page is younger than they.
//! A page is bounded: a document too large for it goes on in the next one.

use ownmesh_crdt::message::Message;
use ownmesh_crdt::page::{LogMark, PageBody, Point, seal_page};
use ownmesh_crypto::{DeviceId, ItemId};

use super::{Effect, Engine, Now};
use crate::db::{Connection, DbError, items, logs};
use crate::limits::Lane;

/// Bytes of one page of a state transfer, before compression; a single change may be larger.
const PAGE: usize = 512 << 10;
/// Bytes a mark, a change and a document take beside what is in them, rounded up.
const MARK: usize = 96;
const CHANGE: usize = 8;
const DOC: usize = 32;
/// Documents looked at for one page.
const DOCS: usize = 2_000;

impl Engine {
    /// A peer wants state: one page, and the next when it asks for it.
    fn serve_state(
        &mut self,
        now: Now,
        device: &DeviceId,
        n: i64,
        begin: Point,
    ) -> Result<(), DbError> {
        let Some(id) = self.spaces.get(&n).map(|s| s.row.id) else {
            return Ok(());
        };
        let Some(key) = self.current_key(&id) else {
            return Ok(());
        };
        let mut body = PageBody {
            space: id,
            device: self.device,
            begin,
            upto: begin.after.unwrap_or(ItemId::ROOT),
            docs: Vec::new(),
            last: false,
            logs: Vec::new(),
        };
        fill(self.db.read(), n, &mut body)?;
        match seal_page(&body, &key, &self.identity.keys, &mut *self.rng) {
            Ok(bytes) => {
                self.flow.pacer.sent(now.mono, bytes.len());
                self.effects.push(Effect::Send {
                    device: *device,
                    message: Message::Page { space: id, bytes },
                });
            }
            Err(error) => {
                let name = self.device_name(device);
                self.trouble("state", format!("state for {name}: {error}"), now);
            }
        }
        Ok(())
    }

    /// Answers those who want state, once nothing of this device's own is unsealed: state must not
    /// tell what is in no log and perhaps not even flushed yet (DESIGN order 1).
    pub(super) fn serve_asked(&mut self, now: Now) -> Result<(), DbError> {
        let mut ready = Vec::new();
        let mut held = None;
        let may = self.flow.pacer.may_send(now.mono, Lane::Log);
        for (device, peer) in &self.peers {
            for (id, state) in &peer.spaces {
                let Some(begin) = state.asked else { continue };
                let Some(space) = self.spaces.values().find(|s| s.row.id == *id) else {
                    continue;
                };
                if space.is_paused() || state.paused {
                    continue;
                }
                if let Err(wait) = may {
                    held = Some(now.mono + wait);
                    continue;
                }
                let n = space.row.n;
                let busy = space.unsynced.is_some() || space.sync_job.is_some();
                if !busy && self.current_key(id).is_some() && !logs::outbox_any(self.db.read(), n)?
                {
                    ready.push((*device, *id, n, begin));
                }
            }
        }
        self.flow.state_at = held;
        for (device, id, n, begin) in ready {
            if let Some(state) = self
                .peers
                .get_mut(&device)
                .and_then(|p| p.spaces.get_mut(&id))
            {
                state.asked = None;
            }
            self.serve_state(now, &device, n, begin)?;
        }
        Ok(())
    }
}

/// Puts into a page what follows its beginning, as much as it holds.
fn fill(conn: &Connection, n: i64, page: &mut PageBody) -> Result<(), DbError> {
    let first = page.begin == Point::default();
    let mut room = PAGE;
    if first {
        page.logs = logs::all(conn, n)?
            .into_iter()
            .map(|log| LogMark {
                tag: log.tag,
                device: log.device,
                incarnation: log.incarnation,
                seq: log.seq,
                hash: log.chain,
            })
            .collect();
        room = room.saturating_sub(page.logs.len() * MARK);
    }
    // A document that came in between may stand where the one that goes on was: what is left out of
    // it then is younger than the marks and comes as batches.
    let mut told = usize::try_from(page.begin.part).unwrap_or(usize::MAX);
    let ids = items::after(conn, n, page.begin.after.as_ref(), DOCS)?;
    let all = ids.len() < DOCS;
    for item in ids {
        let row = items::get(conn, n, &item)?.unwrap_or_default();
        let changes = row
            .doc
            .changes()
            .map_err(|_| DbError::Damaged("document"))?;
        let rest = changes.get(std::mem::take(&mut told)..).unwrap_or_default();
        // One change alone always fits, but not beside all marks.
        let empty = page.docs.is_empty() && !first;
        let mut count = 0;
        room = room.saturating_sub(DOC);
        for change in rest {
            let size = change.len() + CHANGE;
            if size > room && !(empty && count == 0) {
                break;
            }
            room = room.saturating_sub(size);
            count += 1;
        }
        let mut taken: Vec<Vec<u8>> = rest[..count].iter().map(|c| c.to_vec()).collect();
        // Changes that wait for what they depend on: the marks count their batches as told. All at
        // once behind the last, for they have no order that lasts.
        let waiting = logs::pending(conn, n, &item)?;
        let size: usize = waiting.iter().map(|c| c.len() + CHANGE).sum();
        let whole = count == rest.len() && (size <= room || empty && count == 0);
        if whole {
            room = room.saturating_sub(size);
            taken.extend(waiting);
            page.upto = item;
        }
        if !taken.is_empty() {
            page.docs.push((item, taken));
        }
        if !whole {
            return Ok(());
        }
    }
    if all {
        page.last = true;
        page.upto = ItemId::from_bytes([0xff; 16]);
    }
    Ok(())
}
