//! What a running node says of itself that somebody has to look at.

use super::Check;
use crate::status::{Peer, Problem, SpaceState, SpaceStatus, Status, Time};

/// A problem that has stood for so long does not go away by itself, s.
const OLD: u64 = 86_400;

/// The checks that follow from a status.
#[must_use]
pub fn of_status(status: &Status, now: Time) -> Vec<Check> {
    let mut out: Vec<Check> = Vec::new();
    out.extend(status.peers.iter().filter_map(peer));
    for space in &status.spaces {
        out.extend(state(space));
        out.extend(space.problems.iter().map(|p| problem(Some(space), p, now)));
        if space.conflicts > 0 {
            let finding = format!("{}: {} open conflicts", space.name, space.conflicts);
            out.push(Check::note("conflicts", finding, "mesh conflicts").about(&space.name));
        }
    }
    out.extend(status.problems.iter().map(|p| problem(None, p, now)));
    if status.peers.is_empty() {
        let remedy = "mesh pair lets another device in";
        out.push(Check::note(
            "peers",
            "this mesh has one device only",
            remedy,
        ));
    }
    if out.is_empty() {
        out.push(Check::fine("problems", "the node knows of no problem"));
    }
    out
}

fn peer(peer: &Peer) -> Option<Check> {
    let name = &peer.name;
    if peer.blocked {
        let remedy = format!("mesh device unblock {name}");
        return Some(Check::note("peers", format!("{name} is blocked here"), remedy).about(name));
    }
    (!peer.connected && peer.last_seen.is_none()).then(|| {
        let finding = format!("{name} was never seen: {}", peer.why);
        let remedy = format!(
            "start it there (mesh up), in the same network; let a firewall on {name} pass mesh's TCP port, which \
             mesh pair shows there"
        );
        Check::wrong("peers", finding, remedy).about(name)
    })
}

fn state(space: &SpaceStatus) -> Option<Check> {
    let name = &space.name;
    match space.state {
        SpaceState::Stopped => Some(
            Check::wrong(
                "space",
                format!("{name} is stopped and asks"),
                format!("mesh continue {name}, or mesh revert {name}"),
            )
            .about(name),
        ),
        SpaceState::Paused => Some(
            Check::note(
                "space",
                format!("{name} is paused"),
                format!("mesh resume {name}"),
            )
            .about(name),
        ),
        SpaceState::Error => Some(
            Check::wrong("space", format!("{name} cannot go on"), "see its problems").about(name),
        ),
        _ => None,
    }
}

fn problem(space: Option<&SpaceStatus>, problem: &Problem, now: Time) -> Check {
    let at = match (space, &problem.item) {
        (Some(space), Some(item)) => format!("{}:{item}", space.name),
        (Some(space), None) => space.name.clone(),
        (None, item) => item.clone().unwrap_or_default(),
    };
    let finding = if at.is_empty() {
        problem.reason.clone()
    } else {
        format!("{at}: {}", problem.reason)
    };
    let old = problem
        .since
        .is_some_and(|since| since.seconds_until(now) > OLD);
    let remedy = match (space, problem.kind.as_str()) {
        (Some(space), "disk") if problem.item.is_none() => format!(
            "make room on that disk, or mend what it says; mesh trash empty --space {} deletes for good what its trash holds",
            space.name
        ),
        (Some(space), "folder") => format!(
            "mount its disk, or mesh revert {0}, which fills it again, or mesh continue {0}, which takes what is there, if anything is",
            space.name
        ),
        (Some(_), "special") => "nothing, or move it out of the folder".to_owned(),
        (Some(space), _) if problem.item.is_some() => format!(
            "mesh why {}/{}",
            space.path,
            problem.item.as_deref().unwrap_or_default()
        ),
        (Some(space), _) => format!("mesh scan {} tries again at once", space.name),
        (None, _) => "the log of the node says more: log/node.log in its home".to_owned(),
    };
    let refused = problem.item.is_none() && problem.kind == "disk";
    let check = if refused || problem.kind == "folder" {
        Check::wrong("problems", finding, remedy)
    } else if old && problem.kind != "special" {
        Check::wrong(
            "problems",
            format!("{finding} (for more than a day)"),
            remedy,
        )
    } else {
        Check::note("problems", finding, remedy)
    };
    if at.is_empty() {
        check
    } else {
        check.about(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Doctor, Level};
    use crate::status::{MeshInfo, Route, ThisDevice, VERSION};

    fn status() -> Status {
        Status {
            v: VERSION,
            device: ThisDevice::default(),
            mesh: MeshInfo::default(),
            locked: false,
            peers: vec![Peer {
                id: "1".into(),
                name: "desktop".into(),
                connected: true,
                route: Route::Lan,
                why: String::new(),
                last_seen: None,
                blocked: false,
            }],
            spaces: vec![SpaceStatus {
                name: "docs".into(),
                path: "/docs".into(),
                ..SpaceStatus::default()
            }],
            bucket: None,
            relays: Vec::new(),
            problems: Vec::new(),
            limits: None,
            socket: None,
        }
    }

    #[test]
    fn what_stands_for_a_day_or_was_never_seen_is_wrong() {
        let now = Time::from_millis(10 * 86_400_000);
        let levels = |status: &Status| -> Vec<Level> {
            of_status(status, now).iter().map(|c| c.level).collect()
        };
        let mut status = status();
        assert_eq!(levels(&status), [Level::Ok]);
        let at = |days: i64| Problem {
            item: Some("a".into()),
            kind: "unreadable".into(),
            reason: "no".into(),
            since: Some(Time::from_millis(days * 86_400_000)),
        };
        status.spaces[0].problems = vec![at(10), at(8)];
        assert_eq!(levels(&status), [Level::Note, Level::Wrong]);
        status.peers[0].connected = false;
        status.spaces[0].state = SpaceState::Stopped;
        let doctor = Doctor::new(of_status(&status, now));
        assert!(!doctor.ok);
        assert!(
            doctor.checks.iter().all(|c| !c.remedy.is_empty()),
            "{doctor:?}"
        );
    }
}
