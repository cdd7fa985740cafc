//! Where the disk here differs from the mesh for good: names this filesystem cannot hold, items it has no
//! form for, and names that two items claim.

use ownmesh_crypto::ItemId;
use rusqlite::{Connection, params};

use super::items::kind_column;
use super::{DbError, id, ids};
use ownmesh_crdt::item::Kind;

/// Names in a directory, with whose they are.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn names(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
) -> Result<Vec<(ItemId, String)>, DbError> {
    pairs(
        conn,
        "SELECT id, name FROM base WHERE space = ?1 AND parent = ?2",
        params![space, dir.as_bytes()],
    )
}

fn pairs(
    conn: &Connection,
    sql: &str,
    args: &[&dyn rusqlite::ToSql],
) -> Result<Vec<(ItemId, String)>, DbError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(args)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((id(&row.get::<_, Vec<u8>>(0)?, "item id")?, row.get(1)?));
    }
    Ok(out)
}

/// Live items that do not stand on this disk are looked at once more.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn mark_absent(conn: &Connection, space: i64) -> Result<(), DbError> {
    conn.execute(
        "INSERT OR IGNORE INTO dirty(space, item, bytes) SELECT space, id, size FROM item i WHERE space = ?1 AND alive = 1
         AND NOT EXISTS (SELECT 1 FROM base b WHERE b.space = i.space AND b.id = i.id)",
        [space],
    )?;
    Ok(())
}

/// Entries that stand here under another name than in the mesh, with that name. Every local name holds
/// the first digits of its item's id, and the index is of such rows.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn renamed(
    conn: &Connection,
    space: i64,
    limit: u32,
) -> Result<Vec<(ItemId, String)>, DbError> {
    pairs(
        conn,
        "SELECT b.id, i.shown FROM base b CROSS JOIN item i ON i.space = b.space AND i.id = b.id
         WHERE b.space = ?1 AND instr(b.name, substr(lower(hex(b.id)), 1, 8)) > 0 AND i.alive = 1 AND i.shown <> b.name
         ORDER BY +b.id LIMIT ?2",
        params![space, limit],
    )
}

/// Live items that do not keep the name they claim, since another one has it.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn clashing(
    conn: &Connection,
    space: i64,
    limit: u32,
) -> Result<Vec<(ItemId, String)>, DbError> {
    pairs(
        conn,
        "SELECT id, name FROM item WHERE space = ?1 AND shown <> name ORDER BY +id LIMIT ?2",
        params![space, limit],
    )
}

/// Live symlinks that do not stand on this disk. A pass over all items: only where there can be none.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn absent_links(conn: &Connection, space: i64, limit: u32) -> Result<Vec<ItemId>, DbError> {
    ids(
        conn,
        "SELECT id FROM item i WHERE space = ?1 AND kind = ?2 AND alive = 1
         AND NOT EXISTS (SELECT 1 FROM base b WHERE b.space = i.space AND b.id = i.id) ORDER BY +id LIMIT ?3",
        params![space, kind_column(Kind::Symlink), limit],
    )
}

/// Live items in a directory whose ids begin so.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn tagged(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    tag: &[u8],
) -> Result<Vec<ItemId>, DbError> {
    let mut until = tag.to_vec();
    until.extend([0xff; 16]);
    ids(
        conn,
        "SELECT id FROM item WHERE space = ?1 AND id >= ?2 AND id <= ?3 AND alive = 1 AND ep = ?4 ORDER BY id",
        params![space, tag, until, dir.as_bytes()],
    )
}
