//! What is handed over, and its limits.

use super::*;

/// Limits before the joiner is verified, and the size of an enrolment.
#[test]
fn sizes_are_limited() {
    let mut world = World::new(14);
    assert_eq!(
        world.sponsor(true).handle(&vec![0; MAX_EARLY_MESSAGE + 1]),
        Err(PairError::TooLarge)
    );
    let (mut joiner, _) = world.joiner();
    let mut rng = rng(0);
    assert_eq!(
        joiner.handle(&vec![0; MAX_EARLY_MESSAGE + 1], &mut rng),
        Err(PairError::TooLarge)
    );

    let (mut joiner, first) = world.joiner();
    let mut sponsor = world.sponsor(false);
    let words = to_words(&mut world, &mut joiner, &mut sponsor, first);
    let SponsorOutput::NeedEnrollment { join, .. } =
        sponsor.confirm_words(&words.join(" ")).unwrap().remove(0)
    else {
        panic!()
    };
    let mut enrollment = world.enrollment(&join);
    enrollment.keyslots = vec![vec![0; 150_000]; 2];
    let messages = sponsor.enroll(enrollment).unwrap();
    assert_eq!(messages.len(), 5, "split into frames");
    assert!(messages.iter().all(|message| message.len() <= MAX_MESSAGE));
    let mut outputs = Vec::new();
    for message in messages {
        outputs.extend(joiner.handle(&message, &mut rng).unwrap());
    }
    assert!(
        matches!(&outputs[..], [JoinerOutput::Enrollment { enrollment, .. }] if enrollment.keyslots[1].len() == 150_000)
    );
}

/// A sponsor's enrolment must be what the joiner will accept; the joiner checks for itself.
#[test]
fn an_enrolment_is_checked_at_both_ends() {
    let attempt = |change: &dyn Fn(&mut Enrollment, &mut World)| {
        let mut world = World::new(15);
        let (mut joiner, first) = world.joiner();
        let mut sponsor = world.sponsor(false);
        let words = to_words(&mut world, &mut joiner, &mut sponsor, first);
        let SponsorOutput::NeedEnrollment { join, .. } =
            sponsor.confirm_words(&words.join(" ")).unwrap().remove(0)
        else {
            panic!()
        };
        let mut enrollment = world.enrollment(&join);
        change(&mut enrollment, &mut world);
        let at_sponsor = sponsor.enroll(enrollment.clone()).map(|_| ());
        (at_sponsor, joiner_check(&world, &enrollment))
    };
    let both = |error: PairError| (Err(error.clone()), Err(error));
    assert_eq!(attempt(&|_, _| ()), (Ok(()), Ok(())));
    assert_eq!(
        attempt(&|e, _| e.statements.clear()),
        both(PairError::WrongMesh)
    );
    assert_eq!(
        attempt(&|e, _| {
            e.statements.remove(0);
        }),
        both(PairError::WrongMesh)
    );
    assert_eq!(
        attempt(&|e, _| {
            e.statements.remove(5);
        }),
        both(PairError::NotAdmitted),
        "its own device statement"
    );
    assert_eq!(
        attempt(&|e, _| {
            e.statements.remove(2);
        }),
        both(PairError::Unentitled),
        "the delegation it rests on"
    );
    assert_eq!(
        attempt(&|e, _| *e.statements[3].last_mut().unwrap() ^= 1),
        both(PairError::Statement(StatementError::BadSignature))
    );
    let other = World::new(16);
    assert_eq!(
        attempt(&|e, _| e.statements = other
            .registry
            .statements()
            .map(|s| s.bytes().to_vec())
            .collect()),
        both(PairError::WrongMesh),
        "another mesh altogether"
    );
    // A grant to the new device that does not open to the committed key.
    let bad_grant = attempt(&|e, world| {
        e.statements.pop();
        let set = e.registry(&world.mesh()).unwrap();
        let wrong = EpochKey::from_parts(world.docs.id, [0; 32]);
        let id = world.phone.device_id();
        let grant = registry::grants(
            &world.laptop,
            set.view(),
            &DOCS,
            &wrong,
            &[id],
            2,
            &mut world.rng,
        )
        .unwrap();
        e.statements.push(grant.bytes().to_vec());
    });
    assert!(
        matches!(bad_grant, (Ok(()), Err(PairError::BadGrant(_)))),
        "{bad_grant:?}"
    );
}

/// The joiner's own check, as if the sponsor had sent it unchecked.
fn joiner_check(world: &World, enrollment: &Enrollment) -> Result<(), PairError> {
    let transport = world.phone.public().transport;
    let newcomer = phone(&world.phone, &transport);
    let (joiner, _) = Joiner::with_ticket(&world.ticket, newcomer, &mut rng(0)).unwrap();
    joiner.check(enrollment).map(|_| ())
}

#[test]
fn too_many_items_are_refused_while_reading() {
    let few = Enrollment {
        mesh_secret: MeshSecret::from_bytes([0; 32]),
        statements: vec![],
        keyslots: vec![vec![]; 17],
    };
    assert!(minicbor::decode::<Enrollment>(&minicbor::to_vec(&few).unwrap()).is_err());
    let many = Enrollment {
        keyslots: vec![],
        statements: vec![vec![]; 4097],
        ..few
    };
    assert!(minicbor::decode::<Enrollment>(&minicbor::to_vec(&many).unwrap()).is_err());
    // an array that claims 2^32 items
    assert!(
        minicbor::decode::<Enrollment>(&[0x83, 0x41, 0, 0x9a, 0xff, 0xff, 0xff, 0xff]).is_err()
    );
}
