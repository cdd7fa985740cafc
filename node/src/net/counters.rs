//! How many bytes went to and came from whom, by protocol. Payload bytes, without the channel's own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ownmesh_crypto::DeviceId;

/// Which protocol bytes belong to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// `/mesh/control/1`
    Control,
    /// `/mesh/content/1`
    Content,
}

/// Bytes both ways since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// A snapshot of all counters.
pub type Counters = BTreeMap<(DeviceId, Protocol), Traffic>;

/// One counter; cheap to add to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Tally {
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// All counters. Entries stay for the process's life: there are as many as devices were ever pinned.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<(DeviceId, Protocol), Arc<Tally>>>);

impl Ledger {
    pub(crate) fn tally(&self, device: DeviceId, protocol: Protocol) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry((device, protocol)).or_default().clone()
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |t: &Tally| Traffic {
            received: t.received.load(Ordering::Relaxed),
            sent: t.sent.load(Ordering::Relaxed),
        };
        all.iter().map(|(key, tally)| (*key, read(tally))).collect()
    }
}
