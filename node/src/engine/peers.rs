//! Connected devices: what each one said, and what it was sent.
//!
//! Batches of all writers are passed on alike, once they are durable here. Each peer has a window of
//! bytes that it has not acknowledged yet, so that a slow one costs no memory.

use std::collections::{BTreeMap, VecDeque};

use ownmesh_crdt::message::Message;
use ownmesh_crdt::page::Point;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{DeviceId, SpaceId, WriterTag};

use super::{Effect, Engine, Notice, Now};
use crate::db::{DbError, logs, marks};
use crate::limits::Lane;

/// One connected device.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) route: &'static str,
    /// The registries are equal as far as both know; spaces may be talked about.
    pub(super) ready: bool,
    pub(super) spaces: BTreeMap<SpaceId, PeerSpace>,
}

/// What a connected device said about a space, and what it was sent.
#[derive(Debug, Default)]
pub(super) struct PeerSpace {
    pub(super) joined: bool,
    /// Its user told it to wait there.
    pub(super) paused: bool,
    /// Which guard stopped it there (`others`); 0: none.
    pub(super) stopped: u8,
    /// Items that its own rules keep out.
    pub(super) unwanted: u64,
    /// Applied there, as it said.
    pub(super) vector: Vector,
    /// Lowest numbers it still holds.
    pub(super) lowest: Vector,
    /// Items it knows, changes that it has not sealed yet included.
    pub(super) items: u64,
    /// Sent to it or known to be there.
    pub(super) sent: Vector,
    /// Sent and not acknowledged: log, number, bytes.
    outstanding: VecDeque<(WriterTag, u64, usize)>,
    outstanding_bytes: usize,
    /// When something of it was last sent or acknowledged.
    progress_at: u64,
    /// When to ask again for what came out of order.
    pub(super) gap_at: Option<u64>,
    /// It wants state from here on.
    pub(super) asked: Option<Point>,
}

impl PeerSpace {
    /// Everything not acknowledged is sent once more.
    pub(super) fn again(&mut self) {
        self.sent = self.vector.clone();
        self.outstanding.clear();
        self.outstanding_bytes = 0;
    }

    /// What its vector covers is not outstanding any more.
    pub(super) fn acknowledged(&mut self, now: Now) {
        while let Some((tag, seq, bytes)) = self.outstanding.front().copied() {
            if self.vector.get(&tag) < seq {
                break;
            }
            self.outstanding.pop_front();
            self.outstanding_bytes -= bytes;
            self.progress_at = now.mono;
        }
    }

    /// When what is outstanding is sent once more.
    pub(super) fn patience_ends(&self) -> Option<u64> {
        (!self.outstanding.is_empty()).then_some(self.progress_at + PATIENCE)
    }
}

/// Batches that a live peer has not acknowledged for so long are sent again, ms.
const PATIENCE: u64 = 15_000;
/// Bytes of batches a peer may have unacknowledged.
const WINDOW: usize = 8 << 20;
/// Bytes of batches in one message: a small edit of another space is never queued behind more.
const MESSAGE: usize = 512 << 10;

impl Engine {
    pub(super) fn peer_up(
        &mut self,
        now: Now,
        device: DeviceId,
        route: &'static str,
        address: Option<String>,
    ) -> Result<(), DbError> {
        if self.blocked.contains(&device) {
            // It came in before the network heard; it is cut off at once.
            return Ok(());
        }
        if let Some(address) = address {
            self.db
                .write(|tx| marks::put_address(tx, &device, &address, now.wall))?;
        }
        let digest = self.registry.digest();
        let hashes = self.registry.hashes().collect();
        self.peers.insert(
            device,
            Peer {
                route,
                ..Peer::default()
            },
        );
        self.effects.push(Effect::Send {
            device,
            message: Message::Registry { digest, hashes },
        });
        self.tell_twin(now, &device);
        for space in self.spaces.values_mut() {
            space.absent.retain(|(d, _), _| *d != device);
            space.denied.forget(&device);
        }
        let name = self.device_name(&device);
        self.notice(Notice::Connected { device: name });
        Ok(())
    }

    /// A device is reached by another connection now.
    pub(crate) fn peer_moved(
        &mut self,
        device: &DeviceId,
        route: &'static str,
        address: &str,
    ) -> Result<(), DbError> {
        if let Some(peer) = self.peers.get_mut(device) {
            peer.route = route;
        }
        let wall = self.seen_at.wall;
        self.db
            .write(|tx| marks::put_address(tx, device, address, wall))
    }

