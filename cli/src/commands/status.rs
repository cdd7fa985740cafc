//! `mesh status`: for scripts the object of the promise, for people sentences that never say more than is known.

use ownmesh_node::status::{Peer, Problem, Route, SpaceState, SpaceStatus, Status, Time};

use super::resume::{folder_stop, is_gone};
use super::{Context, limit};
use crate::error::{End, Result};
use crate::ui::{Ui, clean};
use crate::{start, words};

/// Show this device, the others, and what is missing where
#[derive(clap::Args, Debug)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, Args {}: Args) -> Result<End> {
    let status: Status = start::node(context).await?.get("/v1/status").await?;
    context.ui.answer(&status, |ui| show(context, ui, &status));
    Ok(End::Done)
}

fn show(context: &Context, ui: Ui, status: &Status) {
    let now = words::now();
    ui.say(&format!(
        "{} in mesh {}, {}",
        clean(&status.device.name),
        clean(&status.mesh.name),
        words::count(status.mesh.devices, "device")
    ));
    if status.locked {
        ui.say("locked: a password has to be given before it can work");
    }
    for peer in &status.peers {
        ui.say(&format!("  {}", peer_line(peer, now)));
    }
    if status.spaces.is_empty() {
        ui.say("no folder yet");
        ui.hint(&format!("  {} adds one", context.next("add PATH")));
    }
    for space in &status.spaces {
        ui.say(&format!(
            "\n{}  {}{}",
            clean(&space.name),
            clean(&space.path),
            mode_note(&space.mode)
        ));
        // What waits for the answer is counted as if it were given.
        let then = space.state == SpaceState::Stopped && !folder_stop(space);
        ui.say(&format!(
            "  {}, {}{}",
            words::count(space.files, "file"),
            words::size(space.bytes),
            if then { " when it goes on" } else { "" }
        ));
        ui.say(&format!("  {}", sentence(space, &status.peers, now)));
        for line in troubles(context, space) {
            ui.say(&format!("  {line}"));
        }
    }
    if let Some(limits) = &status.limits {
        ui.say(&format!("\n{}", limit::sentence(limits)));
    }
    for problem in &status.problems {
        ui.say(&format!("\n{}", clean(&problem.reason)));
    }
    if let Some(socket) = &status.socket {
        ui.say(&format!("\nsocket {}", clean(socket)));
    }
    if let Some(file) = context.home.phrase_reminder() {
        ui.hint(&format!(
            "\nThe recovery phrase still lies in {}. Write it on paper and delete the file.",
            file.display()
        ));
    }
}

fn mode_note(mode: &str) -> String {
    if mode == "full" {
        String::new()
    } else {
        format!("  ({})", clean(mode))
    }
}

fn peer_line(peer: &Peer, now: Time) -> String {
    let name = clean(&peer.name);
    let why = if peer.why.is_empty() {
        String::new()
    } else {
        format!(" ({})", clean(&peer.why))
    };
    if peer.connected {
        return format!("{name}: connected, {}{why}", route(peer.route));
    }
    format!("{name}: {}{why}", away(peer, now))
}

fn away(peer: &Peer, now: Time) -> String {
    match peer.last_seen {
        Some(then) => format!("away {}", words::since(then, now)),
        None => "not seen yet".into(),
    }
}

/// The road to a device, in words.
pub(crate) fn route(route: Route) -> &'static str {
    match route {
        Route::Lan => "local network",
        Route::Direct => "direct",
        Route::Punched => "direct, punched",
        Route::Relay => "by relay",
        Route::Mailbox => "by mailbox",
        Route::Bucket => "by bucket",
        Route::None => "no route",
    }
}

/// "up to date here; desktop, away 3 h, lacks 12 files": first this disk, then what is known of the others.
fn sentence(space: &SpaceStatus, peers: &[Peer], now: Time) -> String {
    let mut parts = vec![here(space)];
    for (device, lacks) in &space.unconfirmed {
        let peer = peers
            .iter()
            .find(|peer| peer.name == *device || peer.id == *device);
        let name = clean(peer.map_or(device.as_str(), |peer| peer.name.as_str()));
        let state = match peer {
            Some(peer) if !peer.connected => format!(", {},", away(peer, now)),
            _ if space.paused_by.contains(device) => ", which paused it,".to_owned(),
            _ if space.stopped_on.contains_key(device) => {
                ", which has stopped and asks,".to_owned()
            }
            _ => String::new(),
        };
        // What a device has not confirmed it may have all the same: it lacks it as far as is known here.
        parts.push(match (*lacks, peer.is_some_and(|peer| !peer.connected)) {
            (0, false) => format!("{name}{state} has it all"),
            (lacks, false) if space.kept_out_on.get(device) == Some(&lacks) => {
                let items = words::count(lacks, "item");
                format!("{name}{state} keeps {items} out by its own ignore rules")
            }
            (0, true) => format!("{name}{state} had it all when it left"),
            (lacks, true) => format!("{name}{state} lacks {}", words::count(lacks, "change")),
            (lacks, false) => format!(
                "{name}{state} has not confirmed {}",
                words::count(lacks, "change")
            ),
        });
    }
    if space.unconfirmed.is_empty() {
        parts.push("no other device has it".into());
    }
    parts.join("; ")
}

