//! Errors of the network, by operation.

use std::io;
use std::net::SocketAddr;

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The key is not usable.
    #[error("the transport key is not an Ed25519 seed")]
    Key,
    /// A transport could not be set up.
    #[error("the transport cannot be set up: {0}")]
    Transport(String),
    /// None of the addresses can be listened on.
    #[error("cannot listen on any of {tried:?}: {source}")]
    Listen {
        /// The addresses.
        tried: Vec<SocketAddr>,
        /// The last failure.
        source: io::Error,
    },
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No proven connection to this device.
    #[error("not connected")]
    NotConnected,
    /// The queue is full: stop until `NetEvent::Writable`.
    #[error("the peer's queue is full")]
    Full,
    /// Longer than a frame may be. The caller's mistake.
    #[error("a message of {len} bytes is longer than {limit}")]
    TooLong {
        /// Its length.
        len: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Why a content stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No proven connection to this device.
    #[error("not connected")]
    NotConnected,
    /// The other side does not offer the protocol.
    #[error("the peer does not offer this protocol")]
    Refused,
    /// No answer within ten seconds.
    #[error("the peer did not answer in time")]
    Timeout,
    /// As many are open or being opened as may be.
    #[error("too many streams are open")]
    TooMany,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}
