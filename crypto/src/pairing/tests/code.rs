//! What only the short code has: guesses, the third word, and somebody who knows the code and stands between.

use super::*;
use crate::pairing::handshake::{Context, Handshake, Psk, fork};
use crate::pairing::message::{Door, PairHello};

fn sent(outputs: &[SponsorOutput]) -> Vec<u8> {
    let send = |output: &SponsorOutput| match output {
        SponsorOutput::Send(message) => Some(message.clone()),
        _ => None,
    };
    outputs.iter().find_map(send).unwrap()
}

fn wrong(world: &World) -> Code {
    let text = world.code().format();
    let last = if text.ends_with('0') { "1" } else { "0" };
    Code::parse(&format!("{}{last}", &text[..text.len() - 1])).unwrap()
}

/// Security test 4.
#[test]
fn a_wrong_code_costs_a_guess_and_shows_no_key() {
    let mut world = World::with_code(1);
    let wrong = wrong(&world);
    let (mut joiner, first) = world.joiner_with_code(&wrong);
    let mut sponsor = world.sponsor(true);
    let outputs = sponsor.handle(&first).unwrap();
    assert_eq!(outputs[0], SponsorOutput::Guess, "before the answer goes");
    assert_eq!(
        joiner.handle(&sent(&outputs), &mut world.rng),
        Err(PairError::WrongSecret)
    );
    assert_eq!(
        joiner.handle(&[0; 96], &mut world.rng),
        Err(PairError::Dead)
    );
    // One who goes on all the same has no proof.
    assert_eq!(sponsor.handle(&[7; 112]), Err(PairError::WrongSecret));
    assert_eq!(sponsor.handle(&first), Err(PairError::Dead));
}

#[test]
fn another_windows_nameplate_costs_none() {
    let mut world = World::with_code(2);
    let other = loop {
        let code = Code::random(&mut world.rng);
        if code.nameplate() != world.code().nameplate() {
            break code;
        }
    };
    let (_, first) = world.joiner_with_code(&other);
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::OtherSession)
    );
}

#[test]
fn a_window_may_have_no_code() {
    let mut world = World::with_code(2);
    let (_, first) = world.joiner();
    world.window.code = None;
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::OtherSession)
    );
}

#[test]
fn one_who_answers_without_the_code_is_found_out() {
    let mut world = World::with_code(3);
    let (mut joiner, first) = world.joiner();
    let window = Window {
        code: Some(wrong(&world)),
        ..world.window.clone()
    };
    let mut guesser = Sponsor::new(&window, &world.laptop, None, true, &mut world.rng);
    let answer = sent(&guesser.handle(&first).unwrap());
    assert_eq!(
        joiner.handle(&answer, &mut world.rng),
        Err(PairError::WrongSecret)
    );
    // With the code, but at another PeerId than the connection's.
    let (mut joiner, first) = world.joiner();
    let thief = keys(&mut world.rng);
    let mut elsewhere = Sponsor::new(&world.window, &thief, None, true, &mut world.rng);
    let answer = sent(&elsewhere.handle(&first).unwrap());
    assert_eq!(
        joiner.handle(&answer, &mut world.rng),
        Err(PairError::WrongSecret)
    );
}

#[test]
fn what_was_recorded_opens_nothing() {
    let mut recorded = Vec::new();
    run(&mut World::with_code(4), true, |_, message| {
        recorded.push(message.clone());
        vec![message]
    });
    // The same window and the same joiner, the next attempt.
    let mut world = World::with_code(4);
    world.rng = rng(99);
    let mut sponsor = world.sponsor(true);
    assert_eq!(sponsor.handle(&recorded[0]).unwrap().len(), 2);
    assert_eq!(sponsor.handle(&recorded[2]), Err(PairError::WrongSecret));
}

