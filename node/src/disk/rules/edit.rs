//! A line goes into a rule file, or out of it.
//!
//! The file may be the user's, open in an editor: what is written takes the place of exactly what was
//! read, or of nothing. A crash leaves the old file or the new one; the other may end in the trash.

use std::io;

use ownmesh_crypto::ItemId;

use super::files::text;
use super::{RuleFile, Rules, Texts, patterns};
use crate::disk::{Disk, PRIVATE, RelPath, TMP, private, read_up_to, trash};

/// How often a file that somebody else writes meanwhile is read again.
const TRIES: usize = 5;
/// Its name below `.mesh/tmp` until it has its place.
const STAGED: &str = "rules~";

/// Why a rule file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The pattern is none, or does not fit on a line.
    #[error("{0}")]
    Pattern(String),
    /// The pattern to be taken out is not there.
    #[error("{file} has no line \"{pattern}\"", file = .file.path())]
    Absent {
        /// The file.
        file: RuleFile,
        /// The pattern.
        pattern: String,
    },
    /// The file is none, too long, or not text.
    #[error("{file}: {reason}", file = .file.path())]
    File {
        /// The file.
        file: RuleFile,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else writes it all the time.
    #[error("the file changes all the time; try again")]
    Busy,
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Checks a pattern that is to be a line of a rule file.
///
/// # Errors
/// What is wrong with it.
pub fn check_pattern(pattern: &str) -> Result<(), EditError> {
    if pattern.contains(['\n', '\r', '\0']) {
        return Err(EditError::Pattern("a pattern is one line".to_owned()));
    }
    if patterns(pattern).next().is_none() {
        let what = format!("{pattern:?} is no pattern: it is empty or a comment");
        return Err(EditError::Pattern(what));
    }
    let texts = Texts {
        shared: pattern.to_owned(),
        ..Texts::default()
    };
    match Rules::parse(texts) {
        Ok(_) => Ok(()),
        Err(bad) => Err(EditError::Pattern(format!(
            "{pattern:?} is no pattern: {}",
            bad.reason
        ))),
    }
}

/// Checks that a pattern can fit anything that travels.
///
/// # Errors
/// Why it cannot.
fn check_effect(pattern: &str) -> Result<(), EditError> {
    let text = pattern.trim_end();
    let names: Vec<&str> = text
        .strip_prefix('!')
        .unwrap_or(text)
        .split('/')
        .filter(|name| !name.is_empty())
        .collect();
    let why = match (names.first(), names.last()) {
        (None, _) | (_, None) => "it fits nothing; * fits everything",
        (Some(&PRIVATE), _) => "what is below .mesh never travels, whatever the rules say",
        (_, Some(last)) if last.starts_with(PRIVATE) => {
            "a name that begins with .mesh is never ignored: .mesh never travels, and .meshignore has to reach all"
        }
        _ => return Ok(()),
    };
    let what = format!("{pattern:?} can have no effect: {why}");
    Err(EditError::Pattern(what))
}

/// The text with the pattern as its last line; none if it has the line.
#[must_use]
pub fn with(text: &str, pattern: &str) -> Option<String> {
    if patterns(text).any(|(_, line)| line == pattern) {
        return None;
    }
    let gap = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    Some(format!("{text}{gap}{pattern}\n"))
}

/// The text without the lines of this pattern; none if it has none.
#[must_use]
pub fn without(text: &str, pattern: &str) -> Option<String> {
    let is_it = |line: &&str| line.trim_end_matches(['\n', '\r']) == pattern;
    let left: String = text.split_inclusive('\n').filter(|l| !is_it(l)).collect();
    (left != text).then_some(left)
}

/// Adds a pattern to a rule file, or takes it out. Returns whether the file was written.
///
/// # Errors
/// See [`EditError`]; the file is as it was then.
pub fn edit(
    disk: &dyn Disk,
    file: RuleFile,
    pattern: &str,
    remove: bool,
) -> Result<bool, EditError> {
    let path = file
        .path()
        .split('/')
        .fold(RelPath::ROOT, |dir, name| dir.with(name));
    for _ in 0..TRIES {
        let before = text(disk, file).map_err(|reason| EditError::File { file, reason })?;
        let after = if remove {
            let absent = || EditError::Absent {
                file,
                pattern: pattern.to_owned(),
            };
            without(&before, pattern).ok_or_else(absent)?
        } else {
            check_pattern(pattern)?;
            check_effect(pattern)?;
            match with(&before, pattern) {
                Some(after) => after,
                None => return Ok(false),
            }
        };
        if put(disk, &path, &before, &after)? {
            return Ok(true);
        }
    }
    Err(EditError::Busy)
}

/// Writes `after` where `before` stands. Returns false if something else stands there by now.
fn put(disk: &dyn Disk, path: &RelPath, before: &str, after: &str) -> io::Result<bool> {
    let there = disk.meta(path)?;
    if there.is_none() && !before.is_empty() {
        return Ok(false);
    }
    let staged = private(TMP).with(STAGED);
    let mut stage = disk.stage(STAGED)?;
    stage.write_at(after.as_bytes(), 0)?;
    stage.finish(there.map_or(0o644, |m| m.mode), disk.now_ns())?;
    disk.sync_file(&staged)?;
    let placed = match there {
        None => match disk.rename_new(&staged, path) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&staged)?;
                false
            }
            Err(e) => return Err(e),
        },
        Some(_) => {
            disk.exchange(&staged, path)?;
            let same = holds(disk, &staged, before);
            if !same {
                disk.exchange(&staged, path)?;
            }
            if same || holds(disk, &staged, after) {
                disk.remove(&staged)?;
            } else {
                // Saved once more between the two: the former save of the user's.
                let seconds = u64::try_from(disk.now_ns() / 1_000_000_000).unwrap_or(0);
                let name = trash::name(seconds, &ItemId::ROOT, path.as_str());
                trash::put(disk, &staged, &name)?;
            }
            same
        }
    };
    disk.sync_dir(&path.parent().unwrap_or(RelPath::ROOT))?;
    Ok(placed)
}

