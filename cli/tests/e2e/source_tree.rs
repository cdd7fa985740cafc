//! Show 2: two machines on a wire, no address typed: pairing by ticket, a real source tree, then every kind of change on both sides.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::device::Device;
use crate::world::{World, check, full, settle, until};

/// How much of the sources the default test takes: files, bytes.
const PART: (usize, u64) = (3_000, 60 << 20);

#[test]
fn a_source_tree_syncs_between_machines_that_find_each_other() {
    let Some(world) = World::lan() else { return };
    let (mut laptop, mut desktop) = world.joined(|laptop| {
        let files = copy_sources(&laptop.at(""));
        assert!(
            files > 200,
            "only {files} files of sources were found to sync"
        );
    });
    let before = laptop.tree();
    assert!(before.files() > 200, "{} files", before.files());

    // Nobody is where they were: what the ticket and the nodes remember leads nowhere, mDNS has to find.
    let lan = laptop.side.clone().unwrap().0;
    for device in [&mut laptop, &mut desktop] {
        device.down();
    }
    lan.renumber("10.78.0");
    for device in [&mut laptop, &mut desktop] {
        device.up();
    }
    until("they find each other again", || {
        let peer = laptop.json(&["status"])["peers"][0].clone();
        check(peer["connected"] == true && peer["route"] == "lan", peer)
    });

    // The watchers have to see these: nobody asks for a scan.
    change(&laptop, "laptop");
    until("the laptop's changes arrive on the desktop", || {
        same(&laptop, &desktop)
    });
    change(&desktop, "desktop");
    until("the desktop's changes arrive on the laptop", || {
        same(&laptop, &desktop)
    });
    settle(&laptop, &desktop, "after changes on both sides");
    let after = laptop.tree();
    assert_ne!(before, after, "the changes are gone");
    for name in ["laptop", "desktop"] {
        for made in ["new/deep/down/file", "link", "moved-dir", "script", "empty"] {
            let key = format!("{name}-{made}");
            assert!(after.0.contains_key(&key), "{key} is not there");
        }
        assert!(
            !after.0.contains_key(&format!("{name}-gone")),
            "what was deleted is back"
        );
    }
    assert!(
        laptop.conflicts().is_empty(),
        "conflicts: {:?}",
        laptop.conflicts()
    );
}

fn same(a: &Device, b: &Device) -> Result<(), Vec<String>> {
    let differences = a.tree().differences(&b.tree());
    check(differences.is_empty(), differences)
}

/// Edits, renames of files and directories, deletes, modes, links; other files on each side.
fn change(device: &Device, name: &str) {
    let root = device.at("");
    let tree = device.tree();
    let files: Vec<PathBuf> = tree
        .names()
        .iter()
        .map(|n| root.join(n))
        .filter(|p| p.is_file() && !p.is_symlink())
        .collect();
    let pick = |part: usize| files[(files.len() / 7 * part + name.len()) % files.len()].clone();
    let put = |suffix: &str| root.join(format!("{name}-{suffix}"));

    fs::write(pick(0), format!("edited on the {name}")).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(pick(1))
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"appended"))
        .unwrap();
    fs::rename(pick(2), put("moved-file")).unwrap();
    fs::remove_file(pick(3)).unwrap();
    let mut mode = fs::metadata(pick(4)).unwrap().permissions();
    mode.set_mode(0o751);
    fs::set_permissions(pick(4), mode).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    fs::File::options()
        .write(true)
        .open(pick(5))
        .and_then(|f| f.set_modified(then))
        .unwrap();

    fs::create_dir_all(put("new/deep/down")).unwrap();
    fs::write(put("new/deep/down/file"), name).unwrap();
    fs::write(put("empty"), "").unwrap();
    fs::write(put("script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(put("script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("somewhere/else", put("link")).unwrap();
    let dir = fs::read_dir(&root)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| is_crate(p))
        .unwrap();
    fs::rename(dir, put("moved-dir")).unwrap();
    let gone = fs::read_dir(&root)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|p| is_crate(p))
        .unwrap();
    fs::rename(&gone, put("gone")).unwrap();
    fs::remove_dir_all(put("gone")).unwrap();
}

fn is_crate(path: &Path) -> bool {
    path.join("Cargo.toml").exists()
        && path.join("src").exists()
        && !path.to_string_lossy().contains("-moved-")
}

/// Copies unpacked sources of the lock file's crates; returns how many files.
fn copy_sources(into: &Path) -> usize {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")).unwrap();
    let packages: Vec<String> = lock
        .split("[[package]]")
        .filter_map(|p| Some(format!("{}-{}", field(p, "name")?, field(p, "version")?)))
        .collect();
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = cargo.and_then(|c| fs::read_dir(c.join("registry/src")).ok());
    let roots: Vec<PathBuf> = registries
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .collect();
    let (mut files, mut bytes) = (0, 0);
    for package in packages {
        let Some(from) = roots.iter().map(|r| r.join(&package)).find(|p| p.is_dir()) else {
            continue;
        };
        let size = weigh(&from);
        // A few giants would use up the default test's bytes.
        if !full() && (files + size.0 > PART.0 || bytes + size.1 > PART.1 || size.0 > PART.0 / 4) {
            continue;
        }
        copy(&from, &into.join(&package));
        (files, bytes) = (files + size.0, bytes + size.1);
    }
    eprintln!("{files} files, {bytes} bytes of sources");
    files
}

fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
    let line = package
        .lines()
        .find(|l| l.starts_with(&format!("{name} = ")))?;
    line.split('"').nth(1)
}

fn weigh(dir: &Path) -> (usize, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let more = if meta.is_dir() {
            weigh(&entry.path())
        } else {
            (1, meta.len())
        };
        sum = (sum.0 + more.0, sum.1 + more.1);
    }
    sum
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            copy(&from, &to);
        } else if meta.is_file() {
            fs::copy(&from, &to).unwrap();
            fs::File::options()
                .write(true)
                .open(&to)
                .and_then(|f| f.set_modified(meta.modified()?))
                .unwrap();
        }
    }
}
