//! `mesh conflicts diff`: what stands under a conflicted file's name against each copy beside it, as they are on this disk now.
//!
//! Reads only, and only what stands here: a version that has not arrived is told as that, not fetched. While
//! the one that has the name is on its way another one still stands under it; that is not taken for it.

use std::io;

use super::Handle;
use super::undoing::blocking;
use crate::command::CommandError;
use crate::disk::real::RealDisk;
use crate::disk::{Disk, MetaKind, RelPath, read_up_to};
use crate::engine::Standing;
use crate::past::diff::{self, LIMIT, Side};
use crate::status::{ConflictInfo, DiffKind, VersionDiff};

/// Bytes of one answer; conflicts behind it are to be asked for by name.
const TOTAL: usize = 16 << 20;

impl Handle {
    /// The open conflicts, or the one that is named, with what differs.
    ///
    /// # Errors
    /// No such conflict.
    pub async fn conflict_diffs(
        &self,
        item: Option<String>,
    ) -> Result<Vec<ConflictInfo>, CommandError> {
        let found = self
            .call(move |engine, _| {
                let all = match &item {
                    Some(item) => vec![engine.conflict_named(item)?],
                    None => engine.conflicts_standing(),
                };
                let folder = |c: Standing| -> Result<_, CommandError> {
                    Ok((engine.folder_of(&c.info.space)?, c))
                };
                all.into_iter().map(folder).collect::<Result<Vec<_>, _>>()
            })
            .await??;
        blocking(move || {
            let mut left = TOTAL;
            let compared = found.into_iter().map(|(folder, mut conflict)| {
                compare(&folder, &mut conflict, &mut left);
                conflict.info
            });
            Ok(compared.collect())
        })
        .await
    }
}

/// Compares the version that has the name with each of the others.
fn compare(folder: &str, conflict: &mut Standing, left: &mut usize) {
    let Standing {
        info: conflict,
        here,
    } = conflict;
    let disk = RealDisk::open(folder);
    let stands = |path: &str| {
        let disk = disk.as_ref().ok()?;
        read(disk, path).unwrap_or_default()
    };
    let is_here = |n: usize| here.get(n).is_some_and(|here| *here);
    let named = conflict.versions.iter().position(|v| v.copy_path.is_none());
    let main = named.filter(|n| is_here(*n));
    let main = main.and_then(|_| stands(&conflict.path));
    for (n, version) in conflict.versions.iter_mut().enumerate() {
        if Some(n) == named {
            continue;
        }
        let copy = version.copy_path.as_deref().filter(|_| is_here(n));
        let other = copy.and_then(|path| Some((path, stands(path)?)));
        let diff = match (&main, &other) {
            _ if *left == 0 => DiffKind::TooLarge.into(),
            (Some(main), Some((path, other))) => {
                let (name, bytes) = (conflict.path.as_str(), &main[..]);
                let other = Side {
                    name: path,
                    bytes: other,
                };
                diff::unified(&Side { name, bytes }, &other)
            }
            _ => VersionDiff::from(DiffKind::NotHere),
        };
        *left = left.saturating_sub(diff.text.as_ref().map_or(0, String::len));
        version.diff = Some(diff);
    }
}

/// A file's bytes, or where a symlink leads; of what is longer than can be compared the beginning. Nothing if neither stands there.
fn read(disk: &RealDisk, path: &str) -> io::Result<Option<Vec<u8>>> {
    let Ok(path) = RelPath::parse(path) else {
        return Ok(None);
    };
    Ok(match disk.meta(&path)?.map(|meta| meta.kind) {
        Some(MetaKind::File) => Some(read_up_to(disk, &path, LIMIT + 1)?),
        Some(MetaKind::Symlink) => Some(format!("{}\n", disk.read_link(&path)?).into_bytes()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ConflictVersion;

    #[test]
    fn each_copy_is_compared_with_what_stands_under_the_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "one\n").unwrap();
        std::fs::write(dir.path().join("a (copy)"), "two\n").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("a (link)")).unwrap();
        let version = |copy: Option<&str>| ConflictVersion {
            copy_path: copy.map(str::to_owned),
            ..ConflictVersion::default()
        };
        let info = ConflictInfo {
            path: "a".into(),
            versions: vec![
                version(None),
                version(Some("a (copy)")),
                version(Some("a (link)")),
                version(Some("gone")),
                version(None),
            ],
            ..ConflictInfo::default()
        };
        let here = vec![true; info.versions.len()];
        let mut conflict = Standing { info, here };
        let kinds = |left: usize, conflict: &mut Standing| -> Vec<Option<DiffKind>> {
            let mut left = left;
            compare(dir.path().to_str().unwrap(), conflict, &mut left);
            let versions = conflict.info.versions.iter();
            versions.map(|v| v.diff.as_ref().map(|d| d.kind)).collect()
        };
        use DiffKind::{NotHere, Text, TooLarge};
        let all = [None, Some(Text), Some(Text), Some(NotHere), Some(NotHere)];
        assert_eq!(kinds(TOTAL, &mut conflict), all);
        let text = |n: usize| {
            let diff = conflict.info.versions[n].diff.clone();
            diff.unwrap().text.unwrap()
        };
        assert!(text(1).ends_with("-one\n+two\n"), "{}", text(1));
        assert!(text(2).ends_with("-one\n+b\n"), "{}", text(2));
        assert_eq!(kinds(1, &mut conflict)[2], Some(TooLarge));
        // What stands there is another version.
        conflict.here[2] = false;
        let some = kinds(TOTAL, &mut conflict);
        assert_eq!(some[1..3], [Some(Text), Some(NotHere)]);
        conflict.here[0] = false;
        assert_eq!(kinds(TOTAL, &mut conflict)[1], Some(NotHere));
        conflict.here[0] = true;
        std::fs::remove_file(dir.path().join("a")).unwrap();
        assert_eq!(kinds(TOTAL, &mut conflict)[1], Some(NotHere));
    }
}
