//! Devices that leave a space, join it again, or are given its state.

use ownmesh_node::db::logs;
use ownmesh_node::engine::Event;

use super::*;
use crate::device::End;
use crate::mem_disk::Entry;
use crate::world::World;

/// Gives the space up on a device, as `mesh leave` does.
pub(super) fn leave(world: &mut World, d: usize) {
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.leave(crate::world::SPACE).expect("it takes part");
    world.devices[d].space = None;
    world.perform_effects(d);
}

/// Takes part again with the files that are there, as `mesh add --merge` does: the tree first.
fn join_again(world: &mut World, d: usize) {
    world.add_as(d, true);
    more_time(world, 5_000);
    release(world, d);
}

fn release(world: &mut World, d: usize) {
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.release(crate::world::SPACE, now);
    world.perform_effects(d);
}

fn state_from(world: &World, d: usize) -> Option<usize> {
    let engine = world.devices[d].engine.as_ref()?;
    world.device_number(&engine.open_spaces_list().next()?.state_from()?)
}

/// A machine is put back with its memory: others know more of its process's log than it does itself.
pub fn log_runs_twice() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    let own = |world: &World| {
        let engine = world.devices[0].engine.as_ref().expect("it runs");
        let n = world.devices[0].space.expect("it takes part");
        let mut all = logs::all(engine.db().read(), n).expect("logs");
        all.retain(|log| log.device == world.devices[0].id());
        all
    };
    assert_eq!(own(&world).len(), 1);
    let (id, log) = (
        world.devices[0].engine.as_ref().and_then(|e| {
            let first = e.open_spaces_list().next()?;
            Some(first.id())
        }),
        own(&world).remove(0),
    );
    let hello = |seq| {
        let mut vector = ownmesh_crdt::vector::Vector::default();
        vector.raise(log.tag, seq);
        ownmesh_crdt::message::SpaceHello {
            space: id.expect("it takes part"),
            joined: true,
            mode: 0,
            lowest: vector.clone(),
            vector,
            missing_items: 0,
            missing_bytes: 0,
            items: 1,
            paused: false,
            stopped: 0,
            unwanted_items: 0,
        }
    };
    let tell = |world: &mut World, seq| {
        let device = world.devices[1].id();
        let bytes = ownmesh_crdt::message::Message::Space(hello(seq)).encode();
        world.give(0, Event::Message { device, bytes });
    };
    tell(&mut world, log.seq);
    act(&mut world, 0, |d| d.user_write("g", "2"));
    settle(&mut world);
    assert_eq!(own(&world).len(), 1);
    let known = own(&world)[0].seq;
    tell(&mut world, known + 1);
    act(&mut world, 0, |d| d.user_write("h", "3"));
    settle(&mut world);
    let logs = own(&world);
    assert_eq!(
        logs.len(),
        2,
        "it goes on with a log that others know more of"
    );
    assert!(logs.iter().any(|l| l.tag == log.tag && l.seq == known));
    end(world);
}

/// Pruned logs, and a third device that is let in; nobody has heard of its space yet.
fn pruned(make: impl Fn(&crate::mem_disk::MemDisk, usize)) -> World {
    let mut world = world(&["alice", "bob", "carol"], 2);
    for n in 0..4 {
        act(&mut world, n % 2, |d| make(d, n));
        settle(&mut world);
    }
    world.admit();
    world.start(2);
    world
}

fn one_file(d: &crate::mem_disk::MemDisk, n: usize) {
    d.user_write(&format!("f{n}"), format!("content {n}"));
}

/// Review 7: logs are pruned when a third device comes; it gets everything all the same.
pub fn pruned_log() {
    let mut world = world(&["alice", "bob", "carol"], 2);
    for n in 0..4 {
        act(&mut world, n % 2, |d| {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        });
        settle(&mut world);
    }
    let (engine, n) = (
        world.devices[0].engine.as_ref().expect("it runs"),
        world.devices[0].space.expect("it takes part"),
    );
    let all = logs::all(engine.db().read(), n).expect("logs");
    assert!(
        all.iter().any(|log| log.seq > 0 && log.low > 1),
        "nothing was pruned"
    );
    world.admit();
    world.start(2);
    connect(&mut world);
    world.add(2);
    settle(&mut world);
    let world = end(world);
    assert_eq!(files(&world, 2).len(), 4);
    assert!(world.reference().counts.contains_key("pages of state"));
}

