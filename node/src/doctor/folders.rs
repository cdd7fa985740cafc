//! The folders: whether each is the one that was added, and has room.

use super::Check;
use crate::db::{Connection, spaces};
use crate::disk::real::RealDisk;
use crate::disk::scan::{self, Guard};
use crate::home::free_bytes;

/// With less than this free, bytes, the next file may not fit.
const ROOM: u64 = 100 << 20;

/// One check for each folder.
pub(super) fn checks(conn: &Connection) -> Vec<Check> {
    let rows = match spaces::all(conn) {
        Ok(rows) => rows,
        Err(error) => {
            return vec![Check::wrong(
                "folders",
                error.to_string(),
                "see the database",
            )];
        }
    };
    rows.into_iter().map(|row| one(&row)).collect()
}

fn one(row: &spaces::SpaceRow) -> Check {
    let path = &row.path;
    let remedy = "mount its disk; mesh continue SPACE takes what is there now, mesh revert SPACE fills it again";
    let guard = Guard {
        space: row.id,
        fs_id: row.fs,
    };
    let found = match RealDisk::open(path) {
        Ok(disk) => scan::check(&disk, &guard).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = found {
        return Check::wrong("folder", format!("{path}: {why}"), remedy).about(path);
    }
    match free_bytes(path.as_ref()) {
        Some(free) if free < ROOM => {
            let finding = format!("{path}: {} MB are left on its disk", free / 1_000_000);
            Check::note("folder", finding, "make room on that disk").about(path)
        }
        _ => Check::fine("folder", format!("{path} is the folder that was added")).about(path),
    }
}
