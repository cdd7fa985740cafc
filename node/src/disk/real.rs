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

use std::time::{SystemTime, UNIX_EPOCH};

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

#[cfg(all(test, unix))]
mod tests;
