//! How fast this device may be, as its user said. What decides who may go on is in `limits`.

use std::sync::Arc;

use ownmesh_crypto::DeviceId;

use super::{Engine, Now};
use crate::command::CommandError;
use crate::db::{DbError, settings};
use crate::limits::{Limits, LimitsNow, Pacer};

/// What the limits hold up.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) pacer: Arc<Pacer>,
    /// When a log goes on.
    pub(super) pump_at: Option<u64>,
    /// Who was last sent a part of which space's log while there was a limit.
    pub(super) last: Option<(DeviceId, i64)>,
    /// When a page of state is given.
    pub(super) state_at: Option<u64>,
}

impl Flow {
    pub(super) fn held_until(&self) -> Option<u64> {
        self.pump_at.into_iter().chain(self.state_at).min()
    }
}

impl Engine {
    /// Takes the limits over from the database. What is there and cannot be read limits nothing.
    pub(super) fn load_limits(&mut self, now: Now) -> Result<(), DbError> {
        if let Some(bytes) = settings::limits(self.db.read())? {
            match serde_json::from_slice(&bytes) {
                Ok(limits) => self.flow.pacer.set(now.mono, limits),
                Err(error) => tracing::warn!(%error, "the limits cannot be read"),
            }
        }
        Ok(())
    }

    /// Who may go on.
    #[must_use]
    pub fn pacer(&self) -> &Arc<Pacer> {
        &self.flow.pacer
    }

    /// The limits, and whether they apply.
    #[must_use]
    pub fn limits(&self, now: Now) -> LimitsNow {
        self.flow.pacer.now(now.mono)
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
        self.flow.pacer.set(now.mono, limits);
        Ok(self.limits(now))
    }
}
