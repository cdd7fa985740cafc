//! The new device's side: finds the mesh, shows the words, and keeps what it is given only after its own user agreed.
//!
//! The order: the home is held from the start, so that nothing else makes it meanwhile; it is made when the user has agreed; only when that
//! is durable the sponsor hears so. A pairing that ends before leaves nothing.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use ownmesh_crypto::{DeviceKeys, DeviceSeed};
use ownmesh_node::command::{CommandError, JoinEvent, Kind};
use ownmesh_node::home::{self, HomeState, Vacant, platform, rng, runtime_dir};
use ownmesh_node::pair::{self, Invitation, JoinError, JoinOptions};
use ownmesh_node::status::Status;
use tokio::sync::mpsc;

use crate::commands::Context;
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{secrets, start, words};

use super::user::{User, WAITING};

/// When somebody who looks in vain is told what it may be.
const PATIENCE: Duration = Duration::from_secs(8);

/// What was asked for.
pub(super) struct Options {
    pub(super) invitation: String,
    pub(super) name: Option<String>,
    pub(super) at: Option<String>,
    pub(super) replace: bool,
    pub(super) yes: bool,
}

pub(super) async fn run(context: &Context, options: Options) -> Result<End> {
    let ui = context.ui;
    let invitation = secrets::invitation(ui, &options.invitation)?;
    if !options.yes && !ui.json() && !ui.can_ask() {
        return Err(CommandError::needs_confirmation(
            "there is no terminal to ask whether to join",
        )
        .hint("--yes trusts code or ticket alone; --json reads the answer from standard input"));
    }
    let hints = match &invitation {
        Invitation::Ticket(ticket) => &ticket.hints[..],
        Invitation::Code(_) => &[],
    };
    let at = match &options.at {
        Some(at) => addresses(at, hints).await?,
        None => Vec::new(),
    };
    let vacant = claim(context, options.replace).await?;
    let seed = DeviceSeed::random(&mut rng());
    let name = options.name.unwrap_or_else(secrets::machine_name);
    let keys = DeviceKeys::from_seed(&seed);
    let order = JoinOptions {
        invitation,
        trust: options.yes,
        keys: &keys,
        name: name.clone(),
        platform: platform().to_owned(),
        at,
        runtime_dir: runtime_dir()?,
        mdns: start::mdns(),
    };
    let met = meet(ui, order).await?;
    let mesh = met.registry.view().mesh_name.clone();
    // The mesh may have a device of that name already.
    let given = met.registry.view().devices.get(&keys.device_id());
    let (asked, name) = match given {
        Some(entry) => (name, entry.name.clone()),
        None => (name.clone(), name),
    };
    let joined = home::Joined {
        seed,
        mesh_secret: met.enrollment.mesh_secret.clone(),
        statements: met
            .registry
            .statements()
            .map(|statement| statement.bytes().to_vec())
            .collect(),
        device_name: name.clone(),
        keyslots: met.enrollment.keyslots.clone(),
    };
    let lock = vacant.join(&joined)?;
    if let Err(error) = met.confirm().await {
        ui.hint(&format!(
            "The other device has not heard of it yet ({error}); it will at the first connection."
        ));
    }
    drop(lock);
    start::background(&context.home, &[]).await?;
    ui.answer(
        &JoinEvent::Paired {
            mesh: mesh.clone(),
            device: name.clone(),
        },
        |ui| {
            if name != asked {
                ui.say(&format!(
                    "Another device is called {} already; another name for this one: {}",
                    clean(&asked),
                    context.next(&format!("device rename {} NEW", clean(&name)))
                ));
            }
            ui.say(&format!(
                "{} is a device of {} now. The node is running.",
                clean(&name),
                clean(&mesh)
            ));
            ui.say(&format!("See the spaces:   {}", context.next("spaces")));
            ui.say(&format!(
                "Join one:         {}",
                context.next("add PATH --space NAME")
            ));
        },
    );
    Ok(End::Done)
}

