//! What others' devices tell: their messages, and of those the batches; pages of state are in `lacking`.
//!
//! Whoever it came through, a batch counts only by its own seal, signature and place in its
//! writer's chain. One bad change is set aside and the rest of the batch goes on; a batch that is
//! out of order is dropped and asked for again by the next acknowledgement.

use ownmesh_crdt::batch::{self, BatchError};
use ownmesh_crdt::message::Message;
use ownmesh_crdt::vector::{LogChain, Next};
use ownmesh_crypto::{BatchHash, DeviceId, KeyId, SpaceId};

use super::docs::{Docs, Writer};
use super::{Effect, Engine, Now};
use crate::db::spaces;
use crate::db::{DbError, logs};

/// After a [`Message::Space`]: everything it lacks is to be sent once more.
pub(super) const AGAIN: &str = "again";
/// Batches that came out of order are asked for again after this time, ms: by then what was missing
/// (an epoch key, a certificate) has usually come.
const GAP: u64 = 1_000;

impl Engine {
    /// Takes one message of a connected device in.
    pub(super) fn message(
        &mut self,
        now: Now,
        device: &DeviceId,
        bytes: &[u8],
    ) -> Result<(), DbError> {
        if !self.peers.contains_key(device) || !self.registry.view().devices.contains_key(device) {
            return Ok(());
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.trouble(
                    "peer",
                    format!(
                        "{} sent something unreadable: {error}",
                        self.device_name(device)
                    ),
                    now,
                );
                return Ok(());
            }
        };
        match message {
            Message::Registry { digest, hashes } => {
                self.hear_registry(now, device, digest, &hashes)
            }
            Message::Statements(statements) => self.hear_statements(now, device, &statements),
            Message::Space(hello) => self.hear_space(now, device, hello),
            Message::Batches { space, batches } => self.take_batches(now, device, &space, &batches),
            Message::WantState { space, begin } => {
                if let Some(state) = self
                    .peers
                    .get_mut(device)
                    .and_then(|p| p.spaces.get_mut(&space))
                {
                    state.asked = Some(begin);
                }
                Ok(())
            }
            Message::Page { space, bytes } => self.take_page(now, device, &space, &bytes),
            Message::Superseded { .. } => Ok(()),
            Message::Bye { reason } => {
                if !self.heard_of_twin(now, device, &reason) && reason == AGAIN {
                    for state in self
                        .peers
                        .get_mut(device)
                        .into_iter()
                        .flat_map(|p| p.spaces.values_mut())
                    {
                        state.again();
                    }
                }
                Ok(())
            }
        }
    }

    /// Asks again for batches that could not be taken in.
    pub(super) fn close_gaps(&mut self, now: Now) -> Result<(), DbError> {
        let mut due = Vec::new();
        for (device, peer) in &mut self.peers {
            for (id, state) in &mut peer.spaces {
                if state.gap_at.is_some_and(|at| now.mono >= at) {
                    state.gap_at = None;
                    due.push((*device, *id));
                }
            }
        }
        for (device, id) in due {
            let Some(n) = self.number(&id) else { continue };
            let hello = self.hello(n)?;
            self.effects.push(Effect::Send {
                device,
                message: Message::Space(hello),
            });
            self.effects.push(Effect::Send {
                device,
                message: Message::Bye {
                    reason: AGAIN.into(),
                },
            });
        }
        Ok(())
    }

    pub(super) fn number(&self, id: &SpaceId) -> Option<i64> {
        self.spaces
            .values()
            .find(|s| s.row.id == *id)
            .map(|s| s.row.n)
    }

    /// Applies batches in one transaction.
    pub(super) fn take_batches(
        &mut self,
        now: Now,
        from: &DeviceId,
        id: &SpaceId,
        batches: &[Vec<u8>],
    ) -> Result<(), DbError> {
        let Some(n) = self.number(id) else {
            return Ok(());
        };
        // Sent before the sender heard that this space rests: it comes again.
        let Some(space) = self.spaces.get_mut(&n).filter(|s| !s.is_paused()) else {
            return Ok(());
        };
        let (registry, keys, tally, secret) =
            (&self.registry, &self.keys, &mut self.tally, &space.secret);
        let key = |k: &KeyId| keys.get(id)?.get(k).cloned();
        let signer = |d: &DeviceId| registry.view().devices.get(d).map(|e| e.public.sign);
        let mut row = space.row.clone();
        let mut gap = false;
        let mut trouble = Vec::new();
        let mut got = Vec::new();
        let applied = self.db.write(|tx| {
            let mut totals = row.totals;
            let mut applied = 0_u64;
            for bytes in batches {
                let (head, hash) = match batch::peek(bytes) {
                    Ok(peeked) => peeked,
                    Err(error) => {
                        trouble.push(error.to_string());
                        continue;
                    }
                };
                let log = logs::by_tag(tx, n, &head.tag)?;
                let (seq, chain) = log
                    .as_ref()
                    .map_or((0, BatchHash::ZERO), |l| (l.seq, l.chain));
                let mut next = LogChain::check(seq, &chain, &head);
                if let (Next::Known, Some(log)) = (next, &log)
                    && logs::batch_hash(tx, log, head.seq)?.is_some_and(|ours| ours != hash)
                {
                    next = Next::Fork;
                }
                match next {
                    Next::Ok => {}
                    Next::Known => {
                        got.push((head.tag, head.seq));
                        continue;
                    }
                    Next::Gap { .. } => {
                        gap = true;
                        continue;
                    }
                    Next::Fork => {
                        trouble.push(format!(
                            "the log {} goes on in two ways; this one is not taken in",
                            head.tag
                        ));
                        continue;
                    }
                }
                let (head, hash, body) = match batch::open_batch(bytes, &key, &signer, secret, id) {
                    Ok(opened) => opened,
                    Err(BatchError::UnknownKey { .. } | BatchError::UnknownSigner { .. }) => {
                        // Its key or its writer's certificate is still on its way.
                        gap = true;
                        continue;
                    }
                    Err(error) => {
                        trouble.push(error.to_string());
                        continue;
                    }
                };
                let log = logs::advance(
                    tx,
                    n,
                    &head.tag,
                    (&body.device, &body.incarnation),
                    head.seq,
                    &hash,
                    1,
                )?;
                logs::put_batch(tx, log, head.seq, body.changes.len(), bytes)?;
                let mut docs = Docs::new(tx, n, &mut totals, tally, now);
                docs.writer = Some(Writer {
                    device: body.device,
                    incarnation: body.incarnation,
                    secret,
                });
                for (item, change) in &body.changes {
                    docs.take(item, change)?;
                }
                applied += 1;
                got.push((head.tag, head.seq));
            }
            row.totals = totals;
            spaces::update(tx, &row)?;
            Ok::<_, DbError>(applied)
        })?;
        space.row = row;
        if applied > 0 {
            space.again = true;
        }
        if applied > 0 {
            space.ack_due = true;
        }
        if let Some(state) = self.peers.get_mut(from).and_then(|p| p.spaces.get_mut(id)) {
            for (tag, seq) in got {
                state.sent.raise(tag, seq);
                state.vector.raise(tag, seq);
            }
            if gap {
                state.gap_at.get_or_insert(now.mono + GAP);
            }
        }
        for message in trouble {
            let name = self.device_name(from);
            self.trouble(
                "batch",
                format!("a batch from {name} was refused: {message}"),
                now,
            );
        }
        Ok(())
    }
}
