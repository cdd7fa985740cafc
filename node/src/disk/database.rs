//! SQLite databases in the user's folder: which files they are, and what belongs to them.
//!
//! A database that a program has open is several files. What was committed last stands in `-wal`, what a
//! transaction replaced in `-journal`; the file alone may be old or torn. So these never travel as files
//! of their own, and what tells whether a database has changed is the file's stat with that of its log
//! mixed into the ctime ([`Beside::mix`]): a write that only touches the log is a difference from base,
//! and no step takes such a database for what base says.
//!
//! `snapshot` makes its content for the mesh; docs/design/0010-sqlite-snapshots.md says why.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{Disk, Listed, Meta, MetaKind, ReadAt, RelPath};

/// How every database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// How a journal begins that SQLite would play back; zeros stand there otherwise.
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// How a write-ahead log begins, but for the last bit.
const WAL: [u8; 4] = [0x37, 0x7f, 0x06, 0x82];
/// The version in the first bytes of a log's index, in the machine's own order.
const SHM: u32 = 3_007_000;

/// Endings of the files beside a database.
pub const ENDINGS: [&str; 3] = ["-wal", "-journal", "-shm"];

/// A database's smallest page; the file is a multiple of it.
const PAGE: u64 = 512;

/// Whether the file at a path begins as a database does.
pub fn is_database(disk: &dyn Disk, path: &RelPath, meta: &Meta) -> io::Result<bool> {
    Ok(may_be(meta) && header_of(&*disk.open(path)?, meta)?.is_some())
}

/// The first bytes of a database; none of any other file. `meta` spares most files the look.
pub(super) fn header_of(file: &dyn ReadAt, meta: &Meta) -> io::Result<Option<[u8; 20]>> {
    if !may_be(meta) {
        return Ok(None);
    }
    let found = first(file)?;
    Ok(found.filter(|bytes: &[u8; 20]| bytes.starts_with(MAGIC)))
}

fn may_be(meta: &Meta) -> bool {
    meta.kind == MetaKind::File && meta.size > 0 && meta.size.is_multiple_of(PAGE)
}

/// Whether a header says that changes go to a write-ahead log.
pub(super) fn is_wal_mode(header: &[u8; 20]) -> bool {
    header[18] == 2
}

fn first<const N: usize>(file: &dyn ReadAt) -> io::Result<Option<[u8; N]>> {
    let (mut bytes, mut len) = ([0; N], 0);
    while len < N {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 => return Ok(None),
            got => len += got,
        }
    }
    Ok(Some(bytes))
}

/// The path of a file beside a database.
pub fn beside(path: &RelPath, ending: &str) -> Option<RelPath> {
    let dir = path.parent()?;
    Some(dir.with(&format!("{}{ending}", path.name()?)))
}

/// What holds a part of a database's content beside its file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// A write-ahead log with something in it.
    pub wal: Option<Meta>,
    /// A journal that SQLite would play back, or a transaction under way.
    pub journal: Option<Meta>,
}

impl Beside {
    /// Looks at what stands beside a database.
    pub fn of(disk: &dyn Disk, path: &RelPath) -> io::Result<Self> {
        let look = |ending| {
            let Some(at) = beside(path, ending) else {
                return Ok::<_, io::Error>(None);
            };
            let found = match disk.meta(&at) {
                // Through a directory that may not be searched no program has it open either.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                found => found?.filter(filled),
            };
            Ok(found.map(|mut meta| {
                // For the superuser SQLite sets the owner of what it opens, to what it is: no change.
                meta.ctime_ns = meta.mtime_ns;
                (at, meta)
            }))
        };
        let journal = match look("-journal")? {
            Some((at, meta)) if begins(disk, &at, &JOURNAL)? => Some(meta),
            _ => None,
        };
        Ok(Self {
            wal: look("-wal")?.map(|(_, meta)| meta),
            journal,
        })
    }

    /// Whether the file alone is not all of the database.
    pub fn is_live(&self) -> bool {
        self.wal.is_some() || self.journal.is_some()
    }

    /// The database's own stat with this in its ctime: a number that changes with each of them.
    #[must_use]
    pub fn mix(&self, mut meta: Meta) -> Meta {
        let log = self.wal.iter().map(|meta| (1, meta));
        for (which, one) in log.chain(self.journal.iter().map(|meta| (2, meta))) {
            for part in [
                which,
                one.size,
                one.mtime_ns.cast_unsigned(),
                one.ctime_ns.cast_unsigned(),
                one.ino,
            ] {
                let sum =
                    (meta.ctime_ns.cast_unsigned() ^ part).wrapping_mul(0x0000_0100_0000_01b3);
                meta.ctime_ns = sum.rotate_left(29).cast_signed();
            }
        }
        meta
    }

