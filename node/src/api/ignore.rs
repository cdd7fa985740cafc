//! Ignore rules: the engine says what they mean, a worker writes the file, a look at the folder has
//! them hold.

use std::path::Path;

use super::calls::Context;
use crate::command::CommandError;
use crate::command::ignore::{IgnoreChange, IgnoreChanged, IgnoreTest, IgnoreTested};
use crate::disk::real::RealDisk;
use crate::disk::rules::{EditError, edit};
use crate::disk::scan::{Guard, check};
use crate::engine::{PATTERN_HINT, rule_file};

/// Adds a rule, or takes one out; answers when it holds.
pub(super) async fn change(
    context: &Context,
    space: String,
    change: IgnoreChange,
) -> Result<IgnoreChanged, CommandError> {
    let (name, asked) = (space.clone(), change.clone());
    let plan = context
        .ask(move |engine, _| engine.ignore_plan(&name, &asked))
        .await??;
    let file = rule_file(change.device);
    let changed = blocking(move || write(&plan.path, &plan.guard, &change)).await??;
    let name = space.clone();
    context
        .order(move |engine, now, done| engine.scan(&name, now, done))
        .await?;
    Ok(IgnoreChanged {
        space,
        file: file.path().to_owned(),
        changed,
        stops: plan.stops,
        resumes: plan.resumes,
    })
}

/// Says what the rules do, and what a rule would do. Changes nothing.
pub(super) async fn test(
    context: &Context,
    space: String,
    test: IgnoreTest,
) -> Result<IgnoreTested, CommandError> {
    let mut out = IgnoreTested {
        space: space.clone(),
        ..IgnoreTested::default()
    };
    if let Some(pattern) = test.pattern {
        let change = IgnoreChange {
            pattern,
            device: test.device,
            remove: false,
        };
        let name = space.clone();
        let plan = context
            .ask(move |engine, _| engine.ignore_plan(&name, &change))
            .await??;
        out.stops = Some(plan.stops);
    }
    if let Some(path) = test.path {
        let name = space.clone();
        let folder = context
            .ask(move |engine, _| engine.folder_of(&name))
            .await??;
        let asked = path.clone();
        let on_disk = blocking(move || {
            let at = Path::new(&folder).join(asked.trim_matches('/'));
            std::fs::symlink_metadata(at).ok().map(|meta| meta.is_dir())
        })
        .await?;
        out.path = Some(
            context
                .ask(move |engine, _| engine.ignore_verdict(&space, &path, on_disk))
                .await??,
        );
    }
    Ok(out)
}

fn write(path: &str, guard: &Guard, change: &IgnoreChange) -> Result<bool, CommandError> {
    let failed = |e: &dyn std::fmt::Display| CommandError::failed(format!("{path}: {e}"));
    let disk = RealDisk::open(path).map_err(|e| failed(&e))?;
    check(&disk, guard).map_err(|e| failed(&e))?;
    let file = rule_file(change.device);
    edit(&disk, file, &change.pattern, change.remove).map_err(|error| match error {
        EditError::Pattern(_) => CommandError::usage(error.to_string()).hint(PATTERN_HINT),
        EditError::Absent { .. } => CommandError {
            message: error.to_string(),
            ..CommandError::not_found("rule", change.pattern.clone())
        }
        .hint("mesh ignore list shows the rules; --local is for those of this device"),
        EditError::Busy => CommandError::failed(error.to_string()).retry(),
        EditError::File { .. } | EditError::Io(_) => failed(&error),
    })
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, CommandError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| CommandError::failed("a worker failed"))
}
