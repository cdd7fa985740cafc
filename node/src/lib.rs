//! x

pub mod api;
pub mod command;
pub mod content;
pub mod db;
pub mod disk;
pub mod engine;
pub mod home;
pub mod net;
pub mod node;
pub mod pair;
pub mod service;
pub mod status;
