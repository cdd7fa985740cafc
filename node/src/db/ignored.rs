//! What the ignore rules of a space say, what they were found to cover, and what waits because of them.
//!
//! Kept, because a rule may end while no process runs: what went while it was ignored is no deletion
//! then, and what could be understood of a rule file holds on while it cannot.

use std::collections::BTreeSet;

use ownmesh_crypto::ItemId;
use rusqlite::{Connection, params};

use super::{DbError, ids};
use crate::disk::rules::{RuleFile, Texts};

/// An entry of base that the last look passed over.
const PASSED: i64 = 0;
/// An item whose difference between mesh and disk waits until it is ignored no more.
const WAITS: i64 = 1;

/// The content of an item that waits is not here, since this device's own rules keep it out.
const UNWANTED: i64 = 1;
/// It is not here, since something ignored has its name.
const BLOCKED: i64 = 2;

/// The rules as they were last understood.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn rules(conn: &Connection, space: i64) -> Result<Texts, DbError> {
    let mut query = conn.prepare_cached("SELECT file, text FROM rules WHERE space = ?1")?;
    let mut rows = query.query([space])?;
    let mut out = Texts::default();
    while let Some(row) = rows.next()? {
        match row.get::<_, i64>(0)? {
            0 => out.shared = row.get(1)?,
            _ => out.device = row.get(1)?,
        }
    }
    Ok(out)
}

/// Keeps them.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_rules(conn: &Connection, space: i64, texts: &Texts) -> Result<(), DbError> {
    for file in RuleFile::ALL {
        let number = i64::from(file == RuleFile::Device);
        conn.prepare_cached("INSERT OR REPLACE INTO rules VALUES(?1, ?2, ?3)")?
            .execute(params![space, number, texts.of(file)])?;
    }
    Ok(())
}

/// Entries that the last look passed over.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn passed(conn: &Connection, space: i64) -> Result<BTreeSet<ItemId>, DbError> {
    let found = ids(
        conn,
        "SELECT id FROM ignored WHERE space = ?1 AND why = ?2",
        &[&space, &PASSED],
    )?;
    Ok(found.into_iter().collect())
}

/// Keeps them; `all`: nothing else is passed over any more.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_passed(
    conn: &Connection,
    space: i64,
    passed: &BTreeSet<ItemId>,
    all: bool,
) -> Result<(), DbError> {
    if all {
        conn.prepare_cached("DELETE FROM ignored WHERE space = ?1 AND why = ?2")?
            .execute([space, PASSED])?;
    }
    for id in passed {
        conn.prepare_cached("INSERT OR IGNORE INTO ignored VALUES(?1, ?2, ?3, 0, 0)")?
            .execute(params![space, PASSED, id.as_bytes()])?;
    }
    Ok(())
}

/// Files of base that are ignored.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn files(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached(
            "WITH RECURSIVE below(id) AS (SELECT id FROM ignored WHERE space = ?1 AND why = ?2
             UNION SELECT b.id FROM below JOIN base b ON b.space = ?1 AND b.parent = below.id)
             SELECT count(*) FROM below JOIN base b ON b.space = ?1 AND b.id = below.id AND b.kind <> 1",
        )?
        .query_row([space, PASSED], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}

/// Takes an item off the list of what there is to do, until [`release`]. `lacking`: its bytes are not
/// here, and that is this device's choice alone.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn hold(conn: &Connection, space: i64, item: &ItemId, lacking: bool) -> Result<(), DbError> {
    put_waiting(conn, space, item, if lacking { UNWANTED } else { 0 })
}

/// [`hold`], of an item whose name something ignored has here.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn block(conn: &Connection, space: i64, item: &ItemId) -> Result<(), DbError> {
    put_waiting(conn, space, item, BLOCKED)
}

fn put_waiting(conn: &Connection, space: i64, item: &ItemId, lacking: i64) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO ignored(space, why, id, lacking, bytes)
         VALUES(?1, ?2, ?3, ?4, coalesce((SELECT bytes FROM dirty WHERE space = ?1 AND item = ?3), 0))",
    )?
    .execute(params![space, WAITS, item.as_bytes(), lacking])?;
    super::dirty::clean(conn, space, item)
}

/// Puts everything that waits back on the list. Returns whether there was anything.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn release(conn: &Connection, space: i64) -> Result<bool, DbError> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO dirty(space, item, bytes)
         SELECT space, id, bytes FROM ignored WHERE space = ?1 AND why = ?2",
    )?
    .execute([space, WAITS])?;
    let gone = conn
        .prepare_cached("DELETE FROM ignored WHERE space = ?1 AND why = ?2")?
        .execute([space, WAITS])?;
    Ok(gone > 0)
}

/// How many items are not here because of what is ignored on this device, and their bytes.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn lacking(conn: &Connection, space: i64) -> Result<(u64, u64), DbError> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM ignored
             WHERE space = ?1 AND why = ?2 AND lacking <> 0",
        )?
        .query_row([space, WAITS], |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get::<_, i64>(1)?.cast_unsigned(),
            ))
        })?)
}

/// Those of them that this device's own rules keep out: it will not ask for them.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn unwanted(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM ignored WHERE space = ?1 AND why = ?2 AND lacking = ?3",
        )?
        .query_row([space, WAITS, UNWANTED], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}

/// How many items wait because they are ignored.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn waiting(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached("SELECT count(*) FROM ignored WHERE space = ?1 AND why = ?2")?
        .query_row([space, WAITS], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}
