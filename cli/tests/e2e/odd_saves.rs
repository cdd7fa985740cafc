//! How programs really save, rotate and replace, and what must come of it on the other device.

use std::fs;
use std::io::Write;

use serde_json::Value;

use crate::device::Device;
use crate::world::{World, check, settle, until};

fn item(device: &Device, path: &str) -> String {
    let list = device.json(&["ls", "docs", "-R"]);
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    let found = items.iter().find(|i| i["path"] == path);
    found.unwrap_or_else(|| panic!("no {path} in {list}"))["item"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn calm(laptop: &Device, desktop: &Device) {
    settle(laptop, desktop, "in the end");
    assert_eq!(laptop.conflicts(), Vec::<Value>::new());
    assert_eq!(desktop.conflicts(), Vec::<Value>::new());
}

#[test]
fn a_safe_save_by_rename_is_an_edit_of_the_same_item() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("letter.txt", "one"));
    let before = item(&laptop, "letter.txt");
    for version in 0..5 {
        laptop.write(".letter.txt.swp", format!("version {version}"));
        fs::rename(laptop.at(".letter.txt.swp"), laptop.at("letter.txt")).unwrap();
    }
    // With a backup, as some editors do.
    fs::rename(laptop.at("letter.txt"), laptop.at("letter.txt~")).unwrap();
    laptop.write("letter.txt", "the last");
    fs::remove_file(laptop.at("letter.txt~")).unwrap();
    calm(&laptop, &desktop);
    assert_eq!(item(&desktop, "letter.txt"), before, "the item has changed");
    assert_eq!(desktop.tree().names(), ["letter.txt"]);
    assert_eq!(
        desktop.read("letter.txt").as_deref(),
        Some(&b"the last"[..])
    );
}

#[test]
fn a_log_is_rotated() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("log", "line 1\n"));
    for turn in 0..3 {
        let rotated = format!("log.{turn}");
        fs::rename(laptop.at("log"), laptop.at(&rotated)).unwrap();
        fs::File::create(laptop.at("log")).unwrap();
        calm(&laptop, &desktop);
        let mut log = fs::File::options()
            .append(true)
            .open(laptop.at("log"))
            .unwrap();
        log.write_all(format!("line {}\n", turn + 2).as_bytes())
            .unwrap();
    }
    calm(&laptop, &desktop);
    for (name, content) in [
        ("log.0", "line 1\n"),
        ("log.1", "line 2\n"),
        ("log.2", "line 3\n"),
        ("log", "line 4\n"),
    ] {
        assert_eq!(
            desktop.read(name).as_deref(),
            Some(content.as_bytes()),
            "{name}"
        );
    }
}

#[test]
fn a_directory_is_moved_aside_and_made_anew() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        (0..30).for_each(|i| laptop.write(&format!("docs/{i}"), format!("old {i}")));
    });
    fs::rename(laptop.at("docs"), laptop.at("old")).unwrap();
    fs::create_dir(laptop.at("docs")).unwrap();
    calm(&laptop, &desktop);
    assert_eq!(desktop.tree().files(), 30, "{:?}", desktop.tree().names());
    laptop.write("docs/3", "new");
    calm(&laptop, &desktop);
    assert_eq!(desktop.read("docs/3").as_deref(), Some(&b"new"[..]));
    assert_eq!(desktop.read("old/3").as_deref(), Some(&b"old 3"[..]));
}

#[test]
fn deleting_and_making_again_with_equal_bytes() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("d/a", "equal"));
    // At once, and with time for the delete to arrive.
    fs::remove_file(laptop.at("d/a")).unwrap();
    laptop.write("d/a", "equal");
    calm(&laptop, &desktop);
    assert_eq!(desktop.read("d/a").as_deref(), Some(&b"equal"[..]));
    fs::remove_dir_all(laptop.at("d")).unwrap();
    calm(&laptop, &desktop);
    assert_eq!(desktop.tree().names(), Vec::<&str>::new());
    laptop.write("d/a", "equal");
    calm(&laptop, &desktop);
    assert_eq!(desktop.read("d/a").as_deref(), Some(&b"equal"[..]));
}

