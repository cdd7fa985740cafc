//! A document's past: which changes there are, and whether a new one tells the truth about what it builds on.
//!
//! automerge takes a change at its word. Given a predecessor of another key, or one its writer cannot have
//! had, it decides now so and now otherwise, depending on the order of arrival, and devices drift apart.
//! So a change is let in only if its own past bears it out, which is the same past on every device.

use std::collections::HashMap;

use crate::doc::{ActorSeq, ChangeHash, CheckedChange};
use crate::fault::ApplyError;
use crate::guard::{self, BadChange, ChangeHead};
use crate::op::OpId;

/// The headers of all changes of a document.
pub(crate) struct History<'a> {
    pub(crate) heads: Vec<ChangeHead<'a>>,
    pub(crate) position: HashMap<ChangeHash, usize>,
}

impl<'a> History<'a> {
    /// Reads a body; each change has to stand behind what it builds on.
    pub(crate) fn of(body: &'a [u8]) -> Result<Self, BadChange> {
        let mut heads = Vec::new();
        let mut position = HashMap::new();
        for chunk in guard::split(body)? {
            let head = guard::prescan(chunk)?;
            if !head
                .deps
                .iter()
                .all(|d| position.contains_key(&ChangeHash(*d)))
            {
                return Err(BadChange::Malformed("it stands before what it builds on"));
            }
            position.insert(ChangeHash(head.hash), heads.len());
            heads.push(head);
        }
        Ok(Self { heads, position })
    }

    /// Whether the change is among them.
    pub(crate) fn contains(&self, hash: &ChangeHash) -> bool {
        self.position.contains_key(hash)
    }

    /// Judges a change whose dependencies are all here by its own past, so that every device judges it alike.
    pub(crate) fn admit(
        &self,
        change: &CheckedChange,
        stored: Option<&ActorSeq>,
    ) -> Result<(), ApplyError> {
        if stored.is_some_and(|s| s.seq >= change.seq()) {
            return Err(ApplyError::DuplicateSeq { seq: change.seq() });
        }
        let past = self.past(change.deps());
        let own = past
            .iter()
            .filter(|h| h.actor == *change.actor().as_bytes());
        let have = own.map(|h| h.seq).max().unwrap_or(0);
        if change.seq() != have + 1 {
            return Err(ApplyError::SeqGap {
                have,
                got: change.seq(),
            });
        }
        if past.iter().map(|h| h.max_op()).max().unwrap_or(0) + 1 != change.start_op() {
            return Err(ApplyError::Clock);
        }
        // automerge judges a predecessor of another key, or none at all, now so, now otherwise.
        let seen = |id: &OpId, key: &str| {
            past.iter()
                .any(|h| h.actor == *id.actor.as_bytes() && h.puts(id.counter, key))
        };
        if change
            .ops()
            .iter()
            .all(|op| op.pred.iter().all(|id| seen(id, &op.key)))
        {
            Ok(())
        } else {
            Err(ApplyError::Unseen)
        }
    }

    /// The changes `deps` build on, themselves included.
    fn past(&self, deps: &[ChangeHash]) -> Vec<&ChangeHead<'a>> {
        let mut past = Vec::new();
        let mut visited = vec![false; self.heads.len()];
        let mut queue: Vec<ChangeHash> = deps.to_vec();
        while let Some(hash) = queue.pop() {
            let Some(&i) = self.position.get(&hash) else {
                continue;
            };
            if !std::mem::replace(&mut visited[i], true) {
                queue.extend(self.heads[i].deps.iter().copied().map(ChangeHash));
                past.push(&self.heads[i]);
            }
        }
        past
    }
}