/// Security test 9. N1 lets everybody who heard it test a key. The code is not the key: trying all codes against a recording fits none, while against a
/// handshake with the code itself as its key one fits.
#[test]
fn a_recording_says_nothing_about_the_code() {
    let mut world = World::with_code(5);
    let mut recorded = Vec::new();
    run(&mut world, true, |_, message| {
        recorded.push(message.clone());
        vec![message]
    });
    let (joiner, sponsor) = (
        world.phone.public().transport,
        world.laptop.public().transport,
    );
    let right = world.code();
    let psk = |code: &Code, before: &[u8]| {
        let mut key = [0; 64];
        key[..11].copy_from_slice(code.format().as_bytes());
        Psk::from_pake(&Secret::new(key), before)
    };
    let fits = |code: &Code, before: &[u8], first: &[u8]| {
        let context = Context {
            joiner_transport: &joiner,
            sponsor_transport: &sponsor,
            before,
        };
        let psk = psk(code, before);
        let noise = Handshake::responder(&psk, &context, &world.laptop, rng(0));
        noise.unwrap().read(first, true).is_ok()
    };
    // In full all million codes that begin as the window's does: some minutes.
    let others: Vec<Code> = if FULL {
        let shown = right.format();
        let all = (0..1_000_000).map(|n| {
            let text = format!("{}-{:03}-{:03}", &shown[..3], n / 1_000, n % 1_000);
            Code::parse(&text).unwrap()
        });
        all.filter(|code| code.format() != shown).collect()
    } else {
        (0..50).map(|_| Code::random(&mut world.rng)).collect()
    };

    let (proof, first) = recorded[2].split_at(64);
    let before = [&recorded[0], &recorded[1], proof].concat();
    for code in others.iter().chain([&right]) {
        assert!(!fits(code, &before, first), "{}", *code.format());
    }

    let hello = PairHello {
        door: Door::Code(right.nameplate()),
        transport: joiner,
    }
    .to_bytes();
    let context = Context {
        joiner_transport: &joiner,
        sponsor_transport: &sponsor,
        before: &hello,
    };
    let psk = psk(&right, &hello);
    let mut naive = Handshake::initiator(&psk, &context, &world.phone, fork(&mut rng(1))).unwrap();
    let first = naive.write().unwrap();
    assert!(fits(&right, &hello, &first));
    assert!(!others.iter().any(|code| fits(code, &hello, &first)));
    eprintln!("{} codes tried: none fits a recording", others.len() + 1);
}

/// What each side came to when somebody who knows the code stood between.
struct Between {
    sponsor_admits: bool,
    joiner_agrees: bool,
}

/// The phone meets a thief who plays the laptop with a mesh of its own; the laptop meets the thief who plays the phone. The user types on each
/// device what the other one really shows. With `trust_sponsor` and `trust_joiner` that side does not ask.
fn between(seed: u64, trust_sponsor: bool, trust_joiner: bool) -> Between {
    let mut world = World::with_code(seed);
    let mut thief = World::with_code(seed + 1_000_000);
    thief.window.code = world.window.code.clone();
    thief.phone = thief.laptop.clone();

    // The thief at the laptop.
    let mut sponsor = world.sponsor_of(&thief.laptop, trust_sponsor);
    let (laptop, own) = (
        world.laptop.public().transport,
        thief.laptop.public().transport,
    );
    let newcomer = phone(&thief.laptop, &own);
    let (mut false_phone, first) =
        Joiner::with_code(&world.code(), &laptop, newcomer, &mut thief.rng).unwrap();
    // The thief at the phone, which it lets in without looking at words.
    let mut false_laptop = thief.sponsor_of(&world.phone, false);
    let transport = world.phone.public().transport;
    let newcomer = phone(&world.phone, &transport);
    let (mut joiner, knock) =
        Joiner::with_code(&world.code(), &own, newcomer, &mut world.rng).unwrap();
    if trust_joiner {
        joiner.trust_code();
    }

    let at_laptop = converse(&mut world, &mut sponsor, &mut false_phone, first);
    let at_phone = converse(&mut thief, &mut false_laptop, &mut joiner, knock);
    // The words on the phone, typed on the laptop.
    let on_phone = at_phone.words.unwrap().join(" ");
    let admitted = if trust_sponsor {
        Some(at_laptop.outputs)
    } else {
        sponsor.confirm_words(&on_phone).ok()
    };
    // The thief knows what its own leg's words are and admits the phone into its own mesh.
    let SponsorOutput::NeedEnrollment { join, .. } =
        false_laptop.confirm_words(&on_phone).unwrap().remove(0)
    else {
        panic!()
    };
    let bait = thief.enrollment(&join);
    let mut outputs = Vec::new();
    for message in false_laptop.enroll(bait).unwrap() {
        outputs.extend(joiner.handle(&message, &mut world.rng).unwrap());
    }
    assert!(
        matches!(outputs[..], [JoinerOutput::Enrollment { ask_word, .. }] if ask_word != trust_joiner)
    );
    // The word on the laptop, if it shows one, typed on the phone.
    let shown = admitted.iter().flatten().find_map(|output| match output {
        SponsorOutput::Word(word) => Some(word.clone()),
        _ => None,
    });
    let joiner_agrees =
        trust_joiner || shown.is_some_and(|word| joiner.confirm_word(&word).is_ok());
    assert_eq!(joiner.accept().is_ok(), joiner_agrees);
    Between {
        sponsor_admits: admitted.is_some(),
        joiner_agrees,
    }
}

/// Security test 15b.
#[test]
fn one_between_who_knows_the_code_fails_at_the_words() {
    for seed in 0..40 {
        let Between {
            sponsor_admits,
            joiner_agrees,
        } = between(seed, false, false);
        assert!(!sponsor_admits && !joiner_agrees, "neither: {seed}");
    }
    // A side that trusts the code is open to whoever has it; the other side is not.
    for seed in 100..110 {
        let trusting = between(seed, true, false);
        assert!(trusting.sponsor_admits && !trusting.joiner_agrees);
        let trusting = between(seed, false, true);
        assert!(!trusting.sponsor_admits && trusting.joiner_agrees);
    }
}

