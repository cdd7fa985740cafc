//! Batches and pages: round trips, every way to be wrong, and their exact bytes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

mod common;

use common::{Rng, actor, commit, put};
use ownmesh_crdt::batch::{
    BatchBody, BatchError, BatchHead, SealedBatch, open_batch, peek, seal_batch,
};
use ownmesh_crdt::doc::ItemDoc;
use ownmesh_crdt::page::{LogMark, PageBody, PageError, Point, open_page, seal_page};
use ownmesh_crdt::vector::{LogChain, Next};
use ownmesh_crypto::ids::{BatchHash, DeviceId, ItemId, KeyId, SpaceId, WriterTag};
use ownmesh_crypto::keys::{DeviceKeys, DeviceSeed};
use ownmesh_crypto::labels::Label;
use ownmesh_crypto::sealed::{ObjectKind, seal};
use ownmesh_crypto::space::{EpochKey, SpaceSecret};

struct World {
    keys: DeviceKeys,
    other: DeviceKeys,
    epoch: EpochKey,
    secret: SpaceSecret,
    space: SpaceId,
}

fn world() -> World {
    World {
        keys: DeviceKeys::from_seed(&DeviceSeed::from_bytes([1; 32])),
        other: DeviceKeys::from_seed(&DeviceSeed::from_bytes([2; 32])),
        epoch: EpochKey::from_parts(KeyId::from_bytes([0xe0; 16]), [3; 32]),
        secret: SpaceSecret::from_bytes([4; 32]),
        space: SpaceId::from_bytes([0x51; 16]),
    }
}

impl World {
    fn head(&self) -> BatchHead {
        let tag = self.secret.writer_tag(&self.keys.device_id(), &actor(1));
        BatchHead {
            tag,
            seq: 7,
            prev: BatchHash::from_bytes([0xbb; 32]),
            key: self.epoch.id,
        }
    }

    fn body(&self) -> BatchBody {
        let mut doc = ItemDoc::default();
        let change = commit(&mut doc, &actor(1), &[put("k", 0, &[]), put("t", 5, &[])])
            .bytes()
            .to_vec();
        BatchBody {
            space: self.space,
            device: self.keys.device_id(),
            incarnation: actor(1),
            seen: vec![(
                WriterTag::from_bytes([9; 16]),
                3,
                BatchHash::from_bytes([8; 32]),
            )],
            changes: vec![(ItemId::from_bytes([0x17; 16]), change)],
        }
    }

    fn seal(&self, head: &BatchHead, body: &BatchBody) -> Result<SealedBatch, BatchError> {
        seal_batch(head, body, &self.epoch, &self.keys, &mut Rng(42))
    }

    fn open(&self, bytes: &[u8]) -> Result<(BatchHead, BatchHash, BatchBody), BatchError> {
        let keys = |id: &KeyId| (*id == self.epoch.id).then(|| self.epoch.clone());
        open_batch(
            bytes,
            &keys,
            &|id| self.signer(id),
            &self.secret,
            &self.space,
        )
    }

    fn open_page(&self, bytes: &[u8]) -> Result<PageBody, PageError> {
        let keys = |id: &KeyId| (*id == self.epoch.id).then(|| self.epoch.clone());
        open_page(bytes, &keys, &|id| self.signer(id), &self.space)
    }

    fn signer(&self, id: &DeviceId) -> Option<[u8; 32]> {
        [&self.keys, &self.other]
            .iter()
            .find(|k| k.device_id() == *id)
            .map(|k| k.public().sign)
    }

    fn page(&self) -> PageBody {
        let body = self.body();
        let head = self.head();
        let (item, change) = body.changes[0].clone();
        PageBody {
            space: self.space,
            device: body.device,
            begin: Point {
                after: Some(ItemId::ROOT),
                part: 0,
            },
            upto: ItemId::from_bytes([0xff; 16]),
            docs: vec![
                (item, vec![change.clone()]),
                (ItemId::from_bytes([0x18; 16]), vec![change]),
            ],
            last: true,
            logs: vec![LogMark {
                tag: head.tag,
                device: body.device,
                incarnation: actor(1),
                seq: 7,
                hash: BatchHash::from_bytes([8; 32]),
            }],
        }
    }

