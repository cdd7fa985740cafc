//! Items: each row is a document (heads, registers, changes) and its place in the mesh's tree.
//!
//! The tree columns are derived from documents alone and kept up to date by `engine::docs`:
//! `up`/`name` the winning place, `ep` the directory it really hangs in (after cycles are cut;
//! NULL while that directory's document has not arrived), `alive`, `kids` (live items in it),
//! `shown` (the name on every device's disk; NULL when not alive).

use ownmesh_crdt::doc::{ActorSeq, ChangeHash, ItemDoc};
use ownmesh_crdt::item::Kind;
use ownmesh_crdt::op::{OpId, Registers};
use ownmesh_crypto::{Incarnation, ItemId};
use rusqlite::{Connection, Row, params};

use super::{DbError, id};

/// The tree columns of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Winning place: parent and name; `None` until the document says.
    pub up: Option<(ItemId, String)>,
    /// Kind; `None` until the document says.
    pub kind: Option<Kind>,
    /// Directory it hangs in.
    pub ep: Option<ItemId>,
    /// Whether it is part of the tree.
    pub alive: bool,
    /// Live items hanging in it.
    pub kids: i64,
    /// Name on disk.
    pub shown: Option<String>,
    /// Operation that placed it.
    pub since: Option<OpId>,
    /// Bytes of the winning content.
    pub size: u64,
    /// Losing versions kept beside it.
    pub conflict: u32,
    /// Whether its document says deleted; a directory with live items in it is alive all the same.
    pub deleted: bool,
}

/// One item.
#[derive(Clone, Debug, Default)]
pub struct ItemRow {
    /// Row number; 0 for one not yet stored.
    pub k: i64,
    /// Item.
    pub id: Option<ItemId>,
    /// Its place.
    pub spot: Spot,
    /// Its document.
    pub doc: ItemDoc,
}

/// Columns are read by number: looking their names up took a tenth of the time of a first sync.
const SPOT: &str = "k, id, up, name, kind, ep, alive, kids, shown, since_counter, since_actor, size, conflict, deleted";
const FULL: &str = "k, id, up, name, kind, ep, alive, kids, shown, since_counter, since_actor, size, conflict, deleted, \
     heads, actors, regs, changes, body";

fn opt_id<T: for<'a> TryFrom<&'a [u8]>>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
) -> Result<Option<T>, DbError> {
    row.get::<_, Option<Vec<u8>>>(column)?
        .map(|b| id(&b, what))
        .transpose()
}

/// Kind as its column.
#[must_use]
pub fn kind_column(kind: Kind) -> i64 {
    match kind {
        Kind::File => 0,
        Kind::Dir => 1,
        Kind::Symlink => 2,
    }
}

/// Column as kind.
///
/// # Errors
/// Fails for a number no version wrote.
pub fn column_kind(column: i64) -> Result<Kind, DbError> {
    match column {
        0 => Ok(Kind::File),
        1 => Ok(Kind::Dir),
        2 => Ok(Kind::Symlink),
        _ => Err(DbError::Damaged("kind")),
    }
}

fn spot(row: &Row<'_>) -> Result<(i64, ItemId, Spot), DbError> {
    let up = opt_id::<ItemId>(row, 2, "item id")?;
    let name: Option<String> = row.get(3)?;
    let counter: Option<i64> = row.get(9)?;
    let actor = opt_id::<Incarnation>(row, 10, "incarnation")?;
    Ok((
        row.get(0)?,
        id(&row.get::<_, Vec<u8>>(1)?, "item id")?,
        Spot {
            up: up.zip(name),
            kind: row
                .get::<_, Option<i64>>("kind")?
                .map(column_kind)
                .transpose()?,
            ep: opt_id(row, 5, "item id")?,
            alive: row.get(6)?,
            kids: row.get(7)?,
            shown: row.get(8)?,
            since: counter.zip(actor).map(|(c, actor)| OpId {
                counter: c.cast_unsigned(),
                actor,
            }),
            size: row.get::<_, i64>(11)?.cast_unsigned(),
            conflict: row.get(12)?,
            deleted: row.get(13)?,
        },
    ))
}

fn heads(bytes: &[u8]) -> Result<Vec<ChangeHash>, DbError> {
    bytes
        .chunks(32)
        .map(|c| {
            c.try_into()
                .map(ChangeHash)
                .map_err(|_| DbError::Damaged("heads column"))
        })
        .collect()
}

/// 8 bytes actor, then seq and max_op as 4 bytes each: both are bounded by 2^30 (`crdt::limits`).
fn actors(bytes: &[u8]) -> Result<std::collections::BTreeMap<Incarnation, ActorSeq>, DbError> {
    let bad = || DbError::Damaged("actors column");
    bytes
        .chunks(16)
        .map(|c| {
            let c: &[u8; 16] = c.try_into().map_err(|_| bad())?;
            let number =
                |at: usize| u64::from(u32::from_be_bytes([c[at], c[at + 1], c[at + 2], c[at + 3]]));
            Ok((
                id(&c[..8], "actors column")?,
                ActorSeq {
                    seq: number(8),
                    max_op: number(12),
                },
            ))
        })
        .collect()
}

