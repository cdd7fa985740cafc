//! Processes that die, and power that goes, between two things that belong together.

use ownmesh_node::engine::Event;

use super::*;
use crate::device::End;
use crate::mem_disk::Entry;
use crate::world::World;

/// What a step puts in place while the mesh goes on, and the process dies before base says so.
fn placed_and(
    make: impl Fn(&crate::mem_disk::MemDisk),
    name: &str,
    then: impl Fn(&crate::mem_disk::MemDisk),
    went_on: impl Fn(Option<&str>) -> bool,
    expect: &[&str],
) {
    let (mut hits, mut wrong) = (0, Vec::new());
    for n in 0..400 {
        let mut world = world(&["alice", "bob"], 2);
        vary(&mut world, n);
        act(&mut world, 0, &make);
        let (a, b) = (
            world.devices[0].space.expect("it takes part"),
            world.devices[1].space.expect("it takes part"),
        );
        let seen = |world: &mut World| {
            world.give(
                0,
                Event::Disturbed {
                    space: a,
                    dirs: Vec::new(),
                },
            );
        };
        seen(&mut world);
        let read = |world: &World| {
            let engine = world.devices[1].engine.as_ref().expect("it runs");
            let conn = engine.db().read();
            let placing = ownmesh_node::db::placing::all(conn, b).expect("rows");
            let is = |p: &&ownmesh_node::db::placing::Placing| {
                p.wanted.as_ref().is_some_and(|w| w.name == name)
            };
            let row = placing.iter().find(is)?;
            let base = ownmesh_node::db::base::get(conn, b, &row.id).expect("rows");
            let spot = ownmesh_node::db::items::place(conn, b, &row.item).expect("rows")?;
            Some((base.is_some(), spot.shown))
        };
        // He is about to put it in place.
        while read(&world).is_none() {
            world.step();
        }
        let before = world.devices[0].disk.entries();
        then(&world.devices[0].disk);
        let after = world.devices[0].disk.entries();
        world
            .reference()
            .step("told", &before, &after, false, false);
        seen(&mut world);
        while !world.devices[1].disk.entries().contains_key(name) && read(&world).is_some() {
            world.step();
        }
        match read(&world) {
            Some((false, shown)) if went_on(shown.as_deref()) => {}
            _ => continue,
        }
        hits += 1;
        world.end(1, End::Kill);
        world.start(1);
        let world = end(world);
        let names: Vec<String> = world.devices[0].disk.entries().into_keys().collect();
        if names != expect {
            wrong.push(names);
        }
        if hits == 5 {
            break;
        }
    }
    assert!(hits > 0, "it never happened");
    assert!(
        wrong.is_empty(),
        "{} of {hits} times: {wrong:?}",
        wrong.len()
    );
}

/// A file is deleted while another device puts it in place, and that one is killed then.
pub fn deleted_while_placed() {
    placed_and(
        |d| d.user_write("f", "one"),
        "f",
        |d| d.user_rm("f"),
        |shown| shown.is_none(),
        &[],
    );
}

/// A file is renamed while another device puts it in place, and that one is killed then.
pub fn renamed_while_placed() {
    placed_and(
        |d| d.user_write("f", "one"),
        "f",
        |d| d.user_rename("f", "g"),
        |shown| shown == Some("g"),
        &["g"],
    );
}

/// A symlink is deleted while another device puts it in place, and that one is killed then.
pub fn link_deleted_while_placed() {
    placed_and(
        |d| d.user_symlink("there", "f"),
        "f",
        |d| d.user_rm("f"),
        |shown| shown.is_none(),
        &[],
    );
}

/// A directory is deleted while another device makes it, and that one is killed then.
pub fn dir_renamed_while_placed() {
    placed_and(
        |d| d.user_mkdir("f"),
        "f",
        |d| d.user_rename("f", "g"),
        |shown| shown == Some("g"),
        &["g"],
    );
}

/// A conflict copy was put in place, and the process dies before base says so.
pub fn copy_placed_and_killed() {
    killed_at_copies(1);
}

