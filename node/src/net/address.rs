//! Between socket addresses, which the rest of the node speaks, and libp2p's names for addresses and peers.
//!
//! Only TCP over plain IP addresses is ever dialled: a name from the network would let somebody else choose where we connect to.

use std::net::{IpAddr, SocketAddr};

use libp2p::PeerId;
use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};

use super::Route;

/// `/ip4/…/tcp/…`
pub(crate) fn to_multi(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The other way, for TCP over IP.
pub(crate) fn from_multi(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip.to_canonical(), port)),
        _ => None,
    }
}

/// The PeerId of an Ed25519 transport key; `None` for bytes that are no key.
pub(crate) fn peer_id(transport: &[u8; 32]) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(transport).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The Ed25519 key inside a PeerId. PeerIds of Ed25519 keys hold the key itself; zeros for the others, which no device of ours has.
pub(crate) fn transport_key(peer: &PeerId) -> [u8; 32] {
    PublicKey::try_decode_protobuf(peer.as_ref().digest())
        .ok()
        .and_then(|key| key.try_into_ed25519().ok())
        .map_or([0; 32], |key| key.to_bytes())
}

/// Which kind of way an address is.
pub(crate) fn route(ip: IpAddr) -> Route {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Route::Loopback,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Route::Lan,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Route::Lan,
        _ => Route::Direct,
    }
}

/// Whether dialling it can lead anywhere. IPv6 link-local addresses need a scope, which an advert cannot give.
pub(crate) fn dialable(address: &SocketAddr) -> bool {
    let usable = match address.ip() {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    usable && address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_addresses_survive_the_way_there_and_back() {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let public = key.public().try_into_ed25519().unwrap().to_bytes();
        let peer = peer_id(&public).unwrap();
        assert_eq!(peer, key.public().to_peer_id());
        assert_eq!(transport_key(&peer), public);
        for text in ["192.168.1.2:80", "[2001:db8::1]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_multi(&to_multi(address)), Some(address));
        }
        assert_eq!(
            from_multi(&"/dns4/example.org/tcp/1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn routes() {
        for (ip, way) in [
            ("127.0.0.1", Route::Loopback),
            ("10.1.1.1", Route::Lan),
            ("fd00::1", Route::Lan),
            ("8.8.8.8", Route::Direct),
        ] {
            assert_eq!(route(ip.parse().unwrap()), way, "{ip}");
        }
        assert!(!dialable(&"[fe80::1]:1".parse().unwrap()));
        assert!(!dialable(&"0.0.0.0:1".parse().unwrap()));
        assert!(dialable(&"127.0.0.1:1".parse().unwrap()));
    }
}
