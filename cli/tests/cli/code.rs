//! Nine digits: guesses, the third word, what everybody may see; and the password beside them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::pairing::{Window, ended, events, join};
use crate::world::{Device, World, until};

/// The same with the code, as an argument.
fn join_by(device: &Device<'_>, code: &str, args: &[&str]) -> Child {
    let mut command = device.command(&[&["--json", "pair", code], args].concat());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The code with another last digit.
fn wrong(code: &str) -> String {
    let last = if code.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &code[..code.len() - 1])
}

#[test]
fn nine_digits_alone_pair_when_both_say_yes() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, ticket) = Window::open(&laptop, &["--yes"]);
    let code = window.code.take().unwrap();
    assert_eq!(code.len(), 11, "{code}");
    let (_, secret) = code.split_once('-').unwrap();
    // What everybody on the network or machine may see has the nameplate and not the rest.
    let cards = || -> Vec<String> {
        let cards = std::fs::read_dir(world.path("run/mesh")).unwrap();
        let read = |card: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(card.ok()?.path()).ok()
        };
        cards.filter_map(read).collect()
    };
    let nameplate = format!("\nc {}\n", &code[..3]);
    until("the nameplate is shown", || {
        cards().iter().any(|card| card.contains(&nameplate))
    });
    let cards = cards();
    for hidden in [secret.to_owned(), secret.replace('-', "")] {
        assert!(!cards.iter().any(|card| card.contains(&hidden)));
    }
    let joined = ended(join_by(
        &desktop,
        &code.replace('-', ""),
        &["--name", "desktop", "--yes"],
    ));
    assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(events(&joined), ["found", "paired"], "no words");
    assert_eq!(window.end(), Some(0));
    for device in [&laptop, &desktop] {
        let listed = device.json(&["--no-start", "devices"]);
        assert_eq!(listed["devices"].as_array().unwrap().len(), 2, "{listed}");
        let log = std::fs::read_to_string(device.home.join("log/node.log")).unwrap();
        assert!(!log.contains(&ticket) && !log.contains(secret) && !log.contains(&code));
    }
}

