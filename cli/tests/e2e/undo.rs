//! A script went wild on one device: `mesh undo` on any device brings the tree back byte by byte, and what the others
//! did later stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::device::Device;
use crate::tree::Tree;
use crate::world::{Dice, World, check, connected, full, settle, until};

/// This moment, as `--since` takes it.
fn moment() -> String {
    let mut date = Command::new("date");
    let out = date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output();
    String::from_utf8(out.unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned()
}

fn names(reply: &Value, list: &str) -> Vec<String> {
    let all = reply[list].as_array().unwrap().iter();
    let mut names: Vec<String> = all
        .map(|one| one["path"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn file(n: usize) -> String {
    format!("work/d{}/f{n}.txt", n % 12)
}

/// Files in a few directories; one is large, some are the same as others.
fn fill(device: &Device, files: usize) {
    let mut dice = Dice::new(11);
    for n in 0..files {
        let len = 100 + dice.below(3_000) as usize;
        device.write(&file(n), dice.bytes(len));
    }
    device.write("work/large.bin", dice.bytes(3 << 20));
    device.write("work/twin", device.read(&file(1)).unwrap());
    device.write("empty", "");
    std::os::unix::fs::symlink("work/twin", device.at("link")).unwrap();
}

/// What a script does in an hour: every file of the first 5 in 6 is deleted, edited, renamed or made executable.
fn wild(device: &Device, files: usize) {
    for n in 0..files {
        let at = device.at(&file(n));
        match n % 6 {
            0 => fs::remove_file(at).unwrap(),
            1 => fs::write(at, format!("overwritten {n}")).unwrap(),
            2 => fs::rename(&at, device.at(&format!("work/moved-{n}"))).unwrap(),
            3 => fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap(),
            4 if n % 4 == 0 => {
                // As editors save.
                device.write("work/.tmp", format!("saved anew {n}"));
                fs::rename(device.at("work/.tmp"), at).unwrap();
            }
            _ => {}
        }
    }
    fs::remove_dir_all(device.at("work/d7")).unwrap();
    fs::rename(device.at("work/d8"), device.at("work/eight")).unwrap();
    fs::write(device.at("work/large.bin"), "gone").unwrap();
    fs::remove_file(device.at("link")).unwrap();
    // Or a new directory with the inode number of a removed one counts as that one, moved.
    device.scan();
    for n in 0..20 {
        device.write(&format!("junk/{}/{n}", n % 3), format!("junk {n}"));
    }
    device.scan();
}

fn three(world: &World, files: usize) -> (Device, Device, Device) {
    let (laptop, desktop) = world.joined(|laptop| fill(laptop, files));
    let mut server = world.device("server");
    laptop.let_in(&mut server);
    server.add();
    settle(&laptop, &server, "the server has it all");
    settle(&desktop, &server, "the desktop knows the server");
    (laptop, desktop, server)
}

#[test]
fn what_a_script_did_is_undone_and_what_others_did_later_stays() {
    let files = if full() { 3_000 } else { 240 };
    let world = World::loopback();
    let (mut laptop, desktop, mut server) = three(&world, files);
    desktop.write("before.txt", "the desktop's work of yesterday");
    desktop.scan();
    settle(&laptop, &desktop, "work of before");
    settle(&desktop, &server, "work of before");
    let good = laptop.tree();

    let since = moment();
    wild(&desktop, files);
    settle(&laptop, &desktop, "the script's work");
    settle(&desktop, &server, "the script's work, on the server");

    // The others go on: over what the script wrote, beside it, and under a name that it freed.
    laptop.write(&file(1), "the laptop's own, later");
    laptop.write("later.txt", "new since");
    laptop.write(&file(0), "another file of this name");
    laptop.write("junk/0/kept", "in a directory that the script made");
    laptop.scan();
    settle(&laptop, &desktop, "later work");
    settle(&desktop, &server, "later work, on the server");
    let wrecked = laptop.tree();
    server.down();

    let undo = ["undo", "--device", "desktop", "--since", &since];
    laptop.refused(4, &undo);
    let shown = laptop.json(&[&undo[..], &["--dry-run"]].concat());
    assert_eq!(
        (&shown["done"], names(&shown, "missing").len()),
        (&false.into(), 0)
    );
    assert_eq!(laptop.tree(), wrecked, "a preview changes nothing");
    let before_undo = moment();
    let done = laptop.json(&[&undo[..], &["--yes"]].concat());
    laptop.kill();
    laptop.up();
    server.up();
    assert_eq!(names(&done, "missing"), Vec::<String>::new());
    assert_eq!(names(&done, "left"), ["junk", "junk/0", &file(1)]);
    settle(&laptop, &desktop, "the undo");

    // What it was, with what the laptop did on top.
    let mut want = good.clone();
    let now = laptop.tree();
    let freed = file(0);
    let back = format!("{} (restored).txt", freed.trim_end_matches(".txt"));
    want.0.insert(back, good.0[&freed].clone());
    for kept in [
        &file(1),
        "later.txt",
        &freed,
        "junk",
        "junk/0",
        "junk/0/kept",
    ] {
        want.0.insert(kept.to_owned(), wrecked.0[kept].clone());
    }
    assert_eq!(now.differences(&want), Vec::<String>::new());
    assert_eq!(
        laptop.read("before.txt").unwrap(),
        b"the desktop's work of yesterday"
    );

    settle(&desktop, &server, "the server follows");
    assert_eq!(server.tree().differences(&want), Vec::<String>::new());

    // Once more there is nothing to do, and the undo itself can be undone.
    let again = laptop.json(&[&undo[..], &["--yes"]].concat());
    assert_eq!(names(&again, "items"), Vec::<String>::new(), "{again}");
    let redo = [
        "undo",
        "--device",
        "laptop",
        "--since",
        &before_undo,
        "--yes",
    ];
    let redone = laptop.json(&redo);
    assert_eq!(names(&redone, "missing"), Vec::<String>::new());
    settle(&laptop, &desktop, "the undo is undone");
    assert_eq!(laptop.tree().differences(&wrecked), Vec::<String>::new());

    let log = laptop.json(&["log", "--kind", "undo"]);
    assert_eq!(log["entries"].as_array().unwrap().len(), 2, "{log}");
}

#[test]
fn bytes_that_only_anothers_trash_has_are_fetched_or_listed() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| {
        for n in 0..30 {
            laptop.write(&format!("n{n}"), format!("text {n}"));
        }
        laptop.write("large", Dice::new(5).bytes(3 << 20));
    });
    let good: Tree = laptop.tree();
    let since = moment();
    for name in ["n1", "n2", "large"] {
        fs::remove_file(desktop.at(name)).unwrap();
    }
    desktop.write("n3", "edited");
    fs::rename(desktop.at("n4"), desktop.at("four")).unwrap();
    desktop.scan();
    settle(&laptop, &desktop, "the mistake");
    laptop.down();

    // The desktop itself has nothing of what it deleted, and nobody to ask.
    let undo = ["undo", "--device", "desktop", "--since", &since, "--yes"];
    let ended = desktop.mesh(&undo);
    assert_eq!(ended.code, 7, "a script has to know: {ended:?}");
    let alone = ended.json();
    assert_eq!(names(&alone, "items"), ["four"]);
    assert_eq!(names(&alone, "missing"), ["large", "n1", "n2", "n3"]);
    assert_eq!(alone["missing"][0]["may_have"][0], "laptop");
    until("the name is back", || {
        check(desktop.read("n4").is_some(), desktop.tree().names().len())
    });
    assert_eq!(desktop.read("n1"), None, "nothing is half done");

    laptop.up();
    settle(&laptop, &desktop, "together again");
    connected(&desktop, "laptop", true);
    let done = desktop.json(&undo);
    assert_eq!(names(&done, "items"), ["large", "n1", "n2", "n3"]);
    assert_eq!(names(&done, "missing"), Vec::<String>::new());
    settle(&laptop, &desktop, "all is back");
    assert_eq!(desktop.tree().differences(&good), Vec::<String>::new());
}

#[test]
fn a_space_that_is_left_out_is_told() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("a", "one"));
    let since = moment();
    laptop.write("a", "two");
    settle(&laptop, &desktop, "an edit");
    laptop.json(&["pause", "docs"]);
    let undo = ["undo", "--since", &since, "--yes"];
    let error = laptop.refused(4, &undo);
    assert!(
        error["message"].as_str().unwrap().contains("paused"),
        "{error}"
    );
    assert_eq!(error["hint"], "mesh resume docs");

    // Beside another space, whether there is something to undo in it or not.
    let notes = laptop.root.join("notes");
    fs::create_dir(&notes).unwrap();
    laptop.json(&["add", notes.to_str().unwrap(), "--space", "notes"]);
    for items in [0, 1] {
        let ended = laptop.mesh(&undo);
        assert_eq!(ended.code, 7, "{ended:?}");
        let reply = ended.json();
        assert_eq!(names(&reply, "items").len(), items, "{reply}");
        assert_eq!(names(&reply, "left"), Vec::<String>::new(), "{reply}");
        assert_eq!(reply["left_out"][0]["space"], "docs", "{reply}");
        assert_eq!(reply["left_out"][0]["next"], "mesh resume docs", "{reply}");
        fs::write(notes.join("new"), "new").unwrap();
        laptop.json(&["scan", "notes", "--wait"]);
    }
    assert_eq!(laptop.read("a").unwrap(), b"two");
    laptop.json(&["resume", "docs"]);
    // The desktop, which has the bytes, is asked as soon as it hears that the space goes on.
    until("all of it is undone", || {
        let ended = laptop.mesh(&undo);
        check(ended.code == 0, ended)
    });
    until("the file is what it was", || {
        let is = laptop.read("a");
        check(is.as_deref() == Some(&b"one"[..]), is)
    });
}

