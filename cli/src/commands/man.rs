//! `mesh man`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::{End, Result, file_error};

/// Write the man pages into a directory
///
/// One for mesh and one for each command, as mesh-status.1. For all users: mesh man /usr/local/share/man/man1
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The directory; made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<End> {
    std::fs::create_dir_all(&args.dir)
        .map_err(|error| file_error("make the directory", &args.dir, &error))?;
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .map_err(|error| file_error("write man pages into", &args.dir, &error))?;
    Ok(End::Done)
}
