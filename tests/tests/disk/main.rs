//! The node's disk code over a memory disk: what a scan finds, and what a crash leaves of a write.

mod base;
mod crash;
mod perform;
mod random;
mod scan;