/// Holds a home that is vacant, or with `--replace` one whose device takes part in no space.
async fn claim(context: &Context, replace: bool) -> Result<Vacant> {
    let home = &context.home;
    if home.state() != HomeState::Mesh {
        return Ok(home.claim()?);
    }
    let refused = CommandError::refused(format!("{} has a mesh already", home.root().display()));
    if !replace {
        return Err(refused.hint("--replace sets it aside if it takes part in no space; another --home DIR makes another device"));
    }
    let status: Status = start::node(context).await?.get("/v1/status").await?;
    if !status.spaces.is_empty() {
        let spaces = words::count(status.spaces.len() as u64, "space");
        return Err(CommandError::refused(format!(
            "this device takes part in {spaces} of mesh {}",
            status.mesh.name
        ))
        .hint("leave them first: mesh leave SPACE"));
    }
    start::stop(home).await?;
    Ok(home.claim_replacing()?)
}

/// Pairs up to the point where nothing is final, telling the user on the way.
async fn meet(ui: Ui, order: JoinOptions<'_>) -> Result<pair::Joined> {
    let by_code = matches!(order.invitation, Invitation::Code(_));
    let (sender, mut events) = mpsc::channel(WAITING);
    let (mut user, answers) = User::new(ui, order.trust, by_code)?;
    ui.hint("Looking for the other device.");
    let mut joining = pin!(pair::join(order, sender, answers));
    let mut vain = pin!(tokio::time::sleep(PATIENCE));
    let mut looking = true;
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => {
                looking = false;
                user.show(event)?;
            }
            line = user.line() => user.answer(line),
            () = &mut vain, if looking => {
                looking = false;
                ui.hint("Nothing yet. Does its mesh pair still run, and are both in the same network?");
            }
            result = &mut joining => break result,
        }
    };
    while let Ok(event) = events.try_recv() {
        user.show(event)?;
    }
    result.map_err(|error| refusal(&error))
}

fn refusal(error: &JoinError) -> CommandError {
    let message = error.to_string();
    match error {
        JoinError::NotFound { .. } => CommandError::failed(message)
            .retry()
            .hint("is its window still open? --at HOST:PORT says where it is"),
        JoinError::Expired => CommandError::not_finished(message)
            .hint("mesh pair on the other device shows a new code"),
        JoinError::WrongCode => CommandError::new(Kind::WrongSecret, message)
            .hint("compare it with what the other device shows; after three wrong ones that needs a new code"),
        JoinError::Refused { .. } | JoinError::Pair(_) | JoinError::WrongWord => {
            CommandError::new(Kind::WrongSecret, message)
                .hint("mesh pair on the other device shows a new code")
        }
        JoinError::Declined => CommandError::refused(message)
            .hint("--yes trusts code or ticket alone; with --json the answer is a line on standard input"),
        _ => CommandError::failed(message).retry(),
    }
}

/// Where `HOST[:PORT]` leads. Without a port, those of the ticket's own addresses are tried; a code has none.
async fn addresses(at: &str, hints: &[String]) -> Result<Vec<SocketAddr>> {
    let wrong = |error: std::io::Error| {
        CommandError::new(Kind::NotFound, format!("cannot find {at}: {error}"))
            .hint("--at takes HOST:PORT or HOST")
    };
    if let Ok(address) = at.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    let has_port = at.parse::<IpAddr>().is_err()
        && at
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port {
        return Ok(tokio::net::lookup_host(at).await.map_err(wrong)?.collect());
    }
    let mut ports: Vec<u16> = hints
        .iter()
        .filter_map(|hint| hint.parse::<SocketAddr>().ok())
        .map(|address| address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return Err(
            CommandError::usage(format!("{at} has no port, and nothing says it"))
                .hint("--at HOST:PORT; mesh pair on the other device shows where it listens"),
        );
    }
    let mut found = Vec::new();
    for port in ports {
        found.extend(tokio::net::lookup_host((at, port)).await.map_err(wrong)?);
    }
    Ok(found)
}