#[test]
fn one_path_is_undone_and_the_rest_stays() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| {
        for n in 0..20 {
            laptop.write(&format!("a/n{n}"), format!("text {n}"));
        }
    });
    let since = moment();
    desktop.write("a/n1", "edited");
    desktop.write("a/n2", "edited");
    desktop.write("b", "new");
    desktop.scan();
    settle(&laptop, &desktop, "the edits");
    desktop.down();
    let path = laptop.at("a/n1");
    let done = laptop.json(&["undo", path.to_str().unwrap(), "--since", &since, "--yes"]);
    assert_eq!(names(&done, "items"), ["a/n1"]);
    until("the old text is back, with nobody to ask", || {
        check(laptop.read("a/n1").unwrap() == b"text 1", laptop.space())
    });
    desktop.up();
    settle(&laptop, &desktop, "one is back");
    let read = |name: &str| String::from_utf8(laptop.read(name).unwrap()).unwrap();
    assert_eq!(
        [read("a/n1"), read("a/n2"), read("b")],
        ["text 1", "edited", "new"]
    );
    laptop.refused(6, &["undo", "--device", "nobody"]);
    laptop.refused(6, &["undo", "elsewhere:x"]);
    laptop.refused(2, &["undo", "--since", "yesterday"]);
}

#[test]
fn what_is_ignored_now_is_left() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("x.log", "1");
        laptop.write("x", "1");
    });
    let since = moment();
    fs::remove_file(laptop.at("x.log")).unwrap();
    fs::remove_file(laptop.at("x")).unwrap();
    laptop.scan();
    settle(&laptop, &desktop, "the deletions");
    desktop.json(&["ignore", "add", "*.log"]);
    settle(&laptop, &desktop, "the rule");
    let undo = ["undo", "--device", "laptop", "--since", &since, "--yes"];
    let done = desktop.json(&undo);
    assert_eq!(names(&done, "items"), ["x"], "{done}");
    assert_eq!(names(&done, "left"), ["x.log"], "{done}");
    settle(&laptop, &desktop, "the undo");
    assert!(laptop.read("x").is_some() && laptop.read("x.log").is_none());
}

