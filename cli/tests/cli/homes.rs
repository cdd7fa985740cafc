//! Making a home, and one node at a time on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use crate::world::{Device, World, mode, until};

#[test]
fn init_makes_a_mesh_and_leaves_the_node_running() {
    let world = World::new();
    let laptop = world.device("laptop");
    fs::create_dir(&laptop.home).unwrap();
    let file = laptop.home.join("phrase");
    let made = laptop.json(&[
        "init",
        "--name",
        "laptop",
        "--no-password",
        "--yes",
        "--phrase-out",
        file.to_str().unwrap(),
    ]);
    assert_eq!(
        fs::read_to_string(&file)
            .unwrap()
            .split_whitespace()
            .count(),
        24
    );
    assert!(made.get("phrase").is_none(), "{made}");
    assert_eq!(
        (
            mode(&file),
            mode(&laptop.home),
            mode(&laptop.home.join("device.seed"))
        ),
        (0o600, 0o700, 0o600)
    );
    assert_eq!(mode(&laptop.home.join("api.sock")), 0o600);
    let status = laptop.json(&["--no-start", "status"]);
    assert_eq!(status["device"]["name"], "laptop");
    assert_eq!(status["mesh"]["id"], made["mesh"]["id"]);
    assert_eq!(status["mesh"]["devices"], 1);
    assert!(status["socket"].is_null());
    let people = laptop.mesh(&["status"]);
    assert!(
        people.stderr.contains("recovery phrase still lies"),
        "{}",
        people.stderr
    );
    fs::remove_file(&file).unwrap();
    assert!(!laptop.mesh(&["status"]).stderr.contains("recovery phrase"));
}

#[test]
fn init_again_is_4() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let seed = fs::read(laptop.home.join("device.seed")).unwrap();
    let again = ["--json", "init", "--no-password", "--yes"];
    assert_eq!(laptop.mesh(&again).code, 4);
    laptop.json(&["down"]);
    let ended = laptop.mesh(&again);
    assert_eq!(
        (ended.code, ended.error()["kind"].as_str()),
        (4, Some("refused"))
    );
    assert_eq!(fs::read(laptop.home.join("device.seed")).unwrap(), seed);
}

#[test]
fn init_refuses_what_is_there() {
    let world = World::new();
    let laptop = world.device("laptop");
    fs::create_dir(&laptop.home).unwrap();
    fs::write(laptop.home.join("letter.txt"), "dear").unwrap();
    let ended = laptop.mesh(&["init", "--no-password", "--yes"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert_eq!(fs::read_dir(&laptop.home).unwrap().count(), 1);
    let other = world.device("other");
    fs::write(world.path("words"), "mine").unwrap();
    assert_eq!(
        other
            .mesh(&["init", "--no-password", "--yes", "--phrase-out", "words"])
            .code,
        4
    );
    assert_eq!(fs::read_to_string(world.path("words")).unwrap(), "mine");
}

#[test]
fn a_password_comes_from_a_file_and_must_be_long() {
    let world = World::new();
    let laptop = world.device("laptop");
    fs::write(world.path("pw"), "short\n").unwrap();
    assert_eq!(
        laptop
            .mesh(&["init", "--yes", "--password-file", "pw"])
            .code,
        2
    );
    fs::write(world.path("pw"), "long enough to be one\n").unwrap();
    laptop.json(&["init", "--yes", "--password-file", "pw"]);
    assert_eq!(
        fs::read_dir(laptop.home.join("keyslots")).unwrap().count(),
        2
    );
}

#[test]
fn a_second_up_says_so() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let ended = laptop.mesh(&["up"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.contains("running already"), "{}", ended.stdout);
    let ended = laptop.mesh(&["--json", "up", "--foreground"]);
    assert_eq!(ended.code, 4, "{}", ended.stdout);
    assert!(
        ended.error()["message"]
            .as_str()
            .unwrap()
            .contains("in use by process"),
        "{}",
        ended.stdout
    );
    assert_eq!(
        laptop.json(&["--no-start", "status"])["device"]["name"],
        "laptop"
    );
}

#[test]
fn down_ends_the_node_before_it_returns() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    assert_eq!(laptop.json(&["down"])["stopped"], true);
    assert!(!laptop.home.join("api.sock").exists());
    assert_eq!(laptop.json(&["down"])["stopped"], false);
    assert_eq!(laptop.json(&["up"])["started"], true);
}

/// The node of a home as a child process that answers.
fn in_the_foreground(device: &Device<'_>) -> Child {
    device.json(&["down"]);
    let node = device
        .command(&["up", "--foreground"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it answers", || {
        device.mesh(&["--no-start", "status"]).code == 0
    });
    node
}

#[test]
fn a_node_in_the_foreground_stops_on_sigterm() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let mut node = in_the_foreground(&laptop);
    let pid = rustix::process::Pid::from_child(&node);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
    assert!(!laptop.home.join("api.sock").exists());
}

/// As a script does that runs in several terminals.
#[test]
fn commands_that_all_start_the_node_share_one() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    laptop.json(&["down"]);
    let spawn = || {
        let mut status = laptop.command(&["--json", "status"]);
        let status = status.stdin(Stdio::null()).stdout(Stdio::piped());
        status.stderr(Stdio::null()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..8).map(|_| spawn()).collect();
    for one in all {
        let ended = one.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(0), "{said}");
    }
}

