//! What has to be true when everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crdt::item::{Content, ItemState};
use ownmesh_crypto::{ContentHash, ItemId};
use ownmesh_node::db::{Connection, base, dirty, items, logs};
use ownmesh_node::engine::{Engine, Event, tree};

use crate::mem_disk::{Entry, Node};
use crate::transition::one_in;
use crate::world::{SPACE, Weather, World};

/// Virtual time everything has to come to rest in, ms: longer than any wait of the engine's.
const REST: u64 = 600_000;
/// After this time users stop waiting for what nobody has, ms.
const PATIENCE: u64 = 60_000;

impl World {
    /// Ends all trouble: everybody runs, all are connected, nothing fails.
    pub fn heal(&mut self) {
        self.weather = Weather::calm();
        self.reference().note("", "healing begins");
        for d in 0..self.devices.len() {
            self.devices[d].disk.revive();
            (self.devices[d].doom, self.devices[d].doom_effects) = (None, None);
            self.devices[d].shaky = false;
            if self.devices[d].engine.is_none() {
                self.start(d);
            }
            self.add_again(d);
        }
        for p in self.links.keys().copied().collect::<Vec<_>>() {
            self.join(p);
        }
        self.scan_all();
    }

    /// Has every device look at its whole disk.
    pub fn scan_all(&mut self) {
        for d in 0..self.devices.len() {
            if let Some(space) = self.devices[d].space {
                self.give(
                    d,
                    Event::Disturbed {
                        space,
                        dirs: Vec::new(),
                    },
                );
            }
        }
    }

    /// Lets things happen until nothing is left to do.
    ///
    /// # Errors
    /// What is still not done after a long time.
    pub fn rest(&mut self) -> Result<(), String> {
        let start = self.now;
        let end = self.now + REST;
        let mut busy = Vec::new();
        while self.now < end {
            let until = self.now + 700;
            self.run_until(until);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            busy = self.busy();
            if busy.is_empty() {
                return Ok(());
            }
            // Nothing but a backup that came back takes away what was announced, or a user who writes
            // to a file that does not take part for a while, or is ignored.
            let gone = [
                "restored backups",
                "spaces left",
                "own rules",
                "shared rules",
            ];
            let counts = self.reference().counts.clone();
            if gone.iter().any(|what| counts.contains_key(what)) && self.now > start + PATIENCE {
                self.give_up();
            }
            let stopped: Vec<usize> = (0..self.devices.len())
                .filter(|d| self.is_stopped(*d))
                .collect();
            for d in stopped {
                if one_in(&mut self.rng, 2) {
                    self.answer_brake(d);
                }
            }
        }
        for d in 0..self.devices.len() {
            let spaces: Vec<String> = self.devices[d]
                .engine
                .iter()
                .flat_map(|e| e.open_spaces_list().map(|s| format!("{s:?}")))
                .collect();
            self.note(d, &spaces.join("; "));
        }
        Err(format!("it does not come to rest: {}", busy.join("; ")))
    }

    /// What nobody has any more is given up by a user: announced, and then lost with the disk or the
    /// database of the only device that had it.
    fn give_up(&mut self) {
        let secret = self.secret();
        let mut held = BTreeSet::new();
        for device in &self.devices {
            for entry in device.disk.entries().values() {
                if let Entry::File(bytes) = entry {
                    held.insert(secret.content_hash(bytes));
                }
            }
        }
        let now = self.moment();
        for d in 0..self.devices.len() {
            let (Some(engine), Some(n)) = (&self.devices[d].engine, self.devices[d].space) else {
                continue;
            };
            let conn = engine.db().read();
            let mut orphans = Vec::new();
            for (_, id) in dirty::after(conn, n, 0, 1_000).unwrap_or_default() {
                let row = items::get(conn, n, &id).ok().flatten().unwrap_or_default();
                let versions = ItemState::from_registers(&row.doc.regs)
                    .map(|s| s.versions)
                    .unwrap_or_default();
                for (_, content) in versions {
                    if let Content::File { hash, size } = content
                        && size > 0
                        && !held.contains(&hash)
                    {
                        orphans.push((id, hash));
                    }
                }
            }
            let Some((id, hash)) = orphans.first().copied() else {
                continue;
            };
            let Some(engine) = &mut self.devices[d].engine else {
                continue;
            };
            let done = engine.abandon(SPACE, &id, &hash, now);
            self.note(d, &format!("gives up {}: {done:?}", short(&id)));
            self.reference().count("contents given up");
            self.perform_effects(d);
            // One at a time: the others may be done with it then.
            return;
        }
    }

