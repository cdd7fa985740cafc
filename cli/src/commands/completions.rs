//! `mesh completions`.

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::{End, Result};

/// Print completions for a shell
///
/// For bash: mesh completions bash > ~/.local/share/bash-completion/completions/mesh
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> Result<End> {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "mesh",
        &mut std::io::stdout(),
    );
    Ok(End::Done)
}
