//! What was replaced or deleted, kept in `.mesh/trash` on the same filesystem.
//!
//! A name there is `<unix seconds>-<8 hex of the item's id>[+<16 hex of the content>]-<original name, cut
//! to 100 bytes>`, so that a person finds a file by looking, and mesh by its content ([`super::kept`]). The danger this guards against is a mistake of mesh or of
//! another device: what came here last of each file stays for [`KEEP`]. The other danger is a file
//! that changes all day, each version of it a whole copy: of the versions before the last, fewer are
//! kept the older they are ([`expired`]), as Syncthing's staggered versions do.

use std::collections::BTreeMap;
use std::io;

use ownmesh_crypto::ids::{ContentHash, ItemId};

use super::{Disk, Meta, RelPath, TRASH, private};

/// The first bytes of a content's hash.
pub type Front = [u8; 8];

/// Bytes kept of the original name; leaves room for the rest below the usual limit of 255.
const KEPT: usize = 100;

/// How long the last version of a file is kept, s.
pub const KEEP: u64 = 30 * DAY;
const DAY: u64 = 86_400;

/// Of versions up to so old, s, one is kept in so many seconds.
const STAGES: [(u64, u64); 4] = [(600, 1), (3_600, 600), (DAY, 3_600), (KEEP, DAY)];

/// How often a name is tried again with a number behind it.
const TRIES: u32 = 10_000;

/// Something in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// Its name in `.mesh/trash`.
    pub name: String,
    /// When it came there, in seconds since 1970.
    pub at: u64,
    /// The first 8 hex digits of the item's id.
    pub id: String,
    /// The first bytes of the hash of its content, if it was known. Only a hint: anybody may write here.
    pub content: Option<Front>,
    /// The original name, or the front of it.
    pub original: String,
    /// What it is.
    pub meta: Meta,
}

/// The name in the trash of something that was called `original`.
pub fn name(unix_secs: u64, id: &ItemId, original: &str) -> String {
    let id = id.to_string();
    let original = &original[..original.floor_char_boundary(KEPT)];
    format!("{unix_secs}-{}-{original}", &id[..8])
}

/// The same of something whose content is known.
pub fn name_of(
    unix_secs: u64,
    id: &ItemId,
    content: Option<&ContentHash>,
    original: &str,
) -> String {
    let plain = name(unix_secs, id, original);
    let at = unix_secs.to_string().len() + 9;
    match content {
        Some(hash) => format!(
            "{}+{}{}",
            &plain[..at],
            &hash.to_string()[..16],
            &plain[at..]
        ),
        None => plain,
    }
}

/// The beginning of a hash as it stands in names.
pub fn front(hash: &ContentHash) -> Front {
    let mut front = Front::default();
    front.copy_from_slice(&hash.as_bytes()[..8]);
    front
}