#[test]
fn a_directory_stays_with_what_is_ignored() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("a", "1"));
    let since = moment();
    laptop.write("build/x", "made");
    laptop.write("mixed/x.log", "made");
    laptop.write("new", "made");
    for dir in ["empty", "freed"] {
        fs::create_dir(laptop.at(dir)).unwrap();
    }
    laptop.scan();
    settle(&laptop, &desktop, "what was made");
    for rule in ["build/", "empty/", "*.log"] {
        laptop.json(&["ignore", "add", "--local", rule]);
    }
    let undo = ["undo", "--since", &since, "--yes"];
    let done = laptop.json(&undo);
    assert_eq!(names(&done, "items"), ["freed", "new"], "{done}");
    let left = ["build", "build/x", "empty", "mixed", "mixed/x.log"];
    assert_eq!(names(&done, "left"), left, "{done}");
    until("the undo is done on both", || {
        let made = |d: &Device| ["freed", "new"].map(|name| d.at(name).exists());
        let is = [made(&laptop), made(&desktop)];
        check(is == [[false; 2]; 2], is)
    });
    for device in [&laptop, &desktop] {
        for name in left {
            assert!(device.at(name).exists(), "{name}");
        }
    }
    assert_eq!(names(&laptop.json(&undo), "items"), Vec::<String>::new());
}

