//! Every rule of the scan, as before, what the user does, and what is found.

use ownmesh_node::disk::scan::{ProblemKind, ScanError, Scope};
use ownmesh_node::disk::{Disk, PRIVATE, Stat, scan};

use super::base::{Folder, MS, path};

/// What is found after `act`, with base taking it in at once and afterwards; order counts.
fn check(before: &[&str], act: fn(&Folder), found: &[&str]) {
    for at_once in [true, false] {
        let mut folder = Folder::with(before);
        folder.at_once = at_once;
        act(&folder);
        folder.disk.advance(100 * MS);
        // The lines name ids by the paths that base has when the finding comes.
        assert_eq!(folder.lines(), found, "at once: {at_once}");
        folder.assert_agrees();
        folder.disk.advance(100 * MS);
        assert_eq!(
            folder.lines(),
            Vec::<String>::new(),
            "a second scan finds nothing more"
        );
    }
}

#[test]
fn new_things() {
    check(
        &["a"],
        |f| {
            f.disk.user_mkdir("d/e");
            f.disk.user_write("d/e/f", "f");
            f.disk.user_write("d/b", "b");
            f.disk.user_symlink("../a", "d/l");
        },
        &[
            "created dir d",
            "created file d/b",
            "created dir d/e",
            "created symlink d/l",
            "created file d/e/f",
        ],
    );
}

#[test]
fn edits() {
    check(&["a"], |f| f.disk.user_write("a", "other"), &["edited a"]);
    check(&["a"], |f| f.disk.user_append("a", "more"), &["edited a"]);
    // A safe-save: another inode under the same name is the same item.
    check(
        &["a", "b"],
        |f| f.disk.user_save("a", "other"),
        &["edited a"],
    );
    check(
        &["a"],
        |f| f.disk.user_save("a", "content of a"),
        &["touched a 644"],
    );
    // One inode takes the name of another item: the path decides.
    check(
        &["a", "b"],
        |f| f.disk.user_rename("a", "b"),
        &["edited b", "gone a"],
    );
}

#[test]
fn an_edit_of_the_same_size_in_the_same_tick_is_found() {
    let folder = Folder::new();
    folder.disk.user_write("a", "one");
    assert_eq!(folder.lines(), ["created file a"]);
    assert!(folder.base.row("a").racy);
    let before = folder.base.row("a").stat;
    folder.disk.user_write("a", "two");
    let now = folder.disk.meta(&path("a")).unwrap().unwrap();
    assert!(
        before.same_file_unchanged(&now),
        "the stat does not show it"
    );
    folder.disk.advance(100 * MS);
    assert_eq!(folder.lines(), ["edited a"]);
    assert_eq!(folder.lines(), Vec::<String>::new(), "hashed late enough");
}

#[test]
fn a_racy_file_is_hashed_once_more_and_then_trusted() {
    let folder = Folder::new();
    folder.disk.user_write("a", "one");
    folder.lines();
    assert_eq!(folder.lines(), ["refreshed a racy=true"]);
    folder.disk.advance(100 * MS);
    assert_eq!(folder.lines(), ["refreshed a racy=false"]);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(
        (lines.len(), report.hashed_bytes),
        (0, 0),
        "an unchanged file is not opened"
    );
}

#[test]
fn whole_seconds_are_a_coarse_clock() {
    let folder = Folder::new();
    folder.disk.set_rounding(2_000 * MS);
    folder.disk.user_write("a", "one");
    folder.disk.advance(500 * MS);
    folder.lines();
    assert!(
        folder.base.row("a").racy,
        "a write within two seconds would not show"
    );
}

#[test]
fn mode_and_mtime() {
    check(
        &["a"],
        |f| f.disk.user_chmod("a", 0o755),
        &["touched a 755"],
    );
    check(
        &["a"],
        |f| f.disk.user_touch("a", 1_000_000_007),
        &["touched a 644"],
    );
    check(
        &["d/"],
        |f| f.disk.user_chmod("d", 0o700),
        &["touched d 700"],
    );
    check(&["d/"], |f| f.disk.user_touch("d", 1_000_000_007), &[]);
    // There and back: only the ctime tells.
    check(
        &["a"],
        |f| {
            f.disk.user_chmod("a", 0o600);
            f.disk.user_chmod("a", 0o644);
        },
        &["refreshed a racy=false"],
    );
}

