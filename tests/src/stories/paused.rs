//! Spaces that wait because their user said so.

use super::*;
use crate::device::End;
use crate::world::{SPACE, World};

fn pause(world: &mut World, d: usize, seconds: Option<u64>) {
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    let paused = engine
        .pause(Some(SPACE), seconds, now)
        .expect("it takes part");
    assert_eq!(paused, [SPACE]);
    world.perform_effects(d);
}

fn go_on(world: &mut World, d: usize) {
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.unpause(Some(SPACE), now).expect("it waits");
    world.perform_effects(d);
}

fn is_paused(world: &World, d: usize) -> bool {
    let engine = world.devices[d].engine.as_ref().expect("it runs");
    engine.open_spaces_list().all(|space| space.is_paused())
}

/// A space is paused while both sides work, the power goes meanwhile, and nothing of it is lost.
pub fn paused_over_a_loss_of_power() {
    let mut world = world(&["alice", "bob", "carol"], 3);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    act(&mut world, 0, |d| d.user_write("gone", "x"));
    settle(&mut world);
    // Something is on its way in both directions.
    act(&mut world, 1, |d| d.user_write("late", "from bob"));
    act(&mut world, 0, |d| d.user_write("own", "from alice"));
    pause(&mut world, 0, None);
    act(&mut world, 0, |d| d.user_write("f", "2"));
    act(&mut world, 0, |d| d.user_rm("gone"));
    act(&mut world, 1, |d| d.user_write("g", "3"));
    settle(&mut world);
    assert!(!files(&world, 0).contains_key("g"));
    assert_eq!(files(&world, 1)["f"], "1");
    assert_eq!(files(&world, 2)["g"], "3", "the others go on");
    world.end(0, End::Power);
    world.start(0);
    connect(&mut world);
    assert!(is_paused(&world, 0));
    assert!(!files(&world, 0).contains_key("g"));
    go_on(&mut world, 0);
    settle(&mut world);
    let world = end(world);
    for d in 0..3 {
        let all = files(&world, d);
        assert_eq!(
            (&*all["g"], &*all["late"], &*all["own"]),
            ("3", "from bob", "from alice")
        );
    }
}

/// A pause with an end is over by itself, also where the device was off at the end of it.
pub fn paused_for_a_time() {
    let mut world = world(&["alice", "bob"], 2);
    pause(&mut world, 0, Some(3_600));
    act(&mut world, 1, |d| d.user_write("f", "1"));
    settle(&mut world);
    assert!(is_paused(&world, 0) && files(&world, 0).is_empty());
    world.end(0, End::Kill);
    let until = world.now + 3_600_000;
    world.run_until(until);
    world.start(0);
    connect(&mut world);
    settle(&mut world);
    assert!(!is_paused(&world, 0));
    assert_eq!(contents(&end(world), 0), ["1"]);
}
