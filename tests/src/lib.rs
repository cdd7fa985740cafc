//! x
pub mod mem_disk;
