//! The new device's side: finds the mesh, shows the words, and keeps what it is given only after its own user agreed.
//!
//! The order: the home is held from the start, so that nothing else makes it meanwhile; it is made when the user has agreed; only when that
//! is durable the sponsor hears so. A pairing that ends before leaves nothing.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use ownmesh_crypto::pairing::Ticket;
use ownmesh_crypto::{DeviceKeys, DeviceSeed};
use ownmesh_node::command::{CommandError, JoinEvent, Kind};
use ownmesh_node::home::{self, HomeState, Vacant, platform, rng, runtime_dir};
use ownmesh_node::pair::{self, JoinError, JoinOptions};
use ownmesh_node::status::Status;
use tokio::sync::{mpsc, oneshot};

use crate::commands::Context;
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{secrets, start, words};

/// Events of a joining that wait to be shown; there are three in all.
const EVENTS: usize = 8;

/// What was asked for.
pub(super) struct Options {
    pub(super) ticket: String,
    pub(super) name: Option<String>,
    pub(super) at: Option<String>,
    pub(super) replace: bool,
    pub(super) yes: bool,
}

pub(super) async fn run(context: &Context, options: Options) -> Result<End> {
    let ui = context.ui;
    let text = secrets::ticket(ui, &options.ticket)?;
    if !options.yes && !ui.can_ask() {
        return Err(CommandError::needs_confirmation(
            "there is no terminal to ask whether to join",
        )
        .hint("--yes trusts the ticket alone"));
    }
    let mut ticket = Ticket::parse(&text)
        .map_err(|error| CommandError::wrong_secret(format!("that is no ticket: {error}")))?;
    if let Some(at) = &options.at {
        ticket.hints.extend(addresses(at, &ticket.hints).await?);
    }
    let vacant = claim(context, options.replace).await?;
    let seed = DeviceSeed::random(&mut rng());
    let name = options.name.unwrap_or_else(secrets::machine_name);
    let keys = DeviceKeys::from_seed(&seed);
    let order = JoinOptions {
        ticket,
        keys: &keys,
        name: name.clone(),
        platform: platform().to_owned(),
        at: None,
        runtime_dir: runtime_dir()?,
        mdns: true,
    };
    let met = meet(ui, order, options.yes).await?;
    let mesh = met.registry.view().mesh_name.clone();
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
async fn meet(ui: Ui, order: JoinOptions<'_>, yes: bool) -> Result<pair::Joined> {
    let (sender, mut events) = mpsc::channel(EVENTS);
    let (accept, accepted) = oneshot::channel();
    let mut accept = Some(accept);
    if yes {
        let _ = accept.take().map(|accept| accept.send(true));
    }
    ui.hint("Looking for the other device.");
    let mut joining = pin!(pair::join(order, sender, accepted));
    let result = loop {
        tokio::select! {
            biased;
            Some(event) = events.recv() => show(ui, event, &mut accept)?,
            result = &mut joining => break result,
        }
    };
    while let Ok(event) = events.try_recv() {
        show(ui, event, &mut accept)?;
    }
    result.map_err(|error| refusal(&error))
}

fn show(ui: Ui, event: pair::JoinEvent, accept: &mut Option<oneshot::Sender<bool>>) -> Result<()> {
    match event {
        pair::JoinEvent::Reached => ui.hint("Found it."),
        pair::JoinEvent::Words(two) => ui.answer(
            &JoinEvent::Words {
                words: two.join(" "),
            },
            |ui| {
                ui.say(&format!(
                    "Type these words on the other device:  {}",
                    two.join(" ")
                ));
            },
        ),
        pair::JoinEvent::Found { mesh_name, devices } => {
            let devices = devices as u64;
            ui.answer(
                &JoinEvent::Found {
                    mesh: mesh_name.clone(),
                    devices,
                },
                |ui| {
                    ui.say(&format!(
                        "The ticket leads into {}, with {}.",
                        clean(&mesh_name),
                        words::count(devices, "device")
                    ));
                },
            );
            if let Some(accept) = accept.take() {
                question(ui, &mesh_name, accept)?;
            }
        }
    }
    Ok(())
}

/// Asks beside the pairing, so that its end is seen while the question stands. Dropping the sender declines.
fn question(ui: Ui, mesh: &str, accept: oneshot::Sender<bool>) -> Result<()> {
    let text = format!("Join {}?", clean(mesh));
    let ask = move || {
        if let Ok(answer) = ui.confirm(&text, "--yes") {
            let _ = accept.send(answer);
        }
    };
    let thread = std::thread::Builder::new()
        .name("question".into())
        .spawn(ask);
    thread
        .map(drop)
        .map_err(|error| CommandError::failed(format!("cannot ask: {error}")))
}

fn refusal(error: &JoinError) -> CommandError {
    let message = error.to_string();
    match error {
        JoinError::NotFound { .. } => CommandError::failed(message)
            .retry()
            .hint("is its window still open? --at HOST:PORT says where it is"),
        JoinError::Expired => CommandError::not_finished(message)
            .hint("mesh pair on the other device shows a new ticket"),
        JoinError::Refused { .. } | JoinError::Pair(_) => {
            CommandError::new(Kind::WrongSecret, message)
                .hint("mesh pair on the other device shows a new ticket")
        }
        JoinError::Declined => CommandError::refused(message),
        _ => CommandError::failed(message).retry(),
    }
}

/// Where `HOST[:PORT]` leads. Without a port, those of the ticket's own addresses are tried.
async fn addresses(at: &str, hints: &[String]) -> Result<Vec<String>> {
    let wrong = |error: std::io::Error| {
        CommandError::new(Kind::NotFound, format!("cannot find {at}: {error}"))
            .hint("--at takes HOST:PORT or HOST")
    };
    let text = |addresses: &mut dyn Iterator<Item = SocketAddr>| {
        addresses
            .map(|address| address.to_string())
            .collect::<Vec<_>>()
    };
    if let Ok(address) = at.parse::<SocketAddr>() {
        return Ok(vec![address.to_string()]);
    }
    let has_port = at.parse::<IpAddr>().is_err()
        && at
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port {
        return Ok(text(&mut tokio::net::lookup_host(at).await.map_err(wrong)?));
    }
    let mut ports: Vec<u16> = hints
        .iter()
        .filter_map(|hint| hint.parse::<SocketAddr>().ok())
        .map(|address| address.port())
        .collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return Err(CommandError::usage("the ticket says no port").hint("--at HOST:PORT"));
    }
    let mut found = Vec::new();
    for port in ports {
        found.extend(text(
            &mut tokio::net::lookup_host((at, port)).await.map_err(wrong)?,
        ));
    }
    Ok(found)
}
