//! Spaces that the user told to wait.
//!
//! A paused space neither scans nor sends nor takes in. It still takes part: the others are told, so
//! that they send it nothing meanwhile and keep what it lacks, and a restart changes nothing of it.
//! What was under way on the disk when it was paused comes to its end; contents on their way stop,
//! and what came of a large one is kept. Going on begins with a look at the whole folder, for nobody
//! watched it.

use super::{Effect, Engine, Notice, Now, Space};
use crate::command::CommandError;
use crate::db::{DbError, settings};
use crate::status::Time;

/// How long a space waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// Unix ms, for people and for the time after a restart; none: until it is told to go on.
    pub(super) until: Option<i64>,
    /// The same in the time that never jumps.
    at: Option<u64>,
}

impl Pause {
    fn new(until: Option<i64>, now: Now) -> Self {
        let left = |until: i64| u64::try_from(until.saturating_sub(now.wall)).unwrap_or(0);
        Self {
            until,
            at: until.map(|until| now.mono.saturating_add(left(until))),
        }
    }

    /// When it is over.
    pub(super) fn ends(&self) -> Option<u64> {
        self.at
    }
}

impl Engine {
    /// Makes the spaces wait that waited when the process ended.
    pub(super) fn load_pauses(&mut self, now: Now) -> Result<(), DbError> {
        for (id, until) in settings::pauses(self.db.read())? {
            if let Some(n) = self.number(&id)
                && let Some(space) = self.spaces.get_mut(&n)
            {
                space.paused = Some(Pause::new(until, now));
                self.effects.push(Effect::Rest { space: n });
            }
        }
        Ok(())
    }

    /// Makes a space wait, or all of this device's. One that waits already waits as told last.
    ///
    /// # Errors
    /// No such space; the database failed.
    pub fn pause(
        &mut self,
        name: Option<&str>,
        seconds: Option<u64>,
        now: Now,
    ) -> Result<Vec<String>, CommandError> {
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let numbers = self.named_or_all(name)?;
        let wait = |s: u64| i64::try_from(s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let until = seconds.map(|s| now.wall.saturating_add(wait(s)));
        let ids: Vec<_> = numbers.iter().map(|n| self.spaces[n].row.id).collect();
        self.db
            .write_durable(|tx| ids.iter().try_for_each(|id| settings::pause(tx, id, until)))
            .map_err(failed)?;
        let mut names = Vec::new();
        for n in numbers {
            let Some(space) = self.spaces.get_mut(&n) else {
                continue;
            };
            space.paused = Some(Pause::new(until, now));
            let (id, name) = (space.row.id, space.name.clone());
            // Nothing is sent again, and nobody waits for an answer, while it rests.
            for peer in self.peers.values_mut() {
                if let Some(theirs) = peer.spaces.get_mut(&id) {
                    theirs.again();
                }
            }
            self.effects.push(Effect::Rest { space: n });
            self.tell_all(n)?;
            self.notice(Notice::Space {
                space: name.clone(),
                state: "paused".into(),
            });
            names.push(name);
        }
        self.refuse_scans();
        Ok(names)
    }

    /// Lets a space go on, or all that wait.
    ///
    /// # Errors
    /// No such space, or it does not wait; the database failed.
    pub fn unpause(&mut self, name: Option<&str>, now: Now) -> Result<Vec<String>, CommandError> {
        let numbers = self.named_or_all(name)?;
        let waits = |n: &i64| self.spaces.get(n).is_some_and(|s| s.paused.is_some());
        let numbers: Vec<i64> = numbers.into_iter().filter(waits).collect();
        if let (Some(name), true) = (name, numbers.is_empty()) {
            return Err(
                CommandError::refused(format!("the space {name} is not paused")).about(name),
            );
        }
        let mut names = Vec::new();
        for n in numbers {
            let woken = self.end_pause(n, now);
            names.extend(woken.map_err(|e| CommandError::failed(e.to_string()))?);
        }
        Ok(names)
    }

    /// Lets those go on whose time is over.
    pub(super) fn end_pauses(&mut self, now: Now) -> Result<(), DbError> {
        let over = |s: &&Space| s.pause_ends().is_some_and(|at| now.mono >= at);
        let numbers: Vec<i64> = self.spaces.values().filter(over).map(|s| s.row.n).collect();
        for n in numbers {
            self.end_pause(n, now)?;
        }
        Ok(())
    }

    fn end_pause(&mut self, n: i64, now: Now) -> Result<Option<String>, DbError> {
        let Some(id) = self.spaces.get(&n).map(|s| s.row.id) else {
            return Ok(None);
        };
        self.db.write_durable(|tx| settings::unpause(tx, &id))?;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(None);
        };
        space.paused = None;
        // What is there must be known before anything is written, as after a start.
        space.scanned = false;
        space.want_scan(None);
        space.again = true;
        space.absent.clear();
        space.seek_at = Some(now.mono);
        let (name, path) = (space.name.clone(), space.row.path.clone());
        self.effects.push(Effect::Watch { space: n, path });
        let hello = self.hello(n)?;
        self.tell(&hello);
        self.notice(Notice::Space {
            space: name.clone(),
            state: "idle".into(),
        });
        Ok(Some(name))
    }

    /// Why something cannot be done with a space that waits.
    pub(super) fn not_paused(&self, n: i64) -> Result<(), CommandError> {
        match self.spaces.get(&n) {
            Some(space) if space.paused.is_some() => {
                let name = &space.name;
                Err(CommandError::refused(format!("the space {name} is paused"))
                    .hint(format!("mesh resume {name}"))
                    .about(name.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whoever waits for a scan that will not begin is told so.
    fn refuse_scans(&mut self) {
        let resting: Vec<i64> = self.spaces.keys().copied().collect();
        for n in resting {
            let Err(error) = self.not_paused(n) else {
                continue;
            };
            if let Some(space) = self.spaces.get_mut(&n) {
                for waiter in std::mem::take(&mut space.scan_waiters) {
                    drop(waiter.send(Err(error.clone())));
                }
            }
        }
    }

    fn named_or_all(&self, name: Option<&str>) -> Result<Vec<i64>, CommandError> {
        match name {
            Some(name) => Ok(vec![self.space_by_name(name)?]),
            None => Ok(self.spaces.keys().copied().collect()),
        }
    }
}

impl Space {
    /// Whether the user told it to wait.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) fn pause_ends(&self) -> Option<u64> {
        self.paused.and_then(|p| p.ends())
    }

    pub(super) fn paused_until(&self) -> Option<Time> {
        let until = self.paused.and_then(|p| p.until);
        until.map(Time::from_millis)
    }
}
