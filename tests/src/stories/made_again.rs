//! Things that are put down once more as they were.

use super::*;

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
