//! Two machines become devices of one mesh by nine digits: what a person types, and what each side sees when it goes wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::device::Device;
use crate::talk::Talk;
use crate::thief::Thief;
use crate::world::{World, check, full, settle, until};

/// From two installed machines to a folder in sync.
const GOAL: Duration = Duration::from_secs(20);
/// How long a joiner may say nothing before it counts as one that still looks for the other side.
pub(crate) const QUIET: Duration = Duration::from_secs(4);

pub(crate) fn text(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap().to_owned()
}

pub(crate) fn open(laptop: &Device, args: &[&str]) -> (Talk, String, SocketAddr) {
    let mut window = laptop.talk(&[&["pair"], args].concat());
    let event = window.until("window");
    let port = event["addresses"][0]
        .as_str()
        .and_then(|address| address.parse::<SocketAddr>().ok())
        .unwrap()
        .port();
    let code = text(&event, "code");
    (window, code, ([127, 0, 0, 1], port).into())
}

fn wrong(code: &str) -> String {
    let last = if code.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &code[..code.len() - 1])
}

pub(crate) fn devices(laptop: &Device) -> Vec<String> {
    let listed = laptop.json(&["devices"]);
    let all = listed["devices"].as_array().unwrap();
    all.iter().map(|device| text(device, "name")).collect()
}

/// A device that finds nobody by itself: what it is told by `--at` is all it has.
pub(crate) fn lonely(world: &World, name: &'static str) -> Device {
    let run = world.path(&format!("run-{name}"));
    std::fs::create_dir(&run).unwrap();
    Device::new(name, &world.path(name), run, world.path("user"))
}

fn tell(who: &str, talk: &Talk) {
    for line in talk.story() {
        eprintln!("  {who:8} {line}");
    }
}

#[test]
fn from_two_installed_machines_to_a_folder_in_sync() {
    let Some(world) = World::lan() else { return };
    let (laptop, desktop) = (world.device("laptop"), world.device("desktop"));
    laptop.write("notes.md", "carried over");
    let begun = Instant::now();
    let at = |what: &str| eprintln!("{:6.2} s  {what}", begun.elapsed().as_secs_f64());
    laptop.json(&["init", "--name", "laptop", "--no-password", "--yes"]);
    at("laptop:  mesh init --name laptop --no-password");
    laptop.add();
    at("laptop:  mesh add ~/docs");
    let (mut window, code, _) = open(&laptop, &[]);
    at("laptop:  mesh pair");
    let mut joining = desktop.talk(&["pair", &code, "--name", "desktop"]);
    let words = text(&joining.until("words"), "words");
    at(&format!("desktop: mesh pair {code}"));
    window.until("confirm");
    window.enter(&words);
    let word = text(&window.until("word"), "word");
    at(&format!("laptop:  {words}"));
    let found = joining.until("found");
    assert_eq!(
        (&found["mesh"], &found["devices"]),
        (&"laptop".into(), &1.into())
    );
    joining.until("confirm");
    joining.enter(&word);
    joining.until("paired");
    assert_eq!(window.until("paired")["device"], "desktop");
    assert_eq!((joining.end(), window.end()), (0, 0));
    at(&format!("desktop: {word}"));
    desktop.add();
    at("desktop: mesh add ~/docs");
    until("the file is there", || {
        check(desktop.read("notes.md").is_some(), desktop.tree())
    });
    let took = begun.elapsed();
    at("in sync");
    assert!(took < GOAL, "it took {took:?}");
    settle(&laptop, &desktop, "the rest");
}

/// Security test 4.
#[test]
fn a_wrong_code_three_times() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let desktop = world.device("desktop");
    let (mut window, code, _) = open(&laptop, &[]);
    for left in [2, 1, 0] {
        let mut joining = desktop.talk(&["pair", &wrong(&code), "--yes"]);
        assert_eq!(joining.end(), 5);
        assert_eq!(joining.said[0]["error"]["kind"], "wrong_secret");
        assert_eq!(window.until("failed")["attempts_left"], left);
        tell("desktop", &joining);
    }
    window.until("closed");
    assert_eq!(window.end(), 5);
    tell("laptop", &window);
    assert!(!desktop.home.join("device.seed").exists());
    assert_eq!(devices(&laptop), ["laptop"]);
}

