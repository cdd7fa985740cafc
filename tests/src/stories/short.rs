//! Every short story: all sequences of a few steps in a tiny tree, taken while the devices are apart.
//!
//! Random lives are long and seldom take the very steps that stand in each other's way. Here each
//! sequence is told once; where only one side acts, the other must end with exactly its tree.

use std::collections::BTreeMap;

use super::*;

const PATHS: [&str; 6] = ["a", "b", "c", "a/x", "b/x", "b/y"];

/// What a user does.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Write(&'static str),
    MakeDir(&'static str),
    Remove(&'static str),
    Move(&'static str, &'static str),
}

type Tree = BTreeMap<String, Entry>;

fn dir(tree: &Tree, path: &str) -> bool {
    matches!(tree.get(path), Some(Entry::Dir))
}

fn parent_is_there(tree: &Tree, path: &str) -> bool {
    path.rsplit_once('/').is_none_or(|(up, _)| dir(tree, up))
}

/// What can be done in a tree.
fn deeds(tree: &Tree) -> Vec<Deed> {
    let mut out = Vec::new();
    for path in PATHS.into_iter().filter(|p| parent_is_there(tree, p)) {
        if !dir(tree, path) {
            out.push(Deed::Write(path));
        }
        match tree.get(path) {
            None => out.push(Deed::MakeDir(path)),
            Some(entry) => {
                out.push(Deed::Remove(path));
                for to in PATHS.into_iter().filter(|p| parent_is_there(tree, p)) {
                    let inside = to == path || to.starts_with(&format!("{path}/"));
                    let over = tree.get(to).is_none_or(|there| {
                        !matches!(entry, Entry::Dir) && !matches!(there, Entry::Dir)
                    });
                    if !inside && over {
                        out.push(Deed::Move(path, to));
                    }
                }
            }
        }
    }
    out
}

/// Takes the steps that `code` stands for, one digit a step; returns them.
fn take(world: &mut World, d: usize, mut code: u64, steps: usize, looks: bool) -> Vec<Deed> {
    let mut taken = Vec::new();
    for n in 0..steps {
        let all = deeds(&world.devices[d].disk.entries());
        let count = all.len() as u64;
        let deed = all[usize::try_from(code % count).expect("an index")];
        code /= count;
        act(world, d, |disk| match deed {
            Deed::Write(path) => disk.user_write(path, format!("{d} {n}")),
            Deed::MakeDir(path) => disk.user_mkdir(path),
            Deed::Remove(path) => disk.user_rm(path),
            Deed::Move(from, to) => disk.user_rename(from, to),
        });
        taken.push(deed);
        if looks {
            look(world, d);
        }
    }
    if !looks {
        look(world, d);
    }
    taken
}

/// One story: `code` says which steps are taken, `both` whether both devices take some.
fn tell(code: u64, steps: usize, both: bool, looks: bool) -> Result<(), String> {
    let mut world = world(&["alice", "bob"], 2);
    act(&mut world, 0, |d| {
        d.user_write("a", "first");
        d.user_mkdir("b");
        d.user_write("b/x", "second");
        d.user_write("b/y", "third");
    });
    settle(&mut world);
    cut(&mut world);
    let here = take(&mut world, 0, code, steps, looks);
    let there = if both {
        take(&mut world, 1, code / 9_973, steps, looks)
    } else {
        Vec::new()
    };
    let want = world.devices[0].disk.entries();
    connect(&mut world);
    let told = format!("code {code}, looks {looks}: {here:?} {there:?}");
    world
        .verdict()
        .map_err(|wrong| format!("{told}: {wrong}"))?;
    let got = world.devices[1].disk.entries();
    if !both && got != want {
        return Err(format!("{told}: {want:?} became {got:?}"));
    }
    Ok(())
}

/// Tells every `stride`th story of so many steps; returns how many, and what went wrong.
#[must_use]
pub fn short(steps: usize, both: bool, stride: u64) -> (u64, Vec<String>) {
    // No tree offers more deeds than this; codes beyond those of a tree come round again.
    let codes = 40_u64.pow(u32::try_from(steps).expect("few"));
    let (mut told, mut wrong) = (0, Vec::new());
    for code in (0..codes).step_by(usize::try_from(stride).expect("a stride")) {
        for looks in [false, true] {
            told += 1;
            wrong.extend(tell(code, steps, both, looks).err());
        }
    }
    (told, wrong)
}
