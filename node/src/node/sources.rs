//! What this device serves to others: contents of its own files, by what the database says, or else of its trash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ownmesh_crypto::{ContentHash, DeviceId, SpaceId, SpaceSecret};

use super::Inbox;
use super::folders::Folders;
use crate::content::serve::{Located, Source, SourceError};
use crate::db::{Connection, Db, base, chunks};
use crate::disk::kept::Store;
use crate::disk::{Disk, RelPath, snapshot};
use crate::engine::{Engine, Event};

/// Shared with the serving tasks; the engine's thread keeps it up to date.
pub(super) struct Served {
    db: PathBuf,
    state: RwLock<State>,
    /// Idle reading connections.
    pool: Mutex<Vec<Connection>>,
}

#[derive(Default)]
struct State {
    devices: BTreeSet<DeviceId>,
    spaces: BTreeMap<SpaceId, Open>,
    inbox: Option<Inbox>,
}

/// A folder in service, for those who read it without the engine.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) n: i64,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) kept: Arc<Store>,
    pub(super) secret: SpaceSecret,
}

/// Reading connections kept open: as many as contents are usually looked up at once.
const POOL: usize = 4;

impl Served {
    pub(super) fn new(db: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            db,
            state: RwLock::default(),
            pool: Mutex::default(),
        })
    }

    /// Takes over who belongs to the mesh and which folders are open.
    pub(super) fn update(&self, engine: &Engine, folders: &Folders) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let devices = engine.registry.view().devices.keys().copied();
        state.devices = devices.filter(|d| !engine.blocked().contains(d)).collect();
        state.spaces = engine
            .open_spaces_list()
            .filter(|s| !s.is_paused())
            .filter_map(|s| Some((s.id(), folders.served(s.number())?)))
            .collect();
        state.inbox = Some(Inbox(folders.inbox()));
    }

    /// The folder of a space, if it is in service.
    pub(super) fn folder(&self, space: &SpaceId) -> Option<Open> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.spaces.get(space).cloned()
    }

    fn read<R>(
        &self,
        f: impl FnOnce(&Connection) -> Result<R, crate::db::DbError>,
    ) -> Result<R, SourceError> {
        let wrap = |e: crate::db::DbError| SourceError(Box::new(e));
        let idle = self
            .pool
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let conn = match idle {
            Some(conn) => conn,
            None => Db::reader(&self.db).map_err(wrap)?,
        };
        let result = f(&conn).map_err(wrap);
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOL {
            pool.push(conn);
        }
        result
    }
}

impl Source for Served {
    fn allowed(&self, peer: &DeviceId, space: &SpaceId) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.devices.contains(peer) && state.spaces.contains_key(space)
    }

    fn locate(&self, space: &SpaceId, hash: &ContentHash) -> Result<Vec<Located>, SourceError> {
        let Some(open) = self.folder(space) else {
            return Ok(Vec::new());
        };
        let n = open.n;
        let mut found = self.read(|conn| {
            let mut out = Vec::new();
            if let Some((path, stat)) = snapshot::find(&*open.disk, hash) {
                out.push(Located {
                    disk: open.disk.clone(),
                    path,
                    stat,
                    size: stat.size,
                    chunks: chunks::get(conn, n, hash)?.map(Arc::new),
                });
            }
            for b in base::holding(conn, n, hash, 4)? {
                let Some(path) = base::path(conn, n, &b.row.id)? else {
                    continue;
                };
                let chunks = chunks::get(conn, n, hash)?.map(Arc::new);
                out.push(Located {
                    disk: open.disk.clone(),
                    path,
                    stat: b.row.stat,
                    size: b.row.stat.size,
                    chunks,
                });
            }
            Ok(out)
        })?;
        if found.is_empty()
            && let Some(kept) = open.kept.find(&*open.disk, &open.secret, hash)
        {
            found.push(Located {
                disk: open.disk,
                path: kept.path,
                stat: kept.stat,
                size: kept.size,
                chunks: Some(kept.chunks).filter(|c| !c.is_empty()),
            });
        }
        Ok(found)
    }

    fn superseded(&self, space: &SpaceId, _: &ContentHash, path: &RelPath) {
        // The engine takes this lock for writing: never wait for its queue while holding it.
        let (n, inbox) = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = state.spaces.get(space) else {
                return;
            };
            (open.n, state.inbox.clone())
        };
        if let Some(inbox) = inbox {
            inbox.put(Event::Superseded {
                space: n,
                path: path.clone(),
            });
        }
    }
}
