//! The document of one item: authoring, checking and applying changes. The only file that names automerge.
//!
//! A document is never held open. [`ItemDoc`] is what a database row keeps: the changes themselves,
//! and what follows from them. Nearly every change continues the document it was made on and is
//! applied to that by [`ItemDoc::apply`] without automerge ("fast"); all others go through automerge
//! ("slow"). Both must agree to the last operation id, which tests/doc.rs holds them to.
//!
//! The dangers guarded against: automerge panics on bytes and orders it does not expect (so each call
//! into it stands inside `catch_unwind`, and a document is only changed after all has gone well), and
//! a change that says it replaces what its writer cannot have seen would be judged differently on
//! devices that received things in another order (so a change is judged by its own past alone).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{ActorId, Automerge, Change, ExpandedChange, ReadDoc, ScalarValue, Value, legacy};
use ownmesh_crypto::ids::Incarnation;

pub use crate::fault::{ApplyError, AuthorError};
use crate::guard;
pub use crate::guard::BadChange;
use crate::history::History;
use crate::limits::{MAX_BODY, MAX_CHANGE, MAX_COUNTER, MAX_KEY, MAX_OPS, MAX_VALUE};
use crate::op::{OpId, Registers, Scalar};

/// Names a change: the SHA-256 automerge gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeHash(pub [u8; 32]);

/// One operation of a checked change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeOp {
    /// Its id.
    pub id: OpId,
    /// The register it is about.
    pub key: String,
    /// The value it puts, or nothing if it only deletes.
    pub put: Option<Scalar>,
    /// The values it replaces, ascending.
    pub pred: Vec<OpId>,
}

/// A change that may be handed to a document: only [`CheckedChange::check`] makes one.
#[derive(Clone, Debug)]
pub struct CheckedChange {
    bytes: Vec<u8>,
    hash: ChangeHash,
    actor: Incarnation,
    seq: u64,
    start_op: u64,
    deps: Vec<ChangeHash>,
    ops: Vec<ChangeOp>,
}

impl CheckedChange {
    /// Checks foreign bytes; the order of the checks bounds time and memory before automerge sees them.
    ///
    /// # Errors
    /// The rule that does not hold. The one change is to be quarantined; those beside it are not affected.
    pub fn check(bytes: &[u8]) -> Result<Self, BadChange> {
        let head = guard::prescan(bytes)?;
        let expanded = caught(|| {
            let change = Change::try_from(bytes).map_err(|_| BadChange::Refused)?;
            if change.hash().0 != head.hash || change.len() as u64 != head.ops {
                return Err(BadChange::Refused);
            }
            Ok(change.decode())
        })
        .unwrap_or(Err(BadChange::Panicked))?;
        let actor = Incarnation::from_bytes(head.actor);
        let ops = expanded
            .operations
            .iter()
            .zip(head.start_op..)
            .map(|(op, counter)| checked_op(op, counter, actor));
        Ok(Self {
            bytes: bytes.to_vec(),
            hash: ChangeHash(head.hash),
            actor,
            seq: head.seq,
            start_op: head.start_op,
            deps: head.deps.iter().copied().map(ChangeHash).collect(),
            ops: ops.collect::<Result<_, _>>()?,
        })
    }

    /// The change's name.
    #[must_use]
    pub fn hash(&self) -> ChangeHash {
        self.hash
    }

    /// Who wrote it.
    #[must_use]
    pub fn actor(&self) -> &Incarnation {
        &self.actor
    }

    /// Its number among the actor's changes to the document, from 1.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Counter of its first operation.
    #[must_use]
    pub fn start_op(&self) -> u64 {
        self.start_op
    }

    /// The changes it was made on, ascending.
    #[must_use]
    pub fn deps(&self) -> &[ChangeHash] {
        &self.deps
    }

    /// The bytes that were checked.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it does, in order.
    #[must_use]
    pub fn ops(&self) -> &[ChangeOp] {
        &self.ops
    }

