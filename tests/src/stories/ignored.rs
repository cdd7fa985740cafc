//! What is ignored is neither sent nor received, and never taken away.

use ownmesh_crypto::ItemId;
use ownmesh_node::db::items;

use super::*;
use crate::mem_disk::MemDisk;

/// Writes rules that travel, as a user does.
fn rules(world: &mut World, d: usize, text: &str) {
    act(world, d, |disk| disk.user_write(".meshignore", text));
    settle(world);
}

/// Writes rules of one device.
fn own_rules(world: &mut World, d: usize, text: &str) {
    world.devices[d].disk.user_write(".mesh/ignore", text);
    settle(world);
}

fn tree(disk: &MemDisk) {
    disk.user_mkdir("target");
    disk.user_write("target/x", "x1");
    disk.user_write("target/y", "y1");
    disk.user_write("doc", "d1");
}

/// Without the rule file.
fn shown(world: &World, d: usize) -> Vec<(String, String)> {
    let mut all = files(world, d);
    all.remove(".meshignore");
    all.into_iter().collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(p, t): &(&str, &str)| ((*p).to_owned(), (*t).to_owned());
    of.iter().map(own).collect()
}

fn stopped(world: &World, d: usize) -> bool {
    let engine = world.devices[d].engine.as_ref();
    engine.is_some_and(|e| e.open_spaces_list().any(|s| s.stopped().is_some()))
}

/// What is ignored stays where it is, whatever happens to it; and is compared when that ends.
pub fn ignored_stays() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, tree);
    settle(&mut world);
    rules(&mut world, 0, "target/\n");
    assert_eq!(files(&world, 1)[".meshignore"], "target/\n");
    act(&mut world, 0, |d| {
        d.user_write("target/x", "x2 of alice");
        d.user_write("target/new", "of alice");
        d.user_rm("target/y");
        d.user_write("doc", "d2");
    });
    act(&mut world, 1, |d| d.user_write("target/x", "x2 of bob"));
    settle(&mut world);
    assert_eq!(
        shown(&world, 1),
        pairs(&[("doc", "d2"), ("target/x", "x2 of bob"), ("target/y", "y1")])
    );
    assert_eq!(
        shown(&world, 0),
        pairs(&[
            ("doc", "d2"),
            ("target/new", "of alice"),
            ("target/x", "x2 of alice")
        ])
    );
    assert!(world.busy().is_empty(), "{:?}", world.busy());
    act(&mut world, 1, |d| d.user_rm(".meshignore"));
    settle(&mut world);
    let world = end(world);
    // Both edits, what is new, and what went while nobody was told of it.
    assert_eq!(
        contents(&world, 0),
        ["d2", "of alice", "x2 of alice", "x2 of bob", "y1"]
    );
}

/// A device that does not want a directory, and has deleted it here, gets it again when it does.
pub fn gone_while_ignored() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, tree);
    settle(&mut world);
    own_rules(&mut world, 1, "target/\n");
    act(&mut world, 1, |d| d.user_rm("target"));
    settle(&mut world);
    assert_eq!(contents(&world, 0), ["d1", "x1", "y1"]);
    // The rule ends while nothing runs.
    world.end_soon(1, End::Kill);
    world.devices[1].disk.user_rm(".mesh/ignore");
    more_time(&mut world, 10_000);
    settle(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 1), ["d1", "x1", "y1"]);
}

/// The same, gone in the very moment in which the rule ends.
pub fn gone_with_the_rule() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, tree);
    settle(&mut world);
    rules(&mut world, 1, "target/*\n");
    act(&mut world, 1, |d| {
        d.user_rm("target/x");
        d.user_write(".meshignore", "nothing\n");
    });
    settle(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 0), ["d1", "x1", "y1"]);
}

/// A directory that is deleted elsewhere keeps what is ignored in it, and goes when that has gone.
pub fn deleted_around_ignored() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("proj");
        d.user_mkdir("proj/src");
        d.user_write("proj/src/a", "a");
    });
    own_rules(&mut world, 1, "out/\n*.o\n");
    act(&mut world, 1, |d| {
        d.user_mkdir("proj/out");
        d.user_write("proj/out/built", "built");
        d.user_write("proj/src/a.o", "object");
    });
    settle(&mut world);
    act(&mut world, 0, |d| d.user_rm("proj"));
    settle(&mut world);
    assert_eq!(contents(&world, 1), ["built", "object"]);
    assert!(world.busy().is_empty(), "{:?}", world.busy());
    act(&mut world, 1, |d| d.user_rm("proj/out"));
    act(&mut world, 1, |d| d.user_rm("proj/src/a.o"));
    settle(&mut world);
    let world = end(world);
    assert!(world.devices[1].disk.entries().is_empty());
}

/// The ignored directory was known before the rule; it is deleted elsewhere, with all above it.
pub fn ignored_and_deleted_elsewhere() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("proj");
        d.user_mkdir("proj/out");
        d.user_write("proj/out/x", "x1");
        d.user_write("proj/a", "a");
    });
    settle(&mut world);
    own_rules(&mut world, 1, "out/\n");
    act(&mut world, 1, |d| d.user_write("proj/out/x", "x2"));
    act(&mut world, 0, |d| d.user_rm("proj"));
    settle(&mut world);
    assert_eq!(contents(&world, 1), ["x2"]);
    assert!(world.busy().is_empty(), "{:?}", world.busy());
    own_rules(&mut world, 1, "");
    let world = end(world);
    // An edit beats a delete.
    assert_eq!(contents(&world, 0), ["x2"]);
}

