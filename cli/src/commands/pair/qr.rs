//! A ticket as a QR code on the terminal: two modules a character, so that it is square and fits.
//!
//! A ticket has upper-case letters and digits only, for which QR codes have a mode of their own: with four addresses it needs 77 columns.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// Black on white whatever the terminal's colours are: scanners do not read negatives.
const COLOURS: (&str, &str) = ("\u{1b}[107;30m", "\u{1b}[0m");

/// The lines to print; nothing for a text that no QR code holds. Without `colours` it is right on a dark terminal.
pub(super) fn lines(text: &str, colours: bool) -> Vec<String> {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else {
        return Vec::new();
    };
    // `Dark` is what the terminal draws with, `Light` what it draws on.
    let (dark, light) = if colours {
        (Dense1x2::Dark, Dense1x2::Light)
    } else {
        (Dense1x2::Light, Dense1x2::Dark)
    };
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(dark)
        .light_color(light)
        .quiet_zone(true)
        .build();
    let (on, off) = if colours { COLOURS } else { ("", "") };
    drawn
        .lines()
        .map(|line| format!("{on}{line}{off}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ticket with four addresses, the longest there is.
    fn longest() -> String {
        format!("MESH1:{}", "A7".repeat(311))
    }

    #[test]
    fn the_longest_ticket_fits_a_usual_terminal() {
        let drawn = lines(&longest(), false);
        let widths: Vec<usize> = drawn.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
        assert!(
            widths[0] <= 85 && drawn.len() <= 43,
            "{} x {}",
            widths[0],
            drawn.len()
        );
    }

    #[test]
    fn light_is_light_in_either_way() {
        // The border is four modules wide and light.
        let (bare, coloured) = (lines("MESH1:A", false), lines("MESH1:A", true));
        assert!(bare[0].chars().all(|c| c == '\u{2588}'), "{}", bare[0]);
        let inner = coloured[0].strip_prefix(COLOURS.0).unwrap();
        let inner = inner.strip_suffix(COLOURS.1).unwrap();
        assert!(inner.chars().all(|c| c == ' '), "{inner}");
        assert!(lines(&"A".repeat(5_000), false).is_empty());
    }
}
