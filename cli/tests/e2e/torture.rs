//! The torture tree: one of each name and file, between an ordinary disk and one of another kind, there
//! and back. Nothing is lost, both sides are the same up to the table of names (docs/names.md), and then
//! it is quiet: no scan finds anything to tell.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::device::Device;
use crate::foreign::{Foreign, Kind};
use crate::world::{Dice, World, check, until};
use crate::zoo::{Entry, Snapshot, fill, snapshot};

/// Forced scans after which it has to be quiet still.
const SCANS: usize = 4;

/// For so many seconds it has to be quiet, with a scan now and then; without it, for a few scans.
const IDLE: &str = "MESH_TORTURE_IDLE_S";

#[test]
fn the_torture_tree_survives_a_stick() {
    torture(Some(Kind::Stick));
}

#[test]
fn the_torture_tree_survives_a_disk_on_which_case_does_not_count() {
    torture(Some(Kind::Folding));
}

#[test]
fn the_torture_tree_is_the_same_on_a_disk_of_the_same_kind() {
    torture(None);
}

/// Says that there is no such disk; no failure in CI either, which can bring programs and no drivers.
fn forgo(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn torture(kind: Option<Kind>) {
    let world = World::loopback();
    let (mut a, mut b) = (world.device("laptop"), world.device("desktop"));
    let disk = match kind.map(|kind| Foreign::under(kind, &mut b, world.root())) {
        Some(Err(why)) => return forgo(&why),
        Some(Ok(disk)) => Some(disk),
        None => None,
    };
    let name = disk.as_ref().map_or("the same disk", |disk| disk.name);
    a.init();
    a.let_in(&mut b);
    let items = fill(&a.at(""));
    let before = snapshot(&a.at(""));
    a.add();
    b.add();
    quiet(&a, &b, "the first sync");
    assert_eq!(
        changed(&before, &snapshot(&a.at(""))),
        none(),
        "{name}: the source was changed"
    );
    let held = same(&a, &b, name);
    assert_eq!(held.0, items, "{name}: items of the mesh");
    let local = held.1;
    eprintln!(
        "{name}: {items} items, {local} called otherwise there, {} not held",
        held.2
    );
    assert_eq!(kind.is_some(), local > 0);
    if kind.is_none() {
        assert_eq!(
            changed(&before, &snapshot(&b.at(""))),
            vec![
                "\"files/fifo\": Some(Other) | None".to_owned(),
                "\"files/socket\": Some(Other) | None".to_owned(),
            ]
        );
        holes(&a, &b);
    }
    notices(&b, held);
    still(&a, &b, name, None);

    // And back: what is edited, made, renamed and removed there.
    there_and_back(&a, &b);
    quiet(&a, &b, "back");
    same(&a, &b, name);
    still(&a, &b, name, None);
    // What stands there is known again when the space is left and joined, by names and bytes alone.
    if kind != Some(Kind::Folding) {
        b.json(&["leave", "docs"]);
        b.add_with(&["--merge"]);
        quiet(&a, &b, "joined again");
        same(&a, &b, name);
        assert!(a.conflicts().is_empty(), "{:?}", a.conflicts());
    }
    b.down();
    b.up();
    quiet(&a, &b, "started anew");
    same(&a, &b, name);
    still(
        &a,
        &b,
        name,
        std::env::var(IDLE).ok().and_then(|s| s.parse().ok()),
    );
}

/// There are no lasting file numbers by which a step that a crash cut short could be known again.
#[test]
fn the_torture_tree_reaches_a_stick_through_kills() {
    let world = World::loopback();
    let (mut a, mut b) = (world.device("laptop"), world.device("desktop"));
    let disk = match Foreign::under(Kind::Stick, &mut b, world.root()) {
        Err(why) => return forgo(&why),
        Ok(disk) => disk,
    };
    a.init();
    a.let_in(&mut b);
    a.add();
    b.add();
    let items = fill(&a.at(""));
    a.scan();
    let before = snapshot(&a.at(""));
    let mut dice = Dice::new(11);
    for round in 0..KILLS {
        std::thread::sleep(Duration::from_millis(50 + dice.below(350)));
        if round == KILLS / 2 {
            // Replaced and moved, not only made.
            for name in ["TWIN.txt", "aux", "in:side", "readme"] {
                fs::write(a.at("names").join(name), format!("again {name}")).unwrap();
            }
            fs::rename(a.at("files/many"), a.at("files/MANY")).unwrap();
            fs::rename(a.at("dirs/Twin"), a.at("dirs/other")).unwrap();
            a.scan();
        }
        b.kill();
        b.up();
    }
    quiet(&a, &b, "killed");
    let held = same(&a, &b, disk.name);
    assert_eq!(held.0, items);
    // Nothing came back under an old name, and nothing of A's was changed by it.
    let after = snapshot(&a.at(""));
    let kept = before.iter().filter(|(k, _)| {
        let k = k.to_string_lossy();
        !["files/many", "dirs/Twin", "names/"]
            .iter()
            .any(|p| k.starts_with(p))
            && k != "files"
            && k != "dirs"
    });
    for (path, entry) in kept {
        assert_eq!(after.get(path), Some(entry), "{path:?}");
    }
    assert!(a.conflicts().is_empty(), "{:?}", a.conflicts());
    still(&a, &b, disk.name, None);
}

/// kill -9 while the tree arrives.
const KILLS: usize = 8;

#[test]
fn a_name_that_two_items_claim_is_told() {
    let world = World::loopback();
    let (a, mut b) = world.joined(|a| a.write("x", "x"));
    b.down();
    a.write("clash/in", "a directory");
    a.scan();
    fs::write(b.at("clash"), "a file").unwrap();
    b.up();
    quiet(&a, &b, "both claim one name");
    for device in [&a, &b] {
        let problems = device.space()["problems"].clone();
        let told = problems.as_array().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["kind"], "name-clash");
        let item = told[0]["item"].as_str().unwrap();
        assert!(item.starts_with("clash ("), "{item}");
        assert!(device.at(item).exists() && device.at("clash").exists());
    }
    let item = a.space()["problems"][0]["item"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::rename(a.at(&item), a.at("other")).unwrap();
    quiet(&a, &b, "one was renamed");
    for device in [&a, &b] {
        until("nothing is left to know", || {
            let space = device.space();
            check(
                space["problems"].as_array().is_some_and(Vec::is_empty),
                space,
            )
        });
        assert!(device.at("other").exists());
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

fn changed(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differing = keys.into_iter().filter(|k| before.get(*k) != after.get(*k));
    differing
        .take(20)
        .map(|k| format!("{k:?}: {:?} | {:?}", before.get(k), after.get(k)))
        .collect()
}

/// Waits until both have everything.
#[track_caller]
fn quiet(a: &Device, b: &Device, what: &str) {
    for (device, other) in [(a, b), (b, a)] {
        let waited = device.mesh(&["wait", "--all", "--timeout", "85"]);
        assert_eq!(
            waited.code,
            0,
            "{what}: {waited:?}\n{:#}\n{:#}",
            device.space(),
            other.space()
        );
    }
}

/// The bytes of a name of the mesh.
fn bytes(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for c in name.chars() {
        match u32::from(c) {
            raw @ 0xef80..=0xefff => out.push(u8::try_from(raw - 0xef00).unwrap()),
            _ => out.extend_from_slice(c.to_string().as_bytes()),
        }
    }
    out
}

/// Where each item of the mesh is on a device's disk.
fn places(device: &Device) -> BTreeMap<String, OsString> {
    let reply = device.json(&["ls", "docs", "-R"]);
    let items = reply["items"].as_array().unwrap();
    let mut local = BTreeMap::new();
    for item in items {
        let path = item["path"].as_str().unwrap();
        let name = path.rsplit('/').next().unwrap();
        local.insert(
            path.to_owned(),
            bytes(item["local_name"].as_str().unwrap_or(name)),
        );
    }
    local
        .keys()
        .map(|path| {
            let mut parts = Vec::new();
            let mut above = String::new();
            for part in path.split('/') {
                if !above.is_empty() {
                    above.push('/');
                }
                above.push_str(part);
                parts.push(local[&above].clone());
            }
            (path.clone(), OsString::from_vec(parts.join(&b'/')))
        })
        .collect()
}

/// Compares both folders item by item. Returns how many items there are, how many are called otherwise
/// on B, and how many B has no form for.
#[track_caller]
fn same(a: &Device, b: &Device, what: &str) -> (usize, usize, usize) {
    let (on_a, on_b) = (snapshot(&a.at("")), snapshot(&b.at("")));
    let (places_a, places_b) = (places(a), places(b));
    let (mut local, mut absent, mut wrong) = (0, 0, Vec::new());
    assert_eq!(
        places_a.keys().collect::<Vec<_>>(),
        places_b.keys().collect::<Vec<_>>(),
        "{what}: both know the same items"
    );
    let mut seen = std::collections::BTreeSet::new();
    for (path, at_b) in &places_b {
        let at_a = &places_a[path];
        let here = on_a.get(at_a).map(Entry::content);
        // Some systems list names otherwise than they were given.
        let exact = on_b.get_key_value(at_b);
        let there = exact.or_else(|| on_b.iter().find(|(k, _)| alike(k, at_b)));
        let Some((there, entry)) = there else {
            if matches!(here, Some(Entry::Link { .. })) {
                absent += 1;
            } else {
                wrong.push(format!("{path:?} is not at {at_b:?}"));
            }
            continue;
        };
        seen.insert(there.clone());
        local += usize::from(at_a != at_b);
        if here != Some(entry.content()) {
            wrong.push(format!("{path:?}: {here:?} | {entry:?}"));
        }
    }
    wrong.extend(
        on_b.keys()
            .filter(|k| !seen.contains(*k))
            .map(|k| format!("{k:?} is no item")),
    );
    let items = on_a.values().filter(|e| **e != Entry::Other).count();
    if items != places_a.len() {
        wrong.push(format!("{items} entries, {} items", places_a.len()));
    }
    assert!(
        wrong.is_empty(),
        "{what}: {} differences: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(30)]
    );
    (items, local, absent)
}

fn alike(a: &OsStr, b: &OsStr) -> bool {
    match (a.to_str(), b.to_str()) {
        (Some(a), Some(b)) => a.to_lowercase() == b.to_lowercase(),
        _ => false,
    }
}

/// Zeros are no blocks on either side.
fn holes(a: &Device, b: &Device) {
    use std::os::unix::fs::MetadataExt;
    for name in ["sparse-start", "sparse-end", "sparse-middle", "sparse-all"] {
        let [from, to] = [a, b].map(|d| fs::metadata(d.at("files").join(name)).unwrap());
        assert_eq!(from.len(), to.len());
        assert!(
            to.blocks() <= from.blocks() + 64,
            "{name}: {} | {}",
            from.blocks(),
            to.blocks()
        );
    }
}

/// What a disk shows otherwise is told, and holds up nothing.
fn notices(b: &Device, (_, local, absent): (usize, usize, usize)) {
    let space = b.space();
    let problems = space["problems"].as_array().unwrap();
    let of = |kind: &str| problems.iter().filter(|p| p["kind"] == kind).count();
    assert_eq!(of("local-name") > 0, local > 0, "{space:#}");
    assert_eq!(of("no-symlinks"), absent.min(100), "{space:#}");
    assert_eq!(space["state"], "idle", "{space:#}");
}

/// Numbers of all batches that a device knows.
fn batches(device: &Device) -> u64 {
    let db = ownmesh_node::db::Db::reader(&device.home.join("mesh.db")).unwrap();
    let spaces = ownmesh_node::db::spaces::all(&db).unwrap();
    let logs = spaces
        .iter()
        .flat_map(|s| ownmesh_node::db::logs::all(&db, s.n).unwrap());
    logs.map(|log| log.seq).sum()
}

/// Nothing is told any more, however often it is looked.
#[track_caller]
fn still(a: &Device, b: &Device, what: &str, seconds: Option<u64>) {
    let until = seconds.map(|s| Instant::now() + Duration::from_secs(s));
    let known = || [a, b].map(batches);
    let shown = || [a, b].map(|d| snapshot(&d.at("")));
    let (before, disks) = (known(), shown());
    let mut scans = 0;
    while scans < SCANS || until.is_some_and(|until| Instant::now() < until) {
        a.scan();
        b.scan();
        scans += 1;
        assert_eq!(
            known(),
            before,
            "{what}: something was told in scan {scans}"
        );
        if until.is_some() {
            std::thread::sleep(Duration::from_secs(10));
        }
    }
    quiet(a, b, "still");
    assert_eq!(known(), before, "{what}: something was told");
    for (before, now) in disks.iter().zip(&shown()) {
        assert_eq!(
            changed(before, now),
            none(),
            "{what}: something was changed"
        );
    }
    eprintln!("{what}: {scans} scans of both, {before:?} batches before and after");
}

/// Where an item stands on B.
fn at(b: &Device, path: &str) -> std::path::PathBuf {
    b.at("").join(&places(b)[path])
}

/// What is done on B arrives on A as what it is, whatever the names are there, and the other way round.
fn there_and_back(a: &Device, b: &Device) {
    // Edits of all that is called otherwise, and a few others.
    let mut edited = Vec::new();
    for (path, place) in places(b) {
        let otherwise = bytes(&path) != place.as_bytes();
        let file = b.at("").join(&place);
        if (otherwise || path.starts_with("files/many")) && file.is_file() && !file.is_symlink() {
            fs::write(&file, format!("edited {path}")).unwrap_or_else(|e| panic!("{file:?}: {e}"));
            edited.push(path);
        }
    }
    b.scan();
    for path in &edited {
        let file = a.at("").join(OsStr::from_bytes(&bytes(path)));
        until("an edit arrives", || {
            let is = fs::read_to_string(&file).unwrap_or_default();
            check(is == format!("edited {path}"), (path.clone(), is))
        });
    }
    quiet(a, b, "edited");
    same(a, b, "edited");

    // A local name that is renamed is a rename; so is one that only moves.
    fs::create_dir(b.at("moved")).unwrap();
    fs::rename(at(b, "names/in:side"), b.at("names/renamed there")).unwrap();
    // A look that lists `moved` before the next rename and `names` after it takes the file for deleted.
    quiet(a, b, "renamed in its place");
    let twin = at(b, "names/readme");
    fs::rename(&twin, b.at("moved").join(twin.file_name().unwrap())).unwrap();
    fs::rename(at(b, "dirs/a:b"), b.at("moved/directory")).unwrap();
    // Case only, on either side.
    fs::rename(b.at("names/zero"), b.at("names/step")).unwrap();
    fs::rename(b.at("names/step"), b.at("names/ZERO")).unwrap();
    fs::rename(a.at("names/bom"), a.at("names/Bom")).unwrap();
    fs::rename(a.at("dirs/aux"), a.at("dirs/Aux")).unwrap();
    fs::rename(a.at("files/many"), a.at("files/MANY")).unwrap();
    // A file becomes a directory and back.
    fs::remove_file(a.at("names/x.txt")).unwrap();
    a.write("names/x.txt/in", "a directory now");
    quiet(a, b, "renamed");
    same(a, b, "renamed");
    for (old, new) in [
        ("names/in:side", "names/renamed there"),
        ("names/readme", "moved/readme"),
        ("dirs/a:b/in", "moved/directory/in"),
    ] {
        assert!(!a.at(old).exists(), "{old} is there still");
        assert!(
            a.at(new).exists(),
            "{new} is not there: {:?}",
            places(a)
                .keys()
                .filter(|k| k.contains("moved"))
                .collect::<Vec<_>>()
        );
    }
    fs::remove_dir_all(at(b, "names/x.txt")).unwrap();
    fs::write(b.at("names/x.txt"), "a file again").unwrap();
    quiet(a, b, "a file again");
    assert_eq!(a.read("names/x.txt").unwrap(), b"a file again");

    // What this disk alone can name, and what has gone.
    let long = "\u{65e5}".repeat(200);
    if fs::write(b.at("names").join(&long), "long").is_ok() {
        quiet(a, b, "a long name");
        let at_a = snapshot(&a.at("names"));
        let long = at_a
            .values()
            .filter(|e| matches!(e, Entry::File { size: 4, .. }))
            .count();
        assert!(long > 0);
    }
    fs::remove_file(at(b, "names/con.txt")).unwrap();
    fs::remove_dir_all(at(b, "dirs/trail.")).unwrap();
    quiet(a, b, "removed");
    assert!(!a.at("names/con.txt").exists() && !a.at("dirs/trail.").exists());
    let _seen: Value = b.space();
}