    /// Seals and signs any plaintext as a batch.
    fn forge(&self, head: &BatchHead, plain: &[u8], by: &DeviceKeys) -> Vec<u8> {
        let mut bytes = self.seal(head, &self.body()).unwrap().bytes[..74].to_vec();
        let sealed = seal(&self.epoch, ObjectKind::Batch, &bytes, plain, &mut Rng(1));
        bytes.extend(sealed);
        let signature = by.sign(Label::SIGN_BATCH, &bytes);
        bytes.extend(signature);
        bytes
    }

    fn plain(&self, packed: &[u8]) -> Vec<u8> {
        [
            &self.keys.device_id().as_bytes()[..],
            actor(1).as_bytes(),
            packed,
        ]
        .concat()
    }
}

#[test]
fn a_batch_round_trips_and_keeps_its_bytes() {
    let w = world();
    let sealed = w.seal(&w.head(), &w.body()).unwrap();
    assert_eq!(peek(&sealed.bytes).unwrap(), (w.head(), sealed.hash));
    assert_eq!(
        w.open(&sealed.bytes).unwrap(),
        (w.head(), sealed.hash, w.body())
    );
    common::snapshot("batch.txt", &(common::hex(&sealed.bytes) + "\n"));
}

#[test]
fn a_page_round_trips_and_keeps_its_bytes() {
    let w = world();
    let bytes = seal_page(&w.page(), &w.epoch, &w.keys, &mut Rng(42)).unwrap();
    assert_eq!(w.open_page(&bytes).unwrap(), w.page());
    common::snapshot("page.txt", &(common::hex(&bytes) + "\n"));
    let empty = PageBody {
        begin: Point::default(),
        docs: vec![],
        logs: vec![],
        last: false,
        ..w.page()
    };
    let bytes = seal_page(&empty, &w.epoch, &w.keys, &mut Rng(42)).unwrap();
    assert_eq!(w.open_page(&bytes).unwrap(), empty);
}