/// Whether exactly these bytes stand there.
fn holds(disk: &dyn Disk, path: &RelPath, text: &str) -> bool {
    let limit = u64::try_from(text.len())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    read_up_to(disk, path, limit).is_ok_and(|bytes| bytes == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::prepare;
    use crate::disk::real::RealDisk;
    use ownmesh_crypto::SpaceId;

    #[test]
    fn lines_go_in_and_out() {
        assert_eq!(with("", "a/").as_deref(), Some("a/\n"));
        assert_eq!(with("# x\nb", "a/").as_deref(), Some("# x\nb\na/\n"));
        assert_eq!(with("a/\n", "a/"), None);
        assert_eq!(without("a\r\nb\na\n", "a").as_deref(), Some("b\n"));
        assert_eq!(without("b\n", "a"), None);
    }

    #[test]
    fn a_pattern_is_checked() {
        assert!(check_pattern("target/").is_ok());
        for bad in ["", "  ", "# no", "a[", "a\nb"] {
            assert!(check_pattern(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_can_have_no_effect_is_no_rule() {
        for idle in [
            "/",
            "//",
            "!/",
            ".mesh",
            ".mesh/",
            "/.mesh/trash",
            ".mesh/**",
            ".meshignore",
            "!/.meshignore",
            "sub/.meshignore",
            ".mesh*",
        ] {
            assert!(check_effect(idle).is_err(), "{idle:?}");
            let texts = Texts {
                shared: format!("*\n{}\n", idle.trim_start_matches('!')),
                ..Texts::default()
            };
            let rules = Rules::parse(texts).unwrap();
            let path = RelPath::parse(".meshignore").unwrap();
            assert!(!rules.ignores(&path, false), "{idle:?}");
        }
        for idle_no in [
            "*",
            "**",
            "!x",
            "!.env",
            "a/",
            ".*",
            "/a/**",
            "mesh",
            ".mesh-x/y",
        ] {
            assert!(check_effect(idle_no).is_ok(), "{idle_no:?}");
        }
    }

    #[test]
    fn both_files_are_written_and_keep_their_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        prepare(&disk, &SpaceId::from_bytes([1; 16])).unwrap();
        let shared = dir.path().join(".meshignore");
        assert!(edit(&disk, RuleFile::Shared, "target/", false).unwrap());
        assert!(!edit(&disk, RuleFile::Shared, "target/", false).unwrap());
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(edit(&disk, RuleFile::Shared, "*.o", false).unwrap());
        assert_eq!(std::fs::read_to_string(&shared).unwrap(), "target/\n*.o\n");
        let mode = std::fs::metadata(&shared).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(edit(&disk, RuleFile::Shared, "target/", true).unwrap());
        assert_eq!(std::fs::read_to_string(&shared).unwrap(), "*.o\n");
        let absent = edit(&disk, RuleFile::Shared, "target/", true);
        assert!(matches!(absent, Err(EditError::Absent { .. })));
        assert!(edit(&disk, RuleFile::Device, "big/", false).unwrap());
        let own = dir.path().join(".mesh/ignore");
        assert_eq!(std::fs::read_to_string(own).unwrap(), "big/\n");
        assert!(disk.list(&private(TMP)).unwrap().is_empty());
    }
}
