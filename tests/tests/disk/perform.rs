//! What each step does and refuses, and saves that slip in between.

use std::collections::BTreeMap;

use ownmesh_crdt::item::Kind;
use ownmesh_crypto::ids::ItemId;
use ownmesh_node::disk::perform::{Outcome, Refused, Step, aside, parked, perform};
use ownmesh_node::disk::{Disk, Meta, MetaKind, RelPath, Stat, trash};
use ownmesh_tests::mem_disk::MemDisk;

use super::base::{Folder, MS, path};

pub(crate) const OLD: &str = "content of f";
pub(crate) const NEW: &str = "the new content";

pub(crate) fn id(n: u8) -> ItemId {
    ItemId::from_bytes([n; 16])
}

pub(crate) fn stat(disk: &MemDisk, at: &str) -> Stat {
    disk.meta(&path(at)).unwrap().unwrap().stat()
}

pub(crate) fn stage(disk: &MemDisk, name: &str, bytes: &str) -> Meta {
    let mut stage = disk.stage(name).unwrap();
    stage.write_at(bytes.as_bytes(), 0).unwrap();
    let meta = stage.finish(0o600, 5).unwrap();
    disk.sync_all().unwrap();
    meta
}

pub(crate) fn write(disk: &MemDisk, at: &str, over: Option<Stat>) -> Step {
    stage(disk, "s1", NEW);
    Step::Write {
        id: id(1),
        path: path(at),
        staged: "s1".to_owned(),
        over,
        mode: 0o640,
        mtime: 1_000_000_007,
    }
}

pub(crate) fn run(disk: &MemDisk, steps: &[Step]) -> Vec<Outcome> {
    perform(disk, steps, &|id| trash::name(1_000, id, "f"))
}

fn one(disk: &MemDisk, step: Step) -> Result<Option<Meta>, Refused> {
    run(disk, &[step]).remove(0).done
}

/// The contents in the trash.
fn trashed(disk: &MemDisk) -> Vec<String> {
    let all = trash::list(disk).unwrap();
    all.iter()
        .map(|t| {
            String::from_utf8(disk.user_read(&format!(".mesh/trash/{}", t.name)).unwrap()).unwrap()
        })
        .collect()
}

fn text(disk: &MemDisk, at: &str) -> Option<String> {
    disk.user_read(at)
        .map(|bytes| String::from_utf8(bytes).unwrap())
}

fn private_is_empty(disk: &MemDisk) {
    for dir in [".mesh/tmp", ".mesh/parked"] {
        assert!(
            disk.list(&path(dir)).unwrap().is_empty(),
            "{dir} of {disk:?}"
        );
    }
}

#[test]
fn a_new_file_needs_a_free_path() {
    let f = Folder::with(&["d/", "f"]);
    let step = write(&f.disk, "d/n", None);
    let meta = one(&f.disk, step).unwrap().unwrap();
    assert_eq!((meta.mode, meta.mtime_ns), (0o640, 1_000_000_007));
    assert_eq!(text(&f.disk, "d/n").unwrap(), NEW);
    private_is_empty(&f.disk);
    assert_eq!(
        one(&f.disk, write(&f.disk, "f", None)),
        Err(Refused::Occupied)
    );
    assert_eq!(text(&f.disk, "f").unwrap(), OLD);
    assert_eq!(
        one(&f.disk, write(&f.disk, "no/n", None)),
        Err(Refused::Missing)
    );
    f.disk.user_symlink("d", "link");
    assert_eq!(
        one(&f.disk, write(&f.disk, "link/n", None)),
        Err(Refused::Changed),
        "no symlink is followed"
    );
}

