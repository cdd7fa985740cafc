//! Honest ends, and someone in between who changes messages.

use super::*;

/// Each message of an honest run in turn: dropped ones simply stall, everything else ends the pairing; nobody is ever enrolled
/// who was not, and no admission is signed before the words.
#[test]
fn every_message_cut_repeated_flipped_or_swapped() {
    for target in 0..MESSAGES {
        let cut = run(&mut World::new(4), false, |n, mut message| {
            if n == target {
                message.pop();
            }
            vec![message]
        });
        let empty = run(&mut World::new(4), false, |n, m| {
            vec![if n == target { vec![] } else { m }]
        });
        let longer = run(&mut World::new(4), false, |n, mut message| {
            if n == target {
                message.push(0);
            }
            vec![message]
        });
        let mut earlier = Vec::new();
        let replaced = run(&mut World::new(4), false, |n, message| {
            earlier.push(message.clone());
            vec![if n == target {
                earlier[(n + MESSAGES - 1) % MESSAGES % (n + 1)].clone()
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
                outcome.enrolled.is_none() || target == MESSAGES - 1,
                "{what} {target}"
            );
            assert!(!outcome.needed || target >= 6, "{what} {target}");
        }
        if target > 0 {
            assert!(replaced.done.is_none(), "replaced {target}: {replaced:?}");
        }
        let twice = run(&mut World::new(4), false, |n, m| {
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
        let dropped = run(&mut World::new(4), false, |n, m| {
            if n == target { vec![] } else { vec![m] }
        });
        assert_eq!(dropped.done, None, "dropped {target}");
    }
}

#[test]
fn every_flipped_bit_ends_the_pairing() {
    let mut lengths = Vec::new();
    run(&mut World::new(5), true, |_, m| {
        lengths.push(m.len());
        vec![m]
    });
    for (target, length) in lengths.into_iter().enumerate() {
        // Each byte of the short ones, some of the long ones.
        for byte in (0..length).step_by(1 + length / 40) {
            let outcome = run(&mut World::new(5), true, |n, mut message| {
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