    /// All times at which anything of the database was written.
    pub(super) fn metas(&self) -> impl Iterator<Item = &Meta> {
        self.wal.iter().chain(&self.journal)
    }
}

fn filled(meta: &Meta) -> bool {
    meta.kind == MetaKind::File && meta.size > 0
}

fn begins(disk: &dyn Disk, path: &RelPath, with: &[u8; 8]) -> io::Result<bool> {
    match disk.open(path) {
        Ok(file) => Ok(first::<8>(&*file)?.as_ref() == Some(with)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// The stat of what stands at a path as base keeps it: of a live database the mixed one.
pub fn look(disk: &dyn Disk, path: &RelPath, meta: Meta) -> io::Result<Meta> {
    if !may_be(&meta) {
        return Ok(meta);
    }
    let beside = Beside::of(disk, path)?;
    if beside.is_live() && is_database(disk, path, &meta).unwrap_or(true) {
        return Ok(beside.mix(meta));
    }
    Ok(meta)
}

/// Takes out of a listing what belongs to databases, whose stats are the mixed ones then.
///
/// Returns: the names taken out. A name that only ends so is taken out if its database stands beside it,
/// or if it is what its ending says: of use to nobody, and dangerous to a database that comes there.
pub fn fold(disk: &dyn Disk, dir: &RelPath, listing: &mut Vec<Listed>) -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    let candidates: Vec<(String, &str)> = listing
        .iter()
        .filter(|entry| entry.meta.kind == MetaKind::File)
        .filter_map(|entry| entry.name.as_ref().ok())
        .filter_map(|name| {
            let ending = ENDINGS.into_iter().find(|ending| name.ends_with(ending))?;
            Some((name.clone(), ending))
        })
        .collect();
    if candidates.is_empty() {
        return ours;
    }
    let files: BTreeMap<&str, usize> = listing
        .iter()
        .enumerate()
        .filter_map(|(n, entry)| Some((entry.name.as_deref().ok()?, n)))
        .collect();
    let mut live = BTreeSet::new();
    for (name, ending) in &candidates {
        let main = &name[..name.len() - ending.len()];
        let at = files.get(main).map(|n| (*n, listing[*n].meta));
        // What cannot be read now is no database today.
        if let Some((n, meta)) = at
            && is_database(disk, &dir.with(main), &meta).unwrap_or(false)
        {
            live.insert(n);
            ours.insert(name.clone());
        } else if is_what_it_ends_in(disk, &dir.with(name), ending, at.map(|(_, meta)| meta)) {
            ours.insert(name.clone());
        }
    }
    for n in live {
        if let Ok(name) = &listing[n].name
            && let Ok(beside) = Beside::of(disk, &dir.with(name))
        {
            listing[n].meta = beside.mix(listing[n].meta);
        }
    }
    listing.retain(|entry| {
        entry
            .name
            .as_ref()
            .map_or(true, |name| !ours.contains(name))
    });
    ours
}

/// Whether a file without a database is one's log or journal. While a database is being made its file is
/// empty, and so may be the journal, or its header be zeros still.
fn is_what_it_ends_in(disk: &dyn Disk, path: &RelPath, ending: &str, main: Option<Meta>) -> bool {
    let being_made = main.is_some_and(|meta| meta.kind == MetaKind::File && meta.size == 0);
    let Ok(file) = disk.open(path) else {
        return false;
    };
    let Ok(Some(bytes)) = first::<8>(&*file) else {
        return being_made && file.meta().is_ok_and(|meta| meta.size == 0);
    };
    let [a, b, c, d, ..] = bytes;
    match ending {
        "-wal" => [a, b, c, d & 0xfe] == WAL,
        "-shm" => u32::from_ne_bytes([a, b, c, d]) == SHM,
        _ => bytes == JOURNAL || being_made && bytes == [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_database_shows_in_its_stat() {
        let meta = |size, mtime_ns| Meta {
            kind: MetaKind::File,
            size,
            mtime_ns,
            ctime_ns: mtime_ns,
            ino: 1,
            dev: 1,
            mode: 0o644,
            nlink: 1,
        };
        let main = meta(512, 1_000);
        let with = |wal, journal| Beside { wal, journal }.mix(main);
        assert_eq!(
            with(None, None),
            main,
            "nothing beside it, nothing mixed in"
        );
        let all = [
            with(Some(meta(32, 1_000)), None),
            with(Some(meta(64, 1_000)), None),
            with(Some(meta(32, 1_001)), None),
            with(None, Some(meta(32, 1_001))),
            main,
        ];
        let stamps: BTreeSet<i64> = all.iter().map(|meta| meta.ctime_ns).collect();
        assert_eq!(stamps.len(), all.len());
        assert!(all.iter().all(|meta| meta.mtime_ns == main.mtime_ns));
    }
}
