//! The node of mesh: the only crate in which things happen.
//!
//! ```text
//!              node: one thread, one queue
//!  disk  <->  +---------------------------+  <->  net      devices of the mesh
//!  content <- |  engine  (decides)  ->  db |  <->  api      the command line
//!             +---------------------------+  <->  pair     devices that come in
//! ```
//!
//! - [`engine`]: everything a device decides, without clock, socket or file; [`db`]: what it knows
//! - [`disk`]: the user's folders, looked at and written to; [`content`]: files on their way
//! - [`net`]: connections to devices whose keys are known; [`pair`]: how one comes in
//! - [`mod@node`]: the loop that brings them together; [`home`]: where a device lives on disk
//! - `past`: what was, for history, undo and the trash
//! - [`api`], [`command`], [`status`], [`service`]: what the command line asks, and the answers
//!
//! It does not print and does not read arguments. ARCHITECTURE.md tells the road of an edited file
//! and the orders that never change.

pub mod api;
pub mod command;
pub mod content;
pub mod db;
pub mod disk;
pub mod doctor;
pub mod engine;
pub mod home;
pub mod limits;
pub mod net;
pub mod node;
pub mod pair;
mod past;
pub mod service;
pub mod status;
pub mod told;
pub mod why;
