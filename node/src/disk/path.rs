//! Where something is inside a synced folder.
//!
//! Every path the node handles is a [`RelPath`]: relative to the space's root, `/` between the
//! parts, UTF-8, checked once when it is made and turned into a path of the system only inside a
//! [`Disk`](super::Disk). The danger it guards against is a name from another device (`..`, an
//! absolute path, a NUL) that would lead out of the folder.

use std::fmt;

/// Longest name in bytes. Filesystems take 255 bytes (ext4, xfs, btrfs) or units of UTF-16 (apfs, ntfs,
/// fat), which is 765 bytes at most; so is 255 bytes that are no UTF-8. The log's limit is 1,024 too.
pub const MAX_NAME: usize = 1_024;

/// A path below the root of a space; the empty one is the root itself.
///
/// The order is that of a walk: a directory comes before what is in it, and what is in it before
/// the directory's next sibling.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RelPath(String);

/// Why a name or a path is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// A component is empty (also: a leading, doubled or trailing slash).
    #[error("a name is empty")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a name is `.` or `..`")]
    Dots,
    /// A name holds a slash.
    #[error("a name holds a slash")]
    Slash,
    /// A name holds a NUL byte.
    #[error("a name holds a NUL byte")]
    Nul,
    /// A name is longer than [`MAX_NAME`] bytes.
    #[error("a name is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// The rules for one component of a path.
#[derive(Debug)]
pub struct Name;

impl Name {
    /// Checks that `name` can be one component of a path on any system that mesh runs on.
    ///
    /// What only some systems refuse (case twins, `CON`, a trailing dot) is not decided here; such
    /// an item gets a derived local name.
    pub fn check(name: &str) -> Result<(), BadName> {
        match name {
            "" => Err(BadName::Empty),
            "." | ".." => Err(BadName::Dots),
            _ if name.contains('/') => Err(BadName::Slash),
            _ if name.contains('\0') => Err(BadName::Nul),
            _ if name.len() > MAX_NAME => Err(BadName::TooLong),
            _ => Ok(()),
        }
    }
}

impl RelPath {
    /// The root of the space.
    pub const ROOT: Self = Self(String::new());

    /// Reads a `/`-separated path; the empty string is the root.
    pub fn parse(path: &str) -> Result<Self, BadName> {
        if !path.is_empty() {
            path.split('/').try_for_each(Name::check)?;
        }
        Ok(Self(path.to_owned()))
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &str) -> Result<Self, BadName> {
        Name::check(name)?;
        Ok(self.with(name))
    }

    /// [`Self::join`] for names that are known to be good.
    pub(crate) fn with(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self(name.to_owned());
        }
        let mut path = String::with_capacity(self.0.len() + 1 + name.len());
        path.push_str(&self.0);
        path.push('/');
        path.push_str(name);
        Self(path)
    }

    /// The directory that this path is in; none for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        Some(Self(
            self.0
                .rsplit_once('/')
                .map_or("", |(dir, _)| dir)
                .to_owned(),
        ))
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The components from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// Whether this is the root of the space.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this path is `dir` or lies below it.
    pub fn starts_with(&self, dir: &Self) -> bool {
        dir.0.is_empty()
            || self
                .0
                .strip_prefix(&dir.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "." } else { &self.0 })
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::str::FromStr for RelPath {
    type Err = BadName;

    fn from_str(path: &str) -> Result<Self, BadName> {
        Self::parse(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_stay_inside_are_paths() {
        for bad in ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0"] {
            assert!(RelPath::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Name::check("a/b"), Err(BadName::Slash));
        assert_eq!(
            Name::check(&"x".repeat(MAX_NAME + 1)),
            Err(BadName::TooLong)
        );
        for good in ["", "a", "a/b", "a/..b", "a/b.", "ä/日本"] {
            assert_eq!(
                RelPath::parse(good).map(|p| p.as_str().to_owned()),
                Ok(good.to_owned())
            );
        }
    }

    #[test]
    fn a_directory_comes_before_its_children_and_they_before_its_sibling() {
        let mut paths: Vec<RelPath> = ["a-b", "a/c", "", "a", "b"]
            .iter()
            .filter_map(|p| RelPath::parse(p).ok())
            .collect();
        paths.sort();
        let texts: Vec<&str> = paths.iter().map(RelPath::as_str).collect();
        assert_eq!(texts, ["", "a", "a/c", "a-b", "b"]);
    }

    #[test]
    fn parent_name_and_join() {
        let root = RelPath::ROOT;
        assert_eq!((root.parent(), root.name()), (None, None));
        let a = root.with("a");
        let b = a.with("b");
        assert_eq!(b.as_str(), "a/b");
        assert_eq!(b.parent(), Some(a.clone()));
        assert_eq!(a.parent(), Some(root.clone()));
        assert_eq!(b.name(), Some("b"));
        assert!(a.join("..").is_err());
        assert!(b.starts_with(&a) && b.starts_with(&root) && !root.with("ab").starts_with(&a));
    }
}
