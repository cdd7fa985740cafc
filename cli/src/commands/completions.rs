//! `mesh completions`.

use clap::CommandFactory;

use crate::args::Cli;
use crate::error::{End, Result};
use crate::ui::Ui;

/// Print completions for a shell
///
/// For bash: mesh completions bash > ~/.local/share/bash-completion/completions/mesh
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args, ui: Ui) -> Result<End> {
    // The generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mesh", &mut script);
    ui.text(String::from_utf8_lossy(&script).trim_end());
    Ok(End::Done)
}
