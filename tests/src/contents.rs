//! Contents on their way: what a device asks another for, and what that one reads from its disk for it.

use std::sync::{Arc, PoisonError};

use ownmesh_crypto::{ContentHash, DeviceId, SpaceId};
use ownmesh_node::content::answer::{Located, Source, SourceError, answer};
use ownmesh_node::content::wire::{Ask, Head, Status, WantFile};
use ownmesh_node::db::base;
use ownmesh_node::disk::hash::Chunk;
use ownmesh_node::disk::kept::Store;
use ownmesh_node::disk::{Disk, Meta, RelPath};
use ownmesh_node::engine::{Event, Missed, Want};

use crate::link::pair;
use crate::transition::one_in;
use crate::world::World;

/// What one device says of its contents to another.
struct Holder {
    files: Vec<Located>,
    superseded: std::sync::Mutex<Vec<RelPath>>,
}

impl Source for Holder {
    fn allowed(&self, _: &DeviceId, _: &SpaceId) -> bool {
        true
    }

    fn locate(&self, _: &SpaceId, _: &ContentHash) -> Result<Vec<Located>, SourceError> {
        Ok(self.files.clone())
    }

    fn superseded(&self, _: &SpaceId, _: &ContentHash, path: &RelPath) {
        self.superseded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.clone());
    }
}

impl World {
    /// As `content::fetch` does: an own file that has it, else the peer; verified by hash.
    pub(crate) fn fetch_one(
        &mut self,
        d: usize,
        space: i64,
        s: usize,
        want: &Want,
    ) -> Result<(Meta, Vec<Chunk>), Missed> {
        let secret = self.secret();
        let right = |bytes: &[u8]| secret.content_hash(bytes) == want.hash;
        let mut bytes = (want.size == 0).then(Vec::new);
        if bytes.is_none() {
            bytes = self.ask(d, d, space, want).ok().filter(|b| right(b));
        }
        if bytes.is_none() && s != d {
            let failing = self.weather.failing;
            let lost = failing > 0 && one_in(&mut self.rng, failing);
            if lost || self.links[&pair(d, s)].session.is_none() || self.devices[s].engine.is_none()
            {
                return Err(Missed::Lost);
            }
            let slips = self.slip(s, 3, true);
            let theirs = self.devices[s].space.unwrap_or(space);
            let answered = self.ask(s, d, theirs, want);
            if slips {
                self.devices[s].disk.disarm();
            }
            bytes = Some(answered?);
        }
        let bytes = bytes.ok_or(Missed::Absent)?;
        if !right(&bytes) {
            self.reference().count("wrong contents");
            return Err(Missed::Wrong("hash".into()));
        }
        let failed = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::StorageFull => Missed::NoSpace,
            _ => Missed::Disk(e.to_string()),
        };
        let mut stage = self.devices[d].disk.stage(&want.staged).map_err(failed)?;
        if !bytes.is_empty() {
            stage.write_at(&bytes, 0).map_err(failed)?;
        }
        Ok((
            stage.finish(want.mode, want.mtime).map_err(failed)?,
            Vec::new(),
        ))
    }

    /// Reads a content at device `s` for device `d`.
    fn ask(&mut self, s: usize, d: usize, space: i64, want: &Want) -> Result<Vec<u8>, Missed> {
        let disk = self.devices[s].disk.clone();
        let Some(engine) = &self.devices[s].engine else {
            return Err(Missed::Lost);
        };
        let conn = engine.db().read();
        let broken = |e: ownmesh_node::db::DbError| Missed::Disk(e.to_string());
        let mut files = Vec::new();
        for row in base::holding(conn, space, &want.hash, 8).map_err(broken)? {
            if let Some(path) = base::path(conn, space, &row.row.id).map_err(broken)? {
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                files.push(Located {
                    disk,
                    path,
                    stat: row.row.stat,
                    size: want.size,
                    chunks: None,
                });
            }
        }
        if files.is_empty() {
            let kept = Store::default().find(&disk, &self.secret(), &want.hash);
            let kept = kept.ok_or(Missed::Absent)?;
            files.push(Located {
                disk: Arc::new(disk.clone()),
                path: kept.path,
                stat: kept.stat,
                size: kept.size,
                chunks: None,
            });
        }
        let source = Holder {
            files,
            superseded: std::sync::Mutex::default(),
        };
        let space_id = engine
            .open_spaces_list()
            .find(|o| o.number() == space)
            .map(|_| SpaceId::from_bytes([0; 16]));
        let ask = Ask::Files {
            space: space_id.ok_or(Missed::Absent)?,
            wants: vec![WantFile {
                n: 1,
                hash: want.hash,
            }],
        };
        let mut stream = Vec::new();
        let _ = answer(&ask, &self.devices[d].id(), &source, &mut |bytes| {
            stream.extend_from_slice(bytes);
            true
        });
        for path in source
            .superseded
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            self.reference().count("superseded while served");
            self.soon(s, Event::Superseded { space, path });
        }
        let mut bytes = Vec::new();
        let mut rest = stream.as_slice();
        while let Some((head, more)) = rest.split_first_chunk::<{ Head::LEN }>() {
            let head = Head::from_bytes(*head).map_err(|e| Missed::Wrong(e.to_string()))?;
            let (piece, more) = more
                .split_at_checked(head.len as usize)
                .ok_or(Missed::Lost)?;
            bytes.extend_from_slice(piece);
            rest = more;
            match head.status {
                Status::Last => return Ok(bytes),
                Status::More => {}
                Status::Absent => return Err(Missed::Absent),
                Status::Superseded | Status::Busy => return Err(Missed::Later),
            }
        }
        Err(Missed::Lost)
    }
}
