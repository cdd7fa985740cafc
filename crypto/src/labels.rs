//! Every domain label of the project in one table.
//!
//! Each hash, signature and derived key starts with a label, so that bytes made for one purpose mean nothing for another: a
//! signature under a batch can never be shown as one under a statement. No label may be a prefix of another, because labels are
//! followed directly by data; the test below holds both rules. A label, once released, never changes its meaning.

/// A purpose bytes are hashed, signed or derived for. Only this table can make one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(&'static str);

impl Label {
    /// The label's bytes, as they enter the hash.
    pub const fn as_bytes(self) -> &'static [u8] {
        self.0.as_bytes()
    }
}

macro_rules! labels {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        impl Label {
            $(#[doc = $doc] pub const $name: Label = Label(concat!("mesh/v0/", $text));)*
        }
        #[cfg(test)]
        const ALL: &[Label] = &[$(Label::$name),*];
    };
}

labels! {
    // names by plain hash
    HASH_MESH_ID = "hash/mesh-id", "mesh id of a genesis statement";
    HASH_DEVICE_ID = "hash/device-id", "device id of a signing key";
    HASH_BATCH = "hash/batch", "chain hash of a batch";
    HASH_STATEMENT = "hash/statement", "hash of a registry statement";
    HASH_REGISTRY = "hash/registry", "digest over a registry's statement hashes";
    HASH_EVENT = "hash/event", "chain hash of an entry of the operation log";
    HASH_EPOCH_COMMIT = "hash/epoch-commit", "commitment to an epoch key";

    // keys of one device, from its seed
    DEVICE_SALT = "device/salt", "salt of all keys of a device";
    DEVICE_SIGN = "device/sign", "a device's signing key";
    DEVICE_TRANSPORT = "device/transport/0", "a device's transport key, generation 0";
    DEVICE_NOISE = "device/noise", "a device's pairing key";
    DEVICE_SEAL = "device/seal", "a device's key for sealed grants";

    // keys of the master key
    MASTER_ROOT = "master/root", "root signing key";
    MASTER_RECOVERY = "master/recovery", "recovery key for sealed grants";
    SLOT_PHRASE = "slot/phrase", "key of a phrase keyslot";
    SLOT_WRAP = "slot/wrap", "wrapping key and commitment of a keyslot";

    // keys of the mesh secret
    MESH_SPACE_ID = "mesh-secret/space-id", "names to space ids";
    MESH_SPACE_SECRET = "mesh-secret/space-secret", "secret of one space";
    MESH_DISCOVERY = "mesh-secret/discovery", "tags by which devices know each other on a LAN";

    // keys of a space secret
    SPACE_ITEM = "space/item", "derived item ids";
    SPACE_CONFLICT = "space/conflict", "derived ids of conflict copies";
    SPACE_CONTENT = "space/content", "content hashes and chunk ids";
    SPACE_CUT = "space/cut", "cut points of the chunker";
    SPACE_WRITER = "space/writer", "writer tags";
    SPACE_FINGERPRINT = "space/fingerprint", "fingerprints for anti-entropy";

    // sealing
    SEAL_OBJECT = "seal/object", "key and commitment of one sealed object";
    SEAL_GRANT = "seal/grant", "an epoch key sealed to one device or to the recovery key";

    // signatures
    SIGN_STATEMENT = "sign/statement", "signature of a registry statement";
    SIGN_CARD = "sign/card", "a device's signature under its own public keys";
    SIGN_HELLO = "sign/hello", "proof of the signing key on one connection";
    SIGN_BATCH = "sign/batch", "signature of a batch";
    SIGN_STATE = "sign/state-transfer", "signature of a state transfer";
    SIGN_STATUS = "sign/status", "signature of a device's status";
    SIGN_JOIN = "sign/pair-join", "joiner's signing key under its request";
    SIGN_JOIN_TRANSPORT = "sign/pair-transport", "joiner's transport key under its request";
    SIGN_ENROLLED = "sign/pair-enrolled", "joiner's receipt for its enrolment";

    // pairing
    PAIR_SALT = "pair/salt", "salt of the pairing's shared key";
    PAIR_PSK_TICKET = "pair/psk-ticket", "shared key out of a ticket";
    PAIR_PSK_CODE = "pair/psk-code", "shared key out of a code";
    PAIR_CODE = "pair/code", "context of the PAKE under a code";
    PAIR_PROLOGUE = "pair/prologue", "prologue of the pairing handshake";
    PAIR_COMMIT = "pair/commit", "joiner's commitment to its nonce";
    PAIR_WORDS = "pair/words", "check words";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_a_prefix_of_another() {
        for (i, a) in ALL.iter().enumerate() {
            for b in &ALL[i + 1..] {
                assert!(
                    !a.0.starts_with(b.0) && !b.0.starts_with(a.0),
                    "{a:?} {b:?}"
                );
            }
        }
    }

    #[test]
    fn no_label_can_be_taken_for_foreign_bytes() {
        // libp2p signs with the transport key under its own prefix.
        for label in ALL {
            assert!(
                label.0.starts_with("mesh/v0/") && label.0.is_ascii(),
                "{label:?}"
            );
        }
    }
}
