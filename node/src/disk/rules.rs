//! Which paths of a space are not mesh's on this device.
//!
//! Patterns as git understands them, from two files: one that travels with the space like any file,
//! and one of this device alone, which has the last word. A rule says "neither sent nor received
//! here"; it never takes anything away (docs/design/0008-ignore-rules.md).
//!
//! Guarded against: a rule file with a mistake in it. Taken as empty it would send what was to stay,
//! so it is refused with its line, and what held before goes on to hold. And a rule that hides the
//! rule file, or what mesh sets aside for a moment: both are never ignored.

mod edit;
mod files;
mod look;

use std::path::PathBuf;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

pub use self::edit::{EditError, check_pattern, edit, with, without};
pub use self::files::{LIMIT, Trouble, current};
pub use self::look::{looker, scan_under};
use super::{PRIVATE, RelPath};

/// The file at a space's root whose rules all devices keep.
pub const SHARED: &str = ".meshignore";
/// The file whose rules are this device's alone; it never travels.
pub const DEVICE: &str = ".mesh/ignore";

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleFile {
    /// [`SHARED`].
    Shared,
    /// [`DEVICE`].
    Device,
}

impl RuleFile {
    /// Both, in the order in which they are read: the last word is the device's.
    pub const ALL: [Self; 2] = [Self::Shared, Self::Device];

    /// Its path from the space's root.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Shared => SHARED,
            Self::Device => DEVICE,
        }
    }
}

/// What stands in both files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// Of [`SHARED`]; empty if there is none.
    pub shared: String,
    /// Of [`DEVICE`]; empty if there is none.
    pub device: String,
}

impl Texts {
    /// The text of one file.
    #[must_use]
    pub fn of(&self, file: RuleFile) -> &str {
        match file {
            RuleFile::Shared => &self.shared,
            RuleFile::Device => &self.device,
        }
    }

    fn of_mut(&mut self, file: RuleFile) -> &mut String {
        match file {
            RuleFile::Shared => &mut self.shared,
            RuleFile::Device => &mut self.device,
        }
    }
}

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {path}, {pattern:?}: {reason}", path = file.path())]
pub struct BadRule {
    /// In which file.
    pub file: RuleFile,
    /// Its number, from 1.
    pub line: usize,
    /// What stands there.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The rule that decides about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it ignores it; otherwise it is an exception (`!`).
    pub ignored: bool,
    /// Where the rule stands.
    pub file: RuleFile,
    /// Its line, from 1.
    pub line: usize,
    /// The pattern as it stands there.
    pub pattern: String,
    /// The path it fits: the one asked for, or a directory above it.
    pub at: RelPath,
}

/// The rules in force in a space on this device.
#[derive(Debug, Clone)]
pub struct Rules {
    texts: Texts,
    all: Gitignore,
    shared: Gitignore,
    /// Everything but the shared rule file is left alone: it is to be had before anything else is
    /// looked at.
    alone: bool,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts && self.alone == other.alone
    }
}

impl Eq for Rules {}

impl Default for Rules {
    fn default() -> Self {
        Self {
            texts: Texts::default(),
            all: Gitignore::empty(),
            shared: Gitignore::empty(),
            alone: false,
        }
    }
}

impl Rules {
    /// Reads both texts.
    ///
    /// # Errors
    /// The first line that is no pattern.
    pub fn parse(texts: Texts) -> Result<Self, BadRule> {
        let shared = compile(&texts, &[RuleFile::Shared])?;
        let all = compile(&texts, &RuleFile::ALL)?;
        Ok(Self {
            texts,
            all,
            shared,
            alone: false,
        })
    }

