//! What is asked of a device and answered by it: `wait`, `status`, and the brake's question.

use ownmesh_node::engine::Event;

use super::*;
use crate::mem_disk::Entry;
use crate::world::World;

type Reply = tokio::sync::oneshot::Receiver<
    Result<ownmesh_node::command::WaitReply, ownmesh_node::command::CommandError>,
>;

pub(super) fn wait(world: &mut World, d: usize, device: Option<&str>, all: bool) -> Reply {
    let (done, reply) = tokio::sync::oneshot::channel();
    let request = ownmesh_node::command::WaitRequest {
        timeout_s: Some(600),
        space: Some(crate::world::SPACE.to_owned()),
        device: device.map(str::to_owned),
        all,
    };
    let now = world.time();
    let engine = world.devices[d].engine.as_mut().expect("it runs");
    engine.wait(request, now, done);
    world.perform_effects(d);
    reply
}

/// A file that was written to while `mesh wait` looked at it, and is quiet then.
pub fn written_while_waiting() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    act(&mut world, 0, |d| {
        d.user_write("f", "22");
        // Reads of the marker come first.
        d.before_read(2, |d| {
            d.advance(10_000_000);
            d.user_append("f", "333");
        });
    });
    world
        .reference()
        .again(&Entry::File(std::sync::Arc::new("22333".into())), "told");
    world
        .reference()
        .decided("told", &Entry::File(std::sync::Arc::new("22".into())));
    let mut reply = wait(&mut world, 0, None, false);
    more_time(&mut world, 60_000);
    assert_eq!(files(&world, 1)["f"], "22333");
    let early = reply.try_recv();
    more_time(&mut world, 600_000);
    let reply = early.or_else(|_| reply.try_recv());
    let reply = reply.expect("an answer").expect("no error");
    assert!(reply.done, "bob has it: {:?}", reply.reasons);
}