/// Moves something of `.mesh/tmp` or `.mesh/parked` into the trash, under a free name.
///
/// Returns: where it is now.
pub fn put(disk: &dyn Disk, from: &RelPath, name: &str) -> io::Result<RelPath> {
    let trash = private(TRASH);
    for n in 0..TRIES {
        let to = match n {
            0 => trash.join(name),
            n => trash.join(&format!("{name}~{n}")),
        }
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        match disk.rename_new(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done.map(|()| to),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What is in the trash, oldest first. Names that this file did not make are left out.
pub fn list(disk: &dyn Disk) -> io::Result<Vec<Trashed>> {
    let mut all: Vec<Trashed> = disk
        .list(&private(TRASH))?
        .into_iter()
        .filter_map(|entry| parse(&entry.name.ok()?, entry.meta))
        .collect();
    all.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
    Ok(all)
}

/// Takes something out of the trash; fails with `AlreadyExists` if anything stands at `to`.
///
/// The next scan finds a new file there.
pub fn restore(disk: &dyn Disk, name: &str, to: &RelPath) -> io::Result<()> {
    let from = private(TRASH)
        .join(name)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    disk.rename_new(&from, to)?;
    disk.sync_dir(&to.parent().unwrap_or_default())?;
    disk.sync_dir(&private(TRASH))
}

/// Names in the trash that have been kept long enough. Pure; `all` as [`list`] gives it.
pub fn expired(all: &[Trashed], now: u64) -> Vec<&str> {
    let mut out = Vec::new();
    let of = |one: &'_ Trashed| (one.id.clone(), one.original.clone());
    let newest: BTreeMap<_, usize> = all.iter().enumerate().map(|(n, t)| (of(t), n)).collect();
    // The last span of which a version was kept, of each file. The first of a span stays: it is what
    // stood before whatever was done to the file then, and what `undo` asks for.
    let mut kept: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for (n, one) in all.iter().enumerate() {
        // A clock that was set back makes nothing old.
        let age = now.saturating_sub(one.at);
        let Some((_, every)) = STAGES.iter().find(|(until, _)| age < *until) else {
            out.push(one.name.as_str());
            continue;
        };
        let span = (*every, one.at / every);
        let of = of(one);
        if *every > 1 && kept.get(&of) == Some(&span) && newest.get(&of) != Some(&n) {
            out.push(one.name.as_str());
        }
        kept.insert(of, span);
    }
    out
}

/// Removes what [`expired`] names. What cannot be removed now is tried again next time.
pub fn sweep(disk: &dyn Disk, now: u64) -> io::Result<usize> {
    let all = list(disk)?;
    let gone = expired(&all, now);
    for name in &gone {
        let path = private(TRASH)
            .join(name)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        if let Err(error) = disk.remove(&path) {
            tracing::debug!(%path, %error, "it stays in the trash");
        }
    }
    Ok(gone.len())
}

fn parse(name: &str, meta: Meta) -> Option<Trashed> {
    let (at, rest) = name.split_once('-')?;
    let (id, original) = rest.split_once('-')?;
    let (id, content) = id.split_once('+').map_or((id, None), |(a, b)| (a, Some(b)));
    if id.len() != 8 {
        return None;
    }
    let content = content.map(|hex| u64::from_str_radix(hex, 16).map(u64::to_be_bytes));
    Some(Trashed {
        name: name.to_owned(),
        at: at.parse().ok()?,
        id: id.to_owned(),
        content: content.transpose().ok().flatten(),
        original: original.to_owned(),
        meta,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let id = ItemId::from_bytes([0xab; 16]);
        let name = name(12, &id, &"ä".repeat(80));
        assert_eq!(name, format!("12-abababab-{}", "ä".repeat(50)));
        assert_eq!(super::name(1, &id, "a-b"), "1-abababab-a-b");
    }

    #[test]
    fn a_known_content_stands_in_the_name() {
        let id = ItemId::from_bytes([0xab; 16]);
        let hash = ContentHash::from_bytes([0x1c; 32]);
        let name = name_of(12, &id, Some(&hash), "a-b");
        assert_eq!(name, "12-abababab+1c1c1c1c1c1c1c1c-a-b");
        let found = parse(&name, trashed(1, 1).meta).expect("a name of ours");
        assert_eq!(
            (found.at, found.id.as_str(), found.original.as_str()),
            (12, "abababab", "a-b")
        );
        assert_eq!(found.content, Some(front(&hash)));
        assert_eq!(trashed(1, 1).content, None);
    }

    fn trashed(id: u8, at: u64) -> Trashed {
        let name = name(at, &ItemId::from_bytes([id; 16]), "f");
        let meta = Meta {
            kind: crate::disk::MetaKind::File,
            size: 1,
            mode: 0o600,
            mtime_ns: 0,
            ctime_ns: 0,
            ino: 1,
            nlink: 1,
            dev: 1,
        };
        parse(&name, meta).expect("a name of ours")
    }

    #[test]
    fn fewer_versions_are_kept_the_older_they_are() {
        let now = 1_000 * DAY;
        // A version each minute for forty days.
        let all: Vec<Trashed> = (0..40 * 1_440)
            .map(|n| trashed(1, now - (40 * 1_440 - n) * 60))
            .collect();
        let gone: BTreeSet<&str> = expired(&all, now).into_iter().collect();
        let left: Vec<u64> = all
            .iter()
            .filter(|t| !gone.contains(t.name.as_str()))
            .map(|t| now - t.at)
            .collect();
        let within = |from: u64, to: u64| left.iter().filter(|a| (from..to).contains(*a)).count();
        assert_eq!(within(0, 600), 9);
        assert!((5..=6).contains(&within(600, 3_600)));
        assert!((23..=24).contains(&within(3_600, DAY)));
        assert!((29..=30).contains(&within(DAY, KEEP)));
        assert_eq!(within(KEEP, u64::MAX), 0);
        // What is left stays so until it is older.
        let rest: Vec<Trashed> = all
            .iter()
            .filter(|t| !gone.contains(t.name.as_str()))
            .cloned()
            .collect();
        assert_eq!(expired(&rest, now), Vec::<&str>::new());
    }

    #[test]
    fn what_stood_before_a_burst_stays() {
        let now = 1_000 * DAY;
        let at = now - 1_200;
        let all: Vec<Trashed> = (0..5).map(|n| trashed(1, at + n * 60)).collect();
        let gone = expired(&all, now);
        let names: Vec<&str> = all.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(gone, names[1..4], "the first and the last stay");
    }

    #[test]
    fn what_was_deleted_once_stays_thirty_days() {
        let all = [trashed(1, 100), trashed(2, 100), trashed(3, 101)];
        assert_eq!(expired(&all, 100 + KEEP - 1), Vec::<&str>::new());
        assert_eq!(expired(&all, 100 + KEEP).len(), 2);
        assert_eq!(expired(&all, 0), Vec::<&str>::new(), "a clock set back");
    }
}
