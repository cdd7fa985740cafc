//! What the user told this device alone: which spaces wait, which devices it does not talk to, how
//! fast it may be. Rows of the `meta` table; none of it travels.

use ownmesh_crdt::item::Content;
use ownmesh_crypto::{DeviceId, ItemId, SpaceId};
use rusqlite::{Connection, params};

use super::{DbError, marks};

const PAUSE: &str = "pause/";
const BLOCK: &str = "block/";
const CARRIED: &str = "carried/";
const LIMITS: &str = "limits";

/// The spaces that wait, and until when (Unix ms; nothing: until they are told to go on).
///
/// # Errors
/// Fails if the database cannot be read.
pub fn pauses(conn: &Connection) -> Result<Vec<(SpaceId, Option<i64>)>, DbError> {
    let until = |value: Vec<u8>| value.try_into().ok().map(i64::from_be_bytes);
    Ok(named(conn, PAUSE)?
        .into_iter()
        .filter_map(|(id, value)| Some((id.parse().ok()?, until(value))))
        .collect())
}

/// Notes that a space waits.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn pause(conn: &Connection, space: &SpaceId, until: Option<i64>) -> Result<(), DbError> {
    let until = until.map(i64::to_be_bytes);
    let until = until.as_ref().map_or(&[][..], |u| &u[..]);
    marks::put(conn, &format!("{PAUSE}{space}"), until)
}

/// Notes that it goes on.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn unpause(conn: &Connection, space: &SpaceId) -> Result<(), DbError> {
    remove(conn, &format!("{PAUSE}{space}"))
}

/// What had been deleted here already of the deletions that a stopped space asks about, and what it held.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn carried(
    conn: &Connection,
    space: &SpaceId,
) -> Result<Vec<(ItemId, Option<Content>)>, DbError> {
    let bytes = marks::get(conn, &format!("{CARRIED}{space}"))?.unwrap_or_default();
    let (mut rest, mut out) = (bytes.as_slice(), Vec::new());
    while let Some((id, more)) = rest.split_first_chunk() {
        let part = more
            .split_first_chunk()
            .and_then(|(len, more)| more.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        // It only adds to a question: a damaged one does not keep a node from starting.
        let Some((content, more)) = part else { break };
        out.push((ItemId::from_bytes(*id), Content::decode(content)));
        rest = more;
    }
    Ok(out)
}

/// Notes it; nothing if there is none.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_carried<'a>(
    conn: &Connection,
    space: &SpaceId,
    items: impl IntoIterator<Item = (ItemId, Option<&'a Content>)>,
) -> Result<(), DbError> {
    let key = format!("{CARRIED}{space}");
    let mut bytes = Vec::new();
    for (id, content) in items {
        let content = content.map(Content::encode).unwrap_or_default();
        let len = u16::try_from(content.len()).map_err(|_| DbError::Damaged("a content"))?;
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&content);
    }
    if bytes.is_empty() {
        return remove(conn, &key);
    }
    marks::put(conn, &key, &bytes)
}

/// The devices that are not talked to.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn blocked(conn: &Connection) -> Result<Vec<DeviceId>, DbError> {
    let found = named(conn, BLOCK)?;
    Ok(found
        .into_iter()
        .filter_map(|(id, _)| id.parse().ok())
        .collect())
}

/// Notes whether a device is talked to.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn block(conn: &Connection, device: &DeviceId, blocked: bool) -> Result<(), DbError> {
    let key = format!("{BLOCK}{device}");
    if blocked {
        marks::put(conn, &key, &[])
    } else {
        remove(conn, &key)
    }
}

/// The limits as they were put, if any were.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn limits(conn: &Connection) -> Result<Option<Vec<u8>>, DbError> {
    marks::get(conn, LIMITS)
}

/// Keeps the limits.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_limits(conn: &Connection, limits: &[u8]) -> Result<(), DbError> {
    marks::put(conn, LIMITS, limits)
}

fn remove(conn: &Connection, key: &str) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM meta WHERE key = ?1")?
        .execute([key])?;
    Ok(())
}

/// What follows the prefix in the keys that begin with it, and their values.
fn named(conn: &Connection, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT substr(key, ?2), value FROM meta WHERE substr(key, 1, ?2 - 1) = ?1 ORDER BY key",
    )?;
    let from = i64::try_from(prefix.len() + 1).unwrap_or(i64::MAX);
    let rows = query.query_map(params![prefix, from], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn what_was_told_is_kept_and_forgotten() {
        let mut db = Db::memory().unwrap();
        let (space, device) = (SpaceId::from_bytes([1; 16]), DeviceId::from_bytes([2; 16]));
        let other = SpaceId::from_bytes([3; 16]);
        db.write(|tx| {
            pause(tx, &space, None)?;
            pause(tx, &other, Some(7))?;
            block(tx, &device, true)
        })
        .unwrap();
        assert_eq!(
            pauses(db.read()).unwrap(),
            [(space, None), (other, Some(7))]
        );
        assert_eq!(blocked(db.read()).unwrap(), [device]);
        db.write(|tx| {
            unpause(tx, &space)?;
            block(tx, &device, false)
        })
        .unwrap();
        assert_eq!(pauses(db.read()).unwrap(), [(other, Some(7))]);
        assert!(blocked(db.read()).unwrap().is_empty());
    }
}
