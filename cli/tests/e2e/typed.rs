//! What people type: paths of things that are gone, answers to a folder that is gone.

use std::fs;

use crate::world::{World, check, settle, until};

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