#[test]
fn no_flipped_bit_and_no_cut_is_accepted() {
    let w = world();
    let batch = w.seal(&w.head(), &w.body()).unwrap().bytes;
    let page = seal_page(&w.page(), &w.epoch, &w.keys, &mut Rng(42)).unwrap();
    for bit in 0..8 * batch.len() {
        let mut damaged = batch.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(w.open(&damaged).is_err(), "bit {bit}");
    }
    for bit in 0..8 * page.len() {
        let mut damaged = page.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(w.open_page(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..batch.len() {
        assert!(
            w.open(&batch[..len]).is_err()
                && w.open(&[&batch[..], &batch[..len + 1]].concat()).is_err()
        );
        let _ = peek(&batch[..len]);
    }
    (0..page.len()).for_each(|len| assert!(w.open_page(&page[..len]).is_err()));
    assert!(w.open_page(&batch).is_err() && w.open(&page).is_err());
}

#[test]
fn each_fault_has_its_name() {
    let w = world();
    let bytes = w.seal(&w.head(), &w.body()).unwrap().bytes;
    let none = |_: &KeyId| None;
    let key = |_: &KeyId| Some(w.epoch.clone());
    let wrong = |id: &KeyId| Some(EpochKey::from_parts(*id, [9; 32]));
    let signer = |id: &DeviceId| w.signer(id);
    let nobody = |_: &DeviceId| None;
    let somebody = |_: &DeviceId| Some(w.other.public().sign);
    let id = w.epoch.id;
    assert_eq!(
        open_batch(&bytes, &none, &signer, &w.secret, &w.space),
        Err(BatchError::UnknownKey { key: id })
    );
    assert_eq!(
        open_batch(&bytes, &wrong, &signer, &w.secret, &w.space),
        Err(BatchError::Corrupt)
    );
    let device = w.keys.device_id();
    assert_eq!(
        open_batch(&bytes, &key, &nobody, &w.secret, &w.space),
        Err(BatchError::UnknownSigner { device })
    );
    assert_eq!(
        open_batch(&bytes, &key, &somebody, &w.secret, &w.space),
        Err(BatchError::BadSignature)
    );
    let elsewhere = SpaceId::from_bytes([0; 16]);
    assert_eq!(
        open_batch(&bytes, &key, &signer, &w.secret, &elsewhere),
        Err(BatchError::WrongSpace)
    );
    let mut newer = bytes.clone();
    newer[0] = 1;
    assert_eq!(w.open(&newer), Err(BatchError::Version(1)));
    newer[0] = 0;
    newer[1] = 9;
    assert_eq!(w.open(&newer), Err(BatchError::Corrupt));
    let foreign = BatchHead {
        tag: WriterTag::from_bytes([1; 16]),
        ..w.head()
    };
    let bytes = w.seal(&foreign, &w.body()).unwrap().bytes;
    assert_eq!(w.open(&bytes), Err(BatchError::WrongTag));
    // Another member names this device in the plaintext but signs with its own key.
    let forged = w.forge(&w.head(), &w.plain(&[]), &w.other);
    assert_eq!(w.open(&forged), Err(BatchError::BadSignature));
    assert_eq!(w.open(&vec![0; (1 << 20) + 1]), Err(BatchError::TooLarge));
}

/// Security tests 63 and 77.
#[test]
fn limits_hold_on_both_sides() {
    let w = world();
    let (item, change) = w.body().changes[0].clone();
    let many = BatchBody {
        changes: vec![(item, change.clone()); 1001],
        ..w.body()
    };
    assert_eq!(w.seal(&w.head(), &many), Err(BatchError::TooLarge));
    let mut rng = Rng(3);
    let noise: Vec<u8> = (0..1 << 20).map(|_| rng.next() as u8).collect();
    let large = BatchBody {
        changes: vec![(item, noise)],
        ..w.body()
    };
    assert_eq!(w.seal(&w.head(), &large), Err(BatchError::TooLarge));
    // Fifteen changes of 64 KiB of the same byte pack 2,000 times and are sent all the same.
    let equal = BatchBody {
        changes: vec![(item, vec![0; 64 << 10]); 15],
        ..w.body()
    };
    let sealed = w.seal(&w.head(), &equal).unwrap();
    assert_eq!(w.open(&sealed.bytes).unwrap().2, equal);
    let wrong = BatchHead {
        key: KeyId::from_bytes([0; 16]),
        ..w.head()
    };
    assert_eq!(w.seal(&wrong, &w.body()), Err(BatchError::Corrupt));
    assert_eq!(
        w.seal(&BatchHead { seq: 0, ..w.head() }, &w.body()),
        Err(BatchError::Corrupt)
    );

    // Bombs under a good seal and signature: 64 MiB of zeros, a size that lies, no size, no frame.
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    assert_eq!(
        w.open(&w.forge(&w.head(), &w.plain(&bomb), &w.keys)),
        Err(BatchError::TooLarge)
    );
    let ratio = zstd::bulk::compress(&vec![0; 4 << 20], 3).unwrap();
    assert_eq!(
        w.open(&w.forge(&w.head(), &w.plain(&ratio), &w.keys)),
        Err(BatchError::TooLarge)
    );
    let sizeless = zstd::stream::encode_all(&[0u8; 100][..], 3).unwrap();
    for packed in [&sizeless[..], &[], &[1, 2, 3]] {
        assert_eq!(
            w.open(&w.forge(&w.head(), &w.plain(packed), &w.keys)),
            Err(BatchError::Corrupt)
        );
    }
    // A list that claims 2^60 changes.
    let claim =
        zstd::bulk::compress(&[0x83, 0x40, 0x80, 0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0], 3).unwrap();
    assert_eq!(
        w.open(&w.forge(&w.head(), &w.plain(&claim), &w.keys)),
        Err(BatchError::Corrupt)
    );
    assert_eq!(
        w.open(&w.forge(&w.head(), &[], &w.keys)),
        Err(BatchError::Corrupt)
    );
    assert_eq!(
        w.open(&w.forge(&w.head(), w.keys.device_id().as_bytes(), &w.keys)),
        Err(BatchError::Corrupt)
    );
}

#[test]
fn a_page_is_in_order() {
    let w = world();
    let mut page = w.page();
    page.docs.reverse();
    let bytes = seal_page(&page, &w.epoch, &w.keys, &mut Rng(1)).unwrap();
    assert_eq!(w.open_page(&bytes), Err(PageError::Corrupt));
    // The last document may be one that goes on in the next page; none before it.
    let upto = |upto| PageBody { upto, ..w.page() };
    let seal = |page: &PageBody| seal_page(page, &w.epoch, &w.keys, &mut Rng(1)).unwrap();
    let partial = upto(w.page().docs[0].0);
    assert_eq!(w.open_page(&seal(&partial)).unwrap(), partial);
    let point = |after, part| Point {
        after: Some(after),
        part,
    };
    assert_eq!(w.page().next(), point(ItemId::from_bytes([0xff; 16]), 0));
    assert_eq!(partial.next(), point(partial.docs[0].0, 1));
    // A document of more than two pages is told further from where the page before ended.
    let further = PageBody {
        begin: point(partial.docs[0].0, 1),
        docs: vec![partial.docs[1].clone()],
        ..partial.clone()
    };
    assert_eq!(w.open_page(&seal(&further)).unwrap(), further);
    assert_eq!(further.next(), point(partial.docs[0].0, 2));
    let back = PageBody {
        begin: point(partial.docs[1].0, 0),
        docs: vec![],
        ..partial.clone()
    };
    assert_eq!(w.open_page(&seal(&back)), Err(PageError::Corrupt));
    assert_eq!(
        w.open_page(&seal(&upto(ItemId::ROOT))),
        Err(PageError::Corrupt)
    );
    // Changes of no bytes in great number would take memory of their own.
    let hollow = PageBody {
        docs: vec![(ItemId::from_bytes([0x17; 16]), vec![vec![]; 200_000])],
        ..w.page()
    };
    assert_eq!(w.open_page(&seal(&hollow)), Err(PageError::Corrupt));
}

#[test]
fn a_full_batch_is_small() {
    let w = world();
    let mut rng = Rng(11);
    let changes: Vec<_> = (0..1000u64)
        .map(|i| {
            let mut place = vec![7; 16];
            place.extend(format!("IMG_2024_{i:04}.jpg").bytes());
            let hash: Vec<u8> = (0..35).map(|_| rng.next() as u8).collect();
            let bytes = |key: &str, b: Vec<u8>| ownmesh_crdt::doc::Edit {
                key: key.into(),
                put: Some(ownmesh_crdt::op::Scalar::Bytes(b)),
                pred: vec![],
            };
            let edits = [
                put("k", 0, &[]),
                bytes("p", place),
                bytes("c", hash),
                put("m", 0o644, &[]),
            ];
            let mut item = [0; 16];
            item.fill_with(|| rng.next() as u8);
            (
                ItemId::from_bytes(item),
                commit(&mut ItemDoc::default(), &actor(1), &edits)
                    .bytes()
                    .to_vec(),
            )
        })
        .collect();
    let raw: usize = changes.iter().map(|(_, c)| c.len() + 16).sum();
    let sealed = w
        .seal(
            &w.head(),
            &BatchBody {
                changes,
                ..w.body()
            },
        )
        .unwrap();
    println!(
        "1000 new items: {raw} bytes of changes, {} sealed",
        sealed.bytes.len()
    );
    assert!(sealed.bytes.len() < 110_000);
    let one = w
        .seal(
            &w.head(),
            &BatchBody {
                seen: vec![],
                ..w.body()
            },
        )
        .unwrap();
    println!(
        "one change: {} of {} bytes",
        w.body().changes[0].1.len(),
        one.bytes.len()
    );
}

#[test]
fn logs_chain() {
    let w = world();
    let head = w.head();
    let other = BatchHash::from_bytes([1; 32]);
    assert_eq!(LogChain::check(6, &head.prev, &head), Next::Ok);
    assert_eq!(LogChain::check(6, &other, &head), Next::Fork);
    assert_eq!(LogChain::check(7, &other, &head), Next::Known);
    assert_eq!(LogChain::check(9, &other, &head), Next::Known);
    assert_eq!(LogChain::check(3, &head.prev, &head), Next::Gap { have: 3 });
    let first = BatchHead {
        seq: 1,
        prev: BatchHash::ZERO,
        ..head
    };
    assert_eq!(LogChain::check(0, &BatchHash::ZERO, &first), Next::Ok);
    assert_eq!(
        LogChain::check(
            u64::MAX,
            &other,
            &BatchHead {
                seq: u64::MAX,
                ..head
            }
        ),
        Next::Known
    );
}
