//! What an item was before one device's changes: theirs are left out, everybody else's stay.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use common::actor;
use ownmesh_crdt::doc::{CheckedChange, Edit, ItemDoc};
use ownmesh_crdt::item::{self, Content, ItemState, Kind, Place};
use ownmesh_crdt::past::{Past, Without, bring_back, take_away, told, without};
use ownmesh_crypto::ids::{ContentHash, ItemId};

const HOME: u8 = 1;
const SCRIPT: u8 = 2;
const OTHER: u8 = 3;

fn content(n: u8) -> Content {
    Content::File {
        size: 1,
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

fn make(by: u8) -> ItemDoc {
    let mut doc = ItemDoc::default();
    let edits = item::create(
        Kind::File,
        &place("a"),
        Some(&content(1)),
        Some(0o600),
        Some(5),
    );
    doc.commit_at(&actor(by), 1_000, &edits).unwrap();
    doc
}

fn does(doc: &mut ItemDoc, by: u8, time: i64, edits: &[Edit]) {
    doc.commit_at(&actor(by), time, edits).unwrap().unwrap();
}

fn edit(doc: &mut ItemDoc, by: u8, time: i64, to: u8) {
    let edits = item::edit_content(
        &state(doc).seen(),
        &content(to),
        None,
        Some(time),
        &doc.regs,
    );
    does(doc, by, time, &edits);
}

fn delete(doc: &mut ItemDoc, by: u8, time: i64) {
    let now = state(doc);
    let edits = item::delete(&now.seen(), [9; 8], now.content(), &doc.regs);
    does(doc, by, time, &edits);
}

fn by_script(past: &Past) -> bool {
    past.actor == actor(SCRIPT) && past.time >= 2_000
}

/// Brings the item back; what it was must be what it is then.
fn undo(doc: &mut ItemDoc) {
    let Without::Before(Some(before)) = without(&doc.body, &by_script).unwrap() else {
        panic!("there is something to bring back");
    };
    let edits = bring_back(&doc.regs, &before, &before.place);
    does(doc, HOME, 9_000, &edits);
    let now = state(doc);
    assert_eq!(
        (now.content(), &now.place, now.mode, now.mtime, now.deleted),
        (
            before.content(),
            &before.place,
            before.mode,
            before.mtime,
            false
        )
    );
    assert_eq!(bring_back(&doc.regs, &before, &before.place), []);
}

#[test]
fn edits_renames_and_deletions_go_back() {
    let mut doc = make(HOME);
    edit(&mut doc, SCRIPT, 1_500, 2);
    edit(&mut doc, SCRIPT, 2_000, 3);
    let seen = state(&doc).seen();
    does(&mut doc, SCRIPT, 2_100, &item::rename(&seen, &place("b")));
    let mode = item::set_meta(&doc.regs, Some(0o777), None);
    does(&mut doc, SCRIPT, 2_200, &mode);
    delete(&mut doc, SCRIPT, 2_300);
    assert!(state(&doc).deleted);
    undo(&mut doc);
    let now = state(&doc);
    assert_eq!(now.content(), Some(&content(2)), "what was not asked about");
    assert_eq!((now.place.name.as_str(), now.mode), ("a", Some(0o600)));
}

#[test]
fn what_was_made_since_was_nothing_before() {
    let mut doc = make(HOME);
    assert!(matches!(
        without(&doc.body, &by_script).unwrap(),
        Without::Untouched
    ));
    let all = |past: &Past| past.time >= 1_000;
    assert!(matches!(
        without(&doc.body, &all).unwrap(),
        Without::Before(None)
    ));
    let gone = take_away(&doc.regs, [7; 8]);
    does(&mut doc, OTHER, 3_000, &gone);
    assert!(state(&doc).deleted);
    assert_eq!(take_away(&doc.regs, [7; 8]), []);
}

#[test]
fn what_others_built_on_stays() {
    let mut doc = make(HOME);
    edit(&mut doc, SCRIPT, 2_000, 2);
    edit(&mut doc, OTHER, 3_000, 3);
    let Without::Overtaken { by, before } = without(&doc.body, &by_script).unwrap() else {
        panic!("others have built on it");
    };
    assert_eq!(by, actor(OTHER));
    assert_eq!(before.unwrap().content(), Some(&content(1)));

    // What it did after that goes, up to the other's work.
    edit(&mut doc, SCRIPT, 4_000, 4);
    undo(&mut doc);
    assert_eq!(state(&doc).content(), Some(&content(3)));
}

#[test]
fn of_two_who_edited_at_once_the_other_stays() {
    let mut doc = make(HOME);
    let mut theirs = doc.clone();
    edit(&mut doc, SCRIPT, 2_000, 2);
    edit(&mut theirs, OTHER, 2_000, 3);
    let last = theirs.changes().unwrap().last().unwrap().to_vec();
    doc.apply(&CheckedChange::check(&last).unwrap()).unwrap();
    assert_eq!(state(&doc).versions.len(), 2);
    undo(&mut doc);
    assert_eq!(state(&doc).versions.len(), 1);
    assert_eq!(state(&doc).content(), Some(&content(3)));
    // A version that was deleted as one of two leaves nothing behind.
    let gone = take_away(&doc.regs, [7; 8]);
    does(&mut doc, HOME, 9_500, &gone);
    assert!(state(&doc).deleted);
}

#[test]
fn a_conflict_is_taken_away_whole() {
    let mut doc = make(HOME);
    let mut theirs = doc.clone();
    edit(&mut doc, SCRIPT, 2_000, 2);
    edit(&mut theirs, OTHER, 2_000, 3);
    let last = theirs.changes().unwrap().last().unwrap().to_vec();
    doc.apply(&CheckedChange::check(&last).unwrap()).unwrap();
    let gone = take_away(&doc.regs, [7; 8]);
    does(&mut doc, HOME, 9_500, &gone);
    assert!(state(&doc).deleted, "{:?}", doc.regs);
}

#[test]
fn the_changes_are_told_in_order_with_their_times() {
    let mut doc = make(HOME);
    edit(&mut doc, SCRIPT, 2_000, 2);
    delete(&mut doc, OTHER, 3_000);
    let all = told(&doc.body).unwrap();
    let times: Vec<_> = all.iter().map(|t| (t.past.actor, t.past.time)).collect();
    assert_eq!(
        times,
        [
            (actor(HOME), 1_000),
            (actor(SCRIPT), 2_000),
            (actor(OTHER), 3_000)
        ]
    );
    let held: Vec<_> = all
        .iter()
        .map(|t| t.after.as_ref().and_then(|s| s.content().cloned()))
        .collect();
    assert_eq!(held, [Some(content(1)), Some(content(2)), None]);
}