fn here(space: &SpaceStatus) -> String {
    let missing = || {
        format!(
            "{} ({}) missing here",
            words::count(space.missing_items, "item"),
            words::size(space.missing_bytes)
        )
    };
    match space.state {
        SpaceState::Idle
            if space.missing_items == 0 && space.problems.iter().all(Problem::is_notice) =>
        {
            "up to date here".into()
        }
        SpaceState::Idle if space.missing_items == 0 => "nothing known is missing here".into(),
        SpaceState::Idle => missing(),
        SpaceState::Scanning => "looking at the disk".into(),
        SpaceState::Syncing if space.missing_items == 0 => "syncing".into(),
        SpaceState::Syncing => format!("syncing, {}", missing()),
        SpaceState::Paused => match space.paused_until {
            None => "paused".into(),
            Some(until) => format!("paused until {}", words::clock(until)),
        },
        SpaceState::Stopped if space.missing_items == 0 => "stopped".into(),
        SpaceState::Stopped if folder_stop(space) => format!("stopped, {}", missing()),
        // Deletions are among them.
        SpaceState::Stopped => format!(
            "stopped, {} held back until it is answered",
            words::count(space.missing_items, "item")
        ),
        SpaceState::Error => "in trouble".into(),
    }
}

/// Of what is only to be known so many are shown; a stick has hundreds of names of its own.
const NOTICES: usize = 5;

fn troubles(context: &Context, space: &SpaceStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if space.only_here_items > 0 {
        lines.push(format!(
            "{} known to be here alone",
            words::count(space.only_here_items, "item")
        ));
    }
    if space.conflicts > 0 {
        lines.push(format!(
            "{}: {}",
            words::count(space.conflicts, "conflict"),
            context.next("conflicts")
        ));
    }
    let notices = space.problems.iter().filter(|p| p.is_notice());
    let problems = space.problems.iter().filter(|p| !p.is_notice());
    for problem in problems.chain(notices.clone().take(NOTICES)) {
        let item = problem
            .item
            .as_deref()
            .map(|item| format!("{}: ", clean(item)))
            .unwrap_or_default();
        lines.push(format!("{item}{}", clean(&problem.reason)));
    }
    for (device, guard) in &space.stopped_on {
        let (device, name) = (clean(device), clean(&space.name));
        lines.push(match guard.as_str() {
            "deletions" => format!(
                "On {device}, where most files were deleted at once: mesh continue {name} deletes them, mesh revert {name} brings them back everywhere"
            ),
            "folder" => format!(
                "On {device}, whose folder is not the one it was: mount its disk, or mesh continue {name} or mesh revert {name}"
            ),
            "joining" => format!("On {device} its files are not merged yet"),
            _ => format!("On {device} mesh status says why it has stopped"),
        });
    }
    if space.state == SpaceState::Paused {
        let name = clean(&space.name);
        lines.push(format!(
            "{} goes on",
            context.next(&format!("resume {name}"))
        ));
    }
    let more = notices.count().saturating_sub(NOTICES);
    if more > 0 {
        let all = context.next("status --json");
        lines.push(format!(
            "{} more to know: {all}",
            words::count(more as u64, "thing")
        ));
    }
    if space.state == SpaceState::Stopped {
        let name = clean(&space.name);
        let (go_on, bring_back) = if folder_stop(space) {
            lines.push(
                "It goes on by itself when the folder is there again: mount its disk.".into(),
            );
            ("if what is there now is right", "fills it again")
        } else {
            ("deletes them here too", "brings them back everywhere")
        };
        // It goes on with a folder only.
        if !folder_stop(space) || !is_gone(space) {
            lines.push(format!(
                "{} {go_on}",
                context.next(&format!("continue {name}"))
            ));
        }
        lines.push(format!(
            "{} {bring_back}",
            context.next(&format!("revert {name}"))
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(connected: bool) -> Peer {
        let last_seen = Some(Time::from_millis(0));
        Peer {
            id: "1".into(),
            name: "desktop".into(),
            connected,
            route: Route::Lan,
            why: String::new(),
            last_seen,
            blocked: false,
        }
    }

    #[test]
    fn nothing_is_said_that_is_not_known() {
        let now = Time::from_millis(3 * 3_600_000);
        let mut space = SpaceStatus::default();
        assert_eq!(
            sentence(&space, &[], now),
            "up to date here; no other device has it"
        );
        space.unconfirmed.insert("desktop".into(), 12);
        assert_eq!(
            sentence(&space, &[peer(false)], now),
            "up to date here; desktop, away 3 h, lacks 12 changes"
        );
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "up to date here; desktop has not confirmed 12 changes"
        );
        let mut held = SpaceStatus {
            state: SpaceState::Stopped,
            missing_items: 3,
            ..space.clone()
        };
        assert_eq!(
            here(&held),
            "stopped, 3 items held back until it is answered"
        );
        held.problems = vec![Problem {
            item: None,
            kind: "folder".into(),
            reason: "folder: it is gone".into(),
            since: None,
        }];
        assert_eq!(here(&held), "stopped, 3 items (0 B) missing here");
        space.unconfirmed.insert("desktop".into(), 0);
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "up to date here; desktop has it all"
        );
        assert_eq!(
            sentence(&space, &[peer(false)], now),
            "up to date here; desktop, away 3 h, had it all when it left"
        );
        space.paused_by.push("desktop".into());
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "up to date here; desktop, which paused it, has it all"
        );
        space.paused_by.clear();
        space.unconfirmed.insert("desktop".into(), 3);
        space.kept_out_on.insert("desktop".into(), 3);
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "up to date here; desktop keeps 3 items out by its own ignore rules"
        );
        space.kept_out_on.clear();
        space
            .stopped_on
            .insert("desktop".into(), "deletions".into());
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "up to date here; desktop, which has stopped and asks, has not confirmed 3 changes"
        );
        space.stopped_on.clear();
        space.unconfirmed.insert("desktop".into(), 0);
        space.missing_items = 2;
        space.missing_bytes = 1_500;
        assert_eq!(
            sentence(&space, &[peer(true)], now),
            "2 items (1.5 kB) missing here; desktop has it all"
        );
    }
}
