//! Honest ends, and someone in between who changes messages.

use super::*;

/// Each message of an honest run in turn: dropped ones simply stall, everything else ends the pairing; nobody is ever enrolled
/// who was not, and no admission is signed before the words.
#[test]
fn every_message_cut_repeated_flipped_or_swapped() {
    for (world, messages) in WAYS {
        for target in 0..messages {
            tampered_with(world, messages, target);
        }
    }
}

fn tampered_with(world: fn(u64) -> World, messages: usize, target: usize) {
    let cut = run(&mut world(4), false, |n, mut message| {
        if n == target {
            message.pop();
        }
        vec![message]
    });
    let empty = run(&mut world(4), false, |n, m| {
        vec![if n == target { vec![] } else { m }]
    });
    let longer = run(&mut world(4), false, |n, mut message| {
        if n == target {
            message.push(0);
        }
        vec![message]
    });
    let mut earlier = Vec::new();
    let replaced = run(&mut world(4), false, |n, message| {
        earlier.push(message.clone());
        vec![if n == target {
            earlier[(n + messages - 1) % messages % (n + 1)].clone()
        } else {
            message
        }]
    });
    for (what, outcome) in [("cut", cut), ("emptied", empty), ("extended", longer)] {
        assert!(
            outcome.joiner.is_some() || outcome.sponsor.is_some(),
            "{what} {target}: {outcome:?}"
        );
        assert_eq!(outcome.done, None, "{what} {target}");
        assert!(
            outcome.enrolled.is_none() || target == messages - 1,
            "{what} {target}"
        );
        assert!(!outcome.needed || target >= messages - 2, "{what} {target}");
    }
    if target > 0 {
        assert!(replaced.done.is_none(), "replaced {target}: {replaced:?}");
    }
    let twice = run(&mut world(4), false, |n, m| {
        if n == target {
            vec![m.clone(), m]
        } else {
            vec![m]
        }
    });
    // A repeated receipt finds the sponsor finished; every other repetition ends the pairing.
    assert!(
        twice.joiner.is_some() || twice.sponsor.is_some(),
        "repeated {target}: {twice:?}"
    );
    let dropped = run(&mut world(4), false, |n, m| {
        if n == target { vec![] } else { vec![m] }
    });
    assert_eq!(dropped.done, None, "dropped {target}");
}

#[test]
fn every_flipped_bit_ends_the_pairing() {
    for (world, _) in WAYS {
        flipped(world);
    }
}

fn flipped(world: fn(u64) -> World) {
    let mut lengths = Vec::new();
    run(&mut world(5), true, |_, m| {
        lengths.push(m.len());
        vec![m]
    });
    for (target, length) in lengths.into_iter().enumerate() {
        // Each byte of the short ones, some of the long ones.
        for byte in (0..length).step_by(1 + length / 40) {
            let outcome = run(&mut world(5), true, |n, mut message| {
                if n == target {
                    message[byte] ^= 1 << (byte % 8);
                }
                vec![message]
            });
            assert!(
                outcome.joiner.is_some() || outcome.sponsor.is_some(),
                "message {target} byte {byte}: {outcome:?}"
            );
            assert_eq!(outcome.done, None);
        }
    }
}

/// Security test 13.
#[test]
fn join_and_reveal_out_of_order() {
    // N3 and E1 travel together; swapped, the channel does not exist yet.
    let mut held = None;
    let swapped = run(&mut World::new(6), false, |n, m| match n {
        2 => {
            held = Some(m);
            vec![]
        }
        3 => vec![m, held.take().unwrap()],
        _ => vec![m],
    });
    assert!(
        matches!(
            swapped.sponsor,
            Some(PairError::WrongSecret | PairError::Dead)
        ),
        "{swapped:?}"
    );
}

/// Ephemeral keys of low order, in clear at the head of N1 and N2.
/// Security test 14.
#[test]
fn low_order_ephemerals() {
    for point in low_order() {
        for target in [0, 1] {
            let outcome = run(&mut World::new(13), true, |n, mut message| {
                if n == target {
                    let at = if n == 0 { 51 } else { 0 };
                    message[at..at + 32].copy_from_slice(&point);
                }
                vec![message]
            });
            let error = if target == 0 {
                outcome.sponsor
            } else {
                outcome.joiner
            };
            assert_eq!(error, Some(PairError::LowOrderKey));
        }
    }
}

/// Each message of a run replaced by each other message of that run, and of another run at the same window.
#[test]
fn every_message_at_every_other_ones_place() {
    for (world, messages) in WAYS {
        let record = |rng_seed: u64| {
            let mut all = Vec::new();
            let mut world = world(7);
            world.rng = rng(rng_seed);
            run(&mut world, false, |_, message| {
                all.push(message.clone());
                vec![message]
            });
            all
        };
        let (same, other) = (record(1), record(2));
        assert_eq!((same.len(), other.len()), (messages, messages));
        for at in 0..messages {
            for (from, strange) in same.iter().chain(&other).enumerate() {
                // The first message of another run begins that run.
                if from == at || (at == 0 && from == messages) {
                    continue;
                }
                let mut world = world(7);
                world.rng = rng(1);
                let outcome = run(&mut world, false, |n, message| {
                    vec![if n == at { strange.clone() } else { message }]
                });
                let told = format!("{from} at {at}: {outcome:?}");
                assert!(
                    outcome.joiner.is_some() || outcome.sponsor.is_some(),
                    "{told}"
                );
                assert_eq!(outcome.done, None, "{told}");
                assert!(outcome.enrolled.is_none() || at == messages - 1, "{told}");
            }
        }
    }
}

/// A run that stops before each message: the joiner has something only if its receipt was cut, and then the sponsor has admitted it.
/// Security test 17.
#[test]
fn a_cut_before_every_message() {
    for (world, messages) in WAYS {
        for at in 0..messages {
            let outcome = run(&mut world(8), false, |n, message| {
                if n < at { vec![message] } else { vec![] }
            });
            assert_eq!((&outcome.joiner, &outcome.sponsor), (&None, &None));
            assert_eq!(outcome.done, None, "{at}");
            assert_eq!(outcome.enrolled.is_some(), at == messages - 1, "{at}");
            assert_eq!(outcome.needed, at >= messages - 2, "{at}");
        }
    }
}
