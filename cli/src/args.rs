//! The global flags and the list of commands. The doc comments are the help text.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    add, completions, conflicts, demo, device, devices, doctor, down, history, ignore, init, leave,
    limit, log, ls, man, pair, pause, resume, scan, service, spaces, status, trash, undo, up, wait,
    why,
};

/// Keeps your folders in sync between your own devices
///
/// Start with `mesh init` on one device, let the next one in with `mesh pair`, and add a folder on both with `mesh add`. `mesh demo` shows
/// the whole story on this machine in a temporary directory.
#[derive(Parser, Debug)]
#[command(
    name = "mesh",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Global {
    /// Where this device lives: its keys, database and socket. Two homes on one machine are two devices
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MESH_HOME",
        hide_env_values = true
    )]
    pub(crate) home: Option<PathBuf>,

    /// Answer in JSON, for scripts: one object, or one a line for what goes on
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Do not start the node if it is not running; end with 3 instead
    #[arg(long, global = true)]
    pub(crate) no_start: bool,
}

/// The commands, in the order in which one meets them.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Up(up::Args),
    Down(down::Args),
    Service(service::Args),
    Status(status::Args),
    Wait(wait::Args),
    Pair(pair::Args),
    Devices(devices::Args),
    Device(device::Args),
    Add(add::Args),
    Spaces(spaces::Args),
    Ls(ls::Args),
    Scan(scan::Args),
    Leave(leave::Args),
    Conflicts(conflicts::Args),
    Ignore(ignore::Args),
    Continue(resume::ContinueArgs),
    Revert(resume::RevertArgs),
    Why(why::Args),
    Doctor(doctor::Args),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Limit(limit::Args),
    History(history::Args),
    Undo(undo::Args),
    Trash(trash::Args),
    Log(log::Args),
    Completions(completions::Args),
    Man(man::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        super::Cli::command().debug_assert();
    }
}
