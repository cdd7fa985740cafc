//! x

pub mod api;
pub mod command;
pub mod disk;
pub mod home;
pub mod service;
pub mod status;
