//! `mesh limit`.

use ownmesh_node::limits::{Limits, LimitsNow, Window, WindowError};

use super::Context;
use crate::amounts::{self, Rate};
use crate::error::{End, Result};
use crate::ui::Ui;
use crate::{start, words};

/// Show or set how fast this device may send and receive
///
/// Counts contents and changes of all devices together, on every road. A small edit goes before big files at any limit. What is not named
/// stays as it was. Whether a network is metered is not asked of the system: pause, or set a schedule.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// To others, bytes a second as in 500K or 1.5M; off: no limit
    #[arg(long, value_name = "R", value_parser = amounts::rate)]
    up: Option<Rate>,

    /// From others
    #[arg(long, value_name = "R", value_parser = amounts::rate)]
    down: Option<Rate>,

    /// When the limits apply, by this machine's clock; may be named several times; always: at any time
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = window)]
    schedule: Vec<When>,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Always,
    Window(Window),
}

fn window(text: &str) -> std::result::Result<When, WindowError> {
    match text {
        "always" => Ok(When::Always),
        text => text.parse().map(When::Window),
    }
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<End> {
    let client = start::node(context).await?;
    let mut now: LimitsNow = client.get("/v1/limits").await?;
    if args.up.is_some() || args.down.is_some() || !args.schedule.is_empty() {
        let windows = args.schedule.iter().filter_map(|when| match when {
            When::Always => None,
            When::Window(window) => Some(*window),
        });
        let (up, down) = (
            args.up.map_or(now.up, |rate| rate.0),
            args.down.map_or(now.down, |rate| rate.0),
        );
        let schedule = match args.schedule.is_empty() {
            // Without a limit the old times mean nothing any more.
            true if up.is_none() && down.is_none() => Vec::new(),
            true => now.schedule,
            false => windows.collect(),
        };
        let limits = Limits { up, down, schedule };
        now = client.post("/v1/limits", Some(&limits)).await?;
    }
    context.ui.answer(&now, |ui| show(ui, &now));
    Ok(End::Done)
}

fn show(ui: Ui, now: &LimitsNow) {
    ui.say(&sentence(now));
}

/// The limits in one line.
pub(crate) fn sentence(now: &LimitsNow) -> String {
    let rate = |rate: Option<u64>| rate.map(|rate| format!("{}/s", words::size(rate)));
    let parts: Vec<String> = [("up", rate(now.up)), ("down", rate(now.down))]
        .into_iter()
        .filter_map(|(name, rate)| Some(format!("{name} {}", rate?)))
        .collect();
    if parts.is_empty() {
        return "no limits".into();
    }
    let mut text = format!("limits: {}", parts.join(", "));
    if !now.schedule.is_empty() {
        let windows: Vec<String> = now.schedule.iter().map(ToString::to_string).collect();
        let state = if now.active { "now" } else { "not now" };
        text.push_str(&format!(" from {}, {state}", windows.join(" and ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_in_words() {
        let mut now = LimitsNow::default();
        assert_eq!(sentence(&now), "no limits");
        now.up = Some(500_000);
        assert_eq!(sentence(&now), "limits: up 500 kB/s");
        now.schedule = vec!["08:00-18:00".parse().unwrap()];
        assert_eq!(
            sentence(&now),
            "limits: up 500 kB/s from 08:00-18:00, not now"
        );
    }
}
