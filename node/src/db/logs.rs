//! Logs, their batches, acknowledgements, and changes that wait.

use ownmesh_crdt::batch::peek;
use ownmesh_crdt::mutated;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::{BatchHash, DeviceId, Incarnation, ItemId, WriterTag};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, id};

/// One writer's log in one space.
#[derive(Clone, Debug)]
pub struct LogRow {
    /// Row number.
    pub n: i64,
    /// Name of the log for everybody who may read it.
    pub tag: WriterTag,
    /// Its writer.
    pub device: DeviceId,
    /// The writer's incarnation.
    pub incarnation: Incarnation,
    /// Last number applied here.
    pub seq: u64,
    /// Hash of that batch.
    pub chain: BatchHash,
    /// Lowest number still held; `seq + 1` when all are pruned.
    pub low: u64,
}

fn log(row: &Row<'_>) -> Result<LogRow, DbError> {
    Ok(LogRow {
        n: row.get("n")?,
        tag: id(&row.get::<_, Vec<u8>>("tag")?, "writer tag")?,
        device: id(&row.get::<_, Vec<u8>>("device")?, "device id")?,
        incarnation: id(&row.get::<_, Vec<u8>>("incarnation")?, "incarnation")?,
        seq: row.get::<_, i64>("seq")?.cast_unsigned(),
        chain: id(&row.get::<_, Vec<u8>>("chain")?, "batch hash")?,
        low: row.get::<_, i64>("low")?.cast_unsigned(),
    })
}

/// All logs of a space.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn all(conn: &Connection, space: i64) -> Result<Vec<LogRow>, DbError> {
    let mut query = conn.prepare_cached("SELECT * FROM log WHERE space = ?1 ORDER BY tag")?;
    let mut rows = query.query([space])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(log(row)?);
    }
    Ok(out)
}

/// One log by its tag.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn by_tag(conn: &Connection, space: i64, tag: &WriterTag) -> Result<Option<LogRow>, DbError> {
    let mut query = conn.prepare_cached("SELECT * FROM log WHERE space = ?1 AND tag = ?2")?;
    let mut rows = query.query(params![space, tag.as_bytes()])?;
    rows.next()?.map(log).transpose()
}

/// Who wrote with this incarnation.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn writer(
    conn: &Connection,
    space: i64,
    incarnation: &Incarnation,
) -> Result<Option<DeviceId>, DbError> {
    conn.prepare_cached("SELECT device FROM log WHERE space = ?1 AND incarnation = ?2 LIMIT 1")?
        .query_row(params![space, incarnation.as_bytes()], |row| {
            row.get::<_, Vec<u8>>(0)
        })
        .optional()?
        .map(|b| id(&b, "device id"))
        .transpose()
}

/// Makes or moves a log's end. `low` is kept unless the log is new.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn advance(
    conn: &Connection,
    space: i64,
    tag: &WriterTag,
    writer: (&DeviceId, &Incarnation),
    seq: u64,
    chain: &BatchHash,
    low: u64,
) -> Result<i64, DbError> {
    Ok(conn
        .prepare_cached(
            "INSERT INTO log(space, tag, device, incarnation, seq, chain, low) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT(space, tag) DO UPDATE SET seq = ?5, chain = ?6 RETURNING n",
        )?
        .query_row(
            params![
                space,
                tag.as_bytes(),
                writer.0.as_bytes(),
                writer.1.as_bytes(),
                seq.cast_signed(),
                chain.as_bytes(),
                low.cast_signed()
            ],
            |row| row.get(0),
        )?)
}

/// Moves a log's lowest held number.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn set_low(conn: &Connection, log: i64, low: u64) -> Result<(), DbError> {
    conn.prepare_cached("UPDATE log SET low = ?2 WHERE n = ?1")?
        .execute(params![log, low.cast_signed()])?;
    Ok(())
}

/// What is applied here.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn vector(conn: &Connection, space: i64) -> Result<Vector, DbError> {
    let mut out = Vector::default();
    for row in all(conn, space)? {
        out.raise(row.tag, row.seq);
    }
    Ok(out)
}

