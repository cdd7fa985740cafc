//! Random lives of three devices. `MESH_SEED=n` runs one seed and prints its steps,
//! `MESH_SEEDS=a..b` a range; without either, 300 seeds.

use ownmesh_tests::seeds::{run, run_all_with, run_with};

/// Security test 66.
#[test]
fn nothing_is_ever_lost() {
    lives(false, "0..300");
}

/// With rules that come, change and go on any device: what is ignored stays on its disk, and nothing
/// is lost when it is compared again.
#[test]
fn nothing_is_ever_lost_under_ignore_rules() {
    lives(true, "0..150");
}

#[allow(
    clippy::print_stdout,
    reason = "what many seeds came to is read by people"
)]
fn lives(rules: bool, usual: &str) {
    if let Ok(seed) = std::env::var("MESH_SEED") {
        let outcome = run_with(seed.parse().expect("MESH_SEED is a number"), rules);
        println!("{}", outcome.log.join("\n"));
        println!("{:#?}", outcome.counts);
        if let Some(failure) = outcome.failure {
            panic!("seed {seed}: {failure}");
        }
        return;
    }
    let range = std::env::var("MESH_SEEDS").unwrap_or_else(|_| usual.to_owned());
    let (from, to) = range.split_once("..").expect("MESH_SEEDS is a..b");
    let seeds = from.parse().expect("a number")..to.parse().expect("a number");
    let started = std::time::Instant::now();
    let most = std::env::var("MESH_FAILURES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(5);
    let sum = run_all_with(seeds, most, rules);
    println!(
        "{} seeds in {:.1} s",
        sum.seeds,
        started.elapsed().as_secs_f64()
    );
    for (what, n) in &sum.counts {
        println!("{n:>9} {what}");
    }
    for (seed, failure) in &sum.failed {
        println!(
            "seed {seed}: {}",
            failure.chars().take(900).collect::<String>()
        );
    }
    assert!(
        sum.failed.is_empty(),
        "{} seeds failed; MESH_SEED=n shows the steps of one",
        sum.failed.len()
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7] {
        let (one, two) = (run(seed), run(seed));
        for (a, b) in one.log.iter().zip(&two.log) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(one.digest, two.digest, "seed {seed}");
    }
}
