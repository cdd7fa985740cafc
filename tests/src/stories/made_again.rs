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