/// Keeps a batch for those who lack it.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_batch(
    conn: &Connection,
    log: i64,
    seq: u64,
    changes: usize,
    bytes: &[u8],
) -> Result<(), DbError> {
    conn.prepare_cached("INSERT OR IGNORE INTO batch VALUES(?1, ?2, ?3, ?4)")?
        .execute(params![
            log,
            seq.cast_signed(),
            i64::try_from(changes).unwrap_or(i64::MAX),
            bytes
        ])?;
    Ok(())
}

/// The batches of a log after `after`, at most `bytes` in all but at least one.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn batches_after(
    conn: &Connection,
    log: i64,
    after: u64,
    bytes: usize,
) -> Result<Vec<(u64, Vec<u8>)>, DbError> {
    let mut query = conn
        .prepare_cached("SELECT seq, bytes FROM batch WHERE log = ?1 AND seq > ?2 ORDER BY seq")?;
    let mut rows = query.query(params![log, after.cast_signed()])?;
    let (mut out, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let batch: Vec<u8> = row.get(1)?;
        total += batch.len();
        if total > bytes && !out.is_empty() {
            break;
        }
        out.push((row.get::<_, i64>(0)?.cast_unsigned(), batch));
    }
    Ok(out)
}

/// The hash of a log's batch of this number; `None` where it is not held any more.
///
/// # Errors
/// Fails if the database cannot be read, or holds what is no batch.
pub fn batch_hash(conn: &Connection, log: &LogRow, seq: u64) -> Result<Option<BatchHash>, DbError> {
    if seq == log.seq {
        return Ok(Some(log.chain));
    }
    let mut query = conn.prepare_cached("SELECT bytes FROM batch WHERE log = ?1 AND seq = ?2")?;
    let bytes: Option<Vec<u8>> = query
        .query_row(params![log.n, seq.cast_signed()], |row| row.get(0))
        .optional()?;
    let hash = |bytes: Vec<u8>| peek(&bytes).map_err(|_| DbError::Damaged("batch"));
    Ok(bytes.map(hash).transpose()?.map(|(_, hash)| hash))
}

/// How many changes the batches after `after` hold.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn changes_after(conn: &Connection, log: i64, after: u64) -> Result<u64, DbError> {
    let n: Option<i64> = conn
        .prepare_cached("SELECT sum(changes) FROM batch WHERE log = ?1 AND seq > ?2")?
        .query_row(params![log, after.cast_signed()], |row| row.get(0))?;
    Ok(n.unwrap_or(0).cast_unsigned())
}

/// Drops the batches up to `upto`.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn prune(conn: &Connection, log: i64, upto: u64) -> Result<usize, DbError> {
    Ok(conn
        .prepare_cached("DELETE FROM batch WHERE log = ?1 AND seq <= ?2")?
        .execute(params![log, upto.cast_signed()])?)
}

/// Keeps what a device has acknowledged, in place of what it said before: it may have less now, after
/// a backup was put back or the space was left and joined anew.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_acks(
    conn: &Connection,
    space: i64,
    device: &DeviceId,
    vector: &Vector,
) -> Result<(), DbError> {
    if !mutated!(AcksNeverLess) {
        conn.prepare_cached("DELETE FROM ack WHERE space = ?1 AND device = ?2")?
            .execute(params![space, device.as_bytes()])?;
    }
    let mut put = conn.prepare_cached("INSERT OR REPLACE INTO ack VALUES(?1, ?2, ?3, ?4)")?;
    for (tag, seq) in &vector.0 {
        put.execute(params![
            space,
            device.as_bytes(),
            tag.as_bytes(),
            seq.cast_signed()
        ])?;
    }
    Ok(())
}

