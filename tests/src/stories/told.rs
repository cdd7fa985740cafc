//! What one device tells the others about itself, and what they make of it for whoever asks them.

use ownmesh_node::status::SpaceStatus;

use super::asked::wait;
use super::members::leave;
use super::*;
use crate::world::SPACE;

/// All of them, one after the other.
pub fn what_is_told() {
    stop_is_told();
    holder_has_paused();
    kept_out_is_told();
    version_that_is_nowhere();
    version_on_its_way();
}

fn status(world: &World, d: usize) -> SpaceStatus {
    let engine = world.devices[d].engine.as_ref().expect("it runs");
    engine.status(world.time()).spaces.remove(0)
}

/// What `wait` says after a minute: whether it is done, and all its reasons.
fn waited(world: &mut World, d: usize, device: Option<&str>, all: bool) -> (bool, String) {
    let mut reply = wait(world, d, device, all);
    for _ in 0..70 {
        more_time(world, 10_000);
        if let Ok(reply) = reply.try_recv() {
            let reply = reply.expect("no error");
            return (reply.done, reply.reasons.join("\n"));
        }
    }
    panic!("no answer");
}

fn lost(world: &World, d: usize) -> Option<(String, String)> {
    let problems = status(world, d).problems;
    let mut lost = problems.into_iter().filter(|p| p.kind == "nowhere");
    lost.next().map(|p| (p.item.unwrap_or_default(), p.reason))
}

fn pause(world: &mut World, d: usize) {
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.pause(Some(SPACE), None, now).expect("it takes part");
    world.perform_effects(d);
}

fn go_on(world: &mut World, d: usize) {
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.unpause(Some(SPACE), now).expect("it waits");
    world.perform_effects(d);
}

/// One has stopped and asks: the others say so, until it is answered.
fn stop_is_told() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for n in 0..60 {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    settle(&mut world);
    assert!(status(&world, 0).stopped_on.is_empty());
    act(&mut world, 0, |d| {
        for n in 0..50 {
            d.user_rm(&format!("f{n}"));
        }
    });
    settle(&mut world);
    assert_eq!(status(&world, 0).stopped_on["bob"], "deletions");
    let (done, why) = waited(&mut world, 0, None, true);
    let asks = "bob has stopped and asks";
    assert!(
        !done && why.contains(asks) && why.contains("mesh revert"),
        "{why}"
    );
    let engine = world.devices[1].engine.as_mut().expect("it runs");
    engine.go_on(SPACE).expect("it is stopped");
    world.perform_effects(1);
    world.give(1, Event::Tick);
    more_time(&mut world, 15_000);
    assert!(status(&world, 0).stopped_on.is_empty());
    assert_eq!(waited(&mut world, 0, None, true), (true, String::new()));
    end(world);
}

/// Whoever has a content pauses before it has gone: the other one says whom it waits for.
fn holder_has_paused() {
    let mut world = world(&["alice", "bob"], 2);
    world.devices[1].disk.set_free(0);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    assert_eq!(status(&world, 1).missing_items, 1);
    pause(&mut world, 0);
    world.devices[1].disk.set_free(u64::MAX);
    let (done, why) = waited(&mut world, 1, None, false);
    assert!(!done && why.contains("1 item is missing here"), "{why}");
    assert_eq!(why.matches("alice has paused it").count(), 1, "{why}");
    assert_eq!(status(&world, 1).paused_by, ["alice"]);
}

