//! What people and scripts are told. Never more than is known.

use std::collections::BTreeMap;

use ownmesh_crdt::item::{Content, ItemState, Kind};
use ownmesh_crypto::registry::Signer;
use ownmesh_crypto::{DeviceId, ItemId};

use super::space::{Busy, DISK};
use super::{Engine, Notice, Now, Space};
use crate::command::CommandError;
use crate::db::{DbError, base, dirty, items, logs, spaces};
use crate::status::{
    DeviceInfo, ItemInfo, ItemKind, MeshInfo, Peer, Problem, Residency, Route, SpaceInfo,
    SpaceState, SpaceStatus, Status, ThisDevice, Time, VERSION,
};

/// Something that went wrong lately outside any space.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    kind: &'static str,
    message: String,
    /// The device it is about.
    about: Option<DeviceId>,
    since: i64,
}

impl Engine {
    /// `mesh status`.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let view = self.registry.view();
        Status {
            v: VERSION,
            device: ThisDevice {
                id: self.device.to_string(),
                name: self.device_name(&self.device),
                version: self.identity.version.clone(),
            },
            mesh: MeshInfo {
                id: view.mesh_id.to_string(),
                name: view.mesh_name.clone(),
                devices: u64::try_from(view.devices.len()).unwrap_or(u64::MAX),
            },
            locked: false,
            peers: view
                .devices
                .keys()
                .filter(|d| **d != self.device)
                .map(|d| self.peer(d, now))
                .collect(),
            spaces: self.spaces.values().map(|s| self.space_status(s)).collect(),
            bucket: None,
            relays: Vec::new(),
            problems: self.recent_troubles(now),
            limits: Some(self.limits(now)).filter(|l| l.up.is_some() || l.down.is_some()),
            socket: None,
        }
    }

    fn last_heard(&self, device: &DeviceId) -> Option<i64> {
        self.spaces
            .keys()
            .filter_map(|n| spaces::members(self.db.read(), *n).ok())
            .flatten()
            .filter(|m| m.device == *device)
            .map(|m| m.heard)
            .max()
    }

    fn peer(&self, device: &DeviceId, now: Now) -> Peer {
        let peer = self.peers.get(device);
        let route = peer.map_or(Route::None, |p| route(p.route));
        let blocked = self.blocked.contains(device);
        let why = match peer {
            _ if blocked => "blocked on this device".to_owned(),
            Some(p) if !p.ready => "connected; exchanging the list of devices".to_owned(),
            // There is no better way.
            Some(_) => String::new(),
            None => match self.lately(now).find(|t| t.about == Some(*device)) {
                Some(trouble) => trouble.message.clone(),
                None => "not found on the local network or at its last addresses".to_owned(),
            },
        };
        let heard = if peer.is_some() {
            Some(now.wall)
        } else {
            self.last_heard(device)
        };
        Peer {
            id: device.to_string(),
            name: self.device_name(device),
            connected: peer.is_some(),
            route,
            why,
            last_seen: heard.map(Time::from_millis),
            blocked,
        }
    }

    fn state(&self, space: &Space, missing: u64) -> SpaceState {
        if space.is_paused() {
            return SpaceState::Paused;
        }
        if space.row.stopped.is_some() {
            return SpaceState::Stopped;
        }
        match &space.busy {
            Some(Busy::Scan { .. }) => return SpaceState::Scanning,
            Some(_) => return SpaceState::Syncing,
            None => {}
        }
        if space.scan.is_some() || !space.scanned {
            SpaceState::Scanning
        } else if missing > 0 || !space.fetching.is_empty() || space.state_from().is_some() {
            SpaceState::Syncing
        } else {
            SpaceState::Idle
        }
    }

    fn space_status(&self, space: &Space) -> SpaceStatus {
        let (conn, n) = (self.db.read(), space.row.n);
        let (missing_items, missing_bytes) = dirty::total(conn, n).unwrap_or((0, 0));
        let unconfirmed = self.unconfirmed(space).unwrap_or_default();
        let only_here = if unconfirmed.values().any(|n| *n == 0) {
            0
        } else {
            unconfirmed
                .values()
                .copied()
                .min()
                // Changes are counted, and a deletion is one too: never more than there are items.
                .unwrap_or(u64::MAX)
                .min(space.row.totals.items.max(0).cast_unsigned())
        };
        let unwatched = space.unwatched.iter().map(|p| (String::new(), p));
        let mut problems: Vec<Problem> = space
            .problems
            .iter()
            .map(|(item, p)| (item.clone(), p))
            .chain(unwatched)
            .map(|(item, p)| Problem {
                item: (!item.is_empty()).then_some(item),
                kind: p.kind.into(),
                reason: p.reason.clone(),
                since: Some(Time::from_millis(p.since)),
            })
            .collect();
        if let Some(why) = &space.row.stopped {
            let kind = why.split(':').next().unwrap_or("stopped").to_owned();
            problems.push(Problem {
                item: None,
                kind,
                reason: why.clone(),
                since: None,
            });
        }
        for (item, reason) in logs::quarantine(conn, n).unwrap_or_default() {
            problems.push(Problem {
                item: Some(item.to_string()),
                kind: "quarantine".into(),
                reason,
                since: None,
            });
        }
        problems.extend(self.nowhere_told(space).unwrap_or_default());
        problems.extend(self.notices_of(space).unwrap_or_default());
        let t = space.row.totals;
        SpaceStatus {
            name: space.name.clone(),
            path: space.row.path.clone(),
            mode: super::membership::MODES
                [usize::from(space.row.mode).min(super::membership::MODES.len() - 1)]
            .into(),
            state: self.state(space, missing_items),
            paused_until: space.paused_until(),
            paused_by: self.paused_by(space),
            stopped_on: self.stopped_on(space),
            kept_out_on: self.kept_out_on(space),
            items: t.items.max(0).cast_unsigned(),
            files: t.files.max(0).cast_unsigned(),
            bytes: t.bytes.max(0).cast_unsigned(),
            missing_items,
            missing_bytes,
            conflicts: items::conflict_count(conn, n).unwrap_or(0),
            // What could not be taken in is nowhere else either; what the disk refused came from elsewhere.
            only_here_items: only_here
                + u64::try_from(
                    space
                        .problems
                        .iter()
                        .filter(|(item, p)| {
                            !item.is_empty() && !matches!(p.kind, "special" | "rules" | DISK)
                        })
                        .count(),
                )
                .unwrap_or(0),
            unconfirmed,
            problems,
        }
    }

    /// Per device that takes part: changes known here that it has not acknowledged, and items it
    /// says it lacks.
    fn unconfirmed(&self, space: &Space) -> Result<BTreeMap<String, u64>, DbError> {
        let (conn, n) = (self.db.read(), space.row.n);
        let queued = logs::outbox_len(conn, n)?;
        let all = logs::all(conn, n)?;
        let mut out = BTreeMap::new();
        for member in spaces::members(conn, n)?
            .into_iter()
            .filter(|m| m.joined && m.device != self.device)
        {
            let acks = logs::acks(conn, n, &member.device)?;
            let mut lacking = queued + member.missing;
            for log in &all {
                let have = acks.get(&log.tag);
                if have < log.seq {
                    lacking += logs::changes_after(conn, log.n, have)?.max(1);
                }
            }
            out.insert(self.device_name(&member.device), lacking);
        }
        Ok(out)
    }

    /// `mesh devices`.
    #[must_use]
    pub fn devices(&self, now: Now) -> Vec<DeviceInfo> {
        let view = self.registry.view();
        view.devices
            .iter()
            .map(|(id, entry)| {
                let this = *id == self.device;
                let peer = self.peers.get(id);
                let heard = if this || peer.is_some() {
                    Some(now.wall)
                } else {
                    self.last_heard(id)
                };
                DeviceInfo {
                    id: id.to_string(),
                    name: entry.name.clone(),
                    platform: entry.platform.clone(),
                    version: this.then(|| self.identity.version.clone()),
                    this_device: this,
                    connected: this || peer.is_some(),
                    route: peer.map_or(Route::None, |p| route(p.route)),
                    last_seen: heard.map(Time::from_millis),
                    added_by: match entry.added_by {
                        Signer::Root => None,
                        Signer::Device(by) => Some(self.device_name(&by)),
                    },
                    may_add: entry.may_add,
                    blocked: self.blocked.contains(id),
                }
            })
            .collect()
    }

    /// `mesh spaces`: all of the mesh.
    #[must_use]
    pub fn spaces(&self) -> Vec<SpaceInfo> {
        let mut out = Vec::new();
        for (id, entry) in &self.registry.view().spaces {
            let space = self.spaces.values().find(|s| s.row.id == *id);
            let mut devices: Vec<String> = Vec::new();
            for (device, peer) in &self.peers {
                if peer.spaces.get(id).is_some_and(|s| s.joined) {
                    devices.push(self.device_name(device));
                }
            }
            if let Some(space) = space {
                for member in spaces::members(self.db.read(), space.row.n).unwrap_or_default() {
                    let name = self.device_name(&member.device);
                    if member.joined && !devices.contains(&name) {
                        devices.push(name);
                    }
                }
                devices.push(self.device_name(&self.device));
            }
            devices.sort();
            let t = space.map(|s| s.row.totals).unwrap_or_default();
            out.push(SpaceInfo {
                name: entry.name.clone(),
                joined: space.is_some(),
                path: space.map(|s| s.row.path.clone()),
                mode: space.map(|s| {
                    super::membership::MODES
                        [usize::from(s.row.mode).min(super::membership::MODES.len() - 1)]
                    .into()
                }),
                state: space.map(|s| {
                    self.state(s, dirty::total(self.db.read(), s.row.n).map_or(0, |d| d.0))
                }),
                items: t.items.max(0).cast_unsigned(),
                files: t.files.max(0).cast_unsigned(),
                bytes: t.bytes.max(0).cast_unsigned(),
                devices,
            });
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// `mesh ls`.
    ///
    /// # Errors
    /// No such space, nothing at the path.
    pub fn items(
        &self,
        space: &str,
        path: &str,
        recursive: bool,
    ) -> Result<Vec<ItemInfo>, CommandError> {
        let n = self.space_by_name(space)?;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let conn = self.db.read();
        let mut at = ItemId::ROOT;
        let mut prefix = String::new();
        for name in path.split('/').filter(|p| !p.is_empty()) {
            let found = items::children(conn, n, &at)
                .map_err(failed)?
                .into_iter()
                .find(|(_, s)| s.shown.as_deref() == Some(name));
            let Some((id, spot)) = found else {
                return Err(CommandError::not_found("item", format!("{space}:{path}")));
            };
            if spot.kind != Some(Kind::Dir) {
                return Ok(self
                    .item(n, &prefix, &id)
                    .map_err(failed)?
                    .into_iter()
                    .collect());
            }
            prefix = format!("{prefix}{name}/");
            at = id;
        }
        let mut out = Vec::new();
        let mut open = vec![(at, prefix)];
        while let Some((dir, prefix)) = open.pop() {
            for (id, spot) in items::children(conn, n, &dir).map_err(failed)? {
                out.extend(self.item(n, &prefix, &id).map_err(failed)?);
                if recursive && spot.kind == Some(Kind::Dir) {
                    open.push((id, format!("{prefix}{}/", spot.shown.unwrap_or_default())));
                }
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(out)
    }

    fn item(&self, n: i64, prefix: &str, id: &ItemId) -> Result<Option<ItemInfo>, DbError> {
        let Some(row) = items::get(self.db.read(), n, id)? else {
            return Ok(None);
        };
        let Some(state) = ItemState::from_registers(&row.doc.regs) else {
            return Ok(None);
        };
        let here = base::get(self.db.read(), n, id)?;
        let shown = row.spot.shown.unwrap_or_default();
        let path = format!("{prefix}{shown}");
        let ignored = crate::disk::RelPath::parse(&path)
            .is_ok_and(|at| self.rules(n).ignores(&at, state.kind == Kind::Dir));
        let local = here
            .as_ref()
            .is_some_and(|b| b.row.content == state.content().cloned());
        let local_name = here.map(|b| b.row.name).filter(|name| *name != shown);
        Ok(Some(ItemInfo {
            item: id.to_string(),
            path,
            local_name,
            kind: match state.kind {
                Kind::File => ItemKind::File,
                Kind::Dir => ItemKind::Directory,
                Kind::Symlink => ItemKind::Symlink,
            },
            size: row.spot.size,
            mode: state.mode,
            mtime: state.mtime.map(|t| Time::from_nanos(t.into())),
            target: match state.content() {
                Some(Content::Link { target }) => Some(target.clone()),
                _ => None,
            },
            tier: "hot".into(),
            residency: if local {
                Residency::Local
            } else {
                Residency::Remote
            },
            conflict: row.spot.conflict > 0,
            ignored,
        }))
    }

    /// Records something a person may have to look at; repeats only move its time.
    pub(crate) fn trouble(&mut self, kind: &'static str, message: String, now: Now) {
        self.trouble_with(None, kind, message, now);
    }

    /// The same, about a device.
    pub(crate) fn trouble_with(
        &mut self,
        about: Option<DeviceId>,
        kind: &'static str,
        message: String,
        now: Now,
    ) {
        tracing::warn!(kind, message, "trouble");
        if self.troubles.len() >= 256 {
            self.troubles.pop_first();
        }
        let known = self.troubles.insert(
            format!("{kind} {message}"),
            Trouble {
                kind,
                message: message.clone(),
                about,
                since: now.wall,
            },
        );
        if known.is_none() {
            let device = about.map(|d| self.device_name(&d));
            self.write_unasked(kind, device.as_deref(), None, message.clone());
            self.notice(Notice::Trouble {
                kind: kind.into(),
                message,
            });
        }
    }

    fn lately(&self, now: Now) -> impl Iterator<Item = &Trouble> {
        let recent = move |t: &&Trouble| now.wall.saturating_sub(t.since) < TOLD;
        self.troubles.values().filter(recent)
    }

    fn recent_troubles(&self, now: Now) -> Vec<Problem> {
        let mut found: Vec<&Trouble> = self.lately(now).collect();
        found.sort_by_key(|t| t.since);
        let told = |t: &Trouble| Problem {
            item: None,
            kind: t.kind.to_owned(),
            reason: t.message.clone(),
            since: Some(Time::from_millis(t.since)),
        };
        found.into_iter().map(told).collect()
    }
}

/// How long a trouble is told after it was last seen, ms.
const TOLD: i64 = 3_600_000;

fn route(route: &str) -> Route {
    match route {
        "lan" | "loopback" => Route::Lan,
        "direct" => Route::Direct,
        _ => Route::None,
    }
}
