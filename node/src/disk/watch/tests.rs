//! The system's own watcher; every test waits for what it expects, and only then goes on.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Notice, Watcher};
use crate::disk::RelPath;
use crate::disk::rules::{Rules, Texts};

/// Longer than any notice takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    dir: TempDir,
    notices: Receiver<Notice>,
    _watcher: Watcher,
}

fn watched(dirs: &[&str]) -> Watched {
    watched_under(dirs, Arc::default())
}

fn watched_under(dirs: &[&str], rules: Arc<Rules>) -> Watched {
    let dir = tempfile::tempdir().unwrap();
    for at in dirs {
        fs::create_dir_all(dir.path().join(at)).unwrap();
    }
    let (send, notices) = channel();
    let watcher = Watcher::start(dir.path(), rules, move |notice| {
        send.send(notice).unwrap_or_default();
    })
    .unwrap();
    Watched {
        dir,
        notices,
        _watcher: watcher,
    }
}

impl Watched {
    /// Waits until all of these were reported.
    fn expect(&self, dirs: &[&str]) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let until = Instant::now() + PATIENCE;
        while !dirs.iter().all(|dir| seen.contains(*dir)) {
            let left = until.saturating_duration_since(Instant::now());
            match self.notices.recv_timeout(left) {
                Ok(Notice::Dirs(dirs)) => {
                    seen.extend(dirs.iter().map(|dir: &RelPath| dir.as_str().to_owned()));
                }
                Ok(Notice::Everything(reason)) => panic!("{reason}"),
                Err(_) => panic!("only {seen:?} of {dirs:?}"),
            }
        }
        seen
    }

    fn write(&self, at: &str) {
        fs::write(self.dir.path().join(at), at).unwrap();
    }
}

#[test]
fn one_edit_is_reported_quickly_and_alone() {
    let w = watched(&["d/e", ".mesh/tmp"]);
    // Busy machines are slow at times; the fastest of a few is what the code makes of it.
    let mut best = PATIENCE;
    for n in 0..10 {
        let start = Instant::now();
        w.write(&format!("d/e/f{n}"));
        let seen = w.expect(&["d/e"]);
        best = best.min(start.elapsed());
        assert_eq!(seen, BTreeSet::from(["d/e".to_owned()]));
    }
    assert!(
        best < super::DEBOUNCE + Duration::from_millis(15),
        "{best:?}"
    );
}

#[test]
fn mesh_does_not_wake_itself() {
    let w = watched(&["d", ".mesh/tmp"]);
    w.write("d/a");
    w.expect(&["d"]);
    w.write(".mesh/tmp/x");
    fs::read(w.dir.path().join("d/a")).unwrap();
    fs::read_dir(w.dir.path().join("d")).unwrap().count();
    w.write("last");
    assert_eq!(w.expect(&[""]), BTreeSet::from([String::new()]));
}

#[test]
fn a_new_tree_is_watched_and_nothing_in_it_missed() {
    let w = watched(&[]);
    fs::create_dir_all(w.dir.path().join("n/o/p")).unwrap();
    w.write("n/o/p/at-once");
    w.expect(&["", "n", "n/o", "n/o/p"]);
    w.write("n/o/p/later");
    w.expect(&["n/o/p"]);
}

#[test]
fn a_moved_directory_reports_under_its_new_name() {
    let w = watched(&["a/b", "t"]);
    fs::rename(w.dir.path().join("a"), w.dir.path().join("t/c")).unwrap();
    w.expect(&["", "t", "t/c", "t/c/b"]);
    w.write("t/c/b/f");
    assert!(!w.expect(&["t/c/b"]).iter().any(|dir| dir.starts_with('a')));
    // Its old name, made anew, is another directory.
    fs::create_dir(w.dir.path().join("a")).unwrap();
    w.expect(&["", "a"]);
    w.write("a/f");
    w.expect(&["a"]);
    w.write("t/c/b/g");
    w.expect(&["t/c/b"]);
}

#[test]
fn removals_and_modes_are_reported() {
    let w = watched(&["d"]);
    w.write("d/f");
    w.expect(&["d"]);
    fs::remove_file(w.dir.path().join("d/f")).unwrap();
    w.expect(&["d"]);
    fs::remove_dir(w.dir.path().join("d")).unwrap();
    w.expect(&[""]);
}

#[test]
fn more_than_the_queue_holds_is_everything_or_complete() {
    let w = watched(&["d"]);
    for n in 0..10_000 {
        w.write(&format!("d/{n}"));
    }
    // Either way the caller looks into d once more.
    match w.notices.recv_timeout(PATIENCE).unwrap() {
        Notice::Dirs(dirs) => assert_eq!(dirs[0].as_str(), "d"),
        Notice::Everything(_) => {}
    }
}

#[test]
fn what_is_ignored_costs_nothing() {
    let texts = Texts {
        shared: "out/\n*.tmp\n".to_owned(),
        ..Texts::default()
    };
    let rules = Arc::new(Rules::parse(texts).unwrap());
    let w = watched_under(&["out/deep", "d"], rules);
    w.write("out/a");
    w.write("out/deep/b");
    w.write("d/x.tmp");
    w.write("last");
    assert_eq!(w.expect(&[""]), BTreeSet::from([String::new()]));
}
