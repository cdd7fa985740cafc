//! Trash, history and the operation log, as their user types them.

use std::fs;

use ownmesh_node::status::Time;
use serde_json::Value;

use crate::device::Device;
use crate::world::{World, check, settle, until};

fn trash(device: &Device) -> Vec<Value> {
    let listed = device.json(&["trash"]);
    listed["trash"].as_array().unwrap().clone()
}

fn text(device: &Device, name: &str) -> Option<String> {
    device.read(name).map(|b| String::from_utf8(b).unwrap())
}

#[test]
fn what_another_device_deleted_is_taken_out_of_the_trash() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("a/report.txt", "the report");
        laptop.write("notes", "first");
        laptop.write("other", "other");
    });
    assert_eq!(trash(&laptop), Vec::<Value>::new());
    fs::remove_dir_all(desktop.at("a")).unwrap();
    desktop.write("notes", "second");
    desktop.scan();
    settle(&laptop, &desktop, "a deletion and an edit");

    let mut listed = trash(&laptop);
    listed.sort_by_key(|e| e["path"].as_str().unwrap().to_owned());
    let told: Vec<_> = listed
        .iter()
        .map(|e| [&e["path"], &e["why"], &e["device"], &e["space"]].map(|v| v.as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ["a/report.txt", "deleted", "desktop", "docs"],
            ["notes", "replaced", "desktop", "docs"]
        ]
    );
    assert_eq!(listed[0]["size"], 10);
    assert_eq!(
        trash(&desktop),
        Vec::<Value>::new(),
        "its own user did it there"
    );

    // Nothing is written over.
    let error = laptop.refused(4, &["trash", "restore", "docs:notes"]);
    assert!(error["hint"].as_str().unwrap().contains("--to"), "{error}");
    assert_eq!(text(&laptop, "notes").unwrap(), "second");
    laptop.refused(6, &["trash", "restore", "docs:nothing"]);
    laptop.refused(
        2,
        &["trash", "restore", "docs:notes", "--to", "docs:.mesh/x"],
    );
    laptop.json(&["trash", "restore", "docs:notes", "--to", "docs:old/notes"]);
    let report = laptop.at("a/report.txt");
    let back = laptop.json(&["trash", "restore", report.to_str().unwrap()]);
    assert_eq!(
        (&back["space"], &back["path"]),
        (&"docs".into(), &"a/report.txt".into())
    );
    settle(&laptop, &desktop, "what was taken out");
    assert_eq!(text(&desktop, "a/report.txt").unwrap(), "the report");
    assert_eq!(text(&desktop, "old/notes").unwrap(), "first");
    assert_eq!(trash(&laptop), Vec::<Value>::new());

    // Emptied only when told so.
    fs::remove_file(desktop.at("other")).unwrap();
    desktop.scan();
    settle(&laptop, &desktop, "one more");
    laptop.refused(4, &["trash", "empty"]);
    assert_eq!(trash(&laptop).len(), 1);
    let none = laptop.json(&["trash", "empty", "--older-than", "1h", "--yes"]);
    assert_eq!(none["entries"], 0);
    let gone = laptop.json(&["trash", "empty", "--space", "docs", "--yes"]);
    assert_eq!(
        (&gone["done"], &gone["entries"], &gone["bytes"]),
        (&true.into(), &1.into(), &5.into())
    );
    assert_eq!(trash(&laptop), Vec::<Value>::new());
    laptop.refused(6, &["trash", "empty", "--space", "nowhere", "--yes"]);
}

fn next(device: &Device, what: &str) -> String {
    let why = device.json(&["why", what]);
    why["next"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_left_the_trash_is_not_said_to_be_there() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("a", "the first");
        laptop.write("b", "the second");
    });
    for name in ["a", "b"] {
        fs::remove_file(desktop.at(name)).unwrap();
    }
    desktop.scan();
    settle(&laptop, &desktop, "the deletions");
    let kept = "the trash of the folder keeps it";
    for name in ["docs:a", "docs:b"] {
        assert!(next(&laptop, name).contains(kept), "{name}");
    }
    laptop.json(&["trash", "restore", "docs:a", "--to", "docs:other"]);
    assert!(!next(&laptop, "docs:a").contains(kept));
    assert!(next(&laptop, "docs:b").contains(kept));

    // The other one gets old: it leaves with the next look at everything.
    let dir = laptop.at(".mesh/trash");
    let entry = trash(&laptop)[0]["item"].as_str().unwrap().to_owned();
    let (_, rest) = entry.split_once('-').unwrap();
    fs::rename(dir.join(&entry), dir.join(format!("1000-{rest}"))).unwrap();
    laptop.scan();
    until("it has left the trash", || {
        let next = next(&laptop, "docs:b");
        check(!next.contains(kept), (next, trash(&laptop)))
    });
    assert_eq!(trash(&laptop), Vec::<Value>::new());
}