    fn is_stopped(&self, d: usize) -> bool {
        self.devices[d]
            .engine
            .as_ref()
            .is_some_and(|e| e.open_spaces_list().any(|s| s.stopped().is_some()))
    }

    /// What is not done yet.
    #[must_use]
    pub fn busy(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut vectors = Vec::new();
        let names = self.names();
        for device in &self.devices {
            let (Some(engine), Some(n)) = (&device.engine, device.space) else {
                out.push(format!("{} does not run", device.name));
                continue;
            };
            let conn = engine.db().read();
            let dirty = dirty::after(conn, n, 0, 1_000).unwrap_or_default();
            for (_, item) in &dirty {
                out.push(format!(
                    "{} has {} to do: {}",
                    device.name,
                    short(item),
                    to_do(conn, n, item, &names)
                ));
            }
            let queued = logs::outbox_len(conn, n).unwrap_or(0);
            if queued > 0 {
                out.push(format!("{} has {queued} changes unsealed", device.name));
            }
            for space in engine.open_spaces_list() {
                if let Some(why) = space.stopped() {
                    out.push(format!("{} is stopped: {why}", device.name));
                }
                if space.is_busy() {
                    out.push(format!("{} is at work", device.name));
                }
            }
            vectors.push(logs::vector(conn, n).unwrap_or_default());
        }
        if vectors.iter().any(|v| Some(v) != vectors.first()) {
            out.push("the vectors differ".to_owned());
        }
        out
    }

    fn names(&self) -> BTreeMap<ContentHash, String> {
        let secret = self.secret();
        let r = self.reference();
        let files = r.known().filter_map(|e| match e {
            Entry::File(bytes) => {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
                Some((secret.content_hash(bytes), start))
            }
            _ => None,
        });
        files.collect()
    }

    /// Notes what a device thinks of the items whose ids begin so, where it changed its mind.
    pub(crate) fn follow(&mut self, d: usize, start: &str) {
        let (Some(engine), Some(n)) = (&self.devices[d].engine, self.devices[d].space) else {
            return;
        };
        let conn = engine.db().read();
        let names = self.names();
        let page = items::page(conn, n, None, 100_000).unwrap_or_default();
        let mut lines = Vec::new();
        for id in page
            .iter()
            .filter_map(|row| row.id)
            .filter(|id| id.to_string().starts_with(start))
        {
            lines.push(format!(
                "  -- {} {}",
                short(&id),
                to_do(conn, n, &id, &names)
            ));
        }
        let text = lines.join("\n");
        if !lines.is_empty() && self.devices[d].followed != text {
            self.note(d, &text);
            self.devices[d].followed = text;
        }
    }

