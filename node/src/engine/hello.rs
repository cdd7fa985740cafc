//! How a space stands here, told to others, and how it stands with them.
//!
//! The same message acknowledges: its vector says what was applied and is durable here, so the
//! database is flushed before it leaves (ARCHITECTURE.md, order 5). Others prune by what it says: had
//! a power failure taken back here what was acknowledged, it would be gone there too.

use ownmesh_crdt::message::{Message, SpaceHello};
use ownmesh_crdt::mutated;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{DeviceId, SpaceId};

use super::ignoring::missing;
use super::others::guard_number;
use super::peers::PeerSpace;
use super::{Effect, Engine, Now};
use crate::command::CommandError;
use crate::db::spaces::{self, Member};
use crate::db::{DbError, ignored, logs};

/// Acknowledgements wait this long for more to acknowledge, ms: one flush serves them all.
pub(super) const ACK_EVERY: u64 = 40;

impl Engine {
    /// What this device says about a space it takes part in. It acknowledges, so it is flushed first.
    pub(super) fn hello(&mut self, n: i64) -> Result<SpaceHello, DbError> {
        self.db.flush()?;
        let conn = self.db.read();
        let (mut vector, mut lowest) = (Vector::default(), Vector::default());
        for log in logs::all(conn, n)? {
            vector.raise(log.tag, log.seq);
            lowest.raise(log.tag, log.low);
        }
        let (missing_items, missing_bytes) = missing(conn, n)?;
        let unwanted_items = ignored::unwanted(conn, n)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Err(DbError::Damaged("space"));
        };
        let missing_items = missing_items + u64::from(space.row.stopped.is_some());
        space.told_missing = space.told_missing.max(missing_items);
        space.told_unwanted = unwanted_items;
        Ok(SpaceHello {
            space: space.row.id,
            joined: true,
            mode: space.row.mode,
            vector,
            lowest,
            missing_items,
            missing_bytes,
            items: space.row.totals.items.max(0).cast_unsigned(),
            paused: space.is_paused(),
            stopped: guard_number(space.stopped()),
            unwanted_items,
        })
    }

    /// Tells every ready peer how a space stands here.
    pub(super) fn tell_all(&mut self, n: i64) -> Result<(), CommandError> {
        let hello = self
            .hello(n)
            .map_err(|e| CommandError::failed(e.to_string()))?;
        self.tell(&hello);
        Ok(())
    }

    /// Says it to every ready peer.
    pub(super) fn tell(&mut self, hello: &SpaceHello) {
        for (device, _) in self.peers.iter().filter(|(_, p)| p.ready) {
            self.effects.push(Effect::Send {
                device: *device,
                message: Message::Space(hello.clone()),
            });
        }
    }

    pub(super) fn say_left(&mut self, id: &SpaceId) {
        self.tell(&not_here(*id));
    }

    /// Tells a device how every space of the mesh stands here. Those that are not here too: it may
    /// not have been there when one was left, and would wait for this device's word for ever.
    pub(super) fn tell_how_all_stand(&mut self, device: &DeviceId) -> Result<(), DbError> {
        let mut hellos = Vec::new();
        let numbers: Vec<i64> = self.spaces.keys().copied().collect();
        for n in numbers {
            hellos.push(self.hello(n)?);
        }
        let here: Vec<SpaceId> = hellos.iter().map(|h| h.space).collect();
        if !mutated!(LeaveSaidOnce) {
            let known = self.registry.view().spaces.keys();
            hellos.extend(
                known
                    .filter(|id| !here.contains(id))
                    .map(|id| not_here(*id)),
            );
        }
        for hello in hellos {
            self.effects.push(Effect::Send {
                device: *device,
                message: Message::Space(hello),
            });
        }
        Ok(())
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
        let paused = std::mem::replace(&mut state.paused, hello.paused) != hello.paused;
        if paused {
            // What was on its way when it paused was not taken in.
            state.again();
        }
        let stopped = std::mem::replace(&mut state.stopped, hello.stopped) != hello.stopped;
        state.unwanted = hello.unwanted_items;
        state.vector.clone_from(&hello.vector);
        state.sent.merge(&hello.vector);
        state.lowest = hello.lowest;
        state.items = hello.items;
        state.acknowledged(now);
        let Some(n) = self
            .spaces
            .values()
            .find(|s| s.row.id == hello.space)
            .map(|s| s.row.n)
        else {
            return Ok(());
        };
        self.heard_of_own_log(n, &hello.vector)?;
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
            logs::put_acks(tx, n, device, &hello.vector)
        })?;
        if hello.joined {
            if let Some(space) = self.spaces.get_mut(&n) {
                if joins || paused || stopped {
                    // It gave nothing while it stood still, whatever it has.
                    space.denied.forget(device);
                }
                if hello.paused {
                    space.gives_no_more(now, device);
                }
                space.absent.retain(|(d, _), _| d != device);
                space.again = true;
                if space.state_from().is_none() {
                    space.seek_at = Some(now.mono);
                }
            }
            self.prune(n)?;
        } else if let Some(space) = self.spaces.get_mut(&n) {
            space.gives_no_more(now, device);
            space.denied.forget(device);
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

    /// Acknowledges what was applied since the last time, after one flush for all of it.
    pub(super) fn acknowledge(&mut self, now: Now) -> Result<(), DbError> {
        // What others were told is missing here may be found to be here by a scan, without any step.
        let db = &self.db;
        for space in self.spaces.values_mut() {
            // Nor does the count of what is missing change when a rule ends, or begins, to keep items out.
            let ruled = space.told_unwanted > 0 || !space.ignoring.rules.is_empty();
            if ruled && !space.more && !space.ack_due && !space.is_busy() {
                let unwanted = ignored::unwanted(db.read(), space.row.n)?;
                space.ack_due = unwanted != space.told_unwanted;
            }
            if space.told_missing > 0 && !space.ack_due && !space.is_busy() {
                let (lacking, _) = missing(db.read(), space.row.n)?;
                let missing = lacking + u64::from(space.row.stopped.is_some());
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
            self.tell(&hello);
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
            // Its writer too: it may have joined anew, and lack what it once wrote.
            let have = acks
                .iter()
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
}

/// What is said of a space that this device does not take part in.
fn not_here(space: SpaceId) -> SpaceHello {
    SpaceHello {
        space,
        joined: false,
        mode: 0,
        vector: Vector::default(),
        lowest: Vector::default(),
        missing_items: 0,
        missing_bytes: 0,
        items: 0,
        paused: false,
        stopped: 0,
        unwanted_items: 0,
    }
}
