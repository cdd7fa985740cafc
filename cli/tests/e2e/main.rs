//! The whole thing: the real binary, real files, real sockets, two devices of one person.
//!
//! | file | what |
//! |---|---|
//! | `world`, `device`, `lan`, `tree`, `image` | homes, nodes, network namespaces, comparing folders, disks that lose power |
//! | `talk`, `thief` | a command that goes on; one who stands between two that pair |
//! | `pairing` | from two installed machines to a folder in sync by nine digits, and what goes wrong there |
//! | `pairing_killed`, `secrets` | kill -9 while two pair; what is left of their secrets, and who else may ask a node |
//! | `source_tree` | a source tree between two machines that find each other (Show 2) |
//! | `little_on_the_wire` | what a rename and a small edit cost (Show 3) |
//! | `kills`, `power` | kill -9 and power loss in every phase (Show 5) |
//! | `two_minds` | conflicts, merges, mass deletes (Show 6) |
//! | `asked` | why and doctor |
//! | `everyday` | pausing, limits, blocking and renaming devices |
//! | `undo` | an hour of a script's work undone, what others did later stays |
//! | `what_was` | trash, history, the operation log |
//! | `zoo`, `foreign`, `torture` | names and files of every kind, between disks of different kinds |
//! | `hostile`, `attacker` | a flooding, stalling, lying host beside two that sync |
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

mod asked;
mod attacker;
mod databases;
mod device;
mod everyday;
mod foreign;
mod hostile;
mod ignoring;
mod image;
mod kills;
mod lan;
mod little_on_the_wire;
mod odd_disks;
mod odd_homes;
mod odd_modes;
mod odd_saves;
mod pairing;
mod pairing_killed;
mod power;
mod secrets;
mod source_tree;
mod strangers;
mod talk;
mod thief;
mod torture;
mod tree;
mod two_minds;
mod typed;
mod undo;
mod what_was;
mod world;
mod zoo;
