//! Documents: the fast path against automerge, convergence, and what an edit supersedes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Rng, actor, commit, del, ints, put};
use ownmesh_crdt::doc::{Applied, ApplyError, AuthorError, CheckedChange, Edit, ItemDoc};
use ownmesh_crdt::op::{OpId, Registers, Scalar};
use ownmesh_crypto::ids::Incarnation;

/// A device in a random history: the same changes once by either path, once by automerge alone.
#[derive(Default)]
struct Device {
    doc: ItemDoc,
    slow: ItemDoc,
    model: Registers,
    inbox: Vec<CheckedChange>,
}

#[derive(Default)]
struct Tally {
    applies: u64,
    fast: u64,
    time_fast: Duration,
    time_slow: Duration,
    slow_timed: u64,
}

impl Device {
    /// Applies by both paths and compares; says whether the change is in.
    fn take(&mut self, change: &CheckedChange, tally: &mut Tally) -> bool {
        let before = self.doc.clone();
        let start = Instant::now();
        let outcome = self.doc.apply(change).unwrap();
        let elapsed = start.elapsed();
        let start = Instant::now();
        let reference = self.slow.apply_slow(change).unwrap();
        match outcome {
            Applied::Done { fast } => {
                tally.applies += 1;
                if fast {
                    tally.fast += 1;
                    tally.time_fast += elapsed;
                }
                tally.time_slow += start.elapsed();
                tally.slow_timed += 1;
                assert_eq!(reference, Applied::Done { fast: false });
                supersede(&mut self.model, change);
                assert_eq!(self.model, self.doc.regs);
            }
            ref other => {
                assert_eq!(reference, *other);
                assert_eq!(self.doc, before);
            }
        }
        assert_eq!(self.doc, self.slow);
        !matches!(outcome, Applied::Missing(_))
    }

    fn deliver(&mut self, tally: &mut Tally, rng: &mut Rng) {
        rng.shuffle(&mut self.inbox);
        loop {
            let waiting = self.inbox.len();
            let inbox = std::mem::take(&mut self.inbox);
            self.inbox = inbox.into_iter().filter(|c| !self.take(c, tally)).collect();
            if self.inbox.len() == waiting {
                break;
            }
        }
    }
}

/// What registers mean, in four lines: all puts that no operation has named as replaced.
fn supersede(model: &mut Registers, change: &CheckedChange) {
    for op in change.ops() {
        let values = model.0.entry(op.key.clone()).or_default();
        values.retain(|(id, _)| !op.pred.contains(id));
        values.extend(op.put.iter().map(|value| (op.id, value.clone())));
        values.sort_by_key(|(id, _)| *id);
    }
    model.0.retain(|_, values| !values.is_empty());
}

const KEYS: [&str; 4] = ["c", "d", "m", "p"];

/// Edits as people and their programs make them: mostly on all that is visible, sometimes on part of it or nothing.
fn edits(doc: &ItemDoc, rng: &mut Rng) -> Vec<Edit> {
    let mut out = Vec::new();
    for key in KEYS {
        if !rng.chance(40) {
            continue;
        }
        let mut pred = doc.regs.ops(key);
        if rng.chance(30) {
            pred.retain(|_| rng.chance(50));
        }
        let value = if rng.chance(30) {
            7
        } else {
            (rng.next() % 100) as i64
        };
        out.push(if rng.chance(20) {
            del(key, &pred)
        } else {
            put(key, value, &pred)
        });
    }
    out
}

