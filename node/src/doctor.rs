//! `mesh doctor`: what may be wrong with this device and around it, and what to do about each.
//!
//! Everything here only looks. What needs no node is in `offline`, so that it can be asked when none runs; what a
//! running node knows is read from its status. A check never ends the others.

mod around;
mod folders;
mod home;
mod live;

use serde::{Deserialize, Serialize};

pub use live::of_status;

use crate::home::Home;
use crate::status::Time;

/// How bad it is.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All right.
    #[default]
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Something has to be done.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Check {
    /// A stable word for scripts.
    pub name: String,
    /// How it is.
    pub level: Level,
    /// The same in a sentence.
    pub finding: String,
    /// What to do; empty where nothing has to be done.
    pub remedy: String,
    /// What it is about: a path, a space, a device.
    pub item: Option<String>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Doctor {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// What was looked at, the worst first.
    pub checks: Vec<Check>,
}

impl Check {
    /// All right.
    pub fn fine(name: &str, finding: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            finding: finding.into(),
            ..Self::default()
        }
    }

    /// Worth knowing.
    pub fn note(name: &str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Note,
            remedy: remedy.into(),
            ..Self::fine(name, finding)
        }
    }

    /// Wrong.
    pub fn wrong(name: &str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Wrong,
            remedy: remedy.into(),
            ..Self::fine(name, finding)
        }
    }

    /// Names what it is about.
    #[must_use]
    pub fn about(mut self, item: impl Into<String>) -> Self {
        self.item = Some(item.into());
        self
    }
}

impl Doctor {
    /// Gathers checks, the worst first, else in their order.
    #[must_use]
    pub fn new(mut checks: Vec<Check>) -> Self {
        checks.sort_by_key(|check| std::cmp::Reverse(check.level));
        Self {
            ok: checks.iter().all(|check| check.level < Level::Wrong),
            checks,
        }
    }
}

/// What can be looked at without a node. May take a while: the whole database is read.
#[must_use]
pub fn offline(home: &Home, now: Time, running: bool) -> Vec<Check> {
    let mut checks = home::checks(home);
    match crate::db::Db::reader(&home.db_path()) {
        Ok(conn) => {
            checks.push(home::database(&conn, home));
            checks.push(home::clock(&conn, now));
            checks.push(home::log(&conn, home));
            checks.extend(folders::checks(&conn));
            checks.push(around::watches(&conn));
            checks.extend(around::port(&conn, running));
        }
        Err(error) => checks.push(home::unreadable(&error, home)),
    }
    checks.push(around::multicast());
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first_and_decides() {
        let notes = vec![Check::fine("a", "a"), Check::note("b", "b", "c")];
        let doctor = Doctor::new(notes.clone());
        assert!(doctor.ok && doctor.checks[0].name == "b");
        let doctor = Doctor::new([notes, vec![Check::wrong("d", "d", "e").about("f")]].concat());
        assert!(!doctor.ok && doctor.checks[0].item.as_deref() == Some("f"));
    }
}