    /// Heals, waits, and checks everything.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verdict(&mut self) -> Result<(), String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.heal();
        self.end_rules()?;
        self.rest()?;
        self.scan_all();
        self.rest()?;
        let authored: Vec<u64> = self.engines().map(|e| e.tally().authored).collect();
        for _ in 0..2 {
            self.scan_all();
            self.rest()?;
        }
        let again: Vec<u64> = self.engines().map(|e| e.tally().authored).collect();
        if authored != again {
            return Err(format!(
                "looking again makes changes: {authored:?}, then {again:?}"
            ));
        }
        self.same_documents()?;
        self.same_disks()?;
        self.nothing_left()?;
        let live: Vec<_> = self.devices.iter().map(|d| d.disk.entries()).collect();
        let trash: Vec<_> = self
            .devices
            .iter()
            .map(|d| d.disk.entries_below(".mesh/trash"))
            .collect();
        let mut lost = self.reference().lost(&live, &trash);
        lost.extend(self.reference().traces.wrong(&live));
        if lost.is_empty() {
            Ok(())
        } else {
            Err(lost.join("\n"))
        }
    }

    fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.devices.iter().filter_map(|d| d.engine.as_ref())
    }

    fn same_documents(&self) -> Result<(), String> {
        let mut first: Option<BTreeMap<_, _>> = None;
        for device in &self.devices {
            let (Some(engine), Some(n)) = (&device.engine, device.space) else {
                continue;
            };
            let conn = engine.db().read();
            let differences =
                tree::check(conn, n).map_err(|e| format!("{}: {e:?}", device.name))?;
            if let Some(one) = differences.first() {
                return Err(format!(
                    "{}: the tree is not what the documents say: {one:?}",
                    device.name
                ));
            }
            let set_aside = logs::quarantine(conn, n).map_err(|e| e.to_string())?;
            if let Some((id, reason)) = set_aside.first() {
                return Err(format!(
                    "{}: a change of {id:.6} was set aside: {reason}",
                    device.name
                ));
            }
            let rows: BTreeMap<_, _> = items::page(conn, n, None, 1_000_000)
                .map_err(|e| e.to_string())?
                .into_iter()
                .map(|row| {
                    (
                        row.id,
                        (row.spot, row.doc.heads, row.doc.regs, row.doc.changes),
                    )
                })
                .collect();
            match &first {
                None => first = Some(rows),
                Some(theirs) => {
                    for (id, row) in &rows {
                        if theirs.get(id) != Some(row) {
                            return Err(format!(
                                "the item {id:?} differs: {row:?} on {}, {:?} elsewhere",
                                device.name,
                                theirs.get(id)
                            ));
                        }
                    }
                    if theirs.len() != rows.len() {
                        return Err(format!(
                            "{} knows {} items, another {}",
                            device.name,
                            rows.len(),
                            theirs.len()
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    fn same_disks(&self) -> Result<(), String> {
        let seen = |node: &Node| {
            let mut node = node.clone();
            if node.kind != ownmesh_node::disk::MetaKind::File {
                node.mtime = 0;
            }
            if node.kind == ownmesh_node::disk::MetaKind::Symlink {
                node.mode = 0;
            }
            node
        };
        let trees: Vec<BTreeMap<String, Node>> = self
            .devices
            .iter()
            .map(|d| {
                d.disk
                    .snapshot()
                    .into_iter()
                    .map(|(p, n)| (p, seen(&n)))
                    .collect()
            })
            .collect();
        for (device, tree) in self.devices.iter().zip(&trees).skip(1) {
            for path in tree.keys().chain(trees[0].keys()) {
                let (here, there) = (tree.get(path), trees[0].get(path));
                // A copy has the mode that its item had when it was made here.
                let copy = path.contains("(conflict");
                let same = match (here, there) {
                    (Some(a), Some(b)) if copy => {
                        (a.kind, &a.bytes, &a.target) == (b.kind, &b.bytes, &b.target)
                    }
                    _ => here == there,
                };
                if !same {
                    let times = (here.map(|n| n.mtime), there.map(|n| n.mtime));
                    return Err(format!(
                        "{path} is {here:?} on {}, {there:?} on {}; times {times:?}",
                        device.name, self.devices[0].name
                    ));
                }
            }
        }
        Ok(())
    }

    fn nothing_left(&self) -> Result<(), String> {
        for device in &self.devices {
            for dir in [".mesh/tmp", ".mesh/parked"] {
                let left = device.disk.entries_below(dir);
                if !left.is_empty() {
                    return Err(format!("{}: left in {dir}: {left:?}", device.name));
                }
            }
        }
        Ok(())
    }
}

fn short(id: &ItemId) -> String {
    id.to_string().chars().take(4).collect()
}

/// What the mesh says of an item, and what base says.
fn to_do(
    conn: &Connection,
    n: i64,
    item: &ItemId,
    names: &BTreeMap<ContentHash, String>,
) -> String {
    let Ok(Some(row)) = items::get(conn, n, item) else {
        return "nothing is known of it".to_owned();
    };
    let hash = |c: Option<&Content>| match c {
        Some(Content::File { hash, size }) => {
            format!("{size}:{}", names.get(hash).cloned().unwrap_or_default())
        }
        Some(Content::Link { target }) => format!("-> {target}"),
        None => "-".to_owned(),
    };
    let versions = ItemState::from_registers(&row.doc.regs)
        .map(|s| s.versions)
        .unwrap_or_default();
    let versions: Vec<String> = versions.iter().map(|(_, c)| hash(Some(c))).collect();
    let on_disk = |b: base::Base| {
        format!(
            "{} in {} {} racy {}",
            b.row.name,
            short(&b.row.parent),
            hash(b.row.content.as_ref()),
            b.row.racy
        )
    };
    let mut here: Vec<base::Base> = base::get(conn, n, item)
        .ok()
        .flatten()
        .into_iter()
        .collect();
    here.extend(base::copies(conn, n, item).unwrap_or_default());
    let here: Vec<String> = here.into_iter().map(on_disk).collect();
    let tombs = row.doc.regs.all("d").len();
    format!(
        "{:?} in {} alive {} kids {}, versions {versions:?}, {tombs} tombstones, on disk {here:?}",
        row.spot.shown,
        row.spot.ep.map(|p| short(&p)).unwrap_or_default(),
        row.spot.alive,
        row.spot.kids
    )
}
