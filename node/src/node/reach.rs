//! Tells the network who belongs to the mesh and who of them is not to be talked to.

use super::Runner;
use crate::db::marks;
use crate::engine::Engine;
use crate::net::Peer;

impl Runner {
    pub(super) fn set_peers(&self, engine: &Engine) {
        let own = engine.device();
        let devices = &engine.registry.view().devices;
        let blocked = engine.blocked().iter().filter_map(|id| devices.get(id));
        // First: nobody may slip in between the two lists.
        self.net
            .set_blocked(blocked.map(|entry| entry.public.transport));
        let peers = devices
            .iter()
            .filter(|(id, _)| **id != own && !engine.blocked().contains(id))
            .map(|(id, entry)| {
                let known = marks::addresses(engine.db.read(), id).unwrap_or_default();
                Peer {
                    device: *id,
                    public: entry.public,
                    addresses: known.iter().filter_map(|a| a.parse().ok()).collect(),
                }
            });
        self.net.set_peers(peers.collect());
        self.served.update(engine, &self.folders);
    }
}
