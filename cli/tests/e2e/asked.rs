//! What a person asks a device: why is this file not there, and is something wrong here.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::device::Device;
use crate::world::{Dice, World, check, settle, until};

fn why(device: &Device, name: &str) -> Value {
    let path = device.folder.join(name).display().to_string();
    device.json(&["why", &path])
}

fn is(device: &Device, name: &str, state: &str) -> Value {
    let mut found = Value::Null;
    until("the answer", || {
        found = why(device, name);
        check(found["state"] == state, found.clone())
    });
    assert!(!found["words"].as_array().unwrap().is_empty(), "{found}");
    assert!(!found["next"].as_str().unwrap().is_empty(), "{found}");
    found
}

#[test]
fn why_tells_how_it_stands_with_a_path() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| laptop.write("sub/a", "1"));
    let found = is(&laptop, "sub/a", "in_sync");
    assert_eq!(
        (&found["space"], &found["path"]),
        (&"docs".into(), &"sub/a".into())
    );
    assert_eq!(found["changed_by"], "laptop");
    assert_eq!(found["devices"][0]["device"], "desktop");
    assert_eq!(found["devices"][0]["confirmed"], true);
    assert_eq!(laptop.json(&["why", "docs:sub/a"])["item"], found["item"]);
    is(&laptop, "sub", "in_sync");
    is(&laptop, "sub/none", "unknown");
    is(&laptop, ".mesh/trash", "private");
    assert_eq!(laptop.json(&["why", "/etc/passwd"])["state"], "outside");
    laptop.refused(6, &["why", "nowhere:a"]);
    let pipe = laptop.at("pipe").display().to_string();
    assert!(
        laptop
            .program("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    is(&laptop, "pipe", "odd_kind");
    fs::remove_file(laptop.at("pipe")).unwrap();
    laptop.json(&["ignore", "add", "target/"]);
    laptop.write("target/out", "");
    let found = is(&laptop, "target/out", "ignored");
    let rule = "line 1 of .meshignore ignores it: target/";
    assert_eq!(found["words"][0], rule);
    // Nobody else has it.
    fs::remove_dir_all(laptop.at("target")).unwrap();

    // Nobody has it yet; what is known of one item is not mixed up with another.
    desktop.down();
    laptop.write("b", "2");
    laptop.scan();
    let found = is(&laptop, "b", "in_sync");
    assert_eq!(found["devices"][0]["confirmed"], false);
    assert_eq!(found["devices"][0]["connected"], false);
    assert_eq!(why(&laptop, "sub/a")["devices"][0]["confirmed"], true);
    desktop.up();
    settle(&laptop, &desktop, "afterwards");

    // On its way, and from whom.
    laptop.json(&["limit", "--up", "100K"]);
    laptop.write("big", Dice::new(9).bytes(2 << 20));
    let found = is(&desktop, "big", "waiting");
    assert_eq!(found["waits_for"][0], "laptop");
    laptop.json(&["limit", "--up", "off"]);
    settle(&laptop, &desktop, "the big one");

    // Deleted, and by whom.
    fs::remove_file(laptop.at("b")).unwrap();
    settle(&laptop, &desktop, "the deletion");
    let found = is(&desktop, "b", "deleted");
    assert_eq!(found["changed_by"], "laptop");

    // Changed while nobody looks.
    desktop.json(&["pause"]);
    desktop.write("sub/a", "3 and more");
    let found = is(&desktop, "sub/a", "paused");
    assert!(
        found["words"].to_string().contains("changed on the disk"),
        "{found}"
    );
    assert_eq!(found["next"], "mesh resume docs");
    laptop.write("sub/a", "4");
    laptop.scan();
    desktop.json(&["resume"]);
    settle(&laptop, &desktop, "the conflict");
    let found = is(&desktop, "sub/a", "conflict");
    assert_eq!(found["conflict"]["versions"].as_array().unwrap().len(), 2);
}

/// The checks of a name.
fn checks(doctor: &Value, name: &str) -> Vec<Value> {
    let all = doctor["checks"].as_array().unwrap();
    let found: Vec<Value> = all.iter().filter(|c| c["name"] == name).cloned().collect();
    assert!(!found.is_empty(), "no check {name} in {doctor:#}");
    found
}

#[track_caller]
fn wrong(device: &Device, name: &str, words: &str) {
    let ended = device.mesh(&["doctor"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let found = checks(&ended.json(), name);
    let found = found.iter().find(|c| c["level"] == "wrong");
    let found = found.unwrap_or_else(|| panic!("{name} is not wrong: {:#}", ended.json()));
    assert!(
        found["finding"].as_str().unwrap().contains(words),
        "{found}"
    );
    assert!(!found["remedy"].as_str().unwrap().is_empty(), "{found}");
}

#[test]
fn the_doctor_finds_what_is_wrong_and_names_the_remedy() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    let doctor = laptop.json(&["doctor"]);
    assert_eq!(doctor["ok"], true, "{doctor:#}");
    for name in [
        "home", "keys", "room", "phrase", "database", "clock", "folder", "watches", "node", "port",
    ] {
        let found = checks(&doctor, name);
        assert!(found.iter().all(|c| c["level"] != "wrong"), "{found:?}");
    }

    let seed = laptop.home.join("device.seed");
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o644)).unwrap();
    wrong(&laptop, "home", "device.seed");
    wrong(&laptop, "keys", "can be read by other users");
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o600)).unwrap();

    let marker = laptop.at(".mesh/marker");
    let held = marker.with_extension("held");
    let marker = if marker.exists() {
        marker
    } else {
        find_marker(&laptop)
    };
    fs::rename(&marker, &held).unwrap();
    wrong(&laptop, "folder", laptop.folder.to_str().unwrap());
    fs::rename(&held, &marker).unwrap();

    laptop.down();
    wrong(&laptop, "node", "not running");
    // A page in the middle of the file is lost.
    let db = laptop.home.join("mesh.db");
    let mut bytes = fs::read(&db).unwrap();
    let len = bytes.len();
    assert!(len > 5 * 8_192, "{len}");
    bytes[2 * 8_192..len - 8_192].fill(0xa5);
    fs::write(&db, &bytes).unwrap();
    wrong(&laptop, "database", "");
    drop(desktop);
}

/// What tells a folder from another one.
fn find_marker(device: &Device) -> std::path::PathBuf {
    let entries = fs::read_dir(device.at(".mesh")).unwrap().flatten();
    let files = entries.filter(|e| e.file_type().unwrap().is_file());
    files.map(|e| e.path()).next().expect("a marker")
}

#[test]
fn the_doctor_nags_about_the_phrase() {
    let world = World::loopback();
    let laptop = world.device("laptop");
    let file = world.path("words");
    let words = file.to_str().unwrap();
    laptop.json(&["init", "--no-password", "--yes", "--phrase-out", words]);
    wrong(&laptop, "phrase", words);
    fs::remove_file(&file).unwrap();
    assert_eq!(laptop.json(&["doctor"])["ok"], true);
}
