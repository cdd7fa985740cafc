//! What the node says about itself: the values behind `mesh status`, `devices`, `spaces`, `ls` and `conflicts`.
//!
//! These structs are a promise: scripts and benchmarks read the fields by name. Fields may be added, none changes its meaning.
//! They are made from the engine's own types and are never stored; nothing here says more than the engine knows.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::LimitsNow;

/// The version in every object the node answers with.
pub const VERSION: u32 = 1;

/// A moment as scripts see it: RFC 3339, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Takes milliseconds since 1970; what lies outside jiff's range is moved to its edge.
    pub fn from_millis(millis: i64) -> Self {
        let edge = if millis < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        Self(jiff::Timestamp::from_millisecond(millis).unwrap_or(edge))
    }

    /// Takes nanoseconds since 1970, as file times are kept.
    pub fn from_nanos(nanos: i128) -> Self {
        let edge = if nanos < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        Self(jiff::Timestamp::from_nanosecond(nanos).unwrap_or(edge))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// As people here read it: the time of day, with the date if it is another day than `now`.
    pub fn local(self, now: Time) -> String {
        let here = |time: Time| time.0.to_zoned(jiff::tz::TimeZone::system());
        let (at, now) = (here(self), here(now));
        let format = if at.date() == now.date() {
            "%H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        at.strftime(format).to_string()
    }

    /// Whole seconds from this moment to `later`; 0 if `later` lies before it.
    pub fn seconds_until(self, later: Time) -> u64 {
        u64::try_from(later.0.as_second().saturating_sub(self.0.as_second())).unwrap_or(0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// `mesh status --json`: this device, the others, the spaces taken part in.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub v: u32,
    /// This device.
    pub device: ThisDevice,
    /// The mesh it belongs to.
    pub mesh: MeshInfo,
    /// Whether a password has to be given before the node can work.
    pub locked: bool,
    /// The other devices, with the road to each.
    pub peers: Vec<Peer>,
    /// The spaces this device takes part in.
    pub spaces: Vec<SpaceStatus>,
    /// The bucket; none is known yet in this version.
    pub bucket: Option<BucketStatus>,
    /// The relays the mesh uses.
    pub relays: Vec<RelayStatus>,
    /// What went wrong in the last hour outside any space.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// How fast this device may be; none: as fast as it goes.
    #[serde(default)]
    pub limits: Option<LimitsNow>,
    /// Where the API answers, when that is not `HOME/api.sock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
}

/// This device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ThisDevice {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version of the program that answers.
    pub version: String,
}

/// The mesh.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MeshInfo {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How many devices it has, this one counted.
    pub devices: u64,
}

/// The road on which another device is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// The same local network.
    Lan,
    /// A known address beyond it.
    Direct,
    /// A hole punched through both sides' routers.
    Punched,
    /// A live circuit through a relay.
    Relay,
    /// A relay's mailbox: never online together.
    Mailbox,
    /// The bucket.
    Bucket,
    /// None at the moment.
    #[default]
    None,
}

/// Another device and the road to it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it answers at the moment.
    pub connected: bool,
    /// The road used.
    pub route: Route,
    /// Why this road and no better one, or why none.
    pub why: String,
    /// When it was last heard of; never, if it was not.
    pub last_seen: Option<Time>,
    /// Whether this device does not talk to it, because its user said so.
    #[serde(default)]
    pub blocked: bool,
}

/// What a space does at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceState {
    /// Nothing known is left to do.
    #[default]
    Idle,
    /// The disk is being looked at.
    Scanning,
    /// Changes are on their way.
    Syncing,
    /// The user told it to wait.
    Paused,
    /// A guard stopped it; it asks.
    Stopped,
    /// It cannot go on by itself.
    Error,
}

