//! How far each log has been received, and whether a batch continues its log.
//!
//! Two nodes compare vectors to find what the other lacks. The danger guarded against is a log that was
//! written twice, by a restored or cloned device: every batch names the hash of the one before it, and
//! a batch that names another one than is known here is a fork, never to be taken silently.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder};
use ownmesh_crypto::ids::{BatchHash, WriterTag};

use crate::batch::BatchHead;
use crate::limits::MAX_LOGS;

/// The last sequence number received without a gap, for each log. Logs of which nothing is known are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector(pub BTreeMap<WriterTag, u64>);

impl Vector {
    /// The last sequence number of a log; 0 if none.
    #[must_use]
    pub fn get(&self, tag: &WriterTag) -> u64 {
        self.0.get(tag).copied().unwrap_or(0)
    }

    /// Raises a log to `seq` if it is lower.
    pub fn raise(&mut self, tag: WriterTag, seq: u64) {
        if seq == 0 {
            return;
        }
        match self.0.entry(tag) {
            Entry::Vacant(e) => drop(e.insert(seq)),
            Entry::Occupied(mut e) => *e.get_mut() = seq.max(*e.get()),
        }
    }

    /// Raises every log to what either vector has.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(tag, seq)| self.raise(*tag, seq));
    }

    /// Whether this vector has everything the other has.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(tag, seq)| self.get(tag) >= seq)
    }

    /// The logs in order of their tags.
    pub fn iter(&self) -> impl Iterator<Item = (&WriterTag, u64)> {
        self.0.iter().map(|(tag, seq)| (tag, *seq))
    }
}

impl<C> Encode<C> for Vector {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2 * self.0.len() as u64)?;
        for (tag, seq) in &self.0 {
            tag.encode(e, ctx)?;
            e.u64(*seq)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Vector {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, DecodeError> {
        let mut vector = Self::default();
        for _ in 0..crate::cbor::list(d, 2, MAX_LOGS)? {
            let tag = WriterTag::decode(d, ctx)?;
            if vector
                .0
                .last_key_value()
                .is_some_and(|(last, _)| *last >= tag)
            {
                return Err(DecodeError::message("logs out of order"));
            }
            vector.0.insert(tag, d.u64()?);
        }
        Ok(vector)
    }
}

/// The rule by which batches continue a log.
#[derive(Clone, Copy, Debug)]
pub struct LogChain;

/// How a batch stands to what is known of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is the next one and names the last one.
    Ok,
    /// Its number is not above the last one. Whether it is the same batch, the caller sees by its stored hash.
    Known,
    /// Batches between are missing.
    Gap {
        /// The last number that is here.
        have: u64,
    },
    /// It is the next one but follows another batch than the one known here: the log was written twice.
    Fork,
}

impl LogChain {
    /// Compares a batch's head with the last batch of its log; 0 and [`BatchHash::ZERO`] before the first.
    #[must_use]
    pub fn check(prev_seq: u64, prev_hash: &BatchHash, head: &BatchHead) -> Next {
        if head.seq <= prev_seq {
            Next::Known
        } else if head.seq - 1 > prev_seq {
            Next::Gap { have: prev_seq }
        } else if head.prev == *prev_hash {
            Next::Ok
        } else {
            Next::Fork
        }
    }
}
