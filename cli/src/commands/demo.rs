//! `mesh demo`: two devices on this machine, with real nodes, from the first command to a settled conflict.
//!
//! Everything is done by this very program, started as a user would start it, in homes and a runtime directory of its own: nothing of the
//! user's own mesh is touched. Whatever happens, the nodes are stopped and the directory is removed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ownmesh_node::command::CommandError;
use serde_json::json;

use crate::error::{End, Result, file_error};
use crate::ui::Ui;

mod stage;
mod story;

use stage::Stage;

/// See the whole story on this machine: two devices pair, a folder syncs, an edit travels back
///
/// Needs no network and asks nothing. Everything happens in a temporary directory, which is removed at the end.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Keep the two devices in this new directory, to look at and to go on with
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(crate) async fn run(args: Args, ui: Ui) -> Result<End> {
    let temporary = match &args.keep {
        Some(dir) => {
            make_kept(dir)?;
            None
        }
        None => Some(
            tempfile::Builder::new()
                .prefix("mesh-demo-")
                .tempdir()
                .map_err(|error| {
                    CommandError::failed(format!("cannot make a directory: {error}"))
                })?,
        ),
    };
    let dir = match (&temporary, &args.keep) {
        (Some(temporary), _) => temporary.path().to_path_buf(),
        (None, Some(dir)) => dir
            .canonicalize()
            .map_err(|error| file_error("find", dir, &error))?,
        (None, None) => return Err(CommandError::failed("no directory")),
    };
    crate::ui::clears_up();
    let stage = Stage::set(&dir)?;
    let mut steps = Steps {
        ui,
        begun: Instant::now(),
        last: Instant::now(),
    };
    let told = tokio::select! {
        told = story::tell(&stage, &mut steps) => told,
        () = interrupted() => Err(CommandError::failed("interrupted")),
    };
    let failure = match &told {
        Err(_) => stage.logs(),
        Ok(()) => String::new(),
    };
    stage.clear().await;
    if let Some(temporary) = temporary {
        remove(temporary).await;
    }
    if !failure.is_empty() {
        ui.hint(&failure);
    }
    told?;
    let seconds = steps.begun.elapsed().as_secs_f64();
    ui.answer(
        &json!({ "event": "done", "seconds": seconds, "kept": args.keep }),
        |ui| farewell(ui, seconds, &dir, args.keep.is_some()),
    );
    Ok(End::Done)
}

/// Prints each step with its time.
struct Steps {
    ui: Ui,
    begun: Instant,
    last: Instant,
}

impl Steps {
    fn done(&mut self, step: &str, text: &str) {
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let value = json!({ "event": "step", "step": step, "text": text, "seconds": seconds });
        self.ui
            .answer(&value, |ui| ui.say(&format!("{seconds:7.2} s  {text}")));
    }
}

/// A node that a cut-off command was about to start may still write for a moment; it ends when it sees
/// that its home is gone.
async fn remove(dir: tempfile::TempDir) {
    let path = dir.path().to_path_buf();
    drop(dir.close());
    for _ in 0..50 {
        if !path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(std::fs::remove_dir_all(&path));
    }
}

fn make_kept(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|error| file_error("make", dir, &error))?;
    let mut entries = std::fs::read_dir(dir).map_err(|error| file_error("read", dir, &error))?;
    if entries.next().is_some() {
        return Err(
            CommandError::refused(format!("{} is not empty", dir.display()))
                .hint("name a new directory with --keep"),
        );
    }
    Ok(())
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};

    let told = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = told(SignalKind::interrupt()) => {}
        () = told(SignalKind::terminate()) => {}
        () = told(SignalKind::hangup()) => {}
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}

fn farewell(ui: Ui, seconds: f64, dir: &Path, kept: bool) {
    ui.say(&format!(
        "\nDone in {seconds:.1} s. With your own devices:\n"
    ));
    ui.say("  on the first     mesh init");
    ui.say("                   mesh add ~/Documents");
    ui.say("                   mesh pair               shows nine digits");
    ui.say("  on the second    mesh pair DIGITS        joins with them");
    ui.say("                   mesh add ~/Documents    the same name is the same space");
    ui.say("  on any           mesh status");
    if kept {
        ui.say(&format!(
            "\nThe two devices are in {0}: mesh --home {0}/laptop up",
            dir.display()
        ));
    }
}
