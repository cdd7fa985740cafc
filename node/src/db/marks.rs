//! Single values, registry statements and known addresses.

use ownmesh_crypto::{DeviceId, StatementHash};
use rusqlite::{Connection, OptionalExtension, params};

use super::DbError;

/// Reads a value.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn get(conn: &Connection, key: &str) -> Result<Option<Vec<u8>>, DbError> {
    Ok(conn
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}

/// Writes a value.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put(conn: &Connection, key: &str, value: &[u8]) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta VALUES(?1, ?2)")?
        .execute(params![key, value])?;
    Ok(())
}

/// Counts a number up.
pub(super) fn count(conn: &Connection, key: &str) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT INTO meta VALUES(?1, 1) ON CONFLICT(key) DO UPDATE SET value = value + 1",
    )?
    .execute([key])?;
    Ok(())
}

/// Keeps one registry statement.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_statement(conn: &Connection, bytes: &[u8]) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR IGNORE INTO statement VALUES(?1, ?2)")?
        .execute(params![StatementHash::of(bytes).as_bytes(), bytes])?;
    Ok(())
}

/// All registry statements, in no order that means anything.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn statements(conn: &Connection) -> Result<Vec<Vec<u8>>, DbError> {
    let mut query = conn.prepare_cached("SELECT bytes FROM statement ORDER BY hash")?;
    let rows = query.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Remembers where a device was reached, keeping the newest four.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_address(
    conn: &Connection,
    device: &DeviceId,
    address: &str,
    used: i64,
) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR REPLACE INTO address VALUES(?1, ?2, ?3)")?
        .execute(params![device.as_bytes(), address, used])?;
    conn.prepare_cached(
        "DELETE FROM address WHERE device = ?1 AND address NOT IN
         (SELECT address FROM address WHERE device = ?1 ORDER BY used DESC LIMIT 4)",
    )?
    .execute([device.as_bytes()])?;
    Ok(())
}

/// Where a device was reached, newest first.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn addresses(conn: &Connection, device: &DeviceId) -> Result<Vec<String>, DbError> {
    let mut query =
        conn.prepare_cached("SELECT address FROM address WHERE device = ?1 ORDER BY used DESC")?;
    let rows = query.query_map([device.as_bytes()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
