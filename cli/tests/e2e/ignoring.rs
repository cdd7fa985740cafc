//! Ignore rules through the binary: what they name is neither sent nor received, and never taken away.

use std::fs;

use crate::device::Device;
use crate::world::{World, check, settle, until};

fn text(device: &Device, name: &str) -> Option<String> {
    device.read(name).map(|c| String::from_utf8(c).unwrap())
}

#[test]
fn what_is_ignored_stays_where_it_is() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("notes.md", "one");
        laptop.write("target/out", "built by the laptop");
        laptop.write("target/deep/x", "x");
    });
    settle(&laptop, &desktop, "the first sync");
    assert_eq!(
        text(&desktop, "target/out").as_deref(),
        Some("built by the laptop")
    );

    // The dry run, then the rule; both say what stops.
    let dry = laptop.json(&["ignore", "test", "target/", "--space", "docs"]);
    assert_eq!(dry["stops"]["items"], 4, "{dry}");
    assert_eq!(dry["stops"]["names"][0], "target/", "{dry}");
    assert_eq!(dry["path"]["ignored"], false, "{dry}");
    let added = laptop.json(&["ignore", "add", "target/"]);
    assert_eq!(added["changed"], true, "{added}");
    assert_eq!(added["stops"]["files"], 2, "{added}");
    assert_eq!(laptop.json(&["ignore", "add", "target/"])["changed"], false);
    let said = laptop.json(&["ignore", "test", "target/out"]);
    assert_eq!(said["path"]["rule"]["file"], ".meshignore", "{said}");
    assert_eq!(said["path"]["at"], "target", "{said}");
    let bad = laptop.refused(2, &["ignore", "add", "a["]);
    assert!(bad["message"].as_str().unwrap().contains("a["), "{bad}");

    // The rule travels and holds there too.
    until("the rule holds on the desktop", || {
        let listed = desktop.json(&["ignore", "list", "docs"]);
        check(listed["rules"][0]["pattern"] == "target/", listed)
    });
    desktop.write("target/out", "built by the desktop");
    desktop.write("target/new", "new");
    fs::remove_file(laptop.at("target/deep/x")).unwrap();
    laptop.write("notes.md", "two");
    until("an edit beside what is ignored arrives", || {
        let notes = text(&desktop, "notes.md");
        check(notes.as_deref() == Some("two"), notes)
    });
    assert_eq!(
        text(&laptop, "target/out").as_deref(),
        Some("built by the laptop")
    );
    assert_eq!(text(&laptop, "target/new"), None);
    assert_eq!(text(&desktop, "target/deep/x").as_deref(), Some("x"));
    assert_eq!(text(&desktop, "notes.md").as_deref(), Some("two"));
    for device in [&laptop, &desktop] {
        assert_eq!(device.space()["missing_items"], 0, "{}", device.name);
        device.json(&["wait", "--timeout", "30"]);
    }

    // A mistake made by hand changes nothing, and is told with its line.
    laptop.write(".meshignore", "target/\nb[\n");
    laptop.scan();
    let listed = laptop.json(&["ignore"]);
    assert!(
        listed["problems"][0].as_str().unwrap().contains("line 2"),
        "{listed}"
    );
    assert_eq!(listed["rules"][0]["pattern"], "target/", "{listed}");
    laptop.write(".meshignore", "target/\n");

    // Gone together with the rule: a deletion of nothing, an edit of what differs.
    laptop.json(&["ignore", "remove", "target/"]);
    laptop.refused(6, &["ignore", "remove", "target/"]);
    settle(&laptop, &desktop, "the end of the rule");
    for device in [&laptop, &desktop] {
        let name = device.name;
        assert_eq!(
            text(device, "target/out").as_deref(),
            Some("built by the desktop"),
            "{name}"
        );
        assert_eq!(text(device, "target/new").as_deref(), Some("new"), "{name}");
        assert_eq!(
            text(device, "target/deep/x").as_deref(),
            Some("x"),
            "{name}"
        );
    }
}

#[test]
fn a_device_may_do_without_what_others_have() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| {
        laptop.write("films/one", "film");
        laptop.write("notes.md", "one");
    });
    settle(&laptop, &desktop, "the first sync");
    desktop.json(&["ignore", "add", "films/", "--local"]);
    fs::remove_dir_all(desktop.at("films")).unwrap();
    laptop.write("films/two", "another");
    until("the laptop is told who has it not", || {
        laptop.scan();
        let status = laptop.space();
        check(status["unconfirmed"]["desktop"] != 0, status)
    });
    assert_eq!(text(&desktop, "films/two"), None);
    assert_eq!(desktop.space()["missing_items"], 0);
    assert_eq!(text(&laptop, "films/one").as_deref(), Some("film"));
    desktop.json(&["ignore", "remove", "films/", "--local"]);
    settle(&laptop, &desktop, "everything again");
    assert_eq!(text(&desktop, "films/one").as_deref(), Some("film"));
    assert_eq!(text(&desktop, "films/two").as_deref(), Some("another"));
}

#[test]
fn what_tools_make_again_is_left_out_when_asked() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    laptop.write("web/node_modules/m", "m");
    laptop.write("web/index", "i");
    laptop.add_with(&["--ignore-defaults"]);
    laptop.scan();
    assert_eq!(
        text(&laptop, ".meshignore").as_deref(),
        Some("node_modules/\n")
    );
    let listed = laptop.json(&["ls", "docs", "-R"]);
    let paths: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, [".meshignore", "web", "web/index"]);
}
