//! What this device tells others: batches, acknowledgements, state for those who need all of it.
//!
//! An own change is sealed when there is somebody to tell and the registry has been exchanged with
//! them, into a batch that is durable before the first byte of it leaves (ARCHITECTURE.md, orders 1 and 5).
//! Batches of all writers are passed on alike; each peer has a window of bytes that it has not
//! acknowledged yet, so that a slow one costs no memory. Acknowledgements are durable first too.

use std::collections::{BTreeMap, VecDeque};

use ownmesh_crdt::message::{Message, SpaceHello};
use ownmesh_crdt::page::LogMark;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{DeviceId, ItemId, SpaceId, WriterTag};

use super::{Effect, Engine, Notice, Now};
use crate::db::spaces::{self, Member};
use crate::db::{DbError, dirty, logs};

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
    /// It wants state after this item.
    pub(super) asked: Option<Option<ItemId>>,
    /// Where its state transfer from here goes on; `None` when there is none.
    pub(super) serving: Option<Vec<LogMark>>,
}

impl PeerSpace {
    /// Everything not acknowledged is sent once more.
    fn again(&mut self) {
        self.sent = self.vector.clone();
        self.outstanding.clear();
        self.outstanding_bytes = 0;
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
/// Acknowledgements wait this long for more to acknowledge, ms: one flush serves them all.
pub(super) const ACK_EVERY: u64 = 40;

impl Engine {
    pub(super) fn peer_up(
        &mut self,
        now: Now,
        device: DeviceId,
        route: &'static str,
        address: Option<String>,
    ) -> Result<(), DbError> {
        if let Some(address) = address {
            self.db
                .write(|tx| crate::db::marks::put_address(tx, &device, &address, now.wall))?;
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
        for space in self.spaces.values_mut() {
            space.absent.retain(|(d, _), _| *d != device);
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
            .write(|tx| crate::db::marks::put_address(tx, device, address, wall))
    }

    pub(super) fn peer_down(&mut self, now: Now, device: &DeviceId) {
        if self.peers.remove(device).is_some() {
            let name = self.device_name(device);
            self.notice(Notice::Disconnected { device: name });
        }
        // What was being fetched from it comes back as failed on its own.
        for space in self.spaces.values_mut() {
            space.again = true;
            if space.row.state_from == Some(*device) {
                space.row.state_from = None;
            }
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
        let numbers: Vec<i64> = self.spaces.keys().copied().collect();
        for n in numbers {
            let hello = self.hello(n)?;
            self.effects.push(Effect::Send {
                device: *device,
                message: Message::Space(hello),
            });
        }
        Ok(())
    }

    /// What this device says about a space it takes part in. It acknowledges, so it is flushed first.
    pub(super) fn hello(&mut self, n: i64) -> Result<SpaceHello, DbError> {
        self.db.flush()?;
        let conn = self.db.read();
        let (mut vector, mut lowest) = (Vector::default(), Vector::default());
        for log in logs::all(conn, n)? {
            vector.raise(log.tag, log.seq);
            lowest.raise(log.tag, log.low);
        }
        let (missing_items, missing_bytes) = dirty::total(conn, n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Err(DbError::Damaged("space"));
        };
        let missing_items = missing_items + u64::from(space.row.stopped.is_some());
        space.told_missing = space.told_missing.max(missing_items);
        Ok(SpaceHello {
            space: space.row.id,
            joined: true,
            mode: space.row.mode,
            vector,
            lowest,
            missing_items,
            missing_bytes,
            items: space.row.totals.items.max(0).cast_unsigned(),
        })
    }

    pub(super) fn listeners(&self, id: &SpaceId) -> Vec<DeviceId> {
        let joined = |p: &Peer| p.ready && p.spaces.get(id).is_some_and(|s| s.joined);
        self.peers
            .iter()
            .filter(|(_, p)| joined(p))
            .map(|(d, _)| *d)
            .collect()
    }

    /// Tells every ready peer how a space stands here.
    pub(super) fn tell_all(&mut self, n: i64) -> Result<(), crate::command::CommandError> {
        let hello = self
            .hello(n)
            .map_err(|e| crate::command::CommandError::failed(e.to_string()))?;
        let ready: Vec<DeviceId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.ready)
            .map(|(d, _)| *d)
            .collect();
        for device in ready {
            self.effects.push(Effect::Send {
                device,
                message: Message::Space(hello.clone()),
            });
        }
        Ok(())
    }

    pub(super) fn say_left(&mut self, id: &SpaceId) {
        let gone = SpaceHello {
            space: *id,
            joined: false,
            mode: 0,
            vector: Vector::default(),
            lowest: Vector::default(),
            missing_items: 0,
            missing_bytes: 0,
            items: 0,
        };
        let ready: Vec<DeviceId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.ready)
            .map(|(d, _)| *d)
            .collect();
        for device in ready {
            self.effects.push(Effect::Send {
                device,
                message: Message::Space(gone.clone()),
            });
        }
    }

    /// A peer said how a space stands there; it acknowledges what it has by the same.
    pub(super) fn hear_space(
        &mut self,
        now: Now,
        device: &DeviceId,
        hello: SpaceHello,
    ) -> Result<(), DbError> {
        let Some(peer) = self.peers.get_mut(device) else {
            return Ok(());
        };
        let state = peer.spaces.entry(hello.space).or_default();
        let joins = hello.joined && !state.joined;
        if joins || !hello.joined {
            // What it had before it gave its copy up counts for nothing.
            *state = PeerSpace::default();
        }
        state.joined = hello.joined;
        state.vector.merge(&hello.vector);
        state.sent.merge(&hello.vector);
        state.lowest = hello.lowest;
        state.items = hello.items;
        while let Some((tag, seq, bytes)) = state.outstanding.front().copied() {
            if state.vector.get(&tag) < seq {
                break;
            }
            state.outstanding.pop_front();
            state.outstanding_bytes -= bytes;
            state.progress_at = now.mono;
        }
        let Some(n) = self
            .spaces
            .values()
            .find(|s| s.row.id == hello.space)
            .map(|s| s.row.n)
        else {
            return Ok(());
        };
        let member = Member {
            device: *device,
            joined: hello.joined,
            missing: hello.missing_items,
            missing_bytes: hello.missing_bytes,
            items: hello.items,
            heard: now.wall,
        };
        self.db.write(|tx| {
            spaces::put_member(tx, n, &member)?;
            if !hello.joined {
                logs::forget_acks(tx, n, device)?;
            }
            logs::put_acks(tx, n, device, &hello.vector)
        })?;
        if hello.joined {
            if let Some(space) = self.spaces.get_mut(&n) {
                space.absent.retain(|(d, _), _| d != device);
                space.again = true;
            }
            self.ask_for_state(n, device)?;
            self.prune(n)?;
        }
        if joins {
            // It may be new to this space and know nothing of what is held here.
            let hello = self.hello(n)?;
            self.effects.push(Effect::Send {
                device: *device,
                message: Message::Space(hello),
            });
        }
        Ok(())
    }

    /// Sends every peer what it lacks, within its window.
    pub(super) fn pump_all(&mut self, now: Now) -> Result<(), DbError> {
        let devices: Vec<DeviceId> = self
            .peers
            .iter()
            .filter(|(_, p)| p.ready)
            .map(|(d, _)| *d)
            .collect();
        for device in devices {
            let numbers: Vec<i64> = self.spaces.keys().copied().collect();
            for n in numbers {
                self.pump(now, &device, n)?;
            }
        }
        Ok(())
    }

    fn pump(&mut self, now: Now, device: &DeviceId, n: i64) -> Result<(), DbError> {
        let id = self.spaces[&n].row.id;
        let Some(state) = self
            .peers
            .get_mut(device)
            .and_then(|p| p.spaces.get_mut(&id))
        else {
            return Ok(());
        };
        if !state.joined {
            return Ok(());
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
                let batches = logs::batches_after(self.db.read(), log.n, sent, MESSAGE)?;
                let Some((last, _)) = batches.last() else {
                    break;
                };
                sent = *last;
                for (seq, bytes) in &batches {
                    state.outstanding.push_back((log.tag, *seq, bytes.len()));
                    state.outstanding_bytes += bytes.len();
                }
                let batches = batches.into_iter().map(|(_, bytes)| bytes).collect();
                self.effects.push(Effect::Send {
                    device: *device,
                    message: Message::Batches { space: id, batches },
                });
            }
            state.sent.raise(log.tag, sent);
        }
        Ok(())
    }

    /// Acknowledges what was applied since the last time, after one flush for all of it.
    pub(super) fn acknowledge(&mut self, now: Now) -> Result<(), DbError> {
        // What others were told is missing here may be found to be here by a scan, without any step.
        let db = &self.db;
        for space in self.spaces.values_mut() {
            if space.told_missing > 0 && !space.ack_due && !space.is_busy() {
                let (missing, _) = dirty::total(db.read(), space.row.n)?;
                let missing = missing + u64::from(space.row.stopped.is_some());
                space.ack_due = missing < space.told_missing;
            }
        }
        let due: Vec<i64> = self
            .spaces
            .values()
            .filter(|s| s.ack_due)
            .map(|s| s.row.n)
            .collect();
        if due.is_empty() {
            self.ack_at = None;
            return Ok(());
        }
        let at = *self.ack_at.get_or_insert(now.mono + ACK_EVERY);
        if now.mono < at {
            return Ok(());
        }
        self.ack_at = None;
        self.db.flush()?;
        for n in due {
            if let Some(space) = self.spaces.get_mut(&n) {
                space.ack_due = false;
                space.told_missing = 0;
            }
            let hello = self.hello(n)?;
            for device in self
                .peers
                .iter()
                .filter(|(_, p)| p.ready)
                .map(|(d, _)| *d)
                .collect::<Vec<_>>()
            {
                self.effects.push(Effect::Send {
                    device,
                    message: Message::Space(hello.clone()),
                });
            }
        }
        Ok(())
    }

    /// Drops batches that every device which takes part has acknowledged. A device that joins
    /// later, or comes back after it was forgotten, gets state instead.
    fn prune(&mut self, n: i64) -> Result<(), DbError> {
        let conn = self.db.read();
        let members = spaces::members(conn, n)?;
        let others: Vec<DeviceId> = self
            .registry
            .view()
            .devices
            .keys()
            .copied()
            .filter(|d| *d != self.device)
            .collect();
        let mut acks = Vec::new();
        for device in others {
            match members.iter().find(|m| m.device == device) {
                Some(m) if m.joined => acks.push((device, logs::acks(conn, n, &device)?)),
                Some(_) => {}
                // Never heard of it in this space: it may take part by another device's leave.
                None => return Ok(()),
            }
        }
        if acks.is_empty() {
            return Ok(());
        }
        let mut cuts = Vec::new();
        for log in logs::all(conn, n)? {
            let have = acks
                .iter()
                .filter(|(d, _)| *d != log.device)
                .map(|(_, v)| v.get(&log.tag))
                .min()
                .unwrap_or(log.seq);
            let upto = have.min(log.seq);
            if upto >= log.low {
                cuts.push((log.n, upto));
            }
        }
        if cuts.is_empty() {
            return Ok(());
        }
        self.db.write(|tx| {
            for (log, upto) in cuts {
                logs::prune(tx, log, upto)?;
                logs::set_low(tx, log, upto + 1)?;
            }
            Ok(())
        })
    }

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
            Message::WantState { space, after } => {
                if let Some(state) = self
                    .peers
                    .get_mut(device)
                    .and_then(|p| p.spaces.get_mut(&space))
                {
                    state.asked = Some(after);
                }
                Ok(())
            }
            Message::Page { space, bytes } => self.take_page(now, device, &space, &bytes),
            Message::Superseded { .. } => Ok(()),
            Message::Bye { reason } => {
                if reason == super::inbound::AGAIN {
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
}
