//! The rules of the house. What ARCHITECTURE.md and CONTRIBUTING.md promise about the code is held
//! here: who may name which crate, where clocks are read, how long a file may be.
//!
//! An exception is a row in a table below, with its reason. A row that is not needed any more is a
//! failure too, so the tables stay true.

#[path = "tidy/security.rs"]
mod security;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// No file is longer, tests included. Look for the second noun at 400.
const LINES: usize = 600;

/// Crate, as named in code; what may name it. Test code is held to the same.
const ONLY: [(&str, &[&str]); 23] = [
    // The documents. Its errors, hashes and operations do not leave the file that wraps it; the
    // tests hold the wrapper against it.
    ("automerge", &["crdt/src/doc.rs", "crdt/tests/"]),
    // Its tests play the programs whose databases are synced.
    (
        "rusqlite",
        &[
            "node/src/db/",
            "node/tests/databases.rs",
            "cli/tests/e2e/databases.rs",
        ],
    ),
    ("libp2p", &["node/src/net/"]),
    ("libp2p_connection_limits", &["node/src/net/"]),
    ("mdns_sd", &["node/src/net/"]),
    (
        "notify",
        &["node/src/disk/watch.rs", "node/src/disk/watch/"],
    ),
    ("similar", &["node/src/past/diff.rs"]),
    ("clap", &["cli/src/"]),
    ("qrcode", &["cli/src/commands/pair/qr.rs"]),
    ("snow", &["crypto/src/"]),
    ("opaque_ke", &["crypto/src/pairing/pake.rs"]),
    ("sha2_010", &["crypto/src/pairing/pake.rs"]),
    ("ed25519_dalek", &["crypto/src/"]),
    ("x25519_dalek", &["crypto/src/"]),
    ("chacha20poly1305", &["crypto/src/"]),
    ("blake3", &["crypto/src/"]),
    ("hpke", &["crypto/src/"]),
    ("hkdf", &["crypto/src/"]),
    ("argon2", &["crypto/src/"]),
    ("bip39", &["crypto/src/"]),
    ("subtle", &["crypto/src/"]),
    // The guard computes the hash by which automerge will name a change, before automerge reads it.
    (
        "sha2",
        &["crypto/src/", "crdt/src/guard.rs", "crdt/tests/mutants.rs"],
    ),
    ("zstd", &["crdt/src/envelope.rs", "crdt/tests/travel.rs"]),
];

/// Pure crates: the same input gives the same answer, everywhere. Their tests may do as they like.
const PURE: [&str; 3] = ["crypto/src/", "crdt/src/", "tiering/src/"];
/// What a pure crate, or the engine, never says.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "thread::spawn",
    "Instant::now",
    "SystemTime::now",
    "getrandom::",
    "SysRng",
    "ThreadRng",
];
/// The engine decides; it waits for nobody. It names tokio for the channels its callers listen on.
const DECIDES: [&str; 1] = ["node/src/engine/"];

/// Files of the node and the command line that read a clock, and what for.
const CLOCKS: [(&str, &str); 20] = [
    ("node/src/node.rs", "the engine's time"),
    (
        "node/src/node/adding.rs",
        "how long a joining device waits for a tree",
    ),
    (
        "node/src/node/again.rs",
        "when a database is tried again that could not be written",
    ),
    ("node/src/node/paced.rs", "tests only"),
    ("node/src/node/folders.rs", "names in the trash"),
    ("node/src/node/local.rs", "age of a reader's connection"),
    (
        "node/src/disk/real.rs",
        "whether a file's mtime is too young to be believed",
    ),
    ("node/src/disk/watch.rs", "quiet time of the watcher"),
    ("node/src/net/driver/mod.rs", "the network's one timer"),
    ("node/src/net/driver/connections.rs", "probes and back-off"),
    ("node/src/net/driver/dials.rs", "back-off"),
    ("node/src/net/frame.rs", "a stalling peer"),
    ("node/src/net/gate.rs", "how often strangers may knock"),
    ("node/src/net/session.rs", "signs of life"),
    (
        "node/src/net/runtime_files.rs",
        "tests only: a file of long ago",
    ),
    ("node/src/net/dialing.rs", "tests only"),
    ("node/src/net/strangers.rs", "tests only"),
    ("node/src/net/trouble.rs", "tests only"),
    ("node/src/pair.rs", "how long joining may take"),
    ("cli/src/", "progress, and times as people read them"),
];

