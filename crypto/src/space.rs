//! Secrets of the mesh and its spaces: what names things, and what seals them.
//!
//! Names must be the same on every device for ever, so they come from a secret that is never rotated: [`MeshSecret`], held by every
//! device, gives each space's [`SpaceSecret`] by derivation, so that two devices which make the same space at once agree without
//! talking. Sealing must stop for removed devices, so it uses random, rotated [`EpochKey`]s. Who holds a space secret but no epoch
//! key can recognise content it already has, and read nothing.

use rand::CryptoRng;

use crate::hash::{derive, hash, keyed16};
use crate::ids::{ChunkId, ContentHash, DeviceId, Incarnation, ItemId, KeyId, SpaceId, WriterTag};
use crate::labels::Label;
use crate::secret::Secret;

/// The secret every device of a mesh holds. Handed over in pairing; never rotated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeshSecret(Secret<32>);

impl MeshSecret {
    /// Draws the secret of a new mesh.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// Takes a stored secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The bytes, for the one place that stores them.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The id of the space of this name: the same on every device.
    pub fn space_id(&self, name: &str) -> SpaceId {
        SpaceId::from_bytes(keyed16(
            &self.key(Label::MESH_SPACE_ID, &[]),
            &[name.as_bytes()],
        ))
    }

    /// The secret of a space: the same on every device.
    pub fn space_secret(&self, space: &SpaceId) -> SpaceSecret {
        SpaceSecret::new(self.key(Label::MESH_SPACE_SECRET, &[space.as_bytes()]))
    }

    /// The key of [`discovery_tag`](Self::discovery_tag).
    pub fn discovery_key(&self) -> [u8; 32] {
        *self.key(Label::MESH_DISCOVERY, &[]).expose()
    }

    /// What a device of this mesh announces beside a fresh `nonce`, so that only devices of the mesh know it for one of theirs.
    pub fn discovery_tag(&self, nonce: &[u8]) -> [u8; 16] {
        keyed16(&self.key(Label::MESH_DISCOVERY, &[]), &[nonce])
    }

    fn key(&self, label: Label, parts: &[&[u8]]) -> Secret<32> {
        derive(&[], self.expose(), label, parts)
    }
}

/// What names the items, contents and logs of one space. Cheap to use: its keys are derived once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceSecret {
    secret: Secret<32>,
    item: Secret<32>,
    conflict: Secret<32>,
    content: Secret<32>,
    writer: Secret<32>,
}

impl SpaceSecret {
    fn new(secret: Secret<32>) -> Self {
        let key = |label| derive(&[], secret.expose(), label, &[]);
        Self {
            item: key(Label::SPACE_ITEM),
            conflict: key(Label::SPACE_CONFLICT),
            content: key(Label::SPACE_CONTENT),
            writer: key(Label::SPACE_WRITER),
            secret,
        }
    }

    /// Takes a stored secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self::new(Secret::new(bytes))
    }

    /// The bytes, for the one place that stores them.
    pub fn expose(&self) -> &[u8; 32] {
        self.secret.expose()
    }

    /// The derived id of the item called `name` in `parent`, as a first scan gives it.
    pub fn item_id(&self, parent: &ItemId, name: &str) -> ItemId {
        ItemId::from_bytes(keyed16(&self.item, &[parent.as_bytes(), name.as_bytes()]))
    }

    /// The derived id of the conflict copy of `item` that holds `content`, written by the operation `(op_counter, op_actor)`.
    pub fn conflict_item(
        &self,
        item: &ItemId,
        content: &ContentHash,
        op_counter: u64,
        op_actor: &Incarnation,
    ) -> ItemId {
        let parts: [&[u8]; 4] = [
            item.as_bytes(),
            content.as_bytes(),
            &op_counter.to_le_bytes(),
            op_actor.as_bytes(),
        ];
        ItemId::from_bytes(keyed16(&self.conflict, &parts))
    }

    /// The hash of a whole content.
    pub fn content_hash(&self, bytes: &[u8]) -> ContentHash {
        let mut hasher = self.content_hasher();
        hasher.update(bytes);
        hasher.finalize()
    }

    /// As [`content_hash`](Self::content_hash), piece by piece.
    pub fn content_hasher(&self) -> ContentHasher {
        ContentHasher(Box::new(blake3::Hasher::new_keyed(self.content.expose())))
    }

    /// The id of a chunk. Same key as [`content_hash`](Self::content_hash): for a content of one chunk both have the same bytes.
    pub fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        self.content_hash(bytes).into()
    }

    /// What the chunker's cut points are drawn from.
    pub fn cut_seed(&self) -> [u8; 32] {
        *derive(&[], self.secret.expose(), Label::SPACE_CUT, &[]).expose()
    }

    /// What fingerprints for anti-entropy are keyed with.
    pub fn fingerprint_key(&self) -> [u8; 32] {
        *derive(&[], self.secret.expose(), Label::SPACE_FINGERPRINT, &[]).expose()
    }

    /// The name of a device incarnation's log for those who must not know the device.
    pub fn writer_tag(&self, device: &DeviceId, incarnation: &Incarnation) -> WriterTag {
        WriterTag::from_bytes(keyed16(
            &self.writer,
            &[device.as_bytes(), incarnation.as_bytes()],
        ))
    }
}

