//! Hostile bytes: ten thousand mutants, bombs, and changes that are well formed but lie.
//!
//! One binary of its own, because it watches the memory of its process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

mod common;

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, Change, ExpandedChange, ROOT, ScalarValue, legacy};
use common::{Rng, actor, commit, del, put};
use ownmesh_crdt::doc::{Applied, ApplyError, BadChange, ChangeHash, CheckedChange, Edit, ItemDoc};
use ownmesh_crdt::op::Scalar;
use sha2::{Digest, Sha256};

/// A chunk of this type around `data`, with a checksum that holds.
fn chunk(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut tail = vec![kind];
    let mut rest = data.len();
    while rest >= 0x80 {
        tail.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    tail.push(rest as u8);
    tail.extend_from_slice(data);
    let hash = Sha256::digest(&tail);
    [&[0x85, 0x6f, 0x4a, 0x83][..], &hash[..4], &tail].concat()
}

fn repair(bytes: &mut [u8]) {
    if bytes.len() > 8 {
        let hash = Sha256::digest(&bytes[8..]);
        bytes[4..8].copy_from_slice(&hash[..4]);
    }
}

/// Documents for mutants to meet, and the changes they are made of.
fn seeds() -> (Vec<ItemDoc>, Vec<Vec<u8>>) {
    let mut changes = Vec::new();
    let text = |key: &str, len: usize| Edit {
        key: key.into(),
        put: Some(Scalar::Str("x".repeat(len))),
        pred: vec![],
    };
    let bytes = |key: &str, len: usize| Edit {
        key: key.into(),
        put: Some(Scalar::Bytes(vec![7; len])),
        pred: vec![],
    };

    let mut item = ItemDoc::default();
    let create = commit(
        &mut item,
        &actor(1),
        &[
            put("k", 0, &[]),
            bytes("p", 20),
            bytes("c", 35),
            put("m", 420, &[]),
            put("t", 1 << 60, &[]),
        ],
    );
    changes.push(create.clone());
    let base = item.clone();
    let edit = commit(
        &mut item,
        &actor(1),
        &[Edit {
            pred: base.regs.ops("c"),
            ..bytes("c", 35)
        }],
    );
    changes.push(edit);

    // A conflict of three, ended by a change that names all, and a delete.
    let mut rich = base.clone();
    for n in 2..5 {
        let mut fork = base.clone();
        let change = commit(
            &mut fork,
            &actor(n),
            &[
                put("c", i64::from(n), &base.regs.ops("c")),
                put("m", 1, &[]),
            ],
        );
        rich.apply(&change).unwrap();
        changes.push(change);
    }
    let conflict = rich.clone();
    let all = rich.regs.ops("c");
    changes.push(commit(
        &mut rich,
        &actor(9),
        &[put("c", 9, &all), del("m", &conflict.regs.ops("m"))],
    ));

    let mut wide = ItemDoc::default();
    let many: Vec<_> = (0..200).map(|i| put(&format!("x/{i}"), i, &[])).collect();
    changes.push(commit(&mut wide, &actor(1), &many));
    changes.push(commit(
        &mut wide,
        &actor(2),
        &[
            text("note", 3000),
            Edit {
                put: Some(Scalar::Bool(true)),
                ..text("f", 0)
            },
        ],
    ));

    let mut seeds: Vec<_> = changes.iter().map(|c| c.bytes().to_vec()).collect();
    // What must never reach automerge: documents, deflated and plain, a bundle, a deflated change.
    let mut doc = Automerge::load(&rich.body).unwrap();
    seeds.push(doc.save());
    seeds.push(doc.save_nocompress());
    let hashes: Vec<_> = doc.get_changes(&[]).iter().map(Change::hash).collect();
    seeds.push(doc.bundle(hashes).unwrap().bytes().to_vec());
    let deflated = Change::try_from(changes[7].bytes())
        .unwrap()
        .bytes()
        .into_owned();
    assert_eq!(deflated[8], 2);
    seeds.push(deflated);
    // Nested objects and lists are no registers.
    doc.set_actor(ActorId::from([5; 8]));
    let mut tx = doc.transaction();
    let list = tx.put_object(ROOT, "l", automerge::ObjType::List).unwrap();
    tx.insert(&list, 0, 1).unwrap();
    tx.commit();
    seeds.push(doc.get_last_local_change().unwrap().raw_bytes().to_vec());
    (vec![ItemDoc::default(), base, conflict, rich, wide], seeds)
}

fn mutate(seed: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=rng.below(3) {
        let at = 8 + rng.below(bytes.len() - 8);
        match rng.below(6) {
            0 => bytes[at] = rng.next() as u8,
            1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.below(5)],
            4 => bytes.insert(at, rng.next() as u8),
            _ => drop(bytes.remove(at)),
        }
        if bytes.len() < 16 {
            break;
        }
    }
    // Half of them with a length that fits, so that the damage is found further in.
    if rng.chance(50) && bytes.len() > 11 && bytes[9] >= 0x80 && bytes[10] < 0x80 {
        let kind = bytes[8];
        return chunk(kind, &bytes[11..]);
    }
    repair(&mut bytes);
    bytes
}

