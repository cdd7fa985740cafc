//! The node's disk code over a memory disk: what a scan finds, and what a crash leaves of a write.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

mod base;
mod crash;
mod database;
mod moved;
mod perform;
mod random;
mod scan;
