//! Homes that are copied, restored from yesterday, or used twice.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::world::{World, check, settle, until};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_database_of_yesterday_loses_nothing() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| {
        (0..20).for_each(|i| laptop.write(&format!("f{i}"), format!("yesterday {i}")));
    });
    laptop.down();
    let backup = world.path("backup");
    copy(&laptop.home, &backup);
    laptop.up();
    // Today: edits, a delete, a rename and new files on both sides, all of it synced.
    laptop.write("f1", "today's edit here");
    desktop.write("f2", "today's edit there");
    fs::remove_file(laptop.at("f3")).unwrap();
    fs::rename(laptop.at("f4"), laptop.at("moved")).unwrap();
    laptop.write("new-here", "new here");
    desktop.write("new-there", "new there");
    settle(&laptop, &desktop, "today");
    let today = desktop.tree();
    laptop.down();
    fs::remove_dir_all(&laptop.home).unwrap();
    copy(&backup, &laptop.home);
    laptop.write("f5", "written after the backup came back");
    laptop.up();
    settle(&laptop, &desktop, "yesterday's database");
    for (name, content) in [
        ("f1", "today's edit here"),
        ("f2", "today's edit there"),
        ("f5", "written after the backup came back"),
        ("moved", "yesterday 4"),
        ("new-here", "new here"),
        ("new-there", "new there"),
    ] {
        assert_eq!(
            desktop.read(name).as_deref(),
            Some(content.as_bytes()),
            "{name} of {:?}",
            desktop.tree().names()
        );
    }
    assert_eq!(
        desktop.tree().names(),
        today.names(),
        "doubled, lost or come back"
    );
    assert_eq!(laptop.conflicts(), Vec::<Value>::new());
    // And the device goes on as ever.
    laptop.write("f6", "goes on");
    settle(&laptop, &desktop, "afterwards");
    assert_eq!(desktop.read("f6").as_deref(), Some(&b"goes on"[..]));
}

#[test]
fn two_homes_of_one_seed_are_noticed_and_lose_nothing() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "a"));
    laptop.down();
    let mut twin = world.device("twin");
    copy(&laptop.home, &twin.home);
    laptop.up();
    let said = twin.try_up(&[]);
    if said["ready"] == true {
        until("somebody is told", || {
            let all = [&laptop, &twin, &desktop].map(|d| d.json(&["status"]));
            let told = all.iter().any(|s| s.to_string().contains("cop"));
            check(told, all)
        });
        until("both copies are told", || {
            let both = [&laptop, &twin].map(|d| d.json(&["status"])["problems"].to_string());
            let told = both.iter().all(|p| p.contains("two copies of this device"));
            check(told, both)
        });
        twin.kill();
    }
    laptop.write("b", "b");
    desktop.write("c", "c");
    settle(&laptop, &desktop, "beside a copied home");
    assert_eq!(desktop.tree().names(), ["a", "b", "c"]);
}

#[test]
fn a_second_up_finds_the_first() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let again = laptop.json(&["up"]);
    assert_eq!(
        (&again["running"], &again["started"]),
        (&true.into(), &false.into()),
        "{again}"
    );
    let pid = laptop.pid();
    // In the foreground it cannot share: it says who is there.
    let refused = laptop.mesh(&["up", "--foreground"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.stdout.contains(&pid.to_string()),
        "it says which process: {refused:?}"
    );
    assert_eq!(laptop.json(&["status"])["v"], 1, "the first goes on");
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    laptop.down();
    let db = fs::read_dir(&laptop.home)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "db"));
    let db = db.unwrap_or_else(|| {
        panic!(
            "no database in {:?}",
            fs::read_dir(&laptop.home)
                .unwrap()
                .flatten()
                .map(|e| e.file_name())
                .collect::<Vec<_>>()
        )
    });
    // user_version lies at offset 60 of a SQLite file.
    let mut bytes = fs::read(&db).unwrap();
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    fs::write(&db, &bytes).unwrap();
    let said = laptop.try_up(&[]);
    assert!(
        said["error"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("newer")),
        "{said}"
    );
    assert_eq!(
        fs::read(&db).unwrap(),
        bytes,
        "a newer database was written to"
    );
}
