//! `mesh undo` and `mesh history`: read, gather the bytes, then have the engine carry it out.
//!
//! Bytes that come back are brought together in this folder's trash before anything is changed: from files here, from
//! the trash here, from any connected device that has them in a file or its own trash. So nothing is half done: an
//! item either comes back whole, or is listed with the devices that may have what it lacks. A kill before the last step
//! leaves a fuller trash and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ownmesh_crdt::item::{Content, Kind, Place};
use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, ItemId};
use tokio::sync::oneshot;

use super::Handle;
use super::folders::unix_seconds;
use super::sources::Open;
use crate::command::{
    CommandError, HistoryReply, RestoreReply, RevertRequest, UndoItem, UndoLeft, UndoReply,
    UndoRequest,
};
use crate::content::counters::Progress;
use crate::content::fetch::{FetchInto, FetchLimits, Local, Want};
use crate::db::{Connection, Db, DbError, base};
use crate::disk::hash::Chunk;
use crate::disk::{Disk, RelPath, Stat, TMP, private, trash};
use crate::engine::Scope;
use crate::past::undo::{Become, Choice, Plan, Planned};
use crate::past::{find, history, undo};
use crate::status::Time;

/// What is undone if no time is named: an hour, ms.
const HOUR: i64 = 3_600_000;
/// Contents asked for in one stream.
const AT_ONCE: usize = 256;

pub(super) fn failed(error: DbError) -> CommandError {
    CommandError::failed(error.to_string())
}

pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, CommandError> + Send + 'static,
) -> Result<R, CommandError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| CommandError::failed("it failed by a bug"))?
}

impl Handle {
    pub(super) async fn scope(&self, device: Option<String>) -> Result<Scope, CommandError> {
        self.call(move |engine, now| engine.scope(device.as_deref(), now))
            .await?
    }

    /// Looks at the disk of a space, so that nothing is decided about what nobody has seen.
    pub(super) async fn look(&self, space: &str) -> Result<(), CommandError> {
        let (done, ended) = oneshot::channel();
        let name = space.to_owned();
        self.call(move |engine, now| engine.scan(&name, now, done))
            .await?;
        ended
            .await
            .map_err(|_| CommandError::failed("the folder could not be looked at"))?
    }

    pub(super) fn open(&self, space: &find::Where) -> Result<Open, CommandError> {
        self.served.folder(&space.id).ok_or_else(|| {
            CommandError::refused(format!("the folder of {} is not there", space.name))
                .hint("mesh status says why")
                .about(space.name.clone())
        })
    }

    /// `mesh undo`: shows, or does, what makes undone what a device did.
    ///
    /// # Errors
    /// No such device, space or path; a folder is not there.
    pub async fn undo(&self, request: UndoRequest) -> Result<UndoReply, CommandError> {
        let scope = self.scope(request.device.clone()).await?;
        let since = request.since.map_or(scope.now - HOUR, Time::as_millis);
        let mut choice = Choice {
            device: scope.device,
            since,
            below: String::new(),
        };
        let mut chosen = scope.spaces.clone();
        if let Some(path) = &request.path {
            let (space, below) = find::split(&scope.spaces, path)?;
            choice.below = below;
            chosen = vec![space.clone()];
        }
        let mut reply = UndoReply {
            done: request.confirm,
            since: Time::from_millis(since),
            items: Vec::new(),
            left: Vec::new(),
            missing: Vec::new(),
        };
        let mut plans = Vec::new();
        for space in chosen {
            self.look(&space.name).await?;
            let open = self.open(&space)?;
            let (choice, asked, names) = (choice.clone(), space.clone(), scope.names.clone());
            let db = scope.db.clone();
            let (plan, wanted) = blocking(move || {
                let conn = Db::reader(&db).map_err(failed)?;
                let plan = undo::plan(&conn, &asked, &choice, &names).map_err(failed)?;
                let wanted = not_here(&conn, &open, &plan.items).map_err(failed)?;
                Ok((plan, wanted))
            })
            .await?;
            plans.push((space, plan, wanted));
        }
        for (space, plan, wanted) in plans {
            self.one_space(&space, plan, wanted, request.confirm, &mut reply)
                .await?;
        }
        if request.confirm && !reply.items.is_empty() {
            let who = request.device.as_deref();
            let message = format!(
                "what {} did since {} was undone: {} items, {} left, {} missing",
                who.unwrap_or("everybody"),
                reply.since,
                reply.items.len(),
                reply.left.len(),
                reply.missing.len()
            );
            let who = request.device.clone();
            self.call(move |engine, _| engine.write_down("undo", who.as_deref(), None, message))
                .await?;
        }
        Ok(reply)
    }

