//! Strangers at the node's port: garbage, silence, floods. Sync goes on beside them, and memory stays bounded.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::device::Device;
use crate::world::{Dice, World, settle};

/// What a node may grow by while it is attacked, bytes.
const GROWTH: u64 = 64 << 20;

/// The port a node listens at.
pub(crate) fn port(device: &Device) -> u16 {
    // Its socket in the kernel's table: the card in the runtime directory is the node's own business.
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", device.pid()))
        .unwrap()
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .filter_map(|to| {
            Some(
                to.to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|t| std::fs::read_to_string(format!("/proc/{}/net/{t}", device.pid())).unwrap());
    let listening = |line: &str| -> Option<u16> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let ours = *state == "0A" && inodes.iter().any(|i| i == inode);
        ours.then(|| u16::from_str_radix(local.rsplit(':').next()?, 16).ok())?
    };
    tables
        .iter()
        .flat_map(|t| t.lines())
        .find_map(listening)
        .unwrap()
}

/// Somebody who does one bad thing over and over.
struct Stranger {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn new(mut act: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                act();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn dial(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .ok()?;
    stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .ok()?;
    Some(stream)
}

fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}

/// Security test 68.
#[test]
fn garbage_silence_and_floods_do_not_stop_sync() {
    let world = World::loopback();
    let (laptop, desktop) = world.joined(|laptop| laptop.write("first", "first"));
    let port = port(&desktop);
    let before = desktop.memory();
    let (tries, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));

    let counted = tries.clone();
    let mut dice = Dice::new(11);
    let garbage = Stranger::new(move || {
        pause();
        let Some(mut stream) = dial(port) else { return };
        counted.fetch_add(1, Ordering::Relaxed);
        let len = usize::try_from(dice.below(4_000)).unwrap();
        let _refused = stream.write_all(&dice.bytes(len));
        let mut answer = [0; 256];
        let _refused = stream.read(&mut answer);
    });
    let mut dice = Dice::new(12);
    let protocol = Stranger::new(move || {
        pause();
        // The right first words, and then none of the right ones.
        let Some(mut stream) = dial(port) else { return };
        let _refused = stream.write_all(b"\x13/multistream/1.0.0\n\x07/noise\n");
        let len = usize::try_from(dice.below(70_000)).unwrap();
        let _refused = stream.write_all(&dice.bytes(len));
    });
    let mut held = Vec::new();
    let silent = Stranger::new(move || {
        pause();
        held.extend(dial(port));
        if held.len() > 300 {
            held.clear();
        }
    });
    let counted = sent.clone();
    let flood = Stranger::new(move || {
        pause();
        let Some(mut stream) = dial(port) else { return };
        let block = [0x41; 1 << 16];
        for _ in 0..256 {
            match stream.write(&block) {
                Ok(len) => counted.fetch_add(len as u64, Ordering::Relaxed),
                Err(_) => break,
            };
        }
    });

    let mut most = 0;
    for round in 0..15 {
        for index in 0..20 {
            laptop.write(
                &format!("r{round}/{index}"),
                format!("round {round}, file {index}"),
            );
        }
        desktop.write(&format!("back{round}"), format!("back {round}"));
        settle(&laptop, &desktop, "sync beside strangers");
        most = most.max(desktop.memory());
    }
    // Also a device that comes back finds its place among them.
    let mut laptop = laptop;
    laptop.kill();
    laptop.write("after", "after");
    laptop.up();
    settle(&laptop, &desktop, "connecting beside strangers");
    drop((garbage, protocol, silent, flood));
    let (tries, sent) = (tries.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    eprintln!(
        "{tries} garbage connections, {sent} bytes of flood; memory {before} at first, {most} at most"
    );
    assert!(
        tries > 20,
        "only {tries} garbage connections got through to the port"
    );
    assert!(
        most < before + GROWTH,
        "memory went from {before} to {most}"
    );
    assert_eq!(laptop.tree().files(), 1 + 15 * 21 + 1);
}
