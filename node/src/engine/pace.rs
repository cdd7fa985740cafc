//! How often a file that keeps changing is taken in.
//!
//! Every change stays in its document's history and travels to every device, so a log that is
//! written once a second would cost each of them megabytes a day. The first changes go at once, and a
//! person who saves notices nothing; what goes on after those waits, longer each time. Nothing is lost
//! by waiting: the bytes are where the user put them, and whoever asks (`scan`, `wait`, a full scan,
//! a step that meets the file) is not made to wait.

use std::collections::BTreeMap;

use ownmesh_crypto::ItemId;

/// Changes of a file taken in at once.
const BURST: u32 = 5;
/// The first pause after them, ms; each next is twice as long.
const FIRST: u64 = 10_000;
/// The longest pause, ms.
const MOST: u64 = 60_000;
/// A file without a change for so long starts anew, ms. Longer than [`MOST`], or a file that waits
/// for its turn would count as quiet.
const QUIET: u64 = 2 * MOST;

#[derive(Debug, Clone, Copy)]
struct File {
    taken: u32,
    last: u64,
    until: u64,
}

/// The files of a space that changed lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    files: BTreeMap<ItemId, File>,
    /// When quiet ones are forgotten next.
    sweep_at: u64,
}

impl Pace {
    /// A change of a file was taken in.
    pub(super) fn taken(&mut self, id: ItemId, now: u64) {
        if now >= self.sweep_at {
            self.files.retain(|_, f| now < f.last + QUIET);
            self.sweep_at = now + QUIET;
        }
        let file = self.files.entry(id).or_insert(File {
            taken: 0,
            last: now,
            until: 0,
        });
        if now >= file.last + QUIET {
            file.taken = 0;
        }
        file.taken = file.taken.saturating_add(1);
        file.last = now;
        file.until = match file.taken.checked_sub(BURST) {
            None => 0,
            Some(over) => now + (FIRST << over.min(8)).min(MOST),
        };
    }

    /// The file is read as soon as it is looked at again.
    pub(super) fn let_go(&mut self, id: &ItemId) {
        if let Some(file) = self.files.get_mut(id) {
            file.until = 0;
        }
    }

    /// Files that wait, and when each is due.
    pub(super) fn waiting(&self, now: u64) -> BTreeMap<ItemId, u64> {
        self.files
            .iter()
            .filter(|(_, f)| f.until > now)
            .map(|(id, f)| (*id, f.until))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ItemId = ItemId::from_bytes([1; 16]);

    /// Changes that come as fast as they are taken.
    fn pauses(pace: &mut Pace, mut now: u64, n: usize) -> Vec<u64> {
        let mut out = Vec::new();
        for _ in 0..n {
            pace.taken(A, now);
            let due = pace.waiting(now).get(&A).copied().unwrap_or(now);
            out.push(due - now);
            now = due;
        }
        out
    }

    #[test]
    fn a_burst_goes_at_once_and_then_it_slows_down() {
        let mut pace = Pace::default();
        assert_eq!(
            pauses(&mut pace, 7, 9),
            [0, 0, 0, 0, 10_000, 20_000, 40_000, 60_000, 60_000]
        );
    }

    #[test]
    fn quiet_starts_anew_and_is_forgotten() {
        let mut pace = Pace::default();
        pauses(&mut pace, 0, 8);
        let later = 1_000_000;
        assert_eq!(pauses(&mut pace, later, 2), [0, 0]);
        pace.taken(ItemId::from_bytes([2; 16]), later + QUIET);
        assert_eq!(pace.files.len(), 1);
    }

    #[test]
    fn whoever_meets_the_file_does_not_wait() {
        let mut pace = Pace::default();
        pauses(&mut pace, 0, 5);
        assert_eq!(pace.waiting(1).len(), 1);
        pace.let_go(&A);
        assert!(pace.waiting(1).is_empty());
    }
}
