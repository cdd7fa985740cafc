//! How much content came from where, for people and for the choice of whom to ask.
//!
//! Counts content bytes, not the channel's; `net::Counters` has those.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ownmesh_crypto::DeviceId;

use super::fetch::Fetched;

/// Told of each step of a [`fetch`](super::fetch::fetch), on its writing thread: quick answers, please.
pub trait Progress: Send + Sync {
    /// So many more bytes of content came over the network, or from our own files.
    fn moved(&self, from_net: u64, from_local: u64);
    /// One want is done, well or badly; it can be placed before the others are done.
    fn done(&self, fetched: &Fetched) {
        let _ = fetched;
    }
}

/// What moved between us and one device.
#[derive(Debug, Default)]
pub struct PeerCounts {
    from_net: AtomicU64,
    from_local: AtomicU64,
}

impl PeerCounts {
    /// Bytes of content received from the device.
    pub fn from_net(&self) -> u64 {
        self.from_net.load(Ordering::Relaxed)
    }

    /// Bytes of content that did not have to be asked from it, because own files held them.
    pub fn from_local(&self) -> u64 {
        self.from_local.load(Ordering::Relaxed)
    }
}

impl Progress for PeerCounts {
    fn moved(&self, from_net: u64, from_local: u64) {
        self.from_net.fetch_add(from_net, Ordering::Relaxed);
        self.from_local.fetch_add(from_local, Ordering::Relaxed);
    }
}

/// The counts of all devices. Entries stay: there are as many as devices were ever asked.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<DeviceId, Arc<PeerCounts>>>);

impl Counters {
    /// The counts of one device.
    pub fn of(&self, peer: &DeviceId) -> Arc<PeerCounts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(*peer).or_default())
    }
}
