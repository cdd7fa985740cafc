//! Show 6: two devices that do not know of each other for a while.

use std::fs;

use serde_json::Value;

use crate::device::Device;
use crate::world::{World, check, settle, until};

/// Both devices cut off from each other while `act` happens, their nodes running; then together again.
fn apart(laptop: &mut Device, desktop: &mut Device, act: impl FnOnce(&Device, &Device)) {
    if let Some((lan, _)) = laptop.side.clone() {
        lan.cut();
        act(laptop, desktop);
        laptop.scan();
        desktop.scan();
        lan.mend();
    } else {
        // Without a wire to cut, one is off while the other works.
        desktop.down();
        act(laptop, desktop);
        laptop.scan();
        desktop.up();
    }
}

/// Two devices on a wire if there can be one, otherwise on loopback.
fn together(fill: impl FnOnce(&Device)) -> (World, Device, Device) {
    let world = World::lan().unwrap_or_else(World::loopback);
    let (laptop, desktop) = world.joined(fill);
    (world, laptop, desktop)
}

/// The contents of all files, sorted.
fn contents(device: &Device) -> Vec<String> {
    let mut found: Vec<String> = device
        .tree()
        .names()
        .into_iter()
        .filter_map(|n| device.read(n))
        .map(|c| String::from_utf8(c).unwrap())
        .collect();
    found.sort();
    found
}

fn copy_of(conflict: &Value) -> String {
    let versions = conflict["versions"].as_array().unwrap();
    let mut copies = versions.iter().filter_map(|v| v["copy_path"].as_str());
    copies
        .find(|path| *path != conflict["path"])
        .unwrap()
        .to_owned()
}

#[test]
fn concurrent_edits_become_one_conflict_that_is_settled_once() {
    let (_world, mut laptop, mut desktop) = together(|laptop| laptop.write("notes.md", "old"));
    apart(&mut laptop, &mut desktop, |laptop, desktop| {
        laptop.write("notes.md", "from the laptop");
        desktop.write("notes.md", "from the desktop");
    });
    settle(&laptop, &desktop, "the conflict");
    let both = ["from the desktop", "from the laptop"];
    assert_eq!(contents(&laptop), both, "on the laptop");
    assert_eq!(contents(&desktop), both, "on the desktop");
    let (here, there) = (laptop.conflicts(), desktop.conflicts());
    assert_eq!(here.len(), 1, "on the laptop: {here:?}");
    let about = |c: &[Value]| -> Vec<_> {
        c.iter()
            .map(|c| (c["item"].clone(), c["path"].clone()))
            .collect()
    };
    assert_eq!(about(&here), about(&there), "both list the same conflict");
    let copy = copy_of(&here[0]);
    assert!(here[0]["versions"][1].get("diff").is_none(), "{here:?}");
    // How they differ, asked by space and by path on the disk.
    let file = laptop.folder.join("notes.md").display().to_string();
    for asked in [&["conflicts", "diff"][..], &["conflicts", "diff", &file]] {
        let compared = laptop.json(asked);
        let versions = compared["conflicts"][0]["versions"].as_array().unwrap();
        let diff: Vec<_> = versions.iter().filter_map(|v| v.get("diff")).collect();
        assert_eq!(diff.len(), 1, "{compared}");
        let text = diff[0]["text"].as_str().unwrap();
        assert!(
            text.contains("from the laptop") && text.contains(&format!("+++ {copy}\n")),
            "{text}"
        );
    }
    laptop.refused(6, &["conflicts", "diff", "docs:nothing"]);

    // An editor that saves by itself.
    let kept = laptop.read(&copy).unwrap();
    for save in 0..3 {
        laptop.write("notes.md", format!("autosave {save}"));
        laptop.scan();
    }
    settle(&laptop, &desktop, "an autosave");
    for device in [&laptop, &desktop] {
        assert_eq!(
            device.read(&copy).as_ref(),
            Some(&kept),
            "{}: an autosave of the main file changed the copy",
            device.name
        );
        assert_eq!(
            device.read("notes.md").as_deref(),
            Some(&b"autosave 2"[..]),
            "{}",
            device.name
        );
        assert_eq!(
            device.conflicts().len(),
            1,
            "{}: {:?}",
            device.name,
            device.conflicts()
        );
    }

    desktop.json(&["conflicts", "resolve", "docs:notes.md", "--keep", "here"]);
    until("the answer reaches both", || {
        let open = [laptop.conflicts(), desktop.conflicts()];
        check(open.iter().all(Vec::is_empty), open)
    });
    settle(&laptop, &desktop, "the answer");
    assert_eq!(
        contents(&laptop),
        ["autosave 2"],
        "what was settled is left over"
    );
}