/// Security test 7.
#[test]
fn two_joiners_with_one_code() {
    for round in 0..if full() { 20 } else { 3 } {
        let world = World::loopback();
        let mut laptop = world.device("laptop");
        laptop.init();
        let (mut window, code, _) = open(&laptop, &["--yes"]);
        let rivals = [world.device("one"), world.device("two")];
        let mut talks = rivals
            .each_ref()
            .map(|device| device.talk(&["pair", &code, "--name", device.name, "--yes"]));
        assert_eq!(window.end(), 0);
        // The one who lost looks for a window that is closed; it need not look to the end.
        let first = until_one_ends(&mut talks);
        assert_eq!(first.1, 0, "{:?}", talks[first.0].said);
        let mut listed = devices(&laptop);
        listed.retain(|name| name != "laptop");
        assert_eq!(listed, [rivals[first.0].name], "round {round}");
        assert!(!rivals[1 - first.0].home.join("device.seed").exists());
        if round == 0 {
            let _still_looking = talks[1 - first.0].end_within(QUIET);
            tell("laptop", &window);
            tell("winner", &talks[first.0]);
            tell("loser", &talks[1 - first.0]);
        }
    }
}

/// Which of two came in, and its exit code; an end with an error is the other's.
fn until_one_ends(talks: &mut [Talk; 2]) -> (usize, i32) {
    let begun = Instant::now();
    loop {
        for (which, talk) in talks.iter_mut().enumerate() {
            if let Some(0) = talk.end_within(Duration::from_millis(50)) {
                return (which, 0);
            }
        }
        assert!(begun.elapsed() < crate::world::PATIENCE, "nobody came in");
    }
}

/// Carries one connection, and cuts it behind a number of pieces.
pub(crate) struct Wire {
    pub(crate) at: SocketAddr,
    pub(crate) carried: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn new(to: SocketAddr, cut: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let carried = Arc::new(AtomicUsize::new(0));
        let count = carried.clone();
        std::thread::spawn(move || {
            let Ok((near, _)) = listener.accept() else {
                return;
            };
            // Nobody comes a second time.
            drop(listener);
            let far = TcpStream::connect(to).unwrap();
            let ways = [(&near, &far), (&far, &near)];
            std::thread::scope(|scope| {
                for (from, into) in ways {
                    let count = &count;
                    scope.spawn(move || carry(from, into, count, cut));
                }
            });
        });
        Self { at, carried }
    }
}

fn carry(mut from: &TcpStream, mut into: &TcpStream, count: &AtomicUsize, cut: usize) {
    let mut piece = [0; 1 << 16];
    while let Ok(len @ 1..) = from.read(&mut piece) {
        if count.fetch_add(1, Ordering::SeqCst) >= cut || into.write_all(&piece[..len]).is_err() {
            break;
        }
    }
    let _gone = from.shutdown(Shutdown::Both);
    let _gone = into.shutdown(Shutdown::Both);
}

