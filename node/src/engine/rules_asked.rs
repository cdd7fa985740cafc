//! What people ask about ignore rules: which hold, what they say of a path, what a change would do.

use std::sync::Arc;

use ownmesh_crdt::item::Kind;
use ownmesh_crypto::ItemId;

use super::scan::problem_kind;
use super::{Engine, Space};
use crate::command::CommandError;
use crate::command::ignore::{IgnoreChange, IgnoreReply, IgnoreRule, IgnoreVerdict, IgnoredItems};
use crate::db::{DbError, ignored, items};
use crate::disk::RelPath;
use crate::disk::rules::{RuleFile, Rules, Texts, check_pattern, patterns, with, without};
use crate::disk::scan::{Guard, ProblemKind};

/// So many names are told; the rest is counted.
const NAMES: usize = 8;

/// Where a space's rules stand, and what a change of them would do.
pub(crate) struct IgnorePlan {
    /// The folder.
    pub(crate) path: String,
    /// What must be true of it.
    pub(crate) guard: Guard,
    /// What travels no more.
    pub(crate) stops: IgnoredItems,
    /// What travels again.
    pub(crate) resumes: IgnoredItems,
}

/// The file a change is made to.
pub(crate) fn rule_file(device: bool) -> RuleFile {
    if device {
        RuleFile::Device
    } else {
        RuleFile::Shared
    }
}

impl Engine {
    fn space_named(&self, name: &str) -> Result<&Space, CommandError> {
        let n = self.space_by_name(name)?;
        let gone = || CommandError::not_found("space", name);
        self.spaces.get(&n).ok_or_else(gone)
    }

    /// The rules in force.
    ///
    /// # Errors
    /// No such space here.
    pub(crate) fn ignore_rules(&self, name: &str) -> Result<IgnoreReply, CommandError> {
        let space = self.space_named(name)?;
        let texts = space.ignoring.rules.texts();
        let mut rules = Vec::new();
        for file in RuleFile::ALL {
            for (line, pattern) in patterns(texts.of(file)) {
                rules.push(IgnoreRule {
                    file: file.path().to_owned(),
                    line: line as u64,
                    pattern: pattern.to_owned(),
                });
            }
        }
        let kind = problem_kind(ProblemKind::Rules);
        let wrong = space.problems.values().filter(|p| p.kind == kind);
        Ok(IgnoreReply {
            space: name.to_owned(),
            rules,
            problems: wrong.map(|p| p.reason.clone()).collect(),
            held_items: ignored::waiting(self.db.read(), space.row.n)
                .map_err(|e| CommandError::failed(e.to_string()))?,
        })
    }

    /// Where a space lies.
    ///
    /// # Errors
    /// No such space here.
    pub(crate) fn folder_of(&self, name: &str) -> Result<String, CommandError> {
        Ok(self.space_named(name)?.row.path.clone())
    }

    /// What adding or taking out a pattern would do.
    ///
    /// # Errors
    /// No such space here; the pattern is none.
    pub(crate) fn ignore_plan(
        &self,
        name: &str,
        change: &IgnoreChange,
    ) -> Result<IgnorePlan, CommandError> {
        let space = self.space_named(name)?;
        let now = Arc::clone(&space.ignoring.rules);
        let file = rule_file(change.device);
        let text = now.texts().of(file);
        let text = if change.remove {
            without(text, &change.pattern)
        } else {
            check_pattern(&change.pattern)
                .map_err(|e| CommandError::usage(e.to_string()).hint(PATTERN_HINT))?;
            with(text, &change.pattern)
        };
        let failed = |e: DbError| CommandError::failed(e.to_string());
        let (stops, resumes) = match text {
            None => Default::default(),
            Some(text) => {
                let mut texts: Texts = now.texts().clone();
                match file {
                    RuleFile::Shared => texts.shared = text,
                    RuleFile::Device => texts.device = text,
                }
                let then =
                    Rules::parse(texts).map_err(|bad| CommandError::usage(bad.to_string()))?;
                self.differ(space.row.n, &now, &then).map_err(failed)?
            }
        };
        Ok(IgnorePlan {
            path: space.row.path.clone(),
            guard: Guard {
                space: space.row.id,
                fs_id: space.row.fs,
            },
            stops,
            resumes,
        })
    }