/// How this device takes part in one space, and what is missing where.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Its name.
    pub name: String,
    /// Where it lies on this disk.
    pub path: String,
    /// `full`, `on-demand`, `send-only` or `receive-only`.
    pub mode: String,
    /// What it does at the moment.
    pub state: SpaceState,
    /// Until when it is paused; none if it is not, or until it is told to go on.
    #[serde(default)]
    pub paused_until: Option<Time>,
    /// The connected devices whose users paused it there.
    #[serde(default)]
    pub paused_by: Vec<String>,
    /// By the name of a connected device: the guard that stopped it there (`deletions`, `folder`, `joining`,
    /// `other`), which waits for an answer of its user.
    #[serde(default)]
    pub stopped_on: BTreeMap<String, String>,
    /// By the name of a connected device: how many items its own ignore rules keep out there.
    #[serde(default)]
    pub kept_out_on: BTreeMap<String, u64>,
    /// Live items: files, directories and symlinks.
    pub items: u64,
    /// Live files.
    pub files: u64,
    /// The size of the live files together.
    pub bytes: u64,
    /// Items of the mesh that are not on this disk yet.
    pub missing_items: u64,
    /// Their size.
    pub missing_bytes: u64,
    /// Open conflicts.
    pub conflicts: u64,
    /// Items whose only verified copy is known to be here.
    pub only_here_items: u64,
    /// By the name of a device: how many items it has not confirmed.
    pub unconfirmed: BTreeMap<String, u64>,
    /// What stands in the way of single items, or of the whole space.
    pub problems: Vec<Problem>,
}

/// Something that needs a look.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// The path of the item it is about; the space itself if empty.
    pub item: Option<String>,
    /// A stable word for scripts.
    pub kind: String,
    /// A sentence for people.
    pub reason: String,
    /// Since when.
    pub since: Option<Time>,
}

/// An item with a version that no device has, as all of them said.
pub const NOWHERE: &str = "nowhere";
/// A file, directory or symlink that is called otherwise on this disk.
pub const LOCAL_NAME: &str = "local-name";
/// An item that does not keep its name, since another one has it.
pub const NAME_CLASH: &str = "name-clash";
/// A symlink on a disk that holds none.
pub const NO_LINKS: &str = "no-symlinks";
/// A content that no file of this disk can hold.
pub const TOO_LARGE: &str = "too-large";
/// A FIFO, socket or device.
pub const SPECIAL: &str = "special";

impl Problem {
    /// Whether it is only to be known: nothing is missing or at risk, and nothing waits for it.
    #[must_use]
    pub fn is_notice(&self) -> bool {
        [LOCAL_NAME, NAME_CLASH, NO_LINKS, SPECIAL].contains(&self.kind.as_str())
    }
}

/// The bucket's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BucketStatus {
    /// Its address, without credentials.
    pub url: String,
    /// What it does.
    pub state: String,
    /// Packs that wait to go up.
    pub queued_packs: u64,
    /// Their size.
    pub queued_bytes: u64,
    /// When it last answered.
    pub last_ok: Option<Time>,
    /// What it last complained about.
    pub last_error: Option<String>,
}

/// A relay's state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: String,
    /// What waits there for this mesh.
    pub mailbox_bytes: u64,
}

/// One line of `mesh devices`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Its id in hex.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its operating system, as it said when it joined.
    pub platform: String,
    /// The version it last said it runs.
    pub version: Option<String>,
    /// Whether it is the one that answers.
    pub this_device: bool,
    /// Whether it answers at the moment.
    pub connected: bool,
    /// The road used.
    pub route: Route,
    /// When it was last heard of.
    pub last_seen: Option<Time>,
    /// The name of the device that let it in; none for the first one.
    pub added_by: Option<String>,
    /// Whether it may let others in.
    pub may_add: bool,
    /// Whether this device does not talk to it, because its user said so.
    #[serde(default)]
    pub blocked: bool,
}

/// One line of `mesh spaces`: every space of the mesh, joined here or not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpaceInfo {
    /// Its name.
    pub name: String,
    /// Whether this device takes part.
    pub joined: bool,
    /// Where it lies on this disk.
    pub path: Option<String>,
    /// How this device takes part.
    pub mode: Option<String>,
    /// What it does at the moment, where this device takes part.
    pub state: Option<SpaceState>,
    /// Live items, where this device takes part.
    pub items: u64,
    /// Live files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// The names of the devices known to take part.
    pub devices: Vec<String>,
}

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A file with content.
    #[default]
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// Where an item's content is, seen from this device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Residency {
    /// On this disk.
    Local,
    /// In the cache: readable, may go at any time.
    Cached,
    /// Not here.
    #[default]
    Remote,
}