/// The wire is cut behind each piece that crosses it, from the last to the first. Whatever was cut, the new device is one only if the old one
/// says so too; who does not become one keeps nothing.
/// Security test 17.
#[test]
fn a_cut_at_every_message() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let pairing = |laptop: &Device, desktop: &Device, cut: usize| {
        let (window, code, at) = open(laptop, &["--yes"]);
        let wire = Wire::new(at, cut);
        let told = wire.at.to_string();
        let args = [
            "pair",
            &code,
            "--name",
            desktop.name,
            "--yes",
            "--at",
            &told,
        ];
        (window, desktop.talk(&args), wire)
    };
    let whole = lonely(&world, "whole");
    let (mut window, mut joining, wire) = pairing(&laptop, &whole, usize::MAX);
    assert_eq!((joining.end(), window.end()), (0, 0));
    let pieces = wire.carried.load(Ordering::SeqCst);
    let mut ends = [0; 3];
    for cut in (0..pieces).rev() {
        // A new process does not remember guesses of the last one.
        laptop.down();
        laptop.up();
        let before = devices(&laptop).len();
        let name: &'static str = format!("cut-{cut}").leak();
        let desktop = lonely(&world, name);
        let (mut window, mut joining, _wire) = pairing(&laptop, &desktop, cut);
        let code = joining.end_within(QUIET);
        let kept = desktop.home.join("device.seed").exists();
        let last = joining.said.last().map(|e| e["error"]["message"].clone());
        if kept {
            assert_eq!(joining.end(), 0, "{:?}", joining.said);
            assert!(devices(&laptop).contains(&name.to_owned()), "cut {cut}");
            ends[0] += 1;
        } else if code.is_some() {
            assert_ne!(code, Some(0), "cut {cut}: {:?}", joining.said);
            ends[1] += 1;
        } else {
            // Not even met: it goes on looking.
            drop(joining);
            assert!(!desktop.home.join("device.seed").exists());
            assert_eq!(devices(&laptop).len(), before, "cut {cut}");
            ends[2] += 1;
        }
        let heard = window.next(QUIET);
        eprintln!(
            "cut behind piece {cut} of {pieces}: joiner {} {:?}; sponsor {heard:?}; listed {}",
            if kept {
                "is a device,"
            } else {
                "kept nothing,"
            },
            last,
            devices(&laptop).len() - before,
        );
        drop(window);
        if ends[2] == 2 {
            break;
        }
    }
    assert!(ends[1] >= 4, "cuts that hit the pairing: {ends:?}");
}

/// Somebody who has read the code over a shoulder stands between the two, and calls his mesh as the laptop's is called.
/// Security test 15b.
#[test]
fn one_between_who_knows_the_code_and_not_the_words() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    for types_on in [true, false] {
        let desktop = lonely(&world, if types_on { "typing" } else { "waiting" });
        let (mut window, code, at) = open(&laptop, &[]);
        let thief = Thief::between(&code, at, "laptop");
        let told = thief.address().to_string();
        let mut joining = desktop.talk(&["pair", &code, "--name", "desktop", "--at", &told]);
        let words = text(&joining.until("words"), "words");

        // The user types on the laptop what the desktop shows, twice.
        for left in [1, 0] {
            window.until("confirm");
            window.enter(&words);
            assert_eq!(window.until("failed")["attempts_left"], left);
        }
        window.until("closed");
        assert_eq!(window.end(), 5);
        assert!(window.said.iter().all(|event| event["event"] != "word"));

        // The thief, who knows the words of his own half, lets the desktop into his mesh.
        thief.agree(&words);
        assert_eq!(joining.until("found")["mesh"], "laptop", "as the right one");
        joining.until("confirm");
        if types_on {
            // The laptop shows no word. Whatever is typed, it is not the one.
            joining.enter("abandon");
            joining.until("confirm");
            joining.enter("ability");
        }
        assert_eq!(joining.end(), if types_on { 5 } else { 4 });
        assert!(!desktop.home.join("device.seed").exists());
        assert_eq!(devices(&laptop), ["laptop"]);
        assert!(!thief.was_let_in());
        tell("laptop", &window);
        tell("desktop", &joining);
    }
}

/// Five minutes, by the real clock: at full size only.
/// Security test 8.
#[test]
fn a_window_expires() {
    if !full() {
        eprintln!("not waited for: with MESH_E2E_FULL=1 only");
        return;
    }
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let (mut window, code, at) = open(&laptop, &["--yes"]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(330) {
        if window
            .next(Duration::from_secs(10))
            .is_some_and(|event| event["event"] == "closed")
        {
            break;
        }
    }
    let took = begun.elapsed().as_secs();
    assert!((295..=310).contains(&took), "{took} s");
    assert_eq!(window.end(), 7);
    let desktop = lonely(&world, "late");
    let mut joining = desktop.talk(&["pair", &code, "--yes", "--at", &at.to_string()]);
    assert_eq!(joining.end(), 1);
    tell("laptop", &window);
    tell("desktop", &joining);
    assert!(!desktop.home.join("device.seed").exists());
}
