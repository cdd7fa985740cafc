//! The order in which statements arrive never shows.

use super::*;
use rand::seq::SliceRandom;

fn reinsert(statements: &[Statement]) -> Registry {
    let start = statements
        .iter()
        .find(|s| matches!(s.body(), Body::Genesis(_)))
        .unwrap();
    let mut set = Registry::new(start.bytes()).unwrap();
    for statement in statements {
        set.insert(statement.bytes()).unwrap();
    }
    set
}

/// Everything a grown mesh has said, with a chain of delegations in it.
fn grown() -> Vec<Statement> {
    let mut world = World::new();
    world.docs();
    let mesh = world.mesh();
    let first = world.set.statements().next().unwrap().clone();
    let mut adder = world.laptop.clone();
    for name in ["phone", "desk", "tv"] {
        let keys = keys(&mut world.rng);
        world.must(
            &delegation(By::Device(&adder), &mesh, keys.device_id(), name != "tv", 1).unwrap(),
        );
        let device = world.device(By::Device(&adder), name, &keys);
        world.must(&device);
        let rival = world.device(By::Device(&world.laptop), "rival name", &keys);
        world.must(&rival);
        world.must(
            &space(
                &keys,
                &mesh,
                SpaceId::from_bytes([9; 16]),
                name,
                SpaceKind::Records,
                2,
            )
            .unwrap(),
        );
        let key = EpochKey::random(&mut world.rng);
        world.must(&epoch(&keys, &mesh, DOCS, 1, &key, 1).unwrap());
        let grant = grants(
            &keys,
            world.set.view(),
            &DOCS,
            &key,
            &[world.nas.device_id()],
            6,
            &mut world.rng,
        )
        .unwrap();
        world.must(&grant);
        // the same right again, smaller and larger: the larger stays
        let by = By::Device(&world.laptop);
        world.must(&delegation(by, &mesh, keys.device_id(), name == "tv", 7).unwrap());
        // Two new names given apart, and one that has seen one of them.
        let now = |id: &DeviceKeys| id.device_id();
        for (signer, text) in [(&keys, "one"), (&world.laptop, "two")] {
            let later = super::name(signer, world.set.view(), now(&keys), text, 8).unwrap();
            let apart = super::name(
                signer,
                reinsert(std::slice::from_ref(&first)).view(),
                now(&keys),
                text,
                9,
            );
            world.set.insert(apart.unwrap().bytes()).unwrap();
            world.set.insert(later.bytes()).unwrap();
        }
        adder = keys;
    }
    world.set.statements().cloned().collect()
}

/// Security test 23.
#[test]
fn order_never_shows() {
    let statements = grown();
    let expected = reinsert(&statements);
    for seed in 0..40 {
        let mut shuffled = statements.clone();
        shuffled.shuffle(&mut rng(seed));
        let set = reinsert(&shuffled);
        assert_eq!(
            (set.digest(), set.view(), set.pending()),
            (expected.digest(), expected.view(), 0),
            "seed {seed}"
        );
        // What it hands on needs no waiting.
        let mut relayed = Registry::new(set.statements().next().unwrap().bytes()).unwrap();
        for statement in set.statements().skip(1) {
            assert_eq!(
                relayed.insert(statement.bytes()),
                Ok(Inserted::New),
                "seed {seed}"
            );
        }
    }
}
