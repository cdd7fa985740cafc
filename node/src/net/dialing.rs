//! When to dial whom, and where.
//!
//! Pure. Guards the network and the battery: attempts thin out to two a minute, spread by chance so that two devices or a whole
//! mesh do not move in step; anything newly found resets the wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::address::dialable;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait: a device that comes back without any discovery is found within this.
const LONGEST: Duration = Duration::from_secs(30);
/// Adverts remembered: 32 devices, in both ways of being found, and some that lie.
const ADVERTS_MAX: usize = 128;
/// Addresses of one advert: as many as a machine with many interfaces has.
const PER_ADVERT_MAX: usize = 16;
/// Addresses dialled at once for one device.
const PER_DIAL_MAX: usize = 16;

/// One device's waiting time.
#[derive(Debug)]
pub(crate) struct Backoff {
    delay: Duration,
    next: Instant,
}

impl Backoff {
    /// Due after `head_start`.
    pub(crate) fn new(now: Instant, head_start: Duration) -> Self {
        Self {
            delay: FIRST,
            next: now + head_start,
        }
    }

    /// When the next attempt is due.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// An attempt begins or failed: the next one later, between half and the whole of a delay that doubles. `chance` is in 0..1.
    pub(crate) fn failed(&mut self, now: Instant, chance: f64) {
        self.next = now + self.delay.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.delay = (self.delay * 2).min(LONGEST);
    }
}

/// Addresses that adverts name, and who is known to be there.
#[derive(Debug, Default)]
pub(crate) struct Adverts {
    by_source: BTreeMap<String, Vec<SocketAddr>>,
    owners: BTreeMap<SocketAddr, PeerId>,
}

impl Adverts {
    /// Adds what a source names now. Addresses are merged: the first answer may be incomplete.
    ///
    /// Returns: whether any of it is new.
    pub(crate) fn found(&mut self, source: String, addresses: &[SocketAddr]) -> bool {
        if !self.by_source.contains_key(&source) && self.by_source.len() >= ADVERTS_MAX {
            return false;
        }
        let known = self.by_source.entry(source).or_default();
        let mut new = false;
        for address in addresses.iter().filter(|address| dialable(address)) {
            if known.len() < PER_ADVERT_MAX && !known.contains(address) {
                known.push(*address);
                self.owners.remove(address);
                new = true;
            }
        }
        new
    }

    /// A source is gone.
    pub(crate) fn gone(&mut self, source: &str) {
        for address in self.by_source.remove(source).unwrap_or_default() {
            self.owners.remove(&address);
        }
    }

    /// This peer was met there. Others need not look for themselves at this address any more.
    pub(crate) fn owned(&mut self, address: SocketAddr, peer: PeerId) {
        if self
            .by_source
            .values()
            .flatten()
            .any(|known| *known == address)
        {
            self.owners.insert(address, peer);
        }
    }

    /// Where this device may be, `given` addresses first.
    pub(crate) fn addresses(
        &self,
        peer: &PeerId,
        given: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let mut all = Vec::new();
        let advertised = self.by_source.values().flatten().copied();
        let advertised =
            advertised.filter(|address| self.owners.get(address).is_none_or(|owner| owner == peer));
        for address in given.into_iter().filter(dialable).chain(advertised) {
            if all.len() < PER_DIAL_MAX && !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let start = Instant::now();
        let mut backoff = Backoff::new(start, Duration::ZERO);
        let mut waits = Vec::new();
        for _ in 0..10 {
            backoff.failed(start, 1.0);
            waits.push(backoff.next() - start);
        }
        assert_eq!(waits[0], FIRST);
        assert_eq!(waits[3], FIRST * 8);
        assert_eq!(waits[9], LONGEST);
        backoff.failed(start, 0.0);
        assert_eq!(backoff.next() - start, LONGEST / 2);
    }

    #[test]
    fn adverts_merge_and_learn_their_owner() {
        let mut adverts = Adverts::default();
        let (x, y) = (PeerId::random(), PeerId::random());
        let [a, b, c]: [SocketAddr; 3] =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|s| s.parse().unwrap());
        assert!(adverts.found("one".into(), &[a]));
        assert!(adverts.found("one".into(), &[b, "[fe80::1]:1".parse().unwrap()]));
        assert!(!adverts.found("one".into(), &[a, b]));
        assert_eq!(adverts.addresses(&x, [c]), [c, a, b]);
        adverts.owned(a, y);
        assert_eq!(adverts.addresses(&x, []), [b]);
        assert_eq!(adverts.addresses(&y, []), [a, b]);
        adverts.gone("one");
        assert_eq!(adverts.addresses(&y, []), []);
    }

    #[test]
    fn adverts_are_bounded() {
        let mut adverts = Adverts::default();
        for i in 0..1000u32 {
            adverts.found(i.to_string(), &[SocketAddr::from((i.to_be_bytes(), 1))]);
        }
        assert!(adverts.by_source.len() <= ADVERTS_MAX);
    }
}
