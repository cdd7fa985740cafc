//! SQLite databases in the user's folder: real SQLite, real files, several connections.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use ownmesh_crdt::item::{Content, Kind};
use ownmesh_crypto::{ContentHash, ItemId, SpaceId, SpaceSecret};
use ownmesh_node::disk::hash::{HashError, Hashed, hash_file};
use ownmesh_node::disk::perform::{Refused, Step, perform};
use ownmesh_node::disk::real::RealDisk;
use ownmesh_node::disk::{self, Disk, Meta, RelPath, Stat, database, snapshot, trash};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

const ID: ItemId = ItemId::from_bytes([1; 16]);

struct Folder {
    dir: TempDir,
    disk: RealDisk,
    secret: SpaceSecret,
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

impl Folder {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        disk::prepare(&disk, &SpaceId::from_bytes([5; 16])).unwrap();
        let secret = SpaceSecret::from_bytes([9; 32]);
        Self { dir, disk, secret }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, mode: &str) -> Connection {
        let conn = Connection::open(self.at("app.db")).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(30))
            .unwrap();
        conn.pragma_update(None, "journal_mode", mode).unwrap();
        conn.pragma_update(None, "synchronous", "OFF").unwrap();
        let tables = "CREATE TABLE IF NOT EXISTS a(n); CREATE TABLE IF NOT EXISTS b(n, pad)";
        conn.execute_batch(tables).unwrap();
        conn
    }

    /// Hashes until the writers let go, as scans do.
    fn hash(&self) -> Hashed {
        loop {
            match hash_file(&self.disk, &path("app.db"), &self.secret) {
                Ok(hashed) => return hashed,
                Err(HashError::Changed) => thread::yield_now(),
                Err(e) => panic!("{e:?}"),
            }
        }
    }

    fn look(&self, name: &str) -> Meta {
        let path = path(name);
        let meta = self.disk.meta(&path).unwrap().unwrap();
        database::look(&self.disk, &path, meta).unwrap()
    }

    /// The rows of the snapshot, which has to be whole by itself.
    fn rows(&self, hashed: &Hashed) -> i64 {
        let (at, _) = snapshot::find(&self.disk, &hash_of(hashed)).expect("a snapshot");
        let copy = self.at("copy");
        fs::copy(self.at(at.as_str()), &copy).unwrap();
        let rows = whole(&copy);
        fs::remove_file(copy).unwrap();
        rows
    }

    fn beside(&self) -> Vec<String> {
        names(self.dir.path())
            .into_iter()
            .filter(|name| name.starts_with("app.db-"))
            .collect()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn hash_of(hashed: &Hashed) -> ContentHash {
    match &hashed.content {
        Content::File { hash, .. } => *hash,
        Content::Link { .. } => panic!("a link"),
    }
}

/// Checks a database that nothing stands beside; returns its transactions.
fn whole(file: &Path) -> i64 {
    let uri = format!("file:{}?immutable=1", file.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri, flags).unwrap();
    let check: String = conn
        .query_row("PRAGMA integrity_check", [], |r| r.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let count = |t: &str| -> i64 {
        conn.query_row(&format!("SELECT count(*) FROM {t}"), [], |r| r.get(0))
            .unwrap()
    };
    assert_eq!(count("a"), count("b"), "half of a transaction");
    count("a")
}

fn insert(conn: &Connection, n: u64) {
    conn.execute_batch(&format!(
        "BEGIN IMMEDIATE; INSERT INTO a VALUES({n}); \
         INSERT INTO b VALUES({n}, hex(randomblob({}))); COMMIT",
        100 + n * 37 % 3_000
    ))
    .unwrap();
}

/// Programs that write without a pause.
struct Writers(Arc<AtomicBool>, Vec<JoinHandle<u64>>);

impl Writers {
    fn start(f: &Folder, mode: &str, count: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let write = |w: u64| {
            let (conn, stop) = (f.open(mode), stop.clone());
            thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    insert(&conn, w * 1_000_000 + n);
                    n += 1;
                }
                n
            })
        };
        let threads = (0..count).map(write).collect();
        Self(stop, threads)
    }

    fn end(self) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        self.1.into_iter().map(|t| t.join().unwrap()).sum()
    }
}