#[test]
fn fast_equals_slow_over_random_histories() {
    let mut tally = Tally::default();
    for seed in 0..400u64 {
        let mut rng = Rng(seed);
        // From devices that mostly meet to devices that rarely do.
        let meet = [90, 60, 30, 10][seed as usize % 4];
        let mut devices: Vec<Device> = (0..3).map(|_| Device::default()).collect();
        for _ in 0..30 {
            let who = rng.below(3);
            let edits = edits(&devices[who].doc, &mut rng);
            if let Some(authored) = devices[who]
                .doc
                .author(&actor(who as u8 + 1), &edits)
                .unwrap()
            {
                let change = CheckedChange::check(&authored.bytes).unwrap();
                assert_eq!(change.hash(), authored.hash);
                for (i, device) in devices.iter_mut().enumerate() {
                    if i == who {
                        assert!(device.take(&change, &mut tally), "seed {seed}");
                    } else {
                        device.inbox.push(change.clone());
                        if rng.chance(10) {
                            device.inbox.push(change.clone());
                        }
                    }
                }
            }
            for device in &mut devices {
                if rng.chance(meet) {
                    device.deliver(&mut tally, &mut rng);
                }
            }
        }
        for device in &mut devices {
            device.deliver(&mut tally, &mut rng);
            assert!(device.inbox.is_empty(), "seed {seed}");
            assert_eq!(
                ItemDoc::rebuild(&device.doc.body).unwrap(),
                device.doc,
                "seed {seed}"
            );
        }
        for device in &devices[1..] {
            assert_eq!(device.doc.heads, devices[0].doc.heads, "seed {seed}");
            assert_eq!(device.doc.regs, devices[0].doc.regs, "seed {seed}");
            assert_eq!(device.doc.actors, devices[0].doc.actors, "seed {seed}");
        }
    }
    let mean = |t: Duration, n: u64| t.as_secs_f64() * 1e6 / n.max(1) as f64;
    println!(
        "{} applies, {} fast ({:.0} %), 0 wrong; fast {:.1} us, slow {:.1} us",
        tally.applies,
        tally.fast,
        100.0 * tally.fast as f64 / tally.applies as f64,
        mean(tally.time_fast, tally.fast),
        mean(tally.time_slow, tally.slow_timed),
    );
    assert!(tally.applies > 20_000 && tally.fast > 2_000);
}

/// A history with merges and conflicts; its changes in an order that fits.
fn history(seed: u64) -> (ItemDoc, Vec<CheckedChange>) {
    let mut rng = Rng(seed);
    let mut docs = vec![ItemDoc::default(); 3];
    let mut log: Vec<CheckedChange> = Vec::new();
    for step in 0..12 {
        let who = rng.below(3);
        let edits = edits(&docs[who], &mut rng);
        if let Some(authored) = docs[who].commit(&actor(who as u8 + 1), &edits).unwrap() {
            log.push(CheckedChange::check(&authored.bytes).unwrap());
        }
        if step % 4 == 3 {
            let to = rng.below(3);
            log.iter().for_each(|c| drop(docs[to].apply(c).unwrap()));
        }
    }
    let mut all = ItemDoc::default();
    log.iter().for_each(|c| drop(all.apply(c).unwrap()));
    (all, log)
}

#[test]
fn any_order_and_any_repetition_converge() {
    for seed in 0..60 {
        let (all, log) = history(seed);
        let mut rng = Rng(seed ^ 0xabcd);
        for _ in 0..5 {
            let mut waiting: Vec<_> = log.iter().chain(&log).cloned().collect();
            rng.shuffle(&mut waiting);
            let mut doc = ItemDoc::default();
            while !waiting.is_empty() {
                let before = waiting.len();
                waiting.retain(|c| matches!(doc.apply(c).unwrap(), Applied::Missing(_)));
                assert!(waiting.len() < before);
            }
            assert_eq!(
                (&doc.heads, &doc.regs, &doc.actors),
                (&all.heads, &all.regs, &all.actors),
                "seed {seed}"
            );
            assert_eq!(doc.changes as usize, log.len());
        }
    }
}

#[test]
fn state_transfer_gives_the_same_row() {
    for seed in 0..20 {
        let (all, _) = history(seed);
        let mut copy = ItemDoc::default();
        for change in all.changes().unwrap() {
            assert!(matches!(
                copy.apply(&CheckedChange::check(change).unwrap()),
                Ok(Applied::Done { .. })
            ));
        }
        assert_eq!(copy, all);
    }
}