    pub(super) fn peer_down(&mut self, now: Now, device: &DeviceId) {
        if self.peers.remove(device).is_some() {
            let name = self.device_name(device);
            self.notice(Notice::Disconnected { device: name });
        }
        // What was being fetched from it comes back as failed on its own.
        for space in self.spaces.values_mut() {
            space.again = true;
            space.gives_no_more(now, device);
        }
        let heard = now.wall;
        tracing::debug!(%device, heard, "peer down");
    }

    /// Registries are exchanged: say what is known of each space.
    pub(super) fn peer_ready(&mut self, now: Now, device: &DeviceId) -> Result<(), DbError> {
        let Some(peer) = self.peers.get_mut(device) else {
            return Ok(());
        };
        if !std::mem::replace(&mut peer.ready, true) {
            self.grant_keys(now)?;
        }
        self.tell_how_all_stand(device)
    }

    pub(super) fn listeners(&self, id: &SpaceId) -> Vec<DeviceId> {
        let joined = |p: &Peer| p.ready && p.spaces.get(id).is_some_and(|s| s.joined && !s.paused);
        self.peers
            .iter()
            .filter(|(_, p)| joined(p))
            .map(|(d, _)| *d)
            .collect()
    }

    /// Sends every peer what it lacks, within its window.
    pub(super) fn pump_all(&mut self, now: Now) -> Result<(), DbError> {
        let devices: Vec<DeviceId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.ready)
            .map(|(d, _)| *d)
            .collect();
        self.flow.pump_at = None;
        let numbers: Vec<i64> = self.spaces.keys().copied().collect();
        let mut pairs = Vec::new();
        for device in devices {
            pairs.extend(numbers.iter().map(|n| (device, *n)));
        }
        // Where limits let one message pass at a time, each has its turn: a small edit of one space is
        // not held up until all of another's log has gone.
        if let Some(last) = &self.flow.last {
            let next = pairs.partition_point(|pair| pair <= last);
            pairs.rotate_left(next);
        }
        let mut more = true;
        while std::mem::take(&mut more) {
            for (device, n) in &pairs {
                more |= self.pump(now, device, *n)?;
            }
        }
        Ok(())
    }

    /// Returns whether there may be more: it stopped after one message, since there is a limit.
    fn pump(&mut self, now: Now, device: &DeviceId, n: i64) -> Result<bool, DbError> {
        let space = &self.spaces[&n];
        let id = space.row.id;
        if space.is_paused() {
            return Ok(false);
        }
        let Some(state) = self
            .peers
            .get_mut(device)
            .and_then(|p| p.spaces.get_mut(&id))
        else {
            return Ok(false);
        };
        if !state.joined || state.paused {
            return Ok(false);
        }
        if state.outstanding.is_empty() {
            state.progress_at = now.mono;
        } else if now.mono >= state.progress_at + PATIENCE {
            // Not acknowledged for so long on a live connection: it is said once more.
            state.again();
            state.progress_at = now.mono;
        }
        for log in logs::all(self.db.read(), n)? {
            let mut sent = state.sent.get(&log.tag);
            // What is pruned here it gets as state, or from somebody else.
            while sent < log.seq && sent + 1 >= log.low && state.outstanding_bytes < WINDOW {
                // Logs go before content, but not faster than the user allows either.
                let room = match self.flow.pacer.may_send(now.mono, Lane::Log) {
                    Ok(slice) => MESSAGE.min(slice),
                    Err(wait) => {
                        let at = now.mono + wait;
                        self.flow.pump_at = Some(self.flow.pump_at.map_or(at, |due| due.min(at)));
                        break;
                    }
                };
                let batches = logs::batches_after(self.db.read(), log.n, sent, room)?;
                let Some((last, _)) = batches.last() else {
                    break;
                };
                sent = *last;
                for (seq, bytes) in &batches {
                    state.outstanding.push_back((log.tag, *seq, bytes.len()));
                    state.outstanding_bytes += bytes.len();
                    self.flow.pacer.sent(now.mono, bytes.len());
                }
                let batches = batches.into_iter().map(|(_, bytes)| bytes).collect();
                self.effects.push(Effect::Send {
                    device: *device,
                    message: Message::Batches { space: id, batches },
                });
                if room < MESSAGE {
                    state.sent.raise(log.tag, sent);
                    self.flow.last = Some((*device, n));
                    return Ok(true);
                }
            }
            state.sent.raise(log.tag, sent);
        }
        Ok(false)
    }
}