fn actors_column(doc: &ItemDoc) -> Vec<u8> {
    let mut out = Vec::with_capacity(doc.actors.len() * 16);
    for (actor, at) in &doc.actors {
        out.extend_from_slice(actor.as_bytes());
        out.extend_from_slice(&u32::try_from(at.seq).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&u32::try_from(at.max_op).unwrap_or(u32::MAX).to_be_bytes());
    }
    out
}

/// An item with its document.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn get(conn: &Connection, space: i64, item: &ItemId) -> Result<Option<ItemRow>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {FULL} FROM item WHERE space = ?1 AND id = ?2"
    ))?;
    let mut rows = query.query(params![space, item.as_bytes()])?;
    rows.next()?.map(full).transpose()
}

fn full(row: &Row<'_>) -> Result<ItemRow, DbError> {
    let (k, id, spot) = spot(row)?;
    Ok(ItemRow {
        k,
        id: Some(id),
        spot,
        doc: ItemDoc {
            heads: heads(
                row.get_ref(14)?
                    .as_blob()
                    .map_err(|_| DbError::Damaged("heads column"))?,
            )?,
            actors: actors(
                row.get_ref(15)?
                    .as_blob()
                    .map_err(|_| DbError::Damaged("actors column"))?,
            )?,
            regs: Registers::decode(
                row.get_ref(16)?
                    .as_blob()
                    .map_err(|_| DbError::Damaged("registers column"))?,
            )
            .map_err(|_| DbError::Damaged("registers column"))?,
            changes: row.get(17)?,
            body: row.get(18)?,
        },
    })
}

/// The place of an item, without its document.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn place(conn: &Connection, space: i64, item: &ItemId) -> Result<Option<Spot>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {SPOT} FROM item WHERE space = ?1 AND id = ?2"
    ))?;
    let mut rows = query.query(params![space, item.as_bytes()])?;
    Ok(rows.next()?.map(spot).transpose()?.map(|(_, _, s)| s))
}

/// Where an item shows in the tree, from the space's root; nothing if it is not part of it.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn shown_path(conn: &Connection, space: i64, item: &ItemId) -> Result<Option<String>, DbError> {
    let (mut at, mut names) = (*item, Vec::new());
    while at != ItemId::ROOT {
        let Some(spot) = place(conn, space, &at)? else {
            return Ok(None);
        };
        let (Some(name), Some(up), true) = (spot.shown, spot.ep, names.len() < MAX_DEPTH) else {
            return Ok(None);
        };
        names.push(name);
        at = up;
    }
    names.reverse();
    Ok(Some(names.join("/")))
}

/// The live item that shows under a name in a directory.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn shown_at(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
) -> Result<Option<ItemId>, DbError> {
    let found = children(conn, space, dir)?;
    let fits = |(id, spot): (ItemId, Spot)| (spot.shown.as_deref() == Some(name)).then_some(id);
    Ok(found.into_iter().find_map(fits))
}

/// The item that was deleted last under a name in a directory. Goes through all items: for people's questions only.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn dead_at(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
) -> Result<Option<ItemId>, DbError> {
    let found = super::ids(
        conn,
        "SELECT id FROM item WHERE space = ?1 AND up = ?2 AND name = ?3 AND alive = 0 ORDER BY k DESC LIMIT 1",
        &[&space, dir.as_bytes(), &name],
    )?;
    Ok(found.into_iter().next())
}

/// Directories above one another that are followed; cycles are cut before they get here.
const MAX_DEPTH: usize = 1_000;

/// Whether any document of this id is known, live, moved or dead.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn known(conn: &Connection, space: i64, item: &ItemId) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM item WHERE space = ?1 AND id = ?2")?
        .exists(params![space, item.as_bytes()])?)
}

/// Stores a new or changed item; returns its row number.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put(conn: &Connection, space: i64, item: &ItemId, row: &ItemRow) -> Result<i64, DbError> {
    let s = &row.spot;
    let heads: Vec<u8> = row.doc.heads.iter().flat_map(|h| h.0).collect();
    Ok(conn
        .prepare_cached(
            "INSERT INTO item(space, id, up, name, kind, ep, alive, kids, shown, since_counter, since_actor, size, conflict,
             heads, actors, regs, changes, body, deleted)
             VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)
             ON CONFLICT(space, id) DO UPDATE SET up=?3, name=?4, kind=?5, ep=?6, alive=?7, kids=?8, shown=?9,
             since_counter=?10, since_actor=?11, size=?12, conflict=?13, heads=?14, actors=?15, regs=?16, changes=?17, body=?18,
             deleted=?19
             RETURNING k",
        )?
        .query_row(
            params![
                space,
                item.as_bytes(),
                s.up.as_ref().map(|u| *u.0.as_bytes()),
                s.up.as_ref().map(|u| u.1.as_str()),
                s.kind.map(kind_column),
                s.ep.map(|e| *e.as_bytes()),
                s.alive,
                s.kids,
                s.shown,
                s.since.map(|o| o.counter.cast_signed()),
                s.since.map(|o| *o.actor.as_bytes()),
                s.size.cast_signed(),
                s.conflict,
                heads,
                actors_column(&row.doc),
                row.doc.regs.encode(),
                row.doc.changes,
                row.doc.body,
                s.deleted,
            ],
            |r| r.get(0),
        )?)
}

