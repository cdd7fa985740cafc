//! What a space's disk does next.
//!
//! The list of items that may differ (`dirty`) is gone through in order. For each item `plan` says
//! what is lacking; `steps` gathers the steps into a group, `group` has them taken, `settle` puts what
//! came of them into base, and `fetch` gets contents.
//!
//! One thing at a time happens on a space's disk: a scan, a flush or a group of steps. No step is
//! taken before the first full scan has ended, or while the space is stopped: what is there must be
//! known first.

use ownmesh_crdt::mutated;
use ownmesh_crypto::{DeviceId, ItemId};

use super::fetch::{FETCH_BYTES, FETCHES};
use super::pass::Pass;
use super::plan::{self, Wanted};
use super::registry::name_of;
use super::steps::{Planned, one};
use super::{Effect, Engine, Now, Space};
use crate::db::{DbError, base, dirty, ignored};

/// How much is done at once. What holds between two portions must hold wherever they end, so the
/// simulation, whose spaces are small, runs with small ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portions {
    /// Steps in one group: a crash costs at most so many to redo.
    pub group: usize,
    /// Items planned in one turn: the engine stays answerable in between.
    pub turn: usize,
    /// Contents in one fetch.
    pub fetch: usize,
    /// Staged contents waiting for their turn on the disk.
    pub ready: usize,
}

impl Default for Portions {
    fn default() -> Self {
        Self {
            group: 1_000,
            turn: 2_000,
            fetch: 256,
            ready: 4_000,
        }
    }
}

impl Engine {
    /// Works in other portions than usual from now on.
    pub fn set_portions(&mut self, portions: Portions) {
        self.portions = portions;
    }

    /// Gives the disk of a space something to do, if there is anything.
    pub(super) fn work(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        if self.spaces.get(&n).is_none_or(Space::is_paused) {
            return Ok(());
        }
        self.full_scan_due(now, n);
        {
            let Some(space) = self.spaces.get_mut(&n) else {
                return Ok(());
            };
            space.more = false;
            if space.later.1.is_some_and(|at| now.mono >= at) {
                let (dirs, _) = std::mem::take(&mut space.later);
                space.want_scan(Some(dirs.into_iter().collect()));
            }
            if space.retry_at.is_some_and(|at| now.mono >= at) {
                space.retry_at = None;
                space.again = true;
                space.forget_disk_problem(now.mono);
                if space.row.stopped.is_some() {
                    space.want_scan(None);
                }
            }
            let before = space.absent.len();
            space.absent.retain(|_, until| *until > now.mono);
            space.again |= space.absent.len() < before;
        }
        if self
            .spaces
            .get(&n)
            .is_some_and(|s| s.again && s.row.stopped.is_some())
        {
            self.look_again(n)?;
        }
        // Last: an answer heard just now wants a look at the folder, and nothing else would start it.
        self.start_scan(n);
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        // Nothing is written before the first full scan: what is there must be known first.
        if space.row.stopped.is_some() || !space.scanned {
            return Ok(());
        }
        if space.ignoring.alone_until.is_some() {
            if space.busy.is_none() && self.learns_rules(now, n)? {
                self.plan(n)?;
            }
            return Ok(());
        }
        if space.busy.is_some() {
            self.fetch_ahead(n)?;
            return self.express(now, n);
        }
        let full = self.load_queue(n)?;
        if self.brake(now, n)? {
            return Ok(());
        }
        let looked_at_all = self.plan(n)?;
        self.express(now, n)?;
        if let Some(space) = self.spaces.get_mut(&n) {
            let steps = !mutated!(RestForgotten) && !space.steps.is_empty();
            let rest = if space.queue.is_empty() && !steps {
                space.again || full
            } else {
                // What found no place among the fetches waits for the end of one.
                !looked_at_all || space.fetching.is_empty()
            };
            space.more = space.busy.is_none() && rest;
        }
        Ok(())
    }

