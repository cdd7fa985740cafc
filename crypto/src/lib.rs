//! Keys, names, sealing and pairing of mesh.
//!
//! Pure: no clock, no files, no sockets, no threads. Randomness is an argument, time is the caller's, and every function here gives
//! the same answer for the same input on every device.
//!
//! | key | primitive | from | used for |
//! |---|---|---|---|
//! | [`DeviceKeys`] sign | Ed25519 | device seed | statements, batches, [`hello`] |
//! | ... transport | Ed25519 | device seed | libp2p identity |
//! | ... noise | X25519 | device seed | static key in [`pairing`] |
//! | ... seal | X25519, HPKE | device seed | receives epoch keys |
//! | [`MasterKey`] | random | a [`Keyslot`] | derives the next two |
//! | [`RootKeys`] root | Ed25519 | master key | admits devices, delegates admission |
//! | ... recovery | X25519, HPKE | master key | receives epoch keys |
//! | [`MeshSecret`] | random | pairing | space ids and secrets, LAN discovery |
//! | [`SpaceSecret`] | HKDF, keyed BLAKE3 | mesh secret | item ids, content hashes, chunk ids, writer tags |
//! | [`EpochKey`] | ChaCha20-Poly1305 | random, granted by HPKE | [`sealed`] objects |
//! | phrase, password | HKDF, Argon2id, XChaCha20-Poly1305 | the user | open keyslots |
//!
//! Modules, in the order data meets them: [`labels`] (every domain label), [`ids`], [`keys`] (a device), [`space`] (secrets that
//! name and seal), [`sealed`] (objects), [`master`], [`phrase`], [`keyslot`] (the user's own secrets), [`registry`] (who belongs,
//! signed), [`pairing`] (how a device comes in), [`hello`] (how it proves itself on each connection). `docs/format/keys.md` gives
//! every format byte by byte.
//!
//! What this crate does not do: own primitives; removal of devices and rotation of the master key (format version 0 has no
//! statement for them yet); forward secrecy of sealed objects (a new device must read old ones); hiding anything from whoever
//! controls a running device. The pairing library keeps keys in memory it does not wipe; run pairing in a short-lived task.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod grant;
mod hash;
pub mod hello;
pub mod ids;
pub mod keys;
pub mod keyslot;
pub mod labels;
pub mod master;
pub mod pairing;
pub mod phrase;
pub mod registry;
pub mod sealed;
mod secret;
pub mod space;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use grant::{BadRecipient, SealedKey};
pub use hash::hash;
pub use ids::{
    BatchHash, ChunkId, ContentHash, DeviceId, IdError, Incarnation, ItemId, KeyId, MeshId,
    SpaceId, StatementHash, WriterTag,
};
pub use keys::{BadSignature, DeviceCard, DeviceKeys, DevicePublic, DeviceSeed, verify};
pub use keyslot::{Keyslot, KeyslotError, KeyslotFor, KeyslotKind, WeakPassword, check_password};
pub use labels::Label;
pub use master::{MasterKey, RootKeys};
pub use phrase::{Phrase, PhraseError};
pub use registry::{Registry, Statement, View};
pub use sealed::{ObjectKind, OpenError, open, seal};
pub use secret::Secret;
pub use space::{ContentHasher, EpochKey, MeshSecret, SpaceSecret};