    /// What the rules in force say of a path; `is_dir` if something is known to stand there.
    ///
    /// # Errors
    /// No such space here; no path.
    pub(crate) fn ignore_verdict(
        &self,
        name: &str,
        path: &str,
        on_disk: Option<bool>,
    ) -> Result<IgnoreVerdict, CommandError> {
        let space = self.space_named(name)?;
        let asked = path.trim_end_matches('/');
        let parsed = RelPath::parse(asked).map_err(|bad| {
            CommandError::usage(format!("{path:?} is no path of a space: {bad}"))
                .hint("give it from the space's root")
        })?;
        let in_mesh = self
            .kind_at(space.row.n, &parsed)
            .map_err(|e| CommandError::failed(e.to_string()))?;
        let known = on_disk.or(in_mesh.map(|kind| kind == Kind::Dir));
        let is_dir = path.ends_with('/') || known == Some(true);
        let decided = space.ignoring.rules.decide(&parsed, is_dir);
        Ok(IgnoreVerdict {
            path: asked.to_owned(),
            exists: known.is_some(),
            ignored: decided.as_ref().is_some_and(|d| d.ignored),
            at: decided.as_ref().map(|d| d.at.to_string()),
            rule: decided.map(|d| IgnoreRule {
                file: d.file.path().to_owned(),
                line: d.line as u64,
                pattern: d.pattern,
            }),
        })
    }

    fn kind_at(&self, n: i64, path: &RelPath) -> Result<Option<Kind>, DbError> {
        let (mut at, mut kind) = (ItemId::ROOT, Some(Kind::Dir));
        for name in path.components() {
            let here = items::children(self.db.read(), n, &at)?;
            let found = here
                .into_iter()
                .find(|(_, s)| s.shown.as_deref() == Some(name));
            let Some((id, spot)) = found else {
                return Ok(None);
            };
            (at, kind) = (id, spot.kind);
        }
        Ok(kind)
    }

    /// Items that one set of rules ignores and the other does not: what stops, what goes on again.
    fn differ(
        &self,
        n: i64,
        now: &Rules,
        then: &Rules,
    ) -> Result<(IgnoredItems, IgnoredItems), DbError> {
        let mut out = (IgnoredItems::default(), IgnoredItems::default());
        let mut open = vec![(ItemId::ROOT, RelPath::ROOT, None)];
        while let Some((dir, path, above)) = open.pop() {
            for (id, spot) in items::children(self.db.read(), n, &dir)? {
                let Some(at) = spot.shown.as_ref().and_then(|name| path.join(name).ok()) else {
                    continue;
                };
                let is_dir = spot.kind == Some(Kind::Dir);
                let is = (now.ignores(&at, is_dir), then.ignores(&at, is_dir));
                let changed = (is.0 != is.1).then_some(is.1);
                if let Some(stops) = changed {
                    let sum = if stops { &mut out.0 } else { &mut out.1 };
                    sum.items += 1;
                    if spot.kind == Some(Kind::File) {
                        sum.files += 1;
                        sum.bytes += spot.size;
                    }
                    if above != changed && sum.names.len() < NAMES {
                        let slash = if is_dir { "/" } else { "" };
                        sum.names.push(format!("{at}{slash}"));
                    }
                }
                // Below a directory that both ignore nothing changes.
                if is_dir && is != (true, true) {
                    open.push((id, at, changed));
                }
            }
        }
        Ok(out)
    }
}

/// What to do about a line that is no pattern.
pub(crate) const PATTERN_HINT: &str =
    "patterns are git's: name, dir/, *.log, /only/at/the/root, !exception";
