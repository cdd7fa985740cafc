//! The operation log of this device: what happened, in order, each entry chained by hash to the one before.
//!
//! Guards against a log that was tampered with and still reads well: [`verify`] names the first entry that was edited,
//! deleted, moved or cut off. It is no defence against somebody who can rewrite the whole database, which is this user.
//! An entry, the end of the chain (`event_tip`) and its beginning (`event_base`) change in one transaction, so a kill at
//! any moment leaves a whole log; a loss of power may take the last entries, and the end with them, never half of one.

use ownmesh_crypto::{Label, hash};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{DbError, marks};

/// Entries kept; what is older is dropped from the front, and the chain begins behind it.
pub const KEPT: u64 = 20_000;
/// Dropped at once, so that not each entry drops one.
const STEP: u64 = 500;
/// Bytes of one message.
const MESSAGE: usize = 1_024;

const TIP: &str = "event_tip";
const BASE: &str = "event_base";

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// Unix milliseconds by this device's clock.
    pub at: i64,
    /// What kind of thing happened.
    pub kind: String,
    /// The other device it is about.
    pub device: Option<String>,
    /// The space it is about.
    pub space: Option<String>,
    /// In words.
    pub message: String,
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// About this device only.
    pub device: Option<String>,
    /// Of this kind only.
    pub kind: Option<String>,
    /// Not older than this, Unix milliseconds.
    pub since: Option<i64>,
}

/// What a check of the chain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every entry is as it was written.
    Whole {
        /// Number of the first one kept.
        first: u64,
        /// Number of the last one.
        last: u64,
    },
    /// An entry is not what was written there.
    Edited(u64),
    /// An entry is missing, with others after it.
    Deleted(u64),
    /// This one and all after it are missing.
    Truncated(u64),
    /// This one and what follows were not written by this program.
    Added(u64),
}

impl Verdict {
    /// The first entry that is wrong, and what is wrong with it.
    #[must_use]
    pub fn wrong(&self) -> Option<(u64, &'static str)> {
        match *self {
            Self::Whole { .. } => None,
            Self::Edited(seq) => Some((seq, "it is not what was written there")),
            Self::Deleted(seq) => Some((seq, "it is missing")),
            Self::Truncated(seq) => Some((seq, "it and all after it are missing")),
            Self::Added(seq) => Some((seq, "it was not written by this program")),
        }
    }
}

/// A point of the chain: an entry's number, and the hash of all up to it.
type Point = (u64, [u8; 32]);

fn point(conn: &Connection, key: &str) -> Result<Point, DbError> {
    let Some(bytes) = marks::get(conn, key)? else {
        return Ok((0, [0; 32]));
    };
    let bad = || DbError::Damaged("end of the operation log");
    let (seq, chain) = bytes.split_first_chunk::<8>().ok_or_else(bad)?;
    let chain = chain.try_into().map_err(|_| bad())?;
    Ok((u64::from_be_bytes(*seq), chain))
}

fn put_point(conn: &Connection, key: &str, (seq, chain): Point) -> Result<(), DbError> {
    marks::put(conn, key, &[&seq.to_be_bytes()[..], &chain].concat())
}

fn chained(before: &[u8; 32], entry: &Entry) -> [u8; 32] {
    let mut bytes = before.to_vec();
    bytes.extend(entry.seq.to_be_bytes());
    bytes.extend(entry.at.to_be_bytes());
    let texts = [
        Some(&entry.kind),
        entry.device.as_ref(),
        entry.space.as_ref(),
        Some(&entry.message),
    ];
    for text in texts {
        // An absent text is not an empty one.
        let len = text.map_or(u32::MAX, |t| u32::try_from(t.len()).unwrap_or(u32::MAX - 1));
        bytes.extend(len.to_be_bytes());
        bytes.extend(text.map_or(&[][..], |t| t.as_bytes()));
    }
    hash(Label::HASH_EVENT, &[&bytes])
}

