//! What was replaced or deleted, kept in `.mesh/trash` on the same filesystem.
//!
//! A name there is `<unix seconds>-<8 hex of the item's id>-<original name, cut to 100 bytes>`, so
//! that a person finds a file by looking. The danger this guards against is a mistake of mesh or of
//! another device: until a later version purges by age, nothing that came here disappears.

use std::io;

use ownmesh_crypto::ids::ItemId;

use super::{Disk, Meta, RelPath, TRASH, private};

/// Bytes kept of the original name; leaves room for the rest below the usual limit of 255.
const KEPT: usize = 100;

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

fn parse(name: &str, meta: Meta) -> Option<Trashed> {
    let (at, rest) = name.split_once('-')?;
    let (id, original) = rest.split_once('-')?;
    if id.len() != 8 {
        return None;
    }
    Some(Trashed {
        name: name.to_owned(),
        at: at.parse().ok()?,
        id: id.to_owned(),
        original: original.to_owned(),
        meta,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let id = ItemId::from_bytes([0xab; 16]);
        let name = name(12, &id, &"ä".repeat(80));
        assert_eq!(name, format!("12-abababab-{}", "ä".repeat(50)));
        assert_eq!(super::name(1, &id, "a-b"), "1-abababab-a-b");
    }
}
