//! `mesh service install|remove`, with the service manager of the system: systemd, launchd, or the task scheduler of Windows.
//!
//! The texts come from the node's crate. All three managers are compiled everywhere; which one is asked is the system's affair.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ownmesh_node::command::CommandError;
use ownmesh_node::doctor::Check;
use ownmesh_node::home::Home;
use ownmesh_node::service::{UnitPathError, launchd, unit_name, unit_path, unit_text, windows};
use serde_json::json;

use super::Context;
use crate::error::{End, Result, file_error};
use crate::start;

/// Start the node with your session (systemd, launchd, Windows)
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Clone, Copy, Debug)]
enum Action {
    /// Write a service for this home, start it now and with every session
    Install,
    /// Stop it and remove it
    Remove,
}

/// Who starts programs with a session here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manager {
    Systemd,
    Launchd,
    Tasks,
}

/// The service of one home.
struct Service {
    manager: Manager,
    name: String,
    path: PathBuf,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let service = Service::of(context)?;
    match args.action {
        Action::Install => install(context, &service).await,
        Action::Remove => remove(context, &service),
    }
}

/// How it stands with the service, for `mesh doctor`.
pub(crate) fn check(context: &Context, running: bool) -> Option<Check> {
    let service = Service::of(context).ok()?;
    let answers = service.answers();
    if !service.path.exists() {
        let finding = "the node does not start by itself with your session";
        let remedy = context.next("service install");
        return answers.then(|| Check::note("service", finding, remedy));
    }
    let name = &service.name;
    let active = service.active();
    Some(match (active, running) {
        (Some(true), _) => Check::fine("service", format!("the service {name} runs")),
        (Some(false), true) => Check::note(
            "service",
            format!("the node runs, but not as the service {name}"),
            format!(
                "{}, then {}",
                context.next("down"),
                context.next("service install")
            ),
        ),
        (Some(false), false) => Check::wrong(
            "service",
            format!("the service {name} does not run"),
            service.tell(),
        ),
        (None, _) => Check::note(
            "service",
            format!("whether the service {name} runs cannot be asked here"),
            "",
        ),
    })
}

async fn install(context: &Context, service: &Service) -> Result<End> {
    context.home.require_mesh()?;
    let program = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("cannot find this program: {error}")))?;
    let text = service
        .text(&program, context.home.root())
        .map_err(|error| CommandError::failed(error.to_string()))?;
    let path = &service.path;
    write_whole(path, &text).map_err(|error| file_error("write", path, &error))?;
    // A node in the background would hold the home against the service.
    let started = if service.answers() {
        start::stop(&context.home).await?;
        service.start()
    } else {
        false
    };
    context.ui.answer(
        &json!({ "unit": path, "name": service.name, "started": started }),
        |ui| {
            ui.say(&format!("wrote {}", path.display()));
            if started {
                ui.say("the node runs as a service and starts with your session");
                if service.manager == Manager::Systemd {
                    ui.hint("  To have it run without a session too: loginctl enable-linger");
                }
            } else {
                ui.say(&format!(
                    "{} does not answer here; where it does, type:",
                    service.manager.name()
                ));
                for line in service.by_hand() {
                    ui.say(&format!("  {line}"));
                }
            }
        },
    );
    Ok(End::Done)
}

fn remove(context: &Context, service: &Service) -> Result<End> {
    let path = &service.path;
    if !path.exists() {
        return Err(CommandError::not_found(
            "service",
            path.display().to_string(),
        ));
    }
    let told = service.answers();
    if told {
        service.stop();
    }
    std::fs::remove_file(path).map_err(|error| file_error("remove", path, &error))?;
    if told && service.manager == Manager::Systemd {
        systemctl(&["daemon-reload"]);
    }
    context.ui.answer(
        &json!({ "unit": path, "name": service.name, "removed": true }),
        |ui| {
            ui.say(&format!("removed {}", path.display()));
            if !told {
                ui.say(&format!(
                    "{} does not answer here; where it does, stop {} there",
                    service.manager.name(),
                    service.name
                ));
            }
        },
    );
    Ok(End::Done)
}

impl Manager {
    fn here() -> Self {
        if cfg!(target_os = "macos") {
            Self::Launchd
        } else if cfg!(windows) {
            Self::Tasks
        } else {
            Self::Systemd
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Tasks => "the task scheduler",
        }
    }
}