/// Package, and what it may depend on besides other people's crates.
const DIRECTION: [(&str, &[&str]); 5] = [
    ("crypto", &[]),
    ("crdt", &["crypto"]),
    ("tiering", &["crypto"]),
    ("node", &["crypto", "crdt", "tiering"]),
    ("cli", &["node", "crypto"]),
];

/// Dependency, and whose manifest may list it.
const LISTED: [(&str, &[&str]); 5] = [
    ("automerge", &["crdt"]),
    ("rusqlite", &["node", "cli"]),
    ("libp2p", &["node"]),
    ("mdns-sd", &["node"]),
    ("clap", &["cli"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_owned()
}

/// Every text file of the repository, by its path from the root.
fn files() -> BTreeMap<String, String> {
    let root = root();
    let mut out = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            // In a second work tree of git `.git` is a file, and names the first.
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let relative = path.strip_prefix(&root).expect("below the root");
            out.insert(relative.to_str().expect("a plain name").to_owned(), text);
        }
    }
    out
}

fn sources() -> BTreeMap<String, String> {
    let mut all = files();
    all.retain(|path, _| path.ends_with(".rs"));
    assert!(all.len() > 100, "the sources were not found");
    all
}

/// Lines without comments, numbered from 1. Strings stay: none says what is looked for by chance.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(n, line)| {
        let line = line.split("//").next().unwrap_or_default();
        (!line.trim().is_empty()).then_some((n + 1, line))
    })
}

/// Whether a line names a crate: `name::`, or `use name` and `extern crate name`.
fn names(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        if before.ends_with(word) || after.starts_with(word) {
            return false;
        }
        // `self::notify::` and `x.notify` are no crates.
        if before.ends_with("::") && !before.trim_end_matches("::").ends_with(|c: char| !word(c)) {
            return false;
        }
        let said = before.trim_end();
        after.starts_with("::") || said.ends_with("use") || said.ends_with("extern crate")
    })
}

fn within(path: &str, places: &[&str]) -> bool {
    places
        .iter()
        .any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
}

/// Fails with all findings at once.
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn only_its_wrapper_names_a_crate() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (n, line) in code(&text) {
            for (name, places) in ONLY {
                if path != "tests/tests/tidy.rs" && names(line, name) && !within(&path, places) {
                    found.push(format!(
                        "{path}:{n} names {name}; only {} may",
                        places.join(", ")
                    ));
                }
            }
        }
    }
    none("a crate is named outside of its place", &found);
}

#[test]
fn dependencies_point_downwards() {
    let mut found = Vec::new();
    for package in ["crypto", "crdt", "tiering", "node", "cli", "tests"] {
        let text = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("a manifest");
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim();
                continue;
            }
            let Some(name) = line.split(['.', ' ', '=']).next().filter(|n| !n.is_empty()) else {
                continue;
            };
            if !section.contains("dependencies") {
                continue;
            }
            for (listed, by) in LISTED {
                if name == listed && !by.contains(&package) {
                    found.push(format!("{package} depends on {name}"));
                }
            }
            let may = DIRECTION.iter().find(|d| d.0 == package);
            if let (Some(ours), Some((_, may)), "[dependencies]") =
                (name.strip_prefix("ownmesh-"), may, section)
                && !may.contains(&ours)
            {
                found.push(format!("{package} depends on {ours}"));
            }
            if !line.contains("workspace = true") {
                found.push(format!("{package}: {name} is not in the workspace's table"));
            }
        }
    }
    none("a dependency points the wrong way", &found);
}

#[test]
fn what_decides_is_pure() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let engine = within(&path, &DECIDES);
        if !engine && !within(&path, &PURE) {
            continue;
        }
        for (n, line) in code(&text) {
            for word in IMPURE {
                if line.contains(word) {
                    found.push(format!("{path}:{n} says {word}"));
                }
            }
            if names(line, "tokio") && !(engine && line.contains("tokio::sync")) {
                found.push(format!("{path}:{n} names tokio"));
            }
        }
    }
    none(
        "clock, disk, network, thread or chance in a pure place",
        &found,
    );
}

