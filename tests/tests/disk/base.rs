//! A base in memory that takes in what a scan finds, as the engine does; and the folder around it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use ownmesh_crdt::item::{Content, Kind, Seen};
use ownmesh_crypto::SpaceSecret;
use ownmesh_crypto::ids::{ItemId, SpaceId};
use ownmesh_node::disk::base::{BaseError, BaseReader, BaseRow};
use ownmesh_node::disk::scan::{Found, Guard, Look, Parent, ScanError, ScanReport, Scope, scan};
use ownmesh_node::disk::{Disk, Meta, RelPath, prepare};
use ownmesh_tests::mem_disk::MemDisk;

pub(crate) fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

#[derive(Default)]
pub(crate) struct MemBase {
    pub(crate) rows: RefCell<BTreeMap<ItemId, BaseRow>>,
    news: RefCell<BTreeMap<u32, ItemId>>,
    next: Cell<u64>,
}

impl BaseReader for MemBase {
    fn children(&self, dir: &ItemId) -> Result<Vec<BaseRow>, BaseError> {
        Ok(self
            .rows
            .borrow()
            .values()
            .filter(|row| row.parent == *dir)
            .cloned()
            .collect())
    }

    fn by_inode(&self, dev: u64, ino: u64) -> Result<Option<BaseRow>, BaseError> {
        let rows = self.rows.borrow();
        Ok(rows
            .values()
            .find(|row| row.stat.dev == dev && row.stat.ino == ino)
            .cloned())
    }

    fn get(&self, id: &ItemId) -> Result<Option<BaseRow>, BaseError> {
        Ok(self.rows.borrow().get(id).cloned())
    }

    fn path_of(&self, id: &ItemId) -> Result<Option<RelPath>, BaseError> {
        let rows = self.rows.borrow();
        let mut names = Vec::new();
        let mut at = *id;
        while at != ItemId::ROOT {
            let Some(row) = rows.get(&at) else {
                return Ok(None);
            };
            names.push(row.name.clone());
            at = row.parent;
        }
        names.reverse();
        Ok(Some(path(&names.join("/"))))
    }
}

impl MemBase {
    pub(crate) fn show(&self, id: &ItemId) -> String {
        self.path_of(id)
            .unwrap()
            .map_or_else(|| format!("{id:.8}"), |path| path.to_string())
    }

    pub(crate) fn id(&self, at: &str) -> ItemId {
        let rows = self.rows.borrow();
        *rows
            .keys()
            .find(|id| self.show(id) == at)
            .unwrap_or_else(|| panic!("no row at {at}"))
    }

    pub(crate) fn row(&self, at: &str) -> BaseRow {
        self.rows.borrow()[&self.id(at)].clone()
    }

    fn parent(&self, parent: Parent) -> ItemId {
        match parent {
            Parent::Item(id) => id,
            Parent::New(n) => self.news.borrow()[&n],
        }
    }

    /// One line for a person, made before the finding is taken in.
    pub(crate) fn line(&self, found: &Found) -> String {
        let at = |parent: Parent, name: &str| match self.show(&self.parent(parent)).as_str() {
            "." => name.to_owned(),
            dir => format!("{dir}/{name}"),
        };
        match found {
            Found::Created {
                parent, name, kind, ..
            } => {
                format!(
                    "created {} {}",
                    format!("{kind:?}").to_lowercase(),
                    at(*parent, name)
                )
            }
            Found::Edited { id, .. } => format!("edited {}", self.show(id)),
            Found::Touched { id, meta } => format!("touched {} {:o}", self.show(id), meta.mode),
            Found::Refreshed { id, racy, .. } => format!("refreshed {} racy={racy}", self.show(id)),
            Found::Moved {
                id, parent, name, ..
            } => format!("moved {} -> {}", self.show(id), at(*parent, name)),
            Found::Gone { id } => format!("gone {}", self.show(id)),
            Found::Forgotten { id } => format!("forgotten {}", self.show(id)),
        }
    }

