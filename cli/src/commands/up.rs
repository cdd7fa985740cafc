//! `mesh up`.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use ownmesh_node::api::Api;
use ownmesh_node::command::{CommandError, ErrorReply, Kind};
use ownmesh_node::db::DbError;
use ownmesh_node::engine::StartError;
use ownmesh_node::home::{Home, NodeLock, why_no_database, with_sources};
use ownmesh_node::node::{Handle, Node, NodeError, Options};
use ownmesh_node::status::{Status, VERSION};
use serde_json::json;
use tracing_subscriber::EnvFilter;

use super::Context;
use crate::client::Client;
use crate::error::{End, Result};
use crate::start;

/// What is logged unless `MESH_LOG` says otherwise.
const LOG: &str = "warn,ownmesh_node=info,mesh=info";

/// Between two looks at whether the home is still there.
const LOOK: Duration = Duration::from_secs(2);

/// Start the node
///
/// Returns when it answers. It goes on in the background until `mesh down` or the end of the machine; `mesh service install` starts it with
/// the session.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Stay here and log to stderr, for service managers and containers
    #[arg(long)]
    foreground: bool,

    /// Listen for other devices on this address [default: all, a port of the system's choice]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,

    /// Started by another mesh command: own session, one line on stdout when ready
    #[arg(long, hide = true, requires = "foreground")]
    detached: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    if args.foreground {
        return foreground(context, &args).await;
    }
    let client = Client::new(context.home.socket()?);
    let running = start::answers(&client).await;
    if !running {
        context.home.require_mesh()?;
        let more = args
            .listen
            .map(|address| vec!["--listen".to_owned(), address.to_string()])
            .unwrap_or_default();
        start::background(&context.home, &more).await?;
    }
    let status: Status = client.get("/v1/status").await?;
    context.ui.answer(
        &json!({ "running": true, "started": !running, "device": status.device }),
        |ui| {
            let socket = if context.home.socket_elsewhere() {
                format!("; its socket is {}", client.socket().display())
            } else {
                String::new()
            };
            ui.say(&format!(
                "The node of {} {}{socket}.",
                status.device.name,
                if running {
                    "is running already"
                } else {
                    "is running"
                }
            ));
            if running && args.listen.is_some() {
                ui.hint("It was started before; --listen takes effect after mesh down.");
            }
        },
    );
    Ok(End::Done)
}

async fn foreground(context: &Context, args: &Args) -> Result<End> {
    #[cfg(unix)]
    if args.detached {
        let _ = rustix::process::setsid();
    }
    let filter = std::env::var("MESH_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(LOG));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    match serve(context, args).await {
        Err(error) if args.detached => {
            tracing::error!(%error, hint = error.hint, "the node cannot start");
            ready(&json!(ErrorReply {
                v: VERSION,
                error: error.clone()
            }));
            Err(error)
        }
        other => other,
    }
}

async fn serve(context: &Context, args: &Args) -> Result<End> {
    context.home.require_mesh()?;
    let stop = stop_signal()?;
    let lock = context.home.lock()?;
    // Bound first: whoever connects from now on waits for the node instead of failing.
    let api = Api::bind(&lock)?;
    let handle = start_node(context, args).await?;
    tracing::info!(socket = %api.path().display(), version = env!("CARGO_PKG_VERSION"), "the node is running");
    if args.detached {
        ready(&json!({ "ready": true }));
    }
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = home_gone(&lock) => tracing::error!("the home is gone"),
        }
    };
    api.serve(handle.clone(), stop).await;
    tracing::info!("the node is stopping");
    handle.stop().await;
    tracing::info!("the node has stopped");
    drop(lock);
    Ok(End::Done)
}

/// Completes when the home is not there any more, or another one is in its place: a node without one
/// would answer nobody, and write its database to files that have no name.
async fn home_gone(lock: &NodeLock) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !lock.stands() {
            return;
        }
    }
}

async fn start_node(context: &Context, args: &Args) -> Result<Handle> {
    let options = Options {
        listen: args.listen.into_iter().collect(),
        mdns: start::mdns(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let started = Node::start(&context.home, options).await;
    started.map_err(|error| refusal(&context.home, error))
}

fn refusal(home: &Home, error: NodeError) -> CommandError {
    match error {
        NodeError::Home(error) => error.into(),
        NodeError::Start(StartError::Db(error @ DbError::TooNew { .. })) => {
            CommandError::new(Kind::NewerVersion, error.to_string()).hint("nothing was changed")
        }
        NodeError::Start(StartError::Db(error @ DbError::Sqlite(_))) => {
            CommandError::failed(why_no_database(&error, &home.db_path()))
        }
        error => CommandError::failed(with_sources(&error)),
    }
}

/// Tells the process that started this one.
fn ready(value: &serde_json::Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{value}").and_then(|()| stdout.flush());
}

#[cfg(not(unix))]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Completes at the first SIGTERM or SIGINT; the second one ends the process at once.
#[cfg(unix)]
fn stop_signal() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let failed = |error| CommandError::failed(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("told twice to stop; ending at once");
            std::process::exit(1);
        });
    })
}
