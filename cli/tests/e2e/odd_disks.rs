//! Disks that are full, not ours to write or read, gone, or not the ones they were.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::device::Device;
use crate::world::{World, check, settle, until};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Waits until the device shows that something is wrong with its space.
#[track_caller]
fn complains(device: &Device, about: &str) -> Value {
    let mut found = Value::Null;
    until(about, || {
        let space = device.space();
        found = space["problems"].clone();
        check(found.as_array().is_some_and(|p| !p.is_empty()), space)
    });
    found
}

#[test]
fn a_full_disk_is_shown_and_sync_goes_on_when_there_is_room() {
    let Some(world) = World::lan() else { return };
    let (laptop, mut desktop) = world.pair();
    let (lan, side) = desktop.side.clone().unwrap();
    let folder = desktop.folder.to_string_lossy().into_owned();
    lan.run(
        side,
        &format!("mount -t tmpfs -o size=12m,mode=755 tmpfs {folder}"),
    )
    .unwrap();
    laptop.write("fits", vec![1; 1 << 20]);
    laptop.add();
    desktop.add();
    settle(&laptop, &desktop, "what fits");
    for part in 0..4 {
        laptop.write(&format!("large-{part}"), vec![part; 5 << 20]);
    }
    laptop.scan();
    let shown = complains(&desktop, "the full disk is shown");
    assert!(
        shown
            .to_string()
            .contains("no room left on the disk for large-"),
        "{shown}"
    );
    let waited = laptop.mesh(&["wait", "--all", "--timeout", "1"]);
    assert_eq!(
        waited.code, 7,
        "not everything can have arrived: {waited:?}"
    );
    for name in desktop.tree().names() {
        assert_eq!(desktop.read(name), laptop.read(name), "{name} is torn");
    }
    // What is here is not said to lack room; what is not, is.
    let why = |name: &str| desktop.json(&["why", &format!("docs:{name}")]);
    assert_eq!(why("fits")["state"], "in_sync");
    let mut large = (0..4).map(|part| format!("large-{part}"));
    let lacking = large.find(|name| desktop.read(name).is_none());
    let told = why(&lacking.expect("not all fit"));
    assert_eq!(told["state"], "problem", "{told}");
    assert!(told["words"].to_string().contains("no room left"), "{told}");
    let doctor = desktop.mesh(&["doctor"]).json();
    let remedy = "mesh trash empty --space docs";
    assert_eq!(doctor["ok"], false, "{doctor}");
    assert!(doctor.to_string().contains(remedy), "{doctor}");
    desktop.write("small", "a save on the full side");
    lan.run(side, &format!("mount -o remount,size=64m {folder}"))
        .unwrap();
    settle(&laptop, &desktop, "there is room again");
    assert_eq!(laptop.tree().files(), 6, "{:?}", laptop.tree().names());
    until("the problem is over", || {
        let space = desktop.space();
        check(
            space["problems"].as_array().is_some_and(Vec::is_empty),
            space,
        )
    });
    desktop.kill();
}

#[test]
fn a_full_disk_under_the_home_is_called_that() {
    let Some(world) = World::lan() else { return };
    let mut laptop = world.device("laptop");
    let home = laptop.home.display().to_string();
    let (lan, side) = laptop.side.clone().unwrap();
    lan.run(
        side,
        &format!("mkdir {home} && mount -t tmpfs -o size=8m,mode=700 tmpfs {home}"),
    )
    .unwrap();
    laptop.init();
    laptop.add();
    let fill = format!("dd if=/dev/zero of={home}/fill bs=4k 2>/dev/null || true");
    lan.run(side, &fill).unwrap();
    // The log has some room left in what it holds already: it is used up before long.
    until("it is said", || {
        let renamed = laptop.mesh(&["device", "rename", "laptop", "other"]);
        let back = laptop.mesh(&["device", "rename", "other", "laptop"]);
        let said = [&renamed, &back].map(|e| e.stdout.clone());
        let full = format!("no room left on the disk of {home}/mesh.db");
        check(said.iter().any(|s| s.contains(&full)), said)
    });
    lan.run(side, &format!("rm {home}/fill")).unwrap();
    until("it goes on", || {
        let ended = laptop.mesh(&["scan", "docs", "--wait"]);
        check(ended.code == 0, ended)
    });
    laptop.down();
}

#[test]
fn a_directory_that_cannot_be_written_is_shown_and_the_rest_goes_on() {
    let Some(world) = World::lan() else { return };
    let (laptop, desktop) = pair_with_files(world.device("laptop"), world.device("desktop"));
    let (lan, side) = desktop.side.clone().unwrap();
    let locked = desktop.folder.join("locked").display().to_string();
    lan.run(
        side,
        &format!("mount --bind {locked} {locked}; mount -o remount,bind,ro {locked}"),
    )
    .unwrap();
    laptop.write("locked/new", "new");
    fs::remove_file(laptop.at("locked/old")).unwrap();
    laptop.write("free", "edited");
    let problems = complains(&desktop, "the read-only directory is shown");
    assert!(
        problems.to_string().contains("locked"),
        "the problem names it: {problems}"
    );
    until("the rest goes on", || {
        check(
            desktop.read("free").as_deref() == Some(b"edited"),
            desktop.read("free"),
        )
    });
    assert_eq!(
        laptop.read("locked/new").as_deref(),
        Some(&b"new"[..]),
        "nothing goes back"
    );
    lan.run(side, &format!("umount {locked}")).unwrap();
    settle(&laptop, &desktop, "it can be written again");
    assert!(laptop.at("locked/new").exists() && !laptop.at("locked/old").exists());
}

