//! Times as people type them: `30m`, `2h`, `3d` ago, or a moment.

use ownmesh_node::command::CommandError;
use ownmesh_node::status::Time;

use crate::error::Result;
use crate::words;

/// Reads a time that lies in the past: a number and `s`, `m`, `h`, `d` or `w`, or RFC 3339.
pub(crate) fn past(text: &str) -> Result<Time> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || {
        CommandError::usage(format!("{text:?} is no time"))
            .hint("say how long ago as 30m, 2h, 3d or 1w, or name a moment as 2026-01-31T18:00:00Z")
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds: i64 = match &text[digits.len()..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(wrong()),
    };
    let number: i64 = digits.parse().ok().filter(|n| *n >= 0).ok_or_else(wrong)?;
    let back = number
        .checked_mul(seconds)
        .and_then(|s| s.checked_mul(1_000))
        .ok_or_else(wrong)?;
    Ok(Time::from_millis(
        words::now().as_millis().saturating_sub(back),
    ))
}

/// A moment, to the minute.
pub(crate) fn minute(time: Time) -> String {
    let text: String = time.to_string().chars().take(16).collect();
    text.replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_people_type() {
        let ago = |text: &str| past(text).unwrap().seconds_until(words::now());
        assert!((3_600..3_610).contains(&ago("1h")));
        assert!((172_800..172_810).contains(&ago("2d")));
        assert_eq!(
            past("2026-01-31T18:00:00Z").unwrap().as_millis(),
            1_769_882_400_000
        );
        for wrong in [
            "",
            "h",
            "1",
            "-1h",
            "1y",
            "yesterday",
            "99999999999999999999h",
        ] {
            assert!(past(wrong).is_err(), "{wrong}");
        }
    }
}
