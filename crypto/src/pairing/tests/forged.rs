//! Words that are to agree by chance or by work: somebody between two handshakes, and how many tries that takes.

use super::*;
use crate::pairing::handshake::{Context, Handshake, Psk, fork};
use crate::pairing::words::words;

fn random(rng: &mut StdRng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Security test 12. Somebody who knows the secret holds a handshake with each of the two. He chooses both hashes as he likes; of the nonces
/// that make the words he gives one before he knows the sponsor's, and the other before he knows the joiner's: the commitment holds
/// him to that (test 13). Two words agree once in four million runs; one word, the control that this would be seen, once in 2,048.
#[test]
fn words_of_two_handshakes_agree_by_chance_alone() {
    let (runs, most) = if FULL {
        (1 << 21, 2)
    } else {
        (1_u32 << 16, 1_u32)
    };
    let mut rng = rng(12);
    let (mut both, mut one) = (0, 0);
    for _ in 0..runs {
        let (with_laptop, with_phone) = (random(&mut rng), random(&mut rng));
        let his_own = random(&mut rng);
        let on_laptop = words(&with_laptop, &random(&mut rng), &his_own);
        let on_phone = words(&with_phone, &his_own, &random(&mut rng));
        one += u32::from(on_laptop[0] == on_phone[0]);
        both += u32::from(on_laptop[..2] == on_phone[..2]);
    }
    eprintln!("{runs} runs: {both} agreed in both words, {one} in the first");
    assert!(both <= most, "{both} of {runs}");
    let expected = runs / 2048;
    assert!(
        (expected / 2..expected * 2).contains(&one),
        "{one} of {runs}"
    );
}

/// The negative control of test 12: words made of the handshake's hash alone would be forged by trying keys for the last message. The same
/// key is worth nothing against the words there are.
/// Security test 12.
#[test]
fn words_without_commitment_would_be_forged() {
    let bits = if FULL { 16 } else { 11_u32 };
    let naive = |hash: &[u8; 32]| {
        let [first, second, _] = words(hash, &[0; 32], &[0; 32]);
        let place = |word| {
            let list = bip39::Language::English.word_list();
            list.iter().position(|w| *w == word).unwrap()
        };
        ((place(first) << 11) | place(second)) >> (22 - bits)
    };
    let mut world = World::new(13);
    // What the phone shows when the handshake with it is over.
    let on_phone = random(&mut world.rng);

    // At the laptop: the first two messages have gone, the third has the thief's static key in it.
    let transport = world.phone.public().transport;
    let psk = Psk::from_ticket(&world.window.secret, &world.window.session);
    let context = Context {
        joiner_transport: &transport,
        sponsor_transport: &world.ticket.transport,
        before: b"hello",
    };
    // The same ephemeral key every time, so that the first message stays what it was.
    let attempt = |keys: &DeviceKeys| Handshake::initiator(&psk, &context, keys, rng(77)).unwrap();
    let own = fork(&mut world.rng);
    let mut laptop = Handshake::responder(&psk, &context, &world.laptop, own).unwrap();
    let first = attempt(&world.phone).write().unwrap();
    laptop.read(&first, true).unwrap();
    let second = laptop.write().unwrap();

    let mut tries = 0_u32;
    let (found, third) = loop {
        tries += 1;
        let thief = keys(&mut world.rng);
        let mut noise = attempt(&thief);
        assert_eq!(noise.write().unwrap(), first);
        noise.read(&second, true).unwrap();
        let third = noise.write().unwrap();
        let hash = *noise.finish().unwrap().hash();
        if naive(&hash) == naive(&on_phone) {
            break (hash, third);
        }
        assert!(tries < 40 << bits, "the control does not work");
    };
    laptop.read(&third, false).unwrap();
    assert_eq!(
        *laptop.finish().unwrap().hash(),
        found,
        "the laptop takes it"
    );
    eprintln!("{bits} bits agreed after {tries} tries");

    let (his_own, laptops, phones) = (
        random(&mut world.rng),
        random(&mut world.rng),
        random(&mut world.rng),
    );
    let shown = [
        words(&found, &laptops, &his_own),
        words(&on_phone, &his_own, &phones),
    ];
    assert_ne!(shown[0][..2], shown[1][..2]);
}

/// Security test 11: both PeerIds, the path and everything said before are part of the first message's proof.
#[test]
fn each_part_of_the_prologue_is_held() {
    let mut world = World::new(14);
    let (joiner, sponsor) = (
        world.phone.public().transport,
        world.laptop.public().transport,
    );
    let psk = |path| Psk {
        path,
        key: Secret::new([7; 32]),
    };
    let context = |joiner, sponsor, before| Context {
        joiner_transport: joiner,
        sponsor_transport: sponsor,
        before,
    };
    let (by_ticket, by_code) = (handshake::Path::Ticket, handshake::Path::Code);
    let own = fork(&mut world.rng);
    let honest = context(&joiner, &sponsor, b"hello".as_slice());
    let mut phone = Handshake::initiator(&psk(by_ticket), &honest, &world.phone, own).unwrap();
    let first = phone.write().unwrap();
    let cases = [
        (by_ticket, context(&joiner, &sponsor, b"hello"), Ok(())),
        (
            by_code,
            context(&joiner, &sponsor, b"hello"),
            Err(PairError::WrongSecret),
        ),
        (
            by_ticket,
            context(&sponsor, &joiner, b"hello"),
            Err(PairError::WrongSecret),
        ),
        (
            by_ticket,
            context(&[9; 32], &sponsor, b"hello"),
            Err(PairError::WrongSecret),
        ),
        (
            by_ticket,
            context(&joiner, &[9; 32], b"hello"),
            Err(PairError::WrongSecret),
        ),
        (
            by_ticket,
            context(&joiner, &sponsor, b"hullo"),
            Err(PairError::WrongSecret),
        ),
        (
            by_ticket,
            context(&joiner, &sponsor, b""),
            Err(PairError::WrongSecret),
        ),
    ];
    for (number, (path, context, right)) in cases.into_iter().enumerate() {
        let own = fork(&mut world.rng);
        let mut laptop = Handshake::responder(&psk(path), &context, &world.laptop, own).unwrap();
        assert_eq!(laptop.read(&first, true), right, "case {number}");
    }
}
