//! From a path to the items that stand there, or stood there once; and back.

use std::collections::BTreeMap;

use ownmesh_crdt::item::{Kind, Place};
use ownmesh_crypto::{DeviceId, Incarnation, ItemId, SpaceId};

use crate::command::CommandError;
use crate::db::{Connection, DbError, base, items, logs};

/// A directory chain that is longer leads in a circle.
const DEEP: usize = 4_096;

/// A space, as those need it who read beside the engine.
#[derive(Clone, Debug)]
pub(crate) struct Where {
    /// Row number.
    pub(crate) n: i64,
    /// Its id.
    pub(crate) id: SpaceId,
    /// Its name.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: String,
}

/// Which of the spaces `what` lies in, and the path in it: `SPACE:PATH`, a path on the disk, or a space.
pub(crate) fn split<'a>(
    spaces: &'a [Where],
    what: &str,
) -> Result<(&'a Where, String), CommandError> {
    for space in spaces {
        let named = what.strip_prefix(&format!("{}:", space.name));
        let below = what.strip_prefix(space.folder.as_str());
        let on_disk = below.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(path) = named.or(on_disk) {
            return Ok((space, path.trim_matches('/').to_owned()));
        }
    }
    if let Some(space) = spaces.iter().find(|s| s.name == what) {
        return Ok((space, String::new()));
    }
    let names: Vec<&str> = spaces.iter().map(|s| s.name.as_str()).collect();
    Err(CommandError::not_found("item", what).hint(format!(
        "name it as SPACE:PATH or by its path on the disk; spaces here: {}",
        names.join(", ")
    )))
}

/// Where something of a space is to go: `SPACE:PATH`, a path on the disk, or one from the space's root.
pub(crate) fn target(spaces: &[Where], space: &Where, to: &str) -> Result<String, CommandError> {
    let named = |s: &Where| to.starts_with(&format!("{}:", s.name));
    if !to.starts_with('/') && !spaces.iter().any(named) {
        return Ok(to.trim_matches('/').to_owned());
    }
    let (other, path) = split(spaces, to).map_err(|_| {
        CommandError::usage(format!("--to leads out of the space {}", space.name))
            .hint(format!("name a place in it: {}:PATH", space.name))
            .about(to)
    })?;
    if other.n == space.n {
        Ok(path)
    } else {
        let names = (&other.name, &space.name);
        let message = format!("--to is in the space {}, not in {}", names.0, names.1);
        Err(CommandError::usage(message).about(to))
    }
}

/// The items at a path, those that live first; then those that were there when they died.
pub(crate) fn at(conn: &Connection, n: i64, path: &str) -> Result<Vec<ItemId>, DbError> {
    let mut found = vec![ItemId::ROOT];
    for name in path.split('/').filter(|p| !p.is_empty()) {
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for dir in &found {
            let children = items::children(conn, n, dir)?.into_iter();
            live.extend(
                children
                    .filter(|(_, s)| s.shown.as_deref() == Some(name))
                    .map(|c| c.0),
            );
            if live.is_empty()
                && let Some(copy) = base::at(conn, n, dir, name)?
            {
                live.push(copy.row.copy_of.map_or(copy.row.id, |c| c.0));
            }
            dead.extend(items::graves(conn, n, dir, name)?.into_iter().map(|g| g.0));
        }
        live.append(&mut dead);
        live.dedup();
        found = live;
    }
    found.retain(|id| *id != ItemId::ROOT);
    Ok(found)
}

/// The path of a place, by the names the directories above it have now, living or dead.
pub(crate) fn path(conn: &Connection, n: i64, place: &Place) -> Result<String, DbError> {
    let mut names = vec![place.name.clone()];
    let mut up = place.parent;
    for _ in 0..DEEP {
        if up == ItemId::ROOT {
            break;
        }
        let Some(spot) = items::place(conn, n, &up)? else {
            names.push("?".into());
            break;
        };
        let Some((parent, name)) = spot.up else { break };
        names.push(spot.shown.unwrap_or(name));
        up = parent;
    }
    names.reverse();
    Ok(names.join("/"))
}

/// The living directory at a path; the root of the space if it is empty.
pub(crate) fn directory(conn: &Connection, n: i64, path: &str) -> Result<Option<ItemId>, DbError> {
    let mut at = ItemId::ROOT;
    for name in path.split('/').filter(|p| !p.is_empty()) {
        let children = items::children(conn, n, &at)?.into_iter();
        let next = children
            .filter(|(_, s)| s.kind == Some(Kind::Dir))
            .find(|(_, s)| s.shown.as_deref() == Some(name));
        let Some((id, _)) = next else {
            return Ok(None);
        };
        at = id;
    }
    Ok(Some(at))
}

/// Who wrote under each incarnation.
pub(crate) fn writers(
    conn: &Connection,
    n: i64,
) -> Result<BTreeMap<Incarnation, DeviceId>, DbError> {
    let all = logs::all(conn, n)?.into_iter();
    Ok(all.map(|log| (log.incarnation, log.device)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Kind;

    #[test]
    fn a_target_is_a_place_in_the_space_itself() {
        let space = |n: i64, name: &str| Where {
            n,
            id: SpaceId::from_bytes([u8::try_from(n).unwrap(); 16]),
            name: name.into(),
            folder: format!("/data/{name}"),
        };
        let all = [space(1, "docs"), space(2, "photos")];
        let target = |to: &str| target(&all, &all[0], to);
        for to in ["docs:a/b", "/data/docs/a/b", "a/b"] {
            assert_eq!(target(to).unwrap(), "a/b", "{to}");
        }
        // A name in the root, though a space is called so.
        assert_eq!(target("photos").unwrap(), "photos");
        for to in ["photos:a", "/data/photos/a", "/data/c"] {
            let error = target(to).unwrap_err();
            assert_eq!((error.kind, error.item.as_deref()), (Kind::Usage, Some(to)));
        }
    }
}
