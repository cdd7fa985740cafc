//! What happens in the demo, step by step.

use std::path::Path;
use std::process::Stdio;

use ownmesh_node::command::CommandError;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Steps;
use super::stage::Stage;
use crate::error::{Result, file_error};

/// Files of the demo's folder.
const FILES: usize = 200;

/// The file both devices change at once.
const NOTES: &str = "notes.md";

pub(super) async fn tell(stage: &Stage, steps: &mut Steps) -> Result<()> {
    let (laptop, desktop) = (&stage.laptop, &stage.desktop);
    let phrase = laptop.home.with_extension("phrase");
    let phrase = phrase.to_string_lossy();
    laptop
        .json(&[
            "init",
            "--name",
            "laptop",
            "--no-password",
            "--yes",
            "--phrase-out",
            &phrase,
        ])
        .await?;
    steps.done(
        "init",
        "laptop: mesh init             a mesh with one device; its node runs",
    );

    pair(stage).await?;
    steps.done(
        "pair",
        "desktop: mesh pair CODE       the desktop has joined by nine digits",
    );

    make_files(stage)?;
    let docs = laptop.docs.to_string_lossy();
    laptop.json(&["add", &docs, "--space", "docs"]).await?;
    let docs = desktop.docs.to_string_lossy();
    desktop.json(&["add", &docs, "--space", "docs"]).await?;
    stage
        .until_equal("the first sync", |tree| tree.len() == FILES + 1)
        .await?;
    steps.done(
        "sync",
        &format!(
            "both: mesh add                {} files are on both",
            FILES + 1
        ),
    );

    desktop.write(NOTES, b"written on the laptop, edited on the desktop\n")?;
    stage
        .until_equal("an edit", |tree| {
            tree.get(Path::new(NOTES))
                .is_some_and(|text| text.ends_with(b"desktop\n"))
        })
        .await?;
    steps.done(
        "edit",
        "desktop edits notes.md        the laptop has the edit",
    );

    let (from, to) = (laptop.docs.join("letters"), laptop.docs.join("archive"));
    std::fs::rename(&from, &to).map_err(|error| file_error("rename", &from, &error))?;
    stage
        .until_equal("a rename", |tree| {
            tree.len() == FILES + 1 && tree.keys().all(|path| !path.starts_with("letters"))
        })
        .await?;
    steps.done(
        "rename",
        "laptop renames a directory    the desktop renames it too",
    );

    conflict(stage, steps).await
}

async fn pair(stage: &Stage) -> Result<()> {
    let mut window = stage.laptop.start(&["pair", "--yes"], Stdio::null())?;
    let Some(stdout) = window.stdout.take() else {
        return Err(CommandError::failed("cannot hear the window"));
    };
    let mut lines = BufReader::new(stdout).lines();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        said.clone_from(&line);
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        if event["event"] == "window" {
            let code = event["code"].as_str().unwrap_or_default();
            stage
                .desktop
                .json(&["pair", code, "--name", "desktop", "--yes"])
                .await?;
        }
    }
    let ended = window.wait().await;
    if ended.is_ok_and(|status| status.success()) {
        Ok(())
    } else {
        Err(CommandError::failed(format!("pairing failed: {said}")))
    }
}

fn make_files(stage: &Stage) -> Result<()> {
    for index in 0..FILES {
        let directory = ["letters", "photos", "code/src", "code/docs"][index % 4];
        // From a line to some tens of kilobytes, each with its own content.
        let content = format!("file {index} of the demo\n").repeat(1 + (index * index) % 2_000);
        stage
            .laptop
            .write(&format!("{directory}/{index:03}.txt"), content.as_bytes())?;
    }
    stage.laptop.write(NOTES, b"written on the laptop\n")
}

/// The desktop is switched off, both change one file, the desktop comes back: both contents are kept, and one answer settles it on both.
async fn conflict(stage: &Stage, steps: &mut Steps) -> Result<()> {
    let (laptop, desktop) = (&stage.laptop, &stage.desktop);
    let (here, there) = (
        &b"what the laptop wrote meanwhile\n"[..],
        &b"what the desktop wrote meanwhile\n"[..],
    );
    desktop.json(&["down"]).await?;
    laptop.write(NOTES, here)?;
    laptop.json(&["scan", "docs", "--wait"]).await?;
    desktop.write(NOTES, there)?;
    desktop.json(&["up"]).await?;
    let both = |tree: &super::stage::Tree| {
        [here, there]
            .iter()
            .all(|text| tree.values().any(|content| content == text))
    };
    stage.until_equal("a conflict", both).await?;
    stage
        .until_both("a conflict", &["conflicts"], |answer| {
            answer["conflicts"]
                .as_array()
                .is_some_and(|list| list.len() == 1)
        })
        .await?;
    steps.done(
        "conflict",
        "both edit notes.md, apart     both versions are on both, as a conflict",
    );

    laptop
        .json(&[
            "conflicts",
            "resolve",
            &format!("docs:{NOTES}"),
            "--keep",
            "both",
        ])
        .await?;
    stage
        .until_both("the answer", &["conflicts"], |answer| {
            answer["conflicts"].as_array().is_some_and(Vec::is_empty)
        })
        .await?;
    stage.until_equal("the answer", both).await?;
    steps.done(
        "resolve",
        "laptop: conflicts resolve     settled on both, nothing lost",
    );
    laptop.json(&["wait", "--timeout", "60", "--all"]).await?;
    steps.done(
        "wait",
        "laptop: mesh wait             the desktop has confirmed everything",
    );
    Ok(())
}
