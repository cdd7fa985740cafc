//! Ignore rules: what is asked, and what is answered.

use serde::{Deserialize, Serialize};

/// One rule.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoreRule {
    /// Where it stands, from the space's root: `.meshignore` or `.mesh/ignore`.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// The pattern.
    pub pattern: String,
}

/// `mesh ignore`: the rules in force.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoreReply {
    /// The space.
    pub space: String,
    /// The rules, in their order: of those that fit, the last decides.
    pub rules: Vec<IgnoreRule>,
    /// What is wrong with the files; the rules above hold all the same.
    pub problems: Vec<String>,
    /// Items of the mesh that differ from this disk, or are not on it, because they are ignored.
    pub held_items: u64,
}

/// `mesh ignore add` and `remove`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreChange {
    /// The pattern, as git understands it.
    pub pattern: String,
    /// Whether the rule is this device's alone.
    #[serde(default)]
    pub device: bool,
    /// Whether it is taken out instead.
    #[serde(default)]
    pub remove: bool,
}

/// Items of the mesh that a change of the rules is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoredItems {
    /// How many, directories counted.
    pub items: u64,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The first few; of a directory only itself, with a slash.
    pub names: Vec<String>,
}

/// What `mesh ignore add` and `remove` did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoreChanged {
    /// The space.
    pub space: String,
    /// The file that was written, from the space's root.
    pub file: String,
    /// Whether anything had to be written.
    pub changed: bool,
    /// What travels no more.
    pub stops: IgnoredItems,
    /// What travels again, as far as the mesh has it.
    pub resumes: IgnoredItems,
}

/// `mesh ignore test`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreTest {
    /// What is asked about as a path from the space's root; with a slash at its end a directory.
    #[serde(default)]
    pub path: Option<String>,
    /// What is asked about as a pattern that might be added.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Whether it would be added for this device alone.
    #[serde(default)]
    pub device: bool,
}

/// What `mesh ignore test` answers. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoreTested {
    /// The space.
    pub space: String,
    /// Of the path: what the rules in force say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<IgnoreVerdict>,
    /// Of the pattern: what would travel no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops: Option<IgnoredItems>,
}

/// What the rules say of a path.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IgnoreVerdict {
    /// The path, from the space's root.
    pub path: String,
    /// Whether something stands there, on this disk or in the mesh.
    pub exists: bool,
    /// Whether it is ignored.
    pub ignored: bool,
    /// The rule that decides; none if none fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<IgnoreRule>,
    /// The path that the rule fits: this one, or a directory above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}
