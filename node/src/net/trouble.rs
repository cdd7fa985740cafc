//! Tells troubles once and counts their repetitions.
//!
//! Guards the engine's event queue and the audit log against anybody who can cause trouble at will.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::NetTrouble;

/// Equal troubles within this are counted, not told.
const QUIET: Duration = Duration::from_secs(60);
/// Different troubles remembered. Beyond it the oldest kind is forgotten; strangers can make as many as they like.
const KINDS_MAX: usize = 64;
/// Troubles told in one [`QUIET`] in all.
const TOLD_MAX: u32 = 64;

/// The memory of what was told.
#[derive(Debug)]
pub(crate) struct Troubles {
    kinds: HashMap<NetTrouble, (Instant, u64)>,
    since: Instant,
    told: u32,
}

impl Troubles {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            kinds: HashMap::new(),
            since: now,
            told: 0,
        }
    }

    /// The count to tell it with, or `None` to keep quiet. Strangers are one kind per address, whatever key they make up.
    pub(crate) fn report(&mut self, now: Instant, trouble: &NetTrouble) -> Option<u64> {
        let mut kind = trouble.clone();
        if let NetTrouble::Stranger { transport, address } = &mut kind {
            *transport = [0; 32];
            address.set_port(0);
        }
        if now.duration_since(self.since) >= QUIET {
            (self.since, self.told) = (now, 0);
        }
        if let Some((last, unsaid)) = self.kinds.get_mut(&kind) {
            *unsaid += 1;
            if now.duration_since(*last) < QUIET || self.told >= TOLD_MAX {
                return None;
            }
            self.told += 1;
            *last = now;
            return Some(std::mem::take(unsaid));
        }
        if self.told >= TOLD_MAX {
            return None;
        }
        if self.kinds.len() >= KINDS_MAX
            && let Some(oldest) = self
                .kinds
                .iter()
                .min_by_key(|(_, (last, _))| *last)
                .map(|(kind, _)| kind.clone())
        {
            self.kinds.remove(&oldest);
        }
        self.told += 1;
        self.kinds.insert(kind, (now, 0));
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted() {
        let start = Instant::now();
        let mut troubles = Troubles::new(start);
        let stranger = |port| NetTrouble::Stranger {
            transport: [port as u8; 32],
            address: ([10, 0, 0, 1], port).into(),
        };
        assert_eq!(troubles.report(start, &stranger(1)), Some(1));
        assert_eq!(troubles.report(start, &stranger(2)), None);
        assert_eq!(troubles.report(start, &stranger(3)), None);
        assert_eq!(troubles.report(start + QUIET, &stranger(4)), Some(3));
    }

    #[test]
    fn inventing_troubles_has_an_end() {
        let start = Instant::now();
        let mut troubles = Troubles::new(start);
        let told = (0..1000u32)
            .filter(|i| {
                let address = (i.to_be_bytes(), 1).into();
                troubles
                    .report(
                        start,
                        &NetTrouble::Stranger {
                            transport: [0; 32],
                            address,
                        },
                    )
                    .is_some()
            })
            .count();
        assert_eq!(told, TOLD_MAX as usize);
        assert!(troubles.kinds.len() <= KINDS_MAX);
    }
}
