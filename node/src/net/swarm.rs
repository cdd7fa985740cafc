//! What the swarm is made of: TCP, Noise, Yamux; the gate first, then the limits, then the streams.
//!
//! Guards against exhaustion: how many connections and streams there may be is decided here. Further transports and behaviours
//! (relay client, hole punching) are composed here too, behind the gate.

use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{SwarmBuilder, noise, tcp, yamux};
use libp2p_connection_limits::{Behaviour as Limits, ConnectionLimits};
use tokio::sync::mpsc;

use super::NetError;
use super::gate::{Gate, Policy};
use super::streams::{Inbound, Streams};

/// Handshakes at once, each way.
const PENDING_MAX: u32 = 32;
/// Connections, each way: 32 devices with one spare each.
const ESTABLISHED_MAX: u32 = 64;
/// Connections with one peer: two by a simultaneous dial, two that are not yet known to be dead.
const PER_PEER_MAX: u32 = 4;
/// Streams on one connection.
const STREAMS_MAX: usize = 64;
/// TCP, Noise and Yamux together.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection without streams that is not pinned.
const IDLE: Duration = Duration::from_secs(10);

/// All behaviours. The order counts: see [`super::gate`].
#[derive(NetworkBehaviour)]
pub(crate) struct Mesh {
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) streams: Streams,
}

/// Builds a swarm that listens nowhere yet.
///
/// Returns: it, and the queue of streams opened to us.
pub(crate) fn build(
    transport_secret: [u8; 32],
    policy: Arc<Policy>,
) -> Result<(Swarm<Mesh>, mpsc::Receiver<Inbound>), NetError> {
    let keypair = Keypair::ed25519_from_bytes(transport_secret).map_err(|_| NetError::Key)?;
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        .with_max_established_incoming(Some(ESTABLISHED_MAX))
        .with_max_established_outgoing(Some(ESTABLISHED_MAX))
        .with_max_established_per_peer(Some(PER_PEER_MAX));
    let (streams, inbound) = Streams::new(policy.clone());
    let mesh = Mesh {
        gate: Gate::new(policy),
        limits: Limits::new(limits),
        streams,
    };
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        config
    };
    let transport = |e: &dyn std::fmt::Display| NetError::Transport(e.to_string());
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            muxer,
        )
        .map_err(|e| transport(&e))?
        .with_behaviour(|_| mesh)
        .map_err(|e| transport(&e))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE)
                .with_max_negotiating_inbound_streams(STREAMS_MAX)
        })
        .with_connection_timeout(HANDSHAKE)
        .build();
    Ok((swarm, inbound))
}
