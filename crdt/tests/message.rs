//! Control messages: round trips, bounds, foreign bytes, and the exact bytes of each kind.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

mod common;

use common::Rng;
use ownmesh_crdt::message::{Message, MessageError, SpaceHello};
use ownmesh_crdt::page::Point;
use ownmesh_crdt::vector::Vector;
use ownmesh_crypto::ids::{ContentHash, ItemId, SpaceId, StatementHash, WriterTag};
use proptest::prelude::*;

fn space() -> SpaceId {
    SpaceId::from_bytes([0x51; 16])
}

fn vector(seqs: &[u64]) -> Vector {
    Vector(
        seqs.iter()
            .zip(1u8..)
            .map(|(seq, n)| (WriterTag::from_bytes([n; 16]), *seq))
            .collect(),
    )
}

fn samples() -> Vec<(&'static str, Message)> {
    let hello = SpaceHello {
        space: space(),
        joined: true,
        mode: 1,
        vector: vector(&[3, 1000]),
        lowest: vector(&[1, 900]),
        missing_items: 2,
        missing_bytes: 70_000,
        items: 100_000,
        paused: true,
        stopped: 1,
        unwanted_items: 1,
    };
    vec![
        (
            "registry",
            Message::Registry {
                digest: [0xd1; 32],
                hashes: vec![StatementHash::from_bytes([0x5a; 32])],
            },
        ),
        (
            "statements",
            Message::Statements(vec![vec![1, 2, 3], vec![]]),
        ),
        ("space", Message::Space(hello)),
        (
            "batches",
            Message::Batches {
                space: space(),
                batches: vec![vec![0, 1], vec![2]],
            },
        ),
        (
            "want-state",
            Message::WantState {
                space: space(),
                begin: Point {
                    after: Some(ItemId::from_bytes([0x17; 16])),
                    part: 3,
                },
            },
        ),
        (
            "want-state-all",
            Message::WantState {
                space: space(),
                begin: Point::default(),
            },
        ),
        (
            "page",
            Message::Page {
                space: space(),
                bytes: vec![9; 5],
            },
        ),
        (
            "superseded",
            Message::Superseded {
                space: space(),
                hash: ContentHash::from_bytes([0xc0; 32]),
            },
        ),
        (
            "bye",
            Message::Bye {
                reason: "update".into(),
            },
        ),
    ]
}

#[test]
fn each_kind_round_trips_and_keeps_its_bytes() {
    let mut text = String::new();
    for (name, message) in samples() {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes).unwrap(), message);
        text += &format!("{name} {}\n", common::hex(&bytes));
    }
    common::snapshot("messages.txt", &text);
}

#[test]
fn newer_nodes_are_understood_or_named() {
    let mut newer = Message::Bye { reason: "x".into() }.encode();
    newer[1] += 1; // one field more
    newer.push(0x07);
    assert_eq!(
        Message::decode(&newer).unwrap(),
        Message::Bye { reason: "x".into() }
    );
    assert!(matches!(
        Message::decode(&[0, 0x82, 0x18, 99, 0x00]),
        Err(MessageError::Unknown(99))
    ));
    assert!(matches!(
        Message::decode(&[1, 0x82]),
        Err(MessageError::Version(1))
    ));
    assert!(matches!(
        Message::decode(&[]),
        Err(MessageError::Malformed(_))
    ));
}

/// Security test 77.
#[test]
fn lists_are_bounded_before_memory_is_taken() {
    // Lists that claim 2^32 and 2^60 entries.
    for head in [
        &[0x9a, 0xff, 0xff, 0xff, 0xff][..],
        &[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let bytes = [&[0, 0x82, 2][..], head].concat();
        assert!(matches!(
            Message::decode(&bytes),
            Err(MessageError::Malformed(_))
        ));
    }
    assert!(matches!(
        Message::decode(&vec![0; (4 << 20) + 1]),
        Err(MessageError::TooLarge)
    ));
    let many = Message::Statements(vec![vec![]; 4097]).encode();
    assert!(matches!(
        Message::decode(&many),
        Err(MessageError::Malformed(_))
    ));
    let long = Message::Bye {
        reason: "ä".repeat(200),
    }
    .encode();
    assert!(matches!(Message::decode(&long), Ok(Message::Bye { reason }) if reason.len() == 256));
}

#[test]
fn damaged_messages_never_panic() {
    let mut rng = Rng(5);
    let samples: Vec<_> = samples().into_iter().map(|(_, m)| m.encode()).collect();
    for _ in 0..50_000 {
        let mut bytes = samples[rng.below(samples.len())].clone();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len());
            bytes[at] = rng.next() as u8;
        }
        bytes.truncate(1 + rng.below(bytes.len()));
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
    }
}

#[test]
fn vectors_merge_and_cover() {
    let (mut a, b) = (vector(&[3, 5]), vector(&[4, 2, 1]));
    assert!(!a.covers(&b) && !b.covers(&a));
    a.merge(&b);
    assert_eq!(a, vector(&[4, 5, 1]));
    assert!(a.covers(&b) && a.covers(&Vector::default()));
    assert_eq!(
        (
            a.get(&WriterTag::from_bytes([2; 16])),
            a.get(&WriterTag::from_bytes([9; 16]))
        ),
        (5, 0)
    );
    a.raise(WriterTag::from_bytes([9; 16]), 0);
    assert_eq!(a.iter().count(), 3);
    let bytes = minicbor::to_vec(&a).unwrap();
    assert_eq!(minicbor::decode::<Vector>(&bytes).unwrap(), a);
    assert_eq!(bytes.len(), 1 + 3 * 18);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), number in 0..9u8) {
        let _ = Message::decode(&bytes);
        let _ = Message::decode(&[&[0, 0x83, number][..], &bytes].concat());
        let _ = minicbor::decode::<Vector>(&bytes);
    }
}
