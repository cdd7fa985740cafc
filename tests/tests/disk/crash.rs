//! kill -9 and loss of power at every call of a group of steps.
//!
//! The rule is independent of what the performer believes: a group of steps never makes a content
//! vanish. Every content that was on the disk before, staged ones included, is on it afterwards,
//! whole; and none is there that was not.

use std::collections::BTreeMap;

use ownmesh_crdt::item::Kind;
use ownmesh_node::disk::perform::{Step, salvage};
use ownmesh_node::disk::{Disk, MetaKind};
use ownmesh_tests::mem_disk::MemDisk;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::base::{Folder, MS, path};
use super::perform::{NEW, OLD, id, run, stat, write};

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn contents(disk: &MemDisk) -> BTreeMap<Vec<u8>, usize> {
    let mut all = BTreeMap::new();
    for node in disk
        .snapshot_all()
        .into_values()
        .filter(|node| node.kind == MetaKind::File)
    {
        *all.entry(node.bytes).or_default() += 1;
    }
    all
}

/// Groups of steps over the same folder, each with everything synced before.
fn groups() -> Vec<(&'static str, fn(&Folder) -> Vec<Step>)> {
    vec![
        ("new", |f| vec![write(&f.disk, "d/n", None)]),
        ("over", |f| {
            vec![write(&f.disk, "f", Some(stat(&f.disk, "f")))]
        }),
        ("remove", |f| {
            vec![
                Step::Remove {
                    id: id(1),
                    path: path("d/a"),
                    kind: Kind::File,
                    expect: stat(&f.disk, "d/a"),
                },
                Step::Remove {
                    id: id(2),
                    path: path("d"),
                    kind: Kind::Dir,
                    expect: stat(&f.disk, "d"),
                },
            ]
        }),
        ("link", |f| {
            let (path, over) = (path("f"), Some(stat(&f.disk, "f")));
            vec![Step::Link {
                id: id(1),
                path,
                target: "t".to_owned(),
                over,
                mtime: Some(1_000),
            }]
        }),
        ("circle", |f| {
            vec![
                Step::Park {
                    id: id(1),
                    from: path("f"),
                    expect: stat(&f.disk, "f"),
                },
                Step::Move {
                    id: id(2),
                    from: path("d"),
                    to: path("f"),
                    expect: stat(&f.disk, "d"),
                },
                Step::Unpark {
                    id: id(1),
                    to: path("d"),
                },
            ]
        }),
        ("many", |f| {
            vec![
                Step::MakeDir {
                    id: id(3),
                    path: path("e"),
                    mode: 0o755,
                },
                write(&f.disk, "e/n", None),
                Step::Move {
                    id: id(4),
                    from: path("d/a"),
                    to: path("e/a"),
                    expect: stat(&f.disk, "d/a"),
                },
                Step::Meta {
                    id: id(5),
                    path: path("f"),
                    mode: 0o600,
                    mtime: 7,
                    expect: stat(&f.disk, "f"),
                },
                Step::Remove {
                    id: id(2),
                    path: path("d"),
                    kind: Kind::Dir,
                    expect: stat(&f.disk, "d"),
                },
            ]
        }),
    ]
}

fn prepared(exchange: bool, make: fn(&Folder) -> Vec<Step>) -> (Folder, Vec<Step>) {
    let f = Folder::with(&["f", "d/a"]);
    f.disk.set_exchange(exchange);
    let steps = make(&f);
    f.disk.sync_all().unwrap();
    f.disk.advance(MS);
    (f, steps)
}

