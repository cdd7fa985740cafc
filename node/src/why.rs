//! Everything the node knows about one path, as `mesh why` and the API say it.
//!
//! What is on the disk is looked at outside of the engine ([`look`]); what it means is the engine's to say.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::status::{ConflictInfo, Problem, Time};

/// How it stands with a path, for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyState {
    /// In no space of this device.
    Outside,
    /// Mesh's own, below `.mesh`; never travels.
    Private,
    /// Neither on the disk nor known to the mesh.
    #[default]
    Unknown,
    /// On the disk, and of a kind that does not travel: a socket, a device, a pipe.
    OddKind,
    /// An ignore rule keeps it out.
    Ignored,
    /// The space is paused.
    Paused,
    /// The space is stopped and asks.
    Stopped,
    /// It cannot be taken in, or written; the problem says why.
    Problem,
    /// On the disk, and not taken in yet.
    New,
    /// Changed on the disk since it was last taken in.
    Changed,
    /// The mesh has something else than the disk, which is on its way.
    Waiting,
    /// Deleted in the mesh.
    Deleted,
    /// It has versions that nobody chose between.
    Conflict,
    /// Disk and mesh agree.
    InSync,
}

/// What is on the disk.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OnDisk {
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: String,
    /// Its size.
    pub size: u64,
    /// When it was last modified.
    pub mtime: Option<Time>,
}

/// How far another device is with it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WhyDevice {
    /// Its name.
    pub device: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it has confirmed the newest change that is known here; none: that cannot be said.
    pub confirmed: Option<bool>,
    /// When it last said how it stands.
    pub heard: Option<Time>,
    /// The same in words.
    pub words: String,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Why {
    /// The path asked about, as far as it is known: absolute, or below the space's root.
    pub path: String,
    /// The space it is in.
    pub space: Option<String>,
    /// The item's id in hex, if the mesh knows one.
    pub item: Option<String>,
    /// In one word.
    pub state: WhyState,
    /// What is on the disk, if something is.
    pub on_disk: Option<OnDisk>,
    /// The device that made the newest version.
    pub changed_by: Option<String>,
    /// The devices it is waited for: any of them would do.
    pub waits_for: Vec<String>,
    /// The other devices that take part.
    pub devices: Vec<WhyDevice>,
    /// Its conflict.
    pub conflict: Option<ConflictInfo>,
    /// What stands in the way.
    pub problem: Option<Problem>,
    /// All of it in sentences, the most important first.
    pub words: Vec<String>,
    /// What happens next.
    pub next: String,
}

/// Looks at what is on the disk, following no link at its end.
#[must_use]
pub fn look(path: &Path) -> Option<OnDisk> {
    let meta = path.symlink_metadata().ok()?;
    let kind = match meta.file_type() {
        kind if kind.is_file() => "file",
        kind if kind.is_dir() => "directory",
        kind if kind.is_symlink() => "symlink",
        _ => "other",
    };
    let since = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).ok();
    let mtime = meta.modified().ok().and_then(since);
    let nanos = mtime.and_then(|t| i128::try_from(t.as_nanos()).ok());
    Some(OnDisk {
        kind: kind.into(),
        size: if kind == "file" { meta.len() } else { 0 },
        mtime: nanos.map(Time::from_nanos),
    })
}
