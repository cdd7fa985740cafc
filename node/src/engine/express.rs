//! Small contents go beside big ones.
//!
//! A space fetches few contents at a time. At full speed a place is free again in a moment; on a slow road, or at
//! a limit on either side, big files hold them all for minutes, and a small edit would wait for the end of one. So
//! there are places for small contents alone.

use super::fetch::{FETCHES, Fetch};
use super::plan::{self, Next};
use super::registry::name_of;
use super::{Engine, Now};
use crate::db::{DbError, dirty};
use crate::limits::Lane;

/// Fetches of small contents beside the others.
const EXPRESS: usize = 2;
/// What holds its place for long, bytes: more than a group of many small files has as a rule.
const BIG: u64 = 4 << 20;
/// What counts as small, bytes.
const SMALL: u64 = 64 << 10;
/// Contents looked for at once.
const LOOK: usize = 64;

impl Engine {
    /// Asks for small contents that are new on the list, while big ones hold all places.
    pub(super) fn express(&mut self, now: Now, n: i64) -> Result<(), DbError> {
        let Some(space) = self.spaces.get(&n) else {
            return Ok(());
        };
        let big = |f: &&Fetch| f.bytes >= BIG;
        let held = space.fetching.values().filter(big).count() >= FETCHES || self.limited(now);
        let places = FETCHES..FETCHES + EXPRESS;
        if !held || !places.contains(&space.fetching.len()) {
            return Ok(());
        }
        let found = dirty::small(self.db.read(), n, space.express_seen, SMALL, LOOK)?;
        let Some((newest, _)) = found.first().copied() else {
            return Ok(());
        };
        let known = &self.registry;
        let names = |d: &ownmesh_crypto::DeviceId| name_of(known, d);
        let mut wants = Vec::new();
        for (_, item) in found {
            let sides = plan::sides(self.db.read(), n, &item, &space.secret, &names)?;
            for next in plan::next(&sides) {
                if let Next::Make(wanted) | Next::Replace(_, wanted) = next {
                    let here = space.ready.contains_key(&wanted.id);
                    let comes = space.underway.contains(&wanted.id);
                    if wanted.bytes() > 0 && wanted.bytes() <= SMALL && !here && !comes {
                        wants.push((item, wanted));
                    }
                }
            }
        }
        if let Some(space) = self.spaces.get_mut(&n) {
            space.express_seen = newest;
        }
        self.start_fetches(n, wants);
        Ok(())
    }

    /// Whether a limit applies to what comes in.
    fn limited(&self, now: Now) -> bool {
        self.flow.pacer.may_receive(now.mono, Lane::Log) != Ok(usize::MAX)
    }
}
