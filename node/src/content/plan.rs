//! Where each chunk of a large file comes from; pure.
//!
//! The fewest bytes over the network that the chunk list allows: what an own file or an earlier try holds is taken from
//! there, the rest is asked for in as few ranges as possible. Whether a local source keeps its promise is seen when it
//! is read (`assemble`); here nothing is opened.

use ownmesh_crypto::ContentHash;

use super::wire::MAX_PART;
use crate::disk::hash::Chunk;
use crate::disk::{RelPath, Stat};

/// Where a chunk comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The network.
    Net,
    /// The same offset of what an earlier try left behind.
    Part,
    /// The same offset of the staged file: an earlier pass wrote it.
    Staged,
    /// A file of our own.
    Local {
        /// Which.
        path: RelPath,
        /// Where in it.
        offset: u64,
        /// What the file looked like when it was hashed.
        stat: Stat,
    },
}

/// One chunk of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The chunk.
    pub chunk: Chunk,
    /// Where it lies in the file.
    pub offset: u64,
    /// Where it comes from.
    pub from: From,
}

/// How a file is put together, in the order of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What must come out.
    pub hash: ContentHash,
    /// Its length.
    pub size: u64,
    /// The chunks.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Plans a file with the given list; `find` knows which chunks are at hand.
    pub fn new(
        hash: ContentHash,
        list: &[Chunk],
        mut find: impl FnMut(&Chunk, u64) -> From,
    ) -> Self {
        let mut size = 0;
        let steps = list
            .iter()
            .map(|chunk| {
                let offset = size;
                size += u64::from(chunk.len);
                Step {
                    chunk: *chunk,
                    offset,
                    from: find(chunk, offset),
                }
            })
            .collect();
        Self { hash, size, steps }
    }

    /// The ranges to ask for, in order: adjoining chunks together, up to [`MAX_PART`] bytes.
    pub fn ranges(&self) -> Vec<(u64, u32)> {
        let mut ranges: Vec<(u64, u32)> = Vec::new();
        for step in self.steps.iter().filter(|step| step.from == From::Net) {
            match ranges.last_mut() {
                Some((offset, len))
                    if *offset + u64::from(*len) == step.offset
                        && len
                            .checked_add(step.chunk.len)
                            .is_some_and(|sum| sum <= MAX_PART) =>
                {
                    *len += step.chunk.len;
                }
                _ => ranges.push((step.offset, step.chunk.len)),
            }
        }
        ranges
    }

    /// The plan of a second pass: the chunks numbered in `holes` from the network, the others as they are.
    pub fn again(&self, holes: &[usize]) -> Self {
        let mut next = self.clone();
        for step in &mut next.steps {
            step.from = From::Staged;
        }
        for &hole in holes {
            if let Some(step) = next.steps.get_mut(hole) {
                step.from = From::Net;
            }
        }
        next
    }

    /// The chunk list.
    pub fn list(&self) -> Vec<Chunk> {
        self.steps.iter().map(|step| step.chunk).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::ChunkId;

    fn list(lens: &[u32]) -> Vec<Chunk> {
        let chunk = |(n, len): (usize, &u32)| Chunk {
            id: ChunkId::from_bytes([n as u8; 32]),
            len: *len,
        };
        lens.iter().enumerate().map(chunk).collect()
    }

    #[test]
    fn adjoining_chunks_are_asked_for_together_up_to_the_limit() {
        let mib = 1 << 20;
        let list = list(&[mib; 12]);
        let here = [3, 4];
        let plan = Plan::new(ContentHash::from_bytes([0; 32]), &list, |chunk, _| {
            if here.contains(&chunk.id.as_bytes()[0]) {
                From::Part
            } else {
                From::Net
            }
        });
        assert_eq!(plan.size, 12 * u64::from(mib));
        assert_eq!(plan.ranges(), [(0, 3 * mib), (5 * u64::from(mib), 7 * mib)]);
        let all = Plan::new(plan.hash, &list, |_, _| From::Net);
        assert_eq!(all.ranges(), [(0, 8 * mib), (8 * u64::from(mib), 4 * mib)]);
        assert_eq!(all.list(), list);
    }

    #[test]
    fn a_second_pass_asks_for_the_holes_alone() {
        let list = list(&[10, 20, 30, 40]);
        let plan =
            Plan::new(ContentHash::from_bytes([0; 32]), &list, |_, _| From::Net).again(&[1, 2, 99]);
        assert_eq!(plan.ranges(), [(10, 50)]);
        assert_eq!(plan.steps[3].from, From::Staged);
    }
}
