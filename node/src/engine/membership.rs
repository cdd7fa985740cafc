//! Which spaces this device takes part in: adding, joining, leaving, and how.
//!
//! A folder that joins a space of the mesh is held until both sides are compared and somebody
//! consented: before that the engine neither scans it nor writes into it.

use std::collections::BTreeMap;

use ownmesh_crdt::item::{Content, ItemState, Kind};
use ownmesh_crdt::mutated;
use ownmesh_crypto::{ItemId, SpaceId, SpaceSecret};
use tokio::sync::oneshot;

use super::brake::Went;
use super::ignoring::Ignoring;
use super::{Effect, Engine, Now, Space};
use crate::command::{AddReply, AddRequest, CommandError};
use crate::db::{DbError, base, items, logs, settings, spaces};

/// How a device takes part in a space, as stored.
pub(super) const MODES: [&str; 1] = crate::command::MODES;
/// Why a space that is being joined stands still: both sides are being compared.
pub(super) const JOINING: &str = "joining: both sides are being compared";

impl Engine {
    /// Takes every space of the database into service.
    pub(super) fn open_spaces(&mut self, now: Now) -> Result<(), DbError> {
        for row in spaces::all(self.db.read())? {
            if row.stopped.as_deref() == Some(JOINING) {
                // Nobody consented to merging yet, and whoever was asked is gone.
                self.db.write_durable(|tx| spaces::forget(tx, row.n))?;
                continue;
            }
            let name = self.space_name(&row.id);
            let secret = self.mesh.space_secret(&row.id);
            self.effects.push(Effect::Open {
                space: row.n,
                path: row.path.clone(),
            });
            let n = row.n;
            let mut space = Space::new(row, name, secret, now);
            space.conflicts = items::conflict_count(self.db.read(), n)?;
            space.ignoring = Ignoring::load(self.db.read(), n)?;
            let lately = settings::carried(self.db.read(), &space.row.id)?;
            let went = |(id, content)| Went {
                at: now.mono,
                id,
                content,
            };
            space.deletions = lately.into_iter().map(went).collect();
            if mutated!(LoseOutbox) {
                self.db.write(|tx| logs::drop_outbox(tx, n, i64::MAX))?;
            }
            if logs::outbox_len(self.db.read(), n)? > 0 {
                // Changes of an earlier process that nobody heard of: a loss of power may have taken
                // the bytes they name, without a trace in times and sizes. They are read once more
                // and flushed before the changes are announced.
                self.db.write(|tx| base::doubt_outbox(tx, n))?;
                space.unsynced = Some(Vec::new());
            }
            self.spaces.insert(n, space);
            self.rules_first(now, n)?;
        }
        Ok(())
    }

    /// The name of a space, or its id where the registry has not arrived.
    pub(super) fn space_name(&self, id: &SpaceId) -> String {
        self.registry
            .view()
            .spaces
            .get(id)
            .map_or_else(|| id.to_string(), |s| s.name.clone())
    }

    /// Row number of a joined space by name.
    pub(super) fn space_by_name(&self, name: &str) -> Result<i64, CommandError> {
        self.spaces
            .values()
            .find(|s| s.name == name)
            .map(|s| s.row.n)
            .ok_or_else(|| self.no_such_space(name))
    }

    fn no_such_space(&self, name: &str) -> CommandError {
        let joined: Vec<&str> = self.spaces.values().map(|s| s.name.as_str()).collect();
        let hint = if self.registry.view().spaces.values().any(|s| s.name == name) {
            format!(
                "it exists in the mesh but not on this device; join it with: mesh add PATH --space {name}"
            )
        } else if joined.is_empty() {
            "this device has no spaces yet; make one with: mesh add PATH".to_owned()
        } else {
            format!("spaces here: {}", joined.join(", "))
        };
        CommandError::not_found("space", name).hint(hint)
    }

