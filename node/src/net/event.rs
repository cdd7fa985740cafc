//! What the network tells the engine.
//!
//! Per device the order is `Connected`, then `Message`s, then `Disconnected`; no message comes outside. Events wait in a short
//! bounded queue: an engine that stops reading stops the peers, so it must never wait for the network while it holds events back.

use std::net::SocketAddr;

use ownmesh_crypto::DeviceId;

use super::ContentStream;

/// Something happened.
#[derive(Debug)]
pub enum NetEvent {
    /// A pinned device has proved both its keys; messages may be sent.
    Connected {
        /// Who.
        device: DeviceId,
        /// Random number of the peer's process; a new one after each of its starts.
        instance: u64,
        /// How we reach it.
        route: Route,
        /// Where it listens, as far as is known: worth keeping for the next start.
        address: SocketAddr,
    },
    /// The device went on to another connection without losing a message.
    Moved {
        /// Who.
        device: DeviceId,
        /// How we reach it now.
        route: Route,
        /// Where it listens.
        address: SocketAddr,
    },
    /// The connection is gone. What was sent last may not have arrived.
    Disconnected {
        /// Who.
        device: DeviceId,
        /// Why.
        why: Loss,
    },
    /// A message on the control stream, in order.
    Message {
        /// Who sent it.
        device: DeviceId,
        /// It.
        bytes: Vec<u8>,
    },
    /// After [`SendError::Full`](super::SendError::Full): half of the queue is free again.
    Writable {
        /// For whom.
        device: DeviceId,
    },
    /// A connected device opened a content stream.
    Content {
        /// Who.
        device: DeviceId,
        /// The stream; dropping it resets it.
        stream: ContentStream,
    },
    /// A frame from somebody unknown on the pairing protocol; only while a window is open.
    PairFrame {
        /// Which stream.
        stream: PairStream,
        /// The key of the sender's PeerId, proved by the connection.
        remote_transport_pub: [u8; 32],
        /// At most 16 KiB.
        bytes: Vec<u8>,
    },
    /// A pairing stream is gone.
    PairClosed {
        /// Which stream.
        stream: PairStream,
    },
    /// Something a person may want to know. Equal ones are told once a minute at most, with a count.
    Trouble {
        /// What.
        trouble: NetTrouble,
        /// How many like it came since the last report, this one included.
        count: u64,
    },
}

/// A stranger's pairing stream, numbered within this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PairStream(pub(crate) u64);

/// How a connected device is reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Route {
    /// On this machine.
    Loopback,
    /// In the same private network.
    Lan,
    /// Over public addresses.
    Direct,
}

/// Why a connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Loss {
    /// The other side closed it, or the network did.
    Closed,
    /// Nothing was heard for a minute.
    Silent,
    /// The other side read or wrote too slowly to be kept.
    Stalled,
    /// The peer broke the framing.
    Protocol,
    /// A newer start of the same device took its place.
    Restarted,
    /// It is no longer pinned.
    Removed,
}

/// What went wrong, whose fault it is and where.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetTrouble {
    /// Somebody who is not pinned connected and was refused.
    Stranger {
        /// The key of its PeerId.
        transport: [u8; 32],
        /// From where.
        address: SocketAddr,
    },
    /// A pinned PeerId came with another signing key or device id than pinned: refused; nothing was changed.
    WrongKey {
        /// The pinned device.
        device: DeviceId,
        /// The pinned signing key.
        pinned: [u8; 32],
        /// The signing key shown instead; equal if only the device id differs.
        shown: [u8; 32],
        /// From where.
        address: SocketAddr,
    },
    /// Where a device was said to be, somebody unknown answered.
    OtherPeer {
        /// The device that was expected.
        device: DeviceId,
        /// The key of who answered.
        transport: [u8; 32],
        /// Where.
        address: SocketAddr,
    },
    /// A pinned device takes part in another mesh.
    WrongMesh {
        /// Who.
        device: DeviceId,
    },
    /// A pinned device speaks another version.
    Version {
        /// Who.
        device: DeviceId,
        /// Which.
        theirs: u8,
    },
    /// A pinned device's Hello could not be read or came too late.
    BadHello {
        /// Who.
        device: DeviceId,
    },
    /// A device broke a limit and was cut off.
    Flood {
        /// Who.
        device: DeviceId,
    },
    /// Two running nodes claim to be the same device: a copied home.
    TwoInstances {
        /// Who.
        device: DeviceId,
    },
    /// One of the ways to be found does not work; others do.
    Discovery {
        /// What failed.
        what: String,
    },
    /// One of the addresses cannot be listened on; others can.
    Listen {
        /// Which.
        address: SocketAddr,
    },
}