    /// The rules of a device that is about to learn those of the space it joins.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            alone: true,
            ..Self::default()
        }
    }

    /// Whether these are [`Rules::alone`].
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether nothing is ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && !self.alone
    }

    /// What the files said.
    #[must_use]
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Whether a path is ignored: by a rule that fits it, or with a directory above it. As in git, no
    /// exception reaches into an ignored directory.
    #[must_use]
    pub fn ignores(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.alone {
            return path.as_str() != SHARED && !path.is_root();
        }
        !self.is_empty()
            && self
                .find(&self.all, path, is_dir)
                .is_some_and(|d| d.ignored)
    }

    /// Whether the rules that all devices keep ignore a path.
    #[must_use]
    pub fn shared_ignores(&self, path: &RelPath, is_dir: bool) -> bool {
        self.find(&self.shared, path, is_dir)
            .is_some_and(|d| d.ignored)
    }

    /// Whether a path in a directory that is not ignored is.
    #[must_use]
    pub fn ignores_in(&self, path: &RelPath, is_dir: bool) -> bool {
        if self.alone {
            return path.as_str() != SHARED && !path.is_root();
        }
        !self.is_empty() && one(&self.all, path, is_dir).is_ignore()
    }

    /// Whether it depends on what stands there whether a path is ignored (`name/`).
    #[must_use]
    pub fn splits(&self, path: &RelPath) -> bool {
        self.ignores(path, true) != self.ignores(path, false)
    }

    /// The rule that decides about a path; none if no rule fits it or a directory above it.
    #[must_use]
    pub fn decide(&self, path: &RelPath, is_dir: bool) -> Option<Decision> {
        self.find(&self.all, path, is_dir)
    }

    fn find(&self, set: &Gitignore, path: &RelPath, is_dir: bool) -> Option<Decision> {
        let mut at = RelPath::ROOT;
        let mut names = path.components().peekable();
        while let Some(name) = names.next() {
            at = at.with(name);
            let last = names.peek().is_none();
            match one(set, &at, is_dir || !last) {
                Match::Ignore(glob) => return Some(decision(glob, true, &at)),
                Match::Whitelist(glob) if last => return Some(decision(glob, false, &at)),
                Match::Whitelist(_) | Match::None => {}
            }
        }
        None
    }
}

/// The rule that fits a path itself.
fn one<'a>(set: &'a Gitignore, path: &RelPath, is_dir: bool) -> Match<&'a ignore::gitignore::Glob> {
    // The private folder, the rule file, and what is set aside for a moment.
    if path.name().is_none_or(|name| name.starts_with(PRIVATE)) {
        return Match::None;
    }
    set.matched(path.as_str(), is_dir)
}

fn decision(glob: &ignore::gitignore::Glob, ignored: bool, at: &RelPath) -> Decision {
    let from = glob.from().and_then(|from| from.to_str()).unwrap_or("");
    let (file, line) = from.split_once(':').unwrap_or(("s", "0"));
    Decision {
        ignored,
        file: if file == "d" {
            RuleFile::Device
        } else {
            RuleFile::Shared
        },
        line: line.parse().unwrap_or(0),
        pattern: glob.original().to_owned(),
        at: at.clone(),
    }
}

/// The patterns of a text with their lines, without comments and empty lines.
pub fn patterns(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().filter_map(|(n, line)| {
        let is_one = !line.trim().is_empty() && !line.starts_with('#');
        is_one.then_some((n + 1, line))
    })
}

fn compile(texts: &Texts, from: &[RuleFile]) -> Result<Gitignore, BadRule> {
    let mut builder = GitignoreBuilder::new("");
    // To git a pattern with an open bracket fits nothing; whoever wrote it should hear of it.
    builder.allow_unclosed_class(false);
    let mut last = None;
    for file in from {
        for (line, pattern) in patterns(texts.of(*file)) {
            let bad = |error: &ignore::Error| BadRule {
                file: *file,
                line,
                pattern: pattern.to_owned(),
                reason: reason(error),
            };
            let letter = if *file == RuleFile::Device { "d" } else { "s" };
            let place = PathBuf::from(format!("{letter}:{line}"));
            builder
                .add_line(Some(place), pattern)
                .map_err(|e| bad(&e))?;
            last = Some((*file, line, pattern));
        }
    }
    builder.build().map_err(|error| {
        let (file, line, pattern) = last.unwrap_or((RuleFile::Shared, 0, ""));
        BadRule {
            file,
            line,
            pattern: pattern.to_owned(),
            reason: reason(&error),
        }
    })
}

fn reason(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err.clone(),
        ignore::Error::WithPath { err, .. }
        | ignore::Error::WithLineNumber { err, .. }
        | ignore::Error::WithDepth { err, .. } => reason(err),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
