//! x

pub mod api;
pub mod command;
pub mod content;
pub mod disk;
pub mod home;
pub mod service;
pub mod status;
pub mod net;
pub mod pair;
pub mod db;
pub mod engine;
pub mod node;
