//! A time of day from-to, in this machine's local time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// From a minute of the day to another; over midnight if the end lies before the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    from: u16,
    to: u16,
}

/// Not a time of day from-to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not HH:MM-HH:MM, as in 22:00-06:30")]
pub struct WindowError(String);

impl Window {
    /// Whether a minute of the day lies in it. Its end does not.
    #[must_use]
    pub fn holds(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl FromStr for Window {
    type Err = WindowError;

    fn from_str(text: &str) -> Result<Self, WindowError> {
        let wrong = || WindowError(text.to_owned());
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (
            minute(from).ok_or_else(wrong)?,
            minute(to).ok_or_else(wrong)?,
        );
        // The end of the day may be called 24:00; it is where the next one begins.
        if from == DAY || from == to {
            return Err(wrong());
        }
        Ok(Self { from, to: to % DAY })
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let two = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !two(hours) || !two(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        let window = |text: &str| text.parse::<Window>();
        let day = window("08:00-18:30").unwrap();
        assert!(day.holds(8 * 60) && day.holds(18 * 60 + 29));
        assert!(!day.holds(18 * 60 + 30) && !day.holds(0));
        let night = window("22:00-06:00").unwrap();
        assert!(night.holds(23 * 60) && night.holds(0) && !night.holds(6 * 60));
        assert_eq!(window("18:00-24:00").unwrap().to_string(), "18:00-00:00");
        for bad in [
            "",
            "8-9",
            "08:00",
            "08:00-08:00",
            "24:00-06:00",
            "25:00-26:00",
            "08:60-09:00",
            "+8:00-09:00",
        ] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
