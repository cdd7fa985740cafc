//! What the engine and the content streams share: the limits, and a bucket for each direction.
//!
//! The local time is looked up here, and only while a schedule says that it matters.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Bucket, Lane, Limits, LimitsNow};

/// How old the local time may be, ms.
const LOOK: u64 = 5_000;

/// Decides who may go on. Shared by threads; nothing waits while it is locked.
#[derive(Debug, Default)]
pub struct Pacer(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    up: Bucket,
    down: Bucket,
    active: bool,
    looked: Option<u64>,
}

impl Pacer {
    /// Takes other limits; they hold from the next slice on.
    pub fn set(&self, now: u64, limits: Limits) {
        let mut state = self.lock();
        state.limits = limits;
        state.looked = None;
        state.look(now);
    }

    /// What holds at the moment.
    #[must_use]
    pub fn now(&self, now: u64) -> LimitsNow {
        let mut state = self.lock();
        state.look(now);
        let Limits { up, down, schedule } = state.limits.clone();
        LimitsNow {
            up,
            down,
            schedule,
            active: state.active,
        }
    }

    /// Whether something may be sent, and how much at once; else how long to wait, ms.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may_send(&self, now: u64, lane: Lane) -> Result<usize, u64> {
        let mut state = self.lock();
        state.look(now);
        state.up.ready(now, lane).map(|()| state.up.slice())
    }

    /// Whether something may be taken in.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may_receive(&self, now: u64, lane: Lane) -> Result<usize, u64> {
        let mut state = self.lock();
        state.look(now);
        state.down.ready(now, lane).map(|()| state.down.slice())
    }

    /// Counts what was sent.
    pub fn sent(&self, now: u64, bytes: usize) {
        self.lock().up.charge(now, bytes as u64);
    }

    /// Counts what came.
    pub fn received(&self, now: u64, bytes: usize) {
        self.lock().down.charge(now, bytes as u64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self, now: u64) {
        let old = |looked: u64| now.saturating_sub(looked) >= LOOK;
        let scheduled = !self.limits.schedule.is_empty();
        if self.looked.is_some() && !(scheduled && self.looked.is_some_and(old)) {
            return;
        }
        self.looked = Some(now);
        self.active = self.limits.any() && (!scheduled || self.limits.apply_at(local_minute()));
        let of = |rate: Option<u64>| rate.filter(|_| self.active);
        let (up, down) = (of(self.limits.up), of(self.limits.down));
        self.up.set_rate(now, up);
        self.down.set_rate(now, down);
    }
}

/// The minute of the day on this machine's clock.
fn local_minute() -> u16 {
    let here = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::system());
    let minute = i32::from(here.hour()) * 60 + i32::from(here.minute());
    u16::try_from(minute).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_limited_while_the_limits_apply() {
        let pacer = Pacer::default();
        assert_eq!(pacer.may_send(0, Lane::Bulk), Ok(usize::MAX));
        assert!(!pacer.now(0).active);
        let mut limits = Limits {
            up: Some(100_000),
            ..Limits::default()
        };
        pacer.set(0, limits.clone());
        pacer.sent(0, 200_000);
        assert_eq!(pacer.may_send(0, Lane::Bulk), Err(2_000));
        assert_eq!(pacer.may_receive(0, Lane::Bulk), Ok(usize::MAX));
        assert!(pacer.now(0).active);
        // The whole day but this hour and the next.
        let minute = local_minute();
        let at = |m: u16| format!("{:02}:{:02}", m % 1_440 / 60, m % 60);
        limits.schedule = vec![
            format!("{}-{}", at(minute + 120), at(minute))
                .parse()
                .unwrap(),
        ];
        pacer.set(0, limits);
        assert!(!pacer.now(0).active);
        assert_eq!(pacer.may_send(0, Lane::Bulk), Ok(usize::MAX));
    }
}
