//! What moved: what is read of it, and what a look at a part may say of what it does not find.

use ownmesh_node::disk::scan::{Look, Scope};
use ownmesh_node::disk::{Disk, Stat};

use super::base::{Folder, MS, path};

fn dirs(at: &[&str]) -> Scope {
    Scope::Dirs(at.iter().map(|dir| path(dir)).collect())
}

/// Other bytes, and neither size nor mtime show it.
fn edit_unseen(folder: &Folder, at: &str) {
    let before = folder.disk.meta(&path(at)).unwrap().unwrap();
    let bytes = folder.disk.user_read(at).unwrap().to_ascii_uppercase();
    folder.disk.user_write(at, bytes);
    folder.disk.user_touch(at, before.mtime_ns);
    folder.disk.advance(100 * MS);
}

#[test]
fn an_edit_that_keeps_size_and_mtime_is_found_after_a_move() {
    for at_once in [true, false] {
        let mut folder = Folder::with(&["a", "d/in", "e/f"]);
        folder.at_once = at_once;
        for at in ["a", "d/in", "e/f"] {
            edit_unseen(&folder, at);
        }
        folder.disk.user_rename("a", "b");
        folder.disk.user_rename("d", "o");
        folder.disk.user_rename("e/f", "e/g");
        folder.disk.advance(100 * MS);
        let lines = folder.lines();
        let edited = lines.iter().filter(|line| line.starts_with("edited"));
        let moved = lines.iter().filter(|line| line.starts_with("moved"));
        let found = (edited.count(), moved.count(), lines.len());
        assert_eq!(found, (3, 3, 6), "{lines:?}");
        folder.assert_agrees();
        assert_eq!(folder.lines(), Vec::<String>::new());
    }
}

#[test]
fn a_move_costs_one_read_of_what_was_itself_renamed() {
    let folder = Folder::with(&["a", "d/e/f", "d/g"]);
    folder.disk.user_rename("d", "o");
    folder.disk.advance(100 * MS);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!((lines.len(), report.hashed_bytes), (1, 0), "a directory");
    // Its name taken again: what was in it is found one by one, and not read either.
    folder.disk.user_rename("o", "d");
    folder.disk.user_mkdir("o");
    folder.disk.advance(100 * MS);
    let (_, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(report.hashed_bytes, 0);
    folder.assert_agrees();

    folder.disk.user_rename("a", "b");
    folder.disk.advance(100 * MS);
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(lines, ["moved a -> b"]);
    assert_eq!(report.hashed_bytes, "content of a".len() as u64);
    let (_, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(report.hashed_bytes, 0, "once");

    // A filesystem whose renames leave the ctime alone.
    folder.disk.user_rename("b", "c");
    folder.disk.advance(100 * MS);
    let now = folder.disk.meta(&path("c")).unwrap().unwrap();
    let id = folder.base.id("b");
    if let Some(row) = folder.base.rows.borrow_mut().get_mut(&id) {
        row.stat = Stat {
            ctime_ns: now.ctime_ns,
            ..row.stat
        };
    }
    let (lines, report) = folder.scan(&Scope::All).unwrap();
    assert_eq!(lines, ["moved b -> c"]);
    assert_eq!(report.hashed_bytes, 0);
}

/// `rm -r a; mkdir b`: the filesystem gave b the number that a had.
#[test]
fn a_directory_with_the_number_of_a_deleted_one_is_another() {
    for (inside, lines) in [
        (
            &["new"][..],
            ["created dir b", "created file b/new", "gone a"],
        ),
        (&[], ["created dir b", "gone a", ""]),
    ] {
        let folder = Folder::with(&["a/f", "a/g"]);
        for gone in ["a/f", "a/g", "a"] {
            folder.disk.user_rm(gone);
        }
        folder.disk.user_mkdir("b");
        for name in inside {
            folder.disk.user_write(&format!("b/{name}"), "n");
        }
        folder.disk.advance(100 * MS);
        let ino = folder.disk.meta(&path("b")).unwrap().unwrap().ino;
        let id = folder.base.id("a");
        if let Some(row) = folder.base.rows.borrow_mut().get_mut(&id) {
            row.stat.ino = ino;
        }
        let (found, _) = folder.scan(&Scope::All).unwrap();
        let lines: Vec<&str> = lines.into_iter().filter(|l| !l.is_empty()).collect();
        for line in lines {
            assert!(found.iter().any(|l| l.starts_with(line)), "{found:?}");
        }
        assert!(!found.iter().any(|l| l.starts_with("moved")), "{found:?}");
        folder.assert_agrees();
    }
}

#[test]
fn a_look_at_a_directory_whose_name_was_taken_finds_where_it_went() {
    let folder = Folder::with(&["p/a/f", "p/a/s/g", "p/k"]);
    folder.disk.user_rename("p/a", "p/z");
    folder.disk.user_mkdir("p/a");
    folder.disk.user_write("p/a/decoy", "d");
    folder.disk.advance(100 * MS);
    let (lines, report) = folder.scan(&dirs(&["p/a"])).unwrap();
    assert_eq!(
        lines,
        [
            "refreshed p/a racy=false",
            "created dir p/z",
            "created file p/a/decoy",
            "moved p/a/f -> p/z/f",
            "moved p/a/s -> p/z/s",
        ]
    );
    assert!(report.doubted.is_empty());
    folder.assert_agrees();

    // And all the way up: each directory above is another one too.
    folder.disk.user_rename("p", "q");
    folder.disk.user_mkdir("p/z/s");
    folder.disk.advance(100 * MS);
    let (lines, report) = folder.scan(&dirs(&["p/z/s"])).unwrap();
    assert!(
        !lines.iter().any(|line| line.starts_with("gone")),
        "{lines:?}"
    );
    assert!(report.doubted.is_empty(), "{:?}", report.doubted);
    folder.assert_agrees();
}

#[test]
fn what_a_look_at_a_part_misses_is_gone_with_the_second() {
    let folder = Folder::with(&["p/a/f", "p/b/g", "p/k", "q/l"]);
    // One directory went to where this look does not come, another made room for a new one.
    folder.disk.user_rename("p/a", "q/a");
    folder.disk.user_rename("p/b", "q/b");
    folder.disk.user_mkdir("p/b");
    folder.disk.user_rm("p/k");
    folder.disk.advance(100 * MS);
    let (lines, report) = folder.scan(&dirs(&["p", "p/b"])).unwrap();
    assert_eq!(lines, ["refreshed p/b racy=false", "gone p/k"]);
    let doubted: Vec<_> = report.doubted.iter().map(ToString::to_string).collect();
    assert_eq!(doubted, ["p", "p/b"]);
    let (lines, _) = folder.scan(&dirs(&["q"])).unwrap();
    assert_eq!(
        lines,
        [
            "moved p/a -> q/a",
            "created dir q/b",
            "moved p/b/g -> q/b/g"
        ]
    );
    folder.assert_agrees();

    // What is nowhere is gone.
    folder.disk.user_rm("q/a");
    let (lines, report) = folder.scan(&dirs(&["q"])).unwrap();
    assert_eq!(lines, Vec::<String>::new());
    let look = Look {
        again: report.doubted,
        ..dirs(&["q"]).into()
    };
    let (lines, report) = folder.look(&look).unwrap();
    assert_eq!(lines, ["gone q/a/f", "gone q/a"]);
    assert!(report.doubted.is_empty());
    folder.assert_agrees();
}
