//! Tables and their versions. `user_version` counts; every upgrade runs in one transaction, so a
//! crash leaves the old version whole. A file of a newer version is refused, never touched.

use rusqlite::{Connection, TransactionBehavior};

use super::DbError;

/// Newest version this program writes.
pub const VERSION: i64 = 2;

const V1: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE statement(hash BLOB PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE address(device BLOB NOT NULL, address TEXT NOT NULL, used INTEGER NOT NULL,
  PRIMARY KEY(device, address)) WITHOUT ROWID;

CREATE TABLE space(n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, path TEXT NOT NULL, mode INTEGER NOT NULL,
  fs INTEGER NOT NULL, stopped TEXT, act BLOB, act_at INTEGER NOT NULL DEFAULT 0,
  merging INTEGER NOT NULL,
  items INTEGER NOT NULL DEFAULT 0, files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
CREATE TABLE member(space INTEGER NOT NULL, device BLOB NOT NULL, joined INTEGER NOT NULL, missing INTEGER NOT NULL,
  missing_bytes INTEGER NOT NULL, items INTEGER NOT NULL, heard INTEGER NOT NULL, PRIMARY KEY(space, device)) WITHOUT ROWID;

CREATE TABLE log(n INTEGER PRIMARY KEY, space INTEGER NOT NULL, tag BLOB NOT NULL, device BLOB NOT NULL,
  incarnation BLOB NOT NULL, seq INTEGER NOT NULL, chain BLOB NOT NULL, low INTEGER NOT NULL, UNIQUE(space, tag));
CREATE TABLE batch(log INTEGER NOT NULL, seq INTEGER NOT NULL, changes INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY(log, seq));
CREATE TABLE ack(space INTEGER NOT NULL, device BLOB NOT NULL, tag BLOB NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(space, device, tag)) WITHOUT ROWID;
CREATE TABLE outbox(n INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL, item BLOB NOT NULL, change BLOB NOT NULL);
CREATE TABLE pending(n INTEGER PRIMARY KEY, space INTEGER NOT NULL, item BLOB NOT NULL, change BLOB NOT NULL);
CREATE INDEX pending_item ON pending(space, item);
CREATE TABLE quarantine(n INTEGER PRIMARY KEY, space INTEGER NOT NULL, item BLOB NOT NULL, reason TEXT NOT NULL,
  change BLOB NOT NULL);

CREATE TABLE item(k INTEGER PRIMARY KEY, space INTEGER NOT NULL, id BLOB NOT NULL,
  up BLOB, name TEXT, kind INTEGER, ep BLOB, alive INTEGER NOT NULL, kids INTEGER NOT NULL, shown TEXT,
  since_counter INTEGER, since_actor BLOB, size INTEGER NOT NULL, conflict INTEGER NOT NULL, deleted INTEGER NOT NULL,
  heads BLOB NOT NULL, actors BLOB NOT NULL, regs BLOB NOT NULL, changes INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX item_id ON item(space, id);
CREATE INDEX item_dir ON item(space, ep, name) WHERE ep IS NOT NULL;
CREATE INDEX item_waiting ON item(space, up) WHERE ep IS NULL;
CREATE INDEX item_conflict ON item(space) WHERE conflict > 0;
CREATE INDEX item_clash ON item(space) WHERE shown <> name;

CREATE TABLE base(k INTEGER PRIMARY KEY, space INTEGER NOT NULL, id BLOB NOT NULL, main BLOB, main_counter INTEGER, main_actor BLOB,
  parent BLOB NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, content BLOB, hash BLOB, seen BLOB NOT NULL,
  mode INTEGER NOT NULL, mtime INTEGER NOT NULL, asked_mode INTEGER NOT NULL, asked_mtime INTEGER NOT NULL,
  size INTEGER NOT NULL, ctime INTEGER NOT NULL, ino INTEGER NOT NULL, dev INTEGER NOT NULL, racy INTEGER NOT NULL);
CREATE UNIQUE INDEX base_id ON base(space, id);
CREATE UNIQUE INDEX base_dir ON base(space, parent, name);
CREATE INDEX base_ino ON base(space, ino);
CREATE INDEX base_hash ON base(space, hash) WHERE hash IS NOT NULL;
CREATE INDEX base_main ON base(space, main) WHERE main IS NOT NULL;
CREATE INDEX base_local ON base(space) WHERE instr(name, substr(lower(hex(id)), 1, 8)) > 0;

CREATE TABLE content(space INTEGER NOT NULL, hash BLOB NOT NULL, chunks BLOB NOT NULL, PRIMARY KEY(space, hash)) WITHOUT ROWID;
CREATE TABLE chunk(space INTEGER NOT NULL, id BLOB NOT NULL, hash BLOB NOT NULL, offset INTEGER NOT NULL, len INTEGER NOT NULL,
  PRIMARY KEY(space, id, hash, offset)) WITHOUT ROWID;

CREATE TABLE dirty(n INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL, item BLOB NOT NULL, bytes INTEGER NOT NULL,
  UNIQUE(space, item));
CREATE TABLE placing(space INTEGER NOT NULL, id BLOB NOT NULL, item BLOB NOT NULL, ino INTEGER,
  parent BLOB, name TEXT, kind INTEGER, content BLOB, seen BLOB, mode INTEGER, mtime INTEGER,
  main BLOB, main_counter INTEGER, main_actor BLOB, PRIMARY KEY(space, id)) WITHOUT ROWID;
";

/// The version of the tables in a file.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn version(conn: &Connection) -> Result<i64, DbError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// What SQLite finds wrong with a file; reads all of it.
///
/// # Errors
/// Fails if the database cannot be read.
pub fn damage(conn: &Connection) -> Result<Vec<String>, DbError> {
    let mut said = Vec::new();
    conn.pragma_query(None, "quick_check", |row| {
        said.push(row.get::<_, String>(0)?);
        Ok(())
    })?;
    said.retain(|line| line != "ok");
    Ok(said)
}

/// The operation log; ignore rules.
const V2: &str = "
CREATE TABLE event(seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, device TEXT, space TEXT,
  message TEXT NOT NULL, chain BLOB NOT NULL);
CREATE TABLE rules(space INTEGER NOT NULL, file INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY(space, file)) WITHOUT ROWID;
CREATE TABLE ignored(space INTEGER NOT NULL, why INTEGER NOT NULL, id BLOB NOT NULL, lacking INTEGER NOT NULL,
  bytes INTEGER NOT NULL, PRIMARY KEY(space, why, id)) WITHOUT ROWID;
";

/// What makes each version of the one before.
const STEPS: [&str; 2] = [V1, V2];

/// Makes or upgrades the tables.
pub(super) fn upgrade(conn: &mut Connection) -> Result<(), DbError> {
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(DbError::TooNew {
            found,
            known: VERSION,
        });
    }
    if found == VERSION {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = usize::try_from(found).unwrap_or(0);
    for step in STEPS.iter().skip(from) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_version_1_gets_what_came_later() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(V1).unwrap();
        conn.pragma_update(None, "user_version", 1).unwrap();
        upgrade(&mut conn).unwrap();
        upgrade(&mut conn).unwrap();
        let entries: i64 = conn
            .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
            .unwrap();
        assert_eq!(entries, 0);
    }
}