    pub(crate) fn apply(&self, found: &Found) {
        let mut rows = self.rows.borrow_mut();
        let saw = |row: &mut BaseRow, meta: &Meta| {
            (row.mode, row.mtime, row.stat) = (meta.mode, meta.mtime_ns, meta.stat());
        };
        match found.clone() {
            Found::Created {
                new,
                parent,
                name,
                kind,
                content,
                meta,
                racy,
                ..
            } => {
                let parent = self.parent(parent);
                self.next.set(self.next.get() + 1);
                let mut id = [0xee; 16];
                id[..8].copy_from_slice(&self.next.get().to_be_bytes());
                let id = ItemId::from_bytes(id);
                self.news.borrow_mut().insert(new, id);
                assert!(
                    parent == ItemId::ROOT || rows.contains_key(&parent),
                    "parents come first"
                );
                rows.insert(
                    id,
                    BaseRow {
                        id,
                        copy_of: None,
                        parent,
                        name,
                        kind,
                        content,
                        seen: Seen::default(),
                        mode: meta.mode,
                        mtime: meta.mtime_ns,
                        stat: meta.stat(),
                        racy,
                    },
                );
            }
            Found::Edited {
                id,
                content,
                meta,
                racy,
                ..
            } => {
                let row = rows.get_mut(&id).unwrap();
                (row.content, row.racy) = (Some(content), racy);
                saw(row, &meta);
            }
            Found::Touched { id, meta } => saw(rows.get_mut(&id).unwrap(), &meta),
            Found::Refreshed { id, meta, racy } => {
                let row = rows.get_mut(&id).unwrap();
                row.racy = racy;
                saw(row, &meta);
            }
            Found::Moved {
                id,
                parent,
                name,
                meta,
            } => {
                let parent = self.parent(parent);
                let row = rows.get_mut(&id).unwrap();
                (row.parent, row.name) = (parent, name);
                saw(row, &meta);
            }
            Found::Forgotten { id } => {
                let mut open = vec![id];
                while let Some(at) = open.pop() {
                    rows.remove(&at).unwrap();
                    let below = rows.values().filter(|row| row.parent == at);
                    open.extend(below.map(|row| row.id).collect::<Vec<_>>());
                }
            }
            Found::Gone { id } => {
                assert!(
                    rows.values().all(|row| row.parent != id),
                    "children go first"
                );
                rows.remove(&id).unwrap();
            }
        }
    }
}

/// A folder with its base.
pub(crate) struct Folder {
    pub(crate) disk: MemDisk,
    pub(crate) base: MemBase,
    pub(crate) secret: SpaceSecret,
    pub(crate) guard: Guard,
    /// Whether base takes a finding in at once, or when the scan is over.
    pub(crate) at_once: bool,
    pub(crate) ignored: Vec<String>,
}

pub(crate) const MS: i64 = 1_000_000;

impl Folder {
    pub(crate) fn new() -> Self {
        let disk = MemDisk::new();
        let space = SpaceId::from_bytes([5; 16]);
        prepare(&disk, &space).unwrap();
        let guard = Guard {
            space,
            fs_id: disk.fs_id().unwrap(),
        };
        Self {
            disk,
            base: MemBase::default(),
            secret: SpaceSecret::from_bytes([9; 32]),
            guard,
            at_once: true,
            ignored: Vec::new(),
        }
    }

    /// A folder with these files (`dir/` makes a directory) that base knows, and nothing racy.
    pub(crate) fn with(paths: &[&str]) -> Self {
        let folder = Self::new();
        for at in paths {
            if let Some(dir) = at.strip_suffix('/') {
                folder.disk.user_mkdir(dir);
            } else {
                if let Some(parent) = path(at).parent() {
                    folder.disk.user_mkdir(parent.as_str());
                }
                folder.disk.user_write(at, format!("content of {at}"));
            }
        }
        folder.disk.advance(100 * MS);
        folder.settle();
        folder
    }

    /// Scans until nothing is racy any more.
    pub(crate) fn settle(&self) {
        self.scan(&Scope::All).unwrap();
        self.disk.advance(100 * MS);
        self.scan(&Scope::All).unwrap();
        self.disk.advance(100 * MS);
        assert_eq!(self.lines(), Vec::<String>::new());
    }

    pub(crate) fn scan(&self, scope: &Scope) -> Result<(Vec<String>, ScanReport), ScanError> {
        self.look(&scope.clone().into())
    }

    pub(crate) fn look(&self, look: &Look) -> Result<(Vec<String>, ScanReport), ScanError> {
        let mut lines = Vec::new();
        let mut late = Vec::new();
        let report = scan(
            &self.disk,
            &self.guard,
            &self.base,
            &self.secret,
            look,
            &|path, _| self.ignored.iter().any(|name| path.name() == Some(name)),
            &mut |group| {
                assert!(group.len() <= 1_000 && !group.is_empty());
                for found in group {
                    if self.at_once {
                        lines.push(self.base.line(&found));
                        self.base.apply(&found);
                    } else {
                        late.push(found);
                    }
                }
                Ok(())
            },
        )?;
        for found in late {
            lines.push(self.base.line(&found));
            self.base.apply(&found);
        }
        Ok((lines, report))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.scan(&Scope::All).unwrap().0
    }

    /// Base and disk hold the same paths with the same content.
    pub(crate) fn assert_agrees(&self) {
        let rows = self.base.rows.borrow();
        let base: BTreeMap<String, Option<Content>> = rows
            .values()
            .map(|row| (self.base.show(&row.id), row.content.clone()))
            .collect();
        let disk = self.disk.snapshot();
        let disk: BTreeMap<String, Option<Content>> = disk
            .into_iter()
            .map(|(path, node)| {
                let content = match (node.kind, node.target) {
                    (_, Some(target)) => Some(Content::Link { target }),
                    (ownmesh_node::disk::MetaKind::File, _) => Some(Content::File {
                        size: node.bytes.len() as u64,
                        hash: self.secret.content_hash(&node.bytes),
                    }),
                    _ => None,
                };
                (path, content)
            })
            .collect();
        assert_eq!(base, disk);
        assert_eq!(base.len(), rows.len(), "two rows at one path");
        assert!(
            rows.values()
                .all(|row| (row.kind == Kind::Dir) == row.content.is_none())
        );
    }
}