#[test]
fn a_database_under_constant_writes_is_never_torn() {
    for mode in ["WAL", "DELETE", "TRUNCATE", "PERSIST"] {
        let f = Folder::new();
        let writers = Writers::start(&f, mode, 2);
        let (mut last, mut grew) = (0, 0);
        while grew < 12 {
            let hashed = f.hash();
            assert_eq!(hashed.damaged, None, "{mode}");
            let Some((at, _)) = snapshot::find(&f.disk, &hash_of(&hashed)) else {
                panic!("{mode}: a database that is written to was read in place");
            };
            let rows = f.rows(&hashed);
            assert!(rows >= last, "{mode}: {rows} after {last}");
            grew += i64::from(rows > last);
            last = rows;
            f.disk.remove(&at).unwrap();
        }
        let total = writers.end();
        let hashed = f.hash();
        let rows = match snapshot::find(&f.disk, &hash_of(&hashed)) {
            Some(_) => f.rows(&hashed),
            None => whole(&f.at("app.db")),
        };
        assert_eq!(rows.cast_unsigned(), total, "{mode}");
        assert_eq!(names(&f.at(".mesh/tmp")), Vec::<String>::new(), "{mode}");
    }
}

#[test]
fn the_snapshot_has_the_bytes_that_the_file_gets_when_it_is_closed() {
    let f = Folder::new();
    let conn = f.open("WAL");
    (0..50).for_each(|n| insert(&conn, n));
    let before = f.look("app.db");
    let open = f.hash();
    assert_eq!(open.meta.stat(), before.stat());
    assert_eq!(
        f.look("app.db").stat(),
        before.stat(),
        "looking changes nothing"
    );
    assert_eq!(f.rows(&open), 50);
    insert(&conn, 50);
    assert_ne!(
        f.look("app.db").stat(),
        before.stat(),
        "a write to the log alone shows"
    );
    let open = f.hash();
    drop(conn);
    assert_eq!(f.beside(), Vec::<String>::new());
    snapshot::remove(&f.disk, &hash_of(&open)).unwrap();
    let closed = f.hash();
    assert_eq!(closed.content, open.content);
    assert!(
        snapshot::find(&f.disk, &hash_of(&closed)).is_none(),
        "the file itself is read"
    );
}

/// Copies a database as it stands on the disk, as a machine that stops leaves it.
fn crashed(f: &Folder, to: &Folder) -> Vec<(String, Vec<u8>)> {
    let mut left = Vec::new();
    for name in ["app.db", "app.db-wal", "app.db-journal"] {
        if let Ok(bytes) = fs::read(f.at(name)) {
            fs::write(to.at(name), &bytes).unwrap();
            left.push((name.to_owned(), bytes));
        }
    }
    left
}

#[test]
fn what_a_program_left_that_ended_in_the_middle_is_taken_as_sqlite_would() {
    for (mode, rows) in [("DELETE", 20), ("WAL", 20)] {
        let (f, after) = (Folder::new(), Folder::new());
        let conn = f.open(mode);
        (0..20).for_each(|n| insert(&conn, n));
        // So large a transaction that it spills into the file, or the log.
        conn.pragma_update(None, "cache_size", 1).unwrap();
        conn.execute_batch(
            "BEGIN IMMEDIATE; UPDATE b SET pad = pad || pad || pad; INSERT INTO a VALUES(-1);",
        )
        .unwrap();
        let left = crashed(&f, &after);
        assert_eq!(left.len(), 2, "{mode}");
        let hashed = after.hash();
        assert_eq!(after.rows(&hashed), rows, "{mode}");
        for (name, bytes) in left {
            assert_eq!(fs::read(after.at(&name)).unwrap(), bytes, "{mode}: {name}");
        }
    }
}

#[test]
fn what_sqlite_cannot_read_goes_as_the_file_that_it_is() {
    let f = Folder::new();
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.resize(4_096, 0xa5);
    fs::write(f.at("app.db"), &bytes).unwrap();
    fs::write(f.at("app.db-wal"), vec![1; 100]).unwrap();
    let hashed = f.hash();
    assert!(hashed.damaged.is_some());
    assert_eq!(hash_of(&hashed), f.secret.content_hash(&bytes));
    assert!(snapshot::find(&f.disk, &hash_of(&hashed)).is_some());
}

/// A step that puts another database, of one transaction, over the one in the folder.
fn replace(f: &Folder, over: Stat) -> Result<Option<Meta>, Refused> {
    let other = Folder::new();
    insert(&other.open("DELETE"), 7);
    let mut stage = f.disk.stage("s-new").unwrap();
    stage
        .write_at(&fs::read(other.at("app.db")).unwrap(), 0)
        .unwrap();
    stage.finish(0o600, 5).unwrap();
    let step = Step::Write {
        id: ID,
        path: path("app.db"),
        staged: "s-new".to_owned(),
        over: Some(over),
        mode: 0o600,
        mtime: 5,
    };
    perform(&f.disk, &[step], &|id| trash::name(1, id, "app.db"))
        .remove(0)
        .done
}

