//! A database in use that is replaced or removed: kill -9 and loss of power at every call.
//!
//! SQLite itself is not asked here; the rule is about names. Never stands a new file beside a log that is
//! not its own, and nothing that stood on the disk is gone.

use std::collections::BTreeSet;

use ownmesh_crdt::item::Kind;
use ownmesh_node::disk::perform::{Step, salvage};
use ownmesh_node::disk::scan::Scope;
use ownmesh_node::disk::{Disk, MetaKind, RelPath, Stat, database};

use super::base::{Folder, MS, path};
use super::crash::rng;
use super::perform::{id, run};

fn page(fill: u8) -> Vec<u8> {
    let mut bytes = b"SQLite format 3\0".to_vec();
    bytes.resize(512, fill);
    bytes
}

const LOG: &[u8] = b"\x37\x7f\x06\x82 the log of the old one";
const INDEX: &[u8] = b"\x18\xe2\x2d\0 and its index";

fn look(f: &Folder, at: &str) -> Option<Stat> {
    let meta = f.disk.meta(&path(at)).unwrap()?;
    Some(database::look(&f.disk, &path(at), meta).unwrap().stat())
}

fn prepared(exchange: bool) -> Folder {
    let f = Folder::new();
    f.disk.set_exchange(exchange);
    f.disk.user_write("f", page(1));
    f.disk.user_write("f-wal", LOG);
    f.disk.user_write("f-shm", INDEX);
    f.disk.sync_all().unwrap();
    f.disk.advance(MS);
    f
}

fn write(f: &Folder) -> Step {
    let mut stage = f.disk.stage("s1").unwrap();
    stage.write_at(&page(2), 0).unwrap();
    stage.finish(0o600, 5).unwrap();
    f.disk.sync_all().unwrap();
    Step::Write {
        id: id(1),
        path: path("f"),
        staged: "s1".to_owned(),
        over: look(f, "f"),
        mode: 0o600,
        mtime: 5,
    }
}

fn remove(f: &Folder) -> Step {
    Step::Remove {
        id: id(1),
        path: path("f"),
        kind: Kind::File,
        expect: look(f, "f").unwrap(),
    }
}

fn contents(f: &Folder) -> BTreeSet<Vec<u8>> {
    let all = f.disk.snapshot_all().into_values();
    all.filter(|node| node.kind == MetaKind::File)
        .map(|node| node.bytes)
        .collect()
}

fn assert_no_stranger_beside(f: &Folder, case: &str) {
    if f.disk.user_read("f") == Some(page(2)) {
        for ending in database::ENDINGS {
            let beside = f.disk.user_read(&format!("f{ending}"));
            assert_eq!(beside, None, "{case}: a new file beside an old {ending}");
        }
    }
}

/// Calls `heal` with the disk after a crash at each call, killed and without power.
fn at_every_call(make: fn(&Folder) -> Step, heal: impl Fn(&Folder, &str)) {
    for exchange in [true, false] {
        for n in 0.. {
            let mut over = false;
            for seed in 0..13 {
                let f = prepared(exchange);
                let step = make(&f);
                let before = contents(&f);
                f.disk.crash_after(n);
                over = run(&f.disk, &[step])[0].done.is_ok();
                let case = format!("exchange {exchange}, at {n}, seed {seed}");
                match seed {
                    0 => f.disk.revive(),
                    _ => f.disk.crash_power(&mut rng(seed)),
                }
                assert_eq!(contents(&f), before, "{case}: {:?}", f.disk);
                assert_no_stranger_beside(&f, &case);
                heal(&f, &case);
            }
            if over {
                assert!(n > 4, "the crash never came");
                break;
            }
        }
    }
}

fn salvaged(f: &Folder) {
    let ours = |at: &RelPath, _: &_| f.disk.user_read(at.as_str()) == Some(page(2));
    salvage(&f.disk, &ours, &|name| format!("1-salvaged-{name}")).unwrap();
}

#[test]
fn a_replaced_database_heals_without_its_old_log() {
    at_every_call(write, |f, case| {
        salvaged(f);
        if f.disk.user_read("f") != Some(page(2)) {
            let again = write(f);
            assert!(
                run(&f.disk, &[again])[0].done.is_ok(),
                "{case}: {:?}",
                f.disk
            );
        }
        assert_eq!(f.disk.user_read("f"), Some(page(2)), "{case}");
        assert_no_stranger_beside(f, case);
        for old in [page(1), LOG.to_vec(), INDEX.to_vec()] {
            let all = f.disk.snapshot_all().into_iter();
            let at: Vec<String> = all
                .filter(|(_, n)| n.bytes == old)
                .map(|(at, _)| at)
                .collect();
            assert!(
                at.len() == 1 && at[0].starts_with(".mesh/trash/"),
                "{case}: {at:?}"
            );
        }
    });
}

#[test]
fn the_log_of_a_removed_database_is_nobodys_file() {
    at_every_call(remove, |f, case| {
        salvaged(f);
        if f.disk.user_read("f").is_some() {
            let again = remove(f);
            assert!(
                run(&f.disk, &[again])[0].done.is_ok(),
                "{case}: {:?}",
                f.disk
            );
        }
        let (found, report) = f.scan(&Scope::All).unwrap();
        assert_eq!(found, Vec::<String>::new(), "{case}");
        assert_eq!(report.problems, [], "{case}");
    });
}
