//! A hostile host at the same switch as two devices that sync (docs/security-tests.md, Show 3): floods, handshakes that stall,
//! frames announced and never sent, garbage, from strangers and from a device that was let in. The two go on, within twice the time
//! they need without it, and neither memory nor file descriptors of their nodes grow beyond what they may.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::attacker::Attacker;
use crate::device::Device;
use crate::strangers::port;
use crate::world::{Dice, World, check, full, settle, until};

/// What a node's memory may ever be, bytes.
const MEMORY: u64 = 150 << 20;
/// What a node may have open: 64 connections each way, a few listeners, the database's files, and its readers.
const DESCRIPTORS: u64 = 300;
/// Handshakes of strangers that fill what a node has for them.
const PENDING: usize = 24;
/// How long two devices may take to find each other again in the middle of it.
const AGAIN: Duration = Duration::from_secs(20);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(20);
/// What a measurement of a second or two may be wrong by on a machine that does other things, beside the factor.
const SLACK: Duration = Duration::from_millis(500);

/// The most a node ever used while it was watched.
struct Watched {
    stop: Arc<AtomicBool>,
    descriptors: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Watched {
    fn new(pid: u32) -> Self {
        let (stop, most) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, seen) = (stop.clone(), most.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let open = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
                seen.fetch_max(open as u64, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        Self {
            stop,
            descriptors: most,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.descriptors.load(Ordering::Relaxed)
    }
}

/// The most memory a process ever had, bytes: the kernel keeps count.
fn peak(device: &Device) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", device.pid())).unwrap();
    let line = text.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Writes a tree on one side; returns how long it took to be on the other.
fn sync(from: &Device, to: &Device, name: &str, files: u64, large: usize) -> Duration {
    let mut dice = Dice::new(files + name.len() as u64);
    let made = from.seen(&from.root).join(name);
    for n in 0..files {
        let dir = made.join(format!("d{}", n % 40));
        std::fs::create_dir_all(&dir).unwrap();
        let len = usize::try_from(dice.below(8_000)).unwrap();
        std::fs::write(dir.join(n.to_string()), dice.bytes(len)).unwrap();
    }
    std::fs::write(made.join("large"), dice.bytes(large)).unwrap();
    let begun = Instant::now();
    std::fs::rename(&made, from.at(name)).unwrap();
    until("the tree is there", || {
        let there = to.at(name).join("large").exists();
        check(there, to.space())
    });
    settle(from, to, name);
    begun.elapsed()
}

/// Lets the guest's host in, as whom it will attack.
fn ticket(laptop: &Device) -> (crate::talk::Talk, String) {
    let mut window = laptop.talk(&["pair", "--yes"]);
    let ticket = window.until("window")["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    (window, ticket)
}

/// Security test 68.
#[test]
fn a_flooding_stalling_lying_host_stops_nobody() {
    let Some(world) = World::switched(3) else {
        return;
    };
    let (files, large, pace, goal) = if full() {
        (8_000, 256 << 20, 400, 10_000)
    } else {
        (1_000, 16 << 20, 300, 600)
    };
    let (mut laptop, desktop) = world.joined(|laptop| laptop.write("first", "first"));
    let guest = world.device("guest");
    let mut targets: Vec<SocketAddr> = [(1, &laptop), (2, &desktop)]
        .map(|(host, device)| ([10, 77, 0, host], port(device)).into())
        .to_vec();

    let quiet = sync(&laptop, &desktop, "quiet", files, large);
    let (mut window, ticket) = ticket(&laptop);
    let mut attacker = Attacker::start(&guest, &ticket, &targets, pace);
    assert_eq!(window.until("paired")["device"], "guest");
    assert_eq!(window.end(), 0);
    let done = attacker.done();
    let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
    until("the attack is under way", || {
        check(
            count(&done.connected) > 100 && count(&done.sessions) > 0,
            count(&done.connected),
        )
    });
    let watched = [&laptop, &desktop].map(|device| Watched::new(device.pid()));

    let attacked = sync(&laptop, &desktop, "attacked", files, large);
    let back = sync(&desktop, &laptop, "back", files, large);
    until("the attack is as large as it is to be", || {
        check(count(&done.connected) >= goal, count(&done.connected))
    });
    let peaks = [&laptop, &desktop].map(peak);
    let descriptors = watched.map(Watched::end);

    // Two that have lost each other find each other while every handshake that may be pending is a stranger's.
    laptop.kill();
    let (lan, side) = laptop.side.clone().unwrap();
    lan.part(true);
    laptop.write("after", "after");
    laptop.up();
    targets[0].set_port(port(&laptop));
    attacker.aim(&targets);
    // Of six kinds of strangers four wait to be thrown out.
    until("all places are taken", || {
        let held = [side, 1 - side].map(|side| lan.connections(side));
        check(held.iter().all(|n| *n >= PENDING), held)
    });
    let begun = Instant::now();
    lan.part(false);
    settle(&laptop, &desktop, "connecting beside a flood");
    let again = begun.elapsed();

    eprintln!(
        "sync {:.2} s without, {:.2} and {:.2} s beside the attacker; connecting anew {:.2} s
  {} connections, {} held at the end, {} bytes; inside: {} sessions, {} streams, {} messages
  peak memory {} and {} MiB, descriptors {} and {}",
        quiet.as_secs_f64(),
        attacked.as_secs_f64(),
        back.as_secs_f64(),
        again.as_secs_f64(),
        count(&done.connected),
        count(&done.held),
        count(&done.bytes),
        count(&done.sessions),
        count(&done.streams),
        count(&done.messages),
        peaks[0] >> 20,
        peaks[1] >> 20,
        descriptors[0],
        descriptors[1],
    );
    assert!(count(&done.sessions) > 0 && count(&done.streams) > 0);
    assert!(peaks.iter().all(|peak| *peak < MEMORY), "{peaks:?}");
    assert!(
        descriptors.iter().all(|n| *n < DESCRIPTORS),
        "{descriptors:?}"
    );
    let allowed = quiet * 2 + SLACK;
    assert!(
        attacked < allowed && back < allowed,
        "{quiet:?}, then {attacked:?} and {back:?}"
    );
    assert!(again < AGAIN, "{again:?}");
}