/// Changes of an item that wait for what they depend on.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn pending(conn: &Connection, space: i64, item: &ItemId) -> Result<Vec<Vec<u8>>, DbError> {
    let mut query = conn
        .prepare_cached("SELECT change FROM pending WHERE space = ?1 AND item = ?2 ORDER BY n")?;
    let rows = query.query_map(params![space, item.as_bytes()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a device has acknowledged.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn acks(conn: &Connection, space: i64, device: &DeviceId) -> Result<Vector, DbError> {
    let mut query =
        conn.prepare_cached("SELECT tag, seq FROM ack WHERE space = ?1 AND device = ?2")?;
    let mut rows = query.query(params![space, device.as_bytes()])?;
    let mut out = Vector::default();
    while let Some(row) = rows.next()? {
        out.0.insert(
            id(&row.get::<_, Vec<u8>>(0)?, "writer tag")?,
            row.get::<_, i64>(1)?.cast_unsigned(),
        );
    }
    Ok(out)
}

/// Queues an own change for the next batch.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_outbox(
    conn: &Connection,
    space: i64,
    item: &ItemId,
    change: &[u8],
) -> Result<(), DbError> {
    conn.prepare_cached("INSERT INTO outbox(space, item, change) VALUES(?1, ?2, ?3)")?
        .execute(params![space, item.as_bytes(), change])?;
    Ok(())
}

/// One queued own change: its number, item and bytes.
pub type Queued = (i64, ItemId, Vec<u8>);

/// The oldest queued changes, at most `count` and `bytes`, at least one if there is one.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn outbox(
    conn: &Connection,
    space: i64,
    count: usize,
    bytes: usize,
) -> Result<Vec<Queued>, DbError> {
    let mut query =
        conn.prepare_cached("SELECT n, item, change FROM outbox WHERE space = ?1 ORDER BY n")?;
    let mut rows = query.query([space])?;
    let (mut out, mut total) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let change: Vec<u8> = row.get(2)?;
        total += change.len();
        if out.len() >= count || (total > bytes && !out.is_empty()) {
            break;
        }
        out.push((
            row.get(0)?,
            id(&row.get::<_, Vec<u8>>(1)?, "item id")?,
            change,
        ));
    }
    Ok(out)
}

/// Whether a change of an item waits to be sealed.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn queued(conn: &Connection, space: i64, item: &ItemId) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM outbox WHERE space = ?1 AND item = ?2 LIMIT 1")?
        .exists(params![space, item.as_bytes()])?)
}

/// Whether own changes wait for a batch. Asked after every event, so it does not count them.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn outbox_any(conn: &Connection, space: i64) -> Result<bool, DbError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM outbox WHERE space = ?1 LIMIT 1")?
        .exists([space])?)
}

/// How many own changes wait for a batch.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn outbox_len(conn: &Connection, space: i64) -> Result<u64, DbError> {
    let n: i64 = conn
        .prepare_cached("SELECT count(*) FROM outbox WHERE space = ?1")?
        .query_row([space], |row| row.get(0))?;
    Ok(n.cast_unsigned())
}

/// Drops queued changes up to a number.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn drop_outbox(conn: &Connection, space: i64, upto: i64) -> Result<(), DbError> {
    conn.prepare_cached("DELETE FROM outbox WHERE space = ?1 AND n <= ?2")?
        .execute(params![space, upto])?;
    Ok(())
}

/// Keeps a change until what it depends on arrives.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_pending(
    conn: &Connection,
    space: i64,
    item: &ItemId,
    change: &[u8],
) -> Result<(), DbError> {
    conn.prepare_cached("INSERT INTO pending(space, item, change) VALUES(?1, ?2, ?3)")?
        .execute(params![space, item.as_bytes(), change])?;
    Ok(())
}

/// Takes the waiting changes of an item.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn take_pending(conn: &Connection, space: i64, item: &ItemId) -> Result<Vec<Vec<u8>>, DbError> {
    let found = pending(conn, space, item)?;
    if !found.is_empty() {
        conn.prepare_cached("DELETE FROM pending WHERE space = ?1 AND item = ?2")?
            .execute(params![space, item.as_bytes()])?;
    }
    Ok(found)
}

/// Sets a change aside for good, with the reason.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put_quarantine(
    conn: &Connection,
    space: i64,
    item: &ItemId,
    change: &[u8],
    reason: &str,
) -> Result<(), DbError> {
    conn.prepare_cached(
        "INSERT INTO quarantine(space, item, reason, change) VALUES(?1, ?2, ?3, ?4)",
    )?
    .execute(params![space, item.as_bytes(), reason, change])?;
    Ok(())
}

/// Items with changes that were set aside, and why.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn quarantine(conn: &Connection, space: i64) -> Result<Vec<(ItemId, String)>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT item, reason FROM quarantine WHERE space = ?1 ORDER BY item LIMIT 1000",
    )?;
    let mut rows = query.query([space])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push((id(&row.get::<_, Vec<u8>>(0)?, "item id")?, row.get(1)?));
    }
    Ok(out)
}
