//! Names: a newtype for every kind of identifier, so that no two kinds can be confused.
//!
//! Confusing identifiers of different kinds has broken otherwise sound protocols; here the compiler refuses it. In a message an id
//! is a CBOR byte string of exactly its length; shown to people it is lower-case hex.

use data_encoding::HEXLOWER_PERMISSIVE;
use rand::CryptoRng;

use crate::hash::hash;
use crate::labels::Label;

/// Says why text or bytes are not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The input has another length.
    #[error("{name} has {want} bytes, not {got}")]
    Length {
        /// Which kind of identifier was read.
        name: &'static str,
        /// Its length in bytes.
        want: usize,
        /// The length found.
        got: usize,
    },
    /// The text is not hexadecimal.
    #[error("{name} is not written in hexadecimal")]
    NotHex {
        /// Which kind of identifier was read.
        name: &'static str,
    },
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps bytes which are known to be one.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Draws one at random.
            pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
                let mut bytes = [0; $len];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let name = stringify!($name);
                if text.len() != 2 * $len {
                    return Err(IdError::Length { name, want: $len, got: text.len() / 2 });
                }
                let mut bytes = [0; $len];
                match HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes) {
                    Ok(_) => Ok(Self(bytes)),
                    Err(_) => Err(IdError::NotHex { name }),
                }
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length {
                    name: stringify!($name),
                    want: $len,
                    got: bytes.len(),
                })
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                let position = d.position();
                Self::try_from(d.bytes()?)
                    .map_err(|e| minicbor::decode::Error::custom(e).at(position))
            }
        }

        impl<C> minicbor::CborLen<C> for $name {
            fn cbor_len(&self, ctx: &mut C) -> usize {
                minicbor::bytes::cbor_len(&self.0[..], ctx)
            }
        }

        #[cfg(test)]
        impl proptest::arbitrary::Arbitrary for $name {
            type Parameters = ();
            type Strategy = proptest::strategy::Map<
                <[u8; $len] as proptest::arbitrary::Arbitrary>::Strategy,
                fn([u8; $len]) -> Self,
            >;

            fn arbitrary_with((): ()) -> Self::Strategy {
                proptest::strategy::Strategy::prop_map(
                    proptest::arbitrary::any::<[u8; $len]>(),
                    Self::from_bytes as fn([u8; $len]) -> Self,
                )
            }
        }
    )*};
}

ids! {
    /// A device: the hash of its signing key ([`DevicePublic::device_id`](crate::DevicePublic::device_id)).
    DeviceId, 16;
    /// A mesh: the hash of its genesis statement, so it certifies itself.
    MeshId, 16;
    /// A space: keyed hash of its name under the mesh secret.
    SpaceId, 16;
    /// A file, directory, symlink or record of a space.
    ItemId, 16;
    /// One life of a device's log: new after a restore, a clone or a rollback.
    Incarnation, 8;
    /// An epoch key or group key. Random; says nothing about the key.
    KeyId, 16;
    /// The log of one device incarnation in one space, as relay and bucket see it.
    WriterTag, 16;
    /// Keyed hash of a whole content's bytes.
    ContentHash, 32;
    /// Keyed hash of a chunk's bytes, under the same key as [`ContentHash`].
    ChunkId, 32;
    /// Hash of a batch's exact bytes; the link of a log's chain.
    BatchHash, 32;
    /// Hash of a registry statement's exact bytes.
    StatementHash, 32;
}

impl ItemId {
    /// The root directory of every space.
    pub const ROOT: Self = Self([0; 16]);
}

impl BatchHash {
    /// What the first batch of a log names as its predecessor.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a batch's exact bytes.
    pub fn of(batch: &[u8]) -> Self {
        Self(hash(Label::HASH_BATCH, &[batch]))
    }
}

impl StatementHash {
    /// The hash of a statement's exact bytes, signature included.
    pub fn of(statement: &[u8]) -> Self {
        Self(hash(Label::HASH_STATEMENT, &[statement]))
    }
}

/// One chunk which is the whole content has the same bytes as its content hash.
impl From<ContentHash> for ChunkId {
    fn from(hash: ContentHash) -> Self {
        Self(hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hex_and_lengths() {
        let id: DeviceId = "000102030405060708090A0b0c0d0e0f".parse().unwrap();
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(
            format!("{id:?}"),
            "DeviceId(000102030405060708090a0b0c0d0e0f)"
        );
        assert!(matches!(
            "00".parse::<DeviceId>(),
            Err(IdError::Length { got: 1, .. })
        ));
        assert!(matches!(
            "zz".repeat(16).parse::<DeviceId>(),
            Err(IdError::NotHex { .. })
        ));
        assert!(DeviceId::try_from(&[0u8; 15][..]).is_err());
    }

    #[test]
    fn cbor_checks_the_length() {
        let bytes = minicbor::to_vec(KeyId::from_bytes([7; 16])).unwrap();
        assert_eq!(bytes.len(), 17);
        assert!(minicbor::decode::<KeyId>(&bytes).is_ok());
        assert!(minicbor::decode::<ChunkId>(&bytes).is_err());
        assert!(
            minicbor::decode::<KeyId>(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn text_and_cbor_round_trip(id: WriterTag) {
            prop_assert_eq!(id.to_string().parse::<WriterTag>().unwrap(), id);
            prop_assert_eq!(minicbor::decode::<WriterTag>(&minicbor::to_vec(id).unwrap()).unwrap(), id);
        }
    }
}
