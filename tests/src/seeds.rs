//! Many seeds on all cores, and what they came to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use ownmesh_node::engine::Portions;

use crate::transition::{below, one_in};
use crate::world::World;

/// Portions that a few dozen items fill: what a portion ends in the middle of goes on all the same.
pub(crate) const SMALL: Portions = Portions {
    group: 3,
    turn: 2,
    fetch: 4,
    ready: 24,
};

/// What a seed came to.
pub struct Outcome {
    /// What is wrong, if anything.
    pub failure: Option<String>,
    /// Its steps.
    pub log: Vec<String>,
    /// For comparing two runs of it.
    pub digest: u64,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// A random life of three devices, and the verdict on it.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_with(seed, false)
}

/// The same; with `rules`, users change ignore rules too.
#[must_use]
pub fn run_with(seed: u64, rules: bool) -> Outcome {
    let mut world = World::new(seed, &["alice", "bob", "carol"], 3);
    if seed % 2 == 1 {
        for device in &mut world.devices {
            device.portions = SMALL;
        }
    }
    let shared = std::sync::Arc::clone(&world.shared);
    let failure = match catch_unwind(AssertUnwindSafe(|| live(&mut world, rules))) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_else(|| "a panic".to_owned()),
        ),
    };
    let mut r = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts = std::mem::take(&mut r.counts);
    for device in &world.devices {
        let t = device.tallies();
        for (what, n) in [
            ("changes authored", t.authored),
            ("changes applied fast", t.fast),
            ("changes applied slowly", t.slow),
            ("changes known already", t.known),
            ("changes that waited", t.waiting),
        ] {
            *counts.entry(what).or_default() += n;
        }
        for (what, n) in &device.notices {
            *counts.entry(what).or_default() += n;
        }
    }
    *counts.entry("things that happened").or_default() += world.acts;
    Outcome {
        failure,
        log: std::mem::take(&mut r.log),
        digest: r.digest,
        counts,
    }
}

fn live(world: &mut World, rules: bool) -> Result<(), String> {
    // What is ignored does not hear of deletions, and is new where it is moved to.
    world.reference().traces.off |= rules;
    // Some import a tree before they ever meet.
    for d in 0..3 {
        world.start(d);
        for _ in 0..below(&mut world.rng, 4) {
            world.user(d);
        }
    }
    let together = one_in(&mut world.rng, 2);
    for d in 0..3 {
        world.add(d);
        if !together {
            let until = world.now + 50;
            world.run_until(until);
        }
    }
    for p in world.links.keys().copied().collect::<Vec<_>>() {
        if !one_in(&mut world.rng, 4) {
            world.join(p);
        }
    }
    let steps = 20 + below(&mut world.rng, 60);
    for _ in 0..steps {
        let pause = world.delay(world.weather.pause);
        let until = world.now + pause;
        world.run_until(until);
        if world.failure.is_some() {
            break;
        }
        if rules && one_in(&mut world.rng, 8) {
            let d = below(&mut world.rng, 3);
            world.change_rules(d);
        }
        world.transition();
    }
    world.verdict()
}

/// What many seeds came to.
#[derive(Default)]
pub struct Summary {
    /// How many ran.
    pub seeds: u64,
    /// The failed ones and why.
    pub failed: BTreeMap<u64, String>,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs seeds on all cores; stops taking new ones after `most` failures.
#[must_use]
pub fn run_all(seeds: Range<u64>, most: usize) -> Summary {
    run_all_with(seeds, most, false)
}

/// The same; with `rules`, users change ignore rules too.
#[must_use]
pub fn run_all_with(seeds: Range<u64>, most: usize, rules: bool) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new(Summary::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = run_with(seed, rules);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.seeds += 1;
                    for (what, n) in outcome.counts {
                        *sum.counts.entry(what).or_default() += n;
                    }
                    if let Some(failure) = outcome.failure {
                        sum.failed.insert(seed, failure);
                    }
                    if sum.failed.len() >= most {
                        return;
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}
