//! Two devices of one machine: ticket, words, and what is refused.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::world::{Device, Ended, World, until};

/// A `mesh pair --json` that goes on.
pub(crate) struct Window {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    /// The nine digits, if it has some.
    pub(crate) code: Option<String>,
}

impl Window {
    pub(crate) fn open(device: &Device<'_>, args: &[&str]) -> (Self, String) {
        let mut command = device.command(&[&["--json", "pair"], args].concat());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut window = Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            code: None,
        };
        let event = window.until("window");
        assert!(
            event["expires_in_s"].as_u64().is_some_and(|s| s > 200),
            "{event}"
        );
        assert!(event["addresses"].is_array(), "{event}");
        window.code = event["code"].as_str().map(str::to_owned);
        (window, event["ticket"].as_str().unwrap().to_owned())
    }

    pub(crate) fn until(&mut self, wanted: &str) -> Value {
        for line in self.lines.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_eq!(event["v"], 1);
            if event["event"] == wanted {
                return event;
            }
        }
        panic!("the window closed before {wanted}");
    }

    pub(crate) fn end(mut self) -> Option<i32> {
        drop(self.stdin);
        self.lines.by_ref().for_each(drop);
        self.child.wait().unwrap().code()
    }
}

pub(crate) fn join(device: &Device<'_>, ticket: &str, args: &[&str]) -> Child {
    let mut command = device.command(&[&["--json", "pair", "-", "--yes"], args].concat());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{ticket}\n").as_bytes())
        .unwrap();
    child
}

pub(crate) fn ended(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

pub(crate) fn events(ended: &Ended) -> Vec<String> {
    let name = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["event"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    ended.stdout.lines().map(name).collect()
}

#[test]
fn a_ticket_alone_pairs_when_both_say_yes() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (window, ticket) = Window::open(&laptop, &["--yes"]);
    let joined = ended(join(&desktop, &ticket, &["--name", "desktop"]));
    assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(events(&joined).last().map(String::as_str), Some("paired"));
    assert!(!joined.stdout.contains(&ticket) && !joined.stderr.contains(&ticket));
    assert_eq!(window.end(), Some(0));
    for device in [&laptop, &desktop] {
        let listed = device.json(&["--no-start", "devices"]);
        assert_eq!(listed["devices"].as_array().unwrap().len(), 2, "{listed}");
        until("they are connected", || {
            device.json(&["status"])["peers"][0]["connected"] == true
        });
        let log = std::fs::read_to_string(device.home.join("log/node.log")).unwrap();
        assert!(!log.contains(&ticket));
    }
}

#[test]
fn the_words_are_typed_on_the_window_side() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, ticket) = Window::open(&laptop, &[]);
    let mut child = join(&desktop, &ticket, &["--name", "desktop"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let words = loop {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if event["event"] == "words" {
            break event["words"].as_str().unwrap().to_owned();
        }
    };
    window.until("confirm");
    writeln!(window.stdin, "{words}").unwrap();
    assert_eq!(window.until("paired")["device"], "desktop");
    assert_eq!(window.end(), Some(0));
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Security test 16.
#[test]
fn wrong_words_let_nobody_in() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, ticket) = Window::open(&laptop, &[]);
    let child = join(&desktop, &ticket, &["--name", "desktop"]);
    for _ in 0..2 {
        window.until("confirm");
        writeln!(window.stdin, "wrong words").unwrap();
        window.until("failed");
    }
    let joined = ended(child);
    assert_eq!(joined.code, 5, "{} {}", joined.stdout, joined.stderr);
    assert!(!desktop.home.join("device.seed").exists());
    window.child.kill().unwrap();
    window.end();
    assert_eq!(
        laptop.json(&["devices"])["devices"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_window_closes_with_its_command() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let (mut window, _) = Window::open(&laptop, &["--yes"]);
    assert_eq!(laptop.mesh(&["pair", "--yes"]).code, 4);
    window.child.kill().unwrap();
    window.end();
    until("another can be opened", || {
        let mut child = laptop
            .command(&["--json", "pair", "--yes"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .next()
            .unwrap()
            .unwrap();
        let _ = child.kill();
        let _ = child.wait();
        line.contains("\"window\"")
    });
}

#[test]
fn a_home_with_a_mesh_is_replaced_only_when_told() {
    let world = World::new();
    let (laptop, desktop) = (
        world.device("laptop").init(),
        world.device("desktop").init(),
    );
    let (window, ticket) = Window::open(&laptop, &["--yes"]);
    assert_eq!(
        ended(join(&desktop, &ticket, &["--name", "desktop"])).code,
        4
    );
    std::fs::create_dir(world.path("docs")).unwrap();
    desktop.json(&["add", world.path("docs").to_str().unwrap()]);
    assert_eq!(
        ended(join(&desktop, &ticket, &["--name", "desktop", "--replace"])).code,
        4
    );
    desktop.json(&["leave", "docs"]);
    let joined = ended(join(&desktop, &ticket, &["--name", "desktop", "--replace"]));
    assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(window.end(), Some(0));
    assert!(desktop.home.join("replaced-1/device.seed").exists());
    assert_eq!(
        desktop.json(&["status"])["mesh"]["id"],
        laptop.json(&["status"])["mesh"]["id"]
    );
}

#[test]
fn what_is_neither_code_nor_ticket_is_told_apart() {
    let world = World::new();
    let desktop = world.device("desktop");
    for (given, says) in [
        ("MESH1:AE", "that is no ticket"),
        (
            "garbage",
            "neither a code, which has nine digits, nor a ticket",
        ),
        ("123-456-78", "a code has nine digits, and this has 8"),
    ] {
        let joined = ended(join(&desktop, given, &[]));
        let error = joined.error();
        assert_eq!(
            (joined.code, error["kind"].as_str()),
            (5, Some("wrong_secret")),
            "{given}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(says),
            "{given}: {error}"
        );
    }
    let error = |args: &[&str]| {
        let ended = desktop.mesh(&[&["--json", "pair"], args].concat());
        (ended.code, ended.error()["message"].to_string())
    };
    for short in ["123-456-78", "123.456.78", "123 456 78"] {
        assert_eq!(error(&[short, "--yes"]).0, 2, "{short}");
    }
    assert_eq!(error(&["nothing-there", "--yes"]).0, 6);
    assert!(error(&["nothing-there", "--yes"]).1.contains("nine digits"));
    assert_eq!(error(&["MESH1:AE", "--yes"]).0, 4);
    // A code says no port.
    let (code, message) = error(&["123-456-789", "--yes", "--at", "localhost"]);
    assert!(code == 2 && message.contains("port"), "{code} {message}");
    assert!(!desktop.home.exists());
}

#[test]
fn a_name_that_another_device_has_gets_a_number() {
    let world = World::new();
    let (laptop, other) = (world.device("laptop").init(), world.device("other"));
    let (mut window, ticket) = Window::open(&laptop, &["--yes"]);
    let joined = ended(join(&other, &ticket, &["--name", "laptop"]));
    assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(window.until("paired")["device"], "laptop-2");
    window.end();
    assert_eq!(other.json(&["status"])["device"]["name"], "laptop-2");
    let said: Value = serde_json::from_str(joined.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(said["device"], "laptop-2");
}
