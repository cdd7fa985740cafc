//! What was: read from documents and the trash, decided nowhere else than in the engine.
//!
//! Everything here reads, through a connection of its own, beside a running engine: it may be out of date by the time
//! it is used. So whoever changes something by it ([`crate::engine`]'s `undo`) compares each document's heads first.
//!
//! | file | tells |
//! |---|---|
//! | `find` | which items a path is, or was |
//! | `history` | the versions of an item |
//! | `undo` | what somebody's changes have to become |
//! | `trash` | what lies in the trash, and why |
//! | `diff` | how two versions differ |

pub(crate) mod diff;
pub(crate) mod find;
pub(crate) mod history;
pub(crate) mod trash;
pub(crate) mod undo;
