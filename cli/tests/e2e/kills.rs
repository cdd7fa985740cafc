//! Show 5, first half: kill -9 of either side in every phase of a sync.
//!
//! The laptop's user works on; after each kill the same work goes on where it was. A thread reads every file that appears on the desktop:
//! whatever it sees under a name must be a content that somebody wrote, whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::tree::{Entry, Tree, digest};
use crate::world::{Dice, World, full, settle};

/// What goes on when the kill comes. The moment within it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    FirstScan,
    Batches,
    Fetch,
    Placing,
    Deletes,
    Rename,
}

pub(crate) const PHASES: [Phase; 6] = [
    Phase::FirstScan,
    Phase::Batches,
    Phase::Fetch,
    Phase::Placing,
    Phase::Deletes,
    Phase::Rename,
];

/// The user of the laptop, who knows what was ever written.
pub(crate) struct User {
    dice: Dice,
    files: BTreeSet<String>,
    written: Arc<Mutex<BTreeSet<(u64, u64)>>>,
    dirs: u64,
    made: u64,
}

impl User {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            files: BTreeSet::new(),
            written: Arc::default(),
            dirs: 0,
            made: 0,
        }
    }

    /// Makes files, none of them empty, each with a content of its own.
    pub(crate) fn fill(&mut self, root: &Path, count: usize) {
        self.dirs += 1;
        let dir = format!("dir-{}", self.dirs);
        for _ in 0..count {
            self.made += 1;
            let name = format!("{dir}/{}/file-{}", self.made % 20, self.made);
            self.put(root, &name);
            self.files.insert(name);
        }
    }

    fn put(&mut self, root: &Path, name: &str) {
        let len = match self.dice.below(50) {
            0 => 300_000,
            n => 10 + usize::try_from(n).unwrap() * 120,
        };
        let content = self.dice.bytes(len);
        // Outside the folder first, so that its hash is known before anybody can see it.
        let aside = root.parent().unwrap().join("aside");
        fs::write(&aside, content).unwrap();
        let (size, hash, _) = digest(&aside).unwrap();
        self.written.lock().unwrap().insert((size, hash));
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::rename(&aside, root.join(name)).unwrap();
    }

    fn some(&mut self, count: usize) -> Vec<String> {
        let all: Vec<&String> = self.files.iter().collect();
        let from = self.dice.below(all.len() as u64 / 2);
        let from = usize::try_from(from).unwrap();
        all[from..]
            .iter()
            .take(count)
            .map(|n| (*n).clone())
            .collect()
    }

    pub(crate) fn edit(&mut self, root: &Path, count: usize) {
        for name in self.some(count) {
            self.put(root, &name);
        }
    }

    pub(crate) fn delete(&mut self, root: &Path, count: usize) {
        for name in self.some(count) {
            fs::remove_file(root.join(&name)).unwrap();
            self.files.remove(&name);
        }
    }

    pub(crate) fn rename_dir(&mut self, root: &Path) {
        self.dirs += 1;
        let to = format!("dir-{}", self.dirs);
        let from = self
            .files
            .first()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        fs::rename(root.join(&from), root.join(&to)).unwrap();
        let moved = |name: &String| match name.strip_prefix(&format!("{from}/")) {
            Some(rest) => format!("{to}/{rest}"),
            None => name.clone(),
        };
        self.files = self.files.iter().map(moved).collect();
    }

    /// What begins the phase.
    pub(crate) fn act(&mut self, phase: Phase, root: &Path, unit: usize) {
        match phase {
            Phase::FirstScan | Phase::Fetch => self.fill(root, unit),
            Phase::Batches | Phase::Placing => self.edit(root, unit),
            Phase::Deletes => self.delete(root, unit / 4),
            Phase::Rename => self.rename_dir(root),
        }
    }

    /// After a power loss that took some of the user's own unsynced work: the folder is what it is now, and what the disk held then is
    /// as good as written.
    pub(crate) fn remember(&mut self, now: &Tree, then: &Tree) {
        let file = |(name, entry): (&String, &Entry)| match entry {
            Entry::File { size, hash, .. } => Some((name.clone(), (*size, *hash))),
            Entry::Dir { .. } | Entry::Link { .. } | Entry::Other => None,
        };
        self.files = now.0.iter().filter_map(file).map(|f| f.0).collect();
        self.written
            .lock()
            .unwrap()
            .extend(then.0.iter().filter_map(file).map(|f| f.1));
    }

    /// The folder must hold exactly the user's files.
    #[track_caller]
    pub(crate) fn check(&self, device: &Device, what: &str) {
        let tree = device.tree();
        let found: BTreeSet<String> = tree
            .names()
            .into_iter()
            .filter(|n| device.at(n).is_file())
            .map(str::to_owned)
            .collect();
        let lost: Vec<_> = self.files.difference(&found).take(5).collect();
        let more: Vec<_> = found.difference(&self.files).take(5).collect();
        assert!(
            lost.is_empty() && more.is_empty(),
            "{what}: {} lacks {lost:?} and has besides {more:?}",
            device.name
        );
        let written = self.written.lock().unwrap();
        for name in &found {
            let (size, hash, _) = digest(&device.at(name)).unwrap();
            assert!(
                written.contains(&(size, hash)),
                "{what}: {name} on {} holds {size} bytes nobody wrote",
                device.name
            );
        }
        assert_eq!(
            device.conflicts(),
            Vec::<serde_json::Value>::new(),
            "{what}"
        );
        let staged = device.staged();
        assert!(
            staged.is_empty(),
            "{what}: left over below .mesh/tmp of {}: {staged:?}",
            device.name
        );
    }
}

