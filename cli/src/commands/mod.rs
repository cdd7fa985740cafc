//! Dispatch: one file per command, an `Args` struct whose doc comment is the help text and a `run` function.

use std::process::ExitCode;

use clap::Parser;
use ownmesh_node::command::CommandError;
use ownmesh_node::home::Home;

use crate::args::{Cli, Command, Global};
use crate::error::{End, Result, finish};
use crate::ui::Ui;

pub(crate) mod add;
pub(crate) mod completions;
pub(crate) mod conflicts;
pub(crate) mod demo;
pub(crate) mod device;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod history;
pub(crate) mod ignore;
pub(crate) mod init;
pub(crate) mod leave;
pub(crate) mod limit;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod pair;
pub(crate) mod pause;
pub(crate) mod resume;
pub(crate) mod scan;
pub(crate) mod service;
pub(crate) mod spaces;
pub(crate) mod status;
pub(crate) mod trash;
pub(crate) mod undo;
pub(crate) mod up;
pub(crate) mod wait;
pub(crate) mod why;

/// What every command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The device's home.
    pub(crate) home: Home,
    /// Whether the home was named, or is the platform's.
    pub(crate) home_named: bool,
    /// Where to speak.
    pub(crate) ui: Ui,
    /// Whether to end with 3 instead of starting a node.
    pub(crate) no_start: bool,
}

impl Context {
    fn new(global: &Global, ui: Ui) -> Result<Self> {
        let home = Home::locate(global.home.as_deref())?;
        Ok(Self {
            home,
            home_named: global.home.is_some(),
            ui,
            no_start: global.no_start,
        })
    }

    /// The command with the home it was given, as the next one to type.
    pub(crate) fn next(&self, command: &str) -> String {
        if self.home_named {
            format!("mesh --home {} {command}", self.home.root().display())
        } else {
            format!("mesh {command}")
        }
    }
}

/// Reads the arguments, does what they say, and gives the exit code.
pub(crate) fn run() -> ExitCode {
    no_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let ui = Ui::new(cli.global.json);
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failed(format!("cannot start: {error}")))
        .and_then(|runtime| {
            let result = runtime.block_on(dispatch(cli, ui));
            // A prompt may still wait for a line on a thread of its own.
            runtime.shutdown_background();
            result
        });
    finish(&ui, result)
}

/// Keys and phrases are in memory; a crash must not write them to a disk.
fn no_core_dumps() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let _ = setrlimit(Resource::Core, none);
    }
}

/// Wrong usage: clap's own words for people, an error object for scripts.
fn refuse(error: &clap::Error) -> ExitCode {
    let json = error.use_stderr() && std::env::args_os().any(|arg| arg == "--json");
    if json {
        let text = error.render().to_string();
        let mut lines = text.lines();
        let message = lines
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        let error = CommandError::usage(message).hint("mesh help");
        return finish(&Ui::new(true), Err(error));
    }
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    }
}

async fn dispatch(cli: Cli, ui: Ui) -> Result<End> {
    if let Command::Completions(args) = &cli.command {
        return completions::run(args, ui);
    }
    if let Command::Man(args) = &cli.command {
        return man::run(args);
    }
    if let Command::Demo(args) = cli.command {
        return demo::run(args, ui).await;
    }
    let context = Context::new(&cli.global, ui)?;
    match cli.command {
        Command::Init(args) => init::run(&context, args).await,
        Command::Up(args) => up::run(&context, args).await,
        Command::Down(args) => down::run(&context, args).await,
        Command::Service(args) => service::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Wait(args) => wait::run(&context, args).await,
        Command::Pair(args) => pair::run(&context, args).await,
        Command::Devices(args) => devices::run(&context, args).await,
        Command::Add(args) => add::run(&context, args).await,
        Command::Spaces(args) => spaces::run(&context, args).await,
        Command::Ls(args) => ls::run(&context, args).await,
        Command::Scan(args) => scan::run(&context, args).await,
        Command::Leave(args) => leave::run(&context, args).await,
        Command::Conflicts(args) => conflicts::run(&context, args).await,
        Command::Ignore(args) => ignore::run(&context, args).await,
        Command::Continue(args) => resume::go_on(&context, args).await,
        Command::Revert(args) => resume::revert(&context, args).await,
        Command::Device(args) => device::run(&context, args).await,
        Command::Why(args) => why::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, args).await,
        Command::Pause(args) => pause::pause(&context, args).await,
        Command::Resume(args) => pause::resume(&context, args).await,
        Command::Limit(args) => limit::run(&context, args).await,
        Command::History(args) => history::run(&context, args).await,
        Command::Undo(args) => undo::run(&context, args).await,
        Command::Trash(args) => trash::run(&context, args).await,
        Command::Log(args) => log::run(&context, args).await,
        Command::Completions(_) | Command::Man(_) | Command::Demo(_) => Ok(End::Done),
    }
}
