//! Passwords, phrases, tickets and codes: where they come from. Never an argument, never a log.

use std::fs;
use std::io::Read;
use std::path::Path;

use ownmesh_crypto::pairing::{Code, CodeError, Ticket};
use ownmesh_node::command::{CommandError, Kind};
use ownmesh_node::pair::Invitation;

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

/// What the other device shows. Nine digits may be the argument itself; `-` is standard input or a question, anything else a file.
pub(crate) fn invitation(ui: Ui, source: &str) -> Result<Invitation> {
    if is_ticket(source) {
        return Err(CommandError::refused(
            "a ticket is a secret and does not belong into an argument, where other users see it",
        )
        .hint("mesh pair - reads it from standard input or asks for it"));
    }
    let digits = source
        .chars()
        .all(|c| c.is_ascii_digit() || c.is_whitespace() || matches!(c, '-' | '.'))
        && source.contains(|c: char| c.is_ascii_digit());
    if digits {
        return parse_invitation(source).map_err(|error| {
            // Too few or too many digits are no guess at a code: nobody was asked.
            let count = source.chars().filter(char::is_ascii_digit).count();
            let kind = if count == DIGITS {
                error.kind
            } else {
                Kind::Usage
            };
            CommandError { kind, ..error }
        });
    }
    let text = if source != "-" {
        read_file(Path::new(source)).map_err(|error| match error.kind {
            Kind::NotFound => CommandError::new(
                Kind::NotFound,
                format!("{source} is no code of nine digits, and there is no such file"),
            )
            .hint(
                "mesh pair on the other device shows the code; mesh pair - asks for code or ticket",
            ),
            _ => error,
        })?
    } else if ui.can_ask() {
        ui.ask_hidden("Code or ticket:", "-")?
    } else {
        ui::read_line()?
    };
    parse_invitation(&text)
}

/// Digits of a code.
const DIGITS: usize = 9;

fn is_ticket(text: &str) -> bool {
    let start = text.trim_start().get(..6);
    start.is_some_and(|start| start.eq_ignore_ascii_case("MESH1:"))
}

/// Tells a ticket from a code by how it looks, and says what is wrong with either.
fn parse_invitation(text: &str) -> Result<Invitation> {
    const SHOWS: &str = "mesh pair on a device of the mesh shows both";
    if text.trim().is_empty() {
        return Err(CommandError::usage("there is neither code nor ticket").hint(SHOWS));
    }
    if is_ticket(text) {
        let ticket = Ticket::parse(text).map_err(|error| {
            CommandError::wrong_secret(format!("that is no ticket: {error}")).hint(SHOWS)
        })?;
        return Ok(Invitation::Ticket(Box::new(ticket)));
    }
    Code::parse(text)
        .map(Invitation::Code)
        .map_err(|error| match error {
            CodeError::NotACode => CommandError::wrong_secret(
                "that is neither a code, which has nine digits, nor a ticket, which begins with MESH1:",
            )
            .hint(SHOWS),
            error => CommandError::wrong_secret(error.to_string()).hint(SHOWS),
        })
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
    fn a_code_may_be_an_argument_and_a_ticket_not() {
        let kind = |text| invitation(Ui::new(true), text).map_err(|error| error.kind);
        assert_eq!(kind("mesh1:ABC").err(), Some(Kind::Refused));
        for code in ["123-456-789", "123456789", "123 456 789"] {
            assert!(matches!(kind(code), Ok(Invitation::Code(_))), "{code}");
        }
        assert_eq!(kind("123-456-78").err(), Some(Kind::Usage));
        assert_eq!(kind("no such file").err(), Some(Kind::NotFound));
    }

    #[test]
    fn what_is_neither_is_told_apart() {
        let message = |text| parse_invitation(text).err().map(|e| e.message);
        let told = |text| message(text).unwrap_or_default();
        assert_eq!(told("  \n"), "there is neither code nor ticket");
        assert_eq!(told("1234"), "a code has nine digits, and this has 4");
        assert!(
            told("hello").contains("neither a code"),
            "{}",
            told("hello")
        );
        assert!(
            told("MESH1:AE").contains("no ticket"),
            "{}",
            told("MESH1:AE")
        );
        assert!(told("\u{fffd}\u{fffd}").contains("neither"));
    }
}