    /// Adds a folder whose disk is prepared (marker written, filesystem known) as a space of this
    /// name: a new one, or one the mesh has. The caller has checked paths. A folder that holds files
    /// (`filled`) and joins is left alone until [`Engine::release`]: only the tree is fetched.
    ///
    /// # Errors
    /// The space is here already, or the database failed.
    pub fn add_prepared(
        &mut self,
        now: Now,
        name: &str,
        path: &str,
        mode: u8,
        fs: u64,
        filled: bool,
    ) -> Result<AddReply, CommandError> {
        let id = self.mesh.space_id(name);
        if self.spaces.values().any(|s| s.row.id == id) {
            return Err(CommandError::refused(format!(
                "the space {name} is on this device already"
            ))
            .about(name));
        }
        let joined = self.registry.view().spaces.contains_key(&id);
        let failed = |e: DbError| CommandError::failed(e.to_string());
        if !joined {
            self.found_space(now, name).map_err(CommandError::failed)?;
        }
        // Decided here, where it is added: a moment ago the mesh may not have had it.
        let stopped = (joined && filled).then_some(JOINING);
        let n = self
            .db
            .write_durable(|tx| spaces::add(tx, &id, path, mode, fs, stopped))
            .map_err(failed)?;
        let row = spaces::all(self.db.read())
            .map_err(failed)?
            .into_iter()
            .find(|row| row.n == n)
            .ok_or_else(|| CommandError::failed("the space was not stored"))?;
        let secret = self.mesh.space_secret(&id);
        self.effects.push(Effect::Open {
            space: n,
            path: path.to_owned(),
        });
        let mut space = Space::new(row, name.to_owned(), secret, now);
        space.ack_due = true;
        self.spaces.insert(n, space);
        // What others said of it before is old: whoever takes part answers a newcomer.
        for peer in self.peers.values_mut() {
            peer.spaces.remove(&id);
        }
        self.tell_all(n)?;
        let kind = if joined {
            "space-joined"
        } else {
            "space-added"
        };
        self.write_down(kind, None, Some(name), format!("{name} is in {path}"));
        Ok(AddReply {
            space: name.to_owned(),
            path: path.to_owned(),
            joined,
            mode: MODES[usize::from(mode).min(MODES.len() - 1)].to_owned(),
            merged: None,
        })
    }

    /// `mesh add`: checked, compared and asked about outside the engine.
    pub fn add(
        &mut self,
        request: AddRequest,
        now: Now,
        done: oneshot::Sender<Result<AddReply, CommandError>>,
    ) {
        self.seen_at = now;
        self.effects.push(Effect::Add { request, done });
    }

    /// Names and folders of the spaces here.
    pub(crate) fn taken_paths(&self) -> Vec<(String, String)> {
        self.spaces
            .values()
            .map(|s| (s.name.clone(), s.row.path.clone()))
            .collect()
    }

    /// Whether the mesh has a space of this name, as far as is known here.
    pub(crate) fn knows_space(&self, name: &str) -> bool {
        let id = self.mesh.space_id(name);
        self.registry.view().spaces.contains_key(&id)
    }

    /// Whether another device is connected.
    pub(crate) fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Whether a space of this name may be added.
    pub(crate) fn may_add(&self, name: &str) -> Result<SpaceId, CommandError> {
        let bad = name.is_empty()
            || name.len() > 64
            || name.contains(['/', ':'])
            || name.chars().any(char::is_control);
        if bad {
            return Err(
                CommandError::usage(format!("{name:?} cannot be the name of a space"))
                    .hint("1 to 64 bytes without / and :; choose one with --space NAME"),
            );
        }
        let id = self.mesh.space_id(name);
        if self.spaces.values().any(|s| s.row.id == id) {
            return Err(CommandError::refused(format!(
                "the space {name} is on this device already"
            ))
            .about(name));
        }
        Ok(id)
    }

