//! What a person tells this device from day to day, as the API takes it.

use serde::{Deserialize, Serialize};

/// `mesh pause`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// The space; all that this device takes part in if none is named.
    #[serde(default)]
    pub space: Option<String>,
    /// For how long; until it is told to go on if nothing is said.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// `mesh resume`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The space; all that wait if none is named.
    #[serde(default)]
    pub space: Option<String>,
}

/// Which spaces it was done with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SpacesReply {
    /// Their names.
    pub spaces: Vec<String>,
}

/// `mesh device rename`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The device, by name or id.
    pub device: String,
    /// What it is to be called.
    pub name: String,
}

/// `mesh device block` and `unblock`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockRequest {
    /// The device, by name or id.
    pub device: String,
    /// Whether it is blocked from now on.
    pub blocked: bool,
}
