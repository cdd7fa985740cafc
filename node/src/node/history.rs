//! `mesh history`: the versions of what stands at a path, and one of them brought back as an ordinary edit.
//!
//! As with an undo the bytes are gathered first (`undoing`): a version comes back whole, or nothing is changed.

use ownmesh_crdt::item::{Content, ItemState, Kind, Place, is_name};
use ownmesh_crypto::ItemId;

use super::Handle;
use super::undoing::{blocking, failed, not_here};
use crate::command::{CommandError, HistoryReply, RestoreReply, RevertRequest, UndoItem};
use crate::db::{Connection, Db, items};
use crate::past::undo::{Become, Planned};
use crate::past::{find, history};

impl Handle {
    /// `mesh history`.
    ///
    /// # Errors
    /// No such item.
    pub async fn history(&self, path: String) -> Result<HistoryReply, CommandError> {
        let scope = self.scope(None).await?;
        let (space, inner) = find::split(&scope.spaces, &path)?;
        let (space, open) = (space.clone(), self.open(space)?);
        blocking(move || {
            let conn = Db::reader(&scope.db).map_err(failed)?;
            let kept = open.kept.fronts(&*open.disk).unwrap_or_default();
            let known = history::Known {
                names: &scope.names,
                kept: &kept,
            };
            let mut versions = Vec::new();
            for id in find::at(&conn, space.n, &inner).map_err(failed)? {
                versions.extend(history::versions(&conn, space.n, &id, &known).map_err(failed)?);
            }
            if versions.is_empty() {
                return Err(CommandError::not_found("item", path));
            }
            Ok(HistoryReply {
                space: space.name,
                path: inner,
                versions,
            })
        })
        .await
    }

    /// `mesh history --restore`: an edit that makes an item what it was, or a new item like it.
    ///
    /// # Errors
    /// No such item or version; its bytes cannot be had; the new name is taken.
    pub async fn revert_to(&self, request: RevertRequest) -> Result<RestoreReply, CommandError> {
        let scope = self.scope(None).await?;
        let (space, inner) = find::split(&scope.spaces, &request.path)?;
        let space = space.clone();
        let to = request.to.as_deref();
        let to = to.map(|to| find::target(&scope.spaces, &space, to));
        let to = to.transpose()?;
        self.look(&space.name).await?;
        let open = self.open(&space)?;
        let (asked, db, at, version) = (
            space.clone(),
            scope.db.clone(),
            inner.clone(),
            request.version.clone(),
        );
        let new = rand_id()?;
        let (one, mut wanted, path) = blocking(move || {
            let conn = Db::reader(&db).map_err(failed)?;
            let (one, path) = planned(&conn, &asked, &at, &version, to.as_deref(), new)?;
            let wanted =
                not_here(&conn, &open, std::slice::from_ref(&one), true).map_err(failed)?;
            Ok((one, wanted, path))
        })
        .await?;
        let (n, id) = (space.n, space.id);
        let holders = self.call(move |engine, _| engine.holders(n, &id)).await?;
        self.gather(&space, &holders.connected, &mut wanted).await?;
        if !wanted.is_empty() {
            let away = holders.away.join(", ");
            return Err(CommandError::refused(
                "the bytes of this version are on no connected device",
            )
            .hint(if away.is_empty() {
                "no other device takes part in the space".to_owned()
            } else {
                format!("try again when one of these is there: {away}")
            })
            .about(inner)
            .retry());
        }
        if !self.carry_out(&space, &[one]).await?.is_empty() {
            return Err(CommandError::refused("it was changed meanwhile")
                .hint("look at its history again")
                .about(inner)
                .retry());
        }
        let message = format!("{inner} was put back to version {}", request.version);
        let name = space.name.clone();
        self.call(move |engine, _| engine.write_down("restored", None, Some(&name), message))
            .await?;
        Ok(RestoreReply {
            space: space.name,
            path,
        })
    }
}

/// The plan that makes an item, or a new one, what it was at a version; and its path then.
fn planned(
    conn: &Connection,
    space: &find::Where,
    at: &str,
    version: &str,
    to: Option<&str>,
    new: ItemId,
) -> Result<(Planned, String), CommandError> {
    let ids = find::at(conn, space.n, at).map_err(failed)?;
    let mut found = history::state_at(conn, space.n, &ids, version).map_err(failed)?;
    let (Some((id, was)), true) = (found.pop(), found.is_empty()) else {
        return Err(CommandError::not_found("version", version)
            .hint(format!("mesh history {}:{at} lists them", space.name)));
    };
    let row = items::get(conn, space.n, &id).map_err(failed)?;
    let row = row.unwrap_or_default();
    let needs = match was.content() {
        Some(Content::File { size, hash }) => Some((*hash, *size)),
        Some(Content::Link { .. }) => None,
        None if was.kind == Kind::Dir && !was.deleted => None,
        None => {
            return Err(CommandError::refused("this version is the deletion")
                .hint("choose the one before it")
                .about(version));
        }
    };
    let now = ItemState::from_registers(&row.doc.regs);
    let place = now.map_or_else(|| was.place.clone(), |now| now.place);
    let mut one = Planned {
        id,
        heads: row.doc.heads,
        to: Become::This(Box::new(was.clone()), place.clone()),
        needs,
        shown: UndoItem {
            path: at.to_owned(),
            ..UndoItem::default()
        },
    };
    let taken = || CommandError::refused("something else stands there now");
    let Some(to) = to else {
        let claims = items::claims(conn, space.n, &place.parent, &place.name);
        let others = claims.map_err(failed)?;
        if !others.is_empty() && others.iter().all(|(claim, _)| *claim != id) {
            return Err(taken().hint("choose another name with --to").about(at));
        }
        let path = find::path(conn, space.n, &place).map_err(failed)?;
        return Ok((one, path));
    };
    let (dir, name) = to.rsplit_once('/').unwrap_or(("", to));
    let parent = find::directory(conn, space.n, dir).map_err(failed)?;
    let parent = parent.ok_or_else(|| CommandError::not_found("directory", dir))?;
    if !is_name(name) {
        return Err(CommandError::usage("this cannot be a name").about(to));
    }
    let name = name.to_owned();
    (one.id, one.heads) = (new, Vec::new());
    one.to = Become::New(Box::new(was), Place { parent, name });
    Ok((one, to.to_owned()))
}

fn rand_id() -> Result<ItemId, CommandError> {
    let mut id = [0; 16];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut id)
        .map_err(|_| CommandError::failed("no randomness"))?;
    Ok(ItemId::from_bytes(id))
}
