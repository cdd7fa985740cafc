//! The window: shows code and ticket, asks for the words, says who came in. It is open as long as this command runs.

use std::io::IsTerminal;
use std::path::PathBuf;

use hyper::Method;
use ownmesh_node::command::{CommandError, ConfirmRequest, Kind, PairEvent, PairRequest};
use serde_json::Value;

use crate::client::Client;
use crate::commands::Context;
use crate::error::{End, Result};
use crate::ui::{self, Ui, clean};
use crate::{secrets, start};

use super::qr;

/// What was asked for.
pub(super) struct Options {
    pub(super) yes: bool,
    pub(super) qr: bool,
    pub(super) password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, options: Options) -> Result<End> {
    let ui = context.ui;
    if options.qr && ui.json() {
        return Err(CommandError::usage("--qr draws for people")
            .hint("--json has the ticket as text, which is what the drawing says"));
    }
    if !options.yes && !ui.json() && !ui.can_ask() {
        return Err(CommandError::needs_confirmation(
            "there is no terminal to type the new device's two words on",
        )
        .hint("--yes trusts code or ticket alone; --json reads the words from standard input"));
    }
    let password = secrets::given_password(options.password_file.as_deref())?
        .map(|password| password.expose().to_owned());
    let client = start::node(context).await?;
    let request = PairRequest {
        trust_code: options.yes,
        password,
    };
    let mut events = client
        .lines(Method::POST, "/v1/pair", Some(&request))
        .await?;
    let mut outcome = Outcome {
        qr: options.qr,
        ..Outcome::default()
    };
    while let Some(value) = events.next().await? {
        if ui.json() {
            ui.object(&value);
        }
        let Ok(event) = serde_json::from_value::<PairEvent>(value) else {
            continue;
        };
        match event {
            PairEvent::Confirm {} => confirm(ui, &client)?,
            PairEvent::Closed {} => break,
            event => outcome.take(ui, event),
        }
    }
    outcome.end(ui)
}

/// What has happened so far.
#[derive(Default)]
struct Outcome {
    qr: bool,
    paired: bool,
    failed: Option<(String, u32)>,
}

impl Outcome {
    fn take(&mut self, ui: Ui, event: PairEvent) {
        match event {
            PairEvent::Window {
                code,
                ticket,
                expires_in_s,
                addresses,
            } => {
                let minutes = expires_in_s.div_ceil(60);
                ui.hint(&format!("On the new device, within {minutes} minutes:\n"));
                if let Some(code) = code {
                    ui.say(&format!("  mesh pair {}", clean(&code)));
                    if let Some(address) = addresses.first() {
                        ui.hint(&format!(
                            "\nIf it does not find this one, it can be told: --at {}",
                            clean(address)
                        ));
                    }
                    ui.hint("Instead of the digits, mesh pair - takes this ticket, which is a secret:\n");
                } else {
                    ui.hint("  mesh pair -\n");
                    ui.hint("and give it this ticket, which is a secret. There is no short code: too many wrong ones were tried within the hour.\n");
                }
                ui.say(&clean(&ticket));
                if self.qr {
                    ui.say("");
                    for line in qr::lines(&ticket, std::io::stdout().is_terminal()) {
                        ui.say(&line);
                    }
                }
            }
            PairEvent::Joining { name, platform } => ui.hint(&format!(
                "\n{} ({}) wants to join.",
                clean(&name),
                clean(&platform)
            )),
            PairEvent::Word { word } => ui.say(&format!(
                "Type this word on the new device:  {}",
                clean(&word)
            )),
            PairEvent::Paired { device } => {
                self.paired = true;
                ui.say(&format!("{} is a device of this mesh now.", clean(&device)));
            }
            PairEvent::Failed {
                reason,
                attempts_left,
            } => {
                ui.hint(&format!(
                    "An attempt failed: {}; {attempts_left} left.",
                    clean(&reason)
                ));
                self.failed = Some((reason, attempts_left));
            }
            PairEvent::Confirm {} | PairEvent::Closed {} => {}
        }
    }

    /// For scripts the events have said it all; the exit code sums up.
    fn end(self, ui: Ui) -> Result<End> {
        let kind = match (self.paired, &self.failed) {
            (true, _) => return Ok(End::Done),
            (false, Some(_)) => Kind::WrongSecret,
            (false, None) => Kind::NotFinished,
        };
        if ui.json() {
            return Ok(End::Answered(kind));
        }
        let message = match self.failed {
            Some((reason, _)) => format!("no device came in: {reason}"),
            None => "no device came in before the window closed".into(),
        };
        Err(CommandError::new(kind, message).hint("mesh pair opens a new window, with a new code"))
    }
}

/// Reads the words beside the events, so that a window that closes meanwhile is seen at once. The thread ends with the process.
fn confirm(ui: Ui, client: &Client) -> Result<()> {
    let client = client.clone();
    let runtime = tokio::runtime::Handle::current();
    let read = move || {
        let words = if ui.json() {
            ui::read_line()
        } else {
            ui.ask("The two words it shows:", "--yes")
        };
        let Ok(words) = words else { return };
        runtime.spawn(async move {
            let answer = client
                .post::<Value>("/v1/pair/confirm", Some(&ConfirmRequest { words }))
                .await;
            if let Err(error) = answer {
                ui.hint(&clean(&error.message));
            }
        });
    };
    std::thread::Builder::new()
        .name("words".into())
        .spawn(read)
        .map(drop)
        .map_err(|error| CommandError::failed(format!("cannot read the words: {error}")))
}