/// Calls `check` with the disk after each crash; with everything done at the end.
fn at_every_call(
    name: &str,
    make: fn(&Folder) -> Vec<Step>,
    check: impl Fn(&str, &Folder, &[Step]),
) {
    for exchange in [true, false] {
        for n in 0.. {
            let (f, steps) = prepared(exchange, make);
            let before = contents(&f.disk);
            f.disk.crash_after(n);
            let outcomes = run(&f.disk, &steps);
            let case = format!("{name}, exchange {exchange}, killed at {n}");
            let over = outcomes.iter().all(|outcome| outcome.done.is_ok());
            f.disk.revive();
            assert_eq!(contents(&f.disk), before, "{case}: {:?}", f.disk);
            check(&case, &f, &steps);
            for seed in 0..12 {
                let (f, steps) = prepared(exchange, make);
                f.disk.crash_after(n);
                run(&f.disk, &steps);
                f.disk.crash_power(&mut rng(seed));
                let case = format!("{case}, power lost with seed {seed}");
                assert_eq!(contents(&f.disk), before, "{case}: {:?}", f.disk);
                check(&case, &f, &steps);
            }
            if over {
                assert!(n > 2, "{case}: the crash never came");
                break;
            }
        }
    }
}

#[test]
fn no_crash_makes_a_content_vanish() {
    for (name, make) in groups() {
        at_every_call(name, make, |_, _, _| {});
    }
}

/// What the engine does after a crash with its `placing` row: salvage, then the same once more.
#[test]
fn a_write_heals() {
    at_every_call(
        "over",
        |f| vec![write(&f.disk, "f", Some(stat(&f.disk, "f")))],
        |case, f, _| {
            let at = f.disk.user_read("f");
            assert!(
                at.is_none() || at == Some(OLD.into()) || at == Some(NEW.into()),
                "{case}"
            );
            // The staged file is known by what it holds here; the engine knows its inode number.
            let ours = |path: &ownmesh_node::disk::RelPath, _: &ownmesh_node::disk::Meta| {
                f.disk.user_read(path.as_str()) == Some(NEW.into())
            };
            salvage(&f.disk, &ours, &|name| format!("1-salvaged-{name}")).unwrap();
            let over = f.disk.meta(&path("f")).unwrap().map(|meta| meta.stat());
            if at != Some(NEW.into()) {
                assert!(
                    run(&f.disk, &[write(&f.disk, "f", over)])[0].done.is_ok(),
                    "{case}: {:?}",
                    f.disk
                );
            }
            assert_eq!(f.disk.user_read("f"), Some(NEW.into()), "{case}");
            let all = f.disk.snapshot_all();
            let old: Vec<_> = all
                .iter()
                .filter(|(_, node)| node.bytes == OLD.as_bytes())
                .map(|(at, _)| at)
                .collect();
            assert!(
                old.len() == 1 && old[0].starts_with(".mesh/trash/"),
                "{case}: {old:?}"
            );
        },
    );
}

/// What is reported as done survives a loss of power.
#[test]
fn done_is_durable() {
    for (name, make) in groups() {
        for exchange in [true, false] {
            for seed in 0..30 {
                let (f, steps) = prepared(exchange, make);
                assert!(
                    run(&f.disk, &steps)
                        .iter()
                        .all(|outcome| outcome.done.is_ok()),
                    "{name}"
                );
                let names = |f: &Folder| -> Vec<(String, Vec<u8>)> {
                    f.disk
                        .snapshot_all()
                        .into_iter()
                        .map(|(path, node)| (path, node.bytes))
                        .collect()
                };
                let before = names(&f);
                f.disk.crash_power(&mut rng(seed));
                assert_eq!(
                    names(&f),
                    before,
                    "{name}, exchange {exchange}, seed {seed}"
                );
            }
        }
    }
}

/// The memory disk itself: unsynced content is old, empty, torn or new, and a renamed file keeps a name.
#[test]
fn the_memory_disk_forgets() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = MemDisk::new();
        disk.user_write("a", "old");
        disk.sync_all().unwrap();
        disk.user_write("a", "newer");
        disk.user_rename("a", "b");
        disk.crash_power(&mut rng(seed));
        let (a, b) = (disk.user_read("a"), disk.user_read("b"));
        assert!(a.is_some() != b.is_some(), "one of the names");
        seen.insert((a.is_some(), a.or(b).unwrap()));
    }
    for content in ["old", "", "new", "newer"] {
        for kept in [true, false] {
            assert!(seen.contains(&(kept, content.into())), "{content} {kept}");
        }
    }
}
