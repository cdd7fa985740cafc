//! `mesh wait`: until what was on the disk when it was asked is confirmed elsewhere.

use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::DeviceId;
use tokio::sync::oneshot;

use super::{Engine, Now, Space};
use crate::command::{CommandError, WaitReply, WaitRequest};
use crate::db::{DbError, dirty, logs, spaces};

/// Somebody waiting.
#[derive(Debug)]
pub(super) struct Wait {
    begun: u64,
    until: u64,
    spaces: Vec<Waited>,
    device: Option<DeviceId>,
    all: bool,
    done: oneshot::Sender<Result<WaitReply, CommandError>>,
}

#[derive(Debug)]
struct Waited {
    n: i64,
    name: String,
    /// Set once the scan of this wait has ended and everything is sealed: what must be confirmed.
    vector: Option<Vector>,
    scan: Option<oneshot::Receiver<Result<(), CommandError>>>,
}

impl Wait {
    /// When it has to be looked at again, whatever happens.
    pub(super) fn due(&self, now: u64) -> u64 {
        let patience = self.begun.saturating_add(HEARD);
        if now < patience {
            patience.min(self.until)
        } else {
            self.until
        }
    }
}

/// How long connected devices are given to tell all they have, ms. A device that never stops writing is
/// not waited for longer than that.
const HEARD: u64 = 60_000;

/// Without a time-out given, ms.
const DEFAULT: u64 = 600_000;

impl Engine {
    /// Starts a wait; it scans first.
    pub fn wait(
        &mut self,
        request: WaitRequest,
        now: Now,
        done: oneshot::Sender<Result<WaitReply, CommandError>>,
    ) {
        match self.wait_for(&request, now) {
            Err(error) => drop(done.send(Err(error))),
            Ok((spaces, device)) => {
                let time = request
                    .timeout_s
                    .map_or(DEFAULT, |s| s.saturating_mul(1_000));
                let until = now.mono.saturating_add(time);
                self.waits.push(Wait {
                    begun: now.mono,
                    until,
                    spaces,
                    device,
                    all: request.all,
                    done,
                });
                self.nudge(now);
            }
        }
    }

    fn wait_for(
        &mut self,
        request: &WaitRequest,
        now: Now,
    ) -> Result<(Vec<Waited>, Option<DeviceId>), CommandError> {
        let device = match &request.device {
            None => None,
            Some(name) => Some(self.device_named(name)?),
        };
        let numbers: Vec<i64> = match &request.space {
            Some(name) => vec![self.space_by_name(name)?],
            None => self.spaces.keys().copied().collect(),
        };
        let mut out = Vec::new();
        for n in numbers {
            let (tx, rx) = oneshot::channel();
            let Some(space) = self.spaces.get(&n) else {
                continue;
            };
            let (name, rests) = (space.name.clone(), space.is_paused());
            if !rests {
                self.scan(&name, now, tx);
            }
            out.push(Waited {
                n,
                name,
                vector: None,
                scan: Some(rx),
            });
        }
        Ok((out, device))
    }