/// Hashes a content piece by piece. Keyed BLAKE3.
#[derive(Clone)]
pub struct ContentHasher(Box<blake3::Hasher>);

impl ContentHasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all pieces in order.
    pub fn finalize(self) -> ContentHash {
        ContentHash::from_bytes(*self.0.finalize().as_bytes())
    }
}

impl std::fmt::Debug for ContentHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentHasher")
    }
}

/// The key a space seals with during one epoch. Random; granted to each member device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochKey {
    /// Its public name.
    pub id: KeyId,
    key: Secret<32>,
}

impl EpochKey {
    /// Draws the key of a new epoch.
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self {
            id: KeyId::random(rng),
            key: Secret::random(rng),
        }
    }

    /// Takes a stored key.
    pub fn from_parts(id: KeyId, key: [u8; 32]) -> Self {
        Self {
            id,
            key: Secret::new(key),
        }
    }

    /// The bytes, for the one place that stores them.
    pub fn expose(&self) -> &[u8; 32] {
        self.key.expose()
    }

    /// `SHA-256(label ‖ id ‖ key)`: published, so that all members provably get the same key.
    pub fn commitment(&self) -> [u8; 32] {
        hash(
            Label::HASH_EPOCH_COMMIT,
            &[self.id.as_bytes(), self.key.expose()],
        )
    }

    pub(crate) fn secret(&self) -> &Secret<32> {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rng;

    #[test]
    fn two_devices_agree_without_talking() {
        let mesh = MeshSecret::random(&mut rng(1));
        let copy = MeshSecret::from_bytes(*mesh.expose());
        assert_eq!(mesh.space_id("docs"), copy.space_id("docs"));
        let (ours, theirs) = (
            mesh.space_secret(&mesh.space_id("docs")),
            copy.space_secret(&copy.space_id("docs")),
        );
        assert_eq!(
            ours.item_id(&ItemId::ROOT, "a.txt"),
            theirs.item_id(&ItemId::ROOT, "a.txt")
        );
        assert_eq!(mesh.discovery_tag(b"nonce"), copy.discovery_tag(b"nonce"));
    }

    #[test]
    fn names_do_not_meet_across_spaces_meshes_or_purposes() {
        let (mesh, other) = (
            MeshSecret::from_bytes([1; 32]),
            MeshSecret::from_bytes([2; 32]),
        );
        assert_ne!(mesh.space_id("docs"), other.space_id("docs"));
        assert_ne!(mesh.space_id("docs"), mesh.space_id("docs2"));
        let docs = mesh.space_secret(&mesh.space_id("docs"));
        let music = mesh.space_secret(&mesh.space_id("music"));
        assert_ne!(docs.content_hash(b"x"), music.content_hash(b"x"));
        assert_ne!(docs.cut_seed(), music.cut_seed());
        assert_ne!(docs.cut_seed(), docs.fingerprint_key());
        assert_ne!(
            docs.item_id(&ItemId::ROOT, "a"),
            docs.item_id(&docs.item_id(&ItemId::ROOT, "a"), "a")
        );
        let (device, life) = (
            DeviceId::from_bytes([3; 16]),
            Incarnation::from_bytes([4; 8]),
        );
        assert_ne!(
            docs.writer_tag(&device, &life),
            music.writer_tag(&device, &life)
        );
        assert_ne!(
            docs.writer_tag(&device, &life),
            docs.writer_tag(&device, &Incarnation::from_bytes([5; 8]))
        );
    }

    #[test]
    fn content_in_pieces_and_as_one_chunk() {
        let docs = SpaceSecret::from_bytes([7; 32]);
        let mut hasher = docs.content_hasher();
        hasher.update(b"he");
        hasher.update(b"llo");
        assert_eq!(hasher.finalize(), docs.content_hash(b"hello"));
        assert_eq!(
            docs.chunk_id(b"hello").as_bytes(),
            docs.content_hash(b"hello").as_bytes()
        );
    }

    #[test]
    fn a_commitment_is_to_key_and_name() {
        let key = EpochKey::random(&mut rng(3));
        assert_eq!(
            key.commitment(),
            EpochKey::from_parts(key.id, *key.expose()).commitment()
        );
        assert_ne!(
            key.commitment(),
            EpochKey::from_parts(key.id, [0; 32]).commitment()
        );
        assert_ne!(
            key.commitment(),
            EpochKey::from_parts(KeyId::from_bytes([0; 16]), *key.expose()).commitment()
        );
    }
}
