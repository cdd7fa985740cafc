//! Which directories changed, as the system tells it: a hint for [`scan`](super::scan), never a truth.
//!
//! The dangers guarded against are a change that nobody hears of, and a scan that wakes itself.
//! Against the first: a new directory is reported *after* its watch stands, so that what was created
//! in it before is found by the scan; and whatever the system could not tell is said as
//! [`Notice::Everything`]. Against the second: opening and reading are no changes, and `.mesh` is
//! not watched. Nor is what the rules ignore: a build that writes a million files costs nothing here.
//!
//! Against a change that is not heard of for long: what a watcher could not watch is told to whoever
//! started it, who scans more often then.
//!
//! The real clock is used here only: a notice comes [`DEBOUNCE`] after the first event of a burst.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{
    Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
};

use super::rules::Rules;
use super::{PRIVATE, RelPath, names};

/// How long a burst is gathered: long enough for an editor's save, short beside the 100 ms of W5.
pub const DEBOUNCE: Duration = Duration::from_millis(20);

/// Events kept while watches are being added; more of them are said as "everything".
const QUEUE: usize = 8_192;

/// Longest path that systems take as a whole, bytes.
const LONGEST: usize = 4_096;

/// More directories than this are reported as everything: one walk is cheaper.
const MANY: usize = 4_096;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The listing of these directories, or something in them; parents before children.
    Dirs(Vec<RelPath>),
    /// It is not known what.
    Everything(Reason),
}

/// Why it is not known what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// More happened at once than the system or the queue keeps.
    Overflow,
    /// The system allows no more watches: changes in some directories are found by scans only.
    WatchLimit,
    /// Some directories lie so deep that the system cannot watch them.
    TooDeep,
    /// The system reported an error.
    Failed,
}

impl Reason {
    /// Whether later changes go unseen too, and until the folder is watched anew.
    #[must_use]
    pub fn lasts(self) -> bool {
        self != Self::Overflow
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Overflow => "too many changes at once",
            Self::WatchLimit if cfg!(target_os = "linux") => {
                "the system allows no more watches; raise the limit with: \
                 sudo sysctl fs.inotify.max_user_watches=1048576"
            }
            Self::WatchLimit => "the system allows no more watches",
            Self::TooDeep => "some directories lie deeper than the system can watch; move them up",
            Self::Failed => "the system's watcher failed",
        })
    }
}

/// Watching is not possible.
#[derive(Debug, thiserror::Error)]
#[error("the folder cannot be watched: {}", why(.0))]
pub struct WatchError(#[from] notify::Error);

/// The same in words, with what can be done about it.
fn why(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Reason::WatchLimit.to_string(),
        ErrorKind::Io(e) if cfg!(target_os = "linux") && e.raw_os_error() == Some(EMFILE) => {
            "the system allows no more watchers; raise the limit with: \
             sudo sysctl fs.inotify.max_user_instances=1024"
                .into()
        }
        _ => error.to_string(),
    }
}

/// What Linux says when a user has as many watchers as are allowed.
const EMFILE: i32 = 24;

/// Watches one folder until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    inbox: SyncSender<Message>,
    thread: Option<JoinHandle<()>>,
    lacking: Option<Reason>,
}

#[derive(Debug)]
enum Message {
    Event(Event),
    Failed(ErrorKind),
    Stop,
}

