//! Trash, history, undo and the operation log: the arms of these routes.

use super::body::Body;
use super::calls::Context;
use super::reply::{self, Reply};
use super::routes::Call;
use super::uri;
use crate::command::{CommandError, LogQuery};
use crate::status::Time;

/// Answers one of these calls.
pub(super) async fn call(
    context: &Context,
    call: Call,
    query: Option<&str>,
    body: &Body,
) -> Result<Reply, CommandError> {
    let handle = &context.handle;
    Ok(match call {
        Call::Trash => reply::list("trash", &handle.trash(uri::query(query, "space")).await?),
        Call::Restore => reply::object(&handle.restore(body.json()?).await?),
        Call::EmptyTrash => reply::object(&handle.empty_trash(body.json()?).await?),
        Call::History => {
            let path = uri::query(query, "path")
                .ok_or_else(|| CommandError::usage("the query has to name a path"))?;
            reply::object(&handle.history(path).await?)
        }
        Call::RevertTo => reply::object(&handle.revert_to(body.json()?).await?),
        Call::Undo => reply::object(&handle.undo(body.json()?).await?),
        Call::Log => {
            let query = LogQuery {
                device: uri::query(query, "device"),
                kind: uri::query(query, "kind"),
                since: uri::query(query, "since").map(|t| time(&t)).transpose()?,
            };
            let entries = context.ask(move |engine, _| engine.log(query)).await??;
            reply::list("entries", &entries)
        }
        Call::VerifyLog => reply::object(&context.ask(|engine, _| engine.verify_log()).await??),
        _ => return Err(CommandError::failed("the route table is wrong")),
    })
}

fn time(text: &str) -> Result<Time, CommandError> {
    text.parse()
        .map_err(|_| CommandError::usage("this is no time in RFC 3339").about(text))
}