#[test]
fn keeping_the_other_side_and_keeping_both() {
    let (_world, mut laptop, mut desktop) = together(|laptop| {
        laptop.write("a", "old a");
        laptop.write("b", "old b");
    });
    apart(&mut laptop, &mut desktop, |laptop, desktop| {
        for name in ["a", "b"] {
            laptop.write(name, format!("laptop {name}"));
            desktop.write(name, format!("desktop {name}"));
        }
    });
    settle(&laptop, &desktop, "two conflicts");
    let shown = laptop.read("a").unwrap();
    let copy = laptop
        .conflicts()
        .iter()
        .find(|c| c["path"] == "a")
        .map(copy_of)
        .unwrap();
    let other = laptop.read(&copy).unwrap();
    assert_ne!(shown, other, "the copy holds the other content");
    laptop.json(&["conflicts", "resolve", "docs:a", "--keep", "there"]);
    laptop.json(&["conflicts", "resolve", "docs:b", "--keep", "both"]);
    settle(&laptop, &desktop, "the answers");
    for device in [&laptop, &desktop] {
        assert_eq!(device.read("a").as_ref(), Some(&other), "{}", device.name);
        assert_eq!(device.conflicts(), Vec::<Value>::new(), "{}", device.name);
        let found = contents(device);
        assert_eq!(found.len(), 3, "{}: {found:?}", device.name);
        assert!(
            found.contains(&"laptop b".into()) && found.contains(&"desktop b".into()),
            "{found:?}"
        );
    }
}

#[test]
fn deleting_a_conflict_copy_settles_for_the_main_file() {
    let (_world, mut laptop, mut desktop) = together(|laptop| laptop.write("a", "old"));
    apart(&mut laptop, &mut desktop, |laptop, desktop| {
        laptop.write("a", "laptop");
        desktop.write("a", "desktop");
    });
    settle(&laptop, &desktop, "a conflict");
    let main = laptop.read("a").unwrap();
    fs::remove_file(laptop.at(&copy_of(&laptop.conflicts()[0]))).unwrap();
    settle(&laptop, &desktop, "the copy is deleted");
    assert_eq!(
        desktop.conflicts(),
        Vec::<Value>::new(),
        "deleting the copy settles"
    );
    assert_eq!(contents(&desktop), [String::from_utf8(main).unwrap()]);
}

#[test]
fn an_edit_beats_a_delete_in_either_direction() {
    let (_world, mut laptop, mut desktop) = together(|laptop| {
        for name in ["a", "b", "dir/c", "keep"] {
            laptop.write(name, "old");
        }
    });
    apart(&mut laptop, &mut desktop, |laptop, desktop| {
        laptop.write("a", "edited");
        fs::remove_file(desktop.at("a")).unwrap();
        fs::remove_file(laptop.at("b")).unwrap();
        desktop.write("b", "edited");
        fs::remove_dir_all(laptop.at("dir")).unwrap();
        desktop.write("dir/c", "edited");
    });
    settle(&laptop, &desktop, "edit against delete");
    for name in ["a", "b", "dir/c"] {
        assert_eq!(
            laptop.read(name).as_deref(),
            Some(&b"edited"[..]),
            "{name} is lost"
        );
    }
    assert_eq!(laptop.conflicts(), Vec::<Value>::new());
}

#[test]
fn the_same_tree_on_both_is_neither_doubled_nor_a_conflict() {
    let (_world, laptop, desktop) = {
        let world = World::loopback();
        let (laptop, desktop) = world.pair();
        (world, laptop, desktop)
    };
    for device in [&laptop, &desktop] {
        for index in 0..200 {
            device.write(
                &format!("d{}/f{index}", index % 7),
                format!("content {index}"),
            );
        }
    }
    let before = laptop.tree();
    laptop.add();
    laptop.scan();
    heard_of(&desktop);
    let added = desktop.add();
    assert_eq!(
        added["merged"]["equal"], 200,
        "nothing to ask where all is equal: {added}"
    );
    settle(&laptop, &desktop, "the same tree on both");
    assert_eq!(laptop.tree().names(), before.names(), "duplicates");
    assert_eq!(laptop.conflicts(), Vec::<Value>::new());
    assert_eq!(desktop.conflicts(), Vec::<Value>::new());
}