/// Review 7: whoever gives a newcomer its state leaves the space; another one can give it.
pub fn giver_leaves() {
    let mut world = pruned(one_file);
    connect(&mut world);
    world.add(2);
    let giver = loop {
        world.step();
        if let Some(giver) = state_from(&world, 2) {
            break giver;
        }
    };
    leave(&mut world, giver);
    more_time(&mut world, 3_700_000);
    assert_eq!(
        files(&world, 2).len(),
        4,
        "an hour later it has not got them"
    );
}

/// Review 7: the giver's folder is not there; it has changes it cannot announce. Another can give.
pub fn giver_is_stopped() {
    let mut world = pruned(one_file);
    connect(&mut world);
    cut(&mut world);
    // Bob makes a change that nobody hears of, and his disk is not there when he starts again.
    act(&mut world, 1, |d| d.user_write("h", "of bob"));
    look(&mut world, 1);
    world.end(1, End::Kill);
    world.devices[1].disk.user_rm(".mesh/marker");
    world.start(1);
    world.add(2);
    world.join((1, 2));
    more_time(&mut world, 2_000);
    assert_eq!(state_from(&world, 2), Some(1));
    world.join((0, 2));
    more_time(&mut world, 3_700_000);
    assert_eq!(
        files(&world, 2).len(),
        4,
        "an hour later it has not got them"
    );
}

/// One document whose changes fill some pages of state, and a third device to be let in.
fn long() -> World {
    let mut world = world(&["alice", "bob", "carol"], 2);
    for n in 0..520_u64 {
        let mut target = String::new();
        let mut x = n + 1;
        while target.len() < 3_900 {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            target.push(char::from(b'0' + u8::try_from(x >> 58).unwrap_or(0)));
        }
        let disk = world.devices[0].disk.clone();
        if n > 0 {
            disk.user_rm("l");
        }
        disk.user_symlink(&target, "l");
        world
            .reference()
            .again(&Entry::Link(target.clone()), "told");
        if n < 519 {
            world.reference().decided("told", &Entry::Link(target));
        }
        let space = world.devices[0].space.expect("it takes part");
        world.give(
            0,
            Event::Disturbed {
                space,
                dirs: Vec::new(),
            },
        );
        more_time(&mut world, 200);
    }
    settle(&mut world);
    world
}

/// Review 7: the history of one document is larger than a page of state.
pub fn long_history() {
    let mut world = long();
    world.admit();
    world.start(2);
    connect(&mut world);
    world.add(2);
    more_time(&mut world, 3_700_000);
    assert!(
        world.devices[2].disk.entries().contains_key("l"),
        "an hour later it has nothing; state from {:?}",
        state_from(&world, 2)
    );
}

/// Whoever gives a newcomer a long document goes away within it; another one goes on with it.
pub fn given_by_two() {
    let mut world = long();
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    world.admit();
    world.start(2);
    connect(&mut world);
    world.cut((1, 2), false);
    world.add(2);
    let pages = |world: &World| world.reference().counts.get("pages of state").copied();
    while pages(&world) < Some(3) {
        world.step();
    }
    assert!(!world.devices[2].disk.entries().contains_key("l"));
    world.cut((0, 2), false);
    world.join((1, 2));
    more_time(&mut world, 10_000);
    let world = end(world);
    assert!(world.devices[2].disk.entries().contains_key("l"));
    assert_eq!(files(&world, 2)["f"], "1");
}

/// A device gives its copy up while another is away: that one hears of it when they meet.
pub fn left_while_away() {
    let mut world = world(&["alice", "bob", "carol"], 3);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    cut(&mut world);
    leave(&mut world, 1);
    for p in world.links.keys().copied().collect::<Vec<_>>() {
        world.join(p);
    }
    more_time(&mut world, 60_000);
    act(&mut world, 0, |d| d.user_write("f", "2"));
    let mut reply = wait(&mut world, 0, None, true);
    more_time(&mut world, 700_000);
    let reply = reply.try_recv().expect("an answer").expect("no error");
    assert!(
        reply.done,
        "all that take part have it: {:?}",
        reply.reasons
    );
}

