//! Dialling who is missing.

use std::time::Instant;

use libp2p::PeerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use ownmesh_crypto::DeviceId;

use super::Driver;
use crate::net::NetTrouble;
use crate::net::address::{from_multi, to_multi, transport_key};
use crate::net::dialing::Backoff;
use crate::net::gate::Role;

impl Driver {
    /// Dials whoever is missing and due. Returns: when the next one is.
    pub(super) fn dial_due(&mut self, now: Instant) -> Option<Instant> {
        let missing: Vec<DeviceId> = self
            .devices
            .iter()
            .filter(|(_, d)| d.pinned && !self.reached(&d.peer))
            .map(|(id, _)| *id)
            .collect();
        self.finder.seek(!missing.is_empty());
        for id in &missing {
            if self
                .devices
                .get(id)
                .is_some_and(|device| device.backoff.next() <= now)
            {
                self.dial(*id);
            }
        }
        missing
            .iter()
            .filter(|id| !self.places(id).is_empty())
            .filter_map(|id| Some(self.devices.get(id)?.backoff.next()))
            .min()
    }

    /// Whether there is a connection, proven or on its way to be.
    fn reached(&self, peer: &PeerId) -> bool {
        self.connections
            .values()
            .any(|connection| connection.peer == *peer && connection.role == Role::Pinned)
    }

    fn places(&self, id: &DeviceId) -> Vec<std::net::SocketAddr> {
        let Some(device) = self.devices.get(id) else {
            return Vec::new();
        };
        self.adverts.addresses(
            &device.peer,
            device.addresses.iter().copied().chain(device.last),
        )
    }

    /// One dial for each address: a dial with several ends at the first that answers, even if the wrong device does. From a new
    /// port, since two devices that dial each other from their listening ports can meet in one half-made connection.
    fn dial(&mut self, id: DeviceId) {
        let places = self.places(&id);
        if places.is_empty() {
            return;
        }
        self.delay(id);
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let tried: Vec<_> = device.dials.values().copied().collect();
        for place in places.into_iter().filter(|place| !tried.contains(place)) {
            let opts = DialOpts::peer_id(device.peer)
                .addresses(vec![to_multi(place)])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build();
            let connection = opts.connection_id();
            if self.swarm.dial(opts).is_ok() {
                device.dials.insert(connection, place);
            }
        }
    }

    /// Puts the next dial off.
    pub(super) fn delay(&mut self, id: DeviceId) {
        let chance = self.chance();
        if let Some(device) = self.devices.get_mut(&id) {
            device.backoff.failed(Instant::now(), chance);
        }
    }

    /// Something new is known: everybody who is missing is dialled now.
    pub(super) fn hurry(&mut self) {
        let (now, own) = (Instant::now(), *self.swarm.local_peer_id());
        for device in self.devices.values_mut() {
            let head_start = if own < device.peer {
                std::time::Duration::ZERO
            } else {
                super::COURTESY
            };
            device.backoff = Backoff::new(now, head_start);
        }
    }

    pub(super) fn handle_dial_error(&mut self, connection: ConnectionId, error: &DialError) {
        let Some((id, device)) = self
            .devices
            .iter_mut()
            .find(|(_, device)| device.dials.contains_key(&connection))
        else {
            return;
        };
        let id = *id;
        let place = device.dials.remove(&connection);
        let given = place.is_some_and(|place| device.addresses.contains(&place));
        if let DialError::WrongPeerId { obtained, address } = error
            && let Some(address) = from_multi(address)
        {
            self.adverts.owned(address, *obtained);
            // One of ours at another's old address is a change of addresses, no more.
            if given
                && !self.by_peer.contains_key(obtained)
                && obtained != self.swarm.local_peer_id()
            {
                self.trouble(NetTrouble::OtherPeer {
                    device: id,
                    transport: transport_key(obtained),
                    address,
                });
            }
        }
    }
}