#[test]
fn a_side_that_asks_is_answered() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, _) = Window::open(&laptop, &[]);
    let code = window.code.take().unwrap();
    let mut child = desktop
        .command(&["--json", "pair", &code, "--name", "desktop"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = |wanted: &str| -> Value {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["event"], wanted, "{event}");
        event
    };
    let words = next("words")["words"].as_str().unwrap().to_owned();
    window.until("confirm");
    writeln!(window.stdin, "{words}").unwrap();
    let word = window.until("word")["word"].as_str().unwrap().to_owned();
    assert_eq!(next("found")["devices"], 1);
    assert_eq!(next("confirm")["ask"], "word");
    assert!(!desktop.home.join("device.seed").exists(), "not yet");
    writeln!(stdin, "slip").unwrap();
    assert_eq!(next("confirm")["ask"], "word");
    writeln!(stdin, "{word}").unwrap();
    assert_eq!(next("paired")["mesh"], "laptop");
    assert_eq!(window.until("paired")["device"], "desktop");
    assert_eq!(window.end(), Some(0));
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nobody_to_ask_bothers_nobody() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, _) = Window::open(&laptop, &["--yes"]);
    let code = window.code.take().unwrap();
    let joined = ended(join_by(&desktop, &code, &[]));
    assert_eq!(joined.code, 4, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(desktop.mesh(&["pair", &code]).code, 4, "without --json");
    assert!(!desktop.home.join("device.seed").exists());
    // The window has not even counted it.
    let joined = ended(join_by(&desktop, &code, &["--yes"]));
    assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
    assert_eq!(window.end(), Some(0));
    assert_eq!(
        laptop.json(&["devices"])["devices"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_ticket_asks_yes_or_no() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    for (answer, code) in [("no", 4), ("yes", 0)] {
        let desktop = world.device(&format!("desktop-{answer}"));
        let (window, ticket) = Window::open(&laptop, &["--yes"]);
        let mut child = desktop
            .command(&["--json", "pair", "-", "--name", "desktop"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        write!(stdin, "{ticket}\n{answer}\n").unwrap();
        drop(stdin);
        let joined = ended(child);
        assert_eq!(joined.code, code, "{} {}", joined.stdout, joined.stderr);
        assert_eq!(desktop.home.join("device.seed").exists(), code == 0);
        assert_eq!(window.end(), Some(if code == 0 { 0 } else { 5 }));
    }
}

/// Security test 4.
#[test]
fn three_wrong_codes_close_the_window() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    let (mut window, _) = Window::open(&laptop, &["--yes"]);
    let code = window.code.take().unwrap();
    for left in [2, 1, 0] {
        let joined = ended(join_by(&desktop, &wrong(&code), &["--yes"]));
        let error = joined.error();
        assert_eq!(
            (joined.code, error["kind"].as_str()),
            (5, Some("wrong_secret"))
        );
        let told = window.until("failed");
        assert_eq!(told["attempts_left"], left, "{told}");
        assert_eq!(
            told["reason"],
            "the code was wrong, or the connection broke"
        );
    }
    window.until("closed");
    assert_eq!(window.end(), Some(5));
    assert!(!desktop.home.join("device.seed").exists());
}

/// Security test 72.
#[test]
fn after_five_windows_guessed_at_there_is_a_ticket_only() {
    let world = World::new();
    let (laptop, desktop) = (world.device("laptop").init(), world.device("desktop"));
    for guessed in 0..6 {
        let (mut window, ticket) = Window::open(&laptop, &["--yes"]);
        if let Some(code) = window.code.take() {
            assert!(guessed < 5);
            ended(join_by(&desktop, &wrong(&code), &["--yes"]));
            window.until("failed");
            window.child.kill().unwrap();
            window.end();
            until("the node has seen it close", || {
                laptop.json(&["--no-start", "status"])["v"] == 1
                    && std::fs::read_dir(world.path("run/mesh"))
                        .unwrap()
                        .flatten()
                        .filter_map(|card| std::fs::read_to_string(card.path()).ok())
                        .all(|card| !card.contains("\ns "))
            });
            continue;
        }
        assert_eq!(guessed, 5);
        let joined = ended(join(&desktop, &ticket, &["--name", "desktop"]));
        assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
        assert_eq!(window.end(), Some(0));
    }
}

/// Security test 16.
#[test]
fn the_password_admits_from_a_device_that_may_not() {
    let world = World::new();
    let password = world.path("password");
    std::fs::write(&password, "correct horse battery\n").unwrap();
    let given = ["--password-file", password.to_str().unwrap()];
    let laptop = world.device("laptop");
    laptop.json(&[&["init", "--name", "laptop", "--yes"], &given[..]].concat());
    let let_in = |by: &Device<'_>, name: &'static str, args: &[&str]| {
        let (mut window, _) = Window::open(by, &[&["--yes"], args].concat());
        let device = world.device(name);
        let code = window.code.take().unwrap();
        let joined = ended(join_by(&device, &code, &["--name", name, "--yes"]));
        assert_eq!(joined.code, 0, "{} {}", joined.stdout, joined.stderr);
        assert_eq!(window.end(), Some(0));
        device
    };
    let desktop = let_in(&laptop, "desktop", &[]);
    let tablet = let_in(&desktop, "tablet", &[]);
    // The third in the row may not pass it on.
    let refused = tablet.mesh(&["--json", "pair", "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    let wrong = world.path("wrong");
    std::fs::write(&wrong, "something else entirely").unwrap();
    let refused = tablet.mesh(&[
        "--json",
        "pair",
        "--yes",
        "--password-file",
        wrong.to_str().unwrap(),
    ]);
    assert_eq!(refused.code, 5, "{}", refused.stdout);
    let_in(&tablet, "phone", &given);
    until("all know all four", || {
        laptop.json(&["devices"])["devices"]
            .as_array()
            .unwrap()
            .len()
            == 4
    });
    // A mesh without a password says so.
    let other = world.device("other").init();
    let refused = other.mesh(&[&["--json", "pair", "--yes"], &given[..]].concat());
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(
        refused.error()["message"]
            .to_string()
            .contains("no password")
    );
}

#[test]
fn the_ticket_is_drawn_for_people() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    assert_eq!(laptop.mesh(&["--json", "pair", "--yes", "--qr"]).code, 2);
    let mut child = laptop
        .command(&["pair", "--yes", "--qr"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(Result::unwrap).take(30).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lines[0].starts_with("  mesh pair "), "{lines:?}");
    assert!(lines[1].starts_with("MESH1:"), "{lines:?}");
    let drawn = &lines[4..];
    let width = drawn[0].chars().count();
    assert!(
        width > 60 && drawn.iter().all(|line| line.chars().count() == width),
        "{drawn:?}"
    );
}
