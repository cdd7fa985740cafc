//! Items: the encodings of the registers, and each derived rule.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures"
)]

mod common;

use common::{Rng, actor, commit};
use ownmesh_crdt::doc::{CheckedChange, Edit, ItemDoc};
use ownmesh_crdt::item::{
    Content, ItemState, Kind, Place, Seen, Tombstone, create, drop_version, edit_content, rename,
    resolve, revive, set_meta,
};
use ownmesh_crdt::op::{OpId, Registers, Scalar};
use ownmesh_crypto::ids::{ContentHash, ItemId};
use proptest::prelude::*;

/// A deletion of what no tombstone was seen of.
fn delete(seen: &Seen, act: [u8; 8], content: Option<&Content>) -> Vec<Edit> {
    ownmesh_crdt::item::delete(seen, act, content, &Registers::default())
}

fn file(n: u8) -> Content {
    Content::File {
        size: 1000 * u64::from(n),
        hash: ContentHash::from_bytes([n; 32]),
    }
}

fn place(name: &str) -> Place {
    Place {
        parent: ItemId::ROOT,
        name: name.into(),
    }
}

fn state(doc: &ItemDoc) -> ItemState {
    ItemState::from_registers(&doc.regs).unwrap()
}

/// Two devices that share one new file holding content 1.
#[derive(Clone)]
struct Pair {
    a: ItemDoc,
    b: ItemDoc,
    from_a: Vec<CheckedChange>,
    from_b: Vec<CheckedChange>,
}

impl Pair {
    fn new() -> Self {
        let mut a = ItemDoc::default();
        let first = commit(
            &mut a,
            &actor(1),
            &create(
                Kind::File,
                &place("f"),
                Some(&file(1)),
                Some(0o644),
                Some(5),
            ),
        );
        let mut b = ItemDoc::default();
        b.apply(&first).unwrap();
        Self {
            a,
            b,
            from_a: vec![],
            from_b: vec![],
        }
    }

    fn a(&mut self, edits: &[Edit]) {
        self.from_a.push(commit(&mut self.a, &actor(1), edits));
    }

    fn b(&mut self, edits: &[Edit]) {
        self.from_b.push(commit(&mut self.b, &actor(2), edits));
    }

    /// Both get all; both agree.
    fn meet(&mut self) -> ItemState {
        self.from_b
            .drain(..)
            .for_each(|c| drop(self.a.apply(&c).unwrap()));
        self.from_a
            .drain(..)
            .for_each(|c| drop(self.b.apply(&c).unwrap()));
        assert_eq!(self.a.regs, self.b.regs);
        state(&self.a)
    }
}

fn contents(state: &ItemState) -> Vec<Content> {
    state.versions.iter().map(|(_, c)| c.clone()).collect()
}

#[test]
fn a_new_file_is_what_was_created() {
    let pair = Pair::new();
    let s = state(&pair.a);
    assert_eq!(
        (s.kind, &s.place, s.deleted),
        (Kind::File, &place("f"), false)
    );
    assert_eq!(
        (s.mode, s.mtime, s.content()),
        (Some(0o644), Some(5), Some(&file(1)))
    );
    assert_eq!(
        (s.place_ops.clone(), s.conflicts()),
        (vec![s.place_op], vec![])
    );
    assert_eq!(
        (s.seen().c.len(), s.seen().p.len(), s.seen().d.len()),
        (1, 1, 0)
    );
    let partial = Registers(
        pair.a
            .regs
            .0
            .iter()
            .filter(|(k, _)| *k != "p")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
    );
    assert_eq!(ItemState::from_registers(&partial), None);
}

