//! Putting a staged file or a new symlink in its place: free, by exchange, or by parking.

use std::io;

use ownmesh_crypto::ids::ItemId;

use super::{Done, Performer, Refused, came_out};
use crate::disk::database::{self, Beside};
use crate::disk::{Meta, MetaKind, PARKED, RelPath, Stat, TMP, private};

impl Performer<'_> {
    pub(super) fn write(
        &mut self,
        id: &ItemId,
        path: &RelPath,
        staged: &str,
        over: Option<&Stat>,
        mode: u32,
        mtime: i64,
    ) -> Done {
        let tmp = private(TMP).join(staged).map_err(|_| Refused::Missing)?;
        let Some(ours) = self
            .disk
            .meta(&tmp)?
            .filter(|meta| meta.kind == MetaKind::File)
        else {
            return Err(Refused::Missing);
        };
        if ours.mode != mode {
            self.disk.set_mode(&tmp, mode)?;
        }
        if ours.mtime_ns != mtime {
            self.disk.set_mtime(&tmp, mtime)?;
        }
        if over.is_none() {
            return self.place(id, path, &tmp, None);
        }
        // A swap puts what the user had under our name: one that no staged file has, so that nobody
        // takes it for one.
        let mine = private(TMP).with(&format!("in-{id}"));
        self.clear(id, &mine)?;
        self.disk.rename_new(&tmp, &mine)?;
        let done = self.place(id, path, &mine, over);
        if done.is_err() {
            let left = self.disk.meta_lifted(&mine)?;
            if left.is_none_or(|m| m.ino != ours.ino) || self.disk.rename_new(&mine, &tmp).is_err()
            {
                self.clear(id, &mine)?;
            }
        }
        done
    }

    pub(super) fn link(
        &mut self,
        id: &ItemId,
        path: &RelPath,
        target: &str,
        over: Option<&Stat>,
        mtime: Option<i64>,
    ) -> Done {
        let tmp = private(TMP).with(&format!("ln-{id}"));
        self.clear(id, &tmp)?;
        self.disk.symlink(target, &tmp)?;
        self.set_link_time(&tmp, mtime);
        let done = self.place(id, path, &tmp, over);
        // Refused: what is left there is the symlink just made, or a user's that could not go back.
        match (&done, over) {
            (Err(_), Some(_)) => self.clear(id, &tmp)?,
            (Err(_), None) => drop(self.disk.remove(&tmp)),
            (Ok(_), _) => {}
        }
        done
    }

    fn place(&mut self, id: &ItemId, path: &RelPath, tmp: &RelPath, over: Option<&Stat>) -> Done {
        let ours = self.disk.meta_lifted(tmp)?.ok_or(Refused::Missing)?;
        self.refuse_beside_database(path)?;
        let database = database::is_database(self.disk, tmp, &ours).unwrap_or(true);
        match over {
            None => {
                if database {
                    self.clear_beside(id, path)?;
                }
                self.disk.rename_new(tmp, path)?;
                self.renamed(tmp, path);
            }
            Some(over) => {
                if self.expect(id, path, over)?.kind == MetaKind::Dir {
                    return Err(Refused::Changed);
                }
                let database = database || self.holds_database(path)?;
                let swapped = if database {
                    // For a moment of the exchange a new file would stand beside an old log.
                    Err(io::ErrorKind::Unsupported.into())
                } else {
                    self.disk.exchange(tmp, path)
                };
                match swapped {
                    Ok(()) => {
                        self.touch_parent(tmp);
                        self.touch_parent(path);
                        self.exchanged(id, path, tmp, over, &ours)?;
                    }
                    Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                        self.by_parking(id, path, tmp, over, database)?;
                    }
                    Err(e) => return Err(e.into()),
                }
            }
        }
        // Base must get what *we* wrote: what a user saved over it meanwhile has to differ from it.
        Ok(Some(match self.disk.meta_lifted(path)? {
            Some(now) if ours.stat().same_content_likely(&now) && ours.mode == now.mode => now,
            _ => ours,
        }))
    }

    /// Ours stands at the path; what came out stands at `tmp`.
    fn exchanged(
        &mut self,
        id: &ItemId,
        path: &RelPath,
        tmp: &RelPath,
        over: &Stat,
        ours: &Meta,
    ) -> Result<(), Refused> {
        let out = self.disk.meta_lifted(tmp)?.ok_or(Refused::Missing)?;
        let refused = if out.kind != MetaKind::Dir && came_out(over, &out) {
            match self.discard(id, tmp) {
                Ok(_) => return Ok(()),
                Err(e) => e,
            }
        } else {
            Refused::Changed
        };
        match self.disk.exchange(tmp, path) {
            Ok(()) => {}
            // Ours was deleted at once: the place is free for what was there.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.put_back(id, tmp, path)?;
                return Err(refused);
            }
            Err(e) => return Err(e.into()),
        }
        // Ours should be back. If not, a second save fell on it: the later one belongs at the path.
        let back = self.disk.meta_lifted(tmp)?.ok_or(Refused::Missing)?;
        if !ours.stat().same_content_likely(&back) {
            match self.disk.exchange(tmp, path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => self.put_back(id, tmp, path)?,
                // In either order both are the user's: the one not at the path goes to the trash.
                _ => drop(self.discard(id, tmp)?),
            }
        }
        Err(refused)
    }

    /// The swap where the filesystem cannot exchange, and of a database, with what stands beside it: for
    /// a moment the path is free.
    fn by_parking(
        &mut self,
        id: &ItemId,
        path: &RelPath,
        tmp: &RelPath,
        over: &Stat,
        database: bool,
    ) -> Result<(), Refused> {
        let aside = private(PARKED).with(&format!("over-{id}"));
        self.clear(id, &aside)?;
        let beside = database.then(|| Beside::of(self.disk, path)).transpose()?;
        // Between the first look and this one the log may have grown.
        if database {
            self.expect(id, path, over)?;
        }
        self.disk.rename_new(path, &aside)?;
        self.renamed(path, &aside);
        let out = self.disk.meta_lifted(&aside)?.ok_or(Refused::Missing)?;
        let mut as_expected = out.kind != MetaKind::Dir && came_out(over, &out);
        if let Some(beside) = &beside {
            as_expected &= self.same_beside(path, beside)?;
        }
        if !as_expected {
            self.put_back(id, &aside, path)?;
            return Err(Refused::Changed);
        }
        let mut along = Vec::new();
        if database {
            along = match self.take_along(id, path) {
                Ok(along) => along,
                Err(e) => {
                    self.put_back(id, &aside, path)?;
                    return Err(e);
                }
            };
            // What is out of the way is so for good before the new file comes.
            if let Err(e) = self.disk.sync_dir(&path.parent().unwrap_or_default()) {
                self.bring_back_beside(&along);
                self.put_back(id, &aside, path)?;
                return Err(e.into());
            }
        }
        match self.disk.rename_new(tmp, path) {
            Ok(()) => {
                self.renamed(tmp, path);
                // Whatever fails now, ours is in place; `salvage` brings the old one to the trash.
                let old = self.discard(id, &aside)?;
                self.fold_in_trash(&old, &along);
                Ok(())
            }
            Err(e) => {
                self.bring_back_beside(&along);
                self.put_back(id, &aside, path)?;
                Err(match Refused::from(e) {
                    Refused::Occupied => Refused::Changed,
                    other => other,
                })
            }
        }
    }
}
