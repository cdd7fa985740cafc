//! Questions whose answers need a look at the disk too: `why` and `doctor`.

use std::path::PathBuf;

use super::calls::Context;
use super::reply::{self, Reply};
use super::uri;
use crate::command::CommandError;
use crate::doctor::{self, Doctor};
use crate::status::Time;
use crate::why::{Why, WhyState, look};

/// Everything known about a path.
pub(super) async fn why(context: &Context, query: Option<&str>) -> Result<Reply, CommandError> {
    let path = uri::query(query, "path").ok_or_else(|| {
        CommandError::usage("no path").hint("GET /v1/why?path=/home/me/docs/file")
    })?;
    let space = uri::query(query, "space");
    let asked = path.clone();
    let located = context
        .ask(move |engine, _| engine.locate(space.as_deref(), &asked))
        .await??;
    let file = PathBuf::from(located.as_ref().map_or(&path, |at| &at.path));
    let on_disk = blocking(move || look(&file)).await?;
    let why = match located {
        Some(at) => {
            context
                .ask(move |engine, now| engine.why(&at, on_disk, now))
                .await??
        }
        None => Why {
            path,
            state: WhyState::Outside,
            on_disk,
            words: vec!["it is in no space of this device".into()],
            next: "nothing; mesh add PATH makes a space of a folder".into(),
            ..Why::default()
        },
    };
    Ok(reply::object(&why))
}

/// The checks that a node can make of itself.
pub(super) async fn doctor(context: &Context) -> Result<Reply, CommandError> {
    let (status, now) = context
        .ask(|engine, now| (engine.status(now), Time::from_millis(now.wall)))
        .await?;
    let home = context.home.clone();
    let mut checks = blocking(move || doctor::offline(&home, now, true)).await?;
    checks.extend(doctor::of_status(&status, now));
    Ok(reply::object(&Doctor::new(checks)))
}

async fn blocking<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
) -> Result<R, CommandError> {
    let failed = |_| CommandError::failed("looking at the disk failed");
    tokio::task::spawn_blocking(f).await.map_err(failed)
}
