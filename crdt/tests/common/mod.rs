//! What the tests of this crate share: a seeded generator, names, worlds of a few keys.
#![allow(dead_code, reason = "each test file uses its part")]

use ownmesh_crdt::doc::{CheckedChange, Edit, ItemDoc};
use ownmesh_crdt::op::{OpId, Scalar};
use ownmesh_crypto::ids::Incarnation;

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

impl rand::TryRng for Rng {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        dst.fill_with(|| self.next() as u8);
        Ok(())
    }
}

impl rand::TryCryptoRng for Rng {}

pub(crate) fn actor(n: u8) -> Incarnation {
    Incarnation::from_bytes([n; 8])
}

pub(crate) fn put(key: &str, value: i64, pred: &[OpId]) -> Edit {
    Edit {
        key: key.into(),
        put: Some(Scalar::Int(value)),
        pred: pred.to_vec(),
    }
}

pub(crate) fn del(key: &str, pred: &[OpId]) -> Edit {
    Edit {
        key: key.into(),
        put: None,
        pred: pred.to_vec(),
    }
}

/// Authors, checks and applies; hands out the change.
pub(crate) fn commit(doc: &mut ItemDoc, by: &Incarnation, edits: &[Edit]) -> CheckedChange {
    let authored = doc.commit(by, edits).unwrap().expect("an effect");
    CheckedChange::check(&authored.bytes).unwrap()
}

/// The visible values of a key as numbers.
pub(crate) fn ints(doc: &ItemDoc, key: &str) -> Vec<i64> {
    let int = |s: &Scalar| if let Scalar::Int(i) = s { *i } else { i64::MIN };
    doc.regs.all(key).iter().map(|(_, s)| int(s)).collect()
}

/// Keeps automerge's panics, which are expected and caught, out of the output.
pub(crate) fn silence_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let theirs = |l: &std::panic::Location<'_>| !l.file().contains("crdt");
            if !info.location().is_some_and(theirs) {
                print(info);
            }
        }));
    });
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares with the file of this name in tests/snapshots; `UPDATE_SNAPSHOTS=1` writes it anew.
///
/// A difference means that the format changed: what others wrote would no longer be read.
pub(crate) fn snapshot(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/snapshots")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, stored, "the bytes of {name} changed");
}
