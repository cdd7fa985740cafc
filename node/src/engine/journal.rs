//! The operation log: what a person may want to know of later, one sentence each (`db::events` chains and keeps them).
//!
//! Guards against two things: secrets in it (sentences name devices, spaces, paths and addresses, never a code, key or
//! content), and somebody on the network who fills it (so many entries an hour come from there, then one says so).

use super::{Engine, Notice};
use crate::command::{CommandError, LogEntry, LogQuery, LogVerified};
use crate::db::events::{self, Entry, Filter, Verdict};
use crate::db::{DbError, items};
use crate::status::Time;

/// Entries an hour about what was not asked for on this device.
const UNASKED: u32 = 120;
const HOUR: u64 = 3_600_000;
/// Entries in one answer.
const LISTED: usize = 10_000;

/// What the operation log remembers between two entries.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// When the present hour began, and how many unasked entries came in it.
    hour: (u64, u32),
    /// Changes that went the slow way: only these make conflicts.
    slow: u64,
}

impl Engine {
    /// Writes an entry. That something happened is never undone because it could not be written down.
    pub(crate) fn write_down(
        &mut self,
        kind: &str,
        device: Option<&str>,
        space: Option<&str>,
        message: impl Into<String>,
    ) {
        let entry = Entry {
            seq: 0,
            at: self.seen_at.wall,
            kind: kind.to_owned(),
            device: device.map(str::to_owned),
            space: space.map(str::to_owned),
            message: message.into(),
        };
        if let Err(error) = self.db.write(|tx| events::append(tx, entry)) {
            tracing::error!(%error, kind, "the operation log could not be written");
        }
    }

    /// What people and scripts are told, as far as it belongs here.
    pub(super) fn note_down(&mut self, notice: &Notice) {
        match notice {
            Notice::Paired { device } => {
                let message = format!("{device} is a device of this mesh now");
                self.write_unasked("device-added", Some(device), None, message);
            }
            Notice::Conflict { space } => {
                let message = format!("two versions of an item in {space}; see mesh conflicts");
                self.write_unasked("conflict", None, Some(space), message);
            }
            _ => {}
        }
    }

    /// Writes what others do to this device, which may be often.
    pub(super) fn write_unasked(
        &mut self,
        kind: &str,
        device: Option<&str>,
        space: Option<&str>,
        message: String,
    ) {
        let now = self.seen_at.mono;
        if now >= self.journal.hour.0 + HOUR {
            self.journal.hour = (now, 0);
        }
        self.journal.hour.1 += 1;
        match self.journal.hour.1 {
            ..UNASKED => self.write_down(kind, device, space, message),
            UNASKED => {
                let message =
                    format!("{UNASKED} entries in an hour; the others of it are left out");
                self.write_down("more", None, None, message);
            }
            _ => {}
        }
    }

    /// Tells of conflicts that came with what was taken in.
    pub(super) fn look_for_conflicts(&mut self) -> Result<(), DbError> {
        let slow = self.tally.slow;
        if std::mem::replace(&mut self.journal.slow, slow) == slow {
            return Ok(());
        }
        let mut more = Vec::new();
        for (n, space) in &mut self.spaces {
            let count = items::conflict_count(self.db.read(), *n)?;
            if count > std::mem::replace(&mut space.conflicts, count) {
                more.push(space.name.clone());
            }
        }
        for space in more {
            self.notice(Notice::Conflict { space });
        }
        Ok(())
    }

    /// `mesh log`.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn log(&self, query: LogQuery) -> Result<Vec<LogEntry>, CommandError> {
        let filter = Filter {
            device: query.device,
            kind: query.kind,
            since: query.since.map(Time::as_millis),
        };
        let found = events::list(self.db.read(), &filter, LISTED);
        let found = found.map_err(|e| CommandError::failed(e.to_string()))?;
        let entry = |e: Entry| LogEntry {
            seq: e.seq,
            at: Time::from_millis(e.at),
            kind: e.kind,
            device: e.device,
            space: e.space,
            message: e.message,
        };
        Ok(found.into_iter().map(entry).collect())
    }

    /// `mesh log verify`.
    ///
    /// # Errors
    /// The database could not be read.
    pub fn verify_log(&self) -> Result<LogVerified, CommandError> {
        let verdict = events::verify(self.db.read());
        let verdict = verdict.map_err(|e| CommandError::failed(e.to_string()))?;
        Ok(match verdict {
            Verdict::Whole { first, last } => LogVerified {
                whole: true,
                first,
                last,
                ..LogVerified::default()
            },
            broken => LogVerified {
                seq: broken.wrong().map(|(seq, _)| seq),
                wrong: broken.wrong().map(|(_, how)| how.to_owned()),
                ..LogVerified::default()
            },
        })
    }
}