#[test]
fn a_database_that_is_replaced_takes_its_log_along() {
    for mode in ["WAL", "PERSIST"] {
        let f = Folder::new();
        let conn = f.open(mode);
        (0..9).for_each(|n| insert(&conn, n));
        assert!(!f.beside().is_empty());
        let seen = f.look("app.db").stat();
        insert(&conn, 9);
        assert_eq!(
            replace(&f, seen),
            Err(Refused::Changed),
            "{mode}: a write that nobody saw"
        );
        insert(&conn, 10);
        assert_eq!(f.look("app.db").stat(), f.hash().meta.stat());

        replace(&f, f.look("app.db").stat()).unwrap();
        assert_eq!(f.beside(), Vec::<String>::new(), "{mode}");
        assert_eq!(whole(&f.at("app.db")), 1, "{mode}");
        // What the program does with the file it still has open does not reach the new one.
        let _refused_or_lost = conn.execute_batch("INSERT INTO a VALUES(99)");
        drop(conn);
        assert_eq!(whole(&f.at("app.db")), 1, "{mode}");
        let old: Vec<_> = trash::list(&f.disk).unwrap().into_iter().collect();
        let main = old
            .iter()
            .find(|t| t.original == "app.db")
            .expect("in the trash");
        let out = Folder::new();
        for t in &old {
            let to = t.name.replace(&main.name, "app.db");
            fs::copy(f.at(".mesh/trash").join(&t.name), out.at(&to)).unwrap();
        }
        let rows: i64 = out
            .open(mode)
            .query_row("SELECT count(*) FROM b", [], |r| r.get(0))
            .unwrap();
        assert_eq!(rows, 11, "{mode}: with all that was in the log");
    }
}

#[test]
fn a_database_that_is_removed_takes_its_log_along_and_one_that_moves_waits() {
    let f = Folder::new();
    let conn = f.open("WAL");
    insert(&conn, 1);
    let act = |step| {
        perform(&f.disk, &[step], &|id| trash::name(1, id, "app.db"))
            .remove(0)
            .done
    };
    let expect = f.look("app.db").stat();
    let moved = act(Step::Move {
        id: ID,
        from: path("app.db"),
        to: path("b.db"),
        expect,
    });
    assert!(moved.unwrap_err().to_string().contains("open"));
    let removed = act(Step::Remove {
        id: ID,
        path: path("app.db"),
        kind: Kind::File,
        expect,
    });
    removed.unwrap();
    assert_eq!(names(f.dir.path()), [".mesh"]);
    drop(conn);
    // A log that lies there from before is out of the way before a database comes.
    fs::write(f.at("app.db-wal"), b"\x37\x7f\x06\x82 of another").unwrap();
    fs::write(f.at("app.db"), b"x").unwrap();
    let stat = f.look("app.db").stat();
    replace(&f, stat).unwrap();
    assert_eq!(f.beside(), Vec::<String>::new());
    assert_eq!(whole(&f.at("app.db")), 1);
    // Nothing that SQLite would take for a part of it is put beside it.
    let mut stage = f.disk.stage("s-wal").unwrap();
    stage.write_at(b"text", 0).unwrap();
    stage.finish(0o600, 5).unwrap();
    let refused = act(Step::Write {
        id: ID,
        path: path("app.db-wal"),
        staged: "s-wal".to_owned(),
        over: None,
        mode: 0o600,
        mtime: 5,
    });
    assert!(refused.unwrap_err().to_string().contains("beside"));
}

#[test]
fn a_listing_shows_databases_and_hides_what_belongs_to_them() {
    let f = Folder::new();
    let conn = f.open("WAL");
    insert(&conn, 1);
    for (name, bytes) in [
        ("notes-wal", &b"a text"[..]),
        ("notes", b"another"),
        ("gone-wal", b"\x37\x7f\x06\x83 a log alone"),
        (
            "gone.db-journal",
            b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7 a journal alone",
        ),
        ("new", b""),
        ("new-journal", &[0; 512]),
    ] {
        fs::write(f.at(name), bytes).unwrap();
    }
    let mut listing = f.disk.list(&RelPath::ROOT).unwrap();
    let hidden = database::fold(&f.disk, &RelPath::ROOT, &mut listing);
    let hidden: Vec<&str> = hidden.iter().map(String::as_str).collect();
    assert_eq!(
        hidden,
        [
            "app.db-shm",
            "app.db-wal",
            "gone-wal",
            "gone.db-journal",
            "new-journal"
        ]
    );
    let mut shown: Vec<String> = listing.iter().map(|l| l.name.clone().unwrap()).collect();
    shown.sort();
    assert_eq!(shown, [".mesh", "app.db", "new", "notes", "notes-wal"]);
    let main = listing
        .iter()
        .find(|l| l.name.as_deref() == Ok("app.db"))
        .unwrap();
    assert_eq!(main.meta, f.look("app.db"));
}
