//! Base: what disk and mesh last agreed on, per item.
//!
//! A row is written after the disk shows it and never before (ARCHITECTURE.md, order 2): a row that is lost
//! with a power failure is found again by comparing hashes, one that came too early would make the
//! next scan read an unfinished file as the user's edit.

use ownmesh_crdt::item::{Content, Seen};
use ownmesh_crdt::op::OpId;
use ownmesh_crypto::{ContentHash, ItemId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::items::{column_kind, kind_column};
use super::{DbError, id, ids};
use crate::disk::base::{BaseError, BaseReader, BaseRow};
pub use crate::disk::perform::nowhere;
use crate::disk::{RelPath, Stat};

/// A base row with what was asked of the disk, which a filesystem may have rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// The row as a scan compares it.
    pub row: BaseRow,
    /// Mode that was asked for.
    pub asked_mode: u32,
    /// mtime that was asked for, ns.
    pub asked_mtime: i64,
}

/// Read by number, see `items`.
const ROW: &str = "id, main, main_counter, main_actor, parent, name, kind, content, seen, mode, mtime, \
     asked_mode, asked_mtime, size, ctime, ino, dev, racy";

fn base(row: &Row<'_>) -> Result<Base, DbError> {
    let main: Option<Vec<u8>> = row.get(1)?;
    let content: Option<Vec<u8>> = row.get(7)?;
    let seen: Vec<u8> = row.get(8)?;
    let copy_of = match main {
        Some(main) => Some((
            id::<ItemId>(&main, "item id")?,
            OpId {
                counter: row.get::<_, i64>(2)?.cast_unsigned(),
                actor: id(&row.get::<_, Vec<u8>>(3)?, "incarnation")?,
            },
        )),
        None => None,
    };
    let mtime = row.get(10)?;
    Ok(Base {
        row: BaseRow {
            id: id(&row.get::<_, Vec<u8>>(0)?, "item id")?,
            copy_of,
            parent: id(&row.get::<_, Vec<u8>>(4)?, "item id")?,
            name: row.get(5)?,
            kind: column_kind(row.get(6)?)?,
            content: content
                .map(|c| Content::decode(&c).ok_or(DbError::Damaged("content column")))
                .transpose()?,
            seen: minicbor::decode::<Seen>(&seen).map_err(|_| DbError::Damaged("seen column"))?,
            mode: row.get(9)?,
            mtime,
            stat: Stat {
                size: row.get::<_, i64>(13)?.cast_unsigned(),
                mtime_ns: mtime,
                ctime_ns: row.get(14)?,
                ino: row.get::<_, i64>(15)?.cast_unsigned(),
                dev: row.get::<_, i64>(16)?.cast_unsigned(),
            },
            racy: row.get(17)?,
        },
        asked_mode: row.get(11)?,
        asked_mtime: row.get(12)?,
    })
}

fn rows(conn: &Connection, sql: &str, args: &[&dyn rusqlite::ToSql]) -> Result<Vec<Base>, DbError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(args)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(base(row)?);
    }
    Ok(out)
}

/// The row of an item or copy.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn get(conn: &Connection, space: i64, item: &ItemId) -> Result<Option<Base>, DbError> {
    Ok(rows(
        conn,
        &format!("SELECT {ROW} FROM base WHERE space = ?1 AND id = ?2"),
        &[&space, item.as_bytes()],
    )?
    .pop())
}

/// What stands in a directory under a name.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn at(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
) -> Result<Option<Base>, DbError> {
    Ok(rows(
        conn,
        &format!("SELECT {ROW} FROM base WHERE space = ?1 AND parent = ?2 AND name = ?3"),
        &[&space, dir.as_bytes(), &name],
    )?
    .pop())
}

/// The conflict copies of an item.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn copies(conn: &Connection, space: i64, main: &ItemId) -> Result<Vec<Base>, DbError> {
    rows(
        conn,
        &format!("SELECT {ROW} FROM base WHERE space = ?1 AND main = ?2 ORDER BY +id"),
        &[&space, main.as_bytes()],
    )
}

/// Rows whose file holds this content.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn holding(
    conn: &Connection,
    space: i64,
    hash: &ContentHash,
    limit: usize,
) -> Result<Vec<Base>, DbError> {
    rows(
        conn,
        &format!("SELECT {ROW} FROM base WHERE space = ?1 AND hash = ?2 LIMIT ?3"),
        &[
            &space,
            hash.as_bytes(),
            &i64::try_from(limit).unwrap_or(i64::MAX),
        ],
    )
}

/// Whether anything stands in a directory.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn has_children(conn: &Connection, space: i64, dir: &ItemId) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM base WHERE space = ?1 AND parent = ?2 LIMIT 1")?
        .exists(params![space, dir.as_bytes()])?)
}

