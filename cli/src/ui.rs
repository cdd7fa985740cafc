//! The terminal: results on stdout, words and progress on stderr, JSON instead where asked for, prompts only where somebody can answer.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ownmesh_node::command::CommandError;
use ownmesh_node::status::VERSION;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Result;

/// Where a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ui {
    json: bool,
}

impl Ui {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are to be JSON.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// A line of the result, for people. With `--json` nothing.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            out(text);
        }
    }

    /// Text that is what it is, with `--json` too: a script for a shell.
    #[allow(
        clippy::unused_self,
        reason = "everything a command says goes through its Ui"
    )]
    pub(crate) fn text(self, text: &str) {
        out(text);
    }

    /// A line of progress or advice, on stderr.
    #[allow(
        clippy::unused_self,
        reason = "everything a command says goes through its Ui"
    )]
    pub(crate) fn note(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Advice for people only.
    pub(crate) fn hint(self, text: &str) {
        if !self.json {
            self.note(text);
        }
    }

    /// A JSON object on stdout, with `"v"`.
    pub(crate) fn object<T: Serialize>(self, value: &T) {
        let mut value = serde_json::to_value(value).unwrap_or(Value::Null);
        if let Some(object) = value.as_object_mut() {
            object.insert("v".into(), json!(VERSION));
        }
        out(&value.to_string());
    }

    /// The answer in JSON, or as people read it.
    pub(crate) fn answer<T: Serialize>(self, value: &T, people: impl FnOnce(Self)) {
        if self.json {
            self.object(value);
        } else {
            people(self);
        }
    }

    /// Whether somebody can answer a question.
    #[allow(
        clippy::unused_self,
        reason = "everything a command asks goes through its Ui"
    )]
    pub(crate) fn can_ask(self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks for a line. Without a terminal it refuses, naming the flag that answers.
    pub(crate) fn ask(self, question: &str, flag: &str) -> Result<String> {
        self.need_terminal(question, flag)?;
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{question} ").and_then(|()| stderr.flush());
        drop(stderr);
        read_line()
    }

    /// Asks for a line that is not shown.
    pub(crate) fn ask_hidden(self, question: &str, flag: &str) -> Result<String> {
        self.need_terminal(question, flag)?;
        rpassword::prompt_password(format!("{question} ")).map_err(|error| {
            CommandError::failed(format!("cannot read from the terminal: {error}"))
        })
    }

    /// Asks yes or no; only `y` or `yes` is yes.
    pub(crate) fn confirm(self, question: &str, flag: &str) -> Result<bool> {
        let answer = self.ask(&format!("{question} [y/N]"), flag)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    fn need_terminal(self, question: &str, flag: &str) -> Result<()> {
        if self.can_ask() {
            return Ok(());
        }
        let question = question.trim_end_matches([':', '?', ' ']);
        Err(
            CommandError::needs_confirmation(format!("there is no terminal to ask: {question}"))
                .hint(format!("answer it with {flag}")),
        )
    }

    /// A line that shows that something is going on; only on a terminal.
    pub(crate) fn spinner(self, text: &str) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::new_spinner().with_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// A bar that fills; only on a terminal.
    pub(crate) fn bar(self, text: &str, total: u64) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::new(total).with_message(text.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        bar
    }
}

/// Reads one line of standard input, without its end.
pub(crate) fn read_line() -> Result<String> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(CommandError::usage("standard input ended")),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(CommandError::failed(format!(
            "cannot read standard input: {error}"
        ))),
    }
}

/// Writes a line to stdout. When nobody reads it any more there is nothing left to do: the process ends like others in a pipe.
fn out(text: &str) {
    if writeln!(io::stdout().lock(), "{text}").is_err() && !CLEARS_UP.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
}

/// Nobody reading any more ends a command, but not one that has things to clear up.
static CLEARS_UP: AtomicBool = AtomicBool::new(false);

/// From now on this command goes to its end, read or not.
pub(crate) fn clears_up() {
    CLEARS_UP.store(true, Ordering::Relaxed);
}

/// Makes text from elsewhere fit for one line of a terminal: names and paths may hold escape sequences and ends of lines.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let unsafe_here = c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                // A byte of a name that is no UTF-8 (docs/names.md).
                || matches!(c, '\u{ef80}'..='\u{efff}');
            let (escaped, plain) = if unsafe_here {
                (Some(c.escape_default()), None)
            } else {
                (None, Some(c))
            };
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(clean("a\nb"), "a\\nb");
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c ä"), "a\\u{1b}[2Jb\\u{202e}c ä");
    }
}