#[test]
fn clocks_are_read_in_few_places() {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (path, text) in sources() {
        if !path.starts_with("node/src/") && !path.starts_with("cli/src/") {
            continue;
        }
        if path.ends_with("tests.rs") || path.contains("/tests/") {
            continue;
        }
        for (n, line) in code(&text) {
            if !line.contains("Instant::now") && !line.contains("SystemTime::now") {
                continue;
            }
            match CLOCKS.iter().find(|(place, _)| within(&path, &[place])) {
                Some((place, _)) => drop(used.insert(*place)),
                None => found.push(format!("{path}:{n}")),
            }
        }
    }
    found.extend(
        CLOCKS
            .iter()
            .filter(|c| !used.contains(c.0))
            .map(|c| format!("{} does not", c.0)),
    );
    none("a clock is read where none is expected", &found);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES {
            found.push(format!("{path} has {lines} lines; at most {LINES}"));
        }
        if !text.starts_with("//!") {
            found.push(format!("{path} does not say what it is (`//!`)"));
        }
    }
    none("a file breaks the budget or has no head", &found);
}

#[test]
fn nothing_is_left_to_do_silently() {
    let unfinished = [concat!("to", "do!("), concat!("unimple", "mented!(")];
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (n, line) in code(&text) {
            if unfinished.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{n}"));
            }
        }
    }
    none("unfinished code", &found);
}

#[test]
fn nothing_names_a_machine_or_a_stranger() {
    // Split, so that this file does not find itself.
    let words = [
        (concat!("/wo", "rk/"), "a path of some machine"),
        (concat!("/ro", "ot/"), "a path of some machine"),
        (concat!("sha", "red/DES"), "a document that is not here"),
        (concat!("issues ", "show"), "a tool of some workplace"),
        (concat!("cargo install ", "mesh"), "a package of strangers"),
        (concat!("cargo add ", "mesh"), "a package of strangers"),
    ];
    let mut found = Vec::new();
    for (path, text) in files() {
        for (n, line) in text.lines().enumerate() {
            for (word, what) in words {
                if line.contains(word) {
                    found.push(format!("{path}:{} has {what}", n + 1));
                }
            }
        }
    }
    none("a word that does not belong here", &found);
}

#[test]
fn documents_that_are_mentioned_exist() {
    let files = files();
    let part = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    let mut found = Vec::new();
    for (path, text) in &files {
        if path == "Cargo.lock" {
            continue;
        }
        for (n, line) in text.lines().enumerate() {
            for word in line.split(|c| !part(c)) {
                let word = word.trim_end_matches('.');
                if word.starts_with("docs/") && word.ends_with(".md") && !files.contains_key(word) {
                    found.push(format!("{path}:{} mentions {word}", n + 1));
                }
            }
        }
    }
    none("a document that does not exist", &found);
}

#[test]
fn files_that_documents_name_exist() {
    let files = files();
    let crates = ["crypto/", "crdt/", "tiering/", "node/", "cli/", "tests/"];
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (n, line) in text.lines().enumerate() {
            for word in line.split('`').skip(1).step_by(2) {
                let named = word.split(':').next().unwrap_or_default();
                let is_path = crates.iter().any(|c| named.starts_with(c))
                    && (named.ends_with(".rs") || named.ends_with('/'))
                    && !named.contains(['{', '*', ' ', '<']);
                if is_path
                    && !files
                        .keys()
                        .any(|f| f == named || named.ends_with('/') && f.starts_with(named))
                {
                    found.push(format!("{path}:{} names {named}", n + 1));
                }
            }
        }
    }
    none("a file that does not exist", &found);
}

#[test]
fn the_rules_find_what_they_look_for() {
    assert!(names("use rusqlite::Connection;", "rusqlite"));
    assert!(names("    pub use clap;", "clap"));
    assert!(names("let x = blake3::hash(b\"\");", "blake3"));
    assert!(!names("let snowflake = 1;", "snow"));
    assert!(!names("self.notify.wake();", "notify"));
    assert!(!names("// nothing", "zstd"));
    assert_eq!(
        code("a // b\n// c\n\nd").collect::<Vec<_>>(),
        [(1, "a "), (4, "d")]
    );
}