/// Reads whatever appears in a folder until it is dropped.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<(u64, Vec<String>)>>,
}

impl Watch {
    fn new(root: PathBuf, written: Arc<Mutex<BTreeSet<(u64, u64)>>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut seen, mut torn) = (0, Vec::new());
            let mut known = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                watch(&root, &written, &mut known, &mut seen, &mut torn);
                std::thread::sleep(Duration::from_millis(20));
            }
            (seen, torn)
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// How many files were read, and what was seen that nobody wrote.
    fn end(mut self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn watch(
    dir: &Path,
    written: &Mutex<BTreeSet<(u64, u64)>>,
    known: &mut BTreeSet<(u64, i64)>,
    seen: &mut u64,
    torn: &mut Vec<String>,
) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            if entry.file_name() != ".mesh" {
                watch(&path, written, known, seen, torn);
            }
        } else if known.insert((meta.ino(), meta.ctime_nsec())) {
            let Some((size, hash, _)) = digest(&path) else {
                continue;
            };
            *seen += 1;
            if !written.lock().unwrap().contains(&(size, hash)) {
                torn.push(format!("{} with {size} bytes", path.display()));
            }
        }
    }
}

/// Waits until the phase shows on the desktop, or a moment if it has come and gone, and then a drawn moment more.
pub(crate) fn moment(phase: Phase, desktop: &Device, dice: &mut Dice, before: &BTreeSet<String>) {
    let begun = Instant::now();
    let root = desktop.at("");
    let shows = || match phase {
        Phase::FirstScan | Phase::Batches => true,
        Phase::Fetch => !desktop.staged().is_empty(),
        Phase::Placing => {
            begun.elapsed() > Duration::from_millis(30) && !desktop.staged().is_empty()
        }
        Phase::Deletes => before.iter().any(|n| !root.join(n).exists()),
        Phase::Rename => !before.first().is_some_and(|n| root.join(n).exists()),
    };
    while !shows() && begun.elapsed() < Duration::from_millis(1_500) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(dice.below(match phase {
        Phase::FirstScan | Phase::Batches => 250,
        Phase::Fetch | Phase::Placing => 50,
        Phase::Deletes | Phase::Rename => 15,
    })));
}

#[test]
fn kill_minus_nine_in_every_phase_on_either_side() {
    let (rounds, files) = if full() { (100, 20_000) } else { (12, 2_000) };
    let seed = 5;
    let world = World::loopback();
    let (mut laptop, mut desktop) = world.pair();
    let (mut user, mut dice) = (User::new(seed), Dice::new(seed + 1));
    let root = laptop.at("");
    user.fill(&root, files / 2);
    laptop.add();
    desktop.add();
    let watch = Watch::new(desktop.at(""), user.written.clone());
    for round in 0..rounds {
        let phase = PHASES[round % PHASES.len()];
        if round > 0 {
            let before = user.files.clone();
            user.act(phase, &root, files / 12);
            moment(phase, &desktop, &mut dice, &before);
        } else {
            moment(phase, &desktop, &mut dice, &BTreeSet::new());
        }
        let killed = if (round / PHASES.len()).is_multiple_of(2) {
            &mut desktop
        } else {
            &mut laptop
        };
        let name = killed.name;
        killed.kill();
        killed.up();
        if round % 7 == 6 || round + 1 == rounds {
            let what = format!("seed {seed}, round {round}: {phase:?}, {name} killed");
            settle(&laptop, &desktop, &what);
            user.check(&laptop, &what);
            user.check(&desktop, &what);
        }
    }
    let (seen, torn) = watch.end();
    eprintln!("{rounds} kills; {seen} files were read as they appeared");
    assert!(
        torn.is_empty(),
        "seen under their names: {:?}",
        &torn[..torn.len().min(5)]
    );
    assert!(seen > 500, "the watcher only saw {seen} files");
}

/// What a killed device had placed and not yet written down is its own doing: if it is deleted elsewhere meanwhile, it does not come back.
#[test]
fn what_was_deleted_while_its_receiver_was_dead_stays_deleted() {
    let world = World::loopback();
    let (laptop, mut desktop) = world.joined(|laptop| laptop.write("keep", "keep"));
    let (mut user, mut dice, root) = (User::new(9), Dice::new(9), laptop.at(""));
    for round in 0..6 {
        let phase = [Phase::Fetch, Phase::Placing][round % 2];
        if round % 2 == 0 {
            user.fill(&root, 600);
        } else {
            let count = user.files.len();
            user.edit(&root, count);
        }
        moment(phase, &desktop, &mut dice, &BTreeSet::new());
        desktop.kill();
        if round % 2 == 1 {
            fs::remove_dir_all(root.join(format!("dir-{}", user.dirs))).unwrap();
            user.files.clear();
            laptop.scan();
        }
        desktop.up();
        if round % 2 == 1 {
            // Most of the folder was deleted: that is asked about, and answered.
            let begun = Instant::now();
            while desktop.tree().files() > 1 && begun.elapsed() < Duration::from_secs(20) {
                desktop.mesh(&["continue", "docs", "--yes"]);
                std::thread::sleep(Duration::from_millis(100));
            }
            settle(&laptop, &desktop, "deleted while the receiver was dead");
            let left = laptop.tree();
            let left: Vec<_> = left
                .names()
                .into_iter()
                .filter(|n| laptop.at(n).is_file())
                .take(5)
                .collect();
            assert_eq!(left, ["keep"], "round {round}: deleted files came back");
        }
    }
}
