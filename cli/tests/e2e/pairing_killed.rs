//! kill -9 while two devices pair: of either side, behind each piece that crosses the wire between them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::device::Device;
use crate::pairing::{QUIET, Wire, devices, lonely, open, text};
use crate::talk::Talk;
use crate::world::{World, check, full, until};

/// Between two looks at the wire.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Sponsor,
    Joiner,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Device,
    Nothing,
    /// It was admitted and died before it had kept that: its name is listed, its keys are nowhere.
    NameAlone,
}

fn begin(laptop: &Device, desktop: &Device, cut: usize) -> (Talk, Talk, Wire) {
    let (window, code, at) = open(laptop, &["--yes"]);
    let wire = Wire::new(at, cut);
    let at = wire.at.to_string();
    let args = ["pair", &code, "--name", desktop.name, "--yes", "--at", &at];
    (window, desktop.talk(&args), wire)
}

/// Kills one side once `cut` pieces have gone over the wire, and lets both come back.
///
/// Returns: what became of the new device.
fn kill_behind(laptop: &mut Device, desktop: &Device, side: Side, cut: usize) -> End {
    let (window, mut joining, wire) = begin(laptop, desktop, cut);
    // A run may take fewer pieces than the one they were counted in.
    while wire.carried.load(Ordering::SeqCst) <= cut && joining.end_within(LOOK).is_none() {}
    match side {
        Side::Sponsor => laptop.kill(),
        Side::Joiner => joining.kill(),
    }
    // Whoever is left ends by itself, or goes on looking for a window that is gone.
    let _ended = joining.end_within(QUIET);
    drop((joining, window));
    if side == Side::Sponsor {
        laptop.up();
    }
    let named = |listed: &[String]| listed.iter().any(|name| name == desktop.name);
    if desktop.is_one() {
        // A node may be starting there just now; then it is asked again.
        until(
            &format!("{side:?} killed behind piece {cut}: both know both"),
            || {
                let here = desktop.mesh(&["devices"]);
                let there = devices(laptop);
                let both = here.code == 0
                    && here.json()["devices"].as_array().map(Vec::len) == Some(there.len());
                check(both && named(&there), (there, here))
            },
        );
        return End::Device;
    }
    if named(&devices(laptop)) {
        End::NameAlone
    } else {
        End::Nothing
    }
}

impl Device {
    /// Whether its home is a device's.
    fn is_one(&self) -> bool {
        self.home.join("device.seed").exists()
    }
}

/// Security test 17: afterwards the new device is one, and both say so; or it has kept nothing. In one moment its name alone is left.
#[test]
fn a_kill_behind_each_piece_leaves_a_device_or_none() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let whole = lonely(&world, "whole");
    let (mut window, mut joining, wire) = begin(&laptop, &whole, usize::MAX);
    assert_eq!((joining.end(), window.end()), (0, 0));
    let pieces = wire.carried.load(Ordering::SeqCst);
    let mut ends = [0; 3];
    // The last pieces are those that count; in the suite every third of them, and one of the two sides in turn.
    let (step, sides) = if full() { (1, 2) } else { (3, 1) };
    for (round, cut) in (0..pieces).rev().step_by(step).enumerate() {
        for side in 0..sides {
            let side = [Side::Sponsor, Side::Joiner][(round + side) % 2];
            let name: &'static str = format!("{side:?}-{cut}").to_lowercase().leak();
            let desktop = lonely(&world, name);
            // A new process does not remember guesses of the last one.
            laptop.down();
            laptop.up();
            let end = kill_behind(&mut laptop, &desktop, side, cut);
            ends[end as usize] += 1;
            eprintln!("{side:?} killed behind piece {cut} of {pieces}: {end:?}");
        }
    }
    assert!(
        ends[End::Nothing as usize] > 0,
        "kills that hit the pairing: {ends:?}"
    );
}

/// Security test 6: a window lives in the node's memory alone. Its code is worth nothing to the next process, which counts guesses anew
/// because there is nothing left to guess.
#[test]
fn a_code_dies_with_its_node() {
    let world = World::loopback();
    let mut laptop = world.device("laptop");
    laptop.init();
    let (window, old, _) = open(&laptop, &["--yes"]);
    laptop.kill();
    drop(window);
    laptop.up();
    // A window is open again, so that whoever comes is heard.
    let (mut window, new, at) = open(&laptop, &["--yes"]);
    assert_ne!(old, new);
    let desktop = lonely(&world, "desktop");
    let at = at.to_string();
    let mut joining = desktop.talk(&["pair", &old, "--yes", "--at", &at]);
    assert_ne!(joining.end(), 0);
    assert!(!desktop.is_one());
    let failed = window.until("failed");
    assert!(failed["attempts_left"].as_u64() > Some(0), "{failed}");
    let mut joining = desktop.talk(&["pair", &new, "--yes", "--name", "desktop", "--at", &at]);
    assert_eq!(joining.end(), 0, "{:?}", joining.said);
    assert_eq!(text(&window.until("paired"), "device"), "desktop");
}
