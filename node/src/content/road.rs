//! Where a stream to a device comes from: the seam between content and the network.
//!
//! Today the only road is a stream of the libp2p connection; the bulk channel will be another one behind the same
//! method. Content neither knows nor trusts the road: what comes is compared with its hashes whatever it came by.

use futures::future::BoxFuture;
use futures::io::{AsyncRead, AsyncWrite};
use ownmesh_crypto::DeviceId;

use crate::net::{NetHandle, OpenError};

/// A stream both ways on which `/mesh/content/1` is agreed.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens content streams to devices.
pub trait ContentRoad: Send + Sync {
    /// Opens a stream to `peer` whose other end is the peer's [`serve`](super::serve::serve).
    fn open<'a>(&'a self, peer: &'a DeviceId) -> BoxFuture<'a, Result<Box<dyn Duplex>, RoadError>>;
}

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoadError {
    /// The device cannot be reached at present.
    #[error("the device is not connected")]
    NotConnected,
    /// One of the two sides does not let the other in.
    #[error("the device refuses content streams")]
    Refused,
    /// No answer in time.
    #[error("the device does not answer")]
    TimedOut,
}

impl ContentRoad for NetHandle {
    fn open<'a>(&'a self, peer: &'a DeviceId) -> BoxFuture<'a, Result<Box<dyn Duplex>, RoadError>> {
        Box::pin(async {
            match self.open_content(*peer).await {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn Duplex>),
                Err(OpenError::Refused) => Err(RoadError::Refused),
                Err(OpenError::Timeout) => Err(RoadError::TimedOut),
                // Too many streams of our own are open: the next try comes when one has ended.
                Err(OpenError::NotConnected | OpenError::TooMany | OpenError::Io(_)) => {
                    Err(RoadError::NotConnected)
                }
            }
        })
    }
}
