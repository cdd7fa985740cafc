//! How fast this device may be, as its user said. What decides who may go on is in `limits`.

use std::sync::Arc;

use super::{Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, settings};
use crate::limits::{Limits, LimitsNow, Pacer};

impl Engine {
    /// Takes the limits over from the database. What is there and cannot be read limits nothing.
    pub(super) fn load_limits(&mut self, now: Now) -> Result<(), DbError> {
        if let Some(bytes) = settings::limits(self.db.read())? {
            match serde_json::from_slice(&bytes) {
                Ok(limits) => self.pacer.set(now.mono, limits),
                Err(error) => tracing::warn!(%error, "the limits cannot be read"),
            }
        }
        Ok(())
    }

    /// Who may go on.
    #[must_use]
    pub fn pacer(&self) -> &Arc<Pacer> {
        &self.pacer
    }

    /// The limits, and whether they apply.
    #[must_use]
    pub fn limits(&self, now: Now) -> LimitsNow {
        self.pacer.now(now.mono)
    }

    /// Puts other limits in place of all there were.
    ///
    /// # Errors
    /// What cannot be kept; the database failed.
    pub fn set_limits(&mut self, limits: Limits, now: Now) -> Result<LimitsNow, CommandError> {
        limits.check().map_err(|why| {
            CommandError::usage(why).hint("mesh limit --up 2M --down 500K --schedule 08:00-18:00")
        })?;
        let bytes = serde_json::to_vec(&limits).map_err(|e| CommandError::failed(e.to_string()))?;
        self.db
            .write_durable(|tx| settings::put_limits(tx, &bytes))
            .map_err(|e: DbError| CommandError::failed(e.to_string()))?;
        self.pacer.set(now.mono, limits);
        Ok(self.limits(now))
    }
}
