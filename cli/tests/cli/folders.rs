//! Folders: adding, listing, leaving, waiting; and the demo, which is two devices from end to end.

use std::fs;

use crate::world::{World, until};

#[test]
fn a_folder_is_added_listed_and_left() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let docs = world.path("docs");
    fs::create_dir_all(docs.join("letters")).unwrap();
    fs::write(docs.join("letters/one.txt"), "dear").unwrap();
    fs::write(docs.join("notes.md"), "notes").unwrap();
    let added = laptop.json(&["add", docs.to_str().unwrap()]);
    assert_eq!(
        (added["space"].as_str(), added["joined"].as_bool()),
        (Some("docs"), Some(false))
    );
    laptop.json(&["scan", "docs", "--wait"]);
    until("both files are counted", || {
        laptop.json(&["status"])["spaces"][0]["files"] == 2
    });
    let paths = |args: &[&str]| {
        let listed = laptop.json(args);
        let mut paths: Vec<_> = listed["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["path"].as_str().unwrap().to_owned())
            .collect();
        paths.sort();
        paths.join(" ")
    };
    assert_eq!(paths(&["ls", "docs"]), "letters notes.md");
    assert_eq!(
        paths(&["ls", "docs", "-R"]),
        "letters letters/one.txt notes.md"
    );
    assert_eq!(paths(&["ls", "docs:letters"]), "letters/one.txt");
    let people = laptop.mesh(&["ls", "docs", "-l"]);
    assert!(
        people.stdout.contains("letters/") && people.stdout.contains("here"),
        "{}",
        people.stdout
    );
    assert_eq!(laptop.json(&["ls"])["spaces"][0]["joined"], true);
    assert!(
        laptop
            .mesh(&["status"])
            .stdout
            .contains("no other device has it")
    );
    laptop.json(&["leave", "docs"]);
    assert_eq!(fs::read_to_string(docs.join("notes.md")).unwrap(), "notes");
    assert_eq!(laptop.json(&["spaces"])["spaces"][0]["joined"], false);
}

#[test]
fn what_must_not_be_a_space_is_refused() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let (docs, inner) = (world.path("docs"), world.path("docs/inner"));
    fs::create_dir_all(&inner).unwrap();
    laptop.json(&["add", docs.to_str().unwrap()]);
    for path in [
        inner.as_path(),
        &world.path(""),
        &laptop.home,
        "/".as_ref(),
        &world.path("user"),
    ] {
        let ended = laptop.mesh(&["--json", "add", path.to_str().unwrap(), "--space", "other"]);
        assert_eq!(
            (ended.code, ended.error()["kind"].as_str()),
            (4, Some("refused")),
            "{}: {}",
            path.display(),
            ended.stdout
        );
    }
    fs::write(world.path("file"), "").unwrap();
    assert_eq!(
        laptop
            .mesh(&["add", world.path("file").to_str().unwrap()])
            .code,
        2
    );
}

#[test]
fn a_rule_that_can_have_no_effect_is_refused() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    fs::create_dir(world.path("docs")).unwrap();
    laptop.json(&["add", world.path("docs").to_str().unwrap()]);
    for idle in ["/", ".mesh", ".meshignore", "!/.mesh/x"] {
        let ended = laptop.mesh(&["--json", "ignore", "add", idle]);
        assert_eq!(ended.code, 2, "{idle}: {}", ended.stdout);
        let message = ended.error()["message"].to_string();
        assert!(message.contains("no effect"), "{idle}: {message}");
    }
    let said = |pattern: &str| laptop.mesh(&["ignore", "add", pattern]).stdout;
    assert_eq!(
        said("*.log"),
        "*.log is ignored from now on (.meshignore)\n"
    );
    let exception = said("!keep.log");
    assert!(
        exception.starts_with("keep.log is an exception"),
        "{exception}"
    );
    let rules = fs::read_to_string(world.path("docs/.meshignore")).unwrap();
    assert_eq!(rules, "*.log\n!keep.log\n");
}

#[test]
fn waiting_alone_is_7_with_the_reason() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    fs::create_dir(world.path("docs")).unwrap();
    laptop.json(&["add", world.path("docs").to_str().unwrap()]);
    let ended = laptop.mesh(&["--json", "wait", "--timeout", "20"]);
    assert_eq!(ended.code, 7, "{}", ended.stdout);
    let reply = ended.json();
    assert_eq!(reply["done"], false);
    assert!(!reply["reasons"].as_array().unwrap().is_empty(), "{reply}");
}

#[test]
fn the_demo_runs_to_its_end_and_leaves_nothing() {
    let world = World::new();
    let before = fs::read_dir(world.path("")).unwrap().count();
    let ended = world.mesh(&["--json", "demo"]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    let steps: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|value| {
            value["step"]
                .as_str()
                .or(value["event"].as_str())
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        steps.join(" "),
        "init pair sync edit rename conflict resolve wait done"
    );
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), before);
}