    fn max_op(&self) -> u64 {
        self.start_op + self.ops.len() as u64 - 1
    }
}

/// How far one actor has written a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActorSeq {
    /// Number of its last change.
    pub seq: u64,
    /// Counter of its last operation.
    pub max_op: u64,
}

/// One register to be written or deleted, naming exactly what it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The register.
    pub key: String,
    /// The new value; nothing only deletes what `pred` names.
    pub put: Option<Scalar>,
    /// The values that whoever caused the edit had seen.
    pub pred: Vec<OpId>,
}

/// A change made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authored {
    /// The change chunk.
    pub bytes: Vec<u8>,
    /// Its name.
    pub hash: ChangeHash,
}

/// What became of a change handed to a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was there already.
    Known,
    /// It has to wait for these changes; the document is as before.
    Missing(Vec<ChangeHash>),
    /// The document has it now.
    Done {
        /// Whether automerge could be left out.
        fast: bool,
    },
}

/// Everything a database row keeps of a document; the default is the empty document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemDoc {
    /// The changes nothing builds on yet, ascending.
    pub heads: Vec<ChangeHash>,
    /// All change chunks, in an order in which each stands behind what it builds on.
    pub body: Vec<u8>,
    /// How many changes `body` holds.
    pub changes: u32,
    /// What is visible.
    pub regs: Registers,
    /// How far each actor has written.
    pub actors: BTreeMap<Incarnation, ActorSeq>,
}

impl ItemDoc {
    /// Makes the change that writes `edits` on top of this document; the document itself stays as it is.
    /// `time` in Unix milliseconds is for people only.
    ///
    /// Names in `pred` that are not visible any more are dropped, as are deletions that have nothing
    /// left to delete. Several deletions of one key become one; beside a put they become part of it.
    ///
    /// Returns:
    /// the change, to be checked and applied like anybody's, or nothing if no edit is left.
    ///
    /// # Errors
    /// If the edits exceed the limits on changes or write one key twice.
    pub fn author_at(
        &self,
        actor: &Incarnation,
        time: i64,
        edits: &[Edit],
    ) -> Result<Option<Authored>, AuthorError> {
        let edits = self.effective(edits)?;
        if edits.is_empty() {
            return Ok(None);
        }
        let start = self.max_op() + 1;
        if start + edits.len() as u64 > MAX_COUNTER || edits.len() as u64 > MAX_OPS {
            return Err(AuthorError::Exhausted);
        }
        let own = self.actors.get(actor).copied().unwrap_or_default();
        let operations = edits.into_iter().map(|edit| legacy::Op {
            action: edit.put.map_or(legacy::OpType::Delete, |value| {
                legacy::OpType::Put(to_automerge(value))
            }),
            obj: legacy::ObjectId::Root,
            key: legacy::Key::Map(edit.key.into()),
            pred: edit
                .pred
                .iter()
                .map(|id| legacy::OpId(id.counter, to_actor(&id.actor)))
                .collect(),
            insert: false,
        });
        let expanded = ExpandedChange {
            operations: operations.collect(),
            actor_id: to_actor(actor),
            hash: None,
            seq: own.seq + 1,
            start_op: NonZeroU64::new(start).ok_or(AuthorError::Exhausted)?,
            time,
            message: None,
            deps: self
                .heads
                .iter()
                .map(|h| automerge::ChangeHash(h.0))
                .collect(),
            extra_bytes: Vec::new(),
            author: None,
        };
        let change = caught(|| Change::from(expanded)).ok_or(AuthorError::Panicked)?;
        let bytes = change.raw_bytes().to_vec();
        if bytes.len() > MAX_CHANGE {
            return Err(AuthorError::TooLarge);
        }
        Ok(Some(Authored {
            bytes,
            hash: ChangeHash(change.hash().0),
        }))
    }

