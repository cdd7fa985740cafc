//! The proof two devices give each other on every connection.
//!
//! The channel proves the transport key. Hello proves the signing key as well and binds it to both ends, both fresh challenges, the
//! role and the mesh, so that it can be neither replayed, reflected nor carried to another connection.

use crate::ids::MeshId;
use crate::keys::{BadSignature, DeviceKeys, verify as verify_signature};
use crate::labels::Label;

/// Which end of a connection a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// Opened the connection.
    Dialer = 1,
    /// Accepted it.
    Listener = 2,
}

/// One connection as one end sees it. Each end fills in its own view, signs it, and checks the other's signature against it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The mesh both belong to.
    pub mesh_id: MeshId,
    /// Which end we are.
    pub role: Role,
    /// 32 random bytes the peer sent for this connection.
    pub challenge_peer: [u8; 32],
    /// 32 random bytes we sent for this connection.
    pub challenge_own: [u8; 32],
    /// The Ed25519 key of the peer's PeerId, as the channel proved it.
    pub transport_peer: [u8; 32],
    /// The Ed25519 key of our PeerId.
    pub transport_own: [u8; 32],
}

impl Hello {
    /// The same connection as the other end sees it.
    pub fn mirrored(&self) -> Self {
        Self {
            mesh_id: self.mesh_id,
            role: match self.role {
                Role::Dialer => Role::Listener,
                Role::Listener => Role::Dialer,
            },
            challenge_peer: self.challenge_own,
            challenge_own: self.challenge_peer,
            transport_peer: self.transport_own,
            transport_own: self.transport_peer,
        }
    }
}

/// The bytes that are signed: `challenge_peer ‖ challenge_own ‖ transport_peer ‖ transport_own ‖ role ‖ mesh_id`, 145 in all.
pub fn payload(hello: &Hello) -> Vec<u8> {
    let mut out = Vec::with_capacity(145);
    out.extend_from_slice(&hello.challenge_peer);
    out.extend_from_slice(&hello.challenge_own);
    out.extend_from_slice(&hello.transport_peer);
    out.extend_from_slice(&hello.transport_own);
    out.push(hello.role as u8);
    out.extend_from_slice(hello.mesh_id.as_bytes());
    out
}

/// Signs our view.
pub fn sign(keys: &DeviceKeys, own: &Hello) -> [u8; 64] {
    keys.sign(Label::SIGN_HELLO, &payload(own))
}

/// Checks the peer's signature, given **our** view of the connection and the peer's signing key from the registry.
pub fn verify(peer_sign: &[u8; 32], own: &Hello, signature: &[u8; 64]) -> Result<(), BadSignature> {
    verify_signature(
        peer_sign,
        Label::SIGN_HELLO,
        &payload(&own.mirrored()),
        signature,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keys, rng};

    fn view() -> Hello {
        Hello {
            mesh_id: MeshId::from_bytes([9; 16]),
            role: Role::Dialer,
            challenge_peer: [1; 32],
            challenge_own: [2; 32],
            transport_peer: [3; 32],
            transport_own: [4; 32],
        }
    }

    /// Security test 28.
    #[test]
    fn proves_one_end_of_one_connection() {
        let (mut rng, laptop) = (rng(1), view());
        let keys = keys(&mut rng);
        let signature = sign(&keys, &laptop);
        let nas = laptop.mirrored();
        assert_eq!(payload(&nas).len(), 145);
        assert_eq!(verify(&keys.public().sign, &nas, &signature), Ok(()));

        // reflected to its author
        assert_eq!(
            verify(&keys.public().sign, &laptop, &signature),
            Err(BadSignature)
        );
        // replayed on another connection, to another device, in another mesh, in the other role
        let others = [
            Hello {
                challenge_own: [5; 32],
                ..nas.clone()
            },
            Hello {
                challenge_peer: [5; 32],
                ..nas.clone()
            },
            Hello {
                transport_own: [5; 32],
                ..nas.clone()
            },
            Hello {
                transport_peer: [5; 32],
                ..nas.clone()
            },
            Hello {
                mesh_id: MeshId::from_bytes([5; 16]),
                ..nas.clone()
            },
            Hello {
                role: Role::Dialer,
                ..nas.clone()
            },
        ];
        for other in others {
            assert_eq!(
                verify(&keys.public().sign, &other, &signature),
                Err(BadSignature),
                "{other:?}"
            );
        }
    }
}
