//! What a person should know of a space though nothing is wrong: names and items that this disk shows
//! otherwise than the mesh has them. None of it holds up `mesh wait`.

use ownmesh_crypto::ItemId;

use super::{Engine, Space};
use crate::db::{DbError, base, here, items};
use crate::status::{LOCAL_NAME, NAME_CLASH, NO_LINKS, Problem, TOO_LARGE};

/// So many of each kind are listed: a person reads no more.
const SHOWN: u32 = 100;

impl Engine {
    /// All that is to be said of a space's names, and of what its disk has no form for.
    pub(super) fn notices_of(&self, space: &Space) -> Result<Vec<Problem>, DbError> {
        let (conn, n) = (self.db.read(), space.row.n);
        let mut out = Vec::new();
        let mut tell = |id: &ItemId, kind: &str, reason: String| {
            let item = self.path_in_mesh(n, id)?;
            out.push(Problem {
                item: Some(item),
                kind: kind.to_owned(),
                reason,
                since: None,
            });
            Ok::<_, DbError>(())
        };
        for (id, _) in here::renamed(conn, n, SHOWN)? {
            let local = base::path(conn, n, &id)?;
            let local = local.as_ref().and_then(|p| p.name()).unwrap_or_default();
            let why =
                format!("called {local:?} here: this disk cannot hold its name, or has it already");
            tell(&id, LOCAL_NAME, why)?;
        }
        for (id, name) in here::clashing(conn, n, SHOWN)? {
            let why = format!("another item has the name {name:?}; rename one of the two");
            tell(&id, NAME_CLASH, why)?;
        }
        if !space.traits.symlinks || !space.traits.raw {
            for id in here::absent_links(conn, n, SHOWN)? {
                let why =
                    "this disk holds no such symlink; it is kept in the mesh and on other devices";
                tell(&id, NO_LINKS, why.to_owned())?;
            }
        }
        for id in space.too_large.iter().take(SHOWN as usize) {
            let max = space.traits.max_file;
            let why =
                format!("this disk holds no file of over {max} bytes; it stays on other devices");
            tell(id, TOO_LARGE, why)?;
        }
        Ok(out)
    }

    /// Where an item is in the mesh's tree.
    pub(super) fn path_in_mesh(&self, n: i64, id: &ItemId) -> Result<String, DbError> {
        let mut names = Vec::new();
        let mut at = *id;
        for _ in 0..4_096 {
            let Some(spot) = items::place(self.db.read(), n, &at)? else {
                break;
            };
            names.extend(spot.shown);
            match spot.ep {
                Some(up) if up != ItemId::ROOT => at = up,
                _ => break,
            }
        }
        names.reverse();
        Ok(names.join("/"))
    }
}
