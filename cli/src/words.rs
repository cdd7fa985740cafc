//! Numbers and times as people read them.

use std::time::SystemTime;

use ownmesh_node::status::Time;

/// This moment.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// How long ago, in the largest unit that fits: `now`, `40 s`, `12 min`, `3 h`, `5 d`.
pub(crate) fn since(then: Time, now: Time) -> String {
    match then.seconds_until(now) {
        0..5 => "now".into(),
        seconds @ 5..100 => format!("{seconds} s"),
        seconds @ 100..5_400 => format!("{} min", seconds / 60),
        seconds @ 5_400..129_600 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// The same as an adverb: `now`, `3 h ago`.
pub(crate) fn ago(then: Time, now: Time) -> String {
    match since(then, now) {
        now if now == "now" => now,
        past => format!("{past} ago"),
    }
}

/// A moment on this machine's clock: the time, with the day if it is another one.
pub(crate) fn clock(at: Time) -> String {
    at.local(now())
}

/// A size with three digits at most: `999 B`, `1.5 kB`, `174 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = bytes as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `1 file`, `12 files`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Columns as wide as their widest cell, two blanks between them; the last one is not padded.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}", width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(
            [0, 999, 1_000, 9_949, 999_499, 999_500, 174_000_000].map(size),
            [
                "0 B", "999 B", "1.0 kB", "9.9 kB", "999 kB", "1.0 MB", "174 MB"
            ]
        );
        let at = |seconds: i64| Time::from_millis(seconds * 1_000);
        assert_eq!(
            [0, 40, 720, 11_000, 500_000].map(|s| since(at(0), at(s))),
            ["now", "40 s", "12 min", "3 h", "5 d"]
        );
        assert_eq!(since(at(10), at(0)), "now");
        assert_eq!(
            table(&[vec!["a".into(), "b".into()], vec!["ccc".into(), "d".into()]]),
            ["a    b", "ccc  d"]
        );
    }
}
