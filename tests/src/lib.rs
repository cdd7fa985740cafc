//! Testkit: a world of named devices that runs the node's own code without a clock, a socket or a disk.
//!
//! | file | what |
//! |---|---|
//! | `mem_disk` | a disk that forgets what was not synced, and is written to by a user meanwhile |
//! | `device` | one device: database, disk, engine; killed, cut off from power, restored |
//! | `link` | what is on its way between two devices |
//! | `world` | virtual time; what happens next; who performs the engine's effects (`effects`) |
//! | `transition`, `fate`, `taking_part` | what users do to folders, and fate to devices; leaving a space and joining it again |
//! | `rules` | ignore rules that change at random |
//! | `weather` | how often what goes wrong |
//! | `reference`, `traces` | what a correct mesh would hold, by rules of its own; what it would not |
//! | `verdict` | what has to be true in the end |
//! | `seeds` | many seeds on all cores, and what they came to |

pub mod contents;
pub mod device;
pub mod effects;
pub mod fate;
pub mod link;
pub mod mem_disk;
pub mod reference;
pub mod rules;
pub mod seeds;
pub mod stories;
pub mod taking_part;
pub mod traces;
pub mod transition;
pub mod verdict;
pub mod weather;
pub mod world;
