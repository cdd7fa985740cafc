//! The pieces of one large content, picked out of everything that arrives on the stream.
//!
//! Danger: bytes of one content given to another. A piece carries its want, and every other thing that arrives goes to
//! the intake.

use super::assemble::{Supply, SupplyError};
use super::block::Block;
use super::fetch::FetchError;
use super::intake::Intake;
use super::talk::Arrival;

/// The pieces of one content, out of everything that arrives.
pub(super) struct Feed<'a> {
    pub(super) want: usize,
    pub(super) base: u64,
    pub(super) piece: Option<(Block, usize)>,
    pub(super) refused: Option<FetchError>,
    pub(super) intake: &'a mut Intake,
}

impl Feed<'_> {
    /// Returns: why the peer refused, if it did.
    pub(super) fn close(self) -> Option<FetchError> {
        if let Some((block, _)) = self.piece {
            self.intake.shared.pool.give(block);
        }
        self.refused
    }

    fn pull(&mut self) -> Result<(), SupplyError> {
        loop {
            match self.intake.wait().ok_or(SupplyError)? {
                Arrival::Piece(want, Ok(block)) if want == self.want => {
                    if !block.is_empty() {
                        self.piece = Some((block, 0));
                        return Ok(());
                    }
                    self.intake.shared.pool.give(block);
                }
                Arrival::Piece(want, Err(status)) if want == self.want => {
                    self.refused = Some(status.into());
                    return Err(SupplyError);
                }
                other => self.intake.take(other),
            }
        }
    }
}

impl Supply for Feed<'_> {
    fn reached(&mut self, offset: u64) {
        self.intake.reach(self.base + offset);
        self.intake.keep_up();
    }

    fn next(&mut self, max: usize) -> Result<&[u8], SupplyError> {
        if let Some((block, _)) = self
            .piece
            .take_if(|(block, used)| *used == block.filled().len())
        {
            self.intake.shared.pool.give(block);
        }
        if self.piece.is_none() {
            self.pull()?;
        }
        let (block, used) = self.piece.as_mut().ok_or(SupplyError)?;
        let from = *used;
        *used = block.filled().len().min(from + max);
        Ok(&block.filled()[from..*used])
    }
}
