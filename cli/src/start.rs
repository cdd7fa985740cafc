//! Starts a node in the background and waits until it answers; finds one that runs; waits until one has ended.
//!
//! The node is this very program, as `mesh up --foreground`, in a session of its own, stderr in the home's log. On its stdout, a pipe, it
//! says one line: that it is ready, or why not. So nobody polls, and the reason of a failure is shown where the command was typed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ownmesh_node::command::{CommandError, ErrorReply};
use ownmesh_node::home::Home;
use ownmesh_node::status::Status;

use crate::client::{Client, not_running};
use crate::commands::Context;
use crate::error::Result;

/// The log is begun anew beyond this size, bytes; one older one is kept.
const MAX_LOG: u64 = 8 << 20;

/// How long a node may take to stop: it finishes the group of files it writes and closes its database.
const STOP: Duration = Duration::from_secs(60);

/// How long to wait for a process that holds the home to listen.
const UNHEARD: Duration = Duration::from_secs(5);

/// Between two looks at whether the node has ended.
const STOP_POLL: Duration = Duration::from_millis(20);

/// A client of this home's node, which is started if need be.
pub(crate) async fn node(context: &Context) -> Result<Client> {
    let client = Client::new(context.home.socket()?);
    if answers(&client).await {
        return Ok(client);
    }
    if context.no_start {
        return Err(not_running());
    }
    context.home.require_mesh()?;
    context
        .ui
        .note("starting the node in the background (mesh down stops it)");
    background(&context.home, &[]).await?;
    Ok(client)
}

/// Whether a node answers. The socket of one that is being killed still takes connections for a
/// moment: who connects and hears nothing looks again.
pub(crate) async fn answers(client: &Client) -> bool {
    for _ in 0..100 {
        if !client.listens().await {
            return false;
        }
        if client.get::<serde_json::Value>("/v1/status").await.is_ok() {
            return true;
        }
        tokio::time::sleep(STOP_POLL).await;
    }
    false
}

/// Starts the node of this home and returns when it answers.
///
/// Whoever holds the home already may be the node of another command, starting or ending: it is waited for,
/// and takes the place of a new one if it answers.
pub(crate) async fn background(home: &Home, more: &[String]) -> Result<()> {
    let client = Client::new(home.socket()?);
    let begun = Instant::now();
    loop {
        while let Some(holder) = home.holder() {
            if answers(&client).await {
                return Ok(());
            }
            if begun.elapsed() > UNHEARD {
                return Err(holder.into());
            }
            tokio::time::sleep(STOP_POLL).await;
        }
        match spawned(home, more).await {
            Err(_) if home.holder().is_some() && begun.elapsed() < UNHEARD => {}
            done => return done,
        }
    }
}

/// One node, started: returns when it answers, or has ended.
async fn spawned(home: &Home, more: &[String]) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::failed(format!("cannot find this program: {error}")))?;
    let log = home.open_log(MAX_LOG)?;
    let mut command = Command::new(program);
    command
        .arg("--home")
        .arg(home.root())
        .args(["up", "--foreground", "--detached"])
        .args(more);
    command
        .env_remove("MESH_PASSWORD")
        .env_remove("MESH_PHRASE");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .current_dir(home.root());
    let mut child = command
        .spawn()
        .map_err(|error| CommandError::failed(format!("cannot start the node: {error}")))?;
    let Some(stdout) = child.stdout.take() else {
        return Err(CommandError::failed("cannot hear the node"));
    };
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line).map(|_| line);
        let started = read.unwrap_or_default();
        if started.is_empty() || serde_json::from_str::<ErrorReply>(&started).is_ok() {
            // It gives the home back with its last breath.
            let _ = child.wait();
        }
        started
    });
    let line = line.await.unwrap_or_default();
    if let Ok(reply) = serde_json::from_str::<ErrorReply>(&line) {
        return Err(reply.error);
    }
    if line.is_empty() {
        let log = home.log_path();
        return Err(CommandError::failed("the node ended before it answered")
            .hint(format!("its log: {}", log.display())));
    }
    let _: Status = Client::new(home.socket()?).get("/v1/status").await?;
    Ok(())
}

/// Stops the node of this home and returns when its process has given the home back.
///
/// Returns: whether one was running.
pub(crate) async fn stop(home: &Home) -> Result<bool> {
    let client = Client::new(home.socket()?);
    let begun = Instant::now();
    let mut told = false;
    while let Some(holder) = home.holder() {
        if !told && client.listens().await {
            client.order("/v1/down").await?;
            told = true;
        }
        // What holds the home without listening is starting, or is another command, which is not ours to stop.
        let patience = if told { STOP } else { UNHEARD };
        if begun.elapsed() > patience {
            let error = CommandError::from(holder);
            return Err(if told {
                CommandError::not_finished("the node has not stopped yet")
            } else {
                error.hint("another mesh command may be at work there")
            });
        }
        tokio::time::sleep(STOP_POLL).await;
    }
    Ok(told)
}

/// Whether to use multicast DNS: `MESH_NO_MDNS` turns it off.
pub(crate) fn mdns() -> bool {
    std::env::var_os("MESH_NO_MDNS").is_none()
}
