//! Sequences of events that lost data in a first design, each told on purpose.
//!
//! They run without faults beyond those told, and end with the same verdict as the random lives.

mod asked;
mod braked;
mod busy;
mod ignored;
mod killed;
mod made_again;
mod members;
mod paused;
mod short;
mod told;

use std::collections::BTreeMap;

use ownmesh_node::engine::Event;

use crate::device::End;
use crate::link::Pair;
use crate::mem_disk::Entry;
use crate::world::{Weather, World};

pub use asked::*;
pub use braked::*;
pub use busy::*;
pub use ignored::*;
pub use killed::*;
pub use made_again::*;
pub use members::*;
pub use paused::*;
pub use short::short;
pub use told::what_is_told;

/// A story and its name.
pub type Story = (&'static str, fn());

/// All of them.
pub const ALL: &[Story] = &[
    ("an unseen version", unseen_version),
    (
        "an autosave while a conflict is open",
        autosave_in_a_conflict,
    ),
    ("rotated logs", rotated_log),
    ("a replaced directory", replaced_directory),
    ("a file made again", made_again),
    ("safe-save", safe_save),
    ("two imports of one tree", two_imports),
    ("rounded times", rounded_times),
    ("a torn file", torn_file),
    ("a pruned log", pruned_log),
    ("a restored backup", restored_backup),
    ("a file in a deleted directory", file_in_a_deleted_directory),
    ("a save that slips in", save_that_slips_in),
    ("swapped names and a loss of power", swapped_names),
    ("a write in the tick of its hashing", racy_write),
    ("bytes put twice", bytes_put_twice),
    ("more than one portion", many_at_once),
    ("a log that never rests", busy_log),
    ("joined again in a conflict", joined_again_in_a_conflict),
    (
        "deleted while not taking part",
        deleted_while_not_taking_part,
    ),
    ("names of copies, all taken", names_of_copies_taken),
    (
        "a directory deleted while not taking part",
        deleted_directory_while_not_taking_part,
    ),
    ("a log that runs twice", log_runs_twice),
    ("a symlink made again", link_made_again),
    (
        "a file kept in the new directory",
        file_kept_in_the_new_directory,
    ),
    ("into its name", file_into_the_directory_of_its_name),
    (
        "a file in place of its directory",
        file_in_place_of_its_directory,
    ),
    (
        "power lost while a directory makes way",
        power_lost_while_making_way,
    ),
    ("deleted after the answer", deleted_after_the_answer),
    ("deleted in two goes", deleted_in_two_goes),
    ("asked beyond a kill", asked_beyond_a_kill),
    ("confirmed is done with", confirmed_is_done_with),
    ("directories are no files", directories_are_no_files),
    ("deleted again", deleted_again),
    (
        "killed when the new folder is marked",
        killed_when_the_new_folder_is_marked,
    ),
    ("something in the way", in_the_way),
    ("full for long", full_for_long),
    ("a space joined anew", joined_anew_while_away),
    ("a space left unheard", left_while_away),
    ("a space left while waited for", left_while_waiting),
    ("a file written while waited for", written_while_waiting),
    ("waited for after joining", waited_for_after_joining),
    ("a scan that failed", scan_that_failed),
    ("a giver that leaves", giver_leaves),
    ("a giver that is stopped", giver_is_stopped),
    ("a long history", long_history),
    ("a state given by two", given_by_two),
    ("a folder that is not watched", not_watched),
    ("a directory that stays closed", closed_directory),
    ("deleted while it is placed", deleted_while_placed),
    ("renamed while it is placed", renamed_while_placed),
    (
        "a link deleted while it is placed",
        link_deleted_while_placed,
    ),
    (
        "a directory renamed while it is made",
        dir_renamed_while_placed,
    ),
    ("a conflict copy placed and a kill", copy_placed_and_killed),
    ("writable for a moment", writable_for_a_moment),
    ("power lost while healing", power_lost_while_healing),
    ("started over within steps", started_over_within_steps),
    ("paused over a loss of power", paused_over_a_loss_of_power),
    ("paused for a time", paused_for_a_time),
    ("what is told of others", what_is_told),
    ("ignored", ignored_stays),
    ("gone while ignored", gone_while_ignored),
    ("gone with the rule", gone_with_the_rule),
    ("deleted around ignored", deleted_around_ignored),
    ("ignored, deleted elsewhere", ignored_and_deleted_elsewhere),
    ("deleted here with ignored", deleted_here_with_ignored),
    ("the brake and ignored", brake_and_ignored),
    ("merged under rules", merged_under_rules),
    ("mistaken rules", mistaken_rules),
    ("moved out of ignored", moved_out_of_ignored),
    ("ignored in the way", ignored_in_the_way),
    ("renamed while looked at", renamed_while_looked_at),
];

const AB: Pair = (0, 1);

/// A calm world in which all devices take part, connected.
fn world(names: &[&str], known: usize) -> World {
    let mut world = World::new(7, names, known);
    world.weather = Weather::calm();
    for d in 0..known {
        world.start(d);
        world.add(d);
    }
    connect(&mut world);
    world
}

fn connect(world: &mut World) {
    for p in world.links.keys().copied().collect::<Vec<_>>() {
        world.join(p);
    }
    settle(world);
}

/// Everybody looks at the disk, and everything comes to rest.
fn settle(world: &mut World) {
    world.scan_all();
    let until = world.now + 5_000;
    world.run_until(until);
    assert_eq!(world.failure, None);
}

fn look(world: &mut World, d: usize) {
    if let Some(space) = world.devices[d].space {
        world.give(
            d,
            Event::Disturbed {
                space,
                dirs: Vec::new(),
            },
        );
    }
    let until = world.now + 2_000;
    world.run_until(until);
}

fn act(world: &mut World, d: usize, act: impl FnOnce(&crate::mem_disk::MemDisk)) {
    let until = world.now + 1_000;
    world.run_until(until);
    let before = world.devices[d].disk.entries();
    act(&world.devices[d].disk);
    let after = world.devices[d].disk.entries();
    world
        .reference()
        .step("told", &before, &after, false, false);
}

fn cut(world: &mut World) {
    for p in world.links.keys().copied().collect::<Vec<_>>() {
        world.cut(p, false);
    }
    let until = world.now + 3_000;
    world.run_until(until);
}

fn files(world: &World, d: usize) -> BTreeMap<String, String> {
    let text = |e: &Entry| match e {
        Entry::File(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    world.devices[d]
        .disk
        .entries()
        .iter()
        .filter_map(|(p, e)| Some((p.clone(), text(e)?)))
        .collect()
}

fn contents(world: &World, d: usize) -> Vec<String> {
    let mut all: Vec<String> = files(world, d).into_values().collect();
    all.sort();
    all
}

fn end(mut world: World) -> World {
    if let Err(wrong) = world.verdict() {
        panic!("{wrong}\n{}", world.reference().log.join("\n"));
    }
    world
}

/// Review 1: a version that was not on the disk yet is not swallowed by a save.
pub fn unseen_version() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "h1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "h3 of alice"));
    act(&mut world, 1, |d| d.user_write("f", "h2"));
    look(&mut world, 1);
    // Alice hears of h2 while h3 is on her disk and not looked at; she looks before h2's bytes come.
    connect(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 0), ["h2", "h3 of alice"]);
}

/// Review 1: with a conflict open, a save of the main file leaves the copy alone.
pub fn autosave_in_a_conflict() {
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
    let main = files(&world, 0)["f"].clone();
    act(&mut world, 0, |d| d.user_save("f", "saved again"));
    settle(&mut world);
    let world = end(world);
    let mut rest = vec!["h2".to_owned(), "h3".to_owned(), "saved again".to_owned()];
    rest.retain(|c| *c != main);
    rest.sort();
    assert_eq!(contents(&world, 1), rest);
}

/// Review 2: `mv log log.1; touch log` twice over.
pub fn rotated_log() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("log", "one"));
    settle(&mut world);
    act(&mut world, 0, |d| {
        d.user_rename("log", "log.1");
        d.user_write("log", "two");
    });
    settle(&mut world);
    act(&mut world, 1, |d| {
        d.user_rename("log.1", "log.2");
        d.user_rename("log", "log.1");
        d.user_write("log", "three");
    });
    settle(&mut world);
    let world = end(world);
    let all = files(&world, 0);
    assert_eq!(
        (
            all["log"].as_str(),
            all["log.1"].as_str(),
            all["log.2"].as_str()
        ),
        ("three", "two", "one")
    );
    assert_eq!(all.len(), 3);
}

