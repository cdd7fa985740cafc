//! Amounts as people type them: times (`90m`, `1h30m`, `2d`) and rates (`500K`, `1.5M`, `off`).

/// Seconds of `45s`, `90m`, `1h30m`, `2d`; a bare number is seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time: as in 45s, 90m, 1h30m or 2d");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next();
        let factor = match unit {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return Err(wrong()),
        };
        total = number
            .checked_mul(factor)
            .and_then(|more| total.checked_add(more))
            .ok_or_else(wrong)?;
        rest = &rest[end + unit.map_or(0, char::len_utf8)..];
    }
    if total == 0 {
        return Err(wrong());
    }
    Ok(total)
}

/// A limit in bytes a second, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate(pub(crate) Option<u64>);

/// Bytes a second of `500K`, `1.5M`, `2MB/s`, `1MiB`; `off` is no limit. K, M and G are thousands, with an i 1,024s.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate: bytes a second as in 500K or 1.5M, or off");
    let plain = text.trim().to_lowercase();
    if matches!(plain.as_str(), "off" | "none") {
        return Ok(Rate(None));
    }
    let plain = plain.strip_suffix("/s").unwrap_or(&plain);
    let end = plain
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(plain.len());
    let (number, unit) = plain.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1024.0 * 1024.0,
        "gi" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let bytes = (number * factor).round();
    if !(1.0..1e15).contains(&bytes) {
        return Err(wrong());
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "compared just above"
    )]
    Ok(Rate(Some(bytes as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(
            ["45s", "90m", "1h30m", "2d", "7", "1w"].map(|t| seconds(t).unwrap()),
            [45, 5_400, 5_400, 172_800, 7, 604_800]
        );
        for bad in ["", "m", "1x", "-5s", "0s", "99999999999999999999d", "1ä"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates() {
        let bytes = |text: &str| rate(text).unwrap().0;
        assert_eq!(bytes("500K"), Some(500_000));
        assert_eq!(bytes("1.5MB/s"), Some(1_500_000));
        assert_eq!(bytes("1MiB"), Some(1 << 20));
        assert_eq!(bytes("off"), None);
        for bad in ["", "0", "fast", "1T", "-1K", "1e3", "."] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