#[test]
fn two_contents_are_a_conflict_and_equal_ones_are_none() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&edit_content(
        &seen,
        &file(2),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    pair.b(&edit_content(
        &seen,
        &file(3),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!(contents(&s), [file(2), file(3)]);
    assert_eq!(
        s.content(),
        Some(&file(3)),
        "same counter: the higher actor"
    );
    assert_eq!(s.conflicts(), [(s.versions[0].0, file(2))]);

    // Deleting the copy drops that one value.
    let copy = s.versions[0].0;
    pair.a(&drop_version(copy));
    let s = pair.meet();
    assert_eq!((contents(&s), s.deleted), (vec![file(3)], false));

    let seen = s.seen();
    pair.a(&edit_content(
        &seen,
        &file(4),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    pair.b(&edit_content(
        &seen,
        &file(4),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!(
        (contents(&s), s.conflicts()),
        (vec![file(4), file(4)], vec![])
    );
    assert_eq!(s.seen().c.len(), 2, "equal values are seen both");
    assert_eq!(s.ops_of(&file(4)).len(), 2);
    pair.b(&edit_content(
        &s.seen(),
        &file(5),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    assert_eq!(contents(&pair.meet()), [file(5)], "and superseded both");
}

#[test]
fn resolving_ends_a_conflict() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&edit_content(
        &seen,
        &file(2),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    pair.b(&edit_content(
        &seen,
        &file(3),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    pair.meet();
    let mut apart = pair.clone();
    pair.a(&resolve(&pair.a.regs.clone(), &file(2), false));
    let s = pair.meet();
    assert_eq!((contents(&s), s.conflicts()), (vec![file(2)], vec![]));

    // Two who decide differently while apart, each with the bytes in hand: a conflict again.
    apart.a(&resolve(&apart.a.regs.clone(), &file(2), true));
    apart.b(&resolve(&apart.b.regs.clone(), &file(3), true));
    let s = apart.meet();
    assert_eq!(s.conflicts().len(), 1);
    assert_eq!(contents(&s).len(), 2);

    apart.a(&resolve(&apart.a.regs.clone(), &file(2), true));
    apart.b(&resolve(&apart.b.regs.clone(), &file(2), true));
    let s = apart.meet();
    assert_eq!(s.conflicts(), vec![], "the same decision twice is one");
}

#[test]
fn a_delete_deletes_the_version_it_names() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&delete(&seen, [7; 8], Some(&file(1))));
    let s = pair.meet();
    assert!(s.deleted && s.versions.is_empty());
    assert_eq!((s.tomb_acts.clone(), s.tomb_ops.len()), (vec![[7; 8]], 1));
    pair.b(&revive(&pair.b.regs.clone(), None));
    let s = pair.meet();
    assert_eq!((s.deleted, s.content()), (false, Some(&file(1))));
    assert!(revive(&pair.b.regs, None).is_empty());
}

#[test]
fn a_concurrent_edit_beats_a_delete_and_mode_does_not() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&delete(&seen, [7; 8], Some(&file(1))));
    pair.b(&set_meta(&pair.b.regs.clone(), Some(0o600), None));
    let s = pair.meet();
    assert_eq!((s.deleted, s.mode), (true, Some(0o600)));

    let mut pair = Pair::new();
    pair.a(&delete(&seen, [7; 8], Some(&file(1))));
    pair.b(&edit_content(
        &seen,
        &file(2),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!((s.deleted, contents(&s)), (false, vec![file(2)]));
    assert_eq!(s.seen().d.len(), 1);
    // The next edit clears the tombstone, so that a later return to the old bytes is alive too.
    pair.b(&edit_content(
        &s.seen(),
        &file(1),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!(
        (s.deleted, contents(&s), s.tomb_ops.len()),
        (false, vec![file(1)], 0)
    );
}

#[test]
fn the_same_bytes_written_again_after_a_delete_are_alive() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&delete(&seen, [7; 8], Some(&file(1))));
    let s = pair.meet();
    pair.a(&edit_content(
        &s.seen(),
        &file(1),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!((s.deleted, contents(&s)), (false, vec![file(1)]));
}

#[test]
fn two_deletes_are_both_taken_back_only_by_who_saw_both() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&delete(&seen, [7; 8], Some(&file(1))));
    pair.b(&delete(&seen, [8; 8], Some(&file(1))));
    let only_own = state(&pair.a).seen();
    pair.a(&edit_content(
        &only_own,
        &file(1),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    let s = pair.meet();
    assert!(
        s.deleted,
        "the other delete names these bytes and was not seen"
    );
    assert_eq!(s.tomb_acts, [[8; 8]]);
    pair.a(&revive(&pair.a.regs.clone(), None));
    assert!(!pair.meet().deleted);
}

#[test]
fn deleting_the_winner_leaves_the_other_version() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&edit_content(
        &seen,
        &file(2),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    pair.b(&edit_content(
        &seen,
        &file(3),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    pair.a(&delete(&s.seen(), [7; 8], Some(&file(3))));
    let s = pair.meet();
    assert_eq!((s.deleted, contents(&s)), (false, vec![file(2)]));
}

#[test]
fn renames_meet_at_one_place_everywhere() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&rename(&seen, &place("x")));
    pair.b(&rename(&seen, &place("y")));
    let s = pair.meet();
    assert_eq!((s.place.name.as_str(), s.place_ops.len()), ("y", 2));
    assert_eq!(s.place_op, s.place_ops[1]);
    pair.a(&rename(&s.seen(), &place("z")));
    let s = pair.meet();
    assert_eq!((s.place.name.as_str(), s.place_ops.len()), ("z", 1));
}

#[test]
fn a_rename_and_an_edit_both_stand() {
    let mut pair = Pair::new();
    let seen = state(&pair.a).seen();
    pair.a(&rename(&seen, &place("x")));
    pair.b(&edit_content(
        &seen,
        &file(2),
        None,
        None,
        &pair.b.regs.clone(),
    ));
    let s = pair.meet();
    assert_eq!((s.place.name.as_str(), contents(&s)), ("x", vec![file(2)]));
}

#[test]
fn mode_and_time_never_conflict() {
    let mut pair = Pair::new();
    assert!(
        set_meta(&pair.a.regs, Some(0o644), Some(5)).is_empty(),
        "as it is"
    );
    assert_eq!(set_meta(&pair.a.regs, Some(0o644), Some(6)).len(), 1);
    assert!(set_meta(&pair.a.regs, None, None).is_empty());
    pair.a(&set_meta(&pair.a.regs.clone(), Some(0o600), Some(6)));
    pair.b(&set_meta(&pair.b.regs.clone(), Some(0o755), None));
    let s = pair.meet();
    assert_eq!((s.mode, s.mtime), (Some(0o755), Some(6)));
    assert_eq!((contents(&s), s.conflicts()), (vec![file(1)], vec![]));
    pair.a(&set_meta(&pair.a.regs.clone(), Some(0o755), None));
    pair.meet();
    assert!(!pair.a.regs.has_conflict(), "saying it again ends it");
}

#[test]
fn a_directory_is_deleted_by_any_tombstone() {
    let mut doc = ItemDoc::default();
    commit(
        &mut doc,
        &actor(1),
        &create(Kind::Dir, &place("d"), None, None, None),
    );
    let s = state(&doc);
    assert_eq!(
        (s.kind, s.deleted, s.content(), s.mode),
        (Kind::Dir, false, None, None)
    );
    commit(&mut doc, &actor(1), &delete(&s.seen(), [1; 8], None));
    assert!(state(&doc).deleted);
}

#[test]
fn a_link_is_deleted_with_its_target() {
    let mut doc = ItemDoc::default();
    let to = Content::Link {
        target: "../x".into(),
    };
    commit(
        &mut doc,
        &actor(1),
        &create(Kind::Symlink, &place("l"), Some(&to), None, None),
    );
    let seen = state(&doc).seen();
    commit(&mut doc, &actor(1), &delete(&seen, [1; 8], Some(&to)));
    assert!(state(&doc).deleted);
}

#[test]
fn unreadable_values_are_passed_over_but_seen() {
    let mut doc = Pair::new().a;
    let bad = |key: &str| Edit {
        key: key.into(),
        put: Some(Scalar::Bytes(vec![0xff])),
        pred: vec![],
    };
    commit(&mut doc, &actor(2), &[bad("c"), bad("p"), bad("d")]);
    let s = state(&doc);
    assert_eq!(
        (s.place.clone(), contents(&s), s.deleted),
        (place("f"), vec![file(1)], false)
    );
    assert_eq!(
        (s.seen().c.len(), s.seen().p.len(), s.seen().d.len()),
        (2, 2, 1)
    );
}

#[test]
fn no_name_leads_out_of_its_directory() {
    for name in ["", ".", "..", "a/b", "/", "nul\0", &"x".repeat(1025)] {
        assert_eq!(Place::decode(&place(name).encode()), None, "{name:?}");
    }
    for name in ["...", " ", "a\\b", "ü\u{1f642}", &"x".repeat(1024)] {
        assert_eq!(Place::decode(&place(name).encode()), Some(place(name)));
    }
    assert_eq!(Place::decode(&[0; 15]), None);
}

#[test]
fn contents_have_one_form() {
    let long = [&[0u8, 0x80, 0x00][..], &[9; 32]].concat();
    assert_eq!(Content::decode(&long), None, "a longer form of size 0");
    for bytes in [&[][..], &[0], &[1], &[2, 1], &[1, 0xff], &[0; 33]] {
        assert_eq!(Content::decode(bytes), None, "{bytes:?}");
    }
    for size in [0, 127, 128, u64::from(u32::MAX), u64::MAX] {
        let content = Content::File {
            size,
            hash: ContentHash::from_bytes([3; 32]),
        };
        assert_eq!(Content::decode(&content.encode()), Some(content));
    }
    for content in [
        None,
        Some(file(3)),
        Some(Content::Link { target: "t".into() }),
    ] {
        let tomb = Tombstone {
            act: [9; 8],
            content,
        };
        assert_eq!(Tombstone::decode(&tomb.encode()), Some(tomb));
    }
}

#[test]
fn a_file_row_is_small() {
    let doc = Pair::new().a;
    let bytes = doc.regs.encode();
    // Key, place, content, mode and time of a file with a name of one byte: 76 bytes are values.
    assert!(bytes.len() <= 110, "{} bytes", bytes.len());
    assert_eq!(Registers::decode(&bytes).unwrap(), doc.regs);
}

/// Also keeps automerge's encoding: a version of it that writes other bytes would give changes other names.
#[test]
fn changes_and_registers_keep_their_bytes() {
    let mut pair = Pair::new();
    let mut text = format!("create {}\n", common::hex(&pair.a.body));
    let seen = state(&pair.a).seen();
    pair.b(&delete(&seen, [7; 8], Some(&file(1))));
    text += &format!("delete {}\n", common::hex(pair.from_b[0].bytes()));
    pair.a(&edit_content(
        &seen,
        &file(2),
        None,
        Some(6),
        &pair.a.regs.clone(),
    ));
    pair.meet();
    let both = state(&pair.a).seen();
    pair.a(&edit_content(
        &both,
        &file(3),
        None,
        None,
        &pair.a.regs.clone(),
    ));
    text += &format!("edit {}\n", common::hex(pair.from_a[0].bytes()));
    text += &format!("registers {}\n", common::hex(&pair.b.regs.encode()));
    text += &format!("seen {}\n", common::hex(&minicbor::to_vec(&both).unwrap()));
    common::snapshot("item.txt", &text);
}

fn op() -> impl Strategy<Value = OpId> {
    (1..5000u64, 1..5u8).prop_map(|(counter, a)| OpId {
        counter,
        actor: actor(a),
    })
}

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Scalar::Bytes),
        any::<i64>().prop_map(Scalar::Int),
        any::<bool>().prop_map(Scalar::Bool),
        ".{0,9}".prop_map(Scalar::Str),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn registers_round_trip(map in proptest::collection::btree_map("[a-z/]{1,9}", proptest::collection::btree_map(op(), scalar(), 1..4), 0..6)) {
        let regs = Registers(map.into_iter().map(|(k, v)| (k, v.into_iter().collect())).collect());
        prop_assert_eq!(Registers::decode(&regs.encode()).unwrap(), regs);
    }

    #[test]
    fn foreign_registers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Registers::decode(&bytes);
        let _ = minicbor::decode::<Seen>(&bytes);
        let _ = (Place::decode(&bytes), Content::decode(&bytes), Tombstone::decode(&bytes));
    }

    #[test]
    fn seen_round_trips(c in proptest::collection::vec(op(), 0..4), p in proptest::collection::vec(op(), 0..4), d in proptest::collection::vec(op(), 0..4)) {
        let seen = Seen { c, p, d };
        let bytes = minicbor::to_vec(&seen).unwrap();
        prop_assert_eq!(minicbor::decode::<Seen>(&bytes).unwrap(), seen);
    }
}

#[test]
fn damaged_registers_never_panic() {
    let bytes = Pair::new().a.regs.encode();
    let mut rng = Rng(1);
    for _ in 0..20_000 {
        let mut damaged = bytes.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.below(damaged.len());
            damaged[at] = rng.next() as u8;
        }
        if let Ok(regs) = Registers::decode(&damaged) {
            let _ = ItemState::from_registers(&regs);
        }
    }
}