    async fn one_space(
        &self,
        space: &find::Where,
        plan: Plan,
        mut wanted: BTreeMap<ContentHash, Planned>,
        confirm: bool,
        reply: &mut UndoReply,
    ) -> Result<(), CommandError> {
        let (n, id) = (space.n, space.id);
        let holders = self.call(move |engine, _| engine.holders(n, &id)).await?;
        let Plan { mut items, left } = plan;
        reply.left.extend(left);
        let mut may_have = holders.away.clone();
        if confirm {
            self.gather(space, &holders.connected, &mut wanted).await?;
        } else {
            let names = self.scope(None).await?.names;
            may_have.extend(
                holders
                    .connected
                    .iter()
                    .filter_map(|d| names.get(d).cloned()),
            );
        }
        let lacking = |one: &Planned| {
            one.needs
                .is_some_and(|(hash, _)| wanted.contains_key(&hash))
        };
        let missing = |one: &Planned| UndoLeft {
            space: one.shown.space.clone(),
            path: one.shown.path.clone(),
            why: "its bytes are not here".into(),
            may_have: may_have.clone(),
        };
        reply
            .missing
            .extend(items.iter().filter(|i| lacking(i)).map(missing));
        if confirm {
            items.retain(|one| !lacking(one));
            let changed = self.carry_out(space, &items).await?;
            let (gone, done): (Vec<_>, Vec<_>) =
                items.into_iter().partition(|i| changed.contains(&i.id));
            items = done;
            reply.left.extend(gone.into_iter().map(|one| UndoLeft {
                space: one.shown.space,
                path: one.shown.path,
                why: "it was changed meanwhile".into(),
                may_have: Vec::new(),
            }));
        }
        reply.items.extend(items.into_iter().map(|i| i.shown));
        Ok(())
    }

    /// Has the engine change what is planned, whose bytes are all here.
    async fn carry_out(
        &self,
        space: &find::Where,
        items: &[Planned],
    ) -> Result<BTreeSet<ItemId>, CommandError> {
        let open = self.open(space)?;
        let kept = blocking(move || {
            let kept = open.kept.fronts(&*open.disk);
            kept.map_err(|e| CommandError::failed(format!("the trash cannot be read: {e}")))
        })
        .await?;
        let (n, items) = (space.n, items.to_vec());
        self.call(move |engine, now| {
            engine.set_kept(n, kept);
            engine.take_back(n, &items, now)
        })
        .await?
    }

