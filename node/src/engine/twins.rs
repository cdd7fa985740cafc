//! One device that runs twice: its home was copied, and both copies are started.
//!
//! Only a third device sees it, for it is the one that both connect to, each pushing the other out. It
//! tells them, so that whoever sits at one of the copies reads it there.

use std::collections::BTreeMap;

use ownmesh_crdt::message::Message;
use ownmesh_crypto::DeviceId;

use super::{Effect, Engine, Now};

/// Devices that were seen to run twice, and until when they are told.
pub(super) type Twins = BTreeMap<DeviceId, u64>;

/// The reason of a [`Message::Bye`] to a device that runs twice.
const TWICE: &str = "twice";
/// How long after it was last seen both are told with each connection, ms.
const TOLD: u64 = 600_000;

impl Engine {
    /// The network saw two copies of a device.
    pub(crate) fn runs_twice(&mut self, now: Now, device: &DeviceId) {
        self.twins.insert(*device, now.mono + TOLD);
        self.tell_twin(now, device);
    }

    /// Tells a device that it runs twice, if it was seen to.
    pub(super) fn tell_twin(&mut self, now: Now, device: &DeviceId) {
        self.twins.retain(|_, until| now.mono < *until);
        if self.twins.contains_key(device) && self.peers.contains_key(device) {
            self.effects.push(Effect::Send {
                device: *device,
                message: Message::Bye {
                    reason: TWICE.into(),
                },
            });
        }
    }

    /// A device said goodbye, or something else in a few words. Returns whether it was about twins.
    pub(super) fn heard_of_twin(&mut self, now: Now, device: &DeviceId, reason: &str) -> bool {
        if reason != TWICE {
            return false;
        }
        let name = self.device_name(device);
        self.trouble(
            "clone",
            format!(
                "{name} sees two copies of this device: its home was copied and both run, pushing each other \
                 out; stop one of them, remove its home and pair it anew"
            ),
            now,
        );
        true
    }
}
