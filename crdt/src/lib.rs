//! The shared tree of mesh, and how two copies of it become one.
//!
//! Pure: no clock, no files, no threads, no network; randomness is an argument. The same input gives the
//! same answer on every device, or devices would drift apart.
//!
//! ```text
//! disk, user                          other devices, relay, bucket, export
//!     | Edit                                  | sealed bytes
//!     v                                       v
//!  item  ->  doc::ItemDoc::author     batch::open_batch / page::open_page
//!                 | change                    | change
//!                 v                           v
//!           batch::seal_batch         guard -> doc::CheckedChange
//!                                             |
//!            op::Registers  <-  doc::ItemDoc::apply
//!                 |
//!                 v
//!            item::ItemState
//! ```
//!
//! - [`op`]: operation ids and registers, what a database row shows of a document
//! - [`guard`]: reads a change before automerge does
//! - [`doc`]: one item's document; the only file that knows automerge
//! - [`item`]: the meaning of the registers, and the edits
//! - [`past`]: what happened to an item, and what it was before somebody's changes
//! - [`batch`], [`page`]: what travels; [`vector`]: how far, and in which order
//! - [`message`]: what two nodes say to each other
//! - [`limits`]: all limits with their reasons
//!
//! It does not know disks, networks, databases or buckets. `docs/format/log.md` says every byte.

/// Whether a bug of the list in `mutation` is switched on: constantly not, but in the tests of the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! mutated {
    ($which:ident) => {{
        #[cfg(feature = "mutations")]
        let on = $crate::mutation::active($crate::mutation::M::$which);
        #[cfg(not(feature = "mutations"))]
        let on = false;
        on
    }};
}

pub mod batch;
mod cbor;
pub mod doc;
mod envelope;
mod fault;
pub mod guard;
mod history;
pub mod item;
pub mod limits;
pub mod message;
#[cfg(feature = "mutations")]
#[doc(hidden)]
pub mod mutation;
pub mod op;
pub mod page;
pub mod past;
pub mod tree;
pub mod vector;