/// One keeps items out by rules of its own: that is said, and everybody has all that they take as soon as
/// somebody has everything.
fn kept_out_is_told() {
    let mut world = world(&["alice", "bob", "carol"], 3);
    act(&mut world, 0, |d| {
        d.user_mkdir("films");
        d.user_write("films/x", "x1");
        d.user_write("films/y", "y1");
        d.user_write("doc", "d1");
    });
    settle(&mut world);
    world.devices[1].disk.user_write(".mesh/ignore", "films/\n");
    settle(&mut world);
    assert!(status(&world, 0).kept_out_on.is_empty());
    act(&mut world, 1, |d| d.user_rm("films"));
    settle(&mut world);
    assert_eq!(status(&world, 0).kept_out_on["bob"], 2);
    assert_eq!(waited(&mut world, 0, None, true), (true, String::new()));
    // Not what was asked for where bob is to have everything.
    let kept = "bob keeps 2 items out by its own ignore rules";
    let (done, why) = waited(&mut world, 0, Some("bob"), false);
    assert!(!done && why.contains(kept), "{why}");
    // Nor are they safe elsewhere where only bob takes part.
    leave(&mut world, 2);
    let (done, why) = waited(&mut world, 0, None, true);
    assert!(!done && why.contains(kept), "{why}");
    // What is to come is still waited for.
    world.devices[1].disk.set_free(0);
    act(&mut world, 0, |d| d.user_write("new", "n1"));
    settle(&mut world);
    let (_, why) = waited(&mut world, 0, None, true);
    assert!(
        why.contains(&format!("{kept}, and still lacks 1 item")),
        "{why}"
    );
    world.devices[1].disk.set_free(u64::MAX);
    // The rule ends.
    world.devices[1].disk.user_write(".mesh/ignore", "");
    settle(&mut world);
    more_time(&mut world, 60_000);
    assert!(status(&world, 0).kept_out_on.is_empty());
    assert_eq!(waited(&mut world, 0, None, true), (true, String::new()));
}

/// A version that nobody had yet is written over by the one who made it, while it does not take part.
fn version_that_is_nowhere() {
    let mut world = world(&["alice", "bob"], 2);
    world.devices[0].disk.set_free(0);
    act(&mut world, 1, |d| d.user_write("big", "first"));
    settle(&mut world);
    assert_eq!(status(&world, 0).missing_items, 1);
    leave(&mut world, 1);
    act(&mut world, 1, |d| d.user_write("big", "second"));
    world.devices[0].disk.set_free(u64::MAX);
    more_time(&mut world, 30_000);
    assert_eq!(lost(&world, 0), None, "who does not take part may have it");
    world.add_again(1);
    more_time(&mut world, 60_000);
    for d in 0..2 {
        let (path, reason) = lost(&world, d).expect("it is said");
        assert_eq!(path, "big");
        assert!(reason.contains("mesh conflicts resolve"), "{reason}");
        let (done, why) = waited(&mut world, d, None, false);
        assert!(!done && why.contains("big: all devices"), "{why}");
    }
    // A pause: what was said before it counts no more. It is asked anew, and that is waited for.
    pause(&mut world, 1);
    more_time(&mut world, 10_000);
    assert_eq!(lost(&world, 0), None, "who has paused gives nothing");
    go_on(&mut world, 1);
    more_time(&mut world, 2_000);
    assert_eq!(lost(&world, 0), None, "said before the pause");
    more_time(&mut world, 10_000);
    assert!(lost(&world, 0).is_some());
    // The bytes are there again, and take a while.
    world.weather.content = 60_000;
    act(&mut world, 1, |d| d.user_write("other", "first"));
    let mut on_their_way = 0;
    while status(&world, 0).missing_items > 0 {
        more_time(&mut world, 1_000);
        on_their_way += u32::from(lost(&world, 0).is_none());
    }
    assert!(on_their_way > 10, "{on_their_way}");
}

/// Two versions of a file, of which the one that gets the name is long and has not arrived: the other one
/// that still stands there is not taken for it.
fn version_on_its_way() {
    let mut world = world(&["alice", "bob", "carol"], 3);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "alice".repeat(200)));
    act(&mut world, 2, |d| d.user_write("f", "carol"));
    look(&mut world, 0);
    look(&mut world, 2);
    world.join((1, 2));
    settle(&mut world);
    world.devices[1].disk.set_free(500);
    connect(&mut world);
    let standing = |world: &World, d: usize| {
        let engine = world.devices[d].engine.as_ref().expect("it runs");
        let conflict = engine.conflicts_standing().remove(0);
        let versions = conflict.info.versions.iter().map(|v| v.device.clone());
        let copies = conflict.info.versions.iter().map(|v| v.copy_path.is_some());
        let all: Vec<_> = versions.zip(copies).zip(conflict.here).collect();
        all
    };
    let of = |name: &str, copy: bool, here: bool| ((name.to_owned(), copy), here);
    let all = standing(&world, 1);
    assert_eq!(files(&world, 1)["f"], "carol");
    assert_eq!(all, [of("alice", false, false), of("carol", true, true)]);
    world.devices[1].disk.set_free(u64::MAX);
    more_time(&mut world, 60_000);
    for d in 0..3 {
        let all = standing(&world, d);
        assert_eq!(all, [of("alice", false, true), of("carol", true, true)]);
    }
}