/// A device joins and asks at once whether all is there.
pub fn waited_for_after_joining() {
    let mut world = World::new(7, &["alice", "bob"], 2);
    world.weather = Weather::calm();
    world.start(0);
    world.start(1);
    world.add(0);
    act(&mut world, 0, |d| {
        for n in 0..3 {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    connect(&mut world);
    world.add(1);
    let mut reply = wait(&mut world, 1, None, false);
    let until = world.now + 600_000;
    let answer = loop {
        if let Ok(answer) = reply.try_recv() {
            break answer.expect("no error");
        }
        assert!(world.now < until, "no answer");
        world.step();
    };
    assert!(answer.done, "{:?}", answer.reasons);
    assert_eq!(files(&world, 1).len(), 3, "nothing known was missing");
}

/// Most of a folder goes, that is confirmed; the rest goes within a minute of it: it is asked again.
pub fn deleted_after_the_answer() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        for n in 0..60 {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    settle(&mut world);
    act(&mut world, 0, |d| {
        for n in 0..31 {
            d.user_rm(&format!("f{n}"));
        }
    });
    look(&mut world, 0);
    let stopped = |world: &World| {
        let engine = world.devices[1].engine.as_ref().expect("it runs");
        engine.open_spaces_list().any(|s| s.stopped().is_some())
    };
    assert!(stopped(&world));
    world.devices[1]
        .engine
        .as_mut()
        .expect("it runs")
        .go_on(crate::world::SPACE)
        .expect("it is stopped");
    world.perform_effects(1);
    world.give(1, Event::Tick);
    more_time(&mut world, 15_000);
    assert_eq!(files(&world, 1).len(), 29);
    act(&mut world, 0, |d| {
        for n in 31..60 {
            d.user_rm(&format!("f{n}"));
        }
    });
    look(&mut world, 0);
    more_time(&mut world, 15_000);
    assert!(
        stopped(&world),
        "29 of 29 files went without a question: {} left",
        files(&world, 1).len()
    );
}

/// What is no file stands under the name of one: its content is fetched once, the disk is asked now and
/// then, and it is said what is in the way.
pub fn in_the_way() {
    let mut world = world(&["alice", "bob"], 2);
    settle(&mut world);
    world.devices[1].disk.user_fifo("f");
    act(&mut world, 0, |d| d.user_write("f", "1"));
    look(&mut world, 0);
    more_time(&mut world, 300_000);
    let count = |world: &mut World, what: &str| world.reference().counts.get(what).copied();
    assert_eq!(count(&mut world, "contents fetched"), Some(1));
    let tries = count(&mut world, "steps refused").unwrap_or_default();
    assert!((4..30).contains(&tries), "{tries} tries in five minutes");
    let engine = world.devices[1].engine.as_ref().expect("it runs");
    let space = engine.status(world.time()).spaces.remove(0);
    let problems = &space.problems;
    let told = problems
        .iter()
        .any(|p| p.item.as_deref() == Some("f") && p.kind == "disk");
    assert!(told, "{problems:?}");
    assert_eq!((space.missing_items, space.only_here_items), (1, 0));
    world.devices[1].disk.user_rm("f");
    look(&mut world, 1);
    more_time(&mut world, 40_000);
    assert_eq!(files(&world, 1)["f"], "1");
    assert_eq!(count(&mut world, "contents fetched"), Some(1));
    end(world);
    what_was_in_the_way();
}

/// The item is deleted, or gets another name, before what is in its way: nothing is in the way of anything then.
fn what_was_in_the_way() {
    for renamed in [false, true] {
        let mut world = world(&["alice", "bob"], 2);
        settle(&mut world);
        world.devices[1].disk.user_fifo("f");
        act(&mut world, 0, |d| d.user_write("f", "1"));
        look(&mut world, 0);
        more_time(&mut world, 60_000);
        let told = |world: &World| {
            let engine = world.devices[1].engine.as_ref().expect("it runs");
            let problems = engine.status(world.time()).spaces.remove(0).problems;
            problems.iter().filter(|p| p.kind == "disk").count()
        };
        assert_eq!(told(&world), 1);
        act(&mut world, 0, |d| match renamed {
            false => d.user_rm("f"),
            true => d.user_rename("f", "g"),
        });
        look(&mut world, 0);
        more_time(&mut world, 60_000);
        assert_eq!(told(&world), 0, "renamed: {renamed}");
        assert_eq!(files(&world, 1).contains_key("g"), renamed);
        world.devices[1].disk.user_rm("f");
        end(world);
    }
}

/// A disk that stays full: what there is no room for is asked for less and less, and comes when there is.
pub fn full_for_long() {
    let mut world = world(&["alice", "bob"], 2);
    world.devices[1].disk.set_free(0);
    act(&mut world, 0, |d| {
        for n in 0..20 {
            d.user_write(&format!("f{n}"), format!("content {n}"));
        }
    });
    look(&mut world, 0);
    more_time(&mut world, 300_000);
    let count = |world: &mut World, what: &str| world.reference().counts.get(what).copied();
    let tries = count(&mut world, "fetches failed").unwrap_or_default();
    assert!((20..200).contains(&tries), "{tries} tries in five minutes");
    world.devices[1].disk.set_free(u64::MAX);
    more_time(&mut world, 45_000);
    assert_eq!(files(&world, 1).len(), 20);
    end(world);
}

/// A space is left while somebody waits for it to be confirmed.
pub fn left_while_waiting() {
    let mut world = world(&["alice", "bob"], 2);
    cut(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    let mut reply = wait(&mut world, 0, None, false);
    more_time(&mut world, 10_000);
    assert!(reply.try_recv().is_err());
    leave(&mut world, 0);
    world.give(0, Event::Tick);
    more_time(&mut world, 10_000);
    let reply = reply.try_recv().expect("an answer");
    assert!(!reply.is_ok_and(|r| r.done), "nobody else has it");
}

/// A scan of a directory ends by an error that has nothing to do with the folder.
pub fn scan_that_failed() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    act(&mut world, 0, |d| d.user_write("f", "22"));
    let space = world.devices[0].space.expect("it takes part");
    world.give(
        0,
        Event::Disturbed {
            space,
            dirs: vec![ownmesh_node::disk::RelPath::ROOT],
        },
    );
    for job in 1..1_000 {
        let result = Err(ownmesh_node::disk::scan::ScanError::Stopped);
        world.give(0, Event::Scanned { space, job, result });
    }
    more_time(&mut world, 600_000);
    assert_eq!(files(&world, 1)["f"], "22", "ten minutes later");
}

/// The system allows no more watches: people are told, and a change is found all the same, soon.
pub fn not_watched() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    let space = world.devices[0].space.expect("it takes part");
    let told = |world: &World| {
        let engine = world.devices[0].engine.as_ref().expect("it runs");
        let spaces = engine.status(world.time()).spaces;
        spaces[0].problems.iter().any(|p| p.kind == "watch")
    };
    let lacking = Some("no more watches".to_owned());
    world.give(0, Event::Watched { space, lacking });
    for text in ["22", "333"] {
        more_time(&mut world, 300_000);
        act(&mut world, 0, |d| d.user_write("f", text));
        more_time(&mut world, 100_000);
        assert_eq!(files(&world, 1)["f"], text, "a minute and a half later");
        assert!(told(&world));
    }
    let lacking = None;
    world.give(0, Event::Watched { space, lacking });
    assert!(!told(&world));
    end(world);
}

/// A directory cannot be read: that is shown as long as it lasts, whatever else is looked at meanwhile.
pub fn closed_directory() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("d");
        d.user_write("d/f", "1");
    });
    settle(&mut world);
    let space = world.devices[0].space.expect("it takes part");
    for (denied, text) in [(true, "22"), (false, "333")] {
        world.devices[0].disk.deny("d", denied);
        if denied {
            look(&mut world, 0);
        }
        act(&mut world, 0, |d| d.user_write("beside", text));
        let dirs = vec![ownmesh_node::disk::RelPath::ROOT];
        world.give(0, Event::Disturbed { space, dirs });
        more_time(&mut world, 5_000);
        assert_eq!(files(&world, 1)["beside"], text);
        let engine = world.devices[0].engine.as_ref().expect("it runs");
        let spaces = engine.status(world.time()).spaces;
        let shown = spaces[0].problems.iter().any(|p| p.kind == "unreadable");
        assert_eq!(shown, denied);
    }
    end(world);
}
