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
/// Handshakes at the same time of addresses where no device of ours is known to be: three quarters of all, so that somebody with many
/// addresses leaves room for those who belong here.
const PENDING_ELSEWHERE: u32 = 24;

/// The memory. Addresses of this machine are never banned: that would let one local program cut off the others, and a flood from
/// inside costs the flooder's own machine.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    refused: HashMap<IpAddr, Count>,
    pending: HashMap<IpAddr, u32>,
    elsewhere: u32,
}

/// Whether a device of ours is known to be at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Familiar,
    Elsewhere,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    refused: u32,
    banned_until: Option<Instant>,
}

impl Strangers {
    /// Whether a handshake with this address may begin; if so, [`settled`](Self::settled) must follow with the same place.
    pub(crate) fn begin(&mut self, now: Instant, ip: IpAddr, place: Place) -> bool {
        if self.banned(now, ip) {
            return false;
        }
        if place == Place::Elsewhere && self.elsewhere >= PENDING_ELSEWHERE {
            return false;
        }
        let pending = self.pending.get(&ip).copied().unwrap_or_default();
        if pending >= PENDING_PER_ADDRESS {
            return false;
        }
        self.pending.insert(ip, pending + 1);
        self.elsewhere += u32::from(place == Place::Elsewhere);
        true
    }

    /// A handshake is over, one way or the other.
    pub(crate) fn settled(&mut self, ip: IpAddr, place: Place) {
        self.elsewhere -= u32::from(place == Place::Elsewhere);
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

    /// Security test 76.
    #[test]
    fn an_address_is_dropped_after_thirty_and_forgiven_after_ten_minutes() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        let bad: IpAddr = [192, 0, 2, 1].into();
        for _ in 0..PER_MINUTE {
            assert!(strangers.begin(start, bad, Place::Elsewhere));
            strangers.settled(bad, Place::Elsewhere);
            strangers.refused(start, bad);
        }
        assert!(!strangers.begin(start, bad, Place::Elsewhere));
        assert!(strangers.begin(start, [192, 0, 2, 2].into(), Place::Elsewhere));
        assert!(strangers.begin(start + BAN, bad, Place::Elsewhere));
    }

    /// Security test 75.
    #[test]
    fn no_address_takes_all_handshakes() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        let ip: IpAddr = [127, 0, 0, 1].into();
        for _ in 0..PENDING_PER_ADDRESS {
            assert!(strangers.begin(start, ip, Place::Familiar));
        }
        assert!(!strangers.begin(start, ip, Place::Familiar));
        strangers.settled(ip, Place::Familiar);
        assert!(strangers.begin(start, ip, Place::Familiar));
    }

    /// Security test 75.
    #[test]
    fn many_addresses_leave_room_for_those_who_belong_here() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let mut begin = |n| strangers.begin(start, address(n), Place::Elsewhere);
        assert_eq!(
            (0..1000).filter(|n| begin(*n)).count(),
            PENDING_ELSEWHERE as usize
        );
        let ours: IpAddr = [10, 0, 0, 2].into();
        assert!(strangers.begin(start, ours, Place::Familiar));
        assert!(!strangers.begin(start, address(2000), Place::Elsewhere));
        strangers.settled(ours, Place::Familiar);
        assert!(!strangers.begin(start, address(2000), Place::Elsewhere));
        strangers.settled(address(0), Place::Elsewhere);
        assert!(strangers.begin(start, address(2000), Place::Elsewhere));
    }

    /// Security test 76.
    #[test]
    fn memory_is_bounded() {
        let (start, mut strangers) = (Instant::now(), Strangers::default());
        for i in 0..5000u32 {
            strangers.refused(start, IpAddr::from(i.to_be_bytes()));
        }
        assert!(strangers.refused.len() <= ADDRESSES_MAX);
    }
}
