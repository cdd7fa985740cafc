//! Chunk lists of large contents, and which contents hold a chunk: what is served piece by piece, and
//! what need not come over the network because another file here has it.

use ownmesh_crypto::{ChunkId, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use super::{DbError, id};
use crate::disk::hash::Chunk;

/// Keeps the chunk list of a large content, and where each chunk lies in it.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn put(
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
pub fn get(
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
pub fn places(
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
pub fn remove(conn: &Connection, space: i64, hash: &ContentHash) -> Result<(), DbError> {
    let Some(list) = get(conn, space, hash)? else {
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