#[test]
fn what_cannot_be_read_is_shown_and_never_taken_for_deleted() {
    let world = World::loopback();
    let (mut laptop, desktop) = (world.device("laptop"), world.device("desktop"));
    laptop.powerless = true;
    let (laptop, desktop) = pair_with_files(laptop, desktop);
    chmod(&laptop.at("locked"), 0o000);
    laptop.write("secret", "cannot be read");
    chmod(&laptop.at("secret"), 0o000);
    laptop.write("free", "edited");
    laptop.scan();
    let problems = complains(&laptop, "what cannot be read is shown");
    assert!(
        problems.to_string().contains("locked"),
        "the problem names it: {problems}"
    );
    until("the rest goes on", || {
        check(
            desktop.read("free").as_deref() == Some(b"edited"),
            desktop.read("free"),
        )
    });
    assert_eq!(
        desktop.read("locked/old").as_deref(),
        Some(&b"old"[..]),
        "unreadable is not deleted"
    );
    chmod(&laptop.at("locked"), 0o755);
    chmod(&laptop.at("secret"), 0o644);
    settle(&laptop, &desktop, "it can be read again");
    assert_eq!(
        desktop.read("secret").as_deref(),
        Some(&b"cannot be read"[..])
    );
}

fn pair_with_files(mut laptop: Device, mut desktop: Device) -> (Device, Device) {
    laptop.init();
    laptop.let_in(&mut desktop);
    laptop.write("locked/old", "old");
    laptop.write("free", "free");
    laptop.add();
    desktop.add();
    settle(&laptop, &desktop, "the first sync");
    (laptop, desktop)
}

/// Two devices of which the desktop's folder is replaced by `other` while its node is off, and then comes back.
fn folder_away(other: impl FnOnce(&Path), running: bool) {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| {
        (0..30).for_each(|i| laptop.write(&format!("f{i}"), format!("{i}")));
    });
    let aside = desktop.root.join("elsewhere");
    if !running {
        desktop.down();
    }
    fs::rename(&desktop.folder, &aside).unwrap();
    other(&desktop.folder);
    if !running {
        desktop.up();
    }
    // A stopped space says so to whoever asks it to look.
    let looked = desktop.mesh(&["scan", "docs", "--wait"]);
    until("the desktop stops", || {
        let space = desktop.space();
        check(
            matches!(space["state"].as_str(), Some("stopped" | "error")),
            (space, looked.stdout.clone()),
        )
    });
    laptop.write("meanwhile", "meanwhile");
    laptop.scan();
    assert_eq!(
        laptop.tree().files(),
        31,
        "an empty mount point is not a deletion: {:?}",
        laptop.tree().names()
    );
    let there: Vec<_> = fs::read_dir(&desktop.folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(
        there.is_empty(),
        "nothing is written where the folder is not: {there:?}"
    );
    let _gone = fs::remove_dir(&desktop.folder);
    fs::rename(&aside, &desktop.folder).unwrap();
    desktop.mesh(&["continue", "docs", "--yes"]);
    desktop.mesh(&["scan", "docs", "--wait"]);
    settle(&laptop, &desktop, "the folder is back");
    assert_eq!(desktop.tree().files(), 31);
}

#[test]
fn a_folder_that_is_gone_is_not_a_deletion() {
    folder_away(|_| (), false);
}

#[test]
fn an_empty_mount_point_is_not_a_deletion() {
    folder_away(|path| fs::create_dir(path).unwrap(), false);
}

#[test]
fn a_folder_that_goes_away_while_the_node_runs_is_not_a_deletion() {
    folder_away(|path| fs::create_dir(path).unwrap(), true);
}

#[test]
fn a_folder_that_is_lost_is_filled_again_when_told() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        (0..30).for_each(|i| laptop.write(&format!("d/f{i}"), format!("{i}")));
    });
    fs::rename(&desktop.folder, desktop.root.join("lost")).unwrap();
    fs::create_dir(&desktop.folder).unwrap();
    desktop.write("own", "written where the folder was");
    desktop.mesh(&["scan", "docs", "--wait"]);
    until("the desktop stops", || {
        let space = desktop.space();
        check(space["state"] == "stopped", space)
    });
    desktop.json(&["revert", "docs", "--yes"]);
    settle(&laptop, &desktop, "the folder is filled");
    assert_eq!(laptop.tree().files(), 31);
}
