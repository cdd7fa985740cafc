//! The real disk.
//!
//! Two files behind one type: `unix` walks from an open directory, never from a path, so that a
//! component which became a symlink meanwhile is refused and not followed; `portable` does the same
//! checks with std alone, one after the other, for systems without directory handles. The danger
//! both guard against is writing outside the user's folder.

#[cfg(any(not(unix), test))]
#[cfg_attr(
    unix,
    expect(dead_code, unreachable_pub, reason = "here only its test uses it")
)]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub use portable::RealDisk;
#[cfg(unix)]
pub use unix::RealDisk;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{PRIVATE, RelPath};
use crate::db::foreign::{self, NotHeld};

/// The clock that new files are stamped with.
fn now_ns() -> i64 {
    to_ns(SystemTime::now())
}

/// A time of the system in ns since 1970, cut off where 64 bits end (the year 2262).
fn to_ns(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// [`Disk::hold_database`](super::Disk::hold_database). SQLite goes by names; it follows no symlink below
/// the folder, and what it was given is compared with the file's stat before and after.
fn hold(root: &Path, path: &RelPath) -> Result<Box<dyn Send>, NotHeld> {
    Ok(Box::new(foreign::hold(&full(root, path)?)?))
}

/// [`Disk::fold_database`](super::Disk::fold_database).
fn fold(root: &Path, path: &RelPath) -> Result<(), NotHeld> {
    if path.components().next() != Some(PRIVATE) {
        return Err(NotHeld::Refused("it belongs to the user".to_owned()));
    }
    foreign::fold(&full(root, path)?)
}

fn full(root: &Path, path: &RelPath) -> Result<std::path::PathBuf, NotHeld> {
    let root = root.canonicalize();
    let mut full = root.map_err(|e| NotHeld::Refused(e.to_string()))?;
    full.extend(path.components());
    Ok(full)
}

#[cfg(all(test, unix))]
mod tests;
