//! The network: pinned peers, found and kept connected, and a few streams to each.
//!
//! ```text
//! engine ── NetHandle ──▶ driver ──▶ swarm: gate → limits → streams
//!    ▲                      │ ▲          discovery: mDNS, runtime files
//!    └────── NetEvent ──────┘ └── one session task per connection: Hello, then frames both ways
//! ```
//!
//! Guards against strangers (nobody who is not pinned gets further than one handshake, except to the pairing protocol while a
//! window is open), against changed keys, and against peers that send faster than we can take or read slower than we send: every
//! queue here has a bound and everything from outside a limit that is checked before memory is given.
//!
//! Knows nothing of what the messages mean. Only this module names libp2p and mdns-sd.

mod address;
#[cfg(test)]
mod attack_tests;
mod counters;
mod dialing;
mod discovery;
mod driver;
mod error;
mod event;
mod frame;
mod gate;
mod handle;
mod hello;
mod links;
mod mdns;
mod outbox;
mod pairing;
mod runtime_files;
mod session;
mod strangers;
mod streams;
mod swarm;
mod trouble;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ownmesh_crypto::pairing::Nameplate;
use ownmesh_crypto::{DeviceId, DeviceKeys, DevicePublic, MeshId};

pub use counters::{Counters, Protocol, Traffic};
pub(crate) use discovery::{PairSearch, Sought};
pub use error::{NetError, OpenError, SendError};
pub use event::{Loss, NetEvent, NetTrouble, PairStream, Route};
pub use handle::{ContentStream, Net, NetHandle};
pub use pairing::Tried;
pub(crate) use pairing::{DialPair, Met, PairIo};

/// Version of everything said on `/mesh/control/1` and of the adverts. Zero until removal and rotation work end to end.
pub const WIRE_VERSION: u8 = 0;
/// Longest control message, bytes: a sealed batch is at most 1 MiB, a page of a state transfer at most 4 MiB.
pub const CONTROL_MAX: usize = 4 << 20;
/// What may wait for one peer before [`SendError::Full`], bytes: two of the longest messages in flight and two behind them would be
/// 16 MiB; half of that keeps a link busy and a node with many slow peers small.
pub const OUTBOX_MAX: usize = 8 << 20;
/// Events that wait for the engine. Each may hold a message of [`CONTROL_MAX`], so few.
const EVENTS: usize = 32;

/// What a [`Net`] is started with.
#[derive(Clone)]
pub struct NetConfig {
    /// Seed of the Ed25519 key that is this device's PeerId.
    pub transport_secret: [u8; 32],
    /// The keys that sign Hello.
    pub keys: Arc<DeviceKeys>,
    /// The mesh all peers belong to.
    pub mesh_id: MeshId,
    /// How to be found and find; `None` finds nobody, given addresses still work.
    pub discovery: Option<Discovery>,
    /// Where to listen; port 0 takes any. A loopback listener is added when none of these covers it.
    pub listen: Vec<SocketAddr>,
    /// Directory in which nodes of one user on one machine find each other.
    pub runtime_dir: PathBuf,
}

impl NetConfig {
    /// All interfaces, any port.
    pub fn everywhere() -> Vec<SocketAddr> {
        vec![
            (Ipv4Addr::UNSPECIFIED, 0).into(),
            (Ipv6Addr::UNSPECIFIED, 0).into(),
        ]
    }
}

/// How devices of one mesh recognise each other's adverts without being recognisable to others.
#[derive(Clone)]
pub struct Discovery {
    /// `MeshSecret::discovery_tag`: the tag for a nonce.
    pub tag: Arc<dyn Fn(&[u8; 16]) -> [u8; 16] + Send + Sync>,
    /// Whether to use multicast DNS beside the runtime directory.
    pub mdns: bool,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery")
            .field("mdns", &self.mdns)
            .finish_non_exhaustive()
    }
}

/// What an open pairing window shows to everybody: of no use for entering it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PairAdvert {
    /// For who has the ticket: which window it is.
    pub window: [u8; 8],
    /// For who has the code: its public digits. `None`: the window has no code.
    pub nameplate: Option<Nameplate>,
}

/// A pinned device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub device: DeviceId,
    /// Its keys, from the registry.
    pub public: DevicePublic,
    /// Where it was met before or is said to be.
    pub addresses: Vec<SocketAddr>,
}