    /// Authors a change and applies it to this document at once.
    ///
    /// # Errors
    /// As [`ItemDoc::author_at`]; the document is as before then.
    pub fn commit_at(
        &mut self,
        actor: &Incarnation,
        time: i64,
        edits: &[Edit],
    ) -> Result<Option<Authored>, AuthorError> {
        let Some(authored) = self.author_at(actor, time, edits)? else {
            return Ok(None);
        };
        let checked = CheckedChange::check(&authored.bytes)?;
        match self.apply(&checked)? {
            Applied::Done { .. } => Ok(Some(authored)),
            Applied::Known | Applied::Missing(_) => Err(AuthorError::Misplaced),
        }
    }

    /// Takes a change in.
    ///
    /// # Errors
    /// If the change contradicts its own past, or automerge fails on it; the document is as before then.
    pub fn apply(&mut self, change: &CheckedChange) -> Result<Applied, ApplyError> {
        if !self.continues(change) {
            return self.apply_slow(change);
        }
        for op in &change.ops {
            match &op.put {
                Some(value) => drop(
                    self.regs
                        .0
                        .insert(op.key.clone(), vec![(op.id, value.clone())]),
                ),
                None => drop(self.regs.0.remove(&op.key)),
            }
        }
        self.heads = vec![change.hash];
        self.append(change);
        Ok(Applied::Done { fast: true })
    }

    /// Takes a change in by way of automerge, whatever it is; [`ItemDoc::apply`] must give the same.
    ///
    /// # Errors
    /// As [`ItemDoc::apply`].
    #[doc(hidden)]
    pub fn apply_slow(&mut self, change: &CheckedChange) -> Result<Applied, ApplyError> {
        let history = History::of(&self.body).map_err(ApplyError::Body)?;
        if history.contains(&change.hash) {
            return Ok(Applied::Known);
        }
        let missing: Vec<_> = change
            .deps
            .iter()
            .filter(|d| !history.contains(d))
            .copied()
            .collect();
        if !missing.is_empty() {
            return Ok(Applied::Missing(missing));
        }
        history.admit(change, self.actors.get(&change.actor))?;
        if self.body.len() + change.bytes.len() > MAX_BODY {
            return Err(ApplyError::TooLarge);
        }
        let (heads, regs) = caught(|| read(&replay(&self.body, Some(change))?))
            .unwrap_or(Err(ApplyError::Panicked))?;
        if heads.binary_search(&change.hash).is_err() {
            return Err(ApplyError::Refused);
        }
        self.heads = heads;
        self.regs = regs;
        self.append(change);
        Ok(Applied::Done { fast: false })
    }

    /// Builds the row anew from the changes alone, by way of automerge: the check of a stored row.
    ///
    /// # Errors
    /// If `body` is damaged or out of order, or automerge fails on it.
    pub fn rebuild(body: &[u8]) -> Result<Self, ApplyError> {
        let mut doc = Self {
            body: body.to_vec(),
            ..Self::default()
        };
        for head in History::of(body).map_err(ApplyError::Body)?.heads {
            let own = doc
                .actors
                .entry(Incarnation::from_bytes(head.actor))
                .or_default();
            if head.seq != own.seq + 1 {
                return Err(ApplyError::SeqGap {
                    have: own.seq,
                    got: head.seq,
                });
            }
            *own = ActorSeq {
                seq: head.seq,
                max_op: head.max_op(),
            };
            doc.changes += 1;
        }
        if doc.changes > 0 {
            (doc.heads, doc.regs) =
                caught(|| read(&replay(body, None)?)).unwrap_or(Err(ApplyError::Panicked))?;
        }
        Ok(doc)
    }

    /// The changes one by one, each behind what it builds on: what state transfer sends.
    ///
    /// # Errors
    /// If the stored body is damaged.
    pub fn changes(&self) -> Result<Vec<&[u8]>, ApplyError> {
        guard::split(&self.body).map_err(ApplyError::Body)
    }

