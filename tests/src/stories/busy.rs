//! Files that change while they are looked at, or all the time.

use ownmesh_node::engine::Event;

use super::*;
use crate::mem_disk::Entry;
use crate::seeds::SMALL;

/// A write in the same tick as the hashing before it leaves no trace in times and sizes: whichever of a
/// look's reads it falls between.
pub fn racy_write() {
    (1..8).for_each(written_at);
}

fn written_at(read: u64) {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for name in ["f0", "f1", "f2"] {
            d.user_write(name, "00");
        }
    });
    settle(&mut world);
    act(&mut world, 0, |d| {
        for name in ["f0", "f1", "f2"] {
            d.user_write(name, "11");
        }
        d.before_read(read, |d| d.user_write("f1", "aa"));
        d.before_read(read + 2, |d| d.user_write("f1", "bb"));
    });
    let mut r = world.reference();
    for text in ["aa", "bb"] {
        r.again(&Entry::File(std::sync::Arc::new(text.into())), "told");
    }
    for text in ["aa", "11"] {
        r.decided("told", &Entry::File(std::sync::Arc::new(text.into())));
    }
    drop(r);
    look(&mut world, 0);
    let world = end(world);
    assert_eq!(files(&world, 1)["f1"], "bb");
}

/// More than fits into one portion of anything, and nothing happens that would wake anybody.
pub fn many_at_once() {
    for n in 0..24 {
        let mut world = world(&["alice", "bob"], 2);
        vary(&mut world, n);
        world.weather.disk = [20, 300][usize::from(n % 2 == 1)];
        for device in &mut world.devices {
            device.portions = SMALL;
            let engine = device.engine.as_mut().expect("it runs");
            engine.set_portions(SMALL);
        }
        act(&mut world, 0, |d| {
            for f in 0..40 + 3 * n {
                d.user_write(&format!("f{f}"), f.to_string());
            }
        });
        look(&mut world, 0);
        let until = world.now + 120_000;
        world.run_until(until);
        let there = files(&world, 1).len();
        assert_eq!(there, files(&world, 0).len(), "{n}");
        end(world);
    }
}

/// A log that is written every second is not taken in every second, and all of it in the end.
pub fn busy_log() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("log", "-"));
    settle(&mut world);
    let space = world.devices[0].space.expect("it takes part");
    let authored = |world: &World| {
        let engine = world.devices[0].engine.as_ref().expect("it runs");
        engine.tally().authored
    };
    let before = authored(&world);
    for n in 0..300 {
        act(&mut world, 0, |d| {
            d.user_append("log", format!("line {n}\n"));
        });
        let dirs = vec![ownmesh_node::disk::RelPath::ROOT];
        world.give(0, Event::Disturbed { space, dirs });
    }
    let during = authored(&world) - before;
    assert!((8..=14).contains(&during), "{during} changes");
    // Nobody has to ask for the rest of it.
    let until = world.now + 61_000;
    world.run_until(until);
    assert_eq!(files(&world, 1), files(&world, 0));
    end(world);
}
