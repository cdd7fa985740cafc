//! Keyslots: what opens them, what does not, and what damaged or greedy ones do.

use super::*;
use crate::testing::rng;
use proptest::prelude::*;

fn of() -> KeyslotFor {
    KeyslotFor {
        mesh_id: MeshId::from_bytes([5; 16]),
        mesh_salt: [6; 16],
        generation: 7,
    }
}

fn phrase_slot() -> (MasterKey, Phrase, Keyslot) {
    let mut rng = rng(1);
    let (master, phrase) = (MasterKey::random(&mut rng), Phrase::generate(&mut rng));
    let slot = Keyslot::seal_phrase(&master, of(), &phrase, &mut rng);
    (master, phrase, slot)
}

/// RFC 9106, section 5.3: Argon2id is Argon2id.
#[test]
fn argon2id_vector() {
    let params = argon2::ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let argon2 =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut out = [0; 32];
    argon2
        .hash_password_into(&[1; 32], &[2; 16], &mut out)
        .unwrap();
    assert_eq!(
        crate::testing::hex(out),
        "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    );
}

#[test]
fn phrase_round_trip() {
    let (master, phrase, slot) = phrase_slot();
    let bytes = slot.to_bytes();
    assert_eq!(bytes.len(), KEYSLOT_LEN);
    let read = Keyslot::parse(&bytes).unwrap();
    assert_eq!(read, slot);
    assert_eq!((read.kind(), read.of()), (KeyslotKind::Phrase, &of()));
    assert_eq!(read.open_phrase(&phrase), Ok(master));
    assert_eq!(
        read.open_phrase(&Phrase::generate(&mut rng(2))),
        Err(KeyslotError::PhraseNotForThisMesh)
    );
    assert_eq!(
        read.open_password("correct horse battery"),
        Err(KeyslotError::WrongKind)
    );
}

/// One second of Argon2 each, so all of a password's behaviour in one test.
#[test]
fn password_round_trip_across_normal_forms() {
    let mut rng = rng(3);
    let master = MasterKey::random(&mut rng);
    let composed = "caf\u{e9} au lait, \u{fb01}n";
    let decomposed = "cafe\u{301} au lait, fin";
    let slot = Keyslot::seal_password(&master, of(), composed, &mut rng).unwrap();
    let read = Keyslot::parse(&slot.to_bytes()).unwrap();
    assert_eq!(read.open_password(decomposed), Ok(master));
    assert_eq!(
        read.open_password("cafe au lait, fin"),
        Err(KeyslotError::WrongPassword)
    );
    let mut damaged = slot.to_bytes();
    damaged[KEYSLOT_LEN - 1] ^= 1;
    assert_eq!(
        Keyslot::parse(&damaged).unwrap().open_password(composed),
        Err(KeyslotError::Corrupt)
    );
    assert_eq!(
        &slot.to_bytes()[58..70],
        [0, 0, 1, 0, 3, 0, 0, 0, 4, 0, 0, 0]
    );
}

#[test]
fn password_policy() {
    assert_eq!(check_password("twelve chars"), Ok(()));
    assert_eq!(check_password("eleven char"), Err(WeakPassword::TooShort));
    assert_eq!(
        check_password("e\u{301}leven char"),
        Err(WeakPassword::TooShort),
        "counted after normalisation"
    );
    assert_eq!(
        check_password(&"x".repeat(1025)),
        Err(WeakPassword::TooLong)
    );
    let refused =
        Keyslot::seal_password(&MasterKey::random(&mut rng(4)), of(), "short", &mut rng(4));
    assert_eq!(refused, Err(WeakPassword::TooShort));
}

#[test]
fn hostile_parameters_are_refused_unread() {
    let (_, _, slot) = phrase_slot();
    let with = |memory: u32, passes: u32, lanes: u32| {
        let mut bytes = slot.to_bytes();
        bytes[5] = 1;
        for (at, number) in [(58, memory), (62, passes), (66, lanes)] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        Keyslot::parse(&bytes).map(|_| ())
    };
    assert_eq!(with(65_536, 3, 4), Ok(()));
    assert_eq!(with(1_048_576, 16, 8), Ok(()));
    for (memory, passes, lanes) in [
        (8, 3, 4),
        (65_535, 3, 4),
        (1_048_577, 3, 4),
        (u32::MAX, 3, 4),
        (65_536, 2, 4),
        (65_536, 17, 4),
        (65_536, 3, 0),
        (65_536, 3, 9),
        (0, 0, 0),
    ] {
        assert_eq!(
            with(memory, passes, lanes),
            Err(KeyslotError::KdfParamsRejected),
            "{memory} {passes} {lanes}"
        );
    }
    let mut bytes = slot.to_bytes();
    bytes[58] = 1;
    assert_eq!(
        Keyslot::parse(&bytes),
        Err(KeyslotError::KdfParamsRejected),
        "a phrase slot has none"
    );
}

#[test]
fn every_flipped_bit_and_cut_is_noticed() {
    let (master, phrase, slot) = phrase_slot();
    for bit in 0..KEYSLOT_LEN * 8 {
        let mut bad = slot.to_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        let opened = Keyslot::parse(&bad).and_then(|slot| slot.open_phrase(&phrase));
        assert!(opened.as_ref() != Ok(&master), "bit {bit} was accepted");
    }
    for end in 0..KEYSLOT_LEN {
        assert!(Keyslot::parse(&slot.to_bytes()[..end]).is_err());
    }
    assert_eq!(
        Keyslot::parse(&[slot.to_bytes(), vec![0]].concat()),
        Err(KeyslotError::Corrupt)
    );
    let mut newer = slot.to_bytes();
    newer[4] = 1;
    assert_eq!(
        Keyslot::parse(&newer),
        Err(KeyslotError::UnsupportedVersion(1))
    );
}

proptest! {
    #[test]
    fn never_panics(mut bytes: Vec<u8>, head: bool) {
        if head {
            bytes.splice(0..0, *b"MSHK\0\x02");
        }
        let _ = Keyslot::parse(&bytes);
    }
}