/// Peak memory of this process in bytes, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// Security test 63.
#[test]
fn ten_thousand_mutants_do_no_harm() {
    common::silence_panics();
    let (docs, seeds) = seeds();
    let before = peak();
    let mut rng = Rng(2026);
    let mut tally: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..10_000 {
        let bytes = mutate(&seeds[round % seeds.len()], &mut rng);
        let checked = match CheckedChange::check(&bytes) {
            Ok(checked) => checked,
            Err(BadChange::Panicked) => {
                *tally.entry("check panicked").or_default() += 1;
                continue;
            }
            Err(_) => {
                *tally.entry("refused").or_default() += 1;
                continue;
            }
        };
        for doc in &docs {
            let mut copy = doc.clone();
            let outcome = copy.apply(&checked);
            let name = match outcome {
                Ok(Applied::Done { .. }) => {
                    assert_eq!(ItemDoc::rebuild(&copy.body).unwrap(), copy);
                    "applied"
                }
                Err(ApplyError::Panicked) => "apply panicked",
                Err(_) => "not applied",
                Ok(_) => "known or missing",
            };
            if name != "applied" {
                assert_eq!(&copy, doc);
            }
            *tally.entry(name).or_default() += 1;
        }
    }
    println!("{tally:?}");
    assert!(tally["refused"] < 10_000 && tally["applied"] > 0);
    if let (Some(before), Some(after)) = (before, peak()) {
        println!("peak memory grew by {} KiB", (after - before) >> 10);
        assert!(after - before < 64 << 20);
    }
}

#[test]
fn only_plain_changes_of_a_flat_map_get_through() {
    common::silence_panics();
    let (_, seeds) = seeds();
    let verdicts: Vec<_> = seeds
        .iter()
        .map(|s| CheckedChange::check(s).err())
        .collect();
    assert!(verdicts[..8].iter().all(Option::is_none));
    let kind = |n| Some(BadChange::ChunkType(n));
    assert_eq!(verdicts[8..12], [kind(0), kind(0), kind(3), kind(2)]);
    assert!(matches!(verdicts[12], Some(BadChange::Column(_))));
    let mut trailing = seeds[0].clone();
    trailing.push(0);
    assert_eq!(
        CheckedChange::check(&trailing).err(),
        Some(BadChange::Trailing)
    );
    let mut flipped = seeds[0].clone();
    flipped[40] ^= 1;
    assert_eq!(
        CheckedChange::check(&flipped).err(),
        Some(BadChange::Checksum)
    );
    for len in 0..seeds[0].len() {
        assert!(CheckedChange::check(&seeds[0][..len]).is_err());
    }
}

/// The data of a change by `actor` with these columns and no dependencies.
fn data(start_op: &[u8], columns: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = vec![0, 8];
    out.extend([1; 8]);
    out.push(1); // seq
    out.extend_from_slice(start_op);
    out.extend([0, 0, 0]); // time, message, other actors
    out.push(columns.len() as u8);
    for (spec, bytes) in columns {
        out.extend([&[*spec][..], &[bytes.len() as u8]].concat());
    }
    columns
        .iter()
        .for_each(|(_, bytes)| out.extend_from_slice(bytes));
    out
}