#[test]
fn what_is_replaced_goes_to_the_trash() {
    for exchange in [true, false] {
        let f = Folder::with(&["f"]);
        f.disk.set_exchange(exchange);
        let over = stat(&f.disk, "f");
        let meta = one(&f.disk, write(&f.disk, "f", Some(over)))
            .unwrap()
            .unwrap();
        assert_eq!(
            f.disk.meta(&path("f")).unwrap().unwrap(),
            meta,
            "base gets what can be read back"
        );
        assert_eq!(text(&f.disk, "f").unwrap(), NEW);
        assert_eq!(trashed(&f.disk), [OLD]);
        private_is_empty(&f.disk);
        // Again, and the same name in the trash: both are kept.
        one(&f.disk, write(&f.disk, "f", Some(stat(&f.disk, "f")))).unwrap();
        assert_eq!(trashed(&f.disk), [OLD, NEW]);
    }
}

#[test]
fn a_scan_after_a_write_finds_no_echo() {
    let f = Folder::with(&["f"]);
    f.disk.set_rounding(2_000 * MS);
    let meta = one(&f.disk, write(&f.disk, "f", Some(stat(&f.disk, "f"))))
        .unwrap()
        .unwrap();
    let id = f.base.id("f");
    {
        let mut rows = f.base.rows.borrow_mut();
        let row = rows.get_mut(&id).unwrap();
        (row.mode, row.mtime, row.stat) = (meta.mode, meta.mtime_ns, meta.stat());
        let hash = f.secret.content_hash(NEW.as_bytes());
        row.content = Some(ownmesh_crdt::item::Content::File {
            size: NEW.len() as u64,
            hash,
        });
    }
    f.disk.advance(5_000 * MS);
    assert_eq!(f.lines(), Vec::<String>::new());
}

#[test]
fn what_changed_is_not_replaced() {
    let f = Folder::with(&["f"]);
    let over = stat(&f.disk, "f");
    f.disk.user_write("f", "edited");
    assert_eq!(
        one(&f.disk, write(&f.disk, "f", Some(over))),
        Err(Refused::Changed)
    );
    let remove = Step::Remove {
        id: id(1),
        path: path("f"),
        kind: Kind::File,
        expect: over,
    };
    assert_eq!(one(&f.disk, remove), Err(Refused::Changed));
    let to = path("g");
    assert_eq!(
        one(
            &f.disk,
            Step::Move {
                id: id(1),
                from: path("f"),
                to,
                expect: over
            }
        ),
        Err(Refused::Changed)
    );
    assert_eq!(
        one(
            &f.disk,
            Step::Park {
                id: id(1),
                from: path("f"),
                expect: over
            }
        ),
        Err(Refused::Changed)
    );
    let meta = Step::Meta {
        id: id(1),
        path: path("f"),
        mode: 0o600,
        mtime: 1,
        expect: over,
    };
    assert_eq!(one(&f.disk, meta), Err(Refused::Changed));
    assert_eq!(text(&f.disk, "f").unwrap(), "edited");
    f.disk.user_rm("f");
    assert_eq!(
        one(&f.disk, write(&f.disk, "f", Some(over))),
        Err(Refused::Missing)
    );
    f.disk.user_mkdir("f");
    assert_eq!(
        one(&f.disk, write(&f.disk, "f", Some(stat(&f.disk, "f")))),
        Err(Refused::Changed)
    );
}