/// Writes a row.
///
/// # Errors
/// Fails if the database cannot be written; two rows for one path are refused.
pub fn put(conn: &Connection, space: i64, b: &Base) -> Result<(), DbError> {
    let r = &b.row;
    let hash = match &r.content {
        Some(Content::File { hash, .. }) => Some(*hash.as_bytes()),
        _ => None,
    };
    let seen = minicbor::to_vec(&r.seen).map_err(|_| DbError::Damaged("seen operations"))?;
    conn.prepare_cached(
        "INSERT INTO base(space, id, main, main_counter, main_actor, parent, name, kind, content, hash, seen, mode, mtime,
         asked_mode, asked_mtime, size, ctime, ino, dev, racy)
         VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)
         ON CONFLICT(space, id) DO UPDATE SET main=?3, main_counter=?4, main_actor=?5, parent=?6, name=?7, kind=?8, content=?9,
         hash=?10, seen=?11, mode=?12, mtime=?13, asked_mode=?14, asked_mtime=?15, size=?16, ctime=?17, ino=?18, dev=?19, racy=?20",
    )?
    .execute(params![
        space,
        r.id.as_bytes(),
        r.copy_of.map(|c| *c.0.as_bytes()),
        r.copy_of.map(|c| c.1.counter.cast_signed()),
        r.copy_of.map(|c| *c.1.actor.as_bytes()),
        r.parent.as_bytes(),
        r.name,
        kind_column(r.kind),
        r.content.as_ref().map(Content::encode),
        hash,
        seen,
        r.mode,
        r.mtime,
        b.asked_mode,
        b.asked_mtime,
        r.stat.size.cast_signed(),
        r.stat.ctime_ns,
        r.stat.ino.cast_signed(),
        r.stat.dev.cast_signed(),
        r.racy
    ])?;
    Ok(())
}

/// Has the next scan read again every file that a queued own change is about.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn doubt_outbox(conn: &Connection, space: i64) -> Result<(), DbError> {
    conn.prepare_cached(
        "UPDATE base SET racy = 1 WHERE space = ?1 AND id IN (SELECT item FROM outbox WHERE space = ?1)",
    )?
    .execute([space])?;
    Ok(())
}

/// Removes a row.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn remove(conn: &Connection, space: i64, item: &ItemId) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM base WHERE space = ?1 AND id = ?2")?
        .execute(params![space, item.as_bytes()])?;
    Ok(())
}

/// Where an item stands on this disk; `None` if it or a directory above it does not.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn path(conn: &Connection, space: i64, item: &ItemId) -> Result<Option<RelPath>, DbError> {
    let mut names = Vec::new();
    let mut at = *item;
    let mut query =
        conn.prepare_cached("SELECT parent, name FROM base WHERE space = ?1 AND id = ?2")?;
    // Directory trees on disk are finite; the bound only stops a damaged table.
    for _ in 0..4_096 {
        if at == ItemId::ROOT {
            names.reverse();
            return RelPath::parse(&names.join("/"))
                .map(Some)
                .map_err(|_| DbError::Damaged("name column"));
        }
        let found: Option<(Vec<u8>, String)> = query
            .query_row(params![space, at.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((parent, name)) = found else {
            return Ok(None);
        };
        names.push(name);
        at = id(&parent, "item id")?;
    }
    Err(DbError::Damaged("directory chain"))
}

/// Entries whose directory has no row: none, as long as every step is settled with those it rests on.
pub fn orphans(conn: &Connection, space: i64) -> Result<Vec<ItemId>, DbError> {
    ids(
        conn,
        "SELECT id FROM base b WHERE space = ?1 AND parent <> ?2 AND NOT EXISTS
         (SELECT 1 FROM base up WHERE up.space = b.space AND up.id = b.parent)",
        &[&space, ItemId::ROOT.as_bytes()],
    )
}

/// Reads base for a scan.
#[derive(Debug)]
pub struct Reader<'a> {
    /// Connection to read through.
    pub conn: &'a Connection,
    /// Space row.
    pub space: i64,
}

impl BaseReader for Reader<'_> {
    fn children(&self, dir: &ItemId) -> Result<Vec<BaseRow>, BaseError> {
        Ok(rows(
            self.conn,
            &format!("SELECT {ROW} FROM base WHERE space = ?1 AND parent = ?2"),
            &[&self.space, dir.as_bytes()],
        )
        .map_err(BaseError::new)?
        .into_iter()
        .map(|b| b.row)
        .collect())
    }

    fn by_inode(&self, dev: u64, ino: u64) -> Result<Option<BaseRow>, BaseError> {
        Ok(rows(
            self.conn,
            &format!("SELECT {ROW} FROM base WHERE space = ?1 AND ino = ?2 AND dev = ?3 LIMIT 1"),
            &[&self.space, &ino.cast_signed(), &dev.cast_signed()],
        )
        .map_err(BaseError::new)?
        .pop()
        .map(|b| b.row))
    }

    fn get(&self, item: &ItemId) -> Result<Option<BaseRow>, BaseError> {
        Ok(get(self.conn, self.space, item)
            .map_err(BaseError::new)?
            .map(|b| b.row))
    }

    fn path_of(&self, item: &ItemId) -> Result<Option<RelPath>, BaseError> {
        path(self.conn, self.space, item).map_err(BaseError::new)
    }
}

/// [`nowhere`] of an entry that makes room for another; or of that one, if a user gave it this very name.
pub fn aside(id: &ItemId, other: &ItemId, name: &str) -> String {
    let aside = nowhere(id);
    if aside == name { nowhere(other) } else { aside }
}

/// Entries that stand in a directory.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn child_ids(conn: &Connection, space: i64, dir: &ItemId) -> Result<Vec<ItemId>, DbError> {
    ids(
        conn,
        "SELECT id FROM base WHERE space = ?1 AND parent = ?2",
        &[&space, dir.as_bytes()],
    )
}

/// Files on the disk.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn files(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached("SELECT count(*) FROM base WHERE space = ?1 AND kind <> 1")?
        .query_row([space], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}

/// How many directories stand on this disk, over all spaces.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn directories(conn: &Connection) -> Result<u64, DbError> {
    let dir = kind_column(ownmesh_crdt::item::Kind::Dir);
    let count = "SELECT count(*) FROM base WHERE kind = ?1";
    let n: i64 = conn.query_row(count, [dir], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}