    /// The names of all its changes.
    ///
    /// # Errors
    /// If the stored body is damaged.
    pub fn hashes(&self) -> Result<BTreeSet<ChangeHash>, ApplyError> {
        let history = History::of(&self.body).map_err(ApplyError::Body)?;
        Ok(history.heads.iter().map(|h| ChangeHash(h.hash)).collect())
    }

    /// Highest operation counter any actor has used.
    #[must_use]
    pub fn max_op(&self) -> u64 {
        self.actors.values().map(|a| a.max_op).max().unwrap_or(0)
    }

    /// Whether the change can be applied without automerge: it replaces exactly what stands here.
    ///
    /// Sound only without any conflict: automerge lets a delete of the loser stand for "the winner stays".
    fn continues(&self, change: &CheckedChange) -> bool {
        let own = self.actors.get(&change.actor).copied().unwrap_or_default();
        if change.deps != self.heads
            || change.seq != own.seq + 1
            || change.start_op != self.max_op() + 1
            || self.regs.has_conflict() && !mutated!(FastWithoutConflict)
            || self.body.len() + change.bytes.len() > MAX_BODY
        {
            return false;
        }
        let mut touched = BTreeSet::new();
        change.ops.iter().all(|op| {
            let stands = match self.regs.winner(&op.key) {
                _ if mutated!(FastWithoutPred) => op.put.is_some(),
                Some((winner, _)) => op.pred == [*winner],
                None => op.pred.is_empty() && op.put.is_some(),
            };
            stands && touched.insert(op.key.as_str())
        })
    }

    fn append(&mut self, change: &CheckedChange) {
        self.body.extend_from_slice(&change.bytes);
        self.changes += 1;
        self.actors.insert(
            change.actor,
            ActorSeq {
                seq: change.seq,
                max_op: change.max_op(),
            },
        );
    }

    /// The edits that have an effect here, one for each key.
    fn effective(&self, edits: &[Edit]) -> Result<Vec<Edit>, AuthorError> {
        let mut out: Vec<Edit> = Vec::with_capacity(edits.len());
        for edit in edits {
            if edit.key.len() > MAX_KEY || edit.put.as_ref().is_some_and(|v| v.size() > MAX_VALUE) {
                return Err(AuthorError::Value {
                    key: edit.key.clone(),
                });
            }
            let visible = self.regs.all(&edit.key);
            let pred = edit
                .pred
                .iter()
                .filter(|id| visible.iter().any(|(v, _)| v == *id))
                .copied();
            match out.iter_mut().find(|e| e.key == edit.key) {
                Some(e) if e.put.is_some() && edit.put.is_some() => {
                    return Err(AuthorError::Twice {
                        key: edit.key.clone(),
                    });
                }
                Some(e) => {
                    e.pred.extend(pred);
                    e.put = e.put.take().or_else(|| edit.put.clone());
                }
                None => out.push(Edit {
                    key: edit.key.clone(),
                    put: edit.put.clone(),
                    pred: pred.collect(),
                }),
            }
        }
        out.retain(|e| e.put.is_some() || !e.pred.is_empty());
        for edit in &mut out {
            edit.pred.sort_unstable();
            edit.pred.dedup();
        }
        Ok(out)
    }
}

/// Applies the changes of a body, and one more, to an empty automerge document.
///
/// Never `Automerge::load`: that would take documents and bundles too, and is slower for few changes.
fn replay(body: &[u8], more: Option<&CheckedChange>) -> Result<Automerge, ApplyError> {
    let mut chunks = guard::split(body).map_err(ApplyError::Body)?;
    chunks.extend(more.map(CheckedChange::bytes));
    let changes: Vec<Change> = chunks
        .into_iter()
        .map(|chunk| Change::try_from(chunk).map_err(|_| ApplyError::Refused))
        .collect::<Result<_, _>>()?;
    let mut doc = Automerge::new();
    doc.apply_changes(changes)
        .map_err(|_| ApplyError::Refused)?;
    Ok(doc)
}

