//! Arguments, help and exit codes.

use crate::world::World;

#[test]
fn the_commands_are_these() {
    let world = World::new();
    let help = world.mesh(&["help"]);
    assert_eq!(help.code, 0);
    let commands: Vec<_> = help
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        commands.join(" "),
        "demo init up down service status wait pair devices device add spaces ls scan leave conflicts ignore continue revert why doctor pause resume limit history undo trash log completions man help"
    );
}

#[test]
fn every_command_has_help() {
    let world = World::new();
    for command in [
        "demo",
        "init",
        "up",
        "pair",
        "add",
        "wait",
        "conflicts",
        "service",
    ] {
        let help = world.mesh(&[command, "--help"]);
        assert_eq!(help.code, 0, "{command}");
        assert!(
            help.stdout.contains(&format!("Usage: mesh {command}")),
            "{}",
            help.stdout
        );
    }
}

#[test]
fn wrong_usage_is_2() {
    let world = World::new();
    for args in [
        &["nonsense"][..],
        &[],
        &["add"],
        &["wait", "--all", "--device", "x"],
        &["up", "--listen", "x"],
        &["pair", "12", "--yes"],
        &["pause", "--for", "soon"],
        &["limit", "--up", "fast"],
        &["limit", "--schedule", "8-9"],
        &["device"],
    ] {
        let ended = world.mesh(args);
        assert_eq!(ended.code, 2, "{args:?}");
        assert!(ended.stdout.is_empty(), "{args:?}: {}", ended.stdout);
        if !args.is_empty() {
            let ended = world.mesh(&[&["--json"], args].concat());
            assert_eq!(
                (ended.code, ended.error()["kind"].as_str()),
                (2, Some("usage")),
                "{args:?}"
            );
        }
    }
}

#[test]
fn without_a_node_and_no_start_is_3() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    laptop.json(&["down"]);
    for args in [
        &["status"][..],
        &["devices"],
        &["spaces"],
        &["scan"],
        &["wait"],
        &["conflicts"],
        &["pair", "--yes"],
    ] {
        let ended = laptop.mesh(&[&["--json", "--no-start"], args].concat());
        assert_eq!(
            (ended.code, ended.error()["kind"].as_str()),
            (3, Some("not_running")),
            "{args:?}"
        );
    }
    assert!(!laptop.home.join("api.sock").exists());
}

#[test]
fn a_command_starts_the_node_and_says_so() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    laptop.json(&["down"]);
    let ended = laptop.mesh(&["--json", "status"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.json()["device"]["name"], "laptop");
    assert!(
        ended.stderr.contains("starting the node"),
        "{}",
        ended.stderr
    );
}

#[test]
fn unknown_things_are_6() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    for args in [
        &["scan", "nowhere", "--wait"][..],
        &["leave", "nowhere"],
        &["continue", "nowhere"],
        &["revert", "nowhere"],
        &["ls", "nowhere:a/b"],
        &["conflicts", "resolve", "nowhere:a", "--keep", "both"],
        &["add", "/nonexistent"],
    ] {
        let ended = laptop.mesh(&[&["--json"], args].concat());
        assert_eq!(ended.code, 6, "{args:?}: {} {}", ended.stdout, ended.stderr);
        assert_eq!(ended.error()["kind"], "not_found", "{args:?}");
    }
    assert_eq!(world.mesh(&["--home", "none", "status"]).code, 6);
}

#[test]
fn a_ticket_is_no_argument() {
    let world = World::new();
    let desktop = world.device("desktop");
    let ended = desktop.mesh(&["pair", "MESH1:ABCDEF", "--yes"]);
    assert_eq!(ended.code, 4);
    assert!(ended.stderr.contains("mesh pair -"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ABCDEF"));
    assert_eq!(desktop.mesh(&["pair", "nofile", "--yes"]).code, 6);
}

#[test]
fn nobody_to_ask_is_4() {
    let world = World::new();
    let blank = world.device("blank");
    for args in [
        &["init", "--no-password"][..],
        &["init", "--phrase-out", "words"],
        &["init"],
    ] {
        let ended = blank.mesh(&[&["--json"], args].concat());
        assert_eq!(
            (ended.code, ended.error()["kind"].as_str()),
            (4, Some("needs_confirmation")),
            "{args:?}"
        );
    }
    assert!(!world.path("words").exists());
    let laptop = world.device("laptop").init();
    assert_eq!(laptop.mesh(&["pair"]).code, 4);
}

#[test]
fn man_pages_and_completions_come_from_the_definition() {
    let world = World::new();
    let dir = world.path("man/man1");
    let ended = world.mesh(&["man", dir.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for page in ["mesh.1", "mesh-status.1", "mesh-device-rename.1"] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap();
        assert!(text.contains(".TH "), "{page}: {text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ended = world.mesh(&["completions", shell]);
        assert!(
            ended.code == 0 && ended.stdout.contains("doctor"),
            "{shell}"
        );
    }
    // Nobody reads on, or there is no room: it ends as other commands do.
    let full = std::fs::File::create("/dev/full").unwrap();
    let (read, closed) = std::io::pipe().unwrap();
    drop(read);
    for out in [std::process::Stdio::from(full), closed.into()] {
        let mut command = world.command(&["completions", "bash"]);
        let ended: crate::world::Ended = command.stdout(out).output().unwrap().into();
        assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    }
    // What cannot be written is named.
    let file = world.path("file");
    std::fs::write(&file, "").unwrap();
    let ended = world.mesh(&["man", file.to_str().unwrap()]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains(file.to_str().unwrap()),
        "{}",
        ended.stderr
    );
}
