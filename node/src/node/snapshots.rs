//! Which copies of databases are still needed.
//!
//! Run before each look at a folder, when base knows all that earlier looks have found: a copy that
//! no row of base names belongs to an older version, and one whose file holds the same bytes by now is
//! a second copy of hot content, which mesh does not keep. A copy that cannot be removed now goes next time.

use crate::db::{Connection, base};
use crate::disk::{Disk, database, snapshot};

/// Files that may hold one content; of more than these the copy is kept a while longer.
const HOLDERS: usize = 16;

pub(super) fn sweep(disk: &dyn Disk, conn: &Connection, space: i64) {
    let all = match snapshot::list(disk) {
        Ok(all) => all,
        Err(error) => {
            tracing::debug!(%error, "the copies of databases cannot be listed");
            return;
        }
    };
    for (hash, _) in all {
        let needed = match base::holding(conn, space, &hash, HOLDERS) {
            Ok(holders) => {
                !holders.is_empty() && !holders.iter().any(|b| stands(disk, conn, space, b))
            }
            Err(_) => true,
        };
        if !needed && let Err(error) = snapshot::remove(disk, &hash) {
            tracing::debug!(%hash, %error, "a copy of a database stays");
        }
    }
}

/// Whether the file itself holds what base says: nothing beside it, and not written to since.
fn stands(disk: &dyn Disk, conn: &Connection, space: i64, b: &base::Base) -> bool {
    let Ok(Some(path)) = base::path(conn, space, &b.row.id) else {
        return false;
    };
    let live = database::Beside::of(disk, &path).map_or(true, |beside| beside.is_live());
    !live
        && !b.row.racy
        && matches!(disk.meta(&path), Ok(Some(now)) if b.row.stat.same_file_unchanged(&now))
}