/// A device gives its copy up and joins again with an empty folder while another is away: that one
/// does not go by what it had confirmed before.
pub fn joined_anew_while_away() {
    let mut falsely = Vec::new();
    for n in 0..10 {
        let mut world = world(&["alice", "bob"], 2);
        vary(&mut world, n);
        act(&mut world, 0, |d| d.user_write("f", "1"));
        settle(&mut world);
        cut(&mut world);
        leave(&mut world, 1);
        act(&mut world, 1, |d| d.user_rm("f"));
        world.add(1);
        more_time(&mut world, 2_000);
        world.weather.message = 200;
        world.weather.content = 5_000;
        let heard = |world: &World| {
            let engine = world.devices[0].engine.as_ref().expect("it runs");
            let n = world.devices[0].space.expect("it takes part");
            let all = ownmesh_node::db::spaces::members(engine.db().read(), n).expect("rows");
            all.first().map(|m| m.heard)
        };
        let before = heard(&world);
        world.join(AB);
        while heard(&world) == before {
            world.step();
        }
        // Bob has said that he has nothing.
        let mut reply = wait(&mut world, 0, Some("bob"), false);
        let reply = loop {
            world.step();
            if let Ok(reply) = reply.try_recv() {
                break reply.expect("no error");
            }
        };
        if reply.done && !files(&world, 1).contains_key("f") {
            falsely.push(n);
        }
    }
    assert!(
        falsely.is_empty(),
        "confirmed what is not there: {falsely:?}"
    );
}

/// A device leaves and joins again, twice, while a conflict is open; its files stay where they are.
pub fn joined_again_in_a_conflict() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "h1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "h2"));
    act(&mut world, 1, |d| d.user_write("f", "h3"));
    look(&mut world, 0);
    look(&mut world, 1);
    connect(&mut world);
    settle(&mut world);
    assert_eq!(contents(&world, 0), ["h2", "h3"]);
    for _ in 0..2 {
        leave(&mut world, 0);
        more_time(&mut world, 3_000);
        join_again(&mut world, 0);
        more_time(&mut world, 10_000);
    }
    let world = end(world);
    assert_eq!(contents(&world, 1), ["h2", "h3"]);
}

/// Whatever a conflict copy is to be called, somebody has a file of his own of that name; he gave his
/// copy up and did not see it.
pub fn names_of_copies_taken() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "h1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "h2"));
    act(&mut world, 1, |d| d.user_write("f", "h3"));
    look(&mut world, 0);
    look(&mut world, 1);
    connect(&mut world);
    settle(&mut world);
    for n in 0..6 {
        let main = files(&world, 1)["f"].clone();
        let losing = ["h2", "h3"].map(str::to_owned);
        let all = files(&world, 1);
        let copy = all
            .iter()
            .find(|(path, text)| *path != "f" && losing.contains(text) && **text != main);
        let name = copy.expect("a copy").0.clone();
        leave(&mut world, 0);
        act(&mut world, 0, |d| d.user_write(&name, format!("own {n}")));
        join_again(&mut world, 0);
        settle(&mut world);
    }
    let world = end(world);
    assert_eq!(files(&world, 0).len(), 8, "{:?}", files(&world, 0));
}

/// A device that gave its copy up comes back with a directory and files that were deleted meanwhile,
/// one that was made anew, one that it wrote to, and one of its own.
pub fn deleted_directory_while_not_taking_part() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for dir in ["docs", "docs/in", "kept"] {
            d.user_mkdir(dir);
        }
        for (path, text) in [
            ("docs/a", "a"),
            ("docs/in/b", "b"),
            ("kept/c", "c"),
            ("kept/d", "d"),
            ("e", "e"),
        ] {
            d.user_write(path, text);
        }
    });
    settle(&mut world);
    leave(&mut world, 1);
    act(&mut world, 0, |d| {
        for path in ["docs", "kept", "e"] {
            d.user_rm(path);
        }
    });
    settle(&mut world);
    act(&mut world, 0, |d| d.user_write("e", "e anew"));
    settle(&mut world);
    act(&mut world, 1, |d| {
        d.user_write("kept/c", "written to");
        d.user_write("kept/own", "own");
    });
    join_again(&mut world, 1);
    let world = end(world);
    let all = files(&world, 0);
    let want = [
        ("e", "e anew"),
        ("kept/c", "written to"),
        ("kept/own", "own"),
    ];
    let want: BTreeMap<String, String> = want.map(|(p, t)| (p.to_owned(), t.to_owned())).into();
    assert_eq!(all, want);
    assert!(!world.devices[0].disk.entries().contains_key("docs"));
    let trash = world.devices[1].disk.entries_below(".mesh/trash");
    for text in ["a", "b", "d", "e"] {
        assert!(
            trash.values().any(|e| is(e, text)),
            "{text} is not in the trash"
        );
    }
}

/// A device that gave its copy up comes back with a file that was deleted meanwhile.
pub fn deleted_while_not_taking_part() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    leave(&mut world, 1);
    act(&mut world, 0, |d| d.user_rm("f"));
    settle(&mut world);
    join_again(&mut world, 1);
    let world = end(world);
    assert_eq!(
        files(&world, 0),
        BTreeMap::new(),
        "it is what a tombstone names"
    );
}
