//! The brake: its question, its answers, and what of both a kill leaves.

use ownmesh_node::disk;
use ownmesh_node::engine::{Engine, Event};
use ownmesh_node::status::SpaceState;

use super::*;
use crate::world::SPACE;

fn many_files(n: usize) -> World {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for n in 0..n {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    settle(&mut world);
    world
}

fn remove(world: &mut World, range: std::ops::Range<usize>) {
    act(world, 0, |d| {
        for n in range {
            d.user_rm(&format!("f{n}"));
        }
    });
    look(world, 0);
    more_time(world, 30_000);
}

/// Why bob stands still.
fn why(world: &World) -> Option<String> {
    let engine = world.devices[1].engine.as_ref().expect("it runs");
    let space = engine.status(world.time()).spaces.remove(0);
    let mut problems = space.problems.into_iter();
    let asks = |kind: &str| ["deletions", "folder"].contains(&kind);
    let why = problems.find(|p| asks(&p.kind)).map(|p| p.reason);
    assert_eq!(why.is_some(), space.state == SpaceState::Stopped);
    why
}

fn answer(
    world: &mut World,
    say: fn(&mut Engine, &str) -> Result<(), ownmesh_node::command::CommandError>,
) {
    let engine = world.devices[1].engine.as_mut().expect("it runs");
    say(engine, SPACE).expect("it is stopped");
    world.perform_effects(1);
    world.give(1, Event::Tick);
    more_time(world, 15_000);
}

/// Neither of two goes is most of the folder, both together are: the question is asked once, stands
/// until it is answered, and is answered at once.
pub fn deleted_in_two_goes() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for n in 0..40 {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    settle(&mut world);
    for (part, left) in [(0..12, 28), (12..21, 28)] {
        act(&mut world, 0, |d| {
            for n in part {
                d.user_rm(&format!("f{n}"));
            }
        });
        look(&mut world, 0);
        more_time(&mut world, 30_000);
        assert_eq!(files(&world, 1).len(), left);
    }
    for _ in 0..100 {
        let engine = world.devices[1].engine.as_ref().expect("it runs");
        let spaces = engine.status(world.time()).spaces;
        assert_eq!(spaces[0].state, SpaceState::Stopped);
        more_time(&mut world, 50);
    }
    let engine = world.devices[1].engine.as_mut().expect("it runs");
    engine.go_on(SPACE).expect("it is stopped");
    world.perform_effects(1);
    world.give(1, Event::Tick);
    more_time(&mut world, 15_000);
    assert_eq!(files(&world, 1).len(), 19);
    end(world);
}

/// The question of two goes is about both of them, also after the process was killed: it is not answered by
/// that, and "bring it back" brings back all that it names.
pub fn asked_beyond_a_kill() {
    let mut world = many_files(20);
    remove(&mut world, 0..9);
    assert_eq!((files(&world, 1).len(), why(&world)), (11, None));
    remove(&mut world, 9..12);
    let asked = why(&world).expect("it asks");
    assert!(asked.contains("12 of 20 files"), "{asked}");
    world.end(1, End::Kill);
    world.start(1);
    more_time(&mut world, 60_000);
    assert_eq!(why(&world), Some(asked));
    answer(&mut world, Engine::revert);
    assert_eq!((files(&world, 1).len(), why(&world)), (20, None));
    assert_eq!(files(&world, 0).len(), 20);
    end(world);
}

/// Deletions that somebody has said are meant are no part of another go.
pub fn confirmed_is_done_with() {
    let mut world = many_files(30);
    remove(&mut world, 0..20);
    assert!(why(&world).is_some());
    answer(&mut world, Engine::go_on);
    assert_eq!((files(&world, 1).len(), why(&world)), (10, None));
    remove(&mut world, 20..21);
    assert_eq!((files(&world, 1).len(), why(&world)), (9, None));
    end(world);
}

/// What was deleted, came back, and is deleted anew counts once.
pub fn deleted_again() {
    let mut world = many_files(30);
    let some = 0..12;
    remove(&mut world, some.clone());
    assert_eq!((files(&world, 1).len(), why(&world)), (18, None));
    act(&mut world, 0, |d| {
        for n in some.clone() {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    look(&mut world, 0);
    more_time(&mut world, 30_000);
    assert_eq!(files(&world, 1).len(), 30);
    remove(&mut world, some);
    assert_eq!((files(&world, 1).len(), why(&world)), (18, None));
    end(world);
}

/// The question is about files: directories that went make it no more.
pub fn directories_are_no_files() {
    let mut world = many_files(20);
    act(&mut world, 0, |d| {
        for n in 0..25 {
            d.user_mkdir(&format!("d{n}"));
        }
    });
    settle(&mut world);
    act(&mut world, 0, |d| {
        for n in 0..25 {
            d.user_rm(&format!("d{n}"));
        }
    });
    look(&mut world, 0);
    more_time(&mut world, 30_000);
    remove(&mut world, 0..1);
    assert_eq!((files(&world, 1).len(), why(&world)), (19, None));
    end(world);
}

/// The folder is gone and to be filled again, and the process is killed when the new one is marked as the
/// space's: what is not in it was never deleted by anybody.
pub fn killed_when_the_new_folder_is_marked() {
    let mut world = many_files(9);
    let disk = world.devices[1].disk.clone();
    act(&mut world, 1, |d| {
        for n in 0..9 {
            d.user_rm(&format!("f{n}"));
        }
        d.user_rm(".mesh/marker");
    });
    look(&mut world, 1);
    more_time(&mut world, 5_000);
    assert!(why(&world).is_some_and(|why| why.starts_with("folder")));
    let engine = world.devices[1].engine.as_mut().expect("it runs");
    engine.revert(SPACE).expect("it is stopped");
    disk::prepare(&disk, &world.mesh.space_id(SPACE)).expect("a folder");
    world.end(1, End::Kill);
    world.start(1);
    more_time(&mut world, 60_000);
    assert_eq!(why(&world), None);
    assert_eq!((files(&world, 0).len(), files(&world, 1).len()), (9, 9));
    end(world);
}
