//! The whole thing: the real binary, real files, real sockets, two devices of one person.
//!
//! | file | what |
//! |---|---|
//! | `world`, `device`, `lan`, `tree`, `image` | homes, nodes, network namespaces, comparing folders, disks that lose power |
//! | `talk`, `thief` | a command that goes on; one who stands between two that pair |
//! | `pairing` | from two installed machines to a folder in sync by nine digits, and what goes wrong there |
//! | `source_tree` | a source tree between two machines that find each other (Show 2) |
//! | `little_on_the_wire` | what a rename and a small edit cost (Show 3) |
//! | `kills`, `power` | kill -9 and power loss in every phase (Show 5) |
//! | `two_minds` | conflicts, merges, mass deletes (Show 6) |
//! | `databases` | SQLite under constant writes; two programs at once |
//! | `odd_saves`, `odd_disks`, `odd_modes`, `odd_homes`, `strangers` | what goes wrong |
//!
//! `MESH_E2E_FULL=1` makes the Shows as large as the issue says. What a machine forbids is skipped with
//! a line that says so; with `CI=true` that is a failure.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(
    clippy::print_stderr,
    reason = "a long test tells how far it is, and what it skips"
)]

mod databases;
mod device;
mod image;
mod kills;
mod lan;
mod little_on_the_wire;
mod odd_disks;
mod odd_homes;
mod odd_modes;
mod odd_saves;
mod pairing;
mod power;
mod source_tree;
mod strangers;
mod talk;
mod thief;
mod tree;
mod two_minds;
mod world;