impl Service {
    fn of(context: &Context) -> Result<Self> {
        let home = context.home.root();
        let is_default = Home::locate(None).is_ok_and(|home| home == context.home);
        let manager = Manager::here();
        let (name, path) = match manager {
            Manager::Systemd => {
                let name = unit_name(home, is_default);
                let path = unit_path(&config_dir()?, &name);
                (name, path)
            }
            Manager::Launchd => {
                let name = launchd::label(home, is_default);
                let path = launchd::path(&user_dir()?, &name);
                (name, path)
            }
            Manager::Tasks => (windows::name(home, is_default), home.join("task.xml")),
        };
        Ok(Self {
            manager,
            name,
            path,
        })
    }

    fn text(&self, program: &Path, home: &Path) -> std::result::Result<Vec<u8>, UnitPathError> {
        Ok(match self.manager {
            Manager::Systemd => unit_text(program, home)?.into_bytes(),
            Manager::Launchd => launchd::text(&self.name, program, home)?.into_bytes(),
            Manager::Tasks => windows::encoded(&windows::text(program, home, &account())?),
        })
    }

    fn answers(&self) -> bool {
        match self.manager {
            Manager::Systemd => systemctl(&["show-environment"]),
            Manager::Launchd => ran("launchctl", &["print", &domain()]),
            Manager::Tasks => ran("schtasks", &["/Query"]),
        }
    }

    fn active(&self) -> Option<bool> {
        if !self.answers() {
            return None;
        }
        Some(match self.manager {
            Manager::Systemd => systemctl(&["is-active", "--quiet", &self.name]),
            Manager::Launchd => ran("launchctl", &["print", &self.target()]),
            Manager::Tasks => ran("schtasks", &["/Query", "/TN", &self.name]),
        })
    }

    fn start(&self) -> bool {
        let path = self.path.display().to_string();
        match self.manager {
            Manager::Systemd => {
                systemctl(&["daemon-reload"]) && systemctl(&["enable", "--now", &self.name])
            }
            Manager::Launchd => {
                // An older one of that name.
                ran("launchctl", &["bootout", &self.target()]);
                ran("launchctl", &["bootstrap", &domain(), &path])
            }
            Manager::Tasks => {
                ran(
                    "schtasks",
                    &["/Create", "/F", "/TN", &self.name, "/XML", &path],
                ) && ran("schtasks", &["/Run", "/TN", &self.name])
            }
        }
    }

    fn stop(&self) {
        match self.manager {
            Manager::Systemd => drop(systemctl(&["disable", "--now", &self.name])),
            Manager::Launchd => drop(ran("launchctl", &["bootout", &self.target()])),
            Manager::Tasks => {
                ran("schtasks", &["/End", "/TN", &self.name]);
                ran("schtasks", &["/Delete", "/F", "/TN", &self.name]);
            }
        }
    }

    /// What to type to start it.
    fn by_hand(&self) -> Vec<String> {
        let path = self.path.display();
        match self.manager {
            Manager::Systemd => vec![
                "systemctl --user daemon-reload".into(),
                format!("systemctl --user enable --now {}", self.name),
            ],
            Manager::Launchd => vec![format!("launchctl bootstrap {} {path}", domain())],
            Manager::Tasks => vec![format!(
                "schtasks /Create /F /TN {} /XML \"{path}\"",
                self.name
            )],
        }
    }

    /// What to type to see why it does not run, and to start it.
    fn tell(&self) -> String {
        match self.manager {
            Manager::Systemd => format!(
                "systemctl --user status {0} says why; systemctl --user restart {0}",
                self.name
            ),
            Manager::Launchd => format!("launchctl kickstart {}", self.target()),
            Manager::Tasks => format!("schtasks /Run /TN {}", self.name),
        }
    }

    /// The service as launchd names it.
    fn target(&self) -> String {
        format!("{}/{}", domain(), self.name)
    }
}

/// The user's session as launchd names it.
fn domain() -> String {
    #[cfg(unix)]
    let user = rustix::process::getuid().as_raw();
    #[cfg(not(unix))]
    let user = 0;
    format!("gui/{user}")
}

/// The user as Windows names one.
fn account() -> String {
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    match (of("USERDOMAIN"), of("USERNAME")) {
        (domain, name) if domain.is_empty() => name,
        (domain, name) => format!("{domain}\\{name}"),
    }
}

fn absolute(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

fn user_dir() -> Result<PathBuf> {
    absolute("HOME")
        .ok_or_else(|| CommandError::usage("no directory of the user is known").hint("set HOME"))
}

fn config_dir() -> Result<PathBuf> {
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            CommandError::usage("no configuration directory is known")
                .hint("set HOME or XDG_CONFIG_HOME")
        })
}

/// Whole or not at all: the new text lies beside the old one until it is complete.
fn write_whole(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, text)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn systemctl(arguments: &[&str]) -> bool {
    ran("systemctl", &[&["--user"], arguments].concat())
}

fn ran(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