/// Writes the next entry; its number is given here. A long message is cut.
///
/// # Errors
/// Fails if the database cannot be written.
pub fn append(conn: &Connection, mut entry: Entry) -> Result<u64, DbError> {
    let (last, before) = point(conn, TIP)?;
    entry.seq = last + 1;
    entry
        .message
        .truncate(entry.message.floor_char_boundary(MESSAGE));
    let chain = chained(&before, &entry);
    conn.prepare_cached("INSERT INTO event VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
        .execute(params![
            entry.seq.cast_signed(),
            entry.at,
            entry.kind,
            entry.device,
            entry.space,
            entry.message,
            chain
        ])?;
    put_point(conn, TIP, (entry.seq, chain))?;
    let (first, _) = point(conn, BASE)?;
    if entry.seq - first >= KEPT + STEP {
        drop_until(conn, entry.seq - KEPT)?;
    }
    Ok(entry.seq)
}

fn drop_until(conn: &Connection, seq: u64) -> Result<(), DbError> {
    let chain: Option<Vec<u8>> = conn
        .prepare_cached("SELECT chain FROM event WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |row| row.get(0))
        .optional()?;
    // A log that was tampered with is not tidied up.
    let Some(chain) = chain.and_then(|c| c.try_into().ok()) else {
        return Ok(());
    };
    conn.execute("DELETE FROM event WHERE seq <= ?1", [seq.cast_signed()])?;
    put_point(conn, BASE, (seq, chain))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<(Entry, Vec<u8>)> {
    Ok((
        Entry {
            seq: row.get::<_, i64>(0)?.cast_unsigned(),
            at: row.get(1)?,
            kind: row.get(2)?,
            device: row.get(3)?,
            space: row.get(4)?,
            message: row.get(5)?,
        },
        row.get(6)?,
    ))
}

/// The entries that fit, oldest first; of more than `limit` the newest.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn list(conn: &Connection, filter: &Filter, limit: usize) -> Result<Vec<Entry>, DbError> {
    let mut query = conn.prepare_cached(
        "SELECT * FROM event WHERE (?1 IS NULL OR device = ?1) AND (?2 IS NULL OR kind = ?2)
         AND (?3 IS NULL OR at >= ?3) ORDER BY seq DESC LIMIT ?4",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = query.query_map(
        params![filter.device, filter.kind, filter.since, limit],
        |row| Ok(entry(row)?.0),
    )?;
    let mut out: Vec<Entry> = rows.collect::<Result<_, _>>()?;
    out.reverse();
    Ok(out)
}

/// Follows the chain from its beginning to its end.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn verify(conn: &Connection) -> Result<Verdict, DbError> {
    let (base, mut chain) = point(conn, BASE)?;
    let (tip, end) = point(conn, TIP)?;
    let mut query = conn.prepare_cached("SELECT * FROM event ORDER BY seq")?;
    let mut rows = query.query([])?;
    let mut last = base;
    while let Some(row) = rows.next()? {
        let (entry, stored) = entry(row)?;
        if entry.seq <= base || entry.seq > tip {
            return Ok(Verdict::Added(entry.seq));
        }
        if entry.seq != last + 1 {
            return Ok(Verdict::Deleted(last + 1));
        }
        chain = chained(&chain, &entry);
        if chain[..] != stored[..] {
            return Ok(Verdict::Edited(entry.seq));
        }
        last = entry.seq;
    }
    Ok(if last < tip {
        Verdict::Truncated(last + 1)
    } else if chain != end {
        // The last entries were written anew, with a chain of their own.
        Verdict::Edited(last)
    } else {
        Verdict::Whole {
            first: (base + 1).min(last),
            last,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    fn filled(entries: u64) -> Db {
        let mut db = Db::memory().unwrap();
        for n in 1..=entries {
            let said = Entry {
                seq: 0,
                at: i64::try_from(n).unwrap() * 1_000,
                kind: if n % 2 == 0 { "conflict" } else { "paired" }.into(),
                device: (n % 3 == 0).then(|| "desktop".into()),
                space: None,
                message: format!("entry {n}"),
            };
            assert_eq!(db.write(|tx| append(tx, said)).unwrap(), n);
        }
        db
    }

    /// What a check says after somebody else's hand was in the file.
    fn after(sql: &str) -> Verdict {
        let mut db = filled(9);
        db.write(|tx| Ok::<_, DbError>(tx.execute_batch(sql)?))
            .unwrap();
        verify(db.read()).unwrap()
    }

    #[test]
    fn whatever_is_done_to_the_log_the_first_entry_that_is_wrong_is_named() {
        assert_eq!(after(""), Verdict::Whole { first: 1, last: 9 });
        let edits = [
            "message = 'x'",
            "at = at + 1",
            "kind = 'x'",
            "device = ''",
            "space = ''",
            "chain = x'00'",
        ];
        for edit in edits {
            let sql = format!("UPDATE event SET {edit} WHERE seq = 4");
            assert_eq!(after(&sql), Verdict::Edited(4), "{edit}");
        }
        assert_eq!(
            after("DELETE FROM event WHERE seq = 4"),
            Verdict::Deleted(4)
        );
        assert_eq!(
            after("DELETE FROM event WHERE seq = 1"),
            Verdict::Deleted(1)
        );
        assert_eq!(
            after("DELETE FROM event WHERE seq > 6"),
            Verdict::Truncated(7)
        );
        assert_eq!(after("DELETE FROM event"), Verdict::Truncated(1));
        let swap =
            "UPDATE event SET seq = 100 WHERE seq = 4; UPDATE event SET seq = 4 WHERE seq = 5;
            UPDATE event SET seq = 5 WHERE seq = 100;";
        assert_eq!(after(swap), Verdict::Edited(4), "reordered");
        let more = "INSERT INTO event VALUES(10, 0, 'x', NULL, NULL, 'x', x'00')";
        assert_eq!(after(more), Verdict::Added(10));
        let gone_and_numbered_anew =
            "DELETE FROM event WHERE seq = 4; UPDATE event SET seq = seq - 1 WHERE seq > 4;";
        assert_eq!(after(gone_and_numbered_anew), Verdict::Edited(4));
    }

    #[test]
    fn the_front_is_dropped_and_the_chain_goes_on() {
        let mut db = filled(30);
        db.write(|tx| drop_until(tx, 20)).unwrap();
        let whole = Verdict::Whole {
            first: 21,
            last: 30,
        };
        assert_eq!(verify(db.read()).unwrap(), whole);
        let all = list(db.read(), &Filter::default(), 100).unwrap();
        assert_eq!(all.len(), 10);
        db.write(|tx| Ok::<_, DbError>(tx.execute("DELETE FROM event WHERE seq = 21", [])?))
            .unwrap();
        assert_eq!(verify(db.read()).unwrap(), Verdict::Deleted(21));
    }

    #[test]
    fn the_newest_that_fit_are_listed_oldest_first() {
        let db = filled(30);
        let filter = Filter {
            device: Some("desktop".into()),
            kind: Some("conflict".into()),
            since: Some(7_000),
        };
        let numbers = |limit| -> Vec<u64> {
            let found = list(db.read(), &filter, limit).unwrap();
            found.iter().map(|e| e.seq).collect()
        };
        assert_eq!(numbers(100), [12, 18, 24, 30]);
        assert_eq!(numbers(2), [24, 30]);
        assert_eq!(verify(Db::memory().unwrap().read()).unwrap(), {
            Verdict::Whole { first: 0, last: 0 }
        });
    }
}
