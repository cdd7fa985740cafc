//! x

pub mod api;
pub mod command;
pub mod home;
pub mod service;
pub mod status;