#[test]
fn an_undo_that_is_killed_did_all_or_nothing() {
    let world = World::loopback();
    let (mut laptop, desktop) = world.joined(|laptop| {
        for n in 0..200 {
            laptop.write(&format!("d{}/n{n}", n % 5), format!("text {n}"));
        }
    });
    let good = laptop.tree();
    let since = moment();
    for n in (0..200).step_by(3) {
        fs::remove_file(laptop.at(&format!("d{}/n{n}", n % 5))).unwrap();
        let other = (n + 1) % 200;
        laptop.write(&format!("d{}/n{other}", other % 5), "overwritten");
    }
    laptop.scan();
    settle(&laptop, &desktop, "the mistake");
    let wrecked = laptop.tree();
    // A node started by the command itself would outlive the kill.
    let mut undo = vec!["--no-start", "undo", "--device", "laptop"];
    undo.extend(["--since", &since, "--yes"]);
    // Its own user did it: all the bytes come from the desktop's trash.
    for after in [0, 20, 40, 60, 80, 110, 150, 200, 300, 500] {
        connected(&laptop, "desktop", true);
        let asked = laptop.talk(&undo);
        std::thread::sleep(std::time::Duration::from_millis(after));
        laptop.kill();
        drop(asked);
        laptop.up();
        settle(&laptop, &desktop, "after the kill");
        let now = laptop.tree();
        if now != wrecked {
            assert_eq!(
                now.differences(&good),
                Vec::<String>::new(),
                "killed after {after} ms"
            );
            break;
        }
    }
    connected(&laptop, "desktop", true);
    laptop.json(&undo);
    settle(&laptop, &desktop, "at last");
    assert_eq!(laptop.tree().differences(&good), Vec::<String>::new());
    assert_eq!(laptop.json(&["log", "verify"])["whole"], true);
}

#[test]
fn a_mass_deletion_at_which_the_others_stopped_is_undone() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        for n in 0..30 {
            laptop.write(&format!("d/n{n}"), format!("text {n}"));
        }
    });
    let good = laptop.tree();
    let since = moment();
    fs::remove_dir_all(desktop.at("d")).unwrap();
    desktop.scan();
    until("the laptop stops and asks", || {
        let space = laptop.space();
        check(space["state"] == "stopped", space)
    });
    // What the desktop told of before it had seen all of it go may be in the trash here by now.
    let done = laptop.json(&["undo", "--device", "desktop", "--since", &since, "--yes"]);
    assert_eq!(names(&done, "items").len(), 31, "{done}");
    settle(&laptop, &desktop, "it is undone");
    assert_eq!(desktop.tree().differences(&good), Vec::<String>::new());
    assert_eq!(
        laptop.json(&["log", "--kind", "stopped"])["entries"][0]["space"],
        "docs"
    );
}
