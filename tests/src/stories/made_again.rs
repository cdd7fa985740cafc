//! Things that are put down once more under a name they or others had.

use super::*;

/// Review 2: a file that is deleted and made again with the same bytes lives.
pub fn made_again() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "same"));
    settle(&mut world);
    act(&mut world, 0, |d| d.user_rm("f"));
    settle(&mut world);
    assert!(files(&world, 1).is_empty());
    act(&mut world, 1, |d| d.user_write("f", "same"));
    settle(&mut world);
    let world = end(world);
    assert_eq!(contents(&world, 0), ["same"]);
}

/// An edit replaces the bytes its author saw, whoever put them there and however often.
pub fn bytes_put_twice() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "h1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 1, |d| d.user_write("f", "h2 of bob"));
    look(&mut world, 1);
    act(&mut world, 1, |d| d.user_write("f", "h1"));
    look(&mut world, 1);
    // Alice hears of it while her save on top of h1 is on her disk and not looked at.
    act(&mut world, 0, |d| d.user_write("f", "h3 of alice"));
    world.join(AB);
    more_time(&mut world, 2_000);
    let world = end(world);
    assert_eq!(contents(&world, 0), ["h3 of alice"]);
}

/// A symlink is made again with the same target, as `ln -sf` does; then it is deleted elsewhere.
pub fn link_made_again() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_symlink("t", "l"));
    settle(&mut world);
    act(&mut world, 0, |d| {
        d.user_rm("l");
        d.user_symlink("t", "l");
    });
    settle(&mut world);
    act(&mut world, 1, |d| d.user_rm("l"));
    settle(&mut world);
    let world = end(world);
    assert!(world.devices[0].disk.entries().is_empty());
}

/// A directory is deleted and made again while another device is away, and has the files it had:
/// there the old one, which they have to leave, stands in the place of the new one.
pub fn file_kept_in_the_new_directory() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_mkdir("docs");
        d.user_mkdir("docs/in");
        d.user_write("docs/a", "a");
        d.user_write("docs/in/b", "b");
    });
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| {
        d.user_rename("docs/a", "a");
        d.user_rename("docs/in/b", "b");
        d.user_rm("docs");
    });
    look(&mut world, 0);
    act(&mut world, 0, |d| {
        d.user_mkdir("docs");
        d.user_rename("a", "docs/a");
        d.user_rename("b", "docs/b");
    });
    look(&mut world, 0);
    connect(&mut world);
    let world = end(world);
    let want = [("docs/a", "a"), ("docs/b", "b")];
    let want: BTreeMap<String, String> = want.map(|(p, t)| (p.to_owned(), t.to_owned())).into();
    assert_eq!(files(&world, 1), want);
}

/// A directory is renamed, and its old name taken again or not, in the moment in which a look at what was
/// written there before begins: the look does not come to where it stands now.
pub fn renamed_while_looked_at() {
    for (from, to, touched) in [("a", "A", "a"), ("a", "q/A", "a"), ("p/a", "q/A", "p")] {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| {
            d.user_mkdir(from);
            d.user_mkdir("q");
            for n in 0..12 {
                d.user_write(&format!("{from}/f{n}"), n.to_string());
            }
        });
        settle(&mut world);
        cut(&mut world);
        act(&mut world, 1, |d| {
            d.user_write(&format!("{from}/f0"), "bob's");
        });
        look(&mut world, 1);
        act(&mut world, 0, |d| {
            d.user_rename(from, to);
            if touched == from {
                d.user_mkdir(from);
                d.user_write("a/decoy", "d");
            }
        });
        let space = world.devices[0].space.unwrap_or_default();
        for (dirs, time) in [(vec![touched], 50), (vec!["", "p", "q", "a"], 2_000)] {
            let dirs = dirs
                .iter()
                .filter_map(|d| ownmesh_node::disk::RelPath::parse(d).ok())
                .collect();
            world.give(0, Event::Disturbed { space, dirs });
            let until = world.now + time;
            world.run_until(until);
        }
        connect(&mut world);
        let world = end(world);
        let all = files(&world, 1);
        assert_eq!(all[&format!("{to}/f0")], "bob's", "{from} to {to}");
        assert_eq!(all.len(), if touched == from { 13 } else { 12 });
        let mut deleted = world.devices[1].disk.snapshot_all().into_keys();
        let in_trash = |path: &String| path.starts_with(".mesh/trash/");
        // Only what bob's edit replaced may lie there.
        assert!(!deleted.any(|path| in_trash(&path) && !path.ends_with("f0")));
    }
}

/// A file goes deep into a new directory that has its name, while another device is away.
pub fn file_into_the_directory_of_its_name() {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| d.user_write("f", "1"));
    settle(&mut world);
    cut(&mut world);
    act(&mut world, 0, |d| {
        d.user_mkdir("x");
        d.user_mkdir("x/y");
        d.user_rename("f", "x/y/f");
    });
    look(&mut world, 0);
    // What is in the new directory is heard of before it.
    act(&mut world, 0, |d| {
        d.user_mkdir("f");
        d.user_rename("x", "f/x");
    });
    look(&mut world, 0);
    connect(&mut world);
    let world = end(world);
    assert_eq!(
        files(&world, 1),
        BTreeMap::from([("f/x/y/f".to_owned(), "1".to_owned())])
    );
}

/// A file takes the name of the directory it stood in, which is deleted, while another device is away.
pub fn file_in_place_of_its_directory() {
    for deep in ["docs/a", "docs/sub/a"] {
        let mut world = world(&["alice", "bob"], 2);
        act(&mut world, 0, |d| {
            d.user_mkdir("docs");
            d.user_mkdir("docs/sub");
            d.user_write(deep, "1");
        });
        settle(&mut world);
        cut(&mut world);
        act(&mut world, 0, |d| {
            d.user_rename(deep, "t");
            d.user_rm("docs");
            d.user_rename("t", "docs");
        });
        look(&mut world, 0);
        connect(&mut world);
        let world = end(world);
        let want = BTreeMap::from([("docs".to_owned(), "1".to_owned())]);
        assert_eq!(files(&world, 1), want);
    }
}

/// Power goes while a directory makes way for another of its name: what is left under that name is
/// the old one, and what was deleted in it is not new.
pub fn power_lost_while_making_way() {
    for n in 0..120_u64 {
        let mut world = world(&["alice", "bob"], 2);
        vary(&mut world, n % 6);
        act(&mut world, 0, |d| {
            d.user_mkdir("docs");
            for name in ["a", "b", "c"] {
                d.user_write(&format!("docs/{name}"), name);
            }
        });
        settle(&mut world);
        cut(&mut world);
        act(&mut world, 0, |d| {
            d.user_rename("docs/a", "a");
            d.user_rm("docs");
        });
        look(&mut world, 0);
        act(&mut world, 0, |d| {
            d.user_mkdir("docs");
            d.user_rename("a", "docs/a");
        });
        look(&mut world, 0);
        let engine = world.devices[1].engine.as_mut().expect("it runs");
        engine.record().expect("a database");
        world.devices[1].doom = Some(End::Power);
        world.devices[1].disk.crash_after(n / 6);
        connect(&mut world);
        world.devices[1].disk.revive();
        let world = end(world);
        assert_eq!(
            files(&world, 0),
            BTreeMap::from([("docs/a".to_owned(), "a".to_owned())]),
            "{n}"
        );
    }
}