/// Security test 63.
#[test]
fn bombs_are_refused_before_they_go_off() {
    let one: [(u8, &[u8]); 6] = [
        (21, &[0x7f, 1, b'c']),
        (52, &[1]),
        (66, &[0x7f, 1]),
        (86, &[0x7f, 0x14]),
        (87, &[5]),
        (112, &[0x7f, 0]),
    ];
    let with =
        |spec: u8, bytes: &'static [u8]| one.map(|(s, b)| (s, if s == spec { bytes } else { b }));
    let good = chunk(1, &data(&[1], &one));
    assert_eq!(good.len(), 49);
    CheckedChange::check(&good).unwrap();

    let limit = |bytes: &[u8]| matches!(CheckedChange::check(bytes), Err(BadChange::Limit { .. }));
    // A run of 2^24 operations, of 2^50, of 2^63; many runs that together are too many.
    for run in [
        &[0x80, 0x80, 0x80, 0x08, 1][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02, 1],
        &[
            0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f, 1,
        ],
    ] {
        let columns = one.map(|(s, b)| (s, if s == 66 { run } else { b }));
        assert!(limit(&chunk(1, &data(&[1], &columns))), "{run:?}");
    }
    let twice: Vec<u8> = [0x90, 0xce, 0x00, 1].repeat(2);
    let columns = one.map(|(s, b)| (s, if s == 66 { &twice[..] } else { b }));
    assert!(limit(&chunk(1, &data(&[1], &columns))));
    // Predecessors without end, counters without end, values without end.
    assert!(limit(&chunk(
        1,
        &data(&[1], &with(112, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f]))
    )));
    assert!(limit(&chunk(
        1,
        &data(&[0x80, 0x80, 0x80, 0x80, 0x04], &one)
    )));
    assert!(CheckedChange::check(&chunk(1, &data(&[0xff, 0xff, 0xff, 0xff, 0x03], &one))).is_ok());
    assert!(limit(&chunk(
        1,
        &data(&[1], &with(86, &[0x7f, 0x87, 0x80, 0x80, 0x01]))
    )));
    // A boolean column that claims 2^40 entries, a null run, a deflated column, one too many columns.
    assert!(
        CheckedChange::check(&chunk(
            1,
            &data(&[1], &with(52, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]))
        ))
        .is_err()
    );
    assert!(
        CheckedChange::check(&chunk(1, &data(&[1], &with(66, &[0, 0x80, 0x80, 0x40])))).is_err()
    );
    let deflated = one.map(|(s, b)| (if s == 66 { 66 | 8 } else { s }, b));
    assert_eq!(
        CheckedChange::check(&chunk(1, &data(&[1], &deflated))).err(),
        Some(BadChange::Column(74))
    );
    let many: Vec<(u8, &[u8])> = (0..33).map(|_| one[0]).collect();
    assert!(limit(&chunk(1, &data(&[1], &many))));
    // A megabyte of zeros, deflated.
    assert!(CheckedChange::check(&chunk(2, &[0; 1000])).is_err());
    // A chunk that claims 2^40 bytes.
    let claim = [
        &[0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1][..],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
    ]
    .concat();
    assert!(limit(&claim));
}

/// A key, a value or a deletion, and what is said to be replaced.
type Lie<'a> = (&'a str, Option<i64>, Vec<(u64, u8)>);