    /// Reads the next part of the list. Returns whether there may be more of it.
    pub(super) fn load_queue(&mut self, n: i64) -> Result<bool, DbError> {
        let turn = self.portions.turn;
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(false);
        };
        let mut full = false;
        while space.queue.is_empty() {
            let part = dirty::after(self.db.read(), n, space.cursor, turn)?;
            if part.is_empty() {
                if !std::mem::take(&mut space.again) || space.cursor == 0 {
                    return Ok(false);
                }
                space.cursor = 0;
                continue;
            }
            full = part.len() == turn;
            space.cursor = part.last().map_or(0, |p| p.0);
            for (_, item) in part {
                if space.queued.insert(item) {
                    space.queue.push_back(item);
                }
            }
        }
        Ok(full)
    }

    /// Plans a turn. Returns false if there is more, and it can be planned at once.
    fn plan(&mut self, n: i64) -> Result<bool, DbError> {
        let portions = self.portions;
        let Some(space) = self.spaces.get(&n) else {
            return Ok(true);
        };
        debug_assert!(space.busy.is_none(), "one job at a time");
        if space.queue.is_empty() && space.steps.is_empty() {
            return Ok(true);
        }
        let mut wants: Vec<(ItemId, Wanted)> = Vec::new();
        let slots = FETCHES.saturating_sub(space.fetching.len());
        let room = slots * portions.fetch;
        let mut bytes_left = slots as u64 * FETCH_BYTES;
        let mut queue: Vec<ItemId> = Vec::new();
        let Some(space) = self.spaces.get_mut(&n) else {
            return Ok(true);
        };
        while queue.len() < portions.turn {
            let Some(item) = space.steps.pop_front().or_else(|| space.queue.pop_front()) else {
                break;
            };
            space.queued.remove(&item);
            if !space.rests(&item, self.seen_at.mono) {
                queue.push(item);
            }
        }
        let known = &self.registry;
        let names = |d: &DeviceId| name_of(known, d);
        let mut left = Vec::new();
        let group = self.db.write(|tx| {
            let mut pass = Pass::new(tx, n, space.traits.folds);
            for item in queue {
                if pass.group.len() >= portions.group
                    || wants.len() >= room && space.ready.is_empty()
                {
                    left.push(item);
                    continue;
                }
                let sides = plan::sides(tx, n, &item, &space.secret, &names)?;
                match one(&mut pass, space, &item, &sides, &mut Vec::new(), &names)? {
                    Planned::Clean => {
                        space.is_refused_no_more(&item);
                        dirty::clean(tx, n, &item)?;
                    }
                    Planned::Held { lacking } => {
                        space.is_refused_no_more(&item);
                        ignored::hold(tx, n, &item, lacking)?;
                    }
                    Planned::Stepped | Planned::Later => {}
                    Planned::Fetch(wanted) => {
                        let first = wants.is_empty() && room > 0;
                        if first || wants.len() + wanted.len() <= room && bytes_left > 0 {
                            let bytes: u64 = wanted.iter().map(Wanted::bytes).sum();
                            bytes_left = bytes_left.saturating_sub(bytes);
                            wants.extend(wanted.into_iter().map(|w| (item, w)));
                        } else {
                            left.push(item);
                        }
                    }
                }
            }
            for id in pass.parked.clone() {
                let item = base::get(tx, n, &id)?
                    .and_then(|b| b.row.copy_of)
                    .map_or(id, |c| c.0);
                let sides = plan::sides(tx, n, &item, &space.secret, &names)?;
                one(&mut pass, space, &item, &sides, &mut Vec::new(), &names)?;
            }
            pass.drop_parked();
            Ok::<_, DbError>(pass.group)
        })?;
        let mut looked_at_all = true;
        if let Some(space) = self.spaces.get_mut(&n) {
            let beyond = !space.steps.is_empty() || !space.queue.is_empty();
            looked_at_all = !left.is_empty() || !beyond;
            for item in left.into_iter().rev() {
                if space.queued.insert(item) {
                    space.steps.push_front(item);
                }
            }
            let staged = std::mem::take(&mut space.unwanted);
            if !staged.is_empty() {
                self.effects.push(Effect::Discard { space: n, staged });
            }
        }
        self.tell_blocked(n);
        self.start_fetches(n, wants);
        if !group.is_empty() {
            self.start_group(n, group)?;
        }
        Ok(looked_at_all)
    }
}
