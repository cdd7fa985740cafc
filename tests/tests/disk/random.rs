//! A user who does anything: afterwards base and disk agree, whatever the scan called it.

use ownmesh_node::disk::MetaKind;
use ownmesh_node::disk::scan::Scope;
use proptest::prelude::*;

use super::base::{Folder, MS, path};

fn act(folder: &Folder, what: u8, one: u16, two: u16) {
    let disk = &folder.disk;
    let all = disk.snapshot();
    let of = |kind: Option<MetaKind>| -> Vec<&String> {
        all.iter()
            .filter(|(_, node)| kind.is_none_or(|kind| node.kind == kind))
            .map(|(path, _)| path)
            .collect()
    };
    let pick = |from: &[&String], n: u16| -> Option<String> {
        (!from.is_empty()).then(|| from[usize::from(n) % from.len()].clone())
    };
    let (files, dirs, any) = (of(Some(MetaKind::File)), of(Some(MetaKind::Dir)), of(None));
    let dir = if two.is_multiple_of(3) {
        None
    } else {
        pick(&dirs, two)
    };
    let name = ["a", "b", "c", "d", "e"][usize::from(one) % 5];
    let target = dir.map_or_else(|| name.to_owned(), |dir| format!("{dir}/{name}"));
    let free = !all.contains_key(&target);
    match what % 9 {
        0 if free => disk.user_write(&target, [one as u8, two as u8]),
        1 if free => disk.user_mkdir(&target),
        2 if free => disk.user_symlink(name, &target),
        3 => {
            if let Some(file) = pick(&files, two) {
                disk.user_append(&file, [one as u8]);
            }
        }
        4 => {
            if let Some(file) = pick(&files, two) {
                disk.user_save(&file, [one as u8, 7]);
            }
        }
        5 => {
            if let Some(at) = pick(&any, one) {
                disk.user_rm(&at);
            }
        }
        6 | 7 => {
            if let Some(from) = pick(&any, two.rotate_left(5))
                && free
                && !path(&target).starts_with(&path(&from))
            {
                disk.user_rename(&from, &target);
            }
        }
        _ => {
            if let Some(file) = pick(&files, two) {
                disk.user_chmod(&file, 0o600 | u32::from(one) & 0o77);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn base_follows_the_disk(
        rounds in prop::collection::vec(prop::collection::vec(any::<(u8, u16, u16, u8)>(), 1..12), 1..6),
        at_once: bool,
    ) {
        let mut folder = Folder::new();
        folder.at_once = at_once;
        for round in rounds {
            for (what, one, two, ms) in round {
                act(&folder, what, one, two);
                folder.disk.advance(i64::from(ms % 4) * 10 * MS);
            }
            let (_, report) = folder.scan(&Scope::All).unwrap();
            prop_assert!(report.problems.is_empty(), "{:?}", report);
            folder.assert_agrees();
        }
        folder.settle();
    }
}
