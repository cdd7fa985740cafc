//! Other programs' databases, as SQLite itself sees them: held still for a moment, and folded together.
//!
//! The danger guarded against is a page that another program writes while it is read. Nothing here ever
//! writes to a database of the user's that is in its place: [`hold`] opens read-only and leaves the
//! write-ahead log alone, and [`fold`] is for copies of ours and for what lies in the trash.
//!
//! Neither looks at the schema, so nothing that a strange file says there is ever run.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// How long a program's commit is waited for. Who commits all the time lets a reader in between.
const PATIENCE: Duration = Duration::from_millis(250);

/// A read transaction on a database; it ends when this is dropped.
///
/// While it stands, a database in rollback mode is not written to, and of one in write-ahead mode neither
/// the file nor the log loses what the transaction can see.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "it only has to stay open")] Connection);

/// Why a database is not held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    /// A program is writing to it: try again.
    #[error("a program is writing to the database")]
    Busy,
    /// It is damaged, or encrypted behind a plain header.
    #[error("SQLite cannot read it: {0}")]
    Unreadable(String),
    /// SQLite may not lock it here (a read-only folder), or would have to change it first (what a program
    /// left that ended in the middle of a transaction), or is not to be had.
    #[error("SQLite cannot hold it still: {0}")]
    Refused(String),
}

impl From<rusqlite::Error> for NotHeld {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Unreadable(error.to_string())
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Begins a read transaction. A file beside it (`-shm`) may be made by SQLite; nothing else changes.
pub fn hold(path: &Path) -> Result<Hold, NotHeld> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.busy_timeout(PATIENCE)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.execute_batch("BEGIN")?;
    touch(&conn)?;
    Ok(Hold(conn))
}

/// Brings what stands in `-wal` or `-journal` beside a database into the file, which is whole by itself
/// then. Fails with [`NotHeld::Busy`] while any program has it open.
pub fn fold(path: &Path) -> Result<(), NotHeld> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(Duration::ZERO)?;
    // The index of the log stays in memory then, and nobody else has the file open.
    conn.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    touch(&conn)?;
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy != 0 {
        return Err(NotHeld::Busy);
    }
    conn.close().map_err(|(_, error)| error.into())
}

fn open(path: &Path, how: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, how | flags)
}

/// Reads one number of the header, for which SQLite takes its locks and looks at log and journal.
fn touch(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA schema_version", [], |_| Ok(()))
}
