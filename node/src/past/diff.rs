//! How two texts differ, as `diff -u` shows it. Pure: bytes in, words out.
//!
//! Guarded against: a file that is no text on somebody's terminal, and two that would be compared for minutes.

use std::time::Duration;

use similar::TextDiff;

use crate::status::{DiffKind, VersionDiff};

/// Longer contents are not compared, bytes.
pub(crate) const LIMIT: u64 = 1 << 20;
/// After so long the rest is told as one change.
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines shown around a change.
const CONTEXT: usize = 3;

/// One of the two sides.
pub(crate) struct Side<'a> {
    /// What it is called in the head of the diff.
    pub(crate) name: &'a str,
    /// All of it, or more than [`LIMIT`] bytes.
    pub(crate) bytes: &'a [u8],
}

/// What turns one side into the other.
pub(crate) fn unified(old: &Side<'_>, new: &Side<'_>) -> VersionDiff {
    let too_large = |side: &Side<'_>| side.bytes.len() as u64 > LIMIT;
    if too_large(old) || too_large(new) {
        return DiffKind::TooLarge.into();
    }
    if old.bytes == new.bytes {
        return DiffKind::Same.into();
    }
    let (Some(before), Some(after)) = (text(old.bytes), text(new.bytes)) else {
        return DiffKind::Binary.into();
    };
    let mut config = TextDiff::configure();
    let diff = config.timeout(PATIENCE).diff_lines(before, after);
    let mut shown = diff.unified_diff();
    shown
        .context_radius(CONTEXT)
        .header(&name(old.name), &name(new.name));
    VersionDiff {
        kind: DiffKind::Text,
        text: Some(shown.to_string()),
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok();
    text.filter(|text| !text.contains('\0'))
}

/// A name is one line.
fn name(name: &str) -> String {
    if name.contains(char::is_control) {
        name.escape_debug().to_string()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(old: &[u8], new: &[u8]) -> VersionDiff {
        let side = |name, bytes| Side { name, bytes };
        unified(&side("notes", old), &side("no\ntes", new))
    }

    #[test]
    fn texts_are_compared_by_lines() {
        let diff = of(b"1\n2\n3\n4\n5\n6\n", b"1\n2\n3\n4\nfive\n6");
        assert_eq!(diff.kind, DiffKind::Text);
        assert_eq!(
            diff.text.unwrap(),
            "--- notes\n+++ no\\ntes\n@@ -2,5 +2,5 @@\n 2\n 3\n 4\n-5\n-6\n+five\n+6\n\\ No newline at end of file\n"
        );
        assert_eq!(of(b"a\n", b"").text.unwrap().lines().last(), Some("-a"));
    }

    #[test]
    fn what_is_no_text_or_too_long_is_called_so() {
        let long = vec![b'a'; usize::try_from(LIMIT).unwrap() + 1];
        assert_eq!(of(b"a", b"a").kind, DiffKind::Same);
        assert_eq!(of(b"a", b"a\0").kind, DiffKind::Binary);
        assert_eq!(of(b"a", b"\xff").kind, DiffKind::Binary);
        assert_eq!(of(b"a", &long).kind, DiffKind::TooLarge);
        assert_eq!(of(&long, &long).kind, DiffKind::TooLarge);
    }
}
