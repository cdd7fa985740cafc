//! One arm per route: reads the request, asks the engine, makes the answer.

use std::sync::Arc;

use futures::StreamExt;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::{broadcast, oneshot, watch};

use super::body::Body;
use super::reply::{self, Reply, versioned};
use super::routes::{Call, find};
use super::{asked, ignore, openapi, pairing, past, uri};
use crate::command::{
    AddRequest, CommandError, ConfirmRequest, ItemsReply, ModeRequest, PairRequest, ResolveRequest,
    WaitRequest,
};
use crate::db::NO_ROOM;
use crate::engine::{Engine, Now};
use crate::home::Home;
use crate::limits::Limits;
use crate::node::{Handle, Stopped};
use crate::told::{BlockRequest, PauseRequest, RenameRequest, ResumeRequest, SpacesReply};

/// What every request may use.
pub(super) struct Context {
    /// The node.
    pub(super) handle: Handle,
    /// Turns true when the API is closing; `POST /v1/down` turns it.
    pub(super) closing: watch::Sender<bool>,
    /// The device's home.
    pub(super) home: Home,
    /// Where the socket is, when not in the home.
    pub(super) socket: Option<String>,
}

impl Context {
    /// Asks the engine for something it knows.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Now) -> R + Send + 'static,
    ) -> Result<R, CommandError> {
        let answer = self.handle.call(f).await;
        answer.map_err(|Stopped| self.stopping())
    }

    /// Asks the engine for something that takes time; it answers through the sender.
    pub(super) async fn order<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Now, oneshot::Sender<Result<R, CommandError>>) + Send + 'static,
    ) -> Result<R, CommandError> {
        let (done, answer) = oneshot::channel();
        self.ask(|engine, now| f(engine, now, done)).await?;
        let mut closing = self.closing.subscribe();
        tokio::select! {
            answer = answer => answer.map_err(|_| self.stopping())?,
            () = closed(&mut closing) => Err(self.stopping()),
        }
    }

    /// Why there is no answer.
    fn stopping(&self) -> CommandError {
        match self.handle.held_up() {
            Some(why) => CommandError::failed(why)
                .hint("the node goes on by itself when it can write again")
                .retry(),
            None => CommandError::not_running("the node is stopping"),
        }
    }
}

/// Completes when the API closes.
pub(super) async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Answers a request, always.
pub(super) async fn answer(context: Arc<Context>, request: Request<Incoming>) -> Reply {
    match call(&context, request).await {
        Ok(reply) => reply,
        Err(mut error) => {
            if error.message == NO_ROOM {
                let path = context.home.db_path().display().to_string();
                error.message = format!("no room left on the disk of {path}");
                error.item = Some(path);
                error.retry = true;
            }
            reply::error(error)
        }
    }
}

