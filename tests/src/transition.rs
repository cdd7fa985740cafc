//! What a user does to a folder, at any moment. (What fate does to devices stands in `world`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use crate::mem_disk::{Entry, MemDisk};
use crate::reference::{Reference, shown};

/// Names people use again and again: the interesting things happen where two meet.
const NAMES: [&str; 9] = [
    "a", "b", "log", "log.1", "docs", "old", "x.txt", "y.txt", "Z",
];

/// A number below `n`.
pub fn below(rng: &mut StdRng, n: usize) -> usize {
    usize::try_from(rng.next_u64() % n.max(1) as u64).unwrap_or(0)
}

/// True once in `n` times.
pub fn one_in(rng: &mut StdRng, n: usize) -> bool {
    below(rng, n) == 0
}

type Tree = BTreeMap<String, Entry>;

fn pick(rng: &mut StdRng, tree: &Tree, fits: impl Fn(&Entry) -> bool) -> Option<String> {
    let all: Vec<&String> = tree
        .iter()
        .filter(|(_, e)| fits(e))
        .map(|(p, _)| p)
        .collect();
    (!all.is_empty()).then(|| all[below(rng, all.len())].clone())
}

fn is_file(e: &Entry) -> bool {
    matches!(e, Entry::File(_))
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn inside(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

fn any_dir(rng: &mut StdRng, tree: &Tree) -> String {
    if one_in(rng, 3) {
        return String::new();
    }
    pick(rng, tree, |e| *e == Entry::Dir).unwrap_or_default()
}

/// A path in a directory that is there; `free`: nothing stands at it.
fn any_path(rng: &mut StdRng, tree: &Tree, free: bool) -> Option<String> {
    for _ in 0..6 {
        let dir = any_dir(rng, tree);
        if dir.matches('/').count() > 3 {
            continue;
        }
        let path = inside(&dir, NAMES[below(rng, NAMES.len())]);
        if !free || !tree.contains_key(&path) {
            return Some(path);
        }
    }
    None
}

fn fresh(rng: &mut StdRng, who: &str, r: &mut Reference) -> Vec<u8> {
    r.contents += 1;
    let mut bytes = format!("v{}-{who}", r.contents).into_bytes();
    if one_in(rng, 4) {
        bytes.resize(bytes.len() + below(rng, 300), b'.');
    }
    bytes
}

/// One step of the user `who` of device `d`. `fleeting`: it happens between two calls of mesh.
pub fn user(
    rng: &mut StdRng,
    disk: &MemDisk,
    d: usize,
    who: &str,
    r: &mut Reference,
    fleeting: bool,
) {
    let before = disk.entries();
    let mut again = false;
    let Some((what, dirs)) = act(rng, disk, &before, who, r, &mut again) else {
        return;
    };
    let what = format!("{}{what}", if fleeting { "meanwhile " } else { "" });
    let after = disk.entries();
    r.note(who, &what);
    r.step(
        &format!("{} {who}: {what}", r.now),
        &before,
        &after,
        again,
        fleeting,
    );
    r.traces.step(d, r.now, &before, &after, fleeting);
    r.count(if fleeting {
        "steps between calls"
    } else {
        "steps"
    });
    for dir in dirs {
        r.disturbed.push((d, dir));
    }
}

type Acted = Option<(String, Vec<String>)>;

fn act(
    rng: &mut StdRng,
    disk: &MemDisk,
    tree: &Tree,
    who: &str,
    r: &mut Reference,
    again: &mut bool,
) -> Acted {
    let copies: Vec<&String> = tree
        .iter()
        .filter(|(p, e)| is_file(e) && p.contains("(conflict"))
        .map(|(p, _)| p)
        .collect();
    if !copies.is_empty() && one_in(rng, 3) {
        let path = copies[below(rng, copies.len())].clone();
        return with_copy(rng, disk, tree, &path, who, r);
    }
    match below(rng, 34) {
        0..=7 => write(rng, disk, tree, who, r),
        8..=15 => change(rng, disk, tree, who, r),
        16..=21 => shift(rng, disk, tree, r),
        22..=25 => remove(rng, disk, tree, r, again),
        26 => rotate(rng, disk, tree, who, r),
        27 => replace_dir(rng, disk, tree, who, r),
        28 => make_tree(rng, disk, tree, who, r),
        29 => link(rng, disk, tree, r),
        30 => attributes(rng, disk, tree, r),
        31 => copy(rng, disk, tree, r, again),
        32 => swap(rng, disk, tree, r),
        _ => many(rng, disk, tree, who, r),
    }
}

fn write(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, who: &str, r: &mut Reference) -> Acted {
    let path = any_path(rng, tree, false)?;
    if tree.get(&path).is_some_and(|e| !is_file(e)) {
        return None;
    }
    let bytes = fresh(rng, who, r);
    disk.user_write(&path, &bytes);
    r.count("files written");
    Some((
        format!(
            "write {path} {}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(20)])
        ),
        vec![parent(&path).to_owned()],
    ))
}

fn change(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, who: &str, r: &mut Reference) -> Acted {
    let path = pick(rng, tree, is_file)?;
    let dirs = vec![parent(&path).to_owned()];
    r.count("edits");
    let bytes = fresh(rng, who, r);
    let label = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
    let what = match below(rng, 4) {
        0 => {
            disk.user_append(&path, &bytes);
            format!("append {path} {label}")
        }
        1 => {
            // The same length as before: only times tell.
            let Some(Entry::File(old)) = tree.get(&path) else {
                return None;
            };
            if old.len() < bytes.len() {
                disk.user_write(&path, &bytes);
            } else {
                let mut same = bytes.clone();
                same.resize(old.len(), b'=');
                disk.user_write(&path, &same);
            }
            format!("rewrite {path} {label}")
        }
        2 => {
            disk.user_save(&path, &bytes);
            format!("save {path} {label}")
        }
        _ => {
            disk.user_write(&path, &bytes);
            format!("edit {path} {label}")
        }
    };
    Some((what, dirs))
}

fn is_below(path: &str, dir: &str) -> bool {
    path == dir
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn shift(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, r: &mut Reference) -> Acted {
    let dirs_too = one_in(rng, 2);
    let from = pick(rng, tree, |e| dirs_too || *e != Entry::Dir)?;
    let name = from.rsplit('/').next().unwrap_or(&from);
    let to = match below(rng, 4) {
        0 => inside(parent(&from), NAMES[below(rng, NAMES.len())]),
        1 => inside(&any_dir(rng, tree), name),
        2 => {
            let over = pick(rng, tree, is_file)?;
            if tree.get(&from).is_some_and(|e| *e == Entry::Dir) {
                return None;
            }
            over
        }
        _ => any_path(rng, tree, true)?,
    };
    if is_below(&to, &from) || tree.get(&to).is_some_and(|e| !is_file(e)) {
        return None;
    }
    if tree.get(&to).is_some() && tree.get(&from) == Some(&Entry::Dir) {
        return None;
    }
    disk.user_rename(&from, &to);
    r.count(if tree.contains_key(&to) {
        "renames over"
    } else {
        "renames"
    });
    Some((
        format!("mv {from} {to}"),
        vec![parent(&from).to_owned(), parent(&to).to_owned()],
    ))
}

fn remove(
    rng: &mut StdRng,
    disk: &MemDisk,
    tree: &Tree,
    r: &mut Reference,
    again: &mut bool,
) -> Acted {
    match below(rng, 6) {
        0 => {
            let path = pick(rng, tree, |e| *e == Entry::Dir)?;
            disk.user_rm(&path);
            r.count("directories deleted");
            Some((format!("rm -r {path}"), vec![parent(&path).to_owned()]))
        }
        1 => {
            let path = pick(rng, tree, is_file)?;
            let Some(Entry::File(bytes)) = tree.get(&path) else {
                return None;
            };
            disk.user_rm(&path);
            disk.user_write(&path, &**bytes);
            *again = true;
            r.again(
                &Entry::File(Arc::clone(bytes)),
                &format!("made {path} again"),
            );
            r.count("made again with equal bytes");
            Some((
                format!("rm and make again {path}"),
                vec![parent(&path).to_owned()],
            ))
        }
        _ => {
            let path = pick(rng, tree, |e| *e != Entry::Dir)?;
            disk.user_rm(&path);
            r.count("deletions");
            Some((format!("rm {path}"), vec![parent(&path).to_owned()]))
        }
    }
}

/// `mv log log.1; touch log`
fn rotate(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, who: &str, r: &mut Reference) -> Acted {
    let path = pick(rng, tree, is_file)?;
    let to = format!("{path}.1");
    if tree.get(&to).is_some_and(|e| !is_file(e)) || path.len() > 80 {
        return None;
    }
    disk.user_rename(&path, &to);
    disk.user_write(&path, fresh(rng, who, r));
    r.count("rotations");
    Some((format!("rotate {path}"), vec![parent(&path).to_owned()]))
}

/// `mv docs old; mkdir docs`
fn replace_dir(
    rng: &mut StdRng,
    disk: &MemDisk,
    tree: &Tree,
    who: &str,
    r: &mut Reference,
) -> Acted {
    let dir = pick(rng, tree, |e| *e == Entry::Dir)?;
    let to = format!("{dir}-old");
    if tree.contains_key(&to) || dir.len() > 80 {
        return None;
    }
    disk.user_rename(&dir, &to);
    disk.user_mkdir(&dir);
    if one_in(rng, 2) {
        disk.user_write(
            &inside(&dir, NAMES[below(rng, NAMES.len())]),
            fresh(rng, who, r),
        );
    }
    r.count("directories replaced");
    Some((
        format!("mv {dir} {to}; mkdir {dir}"),
        vec![parent(&dir).to_owned(), dir],
    ))
}

fn make_tree(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, who: &str, r: &mut Reference) -> Acted {
    let dir = any_path(rng, tree, true)?;
    disk.user_mkdir(&dir);
    let below_it = inside(&dir, NAMES[below(rng, NAMES.len())]);
    if one_in(rng, 2) {
        disk.user_mkdir(&below_it);
    }
    for n in 0..below(rng, 3) {
        let at = inside(&dir, &format!("n{n}"));
        disk.user_write(&at, fresh(rng, who, r));
    }
    r.count("trees made");
    Some((
        format!("mkdir -p {dir} and files in it"),
        vec![parent(&dir).to_owned(), dir],
    ))
}

fn link(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, r: &mut Reference) -> Acted {
    r.contents += 1;
    let target = format!("target-{}", r.contents);
    let old = pick(rng, tree, |e| matches!(e, Entry::Link(_))).filter(|_| one_in(rng, 2));
    let path = match old {
        Some(path) => {
            disk.user_rm(&path);
            path
        }
        None => any_path(rng, tree, true)?,
    };
    disk.user_symlink(&target, &path);
    r.count("symlinks");
    Some((
        format!("ln -s {target} {path}"),
        vec![parent(&path).to_owned()],
    ))
}

fn attributes(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, r: &mut Reference) -> Acted {
    let path = pick(rng, tree, |e| !matches!(e, Entry::Link(_)))?;
    let dirs = vec![parent(&path).to_owned()];
    if one_in(rng, 2) || tree.get(&path) == Some(&Entry::Dir) {
        let mode = [0o644, 0o600, 0o755, 0o700][below(rng, 4)];
        disk.user_chmod(&path, mode);
        r.count("modes set");
        return Some((format!("chmod {mode:o} {path}"), dirs));
    }
    let mtime =
        1_600_000_000_000_000_000 + i64::try_from(below(rng, 1_000_000)).unwrap_or(0) * 1_000_003;
    disk.user_touch(&path, mtime);
    r.count("times set");
    Some((format!("touch {path} {mtime}"), dirs))
}

fn copy(
    rng: &mut StdRng,
    disk: &MemDisk,
    tree: &Tree,
    r: &mut Reference,
    again: &mut bool,
) -> Acted {
    let from = pick(rng, tree, is_file)?;
    let to = any_path(rng, tree, true)?;
    let Some(Entry::File(bytes)) = tree.get(&from) else {
        return None;
    };
    disk.user_write(&to, &**bytes);
    *again = true;
    r.count("copies");
    Some((format!("cp {from} {to}"), vec![parent(&to).to_owned()]))
}

fn swap(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, r: &mut Reference) -> Acted {
    let (a, b) = (pick(rng, tree, |_| true)?, pick(rng, tree, |_| true)?);
    if is_below(&a, &b) || is_below(&b, &a) || tree.contains_key("swap~") {
        return None;
    }
    disk.user_rename(&a, "swap~");
    disk.user_rename(&b, &a);
    disk.user_rename("swap~", &b);
    r.count("swaps");
    Some((
        format!("swap {a} {b}"),
        vec![parent(&a).to_owned(), parent(&b).to_owned()],
    ))
}

/// Enough at once for the brake to have an opinion when they go.
fn many(rng: &mut StdRng, disk: &MemDisk, tree: &Tree, who: &str, r: &mut Reference) -> Acted {
    let dir = "many";
    match tree.get(dir) {
        None => {
            disk.user_mkdir(dir);
            for n in 0..14 {
                disk.user_write(&format!("{dir}/f{n}"), fresh(rng, who, r));
            }
            r.count("many files made");
            Some((format!("fill {dir}"), vec![String::new(), dir.to_owned()]))
        }
        Some(Entry::Dir) => {
            disk.user_rm(dir);
            r.count("many files deleted");
            Some((format!("rm -r {dir}"), vec![String::new(), dir.to_owned()]))
        }
        Some(_) => None,
    }
}

fn with_copy(
    rng: &mut StdRng,
    disk: &MemDisk,
    tree: &Tree,
    path: &str,
    who: &str,
    r: &mut Reference,
) -> Acted {
    let dirs = vec![parent(path).to_owned()];
    match below(rng, 4) {
        0 => {
            disk.user_rm(path);
            r.count("conflict copies deleted");
            Some((format!("rm {path}"), dirs))
        }
        1 => {
            disk.user_write(path, fresh(rng, who, r));
            r.count("conflict copies edited");
            Some((
                format!(
                    "edit {path}, now {}",
                    disk.entries().get(path).map(shown).unwrap_or_default()
                ),
                dirs,
            ))
        }
        2 => {
            let to = any_path(rng, tree, true)?;
            disk.user_rename(path, &to);
            r.count("conflict copies renamed");
            Some((
                format!("mv {path} {to}"),
                vec![parent(path).to_owned(), parent(&to).to_owned()],
            ))
        }
        _ => {
            // The usual way to settle one: its content over the other's name.
            let over = pick(rng, tree, is_file)?;
            disk.user_rename(path, &over);
            r.count("conflict copies renamed over");
            Some((
                format!("mv {path} {over}"),
                vec![parent(path).to_owned(), parent(&over).to_owned()],
            ))
        }
    }
}
