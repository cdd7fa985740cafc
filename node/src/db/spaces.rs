//! The spaces this device takes part in, and what it has heard from others about them.

use ownmesh_crypto::{DeviceId, SpaceId};
use rusqlite::{Connection, Row, params};

use super::{DbError, id};

/// One joined space.
#[derive(Clone, Debug)]
pub struct SpaceRow {
    /// Row number, the `space` column of every other table.
    pub n: i64,
    /// The space.
    pub id: SpaceId,
    /// Its folder here, absolute.
    pub path: String,
    /// How this device takes part (0 full, 1 on-demand, 2 send-only, 3 receive-only).
    pub mode: u8,
    /// Filesystem the folder lay on when it was added.
    pub fs: u64,
    /// Why the space stands still, if it does.
    pub stopped: Option<String>,
    /// Group of deletions in progress and when it last grew (Unix ms).
    pub act: Option<([u8; 8], i64)>,
    /// Whether its folder had files in it when it joined and was not looked at as a whole since.
    pub merging: bool,
    /// Live items, live files and their bytes in the mesh's tree.
    pub totals: Totals,
}

/// What the mesh's tree of a space holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Live files, directories and symlinks.
    pub items: i64,
    /// Live files.
    pub files: i64,
    /// Their bytes.
    pub bytes: i64,
}

fn space(row: &Row<'_>) -> Result<SpaceRow, DbError> {
    let act: Option<Vec<u8>> = row.get("act")?;
    let act_at: i64 = row.get("act_at")?;
    Ok(SpaceRow {
        n: row.get("n")?,
        id: id(&row.get::<_, Vec<u8>>("id")?, "space id")?,
        path: row.get("path")?,
        mode: row.get("mode")?,
        fs: row.get::<_, i64>("fs")?.cast_unsigned(),
        stopped: row.get("stopped")?,
        act: act.and_then(|a| Some((a.try_into().ok()?, act_at))),
        merging: row.get("merging")?,
        totals: Totals {
            items: row.get("items")?,
            files: row.get("files")?,
            bytes: row.get("bytes")?,
        },
    })
}

/// All joined spaces.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn all(conn: &Connection) -> Result<Vec<SpaceRow>, DbError> {
    let mut query = conn.prepare_cached("SELECT * FROM space ORDER BY n")?;
    let mut rows = query.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(space(row)?);
    }
    Ok(out)
}

/// Adds a space; returns its row number. If its folder has files in it, it stands still from the start
/// and `stopped` says why: they are merged with what the mesh has when it goes on.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn add(
    conn: &Connection,
    id: &SpaceId,
    path: &str,
    mode: u8,
    fs: u64,
    stopped: Option<&str>,
) -> Result<i64, DbError> {
    conn.execute(
        "INSERT INTO space(id, path, mode, fs, stopped, merging) VALUES(?1, ?2, ?3, ?4, ?5, ?5 IS NOT NULL)",
        params![id.as_bytes(), path, mode, fs.cast_signed(), stopped],
    )?;
    Ok(conn.last_insert_rowid())
}

/// Forgets everything about a space. The folder is not touched.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn forget(conn: &Connection, n: i64) -> Result<(), DbError> {
    conn.execute(
        "DELETE FROM batch WHERE log IN (SELECT n FROM log WHERE space = ?1)",
        [n],
    )?;
    for table in [
        "member",
        "log",
        "ack",
        "outbox",
        "pending",
        "quarantine",
        "item",
        "base",
        "content",
        "chunk",
        "dirty",
        "placing",
        "rules",
        "ignored",
    ] {
        conn.execute(&format!("DELETE FROM {table} WHERE space = ?1"), [n])?;
    }
    conn.execute(
        "DELETE FROM meta WHERE key = ?1",
        [crate::engine::local::key(n)],
    )?;
    conn.execute("DELETE FROM space WHERE n = ?1", [n])?;
    Ok(())
}

/// Writes the columns that change.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn update(conn: &Connection, row: &SpaceRow) -> Result<(), DbError> {
    conn.prepare_cached(
        "UPDATE space SET mode = ?2, fs = ?3, stopped = ?4, act = ?5, act_at = ?6, items = ?7, files = ?8,
         bytes = ?9, merging = ?10 WHERE n = ?1",
    )?
    .execute(params![
        row.n,
        row.mode,
        row.fs.cast_signed(),
        row.stopped,
        row.act.map(|a| a.0),
        row.act.map_or(0, |a| a.1),
        row.totals.items,
        row.totals.files,
        row.totals.bytes,
        row.merging
    ])?;
    Ok(())
}

/// What a device last said about its copy of a space.
#[derive(Clone, Debug)]
pub struct Member {
    /// Whose copy.
    pub device: DeviceId,
    /// Whether it takes part.
    pub joined: bool,
    /// Items it knows of whose content it lacks.
    pub missing: u64,
    /// Their bytes.
    pub missing_bytes: u64,
    /// Items it knows.
    pub items: u64,
    /// When it said so (Unix ms).
    pub heard: i64,
}

/// Keeps what a device said.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_member(conn: &Connection, n: i64, m: &Member) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR REPLACE INTO member VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            n,
            m.device.as_bytes(),
            m.joined,
            m.missing.cast_signed(),
            m.missing_bytes.cast_signed(),
            m.items.cast_signed(),
            m.heard
        ])?;
    Ok(())
}

/// When somebody last said something about any space, by this device's clock (Unix ms).
///
/// # Errors
/// Fails if the database cannot be read.
pub fn newest_word(conn: &Connection) -> Result<Option<i64>, DbError> {
    Ok(conn.query_row("SELECT max(heard) FROM member", [], |row| row.get(0))?)
}

/// Everybody who said something about a space.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn members(conn: &Connection, n: i64) -> Result<Vec<Member>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT device, joined, missing, missing_bytes, items, heard FROM member WHERE space = ?1 ORDER BY device",
    )?;
    let mut rows = query.query([n])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(Member {
            device: id(&row.get::<_, Vec<u8>>(0)?, "device id")?,
            joined: row.get(1)?,
            missing: row.get::<_, i64>(2)?.cast_unsigned(),
            missing_bytes: row.get::<_, i64>(3)?.cast_unsigned(),
            items: row.get::<_, i64>(4)?.cast_unsigned(),
            heard: row.get(5)?,
        });
    }
    Ok(out)
}
