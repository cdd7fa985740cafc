//! The window: shows the ticket, asks for the words, says who came in. It is open as long as this command runs.

use std::path::Path;

use hyper::Method;
use ownmesh_node::command::{CommandError, ConfirmRequest, Kind, PairEvent, PairRequest};
use serde_json::Value;

use crate::client::Client;
use crate::commands::Context;
use crate::error::{End, Result};
use crate::ui::{self, Ui, clean};
use crate::{secrets, start};

pub(super) async fn run(context: &Context, yes: bool, password_file: Option<&Path>) -> Result<End> {
    let ui = context.ui;
    if !yes && !ui.json() && !ui.can_ask() {
        return Err(CommandError::needs_confirmation(
            "there is no terminal to type the new device's two words on",
        )
        .hint("--yes trusts the ticket alone; --json reads the words from standard input"));
    }
    let password =
        secrets::given_password(password_file)?.map(|password| password.expose().to_owned());
    let client = start::node(context).await?;
    let request = PairRequest {
        trust_code: yes,
        password,
    };
    let mut events = client
        .lines(Method::POST, "/v1/pair", Some(&request))
        .await?;
    let mut outcome = Outcome::default();
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
            } => {
                ui.hint(&format!(
                    "On the new device, within {} minutes:",
                    expires_in_s.div_ceil(60)
                ));
                match code {
                    Some(code) => ui.say(&format!("  mesh pair {}", clean(&code))),
                    None => {
                        ui.hint("  mesh pair -");
                        ui.hint("and give it this ticket, which is a secret:\n");
                        ui.say(&clean(&ticket));
                    }
                }
            }
            PairEvent::Joining { name, platform } => ui.hint(&format!(
                "\n{} ({}) wants to join.",
                clean(&name),
                clean(&platform)
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
        Err(CommandError::new(kind, message)
            .hint("mesh pair opens a new window, with a new ticket"))
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
