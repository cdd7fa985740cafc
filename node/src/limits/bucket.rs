//! A token bucket: how much may pass now, as a function of what passed before and of the time.

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// What is left of a content stream: waits until the bucket is out of debt.
    Bulk,
    /// The beginning of a content stream, all of it for a small file: may pass while the debt is below a second's worth.
    Small,
    /// Changes: may pass while the debt is below two seconds' worth.
    Log,
}

/// Bytes that may pass at once after quiet, as a part of a second.
const BURST: i64 = 4;
/// Time that is counted at most between two looks, ms.
const GAP: u64 = 10_000;

/// One direction. Time is milliseconds since some fixed moment; it may stand still, and never goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bucket {
    /// Bytes a second; none: no limit.
    rate: Option<u64>,
    /// Thousandths of bytes; below zero is debt.
    level: i64,
    at: u64,
}

impl Bucket {
    /// Takes another rate. What was owed is forgotten where there was no limit before.
    pub fn set_rate(&mut self, now: u64, rate: Option<u64>) {
        if self.rate == rate {
            return;
        }
        self.refill(now);
        if self.rate.is_none() {
            (self.level, self.at) = (0, now);
        }
        self.rate = rate;
    }

    /// How many bytes are asked for at once at most: an eighth of a second, so that nobody is held up for longer by one
    /// slice of somebody else.
    #[must_use]
    pub fn slice(&self) -> usize {
        self.rate.map_or(usize::MAX, |rate| {
            usize::try_from(rate / 8)
                .unwrap_or(usize::MAX)
                .clamp(1 << 10, 64 << 10)
        })
    }

    /// Whether a slice may pass now; else how long to wait before asking again, ms, at least 1.
    ///
    /// # Errors
    /// The time to wait.
    pub fn ready(&mut self, now: u64, lane: Lane) -> Result<(), u64> {
        let Some(rate) = self.rate else { return Ok(()) };
        self.refill(now);
        let second = thousandths(rate);
        let floor = match lane {
            Lane::Bulk => 0,
            Lane::Small => -second,
            Lane::Log => second.saturating_mul(-2),
        };
        if self.level >= floor {
            return Ok(());
        }
        let lacking = floor.saturating_sub(self.level).unsigned_abs();
        Err(lacking.div_ceil(rate).max(1))
    }

    /// Counts what passed, whether it was asked for or not.
    pub fn charge(&mut self, now: u64, bytes: u64) {
        if self.rate.is_some() {
            self.refill(now);
            self.level = self.level.saturating_sub(thousandths(bytes));
        }
    }

    fn refill(&mut self, now: u64) {
        let passed = now.saturating_sub(self.at).min(GAP);
        self.at = self.at.max(now);
        let Some(rate) = self.rate else { return };
        let won = i64::try_from(rate.saturating_mul(passed)).unwrap_or(i64::MAX);
        let most = thousandths(rate) / BURST;
        self.level = self.level.saturating_add(won).min(most);
    }
}

fn thousandths(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(rate: u64) -> Bucket {
        let mut bucket = Bucket::default();
        bucket.set_rate(0, Some(rate));
        bucket
    }

    /// Lets as much pass as may in the time, in slices; returns the bytes.
    fn run(bucket: &mut Bucket, from: u64, to: u64, lane: Lane) -> u64 {
        let (mut now, mut passed) = (from, 0);
        while now < to {
            match bucket.ready(now, lane) {
                Ok(()) => {
                    bucket.charge(now, bucket.slice() as u64);
                    passed += bucket.slice() as u64;
                }
                Err(wait) => now += wait,
            }
        }
        passed
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [16 << 10, 100_000, 5_000_000] {
            let mut bucket = bucket(rate);
            let passed = run(&mut bucket, 0, 20_000, Lane::Bulk);
            let expected = 20 * rate;
            assert!(
                passed.abs_diff(expected) < rate / 2,
                "{rate}: {passed} for {expected}"
            );
        }
    }

    #[test]
    fn small_things_pass_beside_a_big_one_and_do_not_undo_the_limit() {
        let mut bucket = bucket(100_000);
        run(&mut bucket, 0, 5_000, Lane::Bulk);
        // In the middle of a big file: an edit of 30 kB and its log go at once.
        assert_eq!(bucket.ready(5_000, Lane::Small), Ok(()));
        bucket.charge(5_000, 30_000);
        assert_eq!(bucket.ready(5_000, Lane::Log), Ok(()));
        // The big one pays for it.
        assert!(bucket.ready(5_000, Lane::Bulk).unwrap_err() >= 200);
        // A stream of small ones is limited all the same.
        let passed = run(&mut bucket, 5_000, 25_000, Lane::Small);
        assert!(passed < 20 * 100_000 + 200_000, "{passed}");
        // And logs go before them.
        assert!(bucket.ready(25_000, Lane::Small).is_err() || bucket.level < 0);
        assert_eq!(bucket.ready(25_000, Lane::Log), Ok(()));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let mut bucket = Bucket::default();
        bucket.charge(0, u64::MAX);
        assert_eq!(bucket.ready(0, Lane::Bulk), Ok(()));
        assert_eq!(bucket.slice(), usize::MAX);
        bucket.set_rate(1_000, Some(50_000));
        assert_eq!(bucket.ready(1_000, Lane::Bulk), Ok(()));
        bucket.charge(1_000, 100_000);
        assert_eq!(bucket.ready(1_000, Lane::Bulk), Err(2_000));
        bucket.set_rate(1_000, None);
        assert_eq!(bucket.ready(1_000, Lane::Bulk), Ok(()));
    }

    #[test]
    fn time_that_jumps_gives_no_more_than_a_burst() {
        let mut bucket = bucket(100_000);
        bucket.charge(1_000_000_000, 0);
        assert!(bucket.level <= 25_000_000);
        // And time that stands still gives nothing.
        bucket.charge(5, 50_000);
        assert!(bucket.ready(4, Lane::Bulk).is_err());
    }
}