#[test]
fn after_a_kill_the_next_node_takes_over() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let mut node = in_the_foreground(&laptop);
    node.kill().unwrap();
    node.wait().unwrap();
    assert!(laptop.home.join("api.sock").exists());
    assert_eq!(laptop.json(&["up"])["started"], true);
}

/// Somebody starts over without stopping the node.
#[test]
fn a_node_whose_home_was_made_anew_ends() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let mut old = in_the_foreground(&laptop);
    let was = laptop.json(&["status"])["device"]["id"].clone();
    fs::remove_dir_all(&laptop.home).unwrap();
    let laptop = laptop.init();
    until("the old one ends", || old.try_wait().unwrap().is_some());
    let status = laptop.json(&["--no-start", "status"]);
    assert_ne!(status["device"]["id"], was);
    assert_eq!(laptop.json(&["down"])["stopped"], true);
}

#[test]
fn a_long_home_has_its_socket_elsewhere() {
    let world = World::new();
    let laptop = world
        .device(&format!("{}/{}", "a".repeat(75), "b".repeat(75)))
        .init();
    assert!(!laptop.home.join("api.sock").exists());
    let status = laptop.json(&["--no-start", "status"]);
    let socket = status["socket"].as_str().unwrap();
    assert!(
        socket.starts_with(world.path("run").to_str().unwrap()),
        "{socket}"
    );
    assert_eq!(mode(socket.as_ref()), 0o600);
    assert!(laptop.mesh(&["status"]).stdout.contains(socket));
    laptop.json(&["down"]);
    assert!(!std::path::Path::new(socket).exists());
}

/// Security test 58.
#[test]
fn a_seed_that_others_can_read_is_refused() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    laptop.json(&["down"]);
    fs::set_permissions(
        laptop.home.join("device.seed"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let ended = laptop.mesh(&["--json", "up"]);
    assert_eq!(ended.code, 4, "{}", ended.stdout);
    assert!(
        ended.error()["hint"]
            .as_str()
            .unwrap()
            .contains("chmod 600"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_newer_database_is_refused() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    laptop.json(&["down"]);
    make_newer(&laptop.home.join("mesh.db"));
    let before = fs::read(laptop.home.join("mesh.db")).unwrap();
    let ended = laptop.mesh(&["--json", "up"]);
    assert_eq!(
        (ended.code, ended.error()["kind"].as_str()),
        (4, Some("newer_version")),
        "{}",
        ended.stdout
    );
    assert_eq!(fs::read(laptop.home.join("mesh.db")).unwrap(), before);
}

/// Raises `user_version`, which SQLite keeps at byte 60 of the file.
fn make_newer(database: &std::path::Path) {
    let mut bytes = fs::read(database).unwrap();
    assert!(bytes.starts_with(b"SQLite format 3\0"), "not a database");
    bytes[60..64].copy_from_slice(&0x7fff_0000_u32.to_be_bytes());
    fs::write(database, bytes).unwrap();
}

#[test]
fn the_service_unit_names_this_home() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let made = laptop.json(&["service", "install"]);
    let unit = made["unit"].as_str().unwrap().to_owned();
    assert!(
        unit.starts_with(world.path("user/.config/systemd/user").to_str().unwrap()),
        "{unit}"
    );
    let text = fs::read_to_string(&unit).unwrap();
    assert!(
        text.contains(&format!(
            "--home \"{}\" up --foreground",
            laptop.home.canonicalize().unwrap().display()
        )),
        "{text}"
    );
    assert_eq!(made["started"], false);
    let again = laptop.mesh(&["service", "install"]);
    assert!(
        again.stdout.contains("systemctl --user enable --now"),
        "{}",
        again.stdout
    );
    laptop.json(&["service", "remove"]);
    assert!(!std::path::Path::new(&unit).exists());
    assert_eq!(laptop.mesh(&["service", "remove"]).code, 6);
}

#[test]
fn a_kill_at_any_moment_leaves_a_home_that_can_be_made_or_is_made() {
    let world = World::new();
    let mut made = 0;
    for moment in 0..40 {
        let laptop = world.device(&format!("laptop-{moment}"));
        let args = [
            "--json",
            "init",
            "--name",
            "laptop",
            "--no-password",
            "--yes",
        ];
        let mut child = laptop
            .command(&args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The moments are the point here: a millisecond apart, they fall into every part of the making.
        std::thread::sleep(std::time::Duration::from_millis(moment));
        let _ = child.kill();
        let _ = child.wait();
        let again = laptop.mesh(&args);
        let complete = again.code == 4
            && again.error()["message"]
                .as_str()
                .unwrap()
                .contains("has a mesh already");
        assert!(
            again.code == 0 || complete,
            "after {moment} ms: {}",
            again.stdout
        );
        made += usize::from(complete);
        assert_eq!(laptop.json(&["status"])["device"]["name"], "laptop");
        laptop.json(&["down"]);
    }
    assert!(made < 40, "no kill came in time");
}
