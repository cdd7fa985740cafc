//! The real binary in a cleared environment: what scripts rely on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod api;
mod code;
mod folders;
mod homes;
mod pairing;
mod usage;
mod world;
