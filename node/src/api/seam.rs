//! The names by which the API knows the node.

pub use crate::engine::{Engine, Notice, Now};
pub use crate::node::{Handle, Stopped};
pub mod db {
    //! The database of a new home.
    pub use crate::db::{NewMesh, create};
}