/// A change with any content at all, encoded as automerge would.
fn forge(by: u8, seq: u64, start: u64, deps: &[[u8; 32]], ops: &[Lie<'_>]) -> Vec<u8> {
    let id = |n: u8| ActorId::from([n; 8]);
    let operations = ops.iter().map(|(key, value, pred)| legacy::Op {
        action: value.map_or(legacy::OpType::Delete, |v| {
            legacy::OpType::Put(ScalarValue::Int(v))
        }),
        obj: legacy::ObjectId::Root,
        key: legacy::Key::Map((*key).into()),
        pred: pred.iter().map(|(c, a)| legacy::OpId(*c, id(*a))).collect(),
        insert: false,
    });
    let change = Change::from(ExpandedChange {
        operations: operations.collect(),
        actor_id: id(by),
        hash: None,
        seq,
        start_op: NonZeroU64::new(start).unwrap(),
        time: 0,
        message: None,
        deps: deps.iter().map(|d| automerge::ChangeHash(*d)).collect(),
        extra_bytes: vec![],
        author: None,
    });
    change.raw_bytes().to_vec()
}

#[test]
fn lies_about_the_past_are_refused() {
    common::silence_panics();
    let mut doc = ItemDoc::default();
    let first = commit(&mut doc, &actor(1), &[put("c", 1, &[]), put("p", 1, &[])]);
    let base = doc.clone();
    let second = commit(&mut doc, &actor(1), &[put("c", 2, &base.regs.ops("c"))]);
    let (f, s) = (first.hash().0, second.hash().0);
    let third = CheckedChange::check(&forge(3, 1, 1, &[], &[("c", Some(3), vec![])])).unwrap();
    doc.apply(&third).unwrap();
    let mut take = |bytes: Vec<u8>| {
        let before = doc.clone();
        let outcome = doc.apply(&CheckedChange::check(&bytes).unwrap());
        if !matches!(outcome, Ok(Applied::Done { .. })) {
            assert_eq!(doc, before);
        }
        outcome
    };
    let c = |pred: &[(u64, u8)]| vec![("c", Some(9), pred.to_vec())];
    let gap = |have, got| Err(ApplyError::SeqGap { have, got });
    assert_eq!(take(forge(2, 5, 4, &[s], &c(&[]))), gap(0, 5));
    assert_eq!(take(forge(1, 3, 3, &[f], &c(&[]))), gap(1, 3));
    let twice = Err(ApplyError::DuplicateSeq { seq: 2 });
    assert_eq!(take(forge(1, 2, 3, &[f], &c(&[]))), twice);
    for start in [1, 3, 5, 1 << 29] {
        assert_eq!(
            take(forge(2, 1, start, &[s], &c(&[]))),
            Err(ApplyError::Clock)
        );
    }
    for (pred, why) in [
        ((1, 3), "not in its past"),
        ((2, 1), "of another key"),
        ((2, 7), "nowhere"),
    ] {
        assert_eq!(
            take(forge(2, 1, 4, &[s], &c(&[pred]))),
            Err(ApplyError::Unseen),
            "{why}"
        );
    }
    let missing = Ok(Applied::Missing(vec![ChangeHash([7; 32])]));
    assert_eq!(take(forge(2, 1, 4, &[[7; 32]], &c(&[]))), missing);
    // Numbered before what it replaces: refused by its own bytes.
    assert!(CheckedChange::check(&forge(2, 1, 3, &[s], &c(&[(3, 1)]))).is_err());
    assert!(matches!(
        take(forge(2, 1, 4, &[s], &c(&[(3, 1)]))),
        Ok(Applied::Done { .. })
    ));
}

/// Changes that are well formed but name anything: all devices judge them alike, in any order.
#[test]
fn liars_do_not_divide_devices() {
    common::silence_panics();
    let (mut panics, mut applied, mut refused) = (0, 0, 0);
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut log: Vec<CheckedChange> = Vec::new();
        for n in 1..=14u8 {
            let deps: Vec<&CheckedChange> = log.iter().filter(|_| rng.chance(25)).collect();
            let end = |c: &&CheckedChange| c.start_op() + c.ops().len() as u64;
            let mut start = deps.iter().map(end).max().unwrap_or(1);
            if rng.chance(5) {
                start += rng.next() % 3;
            }
            let mut deps: Vec<[u8; 32]> = deps.iter().map(|c| c.hash().0).collect();
            deps.sort_unstable();
            let mut ops = Vec::new();
            for key in ["a", "b", "c"] {
                let mut pred: Vec<(u64, u8)> = log
                    .iter()
                    .flat_map(|c| c.ops())
                    .filter(|_| rng.chance(8))
                    .map(|o| (o.id.counter, o.id.actor.as_bytes()[0]))
                    .collect();
                pred.retain(|(c, _)| *c < start);
                pred.sort_unstable();
                pred.dedup();
                let value = rng.chance(75).then(|| i64::from(n));
                if rng.chance(60) && (value.is_some() || !pred.is_empty()) {
                    ops.push((key, value, pred));
                }
            }
            if !ops.is_empty() {
                let bytes = forge(n, 1, start, &deps, &ops);
                log.push(CheckedChange::check(&bytes).unwrap());
            }
        }
        let mut results = Vec::new();
        for _ in 0..3 {
            let mut order: Vec<usize> = (0..log.len()).collect();
            rng.shuffle(&mut order);
            let mut doc = ItemDoc::default();
            let mut verdicts: BTreeMap<usize, Option<ApplyError>> = BTreeMap::new();
            loop {
                let before = order.len();
                order.retain(|&i| match doc.apply(&log[i]) {
                    Ok(Applied::Missing(_)) => true,
                    Ok(_) => verdicts.insert(i, None).is_some(),
                    Err(e) => verdicts.insert(i, Some(e)).is_some(),
                });
                if order.len() == before {
                    break;
                }
            }
            panics += verdicts
                .values()
                .filter(|v| **v == Some(ApplyError::Panicked))
                .count();
            applied += verdicts.values().filter(|v| v.is_none()).count();
            refused += verdicts.values().filter(|v| v.is_some()).count();
            let rebuilt = (doc.changes > 0).then(|| ItemDoc::rebuild(&doc.body).unwrap());
            assert_eq!(rebuilt.unwrap_or_default(), doc, "seed {seed}");
            results.push((verdicts, doc.heads.clone(), doc.regs.clone()));
        }
        assert_eq!(results[0], results[1], "seed {seed}");
        assert_eq!(results[0], results[2], "seed {seed}");
    }
    println!("{applied} applied, {refused} refused, {panics} panics caught");
}