    /// Whether the tree of a held space is as complete as the connected devices can make it.
    #[must_use]
    pub fn tree_is_here(&self, name: &str) -> bool {
        let Ok(n) = self.space_by_name(name) else {
            return true;
        };
        let Some(space) = self.spaces.get(&n) else {
            return true;
        };
        let Ok(have) = logs::vector(self.db.read(), n) else {
            return false;
        };
        let mut told = false;
        for peer in self.peers.values() {
            if let Some(theirs) = peer.spaces.get(&space.row.id).filter(|s| s.joined) {
                told = true;
                // What it has not sealed yet is in its count of items, not in its vector: it
                // seals when it hears that somebody joined.
                let items = space.row.totals.items.max(0).cast_unsigned();
                if !have.covers(&theirs.vector) || items < theirs.items {
                    return false;
                }
            }
        }
        told && space.state_from().is_none()
    }

    /// The mesh's tree of a space: paths and contents, and the keys to compare by.
    #[must_use]
    pub fn tree_of(&self, name: &str) -> Option<(BTreeMap<String, Option<Content>>, SpaceSecret)> {
        let n = self.space_by_name(name).ok()?;
        let conn = self.db.read();
        let mut out = BTreeMap::new();
        let mut open = vec![(ItemId::ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            for (id, spot) in items::children(conn, n, &dir).ok()? {
                let Some(shown) = spot.shown else { continue };
                let path = format!("{prefix}{shown}");
                let row = items::get(conn, n, &id).ok()??;
                let state = ItemState::from_registers(&row.doc.regs)?;
                out.insert(path.clone(), state.content().cloned());
                if spot.kind == Some(Kind::Dir) {
                    open.push((id, format!("{path}/")));
                }
            }
        }
        Some((out, self.spaces.get(&n)?.secret.clone()))
    }

    /// Lets a held space go on: its folder and the mesh are merged.
    pub fn release(&mut self, name: &str, now: Now) {
        if let Ok(n) = self.space_by_name(name) {
            let released = self.rules_first(now, n);
            if let Err(error) = released.and_then(|()| self.set_stopped(n, None)) {
                tracing::error!(%error, "the space could not be released");
            }
            self.nudge(now);
        }
    }

    /// Leaves a space: forgets it here, keeps the files.
    ///
    /// # Errors
    /// No such space.
    pub fn leave(&mut self, name: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        let id = self.spaces[&n].row.id;
        let failed = |e: DbError| CommandError::failed(e.to_string());
        self.db
            .write_durable(|tx| {
                settings::unpause(tx, &id)?;
                settings::put_carried(tx, &id, [])?;
                spaces::forget(tx, n)
            })
            .map_err(failed)?;
        if let Some(space) = self.spaces.remove(&n) {
            self.effects.push(Effect::Close { space: n });
            self.say_left(&space.row.id);
            let message = format!("{name} was left; its files stay in {}", space.row.path);
            self.write_down("space-left", None, Some(name), message);
            // Whoever joins again begins a log that nobody has seen any of.
            self.incarnation = None;
            for peer in self.peers.values_mut() {
                peer.spaces.remove(&space.row.id);
            }
        }
        Ok(())
    }

    /// Changes how this device takes part.
    ///
    /// # Errors
    /// No such space, no such mode.
    pub fn set_mode(&mut self, name: &str, mode: &str) -> Result<(), CommandError> {
        let n = self.space_by_name(name)?;
        let mode = mode_number(mode)?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(());
        };
        space.row.mode = mode;
        space.again = true;
        let row = space.row.clone();
        self.db
            .write(|tx| spaces::update(tx, &row))
            .map_err(|e: DbError| CommandError::failed(e.to_string()))
    }
}

/// A mode's number.
pub(crate) fn mode_number(mode: &str) -> Result<u8, CommandError> {
    MODES
        .iter()
        .position(|m| *m == mode)
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| {
            CommandError::usage(format!("there is no mode {mode:?}"))
                .hint(format!("modes: {}", MODES.join(", ")))
        })
}