/// Waits until a device knows that there is a space `docs`: adding it before would be making it, too.
fn heard_of(device: &Device) {
    until("the desktop hears of the space", || {
        let spaces = device.json(&["spaces"]);
        check(spaces["spaces"][0]["name"] == "docs", spaces)
    });
}

#[test]
fn two_devices_add_a_space_of_one_name_at_once() {
    let world = World::lan().unwrap_or_else(World::loopback);
    let (mut laptop, mut desktop) = world.pair();
    if let Some((lan, _)) = laptop.side.clone() {
        lan.cut();
        laptop.write("both", "same");
        desktop.write("both", "same");
        laptop.write("from-laptop", "l");
        desktop.write("from-desktop", "d");
        let added = [laptop.add(), desktop.add()];
        assert!(
            added.iter().all(|a| a["joined"] == false),
            "each makes it: {added:?}"
        );
        lan.mend();
    } else {
        desktop.down();
        laptop.write("from-laptop", "l");
        laptop.write("both", "same");
        laptop.add();
        laptop.down();
        desktop.up();
        desktop.write("from-desktop", "d");
        desktop.write("both", "same");
        desktop.add();
        laptop.up();
    }
    settle(&laptop, &desktop, "one space of both");
    assert_eq!(
        laptop.tree().names(),
        ["both", "from-desktop", "from-laptop"]
    );
    assert_eq!(laptop.conflicts(), Vec::<Value>::new());
}

#[test]
fn joining_with_other_files_is_shown_first_and_merged_when_told() {
    let world = World::loopback();
    let (laptop, desktop) = world.pair();
    for (device, own) in [(&laptop, "only laptop"), (&desktop, "only desktop")] {
        device.write("equal", "equal");
        device.write("differs", device.name);
        device.write(own, own);
    }
    laptop.add();
    laptop.scan();
    heard_of(&desktop);
    let before = desktop.tree();
    let error = desktop.refused(
        4,
        &["add", desktop.folder.to_str().unwrap(), "--space", "docs"],
    );
    let preview = &error["preview"];
    let numbers = ["equal", "differing", "only_here", "only_there"].map(|n| preview[n].as_u64());
    assert_eq!(numbers, [Some(1); 4], "both sides are shown: {error}");
    assert_eq!(desktop.tree(), before, "a refused folder is left as it was");
    assert!(
        !desktop.at(".mesh").exists(),
        "a refused folder is left as it was"
    );

    desktop.add_with(&["--merge"]);
    settle(&laptop, &desktop, "merged");
    let found = contents(&laptop);
    for content in ["desktop", "equal", "laptop", "only desktop", "only laptop"] {
        assert!(
            found.iter().any(|c| c == content),
            "{content} is lost: {found:?}"
        );
    }
    assert_eq!(found.len(), 5, "{found:?}");
    assert_eq!(laptop.conflicts().len(), 1, "{:?}", laptop.conflicts());
}

/// Two devices with 40 files, of which the laptop deletes 35; the desktop has stopped.
fn stopped() -> (World, Device, Device) {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        (0..40).for_each(|i| laptop.write(&format!("d/{i}"), format!("content {i}")));
    });
    for index in 0..35 {
        fs::remove_file(laptop.at(&format!("d/{index}"))).unwrap();
    }
    laptop.scan();
    until("the desktop stops and asks", || {
        let space = desktop.space();
        check(space["state"] == "stopped", space)
    });
    // The first few may have gone before it could be known that many would follow.
    let left = desktop.tree().files();
    assert!(
        left > 30,
        "only {left} of 40 files were left when the desktop stopped"
    );
    (world, laptop, desktop)
}

#[test]
fn a_mass_delete_goes_on_when_told() {
    let (_world, laptop, desktop) = stopped();
    let waited = laptop.mesh(&["wait", "--all", "--timeout", "1"]);
    assert_eq!(
        waited.code, 7,
        "a stopped device has not done it: {waited:?}"
    );
    desktop.json(&["continue", "docs", "--yes"]);
    settle(&laptop, &desktop, "continue");
    assert_eq!(desktop.tree().files(), 5, "{:?}", desktop.tree().names());
}

#[test]
fn a_mass_delete_is_brought_back_when_told() {
    let (_world, laptop, desktop) = stopped();
    desktop.json(&["revert", "docs", "--yes"]);
    settle(&laptop, &desktop, "revert");
    let back = laptop.tree();
    assert!(back.files() > 30, "{:?}", back.names());
    assert_eq!(laptop.read("d/34").as_deref(), Some(&b"content 34"[..]));
}
