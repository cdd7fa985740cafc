//! Which devices have confirmed the newest version of an item.
//!
//! Read from the logs themselves, as far back as they are held and not further than a person waits for an answer.

use ownmesh_crdt::batch::open_batch;
use ownmesh_crypto::{DeviceId, ItemId, KeyId};

use super::wait::lacks;
use super::{Engine, Space};
use crate::db::{DbError, logs, spaces};
use crate::status::Time;
use crate::why::WhyDevice;

/// Bytes of batches that are opened for one answer.
const READ: usize = 32 << 20;

impl Engine {
    /// How far the other devices are with an item.
    pub(super) fn how_far(&self, space: &Space, id: &ItemId) -> Result<Vec<WhyDevice>, DbError> {
        let (conn, n) = (self.db.read(), space.row.n);
        let queued = logs::queued(conn, n, id)?;
        let logs = logs::all(conn, n)?;
        let mut out = Vec::new();
        for member in spaces::members(conn, n)? {
            if !member.joined || member.device == self.device {
                continue;
            }
            let acks = logs::acks(conn, n, &member.device)?;
            let mut read = READ;
            let mut confirmed = Some(!queued);
            for log in &logs {
                let have = acks.get(&log.tag);
                if have < log.seq && confirmed == Some(true) {
                    confirmed = self
                        .names(space, log, have, id, &mut read)?
                        .map(|named| !named);
                }
            }
            let device = self.device_name(&member.device);
            let connected = self.peers.contains_key(&member.device);
            let held_up = self.held_up(space, &member.device);
            let unwanted = self.keeps_out(space, &member.device);
            let words = match confirmed {
                _ if self.blocked.contains(&member.device) => format!("{device} is blocked here"),
                Some(true) if member.missing == 0 => {
                    format!("{device} has confirmed the newest version")
                }
                _ if held_up.is_some() => held_up.unwrap_or_default(),
                Some(true) if unwanted > 0 => {
                    let (out, left) = lacks(unwanted, member.missing);
                    format!(
                        "{device} knows the newest version, but {out}{left}, which it may be among"
                    )
                }
                None => format!(
                    "whether {device} has the newest version cannot be said: too much of the log waits"
                ),
                Some(false) => format!("{device} has not confirmed the newest version"),
                Some(true) => format!(
                    "{device} knows the newest version, but still lacks the content of {} item{}, which it may be among",
                    member.missing,
                    if member.missing == 1 { "" } else { "s" }
                ),
            };
            let away = if connected { "" } else { "; it is away" };
            out.push(WhyDevice {
                device,
                connected,
                confirmed,
                heard: Some(Time::from_millis(member.heard)),
                words: format!("{words}{away}"),
            });
        }
        Ok(out)
    }

    /// Whether the batches of a log behind a number change an item; nothing if that is too much to read.
    fn names(
        &self,
        space: &Space,
        log: &logs::LogRow,
        after: u64,
        id: &ItemId,
        read: &mut usize,
    ) -> Result<Option<bool>, DbError> {
        let space_id = space.row.id;
        let key = |k: &KeyId| self.key(&space_id, k);
        let view = self.registry.view();
        let signer = |d: &DeviceId| view.devices.get(d).map(|e| e.public.sign);
        let mut at = after;
        if at + 1 < log.low {
            return Ok(None);
        }
        while at < log.seq {
            let batches = logs::batches_after(self.db.read(), log.n, at, 1 << 20)?;
            if batches.is_empty() {
                break;
            }
            for (seq, bytes) in batches {
                let Some(left) = read.checked_sub(bytes.len()) else {
                    return Ok(None);
                };
                (*read, at) = (left, seq);
                match open_batch(&bytes, &key, &signer, &space.secret, &space_id) {
                    Ok((_, _, body)) if body.changes.iter().any(|(item, _)| item == id) => {
                        return Ok(Some(true));
                    }
                    Ok(_) => {}
                    Err(_) => return Ok(None),
                }
            }
        }
        Ok(Some(false))
    }
}