/// One line of `mesh ls`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ItemInfo {
    /// Its id in hex.
    pub item: String,
    /// Its path below the space's root.
    pub path: String,
    /// What it is.
    pub kind: ItemKind,
    /// Its size; 0 for directories and symlinks.
    pub size: u64,
    /// Unix permission bits.
    pub mode: Option<u32>,
    /// When its content was last modified.
    pub mtime: Option<Time>,
    /// Where a symlink points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `hot`, `warm` or `cold`.
    pub tier: String,
    /// Where its content is.
    pub residency: Residency,
    /// Whether it has an open conflict.
    pub conflict: bool,
    /// Whether a rule ignores it on this device: what stands here is neither sent nor replaced.
    #[serde(default)]
    pub ignored: bool,
    /// What it is called on this device's disk, where that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_name: Option<String>,
}

/// An open conflict: one item, two or more contents that nobody chose between.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConflictInfo {
    /// The item's id in hex; `mesh conflicts resolve` takes it, or `SPACE:PATH`.
    pub item: String,
    /// The space it lies in.
    pub space: String,
    /// Its path below the space's root.
    pub path: String,
    /// Its contents; the first one has the name.
    pub versions: Vec<ConflictVersion>,
}

/// One of a conflict's contents.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConflictVersion {
    /// The device that wrote it.
    pub device: String,
    /// Its size.
    pub size: u64,
    /// Its time of modification.
    pub mtime: Option<Time>,
    /// Where the copy lies below the space's root; none for the content under the item's own name.
    pub copy_path: Option<String>,
    /// How the copy differs from what stands under the name, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<VersionDiff>,
}

/// How a content differs from another.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VersionDiff {
    /// Whether it could be compared.
    pub kind: DiffKind,
    /// A unified diff, of [`DiffKind::Text`]; of symlinks where they lead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Whether two contents could be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// Both are text, and differ.
    #[default]
    Text,
    /// They are the same.
    Same,
    /// One of them is no text.
    Binary,
    /// One of them is too long, or the answer would be.
    TooLarge,
    /// One of them does not stand on this disk.
    NotHere,
}

impl From<DiffKind> for VersionDiff {
    fn from(kind: DiffKind) -> Self {
        Self { kind, text: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let time = Time::from_millis(1_790_000_000_123);
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-09-21T14:13:20.123Z\"");
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
        assert_eq!(
            Time::from_millis(i64::MAX).to_string(),
            jiff::Timestamp::MAX.to_string()
        );
    }

    #[test]
    fn the_promised_fields_are_there() {
        let status = Status {
            v: VERSION,
            device: ThisDevice::default(),
            mesh: MeshInfo::default(),
            locked: false,
            peers: vec![Peer {
                id: "00".into(),
                name: "desktop".into(),
                connected: false,
                route: Route::None,
                why: String::new(),
                last_seen: None,
                blocked: false,
            }],
            spaces: vec![SpaceStatus::default()],
            bucket: None,
            relays: Vec::new(),
            problems: Vec::new(),
            limits: None,
            socket: None,
        };
        let value = serde_json::to_value(&status).unwrap();
        let keys = |value: &serde_json::Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            keys(&value),
            "bucket device limits locked mesh peers problems relays spaces v"
        );
        assert_eq!(
            keys(&value["peers"][0]),
            "blocked connected id last_seen name route why"
        );
        assert_eq!(
            keys(&value["spaces"][0]),
            "bytes conflicts files items kept_out_on missing_bytes missing_items mode name only_here_items path paused_by paused_until problems state stopped_on unconfirmed"
        );
        assert_eq!(value["peers"][0]["route"], "none");
        assert_eq!(value["spaces"][0]["state"], "idle");
    }
}
