//! SQLite databases that programs have open while the folder is synced (docs/design/0010-sqlite-snapshots.md).
//!
//! The programs are threads of this process. It must not open their files but through SQLite: closing
//! a file takes away all locks that the process has on it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::device::Device;
use crate::world::{World, check, settle, until};

fn program(device: &Device, mode: &str) -> Connection {
    let conn = Connection::open(device.at("app.db")).unwrap();
    conn.busy_timeout(Duration::from_secs(60)).unwrap();
    conn.pragma_update(None, "journal_mode", mode).unwrap();
    conn.pragma_update(None, "synchronous", "NORMAL").unwrap();
    let tables = "CREATE TABLE IF NOT EXISTS a(w, n); CREATE TABLE IF NOT EXISTS b(w, n, pad)";
    conn.execute_batch(tables).unwrap();
    conn
}

fn insert(conn: &Connection, w: u64, n: u64) {
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; INSERT INTO a VALUES({w}, {n}); \
         INSERT INTO b VALUES({w}, {n}, hex(randomblob(200))); COMMIT"
    ))
    .unwrap();
}

/// Whether a database holds together, and how many transactions it has.
fn examine(conn: &Connection) -> i64 {
    let one = |sql: &str| -> i64 { conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    let check: String = conn
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    assert_eq!(
        one("SELECT count(*) FROM a LEFT JOIN b USING(w, n) WHERE b.n IS NULL"),
        0,
        "half of a transaction"
    );
    assert_eq!(one("SELECT count(*) FROM a"), one("SELECT count(*) FROM b"));
    one("SELECT count(*) FROM a")
}

/// Looks at a file that nobody has open.
fn transactions(file: &Path, aside: &Path) -> Option<i64> {
    fs::copy(file, aside).ok()?;
    let uri = format!("file:{}?immutable=1", aside.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Some(examine(&Connection::open_with_flags(uri, flags).unwrap()))
}

fn writers(device: &Device, mode: &str, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    (0..3)
        .map(|w| {
            let (conn, stop) = (program(device, mode), stop.clone());
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    insert(&conn, w, n);
                    n += 1;
                    // A program that writes often, not one that does nothing else.
                    thread::sleep(Duration::from_millis(2));
                }
                n
            })
        })
        .collect()
}

fn constant_writes(mode: &str) {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("notes", "n"));
    let stop = Arc::new(AtomicBool::new(false));
    let programs = writers(&laptop, mode, &stop);
    let (arrived, aside) = (desktop.at("app.db"), world.path("copy.db"));
    let (mut last, mut versions, mut rows) = (0, 0, 0);
    // One more than what goes at once, the file and five edits: the last comes ten seconds later.
    until("seven versions arrive", || {
        if let Ok(meta) = fs::metadata(&arrived)
            && meta.ino() != last
            && let Some(now) = transactions(&arrived, &aside)
        {
            assert!(now >= rows, "{mode}: {now} transactions after {rows}");
            (last, rows, versions) = (meta.ino(), now, versions + 1);
        }
        check(versions >= 7, versions)
    });
    stop.store(true, Ordering::Relaxed);
    let written: u64 = programs.into_iter().map(|p| p.join().unwrap()).sum();
    settle(&laptop, &desktop, "after the last transaction");
    for device in [&laptop, &desktop] {
        let rows = transactions(&device.at("app.db"), &aside).unwrap();
        assert_eq!(rows.cast_unsigned(), written, "{mode}: {}", device.name);
    }
    assert_eq!(desktop.tree().names(), ["app.db", "notes"]);
    assert_eq!(desktop.conflicts().len(), 0);
    eprintln!("{mode}: {written} transactions, {versions} versions examined while they were made");
}

#[test]
fn every_version_of_a_database_with_a_log_is_whole() {
    constant_writes("WAL");
}

#[test]
fn every_version_of_a_database_with_a_journal_is_whole() {
    constant_writes("DELETE");
}

/// Both sides have the program open, and write while they do not see each other.
#[test]
fn two_programs_at_once_are_a_conflict_of_two_whole_databases() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| {
        let conn = program(laptop, "WAL");
        insert(&conn, 0, 0);
    });
    desktop.down();
    let (here, there) = (program(&laptop, "WAL"), program(&desktop, "WAL"));
    (0..5).for_each(|n| insert(&here, 1, n));
    (0..8).for_each(|n| insert(&there, 2, n));
    laptop.scan();
    desktop.up();
    until("the conflict is known on both", || {
        let both = [&laptop, &desktop].map(|d| d.conflicts().len());
        check(both == [1, 1], both)
    });
    drop((here, there));
    settle(&laptop, &desktop, "with a conflict");
    for device in [&laptop, &desktop] {
        let tree = device.tree();
        let names = tree.names();
        assert_eq!(names.len(), 2, "{names:?}");
        let mut rows: Vec<_> = names
            .iter()
            .map(|name| transactions(&device.at(name), &world.path("copy.db")).unwrap())
            .collect();
        rows.sort_unstable();
        assert_eq!(rows, [6, 9], "{}", device.name);
    }
}

/// A program that ends without taking its log in: what it wrote last stands there alone.
fn insert_and_end(device: &Device, n: u64) {
    let conn = program(device, "WAL");
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .unwrap();
    insert(&conn, 0, n);
}

/// Two devices, and a transaction that stands in a log on the first.
fn with_a_log(world: &World) -> (Device, Device) {
    let (laptop, desktop) = world.joined(|laptop| drop(program(laptop, "WAL")));
    insert_and_end(&laptop, 0);
    let aside = world.path("copy.db");
    until("what is in the log arrives", || {
        let rows = transactions(&desktop.at("app.db"), &aside);
        check(rows == Some(1), rows)
    });
    (laptop, desktop)
}

#[test]
fn a_commit_in_the_log_of_a_database_that_is_renamed_with_it_arrives() {
    let world = World::loopback();
    let (mut laptop, desktop) = with_a_log(&world);
    laptop.down();
    insert_and_end(&laptop, 1);
    // The index is made anew by whoever opens it next.
    let _ = fs::remove_file(laptop.at("app.db-shm"));
    for (old, new) in [("app.db", "moved.db"), ("app.db-wal", "moved.db-wal")] {
        fs::rename(laptop.at(old), laptop.at(new)).unwrap();
    }
    laptop.up();
    let aside = world.path("copy.db");
    until("both transactions are under the new name", || {
        let rows = transactions(&desktop.at("moved.db"), &aside);
        check(rows == Some(2), rows)
    });
    assert_eq!(desktop.tree().names(), ["moved.db"]);
}

#[test]
fn a_database_that_is_renamed_without_its_log_is_the_same_on_both_sides() {
    let world = World::loopback();
    let (laptop, desktop) = with_a_log(&world);
    fs::rename(laptop.at("app.db"), laptop.at("moved.db")).unwrap();
    let here = fs::read(laptop.at("moved.db")).unwrap();
    until("the bytes that stand here stand there", || {
        let there = fs::read(desktop.at("moved.db")).ok();
        let same = there.as_ref() == Some(&here);
        check(same, there.map(|bytes| bytes.len()))
    });
    assert_eq!(desktop.tree().names(), ["moved.db"]);
    assert!(laptop.at("app.db-wal").exists(), "nobody's to remove");
}
