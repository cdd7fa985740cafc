//! Show 3: what a rename and a small edit of something large cost, by the counters of the wire itself.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use crate::device::Device;
use crate::world::{Dice, World, check, full, settle, until};

/// Bytes that are large here.
fn large() -> u64 {
    if full() { 2 << 30 } else { 256 << 20 }
}

/// Sent by the laptop and received by it while `act` is done and arrives, frames, acknowledgements and mDNS included.
fn cost(world: (&Device, &Device), what: &str, act: impl FnOnce()) -> u64 {
    let (laptop, desktop) = world;
    let lan = &laptop.side.as_ref().unwrap().0;
    let before = lan.counters(0);
    act();
    until(what, || {
        let (here, there) = (laptop.tree().0, desktop.tree().0);
        check(here == there, (here.len(), there.len()))
    });
    settle(laptop, desktop, what);
    let after = lan.counters(0);
    let cost = after.0 - before.0 + after.1 - before.1;
    eprintln!("{what}: {cost} bytes on the wire");
    cost
}

#[test]
fn renaming_a_large_directory_and_editing_a_large_file_send_little() {
    let Some(world) = World::lan() else { return };
    let mut dice = Dice::new(3);
    let (laptop, desktop) = world.joined(|laptop| {
        fs::create_dir_all(laptop.at("photos/2024")).unwrap();
        let mut one = BufWriter::new(File::create(laptop.at("photos/disk.img")).unwrap());
        for _ in 0..large() / 2 / (1 << 20) {
            one.write_all(&dice.bytes(1 << 20)).unwrap();
        }
        one.flush().unwrap();
        for index in 0..32 {
            let mut file = File::create(laptop.at(&format!("photos/2024/{index}.jpg"))).unwrap();
            for _ in 0..large() / 2 / 32 / (1 << 20) {
                file.write_all(&dice.bytes(1 << 20)).unwrap();
            }
        }
    });
    let pair = (&laptop, &desktop);
    let renamed = cost(pair, "a directory is renamed", || {
        fs::rename(laptop.at("photos"), laptop.at("pictures")).unwrap();
    });
    assert!(
        renamed < 100_000,
        "renaming {} bytes sent {renamed}",
        large()
    );

    // Somewhere in the middle, across borders of chunks. A look in the middle of the write makes two
    // versions of one edit, which is right but no measure: the smallest of three counts.
    let mut edits = Vec::new();
    for place in [5, 3, 7] {
        edits.push(cost(pair, "1 MiB is edited", || {
            let file = File::options()
                .write(true)
                .open(laptop.at("pictures/disk.img"))
                .unwrap();
            file.write_all_at(&dice.bytes(1 << 20), large() / place + 12_345)
                .unwrap();
        }));
    }
    assert!(
        edits.iter().any(|sent| *sent < 3_000_000),
        "editing 1 MiB of {} sent {edits:?}",
        large() / 2
    );
}