    /// Brings contents into the trash here, from whoever is connected; leaves in `wanted` what nobody had.
    async fn gather(
        &self,
        space: &find::Where,
        from: &[DeviceId],
        wanted: &mut BTreeMap<ContentHash, Planned>,
    ) -> Result<(), CommandError> {
        let open = self.open(space)?;
        let into = FetchInto {
            space: space.id,
            disk: open.disk.clone(),
            local: Arc::new(Nothing),
            secret: open.secret.clone(),
            progress: Arc::new(Nothing),
            limits: FetchLimits::default(),
        };
        for device in from {
            let all: Vec<Want> = wanted.iter().filter_map(|(h, one)| want(h, one)).collect();
            for part in all.chunks(AT_ONCE) {
                let fetched = into.fetch(&self.net, *device, part.to_vec()).await;
                let mut here = Vec::new();
                for one in fetched {
                    match one.result {
                        Ok(_) => here.push(one.want),
                        Err(error) => tracing::debug!(%device, %error, "not had for an undo"),
                    }
                }
                let names: BTreeMap<ContentHash, String> = here
                    .iter()
                    .filter_map(|w| wanted.remove(&w.hash).map(|one| (w.hash, one.shown.path)))
                    .collect();
                let disk = open.disk.clone();
                blocking(move || {
                    keep(&*disk, &here, &names).map_err(|e| {
                        CommandError::failed(format!("the trash cannot be written: {e}"))
                    })
                })
                .await?;
            }
        }
        Ok(())
    }

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
        let to = match &request.to {
            None => None,
            Some(to) => {
                let (other, to) = find::split(&scope.spaces, to)?;
                if other.n != space.n {
                    return Err(CommandError::usage("--to is in another space").about(to));
                }
                Some(to)
            }
        };
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
            let wanted = not_here(&conn, &open, std::slice::from_ref(&one)).map_err(failed)?;
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
    let row = crate::db::items::get(conn, space.n, &id).map_err(failed)?;
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
    let now = ownmesh_crdt::item::ItemState::from_registers(&row.doc.regs);
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
        let claims = crate::db::items::claims(conn, space.n, &place.parent, &place.name);
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
    if !ownmesh_crdt::item::is_name(name) {
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

/// The contents of a plan that neither a file nor the trash here has.
fn not_here(
    conn: &Connection,
    open: &Open,
    items: &[Planned],
) -> Result<BTreeMap<ContentHash, Planned>, DbError> {
    let mut out = BTreeMap::new();
    for one in items {
        let Some((hash, size)) = one.needs else {
            continue;
        };
        let here = size == 0
            || !base::holding(conn, open.n, &hash, 1)?.is_empty()
            || open.kept.find(&*open.disk, &open.secret, &hash).is_some();
        if !here {
            out.insert(hash, one.clone());
        }
    }
    Ok(out)
}

fn want(hash: &ContentHash, one: &Planned) -> Option<Want> {
    let (Become::This(was, _) | Become::New(was, _)) = &one.to else {
        return None;
    };
    Some(Want {
        id: one.id,
        hash: *hash,
        size: one.needs?.1,
        staged: format!("s-{}-{}~undo", &hash.to_string()[..16], one.id),
        mode: 0o600,
        mtime: was.mtime.unwrap_or(0),
    })
}

/// Fetched files go to the trash, for good when this returns.
fn keep(
    disk: &dyn Disk,
    here: &[Want],
    names: &BTreeMap<ContentHash, String>,
) -> std::io::Result<()> {
    let staged = |w: &Want| private(TMP).with(&w.staged);
    let files: Vec<RelPath> = here.iter().map(staged).collect();
    if files.is_empty() {
        return Ok(());
    }
    crate::disk::flush(disk, if files.len() > 16 { &[] } else { &files })?;
    for (want, from) in here.iter().zip(&files) {
        let path = names.get(&want.hash).map_or("", String::as_str);
        let name = path.rsplit('/').next().unwrap_or(path);
        let name = trash::name_of(unix_seconds(), &want.id, Some(&want.hash), name);
        trash::put(disk, from, &name)?;
    }
    disk.sync_dir(&private(crate::disk::TRASH))
}

/// What is gathered is looked for here before; nobody watches.
struct Nothing;

impl Local for Nothing {
    fn whole(&self, _: &ContentHash) -> Option<(RelPath, Stat)> {
        None
    }

    fn chunk(&self, _: &ChunkId) -> Option<(RelPath, u64, u32, Stat)> {
        None
    }

    fn list_known(&self, _: &ContentHash) -> Option<Vec<Chunk>> {
        None
    }
}

impl Progress for Nothing {
    fn moved(&self, _: u64, _: u64) {}
}