#[test]
fn moves() {
    check(
        &["a", "d/"],
        |f| f.disk.user_rename("a", "d/b"),
        &["moved a -> d/b"],
    );
    check(
        &["d/e/f", "d/g"],
        |f| f.disk.user_rename("d", "o"),
        &["moved d -> o"],
    );
    check(
        &["d/e/f", "d/g"],
        |f| {
            f.disk.user_rename("d", "o");
            f.disk.user_write("o/g", "other");
            f.disk.user_rm("o/e/f");
            f.disk.user_write("o/n", "n");
        },
        &[
            "moved d -> o",
            "edited o/g",
            "created file o/n",
            "gone o/e/f",
        ],
    );
    // Into a new directory, and out of a vanished one.
    check(
        &["d/a", "d/b"],
        |f| {
            f.disk.user_mkdir("n");
            f.disk.user_rename("d/a", "n/a");
            f.disk.user_rm("d");
        },
        &["created dir n", "moved d/a -> n/a", "gone d/b", "gone d"],
    );
    check(
        &["a"],
        |f| {
            f.disk.user_rename("a", "b");
            f.disk.user_chmod("b", 0o600);
        },
        &["moved a -> b", "touched b 600"],
    );
    // Moved and touched: the hash is equal.
    check(
        &["a"],
        |f| {
            f.disk.user_rename("a", "b");
            f.disk.user_touch("b", 1_000_000_007);
        },
        &["moved a -> b", "touched b 644"],
    );
    // Moved and edited cannot be told from a new file with a used inode number.
    check(
        &["a"],
        |f| {
            f.disk.user_rename("a", "b");
            f.disk.user_append("b", "more");
        },
        &["created file b", "gone a"],
    );
}

#[test]
fn a_name_below_a_moved_directory_that_was_left_is_free() {
    // The file is found first, then the directory; and the other way round.
    for (file, dir) in [("b", "c"), ("y", "x")] {
        for at_once in [true, false] {
            let mut folder = Folder::with(&["a/f"]);
            folder.at_once = at_once;
            folder.disk.user_rename("a/f", file);
            folder.disk.user_rename("a", dir);
            folder.disk.user_write(&format!("{dir}/f"), "another");
            folder.disk.advance(100 * MS);
            folder.lines();
            folder.assert_agrees();
        }
    }
}

#[test]
fn a_symlink_moves_and_is_edited() {
    let folder = Folder::new();
    folder.disk.user_symlink("x", "l");
    folder.lines();
    folder.disk.user_rename("l", "m");
    assert_eq!(folder.lines(), ["moved l -> m"]);
    folder.disk.user_rm("m");
    folder.disk.user_symlink("y", "m");
    assert_eq!(folder.lines(), ["edited m"]);
    folder.assert_agrees();
}

#[test]
fn log_rotation_keeps_the_log() {
    check(
        &["log"],
        |f| {
            f.disk.user_rename("log", "log.1");
            f.disk.user_write("log", "");
        },
        &["edited log", "created file log.1"],
    );
}

#[test]
fn a_directory_made_again_keeps_its_name_and_its_children_move() {
    check(
        &["docs/a", "docs/s/b"],
        |f| {
            f.disk.user_rename("docs", "old");
            f.disk.user_mkdir("docs");
        },
        &[
            "refreshed docs racy=false",
            "created dir old",
            "moved docs/a -> old/a",
            "moved docs/s -> old/s",
        ],
    );
}

#[test]
fn two_directories_swap_names() {
    check(
        &["d/a", "e/b"],
        |f| {
            f.disk.user_rename("d", "t");
            f.disk.user_rename("e", "d");
            f.disk.user_rename("t", "e");
        },
        &[
            "refreshed d racy=false",
            "refreshed e racy=false",
            "moved e/b -> d/b",
            "moved d/a -> e/a",
        ],
    );
}

#[test]
fn gone_and_another_kind() {
    check(
        &["d/e/f", "d/g", "a"],
        |f| f.disk.user_rm("d"),
        &["gone d/e/f", "gone d/e", "gone d/g", "gone d"],
    );
    check(
        &["a"],
        |f| {
            f.disk.user_rm("a");
            f.disk.user_mkdir("a/b");
        },
        &["created dir a", "created dir a/b", "gone a"],
    );
    // The directory moved away, a file took its name.
    check(
        &["d/a"],
        |f| {
            f.disk.user_rename("d", "e");
            f.disk.user_write("d", "file");
        },
        &["created file d", "moved d -> e"],
    );
}

