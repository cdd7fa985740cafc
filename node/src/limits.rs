//! How fast this device may be: what the user said, when it applies, and who may go on right now.
//!
//! ```text
//! Limits (kept in the database) -> Pacer -> one Bucket for each direction
//!                                    ▲ content streams ask before each slice
//!                                    ▲ the engine asks before each batch of a log
//! ```
//!
//! The danger guarded against is a small edit that waits behind a big file. So logs go before content, and the
//! beginning of a content stream before the rest of others: they may run the bucket into debt, which big transfers
//! then wait for. The limits count content and logs of all devices together, on every road.

mod bucket;
mod pacer;
mod schedule;

use serde::{Deserialize, Serialize};

pub use bucket::{Bucket, Lane};
pub use pacer::Pacer;
pub use schedule::{Window, WindowError};

/// The least that a limit may be, bytes a second: below it a stream of content stands still for so long that
/// the other side takes it for dead.
pub const MIN_RATE: u64 = 16 * 1024;

/// More windows than this nobody means.
const MAX_WINDOWS: usize = 24;

/// What the user said.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes a second to others; none: as fast as it goes.
    #[serde(default)]
    pub up: Option<u64>,
    /// Bytes a second from others.
    #[serde(default)]
    pub down: Option<u64>,
    /// When it applies, by this machine's clock; empty: always.
    #[serde(default)]
    pub schedule: Vec<Window>,
}

/// The same with what holds at the moment, as the status tells it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LimitsNow {
    /// Bytes a second to others; none: as fast as it goes.
    pub up: Option<u64>,
    /// Bytes a second from others.
    pub down: Option<u64>,
    /// When it applies, by this machine's clock; empty: always.
    pub schedule: Vec<Window>,
    /// Whether it applies now.
    pub active: bool,
}

impl Limits {
    /// Whether anything is limited at all.
    #[must_use]
    pub fn any(&self) -> bool {
        self.up.is_some() || self.down.is_some()
    }

    /// Whether they apply at a minute of the day.
    #[must_use]
    pub fn apply_at(&self, minute: u16) -> bool {
        self.schedule.is_empty() || self.schedule.iter().any(|w| w.holds(minute))
    }

    /// Refuses what cannot be kept.
    ///
    /// # Errors
    /// A sentence that says which and what would do.
    pub fn check(&self) -> Result<(), String> {
        for (name, rate) in [("up", self.up), ("down", self.down)] {
            if rate.is_some_and(|rate| rate < MIN_RATE) {
                return Err(format!(
                    "the limit for {name} is too low: at least {MIN_RATE} bytes a second"
                ));
            }
        }
        if self.schedule.len() > MAX_WINDOWS {
            return Err(format!("more than {MAX_WINDOWS} times of day"));
        }
        if !self.schedule.is_empty() && !self.any() {
            return Err("a schedule without a limit limits nothing".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let limits = |up, schedule: &[&str]| Limits {
            up,
            down: None,
            schedule: schedule.iter().map(|w| w.parse().unwrap()).collect(),
        };
        assert!(limits(Some(MIN_RATE), &["22:00-06:00"]).check().is_ok());
        assert!(limits(Some(MIN_RATE - 1), &[]).check().is_err());
        assert!(limits(None, &["22:00-06:00"]).check().is_err());
        assert!(!limits(None, &[]).any());
        let night = limits(Some(MIN_RATE), &["22:00-06:00"]);
        assert!(night.apply_at(23 * 60) && !night.apply_at(12 * 60));
        assert!(limits(Some(MIN_RATE), &[]).apply_at(0));
        let text = serde_json::to_string(&night).unwrap();
        assert_eq!(
            text,
            r#"{"up":16384,"down":null,"schedule":["22:00-06:00"]}"#
        );
        assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), night);
    }
}