async fn call(context: &Arc<Context>, request: Request<Incoming>) -> Result<Reply, CommandError> {
    let (route, name) = find(request.method(), request.uri().path())?;
    let query = request.uri().query().map(str::to_owned);
    let body = Body::read(request).await?;
    match route.call {
        Call::Status => {
            let mut status = context.ask(|engine, now| engine.status(now)).await?;
            status.socket.clone_from(&context.socket);
            Ok(reply::object(&status))
        }
        Call::Devices => Ok(reply::list(
            "devices",
            &context.ask(|engine, now| engine.devices(now)).await?,
        )),
        Call::Spaces => Ok(reply::list(
            "spaces",
            &context.ask(|engine, _| engine.spaces()).await?,
        )),
        Call::Conflicts => {
            let (query, item) = (query.as_deref(), uri::query(query.as_deref(), "item"));
            let compared = uri::query(query, "diff").is_some_and(|v| v == "1");
            let conflicts = match (compared, item) {
                (true, item) => context.handle.conflict_diffs(item).await?,
                (false, None) => context.ask(|engine, _| engine.conflicts()).await?,
                (false, Some(item)) => {
                    let one = context.ask(move |engine, _| engine.conflict_named(&item));
                    vec![one.await??.info]
                }
            };
            Ok(reply::list("conflicts", &conflicts))
        }
        Call::Items => items(context, name, query.as_deref()).await,
        Call::Add => {
            let request: AddRequest = body.json()?;
            Ok(reply::object(
                &context
                    .order(|engine, now, done| engine.add(request, now, done))
                    .await?,
            ))
        }
        Call::Wait => {
            let request: WaitRequest = body.json()?;
            Ok(reply::object(
                &context
                    .order(|engine, now, done| engine.wait(request, now, done))
                    .await?,
            ))
        }
        Call::Scan => {
            context
                .order(move |engine, now, done| engine.scan(&name, now, done))
                .await?;
            Ok(done())
        }
        Call::Leave => {
            context.ask(move |engine, _| engine.leave(&name)).await??;
            Ok(done())
        }
        Call::Mode => {
            let ModeRequest { mode } = body.json()?;
            context
                .ask(move |engine, _| engine.set_mode(&name, &mode))
                .await??;
            Ok(done())
        }
        Call::Continue => {
            context.handle.go_on(name).await?;
            Ok(done())
        }
        Call::Revert => {
            context.handle.revert(name).await?;
            Ok(done())
        }
        Call::Resolve => {
            let ResolveRequest { item, keep } = body.json()?;
            context
                .ask(move |engine, now| engine.resolve(&item, keep, now))
                .await??;
            Ok(done())
        }
        Call::Ignore => Ok(reply::object(
            &context
                .ask(move |engine, _| engine.ignore_rules(&name))
                .await??,
        )),
        Call::IgnoreChange => {
            let change = body.json()?;
            Ok(reply::object(&ignore::change(context, name, change).await?))
        }
        Call::IgnoreTest => {
            let test = body.json()?;
            Ok(reply::object(&ignore::test(context, name, test).await?))
        }
        Call::Why => asked::why(context, query.as_deref()).await,
        Call::Doctor => asked::doctor(context).await,
        Call::Pause => {
            let PauseRequest { space, seconds } = body.json()?;
            let spaces = context
                .ask(move |engine, now| engine.pause(space.as_deref(), seconds, now))
                .await??;
            Ok(reply::object(&SpacesReply { spaces }))
        }
        Call::Resume => {
            let ResumeRequest { space } = body.json()?;
            let spaces = context
                .ask(move |engine, now| engine.unpause(space.as_deref(), now))
                .await??;
            Ok(reply::object(&SpacesReply { spaces }))
        }
        Call::Limits => Ok(reply::object(
            &context.ask(|engine, now| engine.limits(now)).await?,
        )),
        Call::SetLimits => {
            let limits: Limits = body.json()?;
            let limits = context
                .ask(move |engine, now| engine.set_limits(limits, now))
                .await??;
            Ok(reply::object(&limits))
        }
        Call::Rename => {
            let RenameRequest { device, name } = body.json()?;
            context
                .ask(move |engine, now| engine.rename_device(&device, &name, now))
                .await??;
            Ok(done())
        }
        Call::Block => {
            let BlockRequest { device, blocked } = body.json()?;
            context
                .ask(move |engine, now| engine.block(&device, blocked, now))
                .await??;
            Ok(done())
        }
        Call::Trash
        | Call::Restore
        | Call::EmptyTrash
        | Call::History
        | Call::RevertTo
        | Call::Undo
        | Call::Log
        | Call::VerifyLog => past::call(context, route.call, query.as_deref(), &body).await,
        Call::Pair => {
            let request: PairRequest = body.json()?;
            pairing::window(context, request).await
        }
        Call::Confirm => {
            let ConfirmRequest { words } = body.json()?;
            context
                .ask(move |engine, _| engine.confirm_words(&words))
                .await??;
            Ok(done())
        }
        Call::Down => {
            context.closing.send_replace(true);
            Ok(done())
        }
        Call::Events => Ok(events(context)),
        Call::OpenApi => Ok(reply::object(&openapi::description())),
    }
}

fn done() -> Reply {
    reply::object(&json!({ "done": true }))
}

async fn items(
    context: &Context,
    space: String,
    query: Option<&str>,
) -> Result<Reply, CommandError> {
    let path = uri::query(query, "path").unwrap_or_default();
    let recursive = matches!(
        uri::query(query, "recursive").as_deref(),
        Some("" | "1" | "true")
    );
    let (of, below) = (space.clone(), path.clone());
    let items = context
        .ask(move |engine, _| engine.items(&of, &below, recursive))
        .await??;
    Ok(reply::object(&ItemsReply { space, path, items }))
}

/// The notices as they come. A reader that is too slow is told how many it missed.
fn events(context: &Context) -> Reply {
    let notices = context.handle.subscribe();
    let closing = context.closing.subscribe();
    let next = |(mut notices, mut closing): (broadcast::Receiver<_>, watch::Receiver<bool>)| async move {
        let value = tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => versioned(&notice),
                Err(broadcast::error::RecvError::Lagged(missed)) => versioned(&json!({ "event": "missed", "events": missed })),
                Err(broadcast::error::RecvError::Closed) => return None,
            },
            () = closed(&mut closing) => return None,
        };
        Some((value, (notices, closing)))
    };
    // A first line at once, so that a reader knows that it listens.
    let first = futures::stream::iter([versioned(&json!({ "event": "listening" }))]);
    reply::lines(first.chain(futures::stream::unfold((notices, closing), next)))
}
