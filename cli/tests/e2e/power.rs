//! Show 5, second half: power loss on either side. Home, database and folder lie on one disk that forgets what was not synced.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::device::Device;
use crate::image::Image;
use crate::kills::{PHASES, User, moment};
use crate::world::{Dice, World, full, settle, skip};

/// What the user did is on the disk for good.
fn sync(device: &Device) {
    let file = fs::File::open(device.at("")).unwrap();
    rustix::fs::syncfs(file).unwrap();
}

#[test]
fn power_loss_in_every_phase_on_the_receiving_side() {
    power_losses(false, 7);
}

#[test]
fn power_loss_in_every_phase_on_the_sending_side() {
    power_losses(true, 8);
}

/// Power is lost on the desktop, which receives, or the laptop, on which the user works.
fn power_losses(sending: bool, seed: u64) {
    let rounds = if full() { 30 } else { 4 };
    let world = World::loopback();
    let (mut laptop, mut desktop) = (world.device("laptop"), world.device("desktop"));
    let fragile = if sending { &mut laptop } else { &mut desktop };
    let mut disk = match Image::under(fragile, world.root()) {
        Ok(disk) => disk,
        Err(why) => return skip(&why),
    };
    laptop.init();
    laptop.let_in(&mut desktop);
    let (mut user, mut dice) = (User::new(seed), Dice::new(seed));
    let root = laptop.at("");
    user.fill(&root, 600);
    laptop.add();
    desktop.add();
    settle(&laptop, &desktop, "the first sync");
    let mut forgotten = 0;
    for round in 0..rounds {
        // Both sides get their phases in turn; the drawn moment makes up for the few rounds.
        let phase = PHASES[(round * 5 + 2) % PHASES.len()];
        let what = format!("seed {seed}, round {round}: {phase:?}");
        let before: BTreeSet<String> = desktop
            .tree()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        user.act(phase, &root, 300);
        if sending && round % 2 == 0 {
            // The work is safe on its disk before the power goes: it must arrive.
            sync(&laptop);
        }
        if sending && round % 2 == 1 {
            // In the middle of reading, flushing and announcing what the user has just done.
            std::thread::sleep(Duration::from_millis(dice.below(60)));
        } else {
            moment(phase, &desktop, &mut dice, &before);
        }
        let fragile = if sending { &mut laptop } else { &mut desktop };
        fragile.kill();
        let shown = fragile.tree();
        let canary = fragile.seen(&fragile.root).join(format!("canary-{round}"));
        fs::write(&canary, "not synced").unwrap();
        disk.lose_power();
        assert!(
            fs::read(&canary).map_or(true, |c| c.is_empty()),
            "{what}: this disk does not forget"
        );
        let left = fragile.tree();
        forgotten += usize::from(shown != left);
        fragile.up();
        settle(&laptop, &desktop, &what);
        if sending && round % 2 == 1 {
            user.remember(&laptop.tree(), &left);
        }
        user.check(&laptop, &what);
        user.check(&desktop, &what);
    }
    let side = if sending { "sending" } else { "receiving" };
    eprintln!(
        "{rounds} power losses on the {side} side; {forgotten} took something from the folder"
    );
}
