//! Content: the bytes of files on their way from one device's folder into another's staging folder.
//!
//! ```text
//!  their side                                   our side
//!  user's file --read, fstat--> serve == wire ==> fetch --verify, hash--> .mesh/tmp/<staged> --> engine, disk::perform
//!                                                   ^
//!                                     our own files, an earlier try (assemble)
//! ```
//!
//! The danger it guards against is a byte that nobody wrote: every chunk is compared with its id, every file with the
//! hash that the log names, and a file that is changed while it is read is never sent as if it were the old one.
//! Nothing here puts a file at its place in the user's folder; that is `disk::perform`.
//!
//! Deciding and doing are apart: [`wire`], [`plan`] and [`window`] are pure, [`assemble`] and [`answer`] are plain
//! synchronous code over [`Disk`](crate::disk::Disk) that the simulation calls directly, [`mod@serve`] and [`mod@fetch`] bind
//! them to a stream.

pub mod answer;
pub mod assemble;
pub mod counters;
pub mod fetch;
pub mod plan;
pub mod road;
pub mod serve;
pub mod window;
pub mod wire;

mod block;
mod feed;
mod intake;
pub(crate) mod staging;
mod talk;

pub use counters::{Counters, PeerCounts, Progress};
pub use fetch::{FetchError, FetchInto, FetchLimits, Fetched, FetchedOk, Local, Want, fetch};
pub use road::{ContentRoad, Duplex, RoadError};
pub use serve::{Located, ServeError, ServeLimits, Source, SourceError, serve};