fn killed_at_copies(times: usize) {
    let (mut hits, mut wrong) = (0, Vec::new());
    for n in 0..12 {
        let mut world = world(&["alice", "bob"], 2);
        vary(&mut world, n);
        act(&mut world, 0, |d| d.user_write("f", "h1"));
        settle(&mut world);
        cut(&mut world);
        act(&mut world, 0, |d| d.user_write("f", "h2"));
        act(&mut world, 1, |d| d.user_write("f", "h3"));
        look(&mut world, 0);
        look(&mut world, 1);
        for p in world.links.keys().copied().collect::<Vec<_>>() {
            world.join(p);
        }
        let copy = |world: &World, d: usize| {
            let shown = files(world, d).into_keys().any(|p| p.contains("(conflict"));
            let engine = world.devices[d].engine.as_ref().expect("it runs");
            let space = world.devices[d].space.expect("it takes part");
            let placing = ownmesh_node::db::placing::all(engine.db().read(), space);
            shown && !placing.expect("rows").is_empty()
        };
        let mut killed = 0;
        for _ in 0..times {
            let until = world.now + 20_000;
            let mut at = None;
            while at.is_none() && world.now < until {
                world.step();
                at = (0..2).find(|d| copy(&world, *d));
            }
            let Some(d) = at else { continue };
            world.end(d, End::Kill);
            world.start(d);
            killed += 1;
        }
        if killed < times {
            continue;
        }
        hits += 1;
        let world = end(world);
        let all = files(&world, 0);
        if all.len() != 2 {
            wrong.push(all);
        }
    }
    assert!(hits > 0, "it never happened");
    assert!(
        wrong.is_empty(),
        "{} of {hits} times: {wrong:?}",
        wrong.len()
    );
}

/// A process dies while it puts something into a directory that its owner may not write to: the right it
/// gave itself for that moment is no change of the user's.
pub fn writable_for_a_moment() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("cache");
        d.user_write("cache/old", "old");
        d.user_mkdir("other");
        d.user_chmod("cache", 0o555);
        d.user_chmod("other", 0o000);
    });
    settle(&mut world);
    act(&mut world, 0, |d| d.user_rename("cache/old", "other/new"));
    let space = world.devices[0].space.expect("it takes part");
    world.give(
        0,
        Event::Disturbed {
            space,
            dirs: Vec::new(),
        },
    );
    let steps = loop {
        world.step();
        if let Some(steps) = world.take_steps(1) {
            break steps;
        }
    };
    assert_eq!(steps.len(), 1);
    let disk = world.devices[1].disk.clone();
    for dir in ["cache", "other"] {
        let mode = disk.snapshot()[dir].mode;
        disk.user_chmod(dir, ownmesh_node::disk::lift(mode));
    }
    world.end(1, End::Kill);
    world.start(1);
    let world = end(world);
    for d in 0..2 {
        let all = world.devices[d].disk.snapshot();
        assert_eq!((all["cache"].mode, all["other"].mode), (0o555, 0));
    }
}