/// What arrived while the user edited an older version is not superseded.
#[test]
fn an_edit_supersedes_only_what_was_seen() {
    let (a, b) = (actor(1), actor(2));
    let mut doc_a = ItemDoc::default();
    let first = commit(&mut doc_a, &a, &[put("c", 1, &[])]);
    let seen = doc_a.regs.ops("c");
    let mut doc_b = ItemDoc::default();
    doc_b.apply(&first).unwrap();

    let theirs = commit(&mut doc_b, &b, &[put("c", 2, &seen)]);
    doc_a.apply(&theirs).unwrap();
    assert_eq!(ints(&doc_a, "c"), [2]);

    // The disk of A still shows the first version.
    let ours = commit(&mut doc_a, &a, &[put("c", 3, &seen)]);
    assert_eq!(ints(&doc_a, "c"), [2, 3], "on the author");
    assert_eq!(doc_b.apply(&ours).unwrap(), Applied::Done { fast: false });
    assert_eq!(ints(&doc_b, "c"), [2, 3], "on the peer");
    assert_eq!(
        ItemDoc::rebuild(&doc_a.body).unwrap(),
        doc_a,
        "after a reload"
    );

    // One autosave of the main file does not erase the loser.
    let main = vec![doc_a.regs.winner("c").unwrap().0];
    let autosave = commit(&mut doc_a, &a, &[put("c", 4, &main)]);
    doc_b.apply(&autosave).unwrap();
    assert_eq!(ints(&doc_a, "c"), [2, 4]);
    assert_eq!(doc_a.regs, doc_b.regs);
}

#[test]
fn a_delete_supersedes_only_what_was_seen() {
    let (a, b) = (actor(1), actor(2));
    let mut doc_a = ItemDoc::default();
    let first = commit(&mut doc_a, &a, &[put("c", 1, &[])]);
    let seen = doc_a.regs.ops("c");
    let mut doc_b = ItemDoc::default();
    doc_b.apply(&first).unwrap();
    let theirs = commit(&mut doc_b, &b, &[put("c", 2, &seen)]);
    let ours = commit(&mut doc_a, &a, &[del("c", &seen)]);
    assert!(ints(&doc_a, "c").is_empty());
    doc_a.apply(&theirs).unwrap();
    doc_b.apply(&ours).unwrap();
    assert_eq!(ints(&doc_a, "c"), [2]);
    assert_eq!(doc_a.regs, doc_b.regs);
}

#[test]
fn edits_without_effect_make_no_change() {
    let a = actor(1);
    let mut doc = ItemDoc::default();
    commit(&mut doc, &a, &[put("c", 1, &[])]);
    let old = doc.regs.ops("c");
    commit(&mut doc, &a, &[put("c", 2, &old)]);
    assert_eq!(doc.author(&a, &[]).unwrap(), None);
    assert_eq!(doc.author(&a, &[del("c", &[])]).unwrap(), None);
    assert_eq!(
        doc.author(&a, &[del("c", &old)]).unwrap(),
        None,
        "not visible any more"
    );
    // A put whose predecessor is gone stands beside what replaced it.
    commit(&mut doc, &a, &[put("c", 3, &old)]);
    assert_eq!(ints(&doc, "c"), [2, 3]);
    // Several deletions of one key are one.
    let both: Vec<_> = doc
        .regs
        .ops("c")
        .iter()
        .map(|id| del("c", &[*id]))
        .collect();
    let change = commit(&mut doc, &a, &both);
    assert_eq!(change.ops().len(), 1);
    assert!(doc.regs.0.is_empty());
}