/// Stores the derived columns of an item.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_spot(conn: &Connection, space: i64, item: &ItemId, s: &Spot) -> Result<(), DbError> {
    conn.prepare_cached(
        "UPDATE item SET ep = ?3, alive = ?4, kids = ?5, shown = ?6 WHERE space = ?1 AND id = ?2",
    )?
    .execute(params![
        space,
        item.as_bytes(),
        s.ep.map(|e| *e.as_bytes()),
        s.alive,
        s.kids,
        s.shown
    ])?;
    Ok(())
}

fn listed(
    conn: &Connection,
    sql: &str,
    args: &[&dyn rusqlite::ToSql],
) -> Result<Vec<(ItemId, Spot)>, DbError> {
    let mut query = conn.prepare_cached(sql)?;
    let mut rows = query.query(args)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (_, id, spot) = spot(row)?;
        out.push((id, spot));
    }
    Ok(out)
}

/// Live items that claim `name` in `dir`.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn claims(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
) -> Result<Vec<(ItemId, Spot)>, DbError> {
    named(conn, space, dir, name, true)
}

/// Dead items that had `name` in `dir` when they died.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn graves(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
) -> Result<Vec<(ItemId, Spot)>, DbError> {
    named(conn, space, dir, name, false)
}

fn named(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
    name: &str,
    alive: bool,
) -> Result<Vec<(ItemId, Spot)>, DbError> {
    listed(
        conn,
        &format!(
            "SELECT {SPOT} FROM item WHERE space = ?1 AND ep = ?2 AND name = ?3 AND alive = ?4 ORDER BY +id"
        ),
        &[&space, dir.as_bytes(), &name, &alive],
    )
}

/// Items whose ids begin so: few, as four bytes of a random id are nearly always enough.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn beginning(conn: &Connection, space: i64, with: [u8; 4]) -> Result<Vec<ItemId>, DbError> {
    let (mut low, mut high) = ([0; 16], [0xff; 16]);
    low[..4].copy_from_slice(&with);
    high[..4].copy_from_slice(&with);
    super::ids(
        conn,
        "SELECT id FROM item WHERE space = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT 16",
        &[&space, &low, &high],
    )
}

/// Live items in a directory, by name.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn children(
    conn: &Connection,
    space: i64,
    dir: &ItemId,
) -> Result<Vec<(ItemId, Spot)>, DbError> {
    listed(
        conn,
        &format!(
            "SELECT {SPOT} FROM item WHERE space = ?1 AND ep = ?2 AND alive = 1 ORDER BY +name, +id"
        ),
        &[&space, dir.as_bytes()],
    )
}

/// Items whose directory's document has not been placed yet.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn waiting_for(conn: &Connection, space: i64, dir: &ItemId) -> Result<Vec<ItemId>, DbError> {
    Ok(listed(
        conn,
        &format!(
            "SELECT {SPOT} FROM item WHERE space = ?1 AND up = ?2 AND ep IS NULL ORDER BY +id"
        ),
        &[&space, dir.as_bytes()],
    )?
    .into_iter()
    .map(|(id, _)| id)
    .collect())
}

/// Live items with losing versions.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn conflicts(conn: &Connection, space: i64) -> Result<Vec<(ItemId, Spot)>, DbError> {
    listed(
        conn,
        &format!(
            "SELECT {SPOT} FROM item WHERE space = ?1 AND conflict > 0 AND alive = 1 ORDER BY +id LIMIT 10000"
        ),
        &[&space],
    )
}

/// How many losing versions there are in all.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn conflict_count(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM item WHERE space = ?1 AND conflict > 0 AND alive = 1",
        )?
        .query_row([space], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}

/// Up to `limit` ids after `after`, ascending: of items, and of those that are known only by changes
/// that wait for others.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn after(
    conn: &Connection,
    space: i64,
    after: Option<&ItemId>,
    limit: usize,
) -> Result<Vec<ItemId>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT id FROM item WHERE space = ?1 AND id > ?2
         UNION SELECT item FROM pending WHERE space = ?1 AND item > ?2 ORDER BY 1 LIMIT ?3",
    )?;
    let from: &[u8] = after.map_or(&[], |a| a.as_bytes());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = query.query(params![space, from, limit])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(id(&row.get::<_, Vec<u8>>(0)?, "item id")?);
    }
    Ok(out)
}

/// Up to `limit` items after `after` in id order, with their documents: a part of the check of
/// the tree.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn page(
    conn: &Connection,
    space: i64,
    after: Option<&ItemId>,
    limit: usize,
) -> Result<Vec<ItemRow>, DbError> {
    let mut query = conn.prepare_cached(&format!(
        "SELECT {FULL} FROM item WHERE space = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
    ))?;
    let from: &[u8] = after.map_or(&[], |a| a.as_bytes());
    let mut rows = query.query(params![
        space,
        from,
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(full(row)?);
    }
    Ok(out)
}
