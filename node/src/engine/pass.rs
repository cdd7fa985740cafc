//! The disk as it will be once the steps gathered so far are taken.
//!
//! Base says where things stand now. A step that is planned by that alone would meet, on the disk,
//! what another step of its group has put there.

use std::collections::{BTreeMap, BTreeSet};

use ownmesh_crypto::ItemId;

use super::group::{Intent, Then};
use crate::db::base::{self, Base};
use crate::db::{Connection, DbError};
use crate::disk::RelPath;
use crate::disk::perform::Step;

/// One planning pass: what the disk will look like after the steps gathered so far.
pub(super) struct Pass<'a> {
    pub(super) tx: &'a Connection,
    pub(super) n: i64,
    pub(super) group: Vec<Intent>,
    /// Entries as they will stand: where, or gone.
    pub(super) moved: BTreeMap<ItemId, Option<(ItemId, String)>>,
    /// Names taken or freed by the group.
    pub(super) names: BTreeMap<(ItemId, String), Option<ItemId>>,
    pub(super) parked: BTreeSet<ItemId>,
    pub(super) touched: BTreeSet<ItemId>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(tx: &'a Connection, n: i64) -> Self {
        Self {
            tx,
            n,
            group: Vec::new(),
            moved: BTreeMap::new(),
            names: BTreeMap::new(),
            parked: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Where an entry will be.
    pub(super) fn path(&self, id: &ItemId) -> Result<Option<RelPath>, DbError> {
        let mut names = Vec::new();
        let mut at = *id;
        for _ in 0..4_096 {
            if at == ItemId::ROOT {
                names.reverse();
                return RelPath::parse(&names.join("/"))
                    .map(Some)
                    .map_err(|_| DbError::Damaged("name"));
            }
            let (parent, name) = match self.moved.get(&at) {
                Some(Some(place)) => place.clone(),
                Some(None) => return Ok(None),
                None => match base::get(self.tx, self.n, &at)? {
                    Some(b) => (b.row.parent, b.row.name),
                    None => return Ok(None),
                },
            };
            names.push(name);
            at = parent;
        }
        Ok(None)
    }

    /// What will stand under a name.
    pub(super) fn at(&self, parent: &ItemId, name: &str) -> Result<Option<ItemId>, DbError> {
        if let Some(known) = self.names.get(&(*parent, name.to_owned())) {
            return Ok(*known);
        }
        Ok(base::at(self.tx, self.n, parent, name)?.map(|b| b.row.id))
    }

    pub(super) fn place(&mut self, id: ItemId, parent: ItemId, name: &str) {
        self.names.insert((parent, name.to_owned()), Some(id));
        self.moved.insert(id, Some((parent, name.to_owned())));
    }

    pub(super) fn free(&mut self, b: &Base) {
        self.names.insert((b.row.parent, b.row.name.clone()), None);
    }

    pub(super) fn push(&mut self, item: ItemId, step: Step, then: Then, changes: Option<u32>) {
        self.touched.insert(*step.id());
        self.group.push(Intent {
            item,
            step,
            then,
            changes,
        });
    }
}
