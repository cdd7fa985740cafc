//! `mesh demo`.
use crate::error::{End, Result};
use crate::ui::Ui;

/// See the whole story on this machine: two devices pair, a folder syncs, an edit travels back
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Keep the two devices in this directory instead of removing them
    #[arg(long, value_name = "DIR")]
    keep: Option<std::path::PathBuf>,
}

pub(crate) async fn run(args: Args, ui: Ui) -> Result<End> {
    let _ = (args.keep, ui);
    Ok(End::Done)
}
