//! The two devices of the demo, and `mesh` as they type it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ownmesh_node::command::{CommandError, ErrorReply};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::error::{Result, file_error};

/// How long anything may take before the demo calls it failed. Tens of times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at a folder.
const LOOK: Duration = Duration::from_millis(20);

/// Lines of a log shown after a failure.
const LOG_LINES: usize = 15;

/// Both devices in their directory.
pub(super) struct Stage {
    pub(super) laptop: Device,
    pub(super) desktop: Device,
}

/// A device: its home, and its side of the folder.
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) home: PathBuf,
    pub(super) docs: PathBuf,
    runtime: PathBuf,
}

impl Stage {
    pub(super) fn set(dir: &Path) -> Result<Self> {
        let device = |name: &'static str| {
            let docs = dir.join(format!("{name}-docs"));
            std::fs::create_dir(&docs).map_err(|error| file_error("make", &docs, &error))?;
            Ok::<_, CommandError>(Device {
                name,
                home: dir.join(name),
                docs,
                runtime: dir.join("run"),
            })
        };
        let stage = Self {
            laptop: device("laptop")?,
            desktop: device("desktop")?,
        };
        let runtime = &stage.laptop.runtime;
        std::fs::create_dir(runtime).map_err(|error| file_error("make", runtime, &error))?;
        Ok(stage)
    }

    fn devices(&self) -> [&Device; 2] {
        [&self.laptop, &self.desktop]
    }

    /// Waits until both sides of the folder are equal and `holds` for them.
    pub(super) async fn until_equal(
        &self,
        what: &str,
        mut holds: impl FnMut(&Tree) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (laptop, desktop) = (tree(&self.laptop.docs), tree(&self.desktop.docs));
            if laptop == desktop && holds(&laptop) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(CommandError::not_finished(format!(
                    "{what}: after {} s the laptop has {} files and the desktop {}",
                    PATIENCE.as_secs(),
                    laptop.len(),
                    desktop.len()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until an answer of each device fits.
    pub(super) async fn until_both(
        &self,
        what: &str,
        args: &[&str],
        fits: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        for device in self.devices() {
            loop {
                let answer = device.json(args).await?;
                if fits(&answer) {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    return Err(CommandError::not_finished(format!(
                        "{what}: the {} says {answer}",
                        device.name
                    )));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// The last lines of both logs, for a failure.
    pub(super) fn logs(&self) -> String {
        let mut text = String::new();
        for device in self.devices() {
            let Ok(log) = std::fs::read_to_string(device.home.join("log/node.log")) else {
                continue;
            };
            let lines: Vec<_> = log.lines().collect();
            text.push_str(&format!("--- the log of the {}\n", device.name));
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                text.push_str(&crate::ui::clean(line));
                text.push('\n');
            }
        }
        text
    }

    /// Stops whatever runs.
    pub(super) async fn clear(&self) {
        for device in self.devices() {
            if device.home.exists() {
                let _ = device.json(&["down"]).await;
            }
        }
    }
}

impl Device {
    /// `mesh --home HOME --json ARGS`, and its answer.
    pub(super) async fn json(&self, args: &[&str]) -> Result<Value> {
        self.wait_for(args, self.start(args, Stdio::null())?).await
    }

    /// Starts a command that goes on.
    pub(super) fn start(&self, args: &[&str], stdin: Stdio) -> Result<Child> {
        let failed = |error| CommandError::failed(format!("cannot start mesh: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg("--home")
            .arg(&self.home)
            .arg("--json")
            .args(args);
        command
            .env_remove("MESH_HOME")
            .env_remove("MESH_PASSWORD")
            .env("XDG_RUNTIME_DIR", &self.runtime);
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command.spawn().map_err(failed)
    }

    async fn wait_for(&self, args: &[&str], child: Child) -> Result<Value> {
        let what = || format!("the {}: mesh {}", self.name, args.join(" "));
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| CommandError::not_finished(what()))?
            .map_err(|error| CommandError::failed(format!("{}: {error}", what())))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        if output.status.success() {
            return Ok(serde_json::from_str(last).unwrap_or(Value::Null));
        }
        let said = serde_json::from_str::<ErrorReply>(last).map(|reply| reply.error.message);
        Err(CommandError::failed(format!(
            "{}: {}",
            what(),
            said.unwrap_or_else(|_| output.status.to_string())
        )))
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.docs.join(name);
        let parent = path.parent().unwrap_or(&self.docs);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&path, content))
            .map_err(|error| file_error("write", &path, &error))
    }
}

/// The files of a folder with their contents; what is mesh's own is left out.
pub(super) type Tree = BTreeMap<PathBuf, Vec<u8>>;

fn tree(root: &Path) -> Tree {
    let mut files = Tree::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && entry.file_name() != ".mesh" {
                open.push(path);
            } else if kind.is_file()
                && let Ok(content) = std::fs::read(&path)
                && let Ok(name) = path.strip_prefix(root)
            {
                files.insert(name.to_path_buf(), content);
            }
        }
    }
    files
}