#[test]
fn a_directory_is_deleted_while_the_other_side_adds_to_it() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| {
        (0..5).for_each(|i| laptop.write(&format!("d/sub/{i}"), format!("{i}")));
        laptop.write("keep", "k");
    });
    desktop.down();
    desktop.write("d/sub/added", "added meanwhile");
    fs::remove_dir_all(laptop.at("d")).unwrap();
    laptop.scan();
    desktop.up();
    calm(&laptop, &desktop);
    assert_eq!(
        laptop.read("d/sub/added").as_deref(),
        Some(&b"added meanwhile"[..])
    );
    assert_eq!(
        laptop.tree().files(),
        2,
        "what was deleted stays deleted: {:?}",
        laptop.tree().names()
    );
}

#[test]
fn a_file_that_grows_while_it_is_read_ends_equal() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("grows", "begin\n"));
    let mut file = fs::File::options()
        .append(true)
        .open(laptop.at("grows"))
        .unwrap();
    for line in 0..300 {
        file.write_all(format!("{line} {}\n", "x".repeat(20_000)).as_bytes())
            .unwrap();
        if line % 30 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    calm(&laptop, &desktop);
}

#[test]
fn a_local_save_while_a_newer_version_arrives_keeps_both() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("big", vec![b'0'; 20 << 20]));
    laptop.write("big", vec![b'1'; 20 << 20]);
    until("the new version is on its way", || {
        check(
            !desktop.staged().is_empty() || desktop.read("big").unwrap()[0] == b'1',
            (),
        )
    });
    desktop.write("big", "saved meanwhile");
    settle(&laptop, &desktop, "a save while a version arrives");
    let tree = laptop.tree();
    let found: Vec<Vec<u8>> = tree
        .names()
        .into_iter()
        .filter_map(|n| laptop.read(n))
        .collect();
    assert!(
        found.iter().any(|c| c == b"saved meanwhile"),
        "the save is lost: {:?}",
        tree.names()
    );
    // If the version had arrived before, the save was an edit of it; otherwise both stand beside each other.
    if laptop.conflicts().is_empty() {
        assert_eq!(found.len(), 1, "{:?}", tree.names());
    } else {
        assert!(
            found
                .iter()
                .any(|c| c.first() == Some(&b'1') && c.len() == 20 << 20),
            "the other version is lost"
        );
    }
}

#[test]
fn swapping_two_names_and_a_circle_of_three() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        for name in ["a", "b", "x/f", "y/f", "z/f"] {
            laptop.write(name, format!("content of {name}"));
        }
    });
    let mv = |from: &str, to: &str| fs::rename(laptop.at(from), laptop.at(to)).unwrap();
    for (from, to) in [
        ("a", "t"),
        ("b", "a"),
        ("t", "b"),
        ("x", "t"),
        ("y", "x"),
        ("z", "y"),
        ("t", "z"),
    ] {
        mv(from, to);
    }
    calm(&laptop, &desktop);
    for (name, was) in [
        ("a", "b"),
        ("b", "a"),
        ("x/f", "y/f"),
        ("y/f", "z/f"),
        ("z/f", "x/f"),
    ] {
        assert_eq!(
            desktop.read(name),
            Some(format!("content of {was}").into_bytes()),
            "{name}"
        );
    }
}

#[test]
fn files_are_deleted_and_their_directory_renamed_at_once() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        (0..600).for_each(|i| laptop.write(&format!("dir-0/{}/{i}", i % 10), format!("{i}")));
    });
    for turn in 0..6_u64 {
        for index in turn * 50..turn * 50 + 50 {
            let gone = format!("dir-{turn}/{}/{index}", index % 10);
            fs::remove_file(laptop.at(&gone)).unwrap();
        }
        // At other moments of the scan that the deletes have begun.
        std::thread::sleep(std::time::Duration::from_millis(turn * 15));
        let (from, to) = (format!("dir-{turn}"), format!("dir-{}", turn + 1));
        fs::rename(laptop.at(&from), laptop.at(&to)).unwrap();
        if turn % 2 == 1 {
            calm(&laptop, &desktop);
            let left = usize::try_from(600 - (turn + 1) * 50).unwrap();
            assert_eq!(
                desktop.tree().files(),
                left,
                "turn {turn}: deleted files came back"
            );
        }
    }
}
