//! What a folder holds, to compare: contents, modes, times of files, targets of links. mesh's own directory is left out.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Below this size a difference shows the contents, bytes.
const SHOWN: u64 = 80;

/// The entries of a folder by their paths.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Entry>);

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Dir {
        mode: u32,
    },
    File {
        size: u64,
        hash: u64,
        mode: u32,
        mtime: i128,
        start: String,
    },
    Link {
        target: PathBuf,
    },
    Other,
}

impl Tree {
    pub(crate) fn of(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.take(root, "");
        tree
    }

    /// What lies in a directory may go away while it is looked at; then it is not there.
    fn take(&mut self, dir: &Path, prefix: &str) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if prefix.is_empty() && name == ".mesh" {
                continue;
            }
            let (path, key) = (entry.path(), format!("{prefix}{name}"));
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            let mode = meta.mode() & 0o7777;
            let found = if meta.is_dir() {
                self.take(&path, &format!("{key}/"));
                Entry::Dir { mode }
            } else if meta.is_symlink() {
                Entry::Link {
                    target: fs::read_link(&path).unwrap_or_default(),
                }
            } else if meta.is_file() {
                let Some((size, hash, start)) = digest(&path) else {
                    continue;
                };
                let mtime =
                    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
                Entry::File {
                    size,
                    hash,
                    mode,
                    mtime,
                    start,
                }
            } else {
                Entry::Other
            };
            self.0.insert(key, found);
        }
    }

    pub(crate) fn files(&self) -> usize {
        self.0
            .values()
            .filter(|e| matches!(e, Entry::File { .. }))
            .count()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The first differences, in words.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing = keys
            .into_iter()
            .filter(|k| self.0.get(*k) != other.0.get(*k));
        differing
            .take(10)
            .map(|k| format!("{k}: {:?} | {:?}", self.0.get(k), other.0.get(k)))
            .collect()
    }
}

/// Size, hash and, if small, the content of a file.
pub(crate) fn digest(path: &Path) -> Option<(u64, u64, String)> {
    let mut file = fs::File::open(path).ok()?;
    let (mut size, mut hasher, mut start) = (0, DefaultHasher::new(), String::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = file.read(&mut buffer).ok()?;
        if len == 0 {
            break;
        }
        // Byte by byte hashing of a slice includes its length: fill the buffer first so that pieces are the same everywhere.
        let mut filled = len;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]).ok()? {
                0 => break,
                more => filled += more,
            }
        }
        if size == 0 && (filled as u64) < SHOWN {
            start = String::from_utf8_lossy(&buffer[..filled]).into_owned();
        }
        buffer[..filled].hash(&mut hasher);
        size += filled as u64;
    }
    Some((size, hasher.finish(), start))
}
