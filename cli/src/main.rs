//! `mesh`: the terminal of the node. Arguments, words, progress and exit codes; what is done is decided in `ownmesh-node`.

use std::process::ExitCode;

mod amounts;
mod args;
mod client;
mod commands;
mod error;
mod paths;
mod secrets;
mod start;
mod times;
mod ui;
mod words;

fn main() -> ExitCode {
    commands::run()
}