impl Watcher {
    /// Watches all directories below `root` that `rules` do not ignore, then returns: a full scan after
    /// it misses nothing. Other rules need another watcher.
    ///
    /// `notice` is called on the watcher's thread; what comes meanwhile is gathered.
    pub fn start(
        root: impl Into<PathBuf>,
        rules: Arc<Rules>,
        notice: impl Fn(Notice) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let root: PathBuf = root.into();
        let root = root.canonicalize().map_err(notify::Error::io)?;
        let (inbox, messages) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicBool::new(false));
        let handler = {
            let (inbox, lost) = (inbox.clone(), Arc::clone(&lost));
            // Never waits: the thread behind the queue waits for this one when it adds a watch.
            move |event: notify::Result<Event>| {
                let message = match event {
                    Ok(event) if is_change(&event) => Message::Event(event),
                    Ok(_) => return,
                    Err(error) => Message::Failed(error.kind),
                };
                if inbox.try_send(message).is_err() {
                    lost.store(true, Ordering::SeqCst);
                }
            }
        };
        let watcher =
            RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false))?;
        let mut gather = Gather {
            root,
            rules,
            watcher,
            watched: BTreeSet::new(),
            changed: BTreeSet::new(),
            everything: None,
            renew: false,
        };
        gather.watch_root()?;
        let lacking = gather.everything.take();
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || gather.run(&messages, &lost, &notice))
            .map_err(notify::Error::io)?;
        Ok(Self {
            inbox,
            thread: Some(thread),
            lacking,
        })
    }

    /// Why not all directories were watched from the start; nothing if they were.
    #[must_use]
    pub fn lacking(&self) -> Option<Reason> {
        self.lacking
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Fails only if the thread is gone already.
        let _ = self.inbox.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether an event says that something was written, made, named or removed.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The thread's state.
struct Gather {
    root: PathBuf,
    rules: Arc<Rules>,
    watcher: RecommendedWatcher,
    /// Directories with a watch of their own, where the system wants one for each.
    watched: BTreeSet<RelPath>,
    changed: BTreeSet<RelPath>,
    everything: Option<Reason>,
    /// A directory went away with its watches, which now report under a wrong name.
    renew: bool,
}

/// Whether the system watches single directories (inotify, kqueue) or whole trees.
const ONE_BY_ONE: bool = !cfg!(any(target_os = "macos", windows));

impl Gather {
    fn watch_root(&mut self) -> notify::Result<()> {
        if !ONE_BY_ONE {
            return self.watcher.watch(&self.root, RecursiveMode::Recursive);
        }
        self.watcher
            .watch(&self.root, RecursiveMode::NonRecursive)?;
        self.watch_tree(RelPath::ROOT);
        self.changed.clear();
        Ok(())
    }

    fn run(mut self, messages: &Receiver<Message>, lost: &AtomicBool, notice: &impl Fn(Notice)) {
        loop {
            let Ok(mut message) = messages.recv() else {
                return;
            };
            let until = Instant::now() + DEBOUNCE;
            loop {
                match message {
                    Message::Event(event) => self.take(&event),
                    Message::Failed(ErrorKind::MaxFilesWatch) => self.unknown(Reason::WatchLimit),
                    Message::Failed(_) => self.unknown(Reason::Failed),
                    Message::Stop => return,
                }
                message =
                    match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    };
            }
            if lost.swap(false, Ordering::SeqCst) {
                self.unknown(Reason::Overflow);
                self.renew = true;
            }
            self.report(notice);
            if std::mem::take(&mut self.renew) && ONE_BY_ONE {
                // Only directories that had no watch are reported once more.
                self.watch_tree(RelPath::ROOT);
                self.report(notice);
            }
        }
    }

    fn report(&mut self, notice: &impl Fn(Notice)) {
        let dirs = std::mem::take(&mut self.changed);
        match self.everything.take() {
            Some(reason) => notice(Notice::Everything(reason)),
            None if dirs.is_empty() => {}
            None if dirs.len() > MANY => notice(Notice::Everything(Reason::Overflow)),
            None => notice(Notice::Dirs(dirs.into_iter().collect())),
        }
    }

    fn unknown(&mut self, reason: Reason) {
        // The limit is what a person can do something about.
        if self.everything != Some(Reason::WatchLimit) {
            self.everything = Some(reason);
        }
    }

    fn take(&mut self, event: &Event) {
        if event.need_rescan() {
            self.unknown(Reason::Overflow);
            self.renew = true;
        }
        for full in &event.paths {
            let Some(path) = self.relative(full) else {
                continue;
            };
            if path.components().next() == Some(PRIVATE) || self.ignored(&path) {
                continue;
            }
            self.changed.insert(path.parent().unwrap_or_default());
            if path.is_root() {
                continue;
            }
            match event.kind {
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                    self.left(&path);
                }
                EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                    self.watch_if_dir(full, path);
                }
                _ => {}
            }
        }
    }

    /// Whether a path is ignored, whatever stands there.
    fn ignored(&self, path: &RelPath) -> bool {
        self.rules.ignores(path, false) && self.rules.ignores(path, true)
    }

    fn watch_if_dir(&mut self, full: &Path, path: RelPath) {
        if full.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            self.watch_tree(path);
        }
    }

    /// The path below the root, or the directory above the first name that is none.
    fn relative(&self, full: &Path) -> Option<RelPath> {
        let mut path = RelPath::ROOT;
        for part in full.strip_prefix(&self.root).ok()? {
            match names::from_os(part).map(|name| path.join(&name)) {
                Some(Ok(longer)) => path = longer,
                // Its parent's listing is what changed; one component more than that stands for it.
                _ => return Some(path.with("_")),
            }
        }
        Some(path)
    }

    fn left(&mut self, path: &RelPath) {
        let below: Vec<RelPath> = self
            .watched
            .iter()
            .filter(|dir| dir.starts_with(path))
            .cloned()
            .collect();
        for dir in below {
            // A removed directory has lost its watch by itself.
            let _ = self.watcher.unwatch(&self.full(&dir));
            self.watched.remove(&dir);
            // The watch may just have been made again under the new name, by the same number.
            self.renew = true;
        }
    }

    /// Watches a directory and all below it, and reports those that had no watch, after it stands.
    fn watch_tree(&mut self, dir: RelPath) {
        if !ONE_BY_ONE {
            self.changed.insert(dir);
            return;
        }
        let mut todo = vec![dir];
        while let Some(dir) = todo.pop() {
            if self.rules.ignores(&dir, true) {
                continue;
            }
            let full = self.full(&dir);
            match self.watcher.watch(&full, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                Err(notify::Error {
                    kind: ErrorKind::MaxFilesWatch,
                    ..
                }) => {
                    self.unknown(Reason::WatchLimit);
                    return;
                }
                Err(_) if full.as_os_str().len() >= LONGEST => {
                    self.unknown(Reason::TooDeep);
                    continue;
                }
                // Gone again, or unreadable: its parent is reported and a scan tells.
                Err(_) => continue,
            }
            if let Ok(entries) = std::fs::read_dir(&full) {
                for entry in entries.flatten() {
                    if let (Ok(kind), Some(name)) =
                        (entry.file_type(), names::from_os(&entry.file_name()))
                        && kind.is_dir()
                        && !(dir.is_root() && name == PRIVATE)
                        && let Ok(below) = dir.join(&name)
                    {
                        todo.push(below);
                    }
                }
            }
            if self.watched.insert(dir.clone()) {
                self.changed.insert(dir);
            }
        }
    }

    fn full(&self, path: &RelPath) -> PathBuf {
        let mut full = self.root.clone();
        full.extend(path.components().map(names::to_os));
        full
    }
}

#[cfg(test)]
mod tests;
