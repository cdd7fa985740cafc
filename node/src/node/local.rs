//! What a fetch finds without any other device: files of the folder, its trash.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, SpaceSecret};

use super::held::Held;
use crate::content::counters::Progress;
use crate::content::fetch::Local;
use crate::db::base;
use crate::db::{Connection, Db, chunks};
use crate::disk::hash::Chunk;
use crate::disk::kept::Store;
use crate::disk::{RelPath, Stat, snapshot};

/// Nobody watches a single fetch yet.
pub(super) struct Quiet;

impl Progress for Quiet {
    fn moved(&self, _: u64, _: u64) {}
}

/// The road to this device itself: only what lies here already can be had.
pub(super) struct NoRoad;

impl crate::content::road::ContentRoad for NoRoad {
    fn open<'a>(
        &'a self,
        _: &'a DeviceId,
    ) -> futures::future::BoxFuture<
        'a,
        Result<Box<dyn crate::content::road::Duplex>, crate::content::road::RoadError>,
    > {
        Box::pin(async { Err(crate::content::road::RoadError::NotConnected) })
    }
}

/// What lies on this disk already.
pub(super) struct Here {
    pub(super) db: PathBuf,
    pub(super) space: i64,
    pub(super) conn: Mutex<Option<(Connection, Instant)>>,
    pub(super) disk: Arc<Held>,
    pub(super) kept: Arc<Store>,
    pub(super) secret: SpaceSecret,
}

impl Here {
    fn with<R>(&self, f: impl FnOnce(&Connection) -> Option<R>) -> Option<R> {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        if conn.is_none() {
            *conn = Some((Db::reader(&self.db).ok()?, Instant::now()));
        }
        f(&conn.as_ref()?.0)
    }

    fn standing(&self, conn: &Connection, hash: &ContentHash) -> Option<(RelPath, Stat)> {
        if let Some(found) = snapshot::find(&*self.disk, hash) {
            return Some(found);
        }
        base::holding(conn, self.space, hash, 4)
            .ok()?
            .into_iter()
            .find_map(|b| {
                let path = base::path(conn, self.space, &b.row.id).ok()??;
                Some((path, b.row.stat))
            })
    }
}

impl Local for Here {
    fn whole(&self, hash: &ContentHash) -> Option<(RelPath, Stat)> {
        self.with(|conn| self.standing(conn, hash)).or_else(|| {
            let kept = self.kept.find(&*self.disk, &self.secret, hash)?;
            Some((kept.path, kept.stat))
        })
    }

    fn chunk(&self, id: &ChunkId) -> Option<(RelPath, u64, u32, Stat)> {
        self.with(|conn| {
            chunks::places(conn, self.space, id)
                .ok()?
                .into_iter()
                .find_map(|(hash, offset, len)| {
                    let (path, stat) = self.standing(conn, &hash)?;
                    Some((path, offset, len, stat))
                })
        })
    }

    fn list_known(&self, hash: &ContentHash) -> Option<Vec<Chunk>> {
        self.with(|conn| chunks::get(conn, self.space, hash).ok()?)
    }
}