/// Review 2: `mv docs old; mkdir docs` with the same names in it.
pub fn replaced_directory() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("docs");
        d.user_write("docs/a", "old a");
        d.user_write("docs/b", "old b");
    });
    settle(&mut world);
    act(&mut world, 0, |d| {
        d.user_rename("docs", "old");
        d.user_mkdir("docs");
        d.user_write("docs/a", "new a");
    });
    settle(&mut world);
    let world = end(world);
    let all = files(&world, 1);
    assert_eq!(
        (
            all["docs/a"].as_str(),
            all["old/a"].as_str(),
            all["old/b"].as_str()
        ),
        ("new a", "old a", "old b")
    );
    assert_eq!(all.len(), 3);
}

/// Review 2: an editor that saves by renaming over edits, it does not rename and delete.
pub fn safe_save() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_save("f", "2"));
    look(&mut world, 0);
    // Elsewhere it moves meanwhile: the edit follows it.
    act(&mut world, 1, |d| d.user_rename("f", "g"));
    look(&mut world, 1);
    connect(&mut world);
    let world = end(world);
    assert_eq!(
        files(&world, 0),
        BTreeMap::from([("g".to_owned(), "2".to_owned())])
    );
}

/// Review 3: the same tree on both, added at once: no duplicates, no conflicts.
pub fn two_imports() {
    let mut world = World::new(7, &["alice", "bob"], 2);
    world.weather = Weather::calm();
    for d in 0..2 {
        world.start(d);
        act(&mut world, d, |disk| {
            disk.user_mkdir("docs");
            for n in 0..5 {
                disk.user_write(&format!("docs/f{n}"), format!("content {n}"));
            }
        });
        world.add(d);
        let until = world.now + 1_000;
        world.run_until(until);
    }
    connect(&mut world);
    let world = end(world);
    assert_eq!(files(&world, 0).len(), 5);
    assert_eq!(world.reference().counts.get("conflict notices"), None);
}

