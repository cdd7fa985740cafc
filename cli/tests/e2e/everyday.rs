//! What a person tells a device from day to day: wait, go slower, do not talk to that one, be called something else.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::device::Device;
use crate::world::{Dice, World, check, connected, settle, until};

#[test]
fn a_paused_space_neither_sends_nor_takes_and_catches_up() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    assert_eq!(laptop.json(&["pause"])["spaces"][0], "docs");
    assert_eq!(laptop.space()["state"], "paused");
    assert_eq!(laptop.space()["paused_until"], Value::Null);

    // It is told to the others, who send nothing, and to whoever waits.
    desktop.write("from the desktop", vec![7; 3 << 20]);
    let waited = desktop.mesh(&["wait", "--timeout", "3"]);
    assert_eq!(waited.code, 7);
    assert!(waited.stdout.contains("laptop has paused it"), "{waited:?}");
    assert_eq!(desktop.space()["paused_by"][0], "laptop");
    laptop.write("from the laptop", "2");
    std::fs::remove_file(laptop.at("a")).unwrap();
    let begun = Instant::now();
    let waited = laptop.mesh(&["wait"]);
    assert_eq!(waited.code, 7);
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited");
    assert!(waited.stdout.contains("mesh resume docs"), "{waited:?}");
    assert_eq!(
        laptop.refused(4, &["scan", "docs", "--wait"])["item"],
        "docs"
    );

    // Over a restart, kill -9 included.
    laptop.kill();
    laptop.up();
    connected(&laptop, "desktop", true);
    assert_eq!(laptop.space()["state"], "paused");
    assert_eq!(laptop.read("from the desktop"), None);
    assert_eq!(desktop.read("from the laptop"), None);
    assert!(desktop.read("a").is_some());

    assert_eq!(laptop.json(&["resume", "docs"])["spaces"][0], "docs");
    settle(&laptop, &desktop, "catching up");
    assert_eq!(desktop.read("from the laptop").unwrap(), b"2");
    assert_eq!(desktop.read("a"), None);
    assert_eq!(laptop.refused(4, &["resume", "docs"])["kind"], "refused");
    assert_eq!(
        laptop.refused(6, &["pause", "nothing"])["kind"],
        "not_found"
    );

    // For a time.
    laptop.json(&["pause", "docs", "--for", "2s"]);
    desktop.write("late", "3");
    until("the end of the pause", || {
        check(laptop.read("late").is_some(), laptop.space())
    });
    settle(&laptop, &desktop, "after the pause");
}

#[test]
fn pausing_in_the_middle_of_a_big_file_stops_it() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    desktop.json(&["limit", "--down", "400K"]);
    laptop.write("big", Dice::new(3).bytes(4 << 20));
    until("the beginning of it", || {
        check(!desktop.staged().is_empty(), desktop.space())
    });
    desktop.json(&["pause"]);
    until("the part is put down", || {
        let staged = desktop.staged();
        check(staged.iter().all(|name| name.ends_with(".part")), staged)
    });
    assert_eq!(desktop.read("big"), None);
    desktop.json(&["limit", "--down", "off"]);
    desktop.json(&["resume"]);
    settle(&laptop, &desktop, "the rest of it");
}

#[test]
fn a_limit_holds_big_files_up_and_small_edits_not() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    let limits = laptop.json(&["limit", "--up", "300K"]);
    assert_eq!(
        (limits["up"].as_u64(), limits["active"].as_bool()),
        (Some(300_000), Some(true))
    );
    laptop.down();
    laptop.up();
    connected(&laptop, "desktop", true);
    assert_eq!(laptop.json(&["status"])["limits"]["up"], 300_000);
    let begun = Instant::now();
    laptop.write("big", Dice::new(5).bytes(2_400_000));
    until("the beginning of it", || {
        check(!desktop.staged().is_empty(), desktop.space())
    });
    let edit = Instant::now();
    laptop.write("a", "2");
    until("the small edit", || {
        check(desktop.read("a").as_deref() == Some(b"2"), desktop.space())
    });
    let (edit, big_is_there) = (edit.elapsed(), desktop.read("big").is_some());
    assert!(
        !big_is_there,
        "the big file was there before the edit, after {edit:?}"
    );
    assert!(edit < Duration::from_secs(4), "the edit took {edit:?}");
    settle(&laptop, &desktop, "the big file");
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(6),
        "2.4 MB at 300 kB/s took {took:?}"
    );
    // Times when it does not apply, and none at all.
    let refused = laptop.refused(2, &["limit", "--up", "1K"]);
    assert!(
        refused["message"].as_str().unwrap().contains("too low"),
        "{refused}"
    );
    assert_eq!(laptop.json(&["limit", "--up", "off"])["up"], Value::Null);
    assert_eq!(laptop.json(&["status"])["limits"], Value::Null);
}

