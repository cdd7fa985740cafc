//! Steps under way on the disk, noted before they are taken, with what base is to say afterwards.
//!
//! After a crash `engine::recover` looks at every one of them before the first scan: a step that was
//! taken and not noted would be read as the user's edit (ARCHITECTURE.md, order 2). The row says by
//! itself what the step puts where: the mesh may have moved or deleted the item by then.

use ownmesh_crdt::item::{Content, Kind, Seen};
use ownmesh_crdt::op::OpId;
use ownmesh_crypto::ItemId;
use rusqlite::{Connection, params};

use super::items::{column_kind, kind_column};
use super::{DbError, id};

/// One entry as the disk is to show it: an item itself, or one of its conflict copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The entry.
    pub id: ItemId,
    /// Of a copy: its item, and the operation whose content it shows.
    pub copy_of: Option<(ItemId, OpId)>,
    /// The directory it is in.
    pub parent: ItemId,
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What is in it; none for a directory.
    pub content: Option<Content>,
    /// What a disk written from this has seen.
    pub seen: Seen,
    /// Permission bits.
    pub mode: u32,
    /// `None`: whatever it is now (directories; copies, whose time nobody recorded).
    pub mtime: Option<i64>,
}

impl Wanted {
    /// Bytes of its content.
    pub(crate) fn bytes(&self) -> u64 {
        match self.content {
            Some(Content::File { size, .. }) => size,
            _ => 0,
        }
    }
}

/// One step under way on the disk.
#[derive(Clone, Debug)]
pub struct Placing {
    /// Item or copy.
    pub id: ItemId,
    /// Item whose plan it belongs to.
    pub item: ItemId,
    /// Inode number of what the step puts there, if it is known before: any other one is the user's.
    pub ino: Option<u64>,
    /// What the disk shows once the step is taken; nothing if the step takes something away.
    pub wanted: Option<Wanted>,
}

/// Notes a step before it is taken.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put(conn: &Connection, space: i64, p: &Placing) -> Result<(), DbError> {
    let w = p.wanted.as_ref();
    let seen = w
        .map(|w| minicbor::to_vec(&w.seen))
        .transpose()
        .map_err(|_| DbError::Damaged("seen operations"))?;
    let copy_of = w.and_then(|w| w.copy_of);
    conn.prepare_cached(
        "INSERT OR REPLACE INTO placing VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(params![
        space,
        p.id.as_bytes(),
        p.item.as_bytes(),
        p.ino.map(u64::cast_signed),
        w.map(|w| *w.parent.as_bytes()),
        w.map(|w| &w.name),
        w.map(|w| kind_column(w.kind)),
        w.and_then(|w| w.content.as_ref()).map(Content::encode),
        seen,
        w.map(|w| w.mode),
        w.and_then(|w| w.mtime),
        copy_of.map(|c| *c.0.as_bytes()),
        copy_of.map(|c| c.1.counter.cast_signed()),
        copy_of.map(|c| *c.1.actor.as_bytes()),
    ])?;
    Ok(())
}

/// Steps that were under way.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn all(conn: &Connection, space: i64) -> Result<Vec<Placing>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT id, item, ino, parent, name, kind, content, seen, mode, mtime,
         main, main_counter, main_actor FROM placing WHERE space = ?1 ORDER BY id",
    )?;
    let mut rows = query.query([space])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let entry = id(&row.get::<_, Vec<u8>>(0)?, "item id")?;
        let parent: Option<Vec<u8>> = row.get(3)?;
        let wanted = match parent {
            Some(parent) => {
                let content: Option<Vec<u8>> = row.get(6)?;
                let main: Option<Vec<u8>> = row.get(10)?;
                let copy_of = match main {
                    Some(main) => Some((
                        id(&main, "item id")?,
                        OpId {
                            counter: row.get::<_, i64>(11)?.cast_unsigned(),
                            actor: id(&row.get::<_, Vec<u8>>(12)?, "incarnation")?,
                        },
                    )),
                    None => None,
                };
                Some(Wanted {
                    id: entry,
                    copy_of,
                    parent: id(&parent, "item id")?,
                    name: row.get(4)?,
                    kind: column_kind(row.get(5)?)?,
                    content: content
                        .map(|c| Content::decode(&c).ok_or(DbError::Damaged("content column")))
                        .transpose()?,
                    seen: minicbor::decode(&row.get::<_, Vec<u8>>(7)?)
                        .map_err(|_| DbError::Damaged("seen column"))?,
                    mode: row.get(8)?,
                    mtime: row.get(9)?,
                })
            }
            None => None,
        };
        out.push(Placing {
            id: entry,
            item: id(&row.get::<_, Vec<u8>>(1)?, "item id")?,
            ino: row.get::<_, Option<i64>>(2)?.map(i64::cast_unsigned),
            wanted,
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