#[test]
fn hard_links_are_files() {
    check(
        &["a"],
        |f| f.disk.user_link("a", "b"),
        &["refreshed a racy=false", "created file b"],
    );
    check(
        &["a"],
        |f| {
            f.disk.user_link("a", "x");
            f.disk.user_link("a", "y");
            f.disk.user_rm("a");
        },
        &["moved a -> x", "created file y"],
    );
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let folder = Folder::with(&["d/a", "b"]);
    folder.disk.deny("d", true);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(lines, Vec::<String>::new());
    assert_eq!(report.problems.len(), 1);
    assert_eq!(
        (report.problems[0].path.as_str(), report.problems[0].kind),
        ("d", ProblemKind::Unreadable)
    );
    folder.disk.deny("d", false);

    folder.disk.user_write("b", "edited, but unreadable");
    folder.disk.user_rename("b", "c");
    folder.disk.deny("c", true);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(
        (lines, report.problems.len()),
        (Vec::new(), 1),
        "c may be b"
    );
}

#[test]
fn what_has_no_place_in_a_mesh_is_a_problem() {
    let folder = Folder::with(&["a"]);
    folder.disk.user_fifo("fifo");
    folder.disk.user_write_non_utf8("bad", b"x");
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(lines, Vec::<String>::new());
    let kinds: Vec<_> = report
        .problems
        .iter()
        .map(|p| (p.path.as_str(), p.kind))
        .collect();
    assert_eq!(
        kinds,
        [("bad", ProblemKind::Name), ("fifo", ProblemKind::Special)]
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_reported() {
    let folder = Folder::with(&["a"]);
    folder.disk.user_write("a", "first");
    folder.disk.user_write("n", "new");
    folder.disk.advance(100 * MS);
    // One read for each file and its end: every one of them meets another write.
    for n in 0..4 {
        folder.disk.before_read(n, |disk| {
            disk.advance(MS);
            disk.user_append("a", "!");
            disk.user_append("n", "!");
        });
    }
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(lines, Vec::<String>::new());
    assert!(
        report
            .problems
            .iter()
            .all(|p| p.kind == ProblemKind::Changing),
        "{report:?}"
    );
    assert_eq!(report.problems.len(), 2);
    folder.disk.advance(100 * MS);
    assert_eq!(folder.lines(), ["edited a", "created file n"]);
}

#[test]
fn what_is_ignored_is_neither_new_nor_changed_nor_gone() {
    let mut folder = Folder::with(&["d/a", "d/keep", "x/b"]);
    folder.ignored = vec!["a".to_owned(), "x".to_owned()];
    folder.disk.user_write("d/a", "other");
    folder.disk.user_write("x/c", "new");
    folder.disk.user_rm("x/b");
    assert_eq!(folder.lines(), Vec::<String>::new());
    // What is not there is no deletion, and base does not go on to say that it is.
    folder.disk.user_rm("d/a");
    folder.disk.user_rm("x");
    let mut lines = folder.lines();
    lines.sort();
    assert_eq!(lines, ["forgotten d/a", "forgotten x"]);
    assert_eq!(folder.lines(), Vec::<String>::new());
}

#[test]
fn guards_stand_before_everything() {
    let folder = Folder::with(&["a"]);
    folder.disk.user_rm("a");
    folder.disk.set_fs_id(1);
    assert!(matches!(
        folder.scan(&Scope::All),
        Err(ScanError::OtherFilesystem)
    ));
    folder.disk.set_fs_id(folder.guard.fs_id);
    folder.disk.set_gone(true);
    assert!(matches!(
        folder.scan(&Scope::All),
        Err(ScanError::RootMissing)
    ));
    folder.disk.set_gone(false);
    folder.disk.user_write(".mesh/marker", "another space");
    assert!(matches!(
        folder.scan(&Scope::All),
        Err(ScanError::MarkerMissing)
    ));
    folder.disk.user_rm(PRIVATE);
    assert!(matches!(
        folder.scan(&Scope::All),
        Err(ScanError::MarkerMissing)
    ));
    assert!(folder.base.rows.borrow().len() == 1, "nothing was emitted");
}

#[test]
fn a_folder_that_vanishes_under_the_scan_is_not_deleted() {
    let folder = Folder::with(&["a", "b"]);
    folder.disk.user_write("a", "edited");
    // Between the comparison and the decision what is gone, the disk is pulled out.
    folder.disk.before_read(1, |disk| {
        disk.user_rm("b");
        disk.set_fs_id(1);
    });
    assert!(matches!(
        folder.scan(&Scope::All),
        Err(ScanError::OtherFilesystem)
    ));
    assert!(folder.base.rows.borrow().len() == 2);
}

#[test]
fn a_scope_looks_at_its_directories_only() {
    let folder = Folder::with(&["a", "d/b", "d/e/c", "x/y"]);
    for at in ["a", "d/b", "d/e/c", "x/y"] {
        folder.disk.user_write(at, "other");
    }
    folder.disk.user_mkdir("d/new/below");
    folder.disk.user_write("d/new/below/f", "f");
    folder.disk.advance(100 * MS);
    let scope = |dirs: &[&str]| Scope::Dirs(dirs.iter().map(|dir| path(dir)).collect());
    // An unknown directory stands for the nearest known one; mesh's own is nothing.
    let (lines, report) = folder
        .scan(&scope(&["d", "d/new", ".mesh/tmp", "d/gone/deep"]))
        .unwrap();
    assert_eq!(
        lines,
        [
            "edited d/b",
            "created dir d/new",
            "created dir d/new/below",
            "created file d/new/below/f"
        ]
    );
    assert_eq!(report.dirs, 3);
    assert_eq!(folder.scan(&scope(&["d/e"])).unwrap().0, ["edited d/e/c"]);
    assert_eq!(folder.scan(&scope(&[""])).unwrap().0, ["edited a"]);
    // A move between two directories of the scope, and one whose source is outside.
    folder.disk.user_rename("d/b", "x/b");
    folder.disk.advance(100 * MS);
    assert_eq!(
        folder.scan(&scope(&["d", "x"])).unwrap().0,
        ["moved d/b -> x/b", "edited x/y"]
    );
    folder.disk.user_rename("x/b", "d/b");
    folder.disk.advance(100 * MS);
    assert_eq!(folder.scan(&scope(&["d"])).unwrap().0, ["moved x/b -> d/b"]);
    folder.disk.user_rename("d", "x/d");
    folder.disk.user_rm("x/d/e/c");
    assert_eq!(
        folder.scan(&scope(&["", "x"])).unwrap().0,
        ["moved d -> x/d", "gone x/d/e/c"]
    );
    folder.assert_agrees();
}

#[test]
fn rounded_times_and_dropped_modes_are_no_edits() {
    let folder = Folder::new();
    folder.disk.set_rounding(2_000 * MS);
    folder.disk.user_write("a", "a");
    folder.disk.advance(10_000 * MS);
    folder.lines();
    // What the node asked for differs from what the filesystem keeps; base has what was read back.
    folder.disk.user_touch("a", 1_600_000_001_234_567_890);
    folder.disk.advance(10_000 * MS);
    assert_eq!(folder.lines(), ["touched a 644"]);
    assert_eq!(folder.base.row("a").mtime, 1_600_000_000_000_000_000);
    assert_eq!(folder.lines(), Vec::<String>::new());
}

#[test]
fn large_imports_come_in_groups() {
    let folder = Folder::new();
    for n in 0..2_500 {
        folder.disk.user_write(&format!("f{n:04}"), n.to_string());
    }
    // The harness asserts that no group is larger than a batch.
    assert_eq!(folder.lines().len(), 2_500);
    folder.assert_agrees();
    for n in 0..2_500 {
        folder.disk.user_rm(&format!("f{n:04}"));
    }
    assert_eq!(folder.lines().len(), 2_500);
}

#[test]
fn a_stopped_scan_says_so() {
    let folder = Folder::with(&[]);
    folder.disk.user_write("a", "a");
    let stopped = scan::scan(
        &folder.disk,
        &folder.guard,
        &folder.base,
        &folder.secret,
        &Scope::All.into(),
        &|_, _| false,
        &mut |_| Err(scan::Stop),
    );
    assert!(matches!(stopped, Err(ScanError::Stopped)));
}

#[test]
fn another_device_number_after_a_reboot_opens_nothing() {
    let folder = Folder::with(&["a"]);
    let id = folder.base.id("a");
    let mut rows = folder.base.rows.borrow_mut();
    let row = rows.get_mut(&id).unwrap();
    row.stat = Stat { dev: 1, ..row.stat };
    drop(rows);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(
        (lines, report.hashed_bytes),
        (vec!["refreshed a racy=false".to_owned()], 0)
    );
}
