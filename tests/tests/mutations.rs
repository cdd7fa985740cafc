//! Each bug of the list in `ownmesh_crdt::mutation` must be noticed by the simulator: a random life
//! that goes wrong with it, or one of the stories told on purpose.
//!
//! `cargo test -p ownmesh-tests --features mutations --test mutations`; `MESH_MUTATION=Name` tries one.

use ownmesh_crdt::mutation::{self, ALL};
use ownmesh_tests::seeds::run_all;
use ownmesh_tests::stories;

/// Seeds a bug has to show itself in.
const SEEDS: u64 = 600;

#[test]
fn every_bug_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("MESH_MUTATION").ok();
    let mut lines = Vec::new();
    let mut unnoticed = Vec::new();
    for bug in ALL.iter().copied() {
        if only
            .as_ref()
            .is_some_and(|only| *only != format!("{bug:?}"))
        {
            continue;
        }
        mutation::set(Some(bug));
        let told = stories::ALL.iter().find_map(|(name, story)| {
            let failed = std::panic::catch_unwind(story).is_err();
            failed.then(|| format!("the story of {name}"))
        });
        let noticed = told.or_else(|| {
            let sum = run_all(0..SEEDS, 1);
            sum.failed.iter().next().map(|(seed, why)| {
                let why: String = why.chars().take(120).collect();
                format!("seed {seed} ({} run): {why}", sum.seeds)
            })
        });
        mutation::set(None);
        lines.push(format!(
            "{bug:?}: {}",
            noticed.as_deref().unwrap_or("NOT NOTICED")
        ));
        if noticed.is_none() {
            unnoticed.push(bug);
        }
    }
    let _ = std::panic::take_hook();
    println!("{}", lines.join("\n"));
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}