impl World {
    fn sponsor_of(&mut self, joiner: &DeviceKeys, trust_code: bool) -> Sponsor {
        let proved = Some(joiner.public().transport);
        Sponsor::new(
            &self.window,
            &self.laptop,
            proved,
            trust_code,
            &mut self.rng,
        )
    }
}

/// What a conversation up to the words came to.
#[derive(Default)]
struct Talk {
    words: Option<[String; 2]>,
    outputs: Vec<SponsorOutput>,
}

/// Carries messages until people are asked.
fn converse(world: &mut World, sponsor: &mut Sponsor, joiner: &mut Joiner, first: Vec<u8>) -> Talk {
    let mut talk = Talk::default();
    let mut to_sponsor = vec![first];
    while let Some(message) = (!to_sponsor.is_empty()).then(|| to_sponsor.remove(0)) {
        for output in sponsor.handle(&message).unwrap() {
            let SponsorOutput::Send(answer) = output else {
                talk.outputs.push(output);
                continue;
            };
            for output in joiner.handle(&answer, &mut world.rng).unwrap() {
                match output {
                    JoinerOutput::Send(message) => to_sponsor.push(message),
                    JoinerOutput::Words(words) => talk.words = Some(words),
                    JoinerOutput::Enrollment { .. } => unreachable!(),
                }
            }
        }
    }
    talk
}

/// Security test 15b.
#[test]
fn the_third_word_is_asked_for_and_nothing_is_final_before() {
    let meet = |trust: bool| {
        let mut world = World::with_code(20);
        let (mut joiner, first) = world.joiner();
        if trust {
            joiner.trust_code();
        }
        let mut sponsor = world.sponsor(true);
        let talk = converse(&mut world, &mut sponsor, &mut joiner, first);
        assert_eq!(talk.words, None, "a sponsor that asks for none");
        let (mut word, mut messages) = (None, Vec::new());
        for output in talk.outputs {
            match output {
                SponsorOutput::NeedEnrollment { join, path } => {
                    assert_eq!(path, JoinPath::Code);
                    let enrollment = world.enrollment(&join);
                    messages = sponsor.enroll(enrollment).unwrap();
                }
                SponsorOutput::Word(shown) => word = Some(shown),
                _ => {}
            }
        }
        for message in messages {
            joiner.handle(&message, &mut world.rng).unwrap();
        }
        (joiner, word)
    };
    let (mut joiner, word) = meet(false);
    let word = word.unwrap();
    assert_eq!(joiner.confirm_word("wrong"), Err(WordsWrong { left: 1 }));
    assert_eq!(
        joiner.confirm_word(&format!(" {} ", word.to_uppercase())),
        Ok(())
    );
    assert!(joiner.accept().is_ok());

    let (mut joiner, _) = meet(false);
    assert_eq!(joiner.accept(), Err(PairError::Unexpected));
    assert_eq!(joiner.confirm_word(&word), Err(WordsWrong { left: 0 }));

    let (mut joiner, _) = meet(false);
    assert_eq!(joiner.confirm_word(""), Err(WordsWrong { left: 1 }));
    assert_eq!(joiner.confirm_word("wrong"), Err(WordsWrong { left: 0 }));
    assert_eq!(joiner.confirm_word(&word), Err(WordsWrong { left: 0 }));
    assert_eq!(joiner.accept(), Err(PairError::Dead));

    // Whoever trusts the code is not asked, and nobody is shown a word for it.
    let (mut joiner, word) = meet(true);
    assert_eq!(word, None);
    assert!(joiner.accept().is_ok());
}

#[test]
fn the_sponsor_has_to_be_of_the_mesh_it_offers() {
    let mut world = World::with_code(21);
    let (mut joiner, first) = world.joiner();
    let mut sponsor = world.sponsor(true);
    let talk = converse(&mut world, &mut sponsor, &mut joiner, first);
    let Some(SponsorOutput::NeedEnrollment { join, .. }) = talk
        .outputs
        .iter()
        .find(|output| matches!(output, SponsorOutput::NeedEnrollment { .. }))
    else {
        panic!()
    };
    let good = world.enrollment(join);
    assert_eq!(
        joiner.check(&good).map(|(_, sponsor)| sponsor),
        Ok(world.laptop.device_id())
    );
    // Another mesh, which admits the phone and does not know the laptop.
    let mut other = World::with_code(22);
    let bait = other.enrollment(join);
    assert_eq!(joiner.check(&bait).map(|_| ()), Err(PairError::NotSponsor));
}