/// Review 3: a disk that rounds times does not send them back for ever.
pub fn rounded_times() {
    let mut world = world(&["alice", "bob"], 2);
    world.devices[1].disk.set_rounding(2_000_000_000);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    let made = world.devices[1].tallies().authored;
    for _ in 0..3 {
        settle(&mut world);
    }
    assert_eq!(world.devices[1].tallies().authored, made);
    assert_eq!(contents(&world, 1), ["1"]);
}

/// Review 4: power goes while files are put in place: nobody sees a part of one, and none is taken
/// for an edit.
pub fn torn_file() {
    for after in 0..40 {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| {
            for n in 0..6 {
                d.user_write(
                    &format!("f{n}"),
                    format!("the long first content of file {n}"),
                );
            }
        });
        settle(&mut world);
        act(&mut world, 0, |d| {
            for n in 0..6 {
                d.user_write(
                    &format!("f{n}"),
                    format!("the second, longer content of file {n}"),
                );
            }
            d.user_write("new", "something new");
        });
        let engine = world.devices[1].engine.as_mut().expect("it runs");
        engine.record().expect("a database");
        world.devices[1].doom = Some(End::Power);
        world.devices[1].disk.crash_after(after);
        settle(&mut world);
        world.devices[1].disk.revive();
        let world = end(world);
        assert_eq!(
            contents(&world, 0).len(),
            7,
            "power lost after {after} calls"
        );
    }
}

