//! What belongs to a database goes with its file: never a new file beside an old log.
//!
//! SQLite plays back whatever log or journal it finds under a database's name. So where a database is
//! replaced or removed the order is: the file out of its place, then log, journal and index to the trash,
//! then the new file in. After a crash in between nothing stands at the path, a log without its file is
//! passed over by scans, and the step made again clears it away before the new file comes.
//!
//! A program that has the database open goes on writing to what it has open. What came to the log until
//! its file was out of its place is known: it is compared once more, and if it grew, all goes back.

use ownmesh_crypto::ids::ItemId;

use super::{Performer, Refused};
use crate::db::foreign::NotHeld;
use crate::disk::database::{self, Beside, ENDINGS, beside};
use crate::disk::{Meta, RelPath, trash};

impl Performer<'_> {
    /// Whether a database stands at a path. What cannot be read now is taken for one.
    pub(super) fn holds_database(&self, path: &RelPath) -> Result<bool, Refused> {
        Ok(match self.disk.meta_lifted(path)? {
            Some(meta) => database::is_database(self.disk, path, &meta).unwrap_or(true),
            None => false,
        })
    }

    /// The precondition of a step that takes a file out of its place by its name alone.
    pub(super) fn refuse_in_use(&self, path: &RelPath) -> Result<(), Refused> {
        if self.holds_database(path)? && Beside::of(self.disk, path)?.is_live() {
            return Err(Refused::Io {
                kind: std::io::ErrorKind::ResourceBusy,
                message: "a program has this database open; it is moved when that is closed".into(),
            });
        }
        Ok(())
    }

    /// The precondition of a step that puts something under a name.
    pub(super) fn refuse_beside_database(&self, path: &RelPath) -> Result<(), Refused> {
        let name = path.name().unwrap_or_default();
        let (Some(main), Some(dir)) = (
            ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)),
            path.parent(),
        ) else {
            return Ok(());
        };
        if !main.is_empty() && self.holds_database(&dir.with(main))? {
            return Err(Refused::Io {
                kind: std::io::ErrorKind::InvalidInput,
                message: "the database beside it would take this file for its own".into(),
            });
        }
        Ok(())
    }

    /// Before a database comes to a free place: what an earlier one has left there goes to the trash.
    pub(super) fn clear_beside(&mut self, id: &ItemId, path: &RelPath) -> Result<(), Refused> {
        let gone = self.take_along(id, path)?;
        if !gone.is_empty() {
            // Durably, before the file that they must not meet.
            self.disk.sync_dir(&path.parent().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Brings all that stands beside a path to the trash. If one cannot go, none does.
    ///
    /// Returns: from where to where, for [`Self::bring_back_beside`].
    pub(super) fn take_along(
        &mut self,
        id: &ItemId,
        path: &RelPath,
    ) -> Result<Vec<(RelPath, RelPath)>, Refused> {
        let mut moved = Vec::new();
        for ending in ENDINGS {
            let Some(from) = beside(path, ending) else {
                continue;
            };
            match self.take_one(id, &from, ending) {
                Ok(None) => {}
                Ok(Some(to)) => moved.push((from, to)),
                Err(refused) => {
                    self.bring_back_beside(&moved);
                    return Err(refused);
                }
            }
        }
        Ok(moved)
    }

    fn take_one(
        &mut self,
        id: &ItemId,
        from: &RelPath,
        ending: &str,
    ) -> Result<Option<RelPath>, Refused> {
        if self.disk.meta_lifted(from)?.is_none() {
            return Ok(None);
        }
        // Under the name that SQLite looks for beside the file of the same trash name.
        let name = format!("{}{ending}", (self.trash_name)(id));
        let to = trash::put(self.disk, from, &name)?;
        self.renamed(from, &to);
        Ok(Some(to))
    }

    /// Undoes [`Self::take_along`]. What cannot go back stays in the trash.
    pub(super) fn bring_back_beside(&mut self, moved: &[(RelPath, RelPath)]) {
        for (from, to) in moved.iter().rev() {
            match self.disk.rename_new(to, from) {
                Ok(()) => self.renamed(to, from),
                Err(error) => tracing::warn!(%from, %error, "it stays in the trash"),
            }
        }
    }

    /// Whether nothing was written beside a database since `before`.
    pub(super) fn same_beside(&self, path: &RelPath, before: &Beside) -> Result<bool, Refused> {
        Ok(Beside::of(self.disk, path)? == *before)
    }

    /// Makes a database in the trash whole by itself, so that it can be taken out as one file. Where a
    /// program has it open still, file and log stay side by side there.
    pub(super) fn fold_in_trash(&self, file: &RelPath, along: &[(RelPath, RelPath)]) {
        if along.is_empty() {
            return;
        }
        match self.disk.fold_database(file) {
            Ok(()) => {
                for (_, to) in along {
                    // The index of a log that is no more.
                    if to.as_str().ends_with("-shm") {
                        drop(self.disk.remove(to));
                    }
                }
            }
            Err(NotHeld::Busy) => {}
            Err(error) => tracing::debug!(%file, %error, "its log stays beside it in the trash"),
        }
    }

    /// What stands at a path, with what stands beside it if it is a database.
    pub(super) fn with_beside(&self, path: &RelPath, meta: Meta) -> Result<Meta, Refused> {
        Ok(database::look(self.disk, path, meta)?)
    }
}