#[test]
fn a_small_edit_passes_big_files_that_hold_every_place() {
    const SIZE: usize = 17 << 20;
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    laptop.json(&["limit", "--up", "1M"]);
    for part in 0..6 {
        let name = format!("big-{part}");
        laptop.write(&name, Dice::new(part + 7).bytes(SIZE));
    }
    until("many of them are on their way", || {
        let staged = desktop.staged();
        check(staged.len() >= 4, staged)
    });
    let edit = Instant::now();
    laptop.write("a", "2");
    until("the small edit", || {
        check(desktop.read("a").as_deref() == Some(b"2"), desktop.space())
    });
    let took = edit.elapsed();
    // One that was looked at while it was written may be there in part.
    let whole = |part: &u32| {
        desktop
            .read(&format!("big-{part}"))
            .is_some_and(|b| b.len() == SIZE)
    };
    let there = (0..6).filter(whole);
    assert_eq!(there.count(), 0, "the edit waited for a big file: {took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    laptop.json(&["limit", "--up", "off"]);
    settle(&laptop, &desktop, "the big files");
}

#[test]
fn a_blocked_device_is_cut_off_until_it_is_unblocked() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    laptop.json(&["device", "block", "desktop"]);
    connected(&laptop, "desktop", false);
    connected(&desktop, "laptop", false);
    assert_eq!(laptop.peer("desktop")["blocked"], true);
    laptop.write("a", "2");
    // What it tries from its side is refused, also after a restart.
    laptop.kill();
    laptop.up();
    laptop.scan();
    let waited = laptop.mesh(&["wait", "--timeout", "3", "--all"]);
    assert_eq!(waited.code, 7);
    assert!(waited.stdout.contains("blocked here"), "{waited:?}");
    assert_eq!(laptop.peer("desktop")["connected"], false);
    assert_eq!(desktop.peer("laptop")["connected"], false);
    assert_eq!(desktop.read("a").unwrap(), b"1");
    let status = laptop.json(&["status"]);
    assert_eq!(
        status["problems"],
        serde_json::json!([]),
        "no stranger is reported"
    );
    let devices = laptop.json(&["devices"])["devices"].clone();
    assert!(
        devices
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["blocked"] == true),
        "{devices}"
    );

    laptop.json(&["device", "unblock", "desktop"]);
    settle(&laptop, &desktop, "talking again");
    assert_eq!(
        laptop.refused(4, &["device", "block", "laptop"])["item"],
        "laptop"
    );
    assert_eq!(
        laptop.refused(6, &["device", "block", "toaster"])["item"],
        "toaster"
    );
}

#[test]
fn a_new_name_travels_and_conflict_copies_follow_it() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| laptop.write("a", "1"));
    desktop.down();
    laptop.write("a", "2");
    laptop.scan();
    desktop.write("a", "3");
    desktop.up();
    desktop.scan();
    settle(&laptop, &desktop, "the conflict");
    laptop.json(&["device", "rename", "desktop", "cellar"]);
    until("the new name", || {
        let name = desktop.json(&["status"])["device"]["name"].clone();
        check(name == "cellar", name)
    });
    settle(&laptop, &desktop, "the names of the copies");
    let copies = |d: &Device| d.json(&["conflicts"])["conflicts"][0]["versions"].clone();
    assert_eq!(copies(&laptop), copies(&desktop));
    desktop.kill();
    desktop.up();
    assert_eq!(desktop.json(&["status"])["device"]["name"], "cellar");
    assert_eq!(laptop.peer("cellar")["name"], "cellar");
    assert_eq!(
        laptop.refused(4, &["device", "rename", "cellar", "laptop"])["item"],
        "laptop"
    );
    assert_eq!(
        laptop.refused(2, &["device", "rename", "cellar", "a\nb"])["kind"],
        "usage"
    );
    assert_eq!(
        laptop.refused(6, &["device", "rename", "desktop", "x"])["item"],
        "desktop"
    );
}
