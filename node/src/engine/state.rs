//! State transfer, the giving side: everything of a space, page by page, for a device that lacks
//! what logs no longer hold.
//!
//! The taking side is in `inbound`. What is told here is in some log and flushed at its source, and
//! the marks on the last page promise nothing that was not told.

use ownmesh_crdt::message::Message;
use ownmesh_crdt::page::{LogMark, PageBody, seal_page};
use ownmesh_crypto::{DeviceId, ItemId, SpaceId};

use super::{Effect, Engine};
use crate::db::{DbError, items, logs};

/// Bytes of documents in one page of a state transfer, before compression.
const PAGE: usize = 512 << 10;

impl Engine {
    /// A peer wants everything: one page, and the next when it asks for it. Documents may change
    /// between pages; the vector on the last page is the one of the moment the first was made, so
    /// nothing that came later is taken for known.
    fn serve_state(
        &mut self,
        device: &DeviceId,
        id: &SpaceId,
        after: Option<ItemId>,
    ) -> Result<(), DbError> {
        let Some(space) = self.spaces.values().find(|s| s.row.id == *id) else {
            return Ok(());
        };
        let n = space.row.n;
        let Some(key) = self.current_key(id) else {
            return Ok(());
        };
        let conn = self.db.read();
        let Some(state) = self
            .peers
            .get_mut(device)
            .and_then(|p| p.spaces.get_mut(id))
        else {
            return Ok(());
        };
        if after.is_none() || state.serving.is_none() {
            let marks = logs::all(conn, n)?.into_iter().map(|log| LogMark {
                tag: log.tag,
                device: log.device,
                incarnation: log.incarnation,
                seq: log.seq,
                hash: log.chain,
            });
            state.serving = Some(marks.collect());
        }
        let (mut docs, mut bytes, mut last) = (Vec::new(), 0, true);
        for row in items::page(conn, n, after.as_ref(), 2_000)? {
            if bytes > PAGE {
                last = false;
                break;
            }
            let Some(item) = row.id else { continue };
            bytes += row.doc.body.len() + 32;
            let changes = row
                .doc
                .changes()
                .map_err(|_| DbError::Damaged("document"))?;
            docs.push((item, changes));
        }
        last &= docs.len() < 2_000;
        add_pending(&mut docs, logs::pending(conn, n)?, after, last);
        let body = PageBody {
            space: *id,
            device: self.device,
            after,
            upto: docs.last().map_or(ItemId::from_bytes([0xff; 16]), |d| d.0),
            docs,
            last,
            logs: if last {
                state.serving.take().unwrap_or_default()
            } else {
                Vec::new()
            },
        };
        match seal_page(&body, &key, &self.identity.keys, &mut *self.rng) {
            Ok(bytes) => self.effects.push(Effect::Send {
                device: *device,
                message: Message::Page { space: *id, bytes },
            }),
            Err(error) => tracing::error!(%error, "a page of state could not be sealed"),
        }
        Ok(())
    }

    /// Answers those who want state, once nothing of this device's own is unsealed: state must not
    /// tell what is in no log and perhaps not even flushed yet (DESIGN order 1).
    pub(super) fn serve_asked(&mut self) -> Result<(), DbError> {
        let mut ready = Vec::new();
        for (device, peer) in &self.peers {
            for (id, state) in &peer.spaces {
                let Some(after) = state.asked else { continue };
                let Some(space) = self.spaces.values().find(|s| s.row.id == *id) else {
                    continue;
                };
                let busy = space.unsynced.is_some() || space.sync_job.is_some();
                if !busy && !logs::outbox_any(self.db.read(), space.row.n)? {
                    ready.push((*device, *id, after));
                }
            }
        }
        for (device, id, after) in ready {
            if let Some(state) = self
                .peers
                .get_mut(&device)
                .and_then(|p| p.spaces.get_mut(&id))
            {
                state.asked = None;
            }
            self.serve_state(&device, &id, after)?;
        }
        Ok(())
    }
}

/// Adds changes that wait for what they depend on: the marks of a transfer count their batches as
/// told, so whoever adopts those must have them too.
fn add_pending(
    docs: &mut Vec<(ItemId, Vec<Vec<u8>>)>,
    pending: Vec<(ItemId, Vec<u8>)>,
    after: Option<ItemId>,
    last: bool,
) {
    let upto = docs.last().map(|d| d.0);
    for (item, change) in pending {
        let before = after.is_some_and(|after| item <= after);
        let beyond = !last && upto.is_none_or(|upto| item > upto);
        if before || beyond {
            continue;
        }
        match docs.binary_search_by_key(&item, |d| d.0) {
            Ok(at) => docs[at].1.push(change),
            Err(at) => docs.insert(at, (item, vec![change])),
        }
    }
}
