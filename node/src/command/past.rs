//! What can be asked about what was: trash, history, undo and the operation log.

use serde::{Deserialize, Serialize};

use crate::status::Time;

/// Something in the trash of a space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Names it: its name in `.mesh/trash`.
    pub item: String,
    /// The space.
    pub space: String,
    /// Where it stood, as far as is known.
    pub path: String,
    /// When it came here.
    pub at: Time,
    /// Why: `deleted`, `replaced`, or `set-aside` if nothing more is known.
    pub why: String,
    /// Whose change brought it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its bytes.
    pub size: u64,
}

/// `mesh trash restore`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// `SPACE:PATH`, a path on the disk, or [`TrashEntry::item`].
    pub item: String,
    /// Where to in the same space: `SPACE:PATH`, a path on the disk, or one from the space's root; where it stood if none is given.
    #[serde(default)]
    pub to: Option<String>,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RestoreReply {
    /// The space.
    pub space: String,
    /// Where it stands now.
    pub path: String,
}

/// `mesh trash empty`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyRequest {
    /// This space only.
    #[serde(default)]
    pub space: Option<String>,
    /// Only what came there before this.
    #[serde(default)]
    pub before: Option<Time>,
    /// Whether to do it; else it is only counted.
    #[serde(default)]
    pub confirm: bool,
}

/// What is, or would be, removed for good.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EmptyReply {
    /// Whether it was done.
    pub done: bool,
    /// How many.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One version of an item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Names it.
    pub version: String,
    /// The item; a path may have been that of several, one after the other.
    pub item: String,
    /// When, by the clock of the device that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Time>,
    /// Which device did it.
    pub device: String,
    /// What it did: `created`, `edited`, `renamed`, `deleted`, `restored`, `mode`, `touched`, `settled` (a conflict).
    pub what: Vec<String>,
    /// Where it stood then.
    pub path: String,
    /// Where it stood before, if it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its bytes, of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Unix mode bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether its bytes are `here`, in the `trash` here, or `elsewhere` if anywhere; `none`: it has none.
    pub content: String,
}

/// `mesh history`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HistoryReply {
    /// The space.
    pub space: String,
    /// The path asked for.
    pub path: String,
    /// Newest first.
    pub versions: Vec<Version>,
}

/// `mesh history --restore`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertRequest {
    /// `SPACE:PATH` or a path on the disk.
    pub path: String,
    /// [`Version::version`], or its beginning.
    pub version: String,
    /// Where to, as of a [`RestoreRequest`]; over the item itself if none is given.
    #[serde(default)]
    pub to: Option<String>,
}

/// `mesh undo`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// What this device did; every device if none is named.
    #[serde(default)]
    pub device: Option<String>,
    /// From when on, by the clocks of those who did it; the last hour if none is given.
    #[serde(default)]
    pub since: Option<Time>,
    /// Only this and what is below it: `SPACE:PATH`, a space, or a path on the disk.
    #[serde(default)]
    pub path: Option<String>,
    /// Whether to do it; else it is only shown.
    #[serde(default)]
    pub confirm: bool,
}

/// One item that is, or would be, made what it was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UndoItem {
    /// The space.
    pub space: String,
    /// Where it stands; where it stood, if it was deleted.
    pub path: String,
    /// What is done: `returned` (was deleted), `content`, `renamed`, `mode`, `touched`, `removed` (was made since).
    pub what: String,
    /// Where it will stand, if elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Bytes of the version that comes back.
    pub size: u64,
}

/// One item that is left as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UndoLeft {
    /// The space.
    pub space: String,
    /// Where it stands.
    pub path: String,
    /// Why, in words.
    pub why: String,
    /// Devices that may have what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_have: Vec<String>,
}

/// A space in which nothing is undone: it is paused, or its folder is not there.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UndoLeftOut {
    /// The space.
    pub space: String,
    /// Why, in words.
    pub why: String,
    /// What to do about it; empty if nothing is known.
    pub next: String,
}

/// What is, or would be, undone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UndoReply {
    /// Whether it was done.
    pub done: bool,
    /// From when on.
    pub since: Time,
    /// What is made what it was.
    pub items: Vec<UndoItem>,
    /// What stays as it is, since others changed it later or it cannot be told what it was.
    pub left: Vec<UndoLeft>,
    /// What stays as it is since its bytes are not here. Before it is done: what is asked for on other devices.
    pub missing: Vec<UndoLeft>,
    /// Spaces that were left out.
    #[serde(default)]
    pub left_out: Vec<UndoLeftOut>,
}

/// `mesh log`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogQuery {
    /// About this device only.
    pub device: Option<String>,
    /// Of this kind only.
    pub kind: Option<String>,
    /// From then on.
    pub since: Option<Time>,
}

/// One entry of the operation log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its number.
    pub seq: u64,
    /// When, by this device's clock.
    pub at: Time,
    /// What kind of thing happened.
    pub kind: String,
    /// The other device it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The space it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// In words.
    pub message: String,
}

/// `mesh log verify`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LogVerified {
    /// Whether every entry is as it was written.
    pub whole: bool,
    /// The first entry that is kept.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The first entry that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}