#[test]
fn a_key_is_written_once_and_within_limits() {
    let doc = ItemDoc::default();
    let twice = doc.author(&actor(1), &[put("c", 1, &[]), put("c", 2, &[])]);
    assert!(matches!(twice, Err(AuthorError::Twice { .. })));
    let long = doc.author(&actor(1), &[put(&"k".repeat(65), 1, &[])]);
    assert!(matches!(long, Err(AuthorError::Value { .. })));
    let big = Scalar::Bytes(vec![0; (64 << 10) + 1]);
    let big = doc.author(
        &actor(1),
        &[Edit {
            key: "c".into(),
            put: Some(big),
            pred: vec![],
        }],
    );
    assert!(matches!(big, Err(AuthorError::Value { .. })));
    let most = Scalar::Bytes(vec![0; 64 << 10]);
    let most = doc.author(
        &actor(1),
        &[Edit {
            key: "k".repeat(64),
            put: Some(most),
            pred: vec![],
        }],
    );
    CheckedChange::check(&most.unwrap().unwrap().bytes).unwrap();
}

#[test]
fn all_types_of_values_survive() {
    let values = [
        Scalar::Bytes(vec![]),
        Scalar::Bytes(vec![0, 255]),
        Scalar::Int(i64::MIN),
        Scalar::Int(-1),
        Scalar::Int(i64::MAX),
        Scalar::Bool(true),
        Scalar::Bool(false),
        Scalar::Str(String::new()),
        Scalar::Str("ä\u{1f642}".into()),
    ];
    let edits: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(i, v)| Edit {
            key: format!("x/{i}"),
            put: Some(v.clone()),
            pred: vec![],
        })
        .collect();
    let mut doc = ItemDoc::default();
    let change = commit(&mut doc, &actor(1), &edits);
    let stored: Vec<_> = doc.regs.0.values().map(|v| v[0].1.clone()).collect();
    assert_eq!(stored, values);
    let mut slow = ItemDoc::default();
    slow.apply_slow(&change).unwrap();
    assert_eq!(slow, doc);
    assert_eq!(Registers::decode(&doc.regs.encode()).unwrap(), doc.regs);
}

#[test]
fn one_incarnation_used_twice_is_told() {
    let a = actor(1);
    let mut doc = ItemDoc::default();
    commit(&mut doc, &a, &[put("c", 1, &[])]);
    let mut restored = doc.clone();
    let seen = doc.regs.ops("c");
    commit(&mut doc, &a, &[put("c", 2, &seen)]);
    let other = commit(&mut restored, &a, &[put("c", 3, &seen)]);
    let before = doc.clone();
    assert_eq!(doc.apply(&other), Err(ApplyError::DuplicateSeq { seq: 2 }));
    assert_eq!(doc, before);
    // The same redone is the same change; under a new incarnation both stand.
    let mut fresh = ItemDoc::rebuild(restored.changes().unwrap()[0]).unwrap();
    let again = commit(&mut fresh.clone(), &a, &[put("c", 3, &seen)]);
    assert_eq!(again.hash(), other.hash());
    let new = commit(&mut fresh, &actor(9), &[put("c", 4, &seen)]);
    doc.apply(&new).unwrap();
    assert_eq!(ints(&doc, "c"), [2, 4]);
}

#[test]
fn one_bad_change_in_a_thousand() {
    let mut changes = Vec::new();
    for i in 0..1000u32 {
        let mut doc = ItemDoc::default();
        changes.push(
            commit(&mut doc, &actor(1), &[put("c", i64::from(i), &[])])
                .bytes()
                .to_vec(),
        );
    }
    let last = changes[500].len() - 1;
    changes[500][last] ^= 1;
    let good = changes.iter().filter_map(|c| CheckedChange::check(c).ok());
    let applied = good
        .filter(|c| matches!(ItemDoc::default().apply(c), Ok(Applied::Done { .. })))
        .count();
    assert_eq!(applied, 999);
}

