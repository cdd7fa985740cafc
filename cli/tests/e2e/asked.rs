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
    // The rule first: what was taken in before it would be on the desktop too.
    laptop.json(&["ignore", "add", "target/"]);
    laptop.write("target/out", "");
    let found = is(&laptop, "target/out", "ignored");
    let rule = "line 1 of .meshignore ignores it: target/";
    assert_eq!(found["words"][0], rule);
    fs::remove_dir_all(laptop.at("target")).unwrap();
    // A directory that stays for what is ignored in it does not wait for the trash.
    laptop.write("kept/file", "");
    settle(&laptop, &desktop, "a directory");
    laptop.write("kept/target/out", "");
    laptop.scan();
    fs::remove_dir_all(desktop.at("kept")).unwrap();
    until("what was in it goes", || {
        check(!laptop.at("kept/file").exists(), ())
    });
    let found = is(&laptop, "kept", "deleted");
    let stays = "it stays on this disk for what is ignored in it";
    assert_eq!(found["next"], stays, "{found}");
    assert!(laptop.at("kept/target/out").exists());
    fs::remove_dir_all(laptop.at("kept")).unwrap();

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

/// What the others of a device are told where it waits for its user.
#[test]
fn who_has_stopped_or_paused_is_named() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        for n in 0..12 {
            laptop.write(&format!("f{n}"), format!("content {n}"));
        }
    });
    for n in 0..12 {
        fs::remove_file(laptop.at(&format!("f{n}"))).unwrap();
    }
    laptop.write("new", "1");
    laptop.scan();
    until("the laptop hears of the stop", || {
        let space = laptop.space();
        check(space["stopped_on"]["desktop"] == "deletions", space)
    });
    let asks = "desktop has stopped and asks";
    let found = is(&laptop, "new", "in_sync");
    assert!(found["next"].as_str().unwrap().contains(asks), "{found}");
    let waited = laptop.mesh(&["wait", "--timeout", "3"]);
    assert_eq!(waited.code, 7);
    assert!(waited.stdout.contains(asks), "{waited:?}");
    desktop.json(&["revert", "docs", "--yes"]);
    settle(&laptop, &desktop, "revert");
    assert_eq!(laptop.space()["stopped_on"], serde_json::json!({}));
    assert_eq!(is(&laptop, "new", "in_sync")["next"], "nothing");

    // The only one that has it pauses while it goes.
    laptop.json(&["limit", "--up", "100K"]);
    laptop.write("big", Dice::new(9).bytes(4 << 20));
    is(&desktop, "big", "waiting");
    laptop.json(&["pause"]);
    until("the pause is named", || {
        let found = is(&desktop, "big", "waiting");
        let named = found["words"].to_string().contains("laptop has paused it");
        check(named && found["waits_for"][0] == "laptop", found)
    });
    let waited = desktop.mesh(&["wait", "--timeout", "3"]);
    assert_eq!(waited.code, 7);
    let paused = waited.stdout.matches("laptop has paused it").count();
    assert_eq!(paused, 1, "{waited:?}");
    laptop.json(&["limit", "--up", "off"]);
    laptop.json(&["resume"]);
    settle(&laptop, &desktop, "the big one");
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
