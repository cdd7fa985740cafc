//! Modes that forbid their owner something, sent to a device whose user has no powers of root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::device::Device;
use crate::world::{World, check, skip, until};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(device: &Device, name: &str) -> Option<u32> {
    let meta = fs::symlink_metadata(device.at(name)).ok()?;
    Some(meta.permissions().mode() & 0o7777)
}

/// Does something as root of the tester's files, as package managers and other users of root do.
fn as_root(line: &str) -> bool {
    let mut words = vec!["sh", "-ec", line];
    if !rustix::process::geteuid().is_root() {
        words.splice(0..0, ["unshare", "--user", "--map-root-user", "--"]);
    }
    Command::new(words[0])
        .args(&words[1..])
        .status()
        .is_ok_and(|s| s.success())
}

/// Waits until a file or directory is the same on both, its mode too.
#[track_caller]
fn same(a: &Device, b: &Device, name: &str) {
    until(&format!("{name} is the same on both"), || {
        let (x, y) = (a.at(name), b.at(name));
        let equal = mode(a, name) == mode(b, name)
            && as_root(&format!(
                "{{ [ ! -e {x:?} ] && [ ! -e {y:?} ]; }} || {{ [ -d {x:?} ] && [ -d {y:?} ]; }} || cmp -s {x:?} {y:?}"
            ));
        check(equal, (mode(a, name), mode(b, name), b.space()))
    });
}

/// Waits until the device shows a problem with something, or none.
#[track_caller]
fn problem(device: &Device, name: &str, is: bool) {
    until(&format!("a problem with {name} is shown: {is}"), || {
        let space = device.space();
        let problems = space["problems"].as_array().cloned().unwrap_or_default();
        let found = problems
            .iter()
            .any(|p| p["item"].as_str().is_some_and(|p| p == name));
        check(found == is, space)
    });
}

#[test]
fn modes_that_forbid_their_owner_something_stop_nothing() {
    if !as_root("true") {
        return skip("no user namespaces");
    }
    let world = World::loopback();
    let (mut laptop, mut desktop) = (world.device("laptop"), world.device("desktop"));
    laptop.powerful = true;
    desktop.powerless = true;
    laptop.init();
    laptop.let_in(&mut desktop);
    laptop.write("secret", "nobody may read it");
    chmod(&laptop.at("secret"), 0o000);
    for name in ["file", "other"] {
        laptop.write(&format!("mod/cache/{name}"), name);
        chmod(&laptop.at(&format!("mod/cache/{name}")), 0o444);
    }
    chmod(&laptop.at("mod/cache"), 0o555);
    laptop.write("closed/in", "in");
    laptop.write("closed/deep/in", "in");
    chmod(&laptop.at("closed"), 0o000);
    laptop.add();
    desktop.add();
    laptop.write("free", "free");
    for name in [
        "free",
        "secret",
        "mod/cache",
        "mod/cache/file",
        "mod/cache/other",
    ] {
        same(&laptop, &desktop, name);
    }
    // What is in a closed directory arrives too; that nobody looks after it there is shown.
    for name in ["closed", "closed/in", "closed/deep/in"] {
        same(&laptop, &desktop, name);
    }
    desktop.scan();
    problem(&desktop, "closed", true);

    // As `go mod` does, root or not: the directory is opened for a moment.
    let cache = laptop.at("mod/cache").display().to_string();
    assert!(as_root(&format!(
        "chmod u+w {cache}; rm -f {cache}/file {cache}/other; echo edited > {cache}/file; \
         echo new > {cache}/new; mkdir {cache}/sub; echo deep > {cache}/sub/deep; \
         chmod 444 {cache}/file; chmod 555 {cache}/sub {cache}"
    )));
    let secret = laptop.at("secret").display().to_string();
    assert!(as_root(&format!("echo other words > {secret}")));
    let closed = laptop.at("closed").display().to_string();
    assert!(as_root(&format!(
        "echo edited > {closed}/in; rm {closed}/deep/in"
    )));
    laptop.write("free", "once more");
    laptop.scan();
    for name in ["file", "other", "new", "sub", "sub/deep", ""] {
        same(
            &laptop,
            &desktop,
            format!("mod/cache/{name}").trim_end_matches('/'),
        );
    }
    for name in ["secret", "free", "closed", "closed/in", "closed/deep/in"] {
        same(&laptop, &desktop, name);
    }

    // The whole directory goes, and what is closed is opened again.
    assert!(as_root(&format!("rm -rf {cache}")));
    chmod(&laptop.at("closed"), 0o755);
    laptop.scan();
    for name in [
        "mod/cache",
        "closed",
        "closed/in",
        "closed/deep",
        "closed/deep/in",
    ] {
        same(&laptop, &desktop, name);
    }
    desktop.scan();
    problem(&desktop, "closed", false);
}