/// Review 10: a database comes back from yesterday; nobody's log forks and nothing is lost.
pub fn restored_backup() {
    let mut world = world(&["alice", "bob", "carol"], 3);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    world.back_up(0);
    settle(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "2"));
    act(&mut world, 0, |d| d.user_write("g", "3"));
    settle(&mut world);
    // Only one of the others hears what it writes next.
    cut(&mut world);
    world.put_back(0);
    act(&mut world, 0, |d| d.user_write("h", "4"));
    world.join(AB);
    settle(&mut world);
    connect(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 2), ["2", "3", "4"]);
}

/// Review 14: a directory deleted on one device while a file is made in it on another.
pub fn file_in_a_deleted_directory() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("docs");
        d.user_write("docs/a", "a");
    });
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_rm("docs"));
    look(&mut world, 0);
    act(&mut world, 1, |d| d.user_write("docs/b", "b"));
    look(&mut world, 1);
    connect(&mut world);
    let world = end(world);
    assert_eq!(
        files(&world, 0),
        BTreeMap::from([("docs/b".to_owned(), "b".to_owned())])
    );
}

/// Review 13: a save between the look and the swap, at each call there is.
pub fn save_that_slips_in() {
    for (removed, at) in (0..24).map(|n| (n % 2 == 1, n / 2)) {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| d.user_write("f", "first"));
        settle(&mut world);
        let slipped_in = std::sync::Arc::new(b"slipped in".to_vec());
        world.reference().again(&Entry::File(slipped_in), "told");
        world
            .reference()
            .decided("told", &Entry::File(std::sync::Arc::new(b"first".to_vec())));
        world.devices[1].disk.before_op(at, |d| {
            if d.user_read("f").is_some() {
                d.user_save("f", "slipped in");
            }
        });
        act(&mut world, 0, |d| {
            if removed {
                d.user_rm("f");
            } else {
                d.user_write("f", "second");
            }
        });
        settle(&mut world);
        // It may have been saved over the one or the other.
        let second = Entry::File(std::sync::Arc::new(b"second".to_vec()));
        world.reference().decided("told", &second);
        let nowhere = {
            let disk = &world.devices[1].disk;
            let private = disk.entries_below(".mesh").into_values();
            !disk
                .entries()
                .into_values()
                .chain(private)
                .any(|e| is(&e, "slipped in"))
        };
        if nowhere {
            // That call never came, or there was no file any more.
            let text = Entry::File(std::sync::Arc::new(b"slipped in".to_vec()));
            world.reference().decided("told", &text);
        }
        let world = end(world);
        let kept = contents(&world, 0).contains(&"slipped in".to_owned());
        assert!(
            kept || nowhere,
            "the save before call {at} is not there any more"
        );
    }
}

fn is(entry: &Entry, text: &str) -> bool {
    matches!(entry, Entry::File(bytes) if bytes.as_slice() == text.as_bytes())
}

/// Power goes while names are swapped by way of a third: neither file is taken for deleted.
pub fn swapped_names() {
    for n in 0..60 {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| {
            d.user_write("a", "one");
            d.user_mkdir("b");
            d.user_write("b/in", "two");
        });
        settle(&mut world);
        act(&mut world, 0, |d| {
            d.user_rename("a", "t");
            d.user_rename("b", "a");
            d.user_rename("t", "b");
        });
        for _ in 0..n % 4 {
            let _ = rand::Rng::next_u64(&mut world.rng);
        }
        let engine = world.devices[1].engine.as_mut().expect("it runs");
        engine.record().expect("a database");
        world.devices[1].doom = Some(End::Power);
        world.devices[1].disk.crash_after(n / 4);
        settle(&mut world);
        world.devices[1].disk.revive();
        let world = end(world);
        let all = files(&world, 0);
        assert_eq!(
            (all["b"].as_str(), all["a/in"].as_str()),
            ("one", "two"),
            "power lost after {} calls",
            n / 4
        );
    }
}

fn more_time(world: &mut World, ms: u64) {
    let until = world.now + ms;
    world.run_until(until);
    assert_eq!(world.failure, None);
}

fn vary(world: &mut World, n: u64) {
    for _ in 0..n {
        let _ = rand::Rng::next_u64(&mut world.rng);
    }
}
