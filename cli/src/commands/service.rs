//! `mesh service install|remove`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ownmesh_node::command::CommandError;
use ownmesh_node::home::Home;
use ownmesh_node::service::{unit_name, unit_path, unit_text};
use serde_json::json;

use super::Context;
use crate::error::{End, Result, file_error};
use crate::start;

/// Start the node with your session (systemd)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Write a systemd user unit for this home, start it now and with every session
    Install,
    /// Stop it and remove the unit
    Remove,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    if !cfg!(target_os = "linux") {
        return Err(CommandError::failed(
            "services are known here for systemd only",
        ));
    }
    let is_default = Home::locate(None).is_ok_and(|home| home == context.home);
    let name = unit_name(context.home.root(), is_default);
    let path = unit_path(&config_dir()?, &name);
    match args.action {
        Action::Install => install(context, &name, &path).await,
        Action::Remove => remove(context, &name, &path),
    }
}

async fn install(context: &Context, name: &str, path: &Path) -> Result<End> {
    context.home.require_mesh()?;
    let program = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("cannot find this program: {error}")))?;
    let text = unit_text(&program, context.home.root())
        .map_err(|error| CommandError::failed(error.to_string()))?;
    write_unit(path, &text).map_err(|error| file_error("write", path, &error))?;
    // A node in the background would hold the home against the service.
    let started = if systemd_answers() {
        start::stop(&context.home).await?;
        systemctl(&["daemon-reload"]) && systemctl(&["enable", "--now", name])
    } else {
        false
    };
    context.ui.answer(
        &json!({ "unit": path, "name": name, "started": started }),
        |ui| {
            ui.say(&format!("wrote {}", path.display()));
            if started {
                ui.say("the node runs as a service and starts with your session");
                ui.hint("  To have it run without a session too: loginctl enable-linger");
            } else {
                ui.say("systemd does not answer here; where it does, type:");
                ui.say("  systemctl --user daemon-reload");
                ui.say(&format!("  systemctl --user enable --now {name}"));
            }
        },
    );
    Ok(End::Done)
}

fn remove(context: &Context, name: &str, path: &Path) -> Result<End> {
    if !path.exists() {
        return Err(CommandError::not_found(
            "service",
            path.display().to_string(),
        ));
    }
    let told = systemd_answers();
    if told {
        systemctl(&["disable", "--now", name]);
    }
    std::fs::remove_file(path).map_err(|error| file_error("remove", path, &error))?;
    if told {
        systemctl(&["daemon-reload"]);
    }
    context.ui.answer(
        &json!({ "unit": path, "name": name, "removed": true }),
        |ui| {
            ui.say(&format!("removed {}", path.display()));
            if !told {
                ui.say("systemd does not answer here; where it does, type:");
                ui.say(&format!("  systemctl --user disable --now {name}"));
                ui.say("  systemctl --user daemon-reload");
            }
        },
    );
    Ok(End::Done)
}

fn config_dir() -> Result<PathBuf> {
    let dir = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    dir("XDG_CONFIG_HOME")
        .or_else(|| dir("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            CommandError::usage("no configuration directory is known")
                .hint("set HOME or XDG_CONFIG_HOME")
        })
}

/// Whole or not at all: the new text lies beside the old one until it is complete.
fn write_unit(path: &Path, text: &str) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn systemd_answers() -> bool {
    systemctl(&["show-environment"])
}

fn systemctl(arguments: &[&str]) -> bool {
    let mut command = Command::new("systemctl");
    command
        .arg("--user")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
