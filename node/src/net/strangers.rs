//! Counts what unknown devices try, by IP address.
//!
//! Only a finished handshake shows who somebody is, so every stranger costs one. This bounds how many an address may cost us.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Refused connects from one address before it is dropped unheard.
const PER_MINUTE: u32 = 30;
/// What they are counted over.
const MINUTE: Duration = Duration::from_secs(60);
/// How long an address is dropped.
const BAN: Duration = Duration::from_secs(600);
/// Addresses remembered.
const ADDRESSES_MAX: usize = 1024;
/// Handshakes of one address at the same time: a quarter of all that may be pending, so that no one address takes all.
const PENDING_PER_ADDRESS: u32 = 8;

/// The memory. Addresses of this machine are never banned: that would let one local program cut off the others, and a flood from
/// inside costs the flooder's own machine.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    refused: HashMap<IpAddr, Count>,
    pending: HashMap<IpAddr, u32>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    refused: u32,
    banned_until: Option<Instant>,
}

impl Strangers {
    /// Whether a handshake with this address may begin; if so, [`settled`](Self::settled) must follow.
    pub(crate) fn begin(&mut self, now: Instant, ip: IpAddr) -> bool {
        if self.banned(now, ip) {
            return false;
        }
        let pending = self.pending.entry(ip).or_default();
        if *pending >= PENDING_PER_ADDRESS {
            return false;
        }
        *pending += 1;
        true
    }

    /// A handshake is over, one way or the other.
    pub(crate) fn settled(&mut self, ip: IpAddr) {
        if let Some(pending) = self.pending.get_mut(&ip) {
            *pending -= 1;
            if *pending == 0 {
                self.pending.remove(&ip);
            }
        }
    }

    /// Somebody unknown was refused.
    pub(crate) fn refused(&mut self, now: Instant, ip: IpAddr) {
        if ip.is_loopback() {
            return;
        }
        if self.refused.len() >= ADDRESSES_MAX && !self.refused.contains_key(&ip) {
            self.refused.retain(|_, count| {
                count.banned_until.is_some_and(|t| t > now)
                    || now.duration_since(count.since) < MINUTE
            });
            if self.refused.len() >= ADDRESSES_MAX {
                return;
            }
        }
        let count = self.refused.entry(ip).or_insert(Count {
            since: now,
            refused: 0,
            banned_until: None,
        });
        if now.duration_since(count.since) >= MINUTE {
            (count.since, count.refused) = (now, 0);
        }
        count.refused += 1;
        if count.refused >= PER_MINUTE {
            count.banned_until = Some(now + BAN);
        }
    }

    fn banned(&self, now: Instant, ip: IpAddr) -> bool {
        self.refused
            .get(&ip)
            .and_then(|count| count.banned_until)
            .is_some_and(|until| until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dropped_after_thirty_and_forgiven_after_ten_minutes() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        let bad: IpAddr = [192, 0, 2, 1].into();
        for _ in 0..PER_MINUTE {
            assert!(strangers.begin(start, bad));
            strangers.settled(bad);
            strangers.refused(start, bad);
        }
        assert!(!strangers.begin(start, bad));
        assert!(strangers.begin(start, [192, 0, 2, 2].into()));
        assert!(strangers.begin(start + BAN, bad));
    }

    #[test]
    fn no_address_takes_all_handshakes() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        let ip: IpAddr = [127, 0, 0, 1].into();
        for _ in 0..PENDING_PER_ADDRESS {
            assert!(strangers.begin(start, ip));
        }
        assert!(!strangers.begin(start, ip));
        strangers.settled(ip);
        assert!(strangers.begin(start, ip));
    }

    #[test]
    fn memory_is_bounded() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        for i in 0..5000u32 {
            strangers.refused(start, IpAddr::from(i.to_be_bytes()));
        }
        assert!(strangers.refused.len() <= ADDRESSES_MAX);
    }
}