    /// Answers those whose wait is over.
    pub(super) fn check_waits(&mut self, now: Now) -> Result<(), DbError> {
        let mut waits = std::mem::take(&mut self.waits);
        let mut left = Vec::new();
        for mut wait in waits.drain(..) {
            let mut reasons = Vec::new();
            let mut failed = None;
            let mut hopeless = false;
            for waited in &mut wait.spaces {
                let space = self.spaces.get(&waited.n);
                hopeless |= space.is_some_and(|s| s.is_paused() && s.pause_ends().is_none());
                let early = now.mono < wait.begun.saturating_add(HEARD);
                match self.look(waited, wait.device, wait.all, early, now)? {
                    Ok(more) => reasons.extend(more),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                drop(wait.done.send(Err(error)));
            } else if reasons.is_empty() || hopeless || now.mono >= wait.until {
                drop(wait.done.send(Ok(WaitReply {
                    done: reasons.is_empty(),
                    reasons,
                })));
            } else if !wait.done.is_closed() {
                left.push(wait);
            }
        }
        self.waits = left;
        Ok(())
    }

    fn look(
        &self,
        waited: &mut Waited,
        device: Option<DeviceId>,
        all: bool,
        early: bool,
        now: Now,
    ) -> Result<Result<Vec<String>, CommandError>, DbError> {
        let Some(space) = self.spaces.get(&waited.n) else {
            let name = &waited.name;
            return Ok(Err(CommandError::failed(format!(
                "the space {name} was left meanwhile"
            ))));
        };
        let name = &space.name;
        if space.is_paused() {
            // Whatever it looked at before counts no more: nobody watches the folder.
            (waited.vector, waited.scan) = (None, None);
            let until = space.paused_until().map(|at| format!(" until {at}"));
            let until = until.unwrap_or_default();
            return Ok(Ok(vec![format!(
                "{name}: paused{until}; mesh resume {name}"
            )]));
        }
        if !space.scanned && waited.scan.is_none() {
            return Ok(Ok(vec![format!("{name}: still being scanned")]));
        }
        if let Some(scan) = &mut waited.scan {
            match scan.try_recv() {
                Ok(Ok(())) => waited.scan = None,
                Ok(Err(error)) => return Ok(Err(error)),
                Err(oneshot::error::TryRecvError::Empty) => {
                    return Ok(Ok(vec![format!("{name}: still being scanned")]));
                }
                Err(oneshot::error::TryRecvError::Closed) => waited.scan = None,
            }
        }
        let conn = self.db.read();
        let mut reasons = Vec::new();
        let (missing, _) = dirty::total(conn, waited.n)?;
        if missing > 0 {
            reasons.push(match missing {
                1 => format!("{name}: 1 item is missing here"),
                _ => format!("{name}: {missing} items are missing here"),
            });
            for found in self.nowhere_told(space)?.into_iter().take(8) {
                let path = found.item.unwrap_or_default();
                reasons.push(format!("{name}: {path}: {}", found.reason));
            }
            for member in spaces::members(conn, waited.n)? {
                let resting = self.rests(space, &member.device);
                let resting = resting.filter(|_| member.joined);
                reasons.extend(resting.map(|why| format!("{name}: {why}")));
            }
        }
        // A FIFO or socket holds no bytes that could be safe elsewhere, and a rule file travels whatever
        // it says.
        let bytes = |p: &super::space::Problem| !matches!(p.kind, "special" | "rules");
        let open = space.problems.iter().filter(|(_, p)| bytes(p));
        for (item, problem) in open.take(8) {
            let at = if item.is_empty() {
                String::new()
            } else {
                format!("{item}: ")
            };
            reasons.push(format!("{name}: {at}{}", problem.reason));
        }
        if let Some(why) = &space.row.stopped {
            reasons.push(format!("{name}: stopped, {why}"));
        }
        let queued = logs::outbox_len(conn, waited.n)?;
        let vector = match &waited.vector {
            Some(vector) => vector.clone(),
            None if queued == 0 => {
                let vector = logs::vector(conn, waited.n)?;
                waited.vector = Some(vector.clone());
                vector
            }
            None => {
                reasons.push(format!("{name}: {queued} changes have nobody to go to yet"));
                let devices = self.registry.view().devices.keys();
                let resting = devices.filter_map(|id| self.rests(space, id));
                let resting: Vec<_> = resting.map(|why| format!("{name}: {why}")).collect();
                reasons.retain(|why| !resting.contains(why));
                reasons.extend(resting);
                return Ok(Ok(reasons));
            }
        };
        let members = spaces::members(conn, waited.n)?;
        if early {
            reasons.extend(self.not_come_yet(space, waited.n, &members)?);
        }
        let (mut lacking, mut kept_out) = (Vec::new(), Vec::new());
        let mut confirmed = 0;
        for (id, entry) in &self.registry.view().devices {
            if *id == self.device || device.is_some_and(|d| d != *id) {
                continue;
            }
            let Some(member) = members.iter().find(|m| m.device == *id && m.joined) else {
                if device.is_some() {
                    lacking.push(format!("{name}: {} does not take part in it", entry.name));
                }
                continue;
            };
            let acks = logs::acks(conn, waited.n, id)?;
            // Its own logs too: it may have joined anew, and lack what it once wrote.
            let covered = acks.covers(&vector);
            if covered && member.missing == 0 {
                confirmed += 1;
            } else if let Some(why) = self.held_up(space, id) {
                lacking.push(format!("{name}: {why}"));
            } else if covered && self.keeps_out(space, id) > 0 {
                let (out, left) = lacks(self.keeps_out(space, id), member.missing);
                let said = format!("{name}: {} {out}{left}", entry.name);
                if left.is_empty() {
                    kept_out.push(said);
                } else {
                    lacking.push(said);
                }
            } else if covered {
                let s = if member.missing == 1 { "" } else { "s" };
                lacking.push(format!(
                    "{name}: {} still lacks {} item{s}",
                    entry.name, member.missing
                ));
            } else if self.peers.contains_key(id) {
                lacking.push(format!(
                    "{name}: {} has not confirmed everything yet",
                    entry.name
                ));
            } else {
                let away = (now.wall - member.heard).max(0) / 60_000;
                lacking.push(format!(
                    "{name}: {} is away, last heard {away} min ago",
                    entry.name
                ));
            }
        }
        // Of what a device keeps out by its own rules nothing will ever come there: all have confirmed what
        // they take, if one of them has everything. Whoever asks for one device wants it to have everything.
        let enough = if device.is_some() {
            lacking.is_empty() && kept_out.is_empty() && confirmed > 0
        } else {
            confirmed > 0 && (!all || lacking.is_empty())
        };
        if !enough {
            lacking.extend(kept_out);
            if lacking.is_empty() {
                lacking.push(format!("{name}: no other device takes part in it"));
            }
            lacking.retain(|why| !reasons.contains(why));
            reasons.extend(lacking);
        }
        Ok(Ok(reasons))
    }

    /// Connected devices that have told of more than has come here, or nothing yet: of what they have
    /// nothing would be missing here only because nothing is known of it.
    fn not_come_yet(
        &self,
        space: &Space,
        n: i64,
        members: &[spaces::Member],
    ) -> Result<Vec<String>, DbError> {
        let have = logs::vector(self.db.read(), n)?;
        let items = space.row.totals.items.max(0).cast_unsigned();
        let mut out = Vec::new();
        for (id, peer) in &self.peers {
            let behind = match peer.spaces.get(&space.row.id) {
                Some(theirs) if theirs.joined && !theirs.paused => {
                    !have.covers(&theirs.vector) || items < theirs.items
                }
                Some(_) => false,
                None => members.iter().any(|m| m.device == *id && m.joined),
            };
            if behind {
                let (name, device) = (&space.name, self.device_name(id));
                out.push(format!("{name}: not all has come from {device} yet"));
            }
        }
        Ok(out)
    }
}

/// What a device lacks that keeps items out by its own rules: those, and those that are to come.
pub(super) fn lacks(unwanted: u64, missing: u64) -> (String, String) {
    let items = |n: u64| {
        if n == 1 {
            "1 item".to_owned()
        } else {
            format!("{n} items")
        }
    };
    let out = format!("keeps {} out by its own ignore rules", items(unwanted));
    let left = missing.saturating_sub(unwanted);
    let left = (left > 0).then(|| format!(", and still lacks {}", items(left)));
    (out, left.unwrap_or_default())
}