/// A directory with ignored items in it is deleted here: they live on elsewhere.
pub fn deleted_here_with_ignored() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("proj");
        d.user_mkdir("proj/out");
        d.user_write("proj/out/x", "x1");
        d.user_write("proj/a", "a");
    });
    settle(&mut world);
    own_rules(&mut world, 1, "out/\n");
    act(&mut world, 1, |d| d.user_rm("proj"));
    settle(&mut world);
    assert_eq!(contents(&world, 0), ["x1"]);
    assert!(contents(&world, 1).is_empty());
    own_rules(&mut world, 1, "");
    let world = end(world);
    assert_eq!(contents(&world, 1), ["x1"]);
}

/// Nothing that is ignored counts for the brake.
pub fn brake_and_ignored() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("many");
        for n in 0..30 {
            d.user_write(&format!("many/f{n}"), format!("c{n}"));
        }
        d.user_write("doc", "d1");
    });
    settle(&mut world);
    own_rules(&mut world, 1, "many/\n");
    act(&mut world, 0, |d| d.user_rm("many"));
    settle(&mut world);
    more_time(&mut world, 20_000);
    assert!(!stopped(&world, 1));
    assert_eq!(files(&world, 1).len(), 31);
    assert!(world.busy().is_empty(), "{:?}", world.busy());
    // From now on it is as for a device that was away: most of its folder is to go.
    own_rules(&mut world, 1, "");
    more_time(&mut world, 20_000);
    assert!(stopped(&world, 1));
    end(world);
}

/// Who joins with a folder keeps its rules before anything in it is looked at.
pub fn merged_under_rules() {
    let mut world = World::new(7, &["alice", "bob"], 2);
    world.weather = Weather::calm();
    world.start(0);
    world.start(1);
    world.add(0);
    act(&mut world, 0, |d| d.user_write("doc", "d1"));
    act(&mut world, 0, |d| d.user_write(".meshignore", "deps/\n"));
    act(&mut world, 1, |d| {
        d.user_mkdir("deps");
        d.user_write("deps/big", "big");
        d.user_write("mine", "m1");
    });
    settle(&mut world);
    // Bob hears that there is such a space, and joins it with what he has.
    world.join(AB);
    more_time(&mut world, 5_000);
    world.add_again(1);
    more_time(&mut world, 60_000);
    settle(&mut world);
    assert_eq!(contents(&world, 0), ["d1", "deps/\n", "m1"]);
    assert_eq!(contents(&world, 1), ["big", "d1", "deps/\n", "m1"]);
    // Nor was anybody told of it.
    let (engine, n) = (&world.devices[0].engine, world.devices[0].space);
    let (engine, n) = (engine.as_ref().expect("it runs"), n.expect("it takes part"));
    let told = items::claims(engine.db().read(), n, &ItemId::ROOT, "deps");
    assert!(told.expect("a database").is_empty());
    assert!(world.busy().is_empty(), "{:?}", world.busy());
}

/// A rule file with a mistake in it changes nothing.
pub fn mistaken_rules() {
    let mut world = world(&["alice", "bob"], 2);
    rules(&mut world, 0, "target/\n");
    rules(&mut world, 0, "target/\na[\n");
    act(&mut world, 0, tree);
    settle(&mut world);
    assert_eq!(shown(&world, 1), pairs(&[("doc", "d1")]));
    // Nor does a restart.
    world.end_soon(0, End::Kill);
    more_time(&mut world, 10_000);
    settle(&mut world);
    assert_eq!(shown(&world, 1), pairs(&[("doc", "d1")]));
    rules(&mut world, 0, "nothing\n");
    let world = end(world);
    assert_eq!(contents(&world, 1), ["d1", "x1", "y1"]);
}

/// What is moved out of an ignored place elsewhere comes here; what stood here stays.
pub fn moved_out_of_ignored() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, tree);
    settle(&mut world);
    own_rules(&mut world, 1, "target/\n");
    act(&mut world, 1, |d| d.user_write("target/x", "x2 of bob"));
    act(&mut world, 0, |d| {
        d.user_rename("target/x", "x");
        d.user_rename("doc", "target/doc");
    });
    settle(&mut world);
    assert_eq!(
        shown(&world, 1),
        pairs(&[
            ("doc", "d1"),
            ("target/x", "x2 of bob"),
            ("target/y", "y1"),
            ("x", "x1")
        ])
    );
    assert!(world.busy().is_empty(), "{:?}", world.busy());
    own_rules(&mut world, 1, "");
    let world = end(world);
    assert_eq!(
        shown(&world, 0),
        pairs(&[
            ("target/doc", "d1"),
            ("target/x", "x2 of bob"),
            ("target/y", "y1"),
            ("x", "x1")
        ])
    );
}

/// A rule for directories, and a file of that name elsewhere: it waits, and nothing runs hot.
pub fn ignored_in_the_way() {
    let mut world = world(&["alice", "bob"], 2);
    rules(&mut world, 0, "build/\n");
    act(&mut world, 1, |d| {
        d.user_mkdir("build");
        d.user_write("build/x", "x");
    });
    act(&mut world, 0, |d| d.user_write("build", "a file"));
    settle(&mut world);
    let before = world.acts;
    more_time(&mut world, 100_000);
    assert!(world.acts < before + 2_000, "{}", world.acts - before);
    assert_eq!(files(&world, 1)["build/x"], "x");
    act(&mut world, 1, |d| d.user_rename("build", "other"));
    settle(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 1), ["a file", "x"]);
}
