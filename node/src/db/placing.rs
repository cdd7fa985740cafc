//! Steps under way on the disk, noted before they are taken.
//!
//! After a crash `engine::recover` looks at every one of them before the first scan: a step that was
//! taken and not noted would be read as the user's edit (ARCHITECTURE.md, order 2).

use ownmesh_crypto::ItemId;
use rusqlite::{Connection, params};

use super::{DbError, id};

/// One step under way on the disk.
#[derive(Clone, Debug)]
pub struct Placing {
    /// Item or copy.
    pub id: ItemId,
    /// Item whose plan it belongs to.
    pub item: ItemId,
    /// Where on the disk.
    pub path: String,
    /// File in `.mesh/tmp`, if the step swaps one in.
    pub staged: Option<String>,
    /// Inode number of that file: another one under its name is the user's.
    pub ino: u64,
}

/// Notes a step before it is taken.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put(conn: &Connection, space: i64, p: &Placing) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR REPLACE INTO placing VALUES(?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            space,
            p.id.as_bytes(),
            p.item.as_bytes(),
            p.path,
            p.staged,
            p.ino.cast_signed()
        ])?;
    Ok(())
}

/// Steps that were under way.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn all(conn: &Connection, space: i64) -> Result<Vec<Placing>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT id, item, path, staged, ino FROM placing WHERE space = ?1 ORDER BY id",
    )?;
    let mut rows = query.query([space])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(Placing {
            id: id(&row.get::<_, Vec<u8>>(0)?, "item id")?,
            item: id(&row.get::<_, Vec<u8>>(1)?, "item id")?,
            path: row.get(2)?,
            staged: row.get(3)?,
            ino: row.get::<_, i64>(4)?.cast_unsigned(),
        });
    }
    Ok(out)
}

/// Takes a step off the list.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn remove(conn: &Connection, space: i64, item: &ItemId) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM placing WHERE space = ?1 AND id = ?2")?
        .execute(params![space, item.as_bytes()])?;
    Ok(())
}
