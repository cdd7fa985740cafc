//! The versions of an item, newest first: who did what when, and where its bytes are.

use std::collections::BTreeMap;

use ownmesh_crdt::doc::{ChangeHash, ChangeOp};
use ownmesh_crdt::item::{Content, ItemState, Kind};
use ownmesh_crdt::past::{Told, told};
use ownmesh_crypto::{DeviceId, ItemId};

use super::find;
use crate::command::Version;
use crate::db::{Connection, DbError, base, items};
use crate::disk::trash::{Front, front};
use crate::status::Time;

/// Hexadecimal digits that name a version.
const DIGITS: usize = 12;

/// What is known of devices and of the trash here.
pub(crate) struct Known<'a> {
    pub(crate) names: &'a BTreeMap<DeviceId, String>,
    pub(crate) kept: &'a std::collections::BTreeSet<Front>,
}

/// How people name a change.
pub(crate) fn name(hash: &ChangeHash) -> String {
    let hex: String = hash.0.iter().map(|b| format!("{b:02x}")).collect();
    hex[..DIGITS].to_owned()
}

/// All changes of an item.
pub(crate) fn changes(conn: &Connection, n: i64, id: &ItemId) -> Result<Vec<Told>, DbError> {
    let Some(row) = items::get(conn, n, id)? else {
        return Ok(Vec::new());
    };
    told(&row.doc.body).map_err(|_| DbError::Damaged("document"))
}

/// The versions of an item, newest first.
pub(crate) fn versions(
    conn: &Connection,
    n: i64,
    id: &ItemId,
    known: &Known<'_>,
) -> Result<Vec<Version>, DbError> {
    let writers = find::writers(conn, n)?;
    let mut out = Vec::new();
    let mut before: Option<ItemState> = None;
    for one in changes(conn, n, id)? {
        let Some(after) = one.after else { continue };
        let device = writers.get(&one.past.actor);
        let path = find::path(conn, n, &after.place)?;
        let from = match &before {
            Some(b) if b.place != after.place => Some(find::path(conn, n, &b.place)?),
            _ => None,
        };
        let (size, content) = match after.content() {
            Some(Content::File { size, hash }) => {
                let place = if !base::holding(conn, n, hash, 1)?.is_empty() {
                    "here"
                } else if known.kept.contains(&front(hash)) {
                    "trash"
                } else {
                    "elsewhere"
                };
                (Some(*size), place)
            }
            _ => (None, "none"),
        };
        out.push(Version {
            version: name(&one.past.hash),
            item: id.to_string(),
            at: (one.past.time != 0).then(|| Time::from_millis(one.past.time)),
            device: device.and_then(|d| known.names.get(d)).map_or_else(
                || device.map_or_else(|| "unknown".into(), ToString::to_string),
                Clone::clone,
            ),
            what: what(before.as_ref(), &after, &one.ops),
            path,
            from,
            size,
            mode: after.mode,
            content: content.into(),
        });
        before = Some(after);
    }
    out.reverse();
    Ok(out)
}

fn what(before: Option<&ItemState>, after: &ItemState, ops: &[ChangeOp]) -> Vec<String> {
    let Some(before) = before else {
        return vec!["created".into()];
    };
    let puts = |key: &str| ops.iter().any(|op| op.key == key && op.put.is_some());
    let mut out = Vec::new();
    if puts("d") {
        out.push("deleted");
    } else if before.deleted && !after.deleted {
        out.push("restored");
    }
    if puts("c") && before.content() != after.content() {
        out.push("edited");
    }
    if puts("p") && before.place != after.place {
        out.push("renamed");
    }
    if puts("m") {
        out.push("mode");
    }
    if out.is_empty() {
        out.push(if puts("t") && after.kind != Kind::Dir {
            "touched"
        } else {
            "settled"
        });
    }
    out.into_iter().map(str::to_owned).collect()
}

/// The state after the change that `version` names, of one of these items.
pub(crate) fn state_at(
    conn: &Connection,
    n: i64,
    ids: &[ItemId],
    version: &str,
) -> Result<Vec<(ItemId, ItemState)>, DbError> {
    let mut found = Vec::new();
    for id in ids {
        for one in changes(conn, n, id)? {
            let named = version.len() >= 4 && name(&one.past.hash).starts_with(version);
            if let Some(after) = one.after.filter(|_| named) {
                found.push((*id, after));
            }
        }
    }
    Ok(found)
}
