//! `mesh doctor`: what the node's crate checks, and what only a command sees: the socket, the version, the service.

use ownmesh_node::command::Kind;
use ownmesh_node::doctor::{Check, Doctor, Level, of_status, offline};
use ownmesh_node::status::Status;

use super::{Context, service};
use crate::client::Client;
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{start, words};

/// Look for what may be wrong, and say what to do about it
///
/// Ends with 0 if nothing is wrong, with 1 if something is. Notes are no faults. Does not start the node.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Show what is all right too
    #[arg(long, short)]
    all: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    context.home.require_mesh()?;
    let now = words::now();
    let spinner = context.ui.spinner("looking");
    let client = Client::new(context.home.socket()?);
    let status = match start::answers(&client).await {
        true => client.get::<Status>("/v1/status").await.ok(),
        false => None,
    };
    let (home, running) = (context.home.clone(), status.is_some());
    let looked = tokio::task::spawn_blocking(move || offline(&home, now, running)).await;
    let mut checks = looked.unwrap_or_default();
    checks.push(node(context, &client, status.as_ref()));
    if let Some(status) = &status {
        checks.extend(of_status(status, now));
    }
    checks.extend(service::check(context, running));
    spinner.finish_and_clear();
    let doctor = Doctor::new(checks);
    context.ui.answer(&doctor, |ui| show(ui, &doctor, args.all));
    Ok(if doctor.ok {
        End::Done
    } else {
        End::Answered(Kind::Failed)
    })
}

/// Whether the node answers, and is this very program's.
fn node(context: &Context, client: &Client, status: Option<&Status>) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    match status {
        None => match context.home.holder() {
            Some(holder) => Check::wrong(
                "node",
                format!(
                    "{holder}, but nobody answers at {}",
                    client.socket().display()
                ),
                "end that process if it is no mesh command at work, then mesh up",
            ),
            None => Check::wrong("node", "the node is not running", context.next("up")),
        },
        Some(status) if status.device.version != ours => Check::wrong(
            "node",
            format!(
                "the node is of version {}, this command of {ours}",
                status.device.version
            ),
            format!("{}, then {}", context.next("down"), context.next("up")),
        ),
        Some(_) => Check::fine("node", format!("the node answers, of version {ours}")),
    }
}

fn show(ui: Ui, doctor: &Doctor, all: bool) {
    let shown = doctor.checks.iter().filter(|c| all || c.level > Level::Ok);
    for check in shown {
        let level = match check.level {
            Level::Wrong => "wrong",
            Level::Note => "note ",
            Level::Ok => "ok   ",
        };
        ui.say(&format!("{level}  {}", clean(&check.finding)));
        if !check.remedy.is_empty() {
            ui.say(&format!("       {}", clean(&check.remedy)));
        }
    }
    let fine = doctor
        .checks
        .iter()
        .filter(|c| c.level == Level::Ok)
        .count();
    let fine = words::count(fine as u64, "check");
    ui.say(&if doctor.ok {
        format!("nothing is wrong ({fine} passed)")
    } else {
        format!("something is wrong ({fine} passed)")
    });
}
