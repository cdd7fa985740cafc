//! Who sits at the device that joins: is shown what happens, and asked before anything is kept.
//!
//! Questions stand beside the pairing, on a thread, so that its end is seen meanwhile. A script answers by lines on standard input.

use std::collections::VecDeque;

use ownmesh_node::command::{CommandError, JoinEvent};
use ownmesh_node::pair::{self, Answer, Ask};
use tokio::sync::mpsc;

use crate::error::Result;
use crate::ui::{self, Ui, clean};
use crate::words;

/// Events and answers of a joining that wait; there are a few in all.
pub(super) const WAITING: usize = 8;

/// Who sits at this device, or the script that stands in for somebody.
pub(super) struct User {
    ui: Ui,
    by_code: bool,
    /// What they are asked now.
    asked: Ask,
    mesh: String,
    /// Dropped when there is nobody to ask: that declines.
    answers: Option<mpsc::Sender<Answer>>,
    lines: mpsc::Receiver<String>,
    read: mpsc::Sender<String>,
    /// Lines of a script that came before they were asked for.
    early: VecDeque<String>,
}

impl User {
    /// Returns: it, and its answers.
    ///
    /// With `--json` standard input is read from the start: if there is none, nobody is bothered with a pairing that cannot be answered.
    pub(super) fn new(
        ui: Ui,
        trust: bool,
        by_code: bool,
    ) -> Result<(Self, mpsc::Receiver<Answer>)> {
        let (answers, received) = mpsc::channel(WAITING);
        let (read, lines) = mpsc::channel(WAITING);
        let user = Self {
            ui,
            by_code,
            asked: Ask::Nothing,
            mesh: String::new(),
            answers: Some(answers),
            lines,
            read: read.clone(),
            early: VecDeque::new(),
        };
        if ui.json() && !trust {
            aside("answers", move || {
                while let Ok(line) = ui::read_line() {
                    if read.blocking_send(line).is_err() {
                        return;
                    }
                }
                // An empty word ends what a script has to say.
                let _ = read.blocking_send(String::new());
            })?;
        }
        Ok((user, received))
    }

    /// The next line, for [`User::answer`]; never, if none comes.
    pub(super) async fn line(&mut self) -> String {
        match self.lines.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }

    /// Takes a line: the answer to what is asked, or to what will be.
    pub(super) fn answer(&mut self, line: String) {
        let ended = line.is_empty() && self.ui.json();
        if self.asked == Ask::Nothing && !(ended && self.early.is_empty()) {
            self.early.push_back(line);
            return;
        }
        if ended {
            self.answers = None;
            return;
        }
        let answer = match self.asked {
            Ask::Nothing => return,
            Ask::Word => Answer::Word(line),
            Ask::Agreement if agrees(&line) => Answer::Yes,
            Ask::Agreement => Answer::No,
        };
        if let Some(answers) = &self.answers {
            let _ = answers.try_send(answer);
        }
    }

    /// Shows what happens, and asks.
    pub(super) fn show(&mut self, event: pair::JoinEvent) -> Result<()> {
        let ui = self.ui;
        match event {
            pair::JoinEvent::Reached => ui.hint("Found it."),
            pair::JoinEvent::Words(two) => {
                let words = two.join(" ");
                let line = format!("Type these words on the other device:  {words}");
                ui.answer(&JoinEvent::Words { words }, |ui| ui.say(&line));
            }
            pair::JoinEvent::Found {
                mesh_name,
                devices,
                ask,
            } => {
                let devices = devices as u64;
                let what = if self.by_code { "code" } else { "ticket" };
                let line = format!(
                    "The {what} leads into {}, with {}.",
                    clean(&mesh_name),
                    words::count(devices, "device")
                );
                self.mesh = clean(&mesh_name);
                let mesh = mesh_name;
                ui.answer(&JoinEvent::Found { mesh, devices }, |ui| ui.say(&line));
                self.asked = ask;
                self.ask()?;
            }
            pair::JoinEvent::WordWrong { .. } => {
                ui.hint("That is not the word.");
                self.ask()?;
            }
        }
        Ok(())
    }

    /// Asks beside the pairing, so that its end is seen while the question stands.
    fn ask(&mut self) -> Result<()> {
        let (question, ask) = match self.asked {
            Ask::Nothing => return Ok(()),
            Ask::Word => (
                format!(
                    "To join {}, the word that the other device shows now:",
                    self.mesh
                ),
                "word",
            ),
            Ask::Agreement => (format!("Join {}? [y/N]", self.mesh), "yes"),
        };
        let ui = self.ui;
        if ui.json() {
            let ask = ask.to_owned();
            ui.answer(&JoinEvent::Confirm { ask }, |_| ());
            if let Some(line) = self.early.pop_front() {
                self.answer(line);
            }
            return Ok(());
        }
        let read = self.read.clone();
        aside("question", move || {
            if let Ok(line) = ui.ask(&question, "--yes") {
                let _ = read.blocking_send(line);
            }
        })
    }
}

fn agrees(line: &str) -> bool {
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}

/// A thread for what waits for a person. It ends with the process.
fn aside(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|error| CommandError::failed(format!("cannot ask: {error}")))
}
