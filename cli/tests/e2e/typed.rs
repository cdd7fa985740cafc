//! What people type: paths of things that are gone, answers to a folder that is gone.

use std::fs;
use std::path::Path;

use crate::world::{World, check, settle, until};

#[test]
fn paths_of_what_is_gone_are_taken_from_the_current_directory() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("d/a", "one");
        laptop.write("d/b", "two");
        laptop.write("top", "three");
        laptop.write("work/x", "x");
    });
    fs::remove_dir_all(desktop.at("d")).unwrap();
    fs::remove_file(desktop.at("top")).unwrap();
    desktop.scan();
    settle(&laptop, &desktop, "the deletions");
    let (root, work) = (laptop.at(""), laptop.at("work"));
    let ok = |dir: &Path, args: &[&str]| {
        let ended = laptop.mesh_in(dir, args);
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.json()
    };
    // The directory is gone too, and a word may be a file that is gone.
    for (dir, path) in [(&root, "d/a"), (&root, "top"), (&work, "../d/a")] {
        let history = ok(dir, &["history", path]);
        assert_eq!(history["versions"][0]["what"][0], "deleted", "{path}");
    }
    let path = |reply: serde_json::Value| reply["path"].as_str().unwrap().to_owned();
    assert_eq!(path(ok(&root, &["trash", "restore", "d/a"])), "d/a");
    assert_eq!(path(ok(&root, &["trash", "restore", "top"])), "top");

    // Where something is to go, as git takes it; from elsewhere from the root of the space.
    let to =
        |dir: &Path, item: &str, to: &str| path(ok(dir, &["trash", "restore", item, "--to", to]));
    assert_eq!(to(&work, "docs:d/b", "b2"), "work/b2");
    let version = ok(&root, &["history", "work/x"])["versions"][0]["version"].clone();
    let version = version.as_str().unwrap();
    let put = |dir: &Path, to: &str| {
        path(ok(
            dir,
            &["history", "docs:work/x", "--restore", version, "--to", to],
        ))
    };
    assert_eq!(put(&work, "x2"), "work/x2");
    assert_eq!(put(Path::new("/"), "x3"), "x3");
    assert_eq!(put(Path::new("/"), "docs:x4"), "x4");
    let args = [
        "history",
        "docs:work/x",
        "--restore",
        version,
        "--to",
        "/nowhere/x",
    ];
    let error = laptop.refused(2, &args);
    assert_eq!(error["item"], "/nowhere/x", "{error}");
    let names = ["work/b2", "work/x2", "x3", "x4"];
    until("they stand there", || {
        let there = laptop.tree();
        check(names.iter().all(|n| there.0.contains_key(*n)), there)
    });
    // A word that is nothing is named as it was typed.
    let ended = laptop.mesh_in(&root, &["trash", "restore", "nothing"]);
    assert_eq!(
        (ended.code, &ended.json()["error"]["item"]),
        (6, &"nothing".into())
    );
}

#[test]
fn why_names_the_trash_that_has_what_was_deleted() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("a", "a"));
    fs::remove_file(laptop.at("a")).unwrap();
    laptop.scan();
    settle(&laptop, &desktop, "the deletion");
    let next = |found: serde_json::Value| found["next"].as_str().unwrap().to_owned();
    let here = next(laptop.json(&["why", "docs:a"]));
    assert!(
        here.contains("desktop") && here.contains("has not got it"),
        "{here}"
    );
    let there = next(desktop.json(&["why", "docs:a"]));
    assert!(
        there.contains("the trash of the folder keeps it"),
        "{there}"
    );
}

#[test]
fn a_folder_that_is_gone_is_made_by_revert_and_by_nothing_else() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.pair();
    desktop.folder = desktop.root.join("disk/docs");
    fs::create_dir_all(&desktop.folder).unwrap();
    for n in 0..30 {
        laptop.write(&format!("d/n{n}"), format!("text {n}"));
    }
    laptop.add();
    desktop.add();
    settle(&laptop, &desktop, "the first sync");
    let good = laptop.tree();

    let stopped = || {
        desktop.mesh(&["scan", "docs", "--wait"]);
        until("the desktop stops and asks", || {
            let space = desktop.space();
            check(space["state"] == "stopped", space)
        });
    };
    let (disk, away) = (desktop.root.join("disk"), desktop.root.join("away"));
    fs::rename(&disk, &away).unwrap();
    stopped();
    // Without what was above it, it may be on a disk that is not mounted.
    let error = desktop.refused(4, &["revert", "docs", "--yes"]);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains(disk.to_str().unwrap()),
        "{error}"
    );
    assert!(!disk.exists());

    fs::create_dir(&disk).unwrap();
    let error = desktop.refused(4, &["continue", "docs", "--yes"]);
    assert!(
        error["hint"].as_str().unwrap().contains("mesh revert docs"),
        "{error}"
    );
    assert!(!desktop.folder.exists());
    assert_eq!(desktop.space()["state"], "stopped");
    desktop.json(&["revert", "docs", "--yes"]);
    settle(&laptop, &desktop, "the folder is filled again");
    assert_eq!(desktop.tree().differences(&good), Vec::<String>::new());
    assert_eq!(laptop.tree().differences(&good), Vec::<String>::new());
}