#[test]
fn a_thousand_edits_stay_small_and_fast() {
    let a = actor(1);
    let mut doc = ItemDoc::default();
    commit(&mut doc, &a, &[put("c", 0, &[]), put("p", 0, &[])]);
    let start = doc.body.len();
    for i in 1..=1000 {
        let change = doc
            .author(&a, &[put("c", i, &doc.regs.ops("c"))])
            .unwrap()
            .unwrap();
        let change = CheckedChange::check(&change.bytes).unwrap();
        assert_eq!(doc.apply(&change).unwrap(), Applied::Done { fast: true });
    }
    assert_eq!(
        (doc.changes, doc.heads.len(), doc.actors.len()),
        (1001, 1, 1)
    );
    assert!(
        (doc.body.len() - start) / 1000 < 120,
        "{} bytes an edit",
        (doc.body.len() - start) / 1000
    );
    assert_eq!(ItemDoc::rebuild(&doc.body).unwrap(), doc);
}

#[test]
fn a_damaged_row_is_an_error() {
    let mut doc = ItemDoc::default();
    let change = commit(&mut doc, &actor(1), &[put("c", 0, &[])]);
    let mut other = ItemDoc::default();
    let foreign = commit(&mut other, &actor(2), &[put("c", 0, &[])]);
    for i in 0..doc.body.len() {
        let mut damaged = doc.clone();
        damaged.body[i] ^= 0x10;
        assert!(ItemDoc::rebuild(&damaged.body).is_err(), "byte {i}");
        assert!(damaged.apply_slow(&foreign).is_err());
        assert!(ItemDoc::rebuild(&doc.body[..i]).is_err() || i == 0);
    }
    assert!(doc.changes().unwrap() == [change.bytes()]);
}

#[test]
fn ids_are_ordered_like_winners() {
    let id = |counter, a: u8| OpId {
        counter,
        actor: Incarnation::from_bytes([a; 8]),
    };
    assert!(id(1, 9) < id(2, 1) && id(2, 1) < id(2, 2));
    let mut one = ItemDoc::default();
    let mut two = ItemDoc::default();
    let x = commit(&mut one, &actor(1), &[put("c", 1, &[])]);
    commit(&mut two, &actor(2), &[put("c", 2, &[])]);
    two.apply(&x).unwrap();
    assert_eq!(ints(&two, "c"), [1, 2]);
}

/// Tells what an edit costs; no limit is asserted, because machines are shared.
#[test]
fn what_an_edit_costs() {
    let (a, b) = (actor(1), actor(2));
    let value = |n: u8| Some(Scalar::Bytes(vec![n; 36]));
    let edit = |n: u8, pred: Vec<OpId>| Edit {
        key: "c".into(),
        put: value(n),
        pred,
    };
    let mut base = ItemDoc::default();
    commit(&mut base, &a, &[edit(1, vec![]), put("p", 0, &[])]);
    let seen = base.regs.ops("c");
    let change = CheckedChange::check(
        &base
            .author(&b, &[edit(2, seen.clone())])
            .unwrap()
            .unwrap()
            .bytes,
    )
    .unwrap();
    let time = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..2000).for_each(|_| f());
        start.elapsed().as_secs_f64() * 1e6 / 2000.0
    };
    let author = time(&mut || drop(base.author(&a, &[edit(3, seen.clone())]).unwrap()));
    let check = time(&mut || drop(CheckedChange::check(change.bytes()).unwrap()));
    let scan = time(&mut || drop(ownmesh_crdt::guard::prescan(change.bytes()).unwrap()));
    let copy = time(&mut || drop(base.clone()));
    let fast = time(&mut || drop(base.clone().apply(&change).unwrap())) - copy;
    let slow = time(&mut || drop(base.clone().apply_slow(&change).unwrap())) - copy;
    let row = base.regs.encode();
    let decode = time(&mut || drop(Registers::decode(&row).unwrap()));
    println!(
        "author {author:.1} us, check {check:.1} us (prescan {scan:.1} us), fast {fast:.1} us, slow {slow:.1} us, registers {decode:.1} us"
    );
}
