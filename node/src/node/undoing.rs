//! `mesh undo`: read, gather the bytes, then have the engine carry it out.
//!
//! Bytes that come back are brought together in this folder's trash before anything is changed: from files here, from
//! the trash here, from any connected device that has them in a file or its own trash. So nothing is half done: an
//! item either comes back whole, or is listed with the devices that may have what it lacks. A kill before the last step
//! leaves a fuller trash and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ownmesh_crypto::{ChunkId, ContentHash, DeviceId, ItemId};
use tokio::sync::oneshot;

use super::Handle;
use super::folders::unix_seconds;
use super::sources::Open;
use crate::command::{CommandError, UndoLeft, UndoLeftOut, UndoReply, UndoRequest};
use crate::content::counters::Progress;
use crate::content::fetch::{FetchInto, FetchLimits, Local, Want};
use crate::db::{Connection, Db, DbError, base};
use crate::disk::hash::Chunk;
use crate::disk::{Disk, RelPath, Stat, TMP, private, trash};
use crate::engine::Scope;
use crate::past::undo::{Become, Choice, Plan, Planned};
use crate::past::{find, undo};
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
    /// A space that is paused, or whose folder is away, is left out and told, unless it is all that was asked for.
    ///
    /// # Errors
    /// No such device, space or path; no space that was asked for can be undone in.
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
            left_out: Vec::new(),
        };
        let mut refused = None;
        let mut plans = Vec::new();
        for space in chosen {
            let sure = request.confirm;
            let looked = self.look(&space.name).await;
            let open = match looked.and_then(|()| self.open(&space)) {
                Ok(open) => open,
                // One folder that is away does not keep the others from being brought back.
                Err(error) => {
                    reply.left_out.push(UndoLeftOut {
                        space: space.name,
                        why: error.message.clone(),
                        next: error.hint.clone(),
                    });
                    refused.get_or_insert(error);
                    continue;
                }
            };
            let (choice, asked, names) = (choice.clone(), space.clone(), scope.names.clone());
            let db = scope.db.clone();
            let n = space.n;
            let rules = self.call(move |engine, _| engine.rules(n)).await?;
            let (plan, wanted) = blocking(move || {
                let conn = Db::reader(&db).map_err(failed)?;
                let plan = undo::plan(&conn, &asked, &choice, &rules, &names).map_err(failed)?;
                let wanted = not_here(&conn, &open, &plan.items, sure).map_err(failed)?;
                Ok((plan, wanted))
            })
            .await?;
            plans.push((space, plan, wanted));
        }
        if let (true, Some(error)) = (plans.is_empty(), refused) {
            return Err(nowhere(error, &reply.left_out));
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
    pub(super) async fn carry_out(
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
    pub(super) async fn gather(
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
}

/// Why nothing can be undone anywhere.
fn nowhere(first: CommandError, all: &[UndoLeftOut]) -> CommandError {
    if all.len() < 2 {
        return first;
    }
    let whys: Vec<&str> = all.iter().map(|one| one.why.as_str()).collect();
    let nexts: Vec<&str> = all.iter().map(|one| one.next.as_str()).collect();
    CommandError {
        message: whys.join("; "),
        hint: nexts.join("; "),
        item: None,
        ..first
    }
}

/// The contents of a plan that neither a file nor the trash here has. Unless it has to be `sure`, names in the trash
/// are believed: nobody waits for a preview until all of it is read.
pub(super) fn not_here(
    conn: &Connection,
    open: &Open,
    items: &[Planned],
    sure: bool,
) -> Result<BTreeMap<ContentHash, Planned>, DbError> {
    let mut out = BTreeMap::new();
    let fronts = open.kept.fronts(&*open.disk).unwrap_or_default();
    let kept = |hash: &ContentHash| {
        fronts.contains(&trash::front(hash))
            && (!sure || open.kept.find(&*open.disk, &open.secret, hash).is_some())
    };
    for one in items {
        let Some((hash, size)) = one.needs else {
            continue;
        };
        let here = size == 0 || !base::holding(conn, open.n, &hash, 1)?.is_empty() || kept(&hash);
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
