//! Passwords, phrases and tickets: where they come from. Never an argument, never a log.

use std::fs;
use std::io::Read;
use std::path::Path;

use ownmesh_node::command::{CommandError, Kind};

use crate::error::{Result, file_error};
use crate::ui::{self, Ui};

/// Longest secret read from a file or standard input, bytes. A ticket has about 400.
const MAX_SECRET: u64 = 64 << 10;

/// A password. Nothing prints it.
pub(crate) struct Password(String);

impl Password {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// The 24 words. Nothing prints them by accident.
pub(crate) struct Phrase(pub(crate) [&'static str; 24]);

impl Phrase {
    /// The words in one line.
    pub(crate) fn text(&self) -> String {
        self.0.join(" ")
    }
}

/// A password to set: from a file, the environment, or asked for twice; none if the user wants none.
pub(crate) fn new_password(ui: Ui, file: Option<&Path>, none: bool) -> Result<Option<Password>> {
    if none {
        return Ok(None);
    }
    if let Some(password) = given_password(file)? {
        return Ok(Some(password));
    }
    let flags = "--password-file F or --no-password";
    let first = ui.ask_hidden(
        "Password beside the recovery phrase, at least 12 characters (empty for none):",
        flags,
    )?;
    if first.is_empty() {
        return Ok(None);
    }
    if ui.ask_hidden("Again:", flags)? != first {
        return Err(CommandError::new(
            Kind::WrongSecret,
            "the two passwords differ; nothing was made",
        ));
    }
    Ok(Some(Password(first)))
}

/// A password that is not asked for: from a file or the environment.
pub(crate) fn given_password(file: Option<&Path>) -> Result<Option<Password>> {
    if let Some(file) = file {
        let text = if file == Path::new("-") {
            read_stdin()?
        } else {
            read_file(file)?
        };
        return Ok(Some(Password(
            text.trim_end_matches(['\r', '\n']).to_owned(),
        )));
    }
    Ok(std::env::var("MESH_PASSWORD")
        .ok()
        .filter(|password| !password.is_empty())
        .map(Password))
}

/// A ticket: `-` is standard input, anything else a file.
pub(crate) fn ticket(ui: Ui, source: &str) -> Result<String> {
    if source
        .trim_start()
        .to_ascii_uppercase()
        .starts_with("MESH1:")
    {
        return Err(CommandError::refused(
            "a ticket is a secret and does not belong into an argument, where other users see it",
        )
        .hint("mesh pair - reads it from standard input or asks for it"));
    }
    let text = if source != "-" {
        read_file(Path::new(source))
            .map_err(|error| error.hint("mesh pair - reads the ticket from standard input"))?
    } else if ui.can_ask() {
        ui.ask_hidden("Ticket:", "-")?
    } else {
        ui::read_line()?
    };
    let ticket: String = text.split_whitespace().collect();
    if ticket.is_empty() {
        return Err(CommandError::usage("there is no ticket")
            .hint("mesh pair on a device of the mesh shows one"));
    }
    Ok(ticket)
}

fn read_file(path: &Path) -> Result<String> {
    let read = || {
        let mut text = String::new();
        fs::File::open(path)?
            .take(MAX_SECRET)
            .read_to_string(&mut text)
            .map(|_| text)
    };
    read().map_err(|error| file_error("read", path, &error))
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_SECRET)
        .read_to_string(&mut text)
        .map_err(|error| CommandError::failed(format!("cannot read standard input: {error}")))?;
    Ok(text)
}

/// Four different places in the phrase, in order.
pub(crate) fn four_of_24(draw: &mut impl FnMut() -> u64) -> [usize; 4] {
    let mut chosen = [0; 4];
    let mut count = 0;
    while count < 4 {
        let index = usize::try_from(draw() % 24).unwrap_or(0);
        if !chosen[..count].contains(&index) {
            chosen[count] = index;
            count += 1;
        }
    }
    chosen.sort_unstable();
    chosen
}

/// The machine's own name, to name the device after.
pub(crate) fn machine_name() -> String {
    let from_file = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_command = || {
        let output = std::process::Command::new("hostname").output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let name = from_file().or_else(from_command).unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default();
    if name.is_empty() {
        "device".into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_different_places() {
        let mut next = 0;
        let mut draw = || {
            next += 1;
            next / 2
        };
        assert_eq!(four_of_24(&mut draw), [0, 1, 2, 3]);
    }

    #[test]
    fn a_ticket_is_no_argument() {
        assert_eq!(
            ticket(Ui::new(true), "mesh1:ABC")
                .err()
                .map(|error| error.kind),
            Some(Kind::Refused)
        );
    }
}
