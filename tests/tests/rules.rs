//! Ignore rules, whatever stands in them.

use ownmesh_node::disk::RelPath;
use ownmesh_node::disk::rules::{Rules, SHARED, Texts, looker, with, without};
use proptest::prelude::*;

fn lines() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "[a-c!/*?\\[\\]{},#\\\\. ]{0,8}",
        "!?/?(\\*\\*/)?[a-c*]{1,2}(/[a-c*]{1,2})?/?",
    ];
    prop::collection::vec(line, 0..6).prop_map(|all| all.join("\n"))
}

fn path() -> impl Strategy<Value = RelPath> {
    let part = prop_oneof![Just("a"), Just("b"), Just("c"), Just("ab"), Just(".a")];
    prop::collection::vec(part, 1..5)
        .prop_map(|parts| RelPath::parse(&parts.join("/")).expect("a path"))
}

proptest! {
    #[test]
    fn what_is_in_an_ignored_directory_is_ignored(
        shared in lines(), device in lines(), path in path(), is_dir: bool
    ) {
        let Ok(rules) = Rules::parse(Texts { shared, device }) else { return Ok(()) };
        let ask = looker(&rules);
        let mut above = false;
        let mut at = path.parent();
        while let Some(dir) = at.filter(|dir| !dir.is_root()) {
            above |= rules.ignores(&dir, true);
            at = dir.parent();
        }
        prop_assert!(!above || rules.ignores(&path, is_dir));
        prop_assert_eq!(ask(&path, is_dir), rules.ignores(&path, is_dir));
        let decided = rules.decide(&path, is_dir);
        prop_assert_eq!(decided.is_some_and(|d| d.ignored), rules.ignores(&path, is_dir));
        prop_assert!(!rules.ignores(&RelPath::parse(SHARED).expect("a path"), false));
    }

    #[test]
    fn the_device_can_take_everything_back(shared in lines(), path in path()) {
        let first = path.components().next().expect("a path").to_owned();
        let device = format!("!{first}\n");
        let Ok(rules) = Rules::parse(Texts { shared, device }) else { return Ok(()) };
        prop_assert!(!rules.ignores(&RelPath::parse(&first).expect("a path"), true));
    }

    #[test]
    fn a_line_that_went_in_comes_out(text in lines(), line in "[a-c/*]{1,5}") {
        if let Some(more) = with(&text, &line) {
            let less = without(&more, &line).expect("a path");
            prop_assert_eq!(less.trim_end_matches('\n'), text.trim_end_matches('\n'));
        }
    }
}