fn read(doc: &Automerge) -> Result<(Vec<ChangeHash>, Registers), ApplyError> {
    let mut heads: Vec<ChangeHash> = doc
        .get_heads()
        .into_iter()
        .map(|h| ChangeHash(h.0))
        .collect();
    heads.sort_unstable();
    let mut regs = Registers::default();
    for key in doc.keys(automerge::ROOT) {
        let mut values = Vec::new();
        for (value, id) in doc
            .get_all(automerge::ROOT, key.as_str())
            .map_err(|_| ApplyError::Refused)?
        {
            let (Value::Scalar(scalar), automerge::ObjId::Id(counter, actor, _)) = (value, id)
            else {
                return Err(ApplyError::Refused);
            };
            let actor = Incarnation::try_from(actor.to_bytes()).map_err(|_| ApplyError::Refused)?;
            let scalar = from_automerge(&scalar).ok_or(ApplyError::Refused)?;
            values.push((OpId { counter, actor }, scalar));
        }
        values.sort_unstable_by_key(|(id, _)| *id);
        if !values.is_empty() {
            regs.0.insert(key, values);
        }
    }
    Ok((heads, regs))
}

fn checked_op(op: &legacy::Op, counter: u64, actor: Incarnation) -> Result<ChangeOp, BadChange> {
    let key = match &op.key {
        legacy::Key::Map(key) if key.len() <= MAX_KEY => key.to_string(),
        _ => return Err(BadChange::Malformed("not a key of a map")),
    };
    let put = match &op.action {
        legacy::OpType::Delete => None,
        legacy::OpType::Put(value) => {
            let value =
                from_automerge(value).ok_or(BadChange::Malformed("value of a foreign type"))?;
            if value.size() > MAX_VALUE {
                return Err(BadChange::Malformed("value"));
            }
            Some(value)
        }
        _ => return Err(BadChange::Malformed("neither put nor delete")),
    };
    if op.obj != legacy::ObjectId::Root || op.insert {
        return Err(BadChange::Malformed("not on the root map"));
    }
    let mut pred = Vec::with_capacity(op.pred.len());
    for id in op.pred.iter() {
        let actor = Incarnation::try_from(id.actor().to_bytes())
            .map_err(|_| BadChange::Malformed("predecessor"))?;
        let id = OpId {
            counter: id.counter(),
            actor,
        };
        if pred.last().is_some_and(|last| *last >= id) {
            return Err(BadChange::Malformed("predecessors repeat"));
        }
        pred.push(id);
    }
    if put.is_none() && pred.is_empty() {
        return Err(BadChange::Malformed("it deletes nothing"));
    }
    Ok(ChangeOp {
        id: OpId { counter, actor },
        key,
        put,
        pred,
    })
}

fn to_actor(actor: &Incarnation) -> ActorId {
    ActorId::from(&actor.as_bytes()[..])
}

fn to_automerge(value: Scalar) -> ScalarValue {
    match value {
        Scalar::Bytes(b) => ScalarValue::Bytes(b),
        Scalar::Int(i) => ScalarValue::Int(i),
        Scalar::Bool(b) => ScalarValue::Boolean(b),
        Scalar::Str(s) => ScalarValue::Str(s.into()),
    }
}

fn from_automerge(value: &ScalarValue) -> Option<Scalar> {
    match value {
        ScalarValue::Bytes(b) => Some(Scalar::Bytes(b.clone())),
        ScalarValue::Int(i) => Some(Scalar::Int(*i)),
        ScalarValue::Boolean(b) => Some(Scalar::Bool(*b)),
        ScalarValue::Str(s) => Some(Scalar::Str(s.to_string())),
        _ => None,
    }
}

/// Runs `f`, turning a panic into nothing. What `f` worked on is thrown away by every caller.
fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}
