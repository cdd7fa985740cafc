//! Operation ids and registers: what is visible of a document, without the document.
//!
//! A database row keeps an item's registers encoded by this file, so that reading an item never opens
//! an automerge document. The danger guarded against is a second truth: the order of [`OpId`] is
//! exactly automerge's order of winners, and every register keeps **all** visible values, because a
//! value dropped here is a conflict nobody will ever see.

use std::collections::BTreeMap;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use ownmesh_crypto::ids::Incarnation;

use crate::limits::{MAX_KEY, MAX_VALUE};

/// Names one operation: the counter it was given and the incarnation that wrote it.
///
/// The derived order, counter first and actor bytes second, is the order in which automerge picks the winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// Lamport counter, starting at 1 within each document.
    pub counter: u64,
    /// The incarnation that wrote the operation.
    pub actor: Incarnation,
}

/// The value of a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// Bytes, as most registers of an item.
    Bytes(Vec<u8>),
    /// A signed number.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// Text that is replaced as a whole.
    Str(String),
}

impl Scalar {
    /// Bytes the value itself takes, for the limit on values.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Bytes(b) => b.len(),
            Self::Str(s) => s.len(),
            Self::Int(_) | Self::Bool(_) => 8,
        }
    }
}

/// All visible values of each key of a document, ascending by operation id, the winner last.
///
/// A key without visible values is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(pub BTreeMap<String, Vec<(OpId, Scalar)>>);

impl Registers {
    /// The visible values of `key`, the winner last; empty if there are none.
    #[must_use]
    pub fn all(&self, key: &str) -> &[(OpId, Scalar)] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The winning value of `key`.
    #[must_use]
    pub fn winner(&self, key: &str) -> Option<&(OpId, Scalar)> {
        self.0.get(key).and_then(|values| values.last())
    }

    /// The ids of all visible values of `key`, ascending.
    #[must_use]
    pub fn ops(&self, key: &str) -> Vec<OpId> {
        self.all(key).iter().map(|(id, _)| *id).collect()
    }

    /// Whether some key has more than one visible value.
    #[must_use]
    pub fn has_conflict(&self) -> bool {
        self.0.values().any(|values| values.len() > 1)
    }

    /// Encodes the registers for a database column; see docs/format/log.md.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut actors: Vec<Incarnation> =
            self.0.values().flatten().map(|(id, _)| id.actor).collect();
        actors.sort_unstable();
        actors.dedup();
        let table: Vec<u8> = actors.iter().flat_map(|a| *a.as_bytes()).collect();
        let mut out = Vec::with_capacity(128);
        let mut e = Encoder::new(&mut out);
        // Writing into a Vec cannot fail; the results are gathered so that none is ignored silently.
        let written = (|| {
            e.bytes(&table)?.map(self.0.len() as u64)?;
            for (key, values) in &self.0 {
                e.str(key)?.array(3 * values.len() as u64)?;
                for (id, value) in values {
                    let index = actors.binary_search(&id.actor).unwrap_or(0);
                    e.u64(index as u64)?.u64(id.counter)?;
                    encode_scalar(&mut e, value)?;
                }
            }
            Ok::<_, minicbor::encode::Error<std::convert::Infallible>>(())
        })();
        debug_assert!(written.is_ok());
        out
    }

    /// Reads what [`Registers::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are no registers, are not in order, or exceed the limits on keys and values.
    pub fn decode(bytes: &[u8]) -> Result<Self, RegistersError> {
        let mut d = Decoder::new(bytes);
        let table = d.bytes()?;
        if table.len() % 8 != 0 {
            return Err(RegistersError::Malformed);
        }
        let actors: Vec<Incarnation> = table
            .chunks_exact(8)
            .map(|a| Incarnation::try_from(a).map_err(|_| RegistersError::Malformed))
            .collect::<Result<_, _>>()?;
        let mut registers = Self::default();
        let keys = d.map()?.ok_or(RegistersError::Malformed)?;
        for _ in 0..keys {
            let key = d.str()?;
            if key.len() > MAX_KEY
                || registers
                    .0
                    .last_key_value()
                    .is_some_and(|(last, _)| last.as_str() >= key)
            {
                return Err(RegistersError::Malformed);
            }
            let key = key.to_owned();
            let fields = d.array()?.ok_or(RegistersError::Malformed)?;
            if fields == 0 || fields % 3 != 0 {
                return Err(RegistersError::Malformed);
            }
            let mut values: Vec<(OpId, Scalar)> = Vec::new();
            for _ in 0..fields / 3 {
                let index = usize::try_from(d.u64()?).map_err(|_| RegistersError::Malformed)?;
                let actor = *actors.get(index).ok_or(RegistersError::Malformed)?;
                let id = OpId {
                    counter: d.u64()?,
                    actor,
                };
                if values.last().is_some_and(|(last, _)| *last >= id) {
                    return Err(RegistersError::Malformed);
                }
                values.push((id, decode_scalar(&mut d)?));
            }
            registers.0.insert(key, values);
        }
        if d.position() != bytes.len() {
            return Err(RegistersError::Malformed);
        }
        Ok(registers)
    }
}

fn encode_scalar<W: minicbor::encode::Write>(
    e: &mut Encoder<W>,
    value: &Scalar,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    match value {
        Scalar::Bytes(b) => e.bytes(b)?,
        Scalar::Int(i) => e.i64(*i)?,
        Scalar::Bool(b) => e.bool(*b)?,
        Scalar::Str(s) => e.str(s)?,
    };
    Ok(())
}

fn decode_scalar(d: &mut Decoder<'_>) -> Result<Scalar, RegistersError> {
    let value = match d.datatype()? {
        Type::Bytes => Scalar::Bytes(d.bytes()?.to_vec()),
        Type::Bool => Scalar::Bool(d.bool()?),
        Type::String => Scalar::Str(d.str()?.to_owned()),
        _ => Scalar::Int(d.i64()?),
    };
    if value.size() > MAX_VALUE {
        Err(RegistersError::Malformed)
    } else {
        Ok(value)
    }
}

/// Why a registers column could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistersError {
    /// Not CBOR of the expected types.
    #[error("registers are not readable")]
    Decode(#[from] minicbor::decode::Error),
    /// CBOR, but out of order, beyond a limit or with an index that names nothing.
    #[error("registers are malformed")]
    Malformed,
}