#[test]
fn a_file_tells_what_happened_to_it_and_any_version_comes_back() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("draft", "one"));
    desktop.write("draft", "the second");
    desktop.scan();
    settle(&laptop, &desktop, "an edit");
    laptop.write("dir/x", "x");
    fs::rename(laptop.at("draft"), laptop.at("dir/paper")).unwrap();
    laptop.scan();
    settle(&laptop, &desktop, "a move");
    fs::remove_file(desktop.at("dir/paper")).unwrap();
    desktop.scan();
    settle(&laptop, &desktop, "a deletion");

    let history = laptop.json(&["history", "docs:dir/paper"]);
    let versions = history["versions"].as_array().unwrap();
    let told: Vec<_> = versions
        .iter()
        .map(|v| {
            (
                v["what"][0].as_str().unwrap(),
                v["device"].as_str().unwrap(),
            )
        })
        .collect();
    let want = [
        ("deleted", "desktop"),
        ("renamed", "laptop"),
        ("edited", "desktop"),
        ("created", "laptop"),
    ];
    assert_eq!(told, want, "{history:#}");
    assert_eq!(versions[1]["from"], "draft");
    assert_eq!(versions[2]["content"], "trash", "{history:#}");
    assert_eq!(versions[3]["size"], 3);
    // As text they have no order: `46.46Z` comes before `46.4Z`.
    let time = |v: &Value| serde_json::from_value::<Time>(v["at"].clone()).unwrap();
    let times: Vec<Time> = versions.iter().map(time).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");

    let version = |n: usize| versions[n]["version"].as_str().unwrap();
    laptop.refused(4, &["history", "docs:dir/paper", "--restore", version(0)]);
    laptop.refused(
        6,
        &["history", "docs:dir/paper", "--restore", "ffffffffffff"],
    );
    laptop.json(&["history", "docs:dir/paper", "--restore", version(2)]);
    laptop.json(&[
        "history",
        "docs:dir/paper",
        "--restore",
        version(3),
        "--to",
        "docs:first",
    ]);
    laptop.refused(
        4,
        &[
            "history",
            "docs:dir/paper",
            "--restore",
            version(3),
            "--to",
            "docs:dir/x",
        ],
    );
    settle(&laptop, &desktop, "two versions came back");
    assert_eq!(text(&desktop, "dir/paper").unwrap(), "the second");
    assert_eq!(text(&desktop, "first").unwrap(), "one");
    assert_eq!(text(&desktop, "dir/x").unwrap(), "x");
    let history = desktop.json(&["history", "docs:dir/paper"]);
    assert_eq!(history["versions"][0]["what"][0], "restored");
    laptop.refused(6, &["history", "docs:nothing"]);
}

#[test]
fn the_operation_log_tells_what_happened_and_that_nobody_changed_it() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "a"));
    laptop.kill();
    laptop.up();
    let log = laptop.json(&["log"]);
    let entries = log["entries"].as_array().unwrap();
    let kinds: Vec<_> = entries
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "started",
        "window-opened",
        "paired",
        "device-added",
        "space-added",
    ] {
        assert!(kinds.contains(&kind), "{kind} is missing: {log:#}");
    }
    assert!(!log.to_string().contains("MESH1:"), "a ticket: {log:#}");
    let numbers: Vec<_> = entries.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let about = laptop.json(&[
        "log", "--device", "desktop", "--kind", "paired", "--since", "1h",
    ]);
    assert_eq!(about["entries"].as_array().unwrap().len(), 1, "{about:#}");
    let there = desktop.json(&["log"]);
    let spaces = there["entries"].as_array().unwrap().iter();
    assert_eq!(
        spaces.filter(|e| e["space"] == "docs").count(),
        1,
        "{there:#}"
    );
    assert_eq!(laptop.json(&["log", "verify"])["whole"], true);

    // Somebody else's hand in the file: one letter of one entry.
    laptop.down();
    let file = laptop.home.join("mesh.db");
    let mut bytes = fs::read(&file).unwrap();
    let said = b"desktop was let in here";
    let places: Vec<usize> = (0..bytes.len() - said.len())
        .filter(|at| bytes[*at..].starts_with(said))
        .collect();
    assert!(!places.is_empty(), "the entry lies in the database");
    for at in places {
        bytes[at] = b'D';
    }
    fs::write(&file, bytes).unwrap();
    laptop.up();
    let seq = kinds.iter().position(|k| *k == "paired").unwrap() + 1;
    let error = laptop.refused(1, &["log", "verify"]);
    assert_eq!(error["item"], seq.to_string(), "{error}");
    // Nor does anything else say that all is well.
    let listed = laptop.mesh(&["log"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert!(listed.stderr.contains("tampered with"), "{listed:?}");
    let doctor = laptop.mesh(&["doctor"]);
    assert_eq!(doctor.code, 1, "{doctor:?}");
    let checks = doctor.json()["checks"].clone();
    let log = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == "log");
    let log = log.unwrap();
    assert_eq!(log["level"], "wrong", "{log}");
    assert!(
        log["finding"]
            .as_str()
            .unwrap()
            .contains(&format!("entry {seq}")),
        "{log}"
    );
}
