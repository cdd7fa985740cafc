//! The work that is left: items that differ, or may differ, between mesh and disk.
//!
//! An item too many costs one look. One that is missing here would never come to the disk, so what
//! changes an item's place, life or content marks it in the same transaction.

use ownmesh_crypto::ItemId;
use rusqlite::{Connection, OptionalExtension, Rows, params};

use super::{DbError, id, ids};

/// Notes that an item differs, or may differ, between mesh and disk.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn mark(conn: &Connection, space: i64, item: &ItemId, bytes: u64) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT INTO dirty(space, item, bytes) VALUES(?1, ?2, ?3) ON CONFLICT(space, item) DO UPDATE SET bytes = ?3",
    )?
    .execute(params![space, item.as_bytes(), bytes.cast_signed()])?;
    Ok(())
}

/// [`mark`] with a new number: those who read on from a number see it once more.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn mark_anew(conn: &Connection, space: i64, item: &ItemId, bytes: u64) -> Result<(), DbError> {
    clean(conn, space, item)?;
    mark(conn, space, item, bytes)
}

/// Takes an item off the list.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn clean(conn: &Connection, space: i64, item: &ItemId) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM dirty WHERE space = ?1 AND item = ?2")?
        .execute(params![space, item.as_bytes()])?;
    Ok(())
}

/// Whether an item is on the list.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn has(conn: &Connection, space: i64, item: &ItemId) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM dirty WHERE space = ?1 AND item = ?2")?
        .exists(params![space, item.as_bytes()])?)
}

/// Items on the list after number `after`, in the order they came.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn after(
    conn: &Connection,
    space: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, ItemId)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT n, item FROM dirty WHERE space = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
    )?;
    listed(query.query(params![
        space,
        after,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?)
}

fn listed(mut rows: Rows<'_>) -> Result<Vec<(i64, ItemId)>, DbError> {
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((row.get(0)?, id(&row.get::<_, Vec<u8>>(1)?, "item id")?));
    }
    Ok(out)
}

/// Items with little content on the list after number `after`, the newest first.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn small(
    conn: &Connection,
    space: i64,
    after: i64,
    bytes: u64,
    limit: usize,
) -> Result<Vec<(i64, ItemId)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT n, item FROM dirty WHERE n > ?2 AND space = ?1 AND bytes BETWEEN 1 AND ?3 ORDER BY n DESC LIMIT ?4",
    )?;
    listed(query.query(params![
        space,
        after,
        bytes.cast_signed(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?)
}

/// How many items are on the list, and their bytes.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn total(conn: &Connection, space: i64) -> Result<(u64, u64), DbError> {
    Ok(conn
        .prepare_cached("SELECT count(*), coalesce(sum(bytes), 0) FROM dirty WHERE space = ?1")?
        .query_row([space], |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get::<_, i64>(1)?.cast_unsigned(),
            ))
        })?)
}

/// The newest number on the list; 0 if it is empty.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn newest(conn: &Connection, space: i64) -> Result<i64, DbError> {
    let n: Option<i64> = conn
        .prepare_cached("SELECT n FROM dirty WHERE space = ?1 ORDER BY n DESC LIMIT 1")?
        .query_row([space], |row| row.get(0))
        .optional()?;
    Ok(n.unwrap_or(0))
}

const DEAD: &str =
    "FROM dirty d CROSS JOIN item i ON i.space = d.space AND i.id = d.item AND i.alive = 0
     CROSS JOIN base b ON b.space = d.space AND b.id = d.item WHERE d.space = ?1";

/// Items that stand on the disk and are dead in the mesh.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn dead(conn: &Connection, space: i64) -> Result<Vec<ItemId>, DbError> {
    ids(
        conn,
        &format!("SELECT d.item {DEAD} ORDER BY d.n"),
        &[&space],
    )
}

/// Whether there is one with a number above `after`.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn any_dead(conn: &Connection, space: i64, after: i64) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached(&format!("SELECT 1 {DEAD} AND d.n > ?2 LIMIT 1"))?
        .exists([space, after])?)
}