/// A save that slips in before any of the calls is at its path afterwards, or in the trash if the
/// step was over by then; nothing is lost and nothing stays where nobody looks.
#[test]
fn a_save_that_slips_in_is_never_lost() {
    type Save = fn(&MemDisk);
    let saves: [(&str, Save); 4] = [
        ("safe-save", |disk| disk.user_save("f", "saved")),
        ("in place", |disk| disk.user_write("f", "saved")),
        ("deleted and made again", |disk| {
            if disk.user_read("f").is_some() {
                disk.user_rm("f");
            }
            disk.user_write("f", "saved");
        }),
        ("moved away", |disk| {
            if disk.user_read("f").is_some() {
                disk.user_rename("f", "g");
            }
            disk.user_write("h", "saved");
        }),
    ];
    let steps: [fn(&Folder) -> Step; 5] = [
        |f| write(&f.disk, "f", Some(stat(&f.disk, "f"))),
        |f| Step::Remove {
            id: id(1),
            path: path("f"),
            kind: Kind::File,
            expect: stat(&f.disk, "f"),
        },
        |f| Step::Move {
            id: id(1),
            from: path("f"),
            to: path("m"),
            expect: stat(&f.disk, "f"),
        },
        |f| Step::Park {
            id: id(1),
            from: path("f"),
            expect: stat(&f.disk, "f"),
        },
        |f| Step::Link {
            id: id(1),
            path: path("f"),
            target: "t".to_owned(),
            over: Some(stat(&f.disk, "f")),
            mtime: Some(1_000),
        },
    ];
    for (n, make) in steps.iter().enumerate() {
        for (how, save) in saves {
            for exchange in [true, false] {
                for at in 0..10 {
                    for again in at..10 {
                        let f = Folder::with(&["f"]);
                        f.disk.set_exchange(exchange);
                        let step = make(&f);
                        f.disk.before_op(at, move |disk| {
                            disk.advance(MS);
                            save(disk);
                        });
                        if again > at {
                            f.disk.before_op(again, |disk| {
                                disk.advance(MS);
                                disk.user_save("f", "saved again");
                            });
                        }
                        let before = f.disk.ops();
                        let done = run(&f.disk, &[step]).remove(0).done;
                        let ops = f.disk.ops() - before;
                        let case = format!(
                            "step {n}, {how} at {at}, again at {again} of {ops}: {done:?} {:?}",
                            f.disk
                        );
                        let all: Vec<Vec<u8>> = f
                            .disk
                            .snapshot_all()
                            .into_values()
                            .map(|node| node.bytes)
                            .collect();
                        let has = |text: &str| all.iter().any(|bytes| bytes == text.as_bytes());
                        if again > at && again < ops {
                            assert!(has("saved again"), "{case}");
                        } else if at < ops && again == at {
                            assert!(has("saved"), "{case}");
                        }
                        // What a user wrote is at a path of the user's, or in the trash.
                        for hidden in [".mesh/tmp", ".mesh/parked"] {
                            for entry in f.disk.list(&path(hidden)).unwrap() {
                                let at = format!("{hidden}/{}", entry.name.unwrap());
                                let kept = f.disk.user_read(&at);
                                let ours = kept.is_none_or(|bytes| bytes == NEW.as_bytes());
                                assert!(ours || (n == 3 && done.is_ok()), "{at}: {case}");
                            }
                        }
                        // Done means that what was replaced is what base said.
                        if done.is_ok() {
                            assert!(trashed(&f.disk).iter().all(|text| text == OLD), "{case}");
                        } else if again == at && at < ops && how != "moved away" {
                            assert_eq!(text(&f.disk, "f").as_deref(), Some("saved"), "{case}");
                        }
                        if let (0, Ok(base)) = (n, done) {
                            let base = base.unwrap();
                            let now = f.disk.meta(&path("f")).unwrap();
                            let wrote = text(&f.disk, "f").is_some_and(|text| text == NEW);
                            assert_eq!(
                                now.is_some_and(|now| base.stat().same_file_unchanged(&now)),
                                wrote,
                                "{case}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn symlinks_are_made_and_replaced() {
    for exchange in [true, false] {
        let f = Folder::with(&["f"]);
        f.disk.set_exchange(exchange);
        let link = |at: &str, target: &str, over: Option<Stat>| Step::Link {
            id: id(2),
            path: path(at),
            target: target.to_owned(),
            over,
            mtime: Some(1_000),
        };
        assert_eq!(
            one(&f.disk, link("l", "../x", None)).unwrap().unwrap().kind,
            MetaKind::Symlink
        );
        assert_eq!(one(&f.disk, link("l", "y", None)), Err(Refused::Occupied));
        one(&f.disk, link("l", "y", Some(stat(&f.disk, "l")))).unwrap();
        one(&f.disk, link("f", "z", Some(stat(&f.disk, "f")))).unwrap();
        assert_eq!(f.disk.read_link(&path("l")).unwrap(), "y");
        assert_eq!(f.disk.read_link(&path("f")).unwrap(), "z");
        assert_eq!(trash::list(&f.disk).unwrap().len(), 2);
        private_is_empty(&f.disk);
    }
}

#[test]
fn a_circle_of_names_goes_through_the_parking() {
    let f = Folder::with(&["a", "d/b"]);
    let steps = [
        Step::Park {
            id: id(1),
            from: path("a"),
            expect: stat(&f.disk, "a"),
        },
        Step::Move {
            id: id(2),
            from: path("d"),
            to: path("a"),
            expect: stat(&f.disk, "d"),
        },
        Step::Unpark {
            id: id(1),
            to: path("d"),
        },
        // The ctime is not base's any more after the two before: only that is overlooked.
        Step::Meta {
            id: id(1),
            path: path("d"),
            mode: 0o600,
            mtime: 9,
            expect: stat(&f.disk, "a"),
        },
    ];
    let outcomes = run(&f.disk, &steps);
    assert!(
        outcomes.iter().all(|outcome| outcome.done.is_ok()),
        "{outcomes:?}"
    );
    assert_eq!(text(&f.disk, "d").unwrap(), "content of a");
    assert_eq!(text(&f.disk, "a/b").unwrap(), "content of d/b");
    let meta = outcomes[3].done.clone().unwrap().unwrap();
    assert_eq!((meta.mode, meta.mtime_ns), (0o600, 9));
    private_is_empty(&f.disk);
    assert_eq!(
        one(
            &f.disk,
            Step::Unpark {
                id: id(1),
                to: path("x")
            }
        ),
        Err(Refused::Missing)
    );
}

#[test]
fn only_empty_directories_are_removed() {
    let f = Folder::with(&["d/a"]);
    let remove = |f: &Folder| Step::Remove {
        id: id(1),
        path: path("d"),
        kind: Kind::Dir,
        expect: stat(&f.disk, "d"),
    };
    assert_eq!(one(&f.disk, remove(&f)), Err(Refused::NotEmpty));
    f.disk.user_rm("d/a");
    assert_eq!(one(&f.disk, remove(&f)), Ok(None));
    f.disk.user_mkdir("d");
    let other = Step::Remove {
        id: id(1),
        path: path("d"),
        kind: Kind::Dir,
        expect: Stat::default(),
    };
    assert_eq!(
        one(&f.disk, other),
        Err(Refused::Changed),
        "another directory under the name"
    );
    let file = Step::Remove {
        id: id(1),
        path: path("d"),
        kind: Kind::File,
        expect: stat(&f.disk, "d"),
    };
    assert_eq!(one(&f.disk, file), Err(Refused::Changed));
}

#[test]
fn a_refused_step_does_not_stop_the_others_and_errors_have_names() {
    let f = Folder::with(&["f", "d/"]);
    let outcomes = run(
        &f.disk,
        &[
            Step::MakeDir {
                id: id(1),
                path: path("f"),
                mode: 0o755,
            },
            Step::MakeDir {
                id: id(2),
                path: path("d/e"),
                mode: 0o750,
            },
            Step::Move {
                id: id(3),
                from: path("f"),
                to: path("d/e/f"),
                expect: stat(&f.disk, "f"),
            },
        ],
    );
    let done: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.done.as_ref().map(|meta| meta.unwrap().mode))
        .collect();
    assert_eq!(done, [Err(&Refused::Occupied), Ok(0o750), Ok(0o644)]);
    f.disk.set_free(0);
    assert_eq!(
        one(
            &f.disk,
            Step::MakeDir {
                id: id(1),
                path: path("x"),
                mode: 0o755
            }
        ),
        Err(Refused::NoSpace)
    );
}

#[test]
fn nothing_goes_into_a_directory_that_only_has_the_name_of_the_one_meant() {
    let f = Folder::with(&["d/", "d/kept", "p"]);
    let circle = stat(&f.disk, "p");
    let made = |path_: &str, n| Step::MakeDir {
        id: id(n),
        path: path(path_),
        mode: 0o755,
    };
    let steps = [
        Step::Park {
            id: id(9),
            from: path("p"),
            expect: circle,
        },
        made("d", 2),
        write(&f.disk, "d/n", None),
        made("d/e", 3),
        Step::Unpark {
            id: id(9),
            to: path("d/p"),
        },
        made("free", 4),
    ];
    let done: Vec<_> = run(&f.disk, &steps).into_iter().map(|o| o.done).collect();
    assert!(done[0].is_ok());
    assert_eq!(done[1], Err(Refused::Occupied));
    assert_eq!(done[2], Err(Refused::Missing));
    assert_eq!(done[3], Err(Refused::Missing));
    // What was parked does not stay where nobody sees it.
    assert_eq!(done[4], Err(Refused::Aside));
    assert!(done[5].is_ok());
    assert_eq!(text(&f.disk, "d/n"), None);
    assert!(text(&f.disk, aside(&id(9)).as_str()).is_some());
}

#[test]
fn trash_gives_back() {
    let f = Folder::with(&["f"]);
    one(
        &f.disk,
        Step::Remove {
            id: id(0xab),
            path: path("f"),
            kind: Kind::File,
            expect: stat(&f.disk, "f"),
        },
    )
    .unwrap();
    let all = trash::list(&f.disk).unwrap();
    assert_eq!(
        (all[0].at, all[0].id.as_str(), all[0].original.as_str()),
        (1_000, "abababab", "f")
    );
    f.disk.user_write("taken", "x");
    assert!(trash::restore(&f.disk, &all[0].name, &path("taken")).is_err());
    trash::restore(&f.disk, &all[0].name, &path("back")).unwrap();
    assert_eq!(text(&f.disk, "back").unwrap(), OLD);
    assert!(trash::list(&f.disk).unwrap().is_empty());
    f.disk.user_rm("taken");
    f.disk.user_write(".mesh/trash/1000-abababab-f", "old");
    assert_eq!(trash::sweep(&f.disk, 1_000 + trash::KEEP - 1).unwrap(), 0);
    assert_eq!(trash::sweep(&f.disk, 1_000 + trash::KEEP).unwrap(), 1);
    assert!(trash::list(&f.disk).unwrap().is_empty());
    f.disk.advance(100 * MS);
    assert_eq!(
        f.lines(),
        ["moved f -> back"],
        "the next scan sees that it is back"
    );
}

#[test]
fn a_directory_that_moved_is_synced_where_it_is() {
    let f = Folder::with(&["d/"]);
    let steps = [
        write(&f.disk, "d/n", None),
        Step::Move {
            id: id(2),
            from: path("d"),
            to: path("e"),
            expect: stat(&f.disk, "d"),
        },
    ];
    assert!(
        run(&f.disk, &steps)
            .iter()
            .all(|outcome| outcome.done.is_ok())
    );
    let mut rng = super::crash::rng(1);
    f.disk.crash_power(&mut rng);
    let seen: BTreeMap<String, usize> = f
        .disk
        .snapshot()
        .into_iter()
        .map(|(path, node)| (path, node.bytes.len()))
        .collect();
    assert_eq!(
        seen,
        BTreeMap::from([("e".to_owned(), 0), ("e/n".to_owned(), NEW.len())])
    );
    assert_eq!(
        parked(&id(1)),
        RelPath::parse(&format!(".mesh/parked/{}", id(1))).unwrap()
    );
}