/// Power goes in the middle of steps, and once more when what that left is cleared up, before
/// anything is flushed.
pub fn power_lost_while_healing() {
    let mut hits = 0;
    let mut wrong = Vec::new();
    for n in 0..240_u64 {
        let mut world = world(&["alice", "bob"], 2);
        world.devices[1].disk.set_exchange(n % 2 == 0);
        vary(&mut world, n % 5);
        act(&mut world, 0, |d| {
            d.user_mkdir("d");
            d.user_write("d/a", "one");
            d.user_mkdir("d/b");
            d.user_write("d/b/in", "two");
            d.user_write("d/c", "three");
        });
        settle(&mut world);
        act(&mut world, 0, |d| {
            d.user_rename("d/a", "d/t");
            d.user_rename("d/b", "d/a");
            d.user_rename("d/t", "d/b");
            d.user_write("d/c", "three and more");
        });
        let engine = world.devices[1].engine.as_mut().expect("it runs");
        engine.record().expect("a database");
        world.devices[1].doom = Some(End::Power);
        world.devices[1].disk.crash_after(n / 10);
        world.scan_all();
        let until = world.now + 5_000;
        while world.devices[1].engine.is_some() && world.now < until {
            world.step();
        }
        if world.devices[1].engine.is_some() {
            world.devices[1].disk.revive();
            continue;
        }
        let image = world.devices[1]
            .db
            .as_mut()
            .expect("it is down")
            .image()
            .expect("an image");
        world.cut(AB, false);
        world.devices[1].doom = Some(End::Power);
        world.devices[1].disk.crash_after(n % 7);
        world.start(1);
        for _ in 0..n % 3 {
            world.step();
        }
        match world.devices[1].engine.as_ref() {
            // It died while it was clearing up.
            None => {}
            // Nothing of what it has cleared up is flushed.
            Some(engine) if engine.db().durable_commits() == 0 => {
                world.end(1, End::Power);
                let db = ownmesh_node::db::Db::from_image(&image).expect("an image");
                world.devices[1].db = Some(db);
            }
            Some(_) => {
                world.devices[1].disk.revive();
                world.devices[1].doom = None;
                continue;
            }
        }
        hits += 1;
        world.start(1);
        world.join(AB);
        if let Err(why) = world.verdict() {
            wrong.push((n, why.chars().take(300).collect::<String>()));
            continue;
        }
        let all = files(&world, 0);
        let is = |p: &str, t: &str| all.get(p).is_some_and(|x| x == t);
        if !(is("d/b", "one") && is("d/a/in", "two") && is("d/c", "three and more"))
            || all.len() != 3
        {
            wrong.push((n, format!("{all:?}")));
        }
    }
    assert!(hits > 0, "it never happened");
    assert!(
        wrong.is_empty(),
        "{} of {hits} times: {wrong:#?}",
        wrong.len()
    );
}

/// The node starts over after a write of the database that failed, while a worker is still taking
/// steps: a save that slipped in is somewhere all the same.
pub fn started_over_within_steps() {
    let slipped_in = Entry::File(std::sync::Arc::new(b"slipped in".to_vec()));
    let mut gone = Vec::new();
    for (slip, suspended, at) in
        (0..2).flat_map(|s| (1..4).flat_map(move |n| (0..4).map(move |at| (s, s + n, at))))
    {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| d.user_write("f", "first"));
        settle(&mut world);
        act(&mut world, 0, |d| d.user_write("f", "second"));
        let space = world.devices[0].space.expect("it takes part");
        world.give(
            0,
            Event::Disturbed {
                space,
                dirs: Vec::new(),
            },
        );
        let steps = loop {
            world.step();
            if let Some(steps) = world.take_steps(1) {
                break steps;
            }
        };
        let saved = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let has_saved = std::sync::Arc::clone(&saved);
        // The worker is slow: it gets as far as that while the new engine clears up.
        world.devices[1].disk.before_op(at, move |disk| {
            let name = |id: &ownmesh_crypto::ItemId| ownmesh_node::disk::trash::name(1, id, "f");
            disk.before_op(slip, move |disk| {
                disk.user_save("f", "slipped in");
                has_saved.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            disk.before_op(suspended, |_| panic!("the worker waits"));
            let worker = std::panic::AssertUnwindSafe(|| {
                ownmesh_node::disk::perform::perform(disk, &steps, &name)
            });
            drop(std::panic::catch_unwind(worker));
            disk.disarm();
        });
        world.start_over(1);
        world.devices[1].disk.disarm();
        let disk = &world.devices[1].disk;
        let all = disk
            .entries()
            .into_values()
            .chain(disk.entries_below(".mesh").into_values());
        let all: Vec<Entry> = all.filter(|e| matches!(e, Entry::File(_))).collect();
        if saved.load(std::sync::atomic::Ordering::SeqCst) && !all.contains(&slipped_in) {
            gone.push((slip, suspended, at));
        }
    }
    assert!(gone.is_empty(), "the save is nowhere: {gone:?}");
}
