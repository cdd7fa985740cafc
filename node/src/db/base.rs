//! Base: what disk and mesh last agreed on, per item; the work that is left; where content lies.
//!
//! A row is written after the disk shows it and never before (ARCHITECTURE.md, order 2): a row that is lost
//! with a power failure is found again by comparing hashes, one that came too early would make the
//! next scan read an unfinished file as the user's edit.

use ownmesh_crdt::item::{Content, Seen};
use ownmesh_crdt::op::OpId;
use ownmesh_crypto::{ChunkId, ContentHash, ItemId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::items::{column_kind, kind_column};
use super::{DbError, id};
use crate::disk::base::{BaseError, BaseReader, BaseRow};
use crate::disk::hash::Chunk;
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

/// How many files stand on the disk.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn count(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached("SELECT count(*) FROM base WHERE space = ?1")?
        .query_row([space], |row| row.get(0))?;
    Ok(n.cast_unsigned())
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

/// Keeps the chunk list of a large content, and where each chunk lies in it.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_chunks(
    conn: &Connection,
    space: i64,
    hash: &ContentHash,
    chunks: &[Chunk],
) -> Result<(), DbError> {
    if chunks.is_empty() {
        return Ok(());
    }
    let mut list = Vec::with_capacity(chunks.len() * 36);
    let mut put = conn.prepare_cached("INSERT OR IGNORE INTO chunk VALUES(?1, ?2, ?3, ?4, ?5)")?;
    let mut offset = 0_i64;
    for chunk in chunks {
        list.extend_from_slice(chunk.id.as_bytes());
        list.extend_from_slice(&chunk.len.to_be_bytes());
        put.execute(params![
            space,
            chunk.id.as_bytes(),
            hash.as_bytes(),
            offset,
            chunk.len
        ])?;
        offset += i64::from(chunk.len);
    }
    conn.prepare_cached("INSERT OR REPLACE INTO content VALUES(?1, ?2, ?3)")?
        .execute(params![space, hash.as_bytes(), list])?;
    Ok(())
}

/// The chunk list of a large content.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn chunks(
    conn: &Connection,
    space: i64,
    hash: &ContentHash,
) -> Result<Option<Vec<Chunk>>, DbError> {
    let list: Option<Vec<u8>> = conn
        .prepare_cached("SELECT chunks FROM content WHERE space = ?1 AND hash = ?2")?
        .query_row(params![space, hash.as_bytes()], |row| row.get(0))
        .optional()?;
    list.map(|list| {
        list.chunks(36)
            .map(|c| {
                let c: &[u8; 36] = c.try_into().map_err(|_| DbError::Damaged("chunk list"))?;
                Ok(Chunk {
                    id: id(&c[..32], "chunk id")?,
                    len: u32::from_be_bytes([c[32], c[33], c[34], c[35]]),
                })
            })
            .collect()
    })
    .transpose()
}

/// Contents that hold a chunk, and where in them: `(content, offset, length)`.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn chunk_places(
    conn: &Connection,
    space: i64,
    chunk: &ChunkId,
) -> Result<Vec<(ContentHash, u64, u32)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT hash, offset, len FROM chunk WHERE space = ?1 AND id = ?2 LIMIT 8",
    )?;
    let mut rows = query.query(params![space, chunk.as_bytes()])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((
            id(&row.get::<_, Vec<u8>>(0)?, "content hash")?,
            row.get::<_, i64>(1)?.cast_unsigned(),
            row.get(2)?,
        ));
    }
    Ok(out)
}

/// Drops the chunk list of a content no file holds any more.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn drop_chunks(conn: &Connection, space: i64, hash: &ContentHash) -> Result<(), DbError> {
    let Some(list) = chunks(conn, space, hash)? else {
        return Ok(());
    };
    let mut drop =
        conn.prepare_cached("DELETE FROM chunk WHERE space = ?1 AND id = ?2 AND hash = ?3")?;
    for chunk in list {
        drop.execute(params![space, chunk.id.as_bytes(), hash.as_bytes()])?;
    }
    conn.prepare_cached("DELETE FROM content WHERE space = ?1 AND hash = ?2")?
        .execute(params![space, hash.as_bytes()])?;
    Ok(())
}

/// Notes that an item differs, or may differ, between mesh and disk.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn mark_dirty(conn: &Connection, space: i64, item: &ItemId, bytes: u64) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT INTO dirty(space, item, bytes) VALUES(?1, ?2, ?3) ON CONFLICT(space, item) DO UPDATE SET bytes = ?3",
    )?
    .execute(params![space, item.as_bytes(), bytes.cast_signed()])?;
    Ok(())
}

/// [`mark_dirty`] with a new number: those who read on from a number see it once more.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn mark_dirty_anew(
    conn: &Connection,
    space: i64,
    item: &ItemId,
    bytes: u64,
) -> Result<(), DbError> {
    clean(conn, space, item)?;
    mark_dirty(conn, space, item, bytes)
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

/// Items on the list after number `after`, in the order they came.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn dirty_after(
    conn: &Connection,
    space: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, ItemId)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT n, item FROM dirty WHERE space = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
    )?;
    let mut rows = query.query(params![
        space,
        after,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((row.get(0)?, id(&row.get::<_, Vec<u8>>(1)?, "item id")?));
    }
    Ok(out)
}

/// How many items are on the list, and their bytes.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn dirty_total(conn: &Connection, space: i64) -> Result<(u64, u64), DbError> {
    Ok(conn
        .prepare_cached("SELECT count(*), coalesce(sum(bytes), 0) FROM dirty WHERE space = ?1")?
        .query_row([space], |row| {
            Ok((
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get::<_, i64>(1)?.cast_unsigned(),
            ))
        })?)
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

fn ids(
    conn: &Connection,
    sql: &str,
    args: &[&dyn rusqlite::ToSql],
) -> Result<Vec<ItemId>, DbError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(args)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(id(&row.get::<_, Vec<u8>>(0)?, "item id")?);
    }
    Ok(out)
}

const DEAD: &str =
    "FROM dirty d CROSS JOIN item i ON i.space = d.space AND i.id = d.item AND i.alive = 0
     CROSS JOIN base b ON b.space = d.space AND b.id = d.item WHERE d.space = ?1";

/// Items that stand on the disk and are dead in the mesh.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn dirty_dead(conn: &Connection, space: i64) -> Result<Vec<ItemId>, DbError> {
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
pub fn any_dead_dirty(conn: &Connection, space: i64, after: i64) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached(&format!("SELECT 1 {DEAD} AND d.n > ?2 LIMIT 1"))?
        .exists([space, after])?)
}

/// The newest number on the list; 0 if it is empty.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn newest_dirty(conn: &Connection, space: i64) -> Result<i64, DbError> {
    let n: Option<i64> = conn
        .prepare_cached("SELECT n FROM dirty WHERE space = ?1 ORDER BY n DESC LIMIT 1")?
        .query_row([space], |row| row.get(0))
        .optional()?;
    Ok(n.unwrap_or(0))
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
pub fn put_placing(conn: &Connection, space: i64, p: &Placing) -> Result<(), DbError> {
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
pub fn placing(conn: &Connection, space: i64) -> Result<Vec<Placing>, DbError> {
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
pub fn placed(conn: &Connection, space: i64, item: &ItemId) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM placing WHERE space = ?1 AND id = ?2")?
        .execute(params![space, item.as_bytes()])?;
    Ok(())
}
