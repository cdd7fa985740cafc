//! Pairing from both sides: the whole way, and what each side refuses.

use super::*;
use crate::ids::{DeviceId, MeshId, SpaceId};
use crate::keys::DeviceKeys;
use crate::master::MasterKey;
use crate::registry::{self, By, JoinPath, Registry, SpaceKind};
use crate::secret::Secret;
use crate::space::{EpochKey, MeshSecret};
use crate::testing::{keys, low_order, rng};
use proptest::prelude::*;
use rand::rngs::StdRng;

/// Whether counts are as large as the list of security tests has them.
const FULL: bool = option_env!("MESH_E2E_FULL").is_some();

const DOCS: SpaceId = SpaceId::from_bytes([7; 16]);

/// A laptop with a mesh of its own and an open window, and a phone outside.
struct World {
    rng: StdRng,
    laptop: DeviceKeys,
    phone: DeviceKeys,
    registry: Registry,
    docs: EpochKey,
    window: Window,
    ticket: Ticket,
    /// Whether the phone comes with the code.
    by_code: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let root = MasterKey::random(&mut rng).root(&[1; 16], 0);
        let (laptop, phone) = (keys(&mut rng), keys(&mut rng));
        let genesis = registry::genesis(&root, [1; 16], "home", 1).unwrap();
        let mesh = genesis.mesh_id();
        let mut set = Registry::new(genesis.bytes()).unwrap();
        let docs = EpochKey::random(&mut rng);
        let id = laptop.device_id();
        for statement in [
            registry::device(
                By::Root(&root),
                &mesh,
                "laptop",
                "linux",
                &laptop.card(),
                JoinPath::First,
                1,
            ),
            registry::delegation(By::Root(&root), &mesh, id, true, 1),
            registry::space(&laptop, &mesh, DOCS, "docs", SpaceKind::Folder, 1),
            registry::epoch(&laptop, &mesh, DOCS, 0, &docs, 1),
        ] {
            set.insert(statement.unwrap().bytes()).unwrap();
        }
        let window = Window::new(mesh, &mut rng);
        let ticket = window
            .ticket(&laptop.public(), vec!["192.168.1.20:4001".into()])
            .unwrap();
        let ticket = Ticket::parse(&ticket.format().unwrap()).unwrap();
        Self {
            rng,
            laptop,
            phone,
            registry: set,
            docs,
            window,
            ticket,
            by_code: false,
        }
    }

    fn with_code(seed: u64) -> Self {
        Self {
            by_code: true,
            ..Self::new(seed)
        }
    }

    fn code(&self) -> Code {
        self.window.code.clone().unwrap()
    }

    fn mesh(&self) -> MeshId {
        self.window.mesh_id
    }

    fn joiner(&mut self) -> (Joiner, Vec<u8>) {
        if self.by_code {
            self.joiner_with_code(&self.code())
        } else {
            self.joiner_with(&self.ticket.clone())
        }
    }

    fn joiner_with(&mut self, ticket: &Ticket) -> (Joiner, Vec<u8>) {
        let transport = self.phone.public().transport;
        Joiner::with_ticket(ticket, phone(&self.phone, &transport), &mut self.rng).unwrap()
    }

    fn joiner_with_code(&mut self, code: &Code) -> (Joiner, Vec<u8>) {
        let (sponsor, transport) = (
            self.laptop.public().transport,
            self.phone.public().transport,
        );
        Joiner::with_code(
            code,
            &sponsor,
            phone(&self.phone, &transport),
            &mut self.rng,
        )
        .unwrap()
    }

    fn sponsor(&mut self, trust_code: bool) -> Sponsor {
        let proved = Some(self.phone.public().transport);
        Sponsor::new(
            &self.window,
            &self.laptop,
            proved,
            trust_code,
            &mut self.rng,
        )
    }

    /// What the laptop signs for this joiner.
    fn enrollment(&mut self, join: &JoinRequest) -> Enrollment {
        let mut set = self.registry.clone();
        let (by, mesh) = (By::Device(&self.laptop), self.mesh());
        let device = registry::device(
            by,
            &mesh,
            &join.name,
            &join.platform,
            &join.card,
            JoinPath::Ticket,
            2,
        )
        .unwrap();
        set.insert(device.bytes()).unwrap();
        let id = join.card.public.device_id();
        let grant = registry::grants(
            &self.laptop,
            set.view(),
            &DOCS,
            &self.docs,
            &[id],
            2,
            &mut self.rng,
        )
        .unwrap();
        set.insert(grant.bytes()).unwrap();
        Enrollment {
            mesh_secret: MeshSecret::from_bytes([4; 32]),
            statements: set
                .statements()
                .map(|statement| statement.bytes().to_vec())
                .collect(),
            keyslots: vec![vec![5; 190]],
        }
    }
}

fn phone<'a>(keys: &'a DeviceKeys, transport: &'a [u8; 32]) -> Newcomer<'a> {
    Newcomer {
        keys,
        name: "phone",
        platform: "android",
        transport,
    }
}

/// What has happened at both ends after a run.
#[derive(Default, Debug)]
struct Outcome {
    joiner: Option<PairError>,
    sponsor: Option<PairError>,
    enrolled: Option<Enrollment>,
    done: Option<DeviceId>,
    needed: bool,
    guesses: u8,
}

/// Carries messages between both until nothing moves or one fails. `tamper` sees every message with its number and may replace
/// it by any messages; the user types the words shown, agrees, and nothing else goes wrong.
fn run(
    world: &mut World,
    trust_code: bool,
    mut tamper: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>>,
) -> Outcome {
    let mut sponsor = world.sponsor(trust_code);
    let (mut joiner, first) = world.joiner();
    let mut outcome = Outcome::default();
    let (mut to_sponsor, mut to_joiner) = (vec![first], Vec::new());
    let (mut shown, mut number) = (None, 0);
    let (mut asked, mut back) = (false, None);
    while !(to_sponsor.is_empty() && to_joiner.is_empty()) {
        let mut answers = Vec::new();
        for message in std::mem::take(&mut to_sponsor) {
            number += 1;
            for message in tamper(number - 1, message) {
                match sponsor.handle(&message) {
                    Ok(outputs) => answers.extend(outputs),
                    Err(e) => outcome.sponsor = Some(e),
                }
            }
        }
        if outcome.sponsor.is_some() {
            return outcome;
        }
        while let Some(answer) = (!answers.is_empty()).then(|| answers.remove(0)) {
            match answer {
                SponsorOutput::Send(message) => to_joiner.push(message),
                SponsorOutput::AskWords => asked = true,
                SponsorOutput::NeedEnrollment { join, .. } => {
                    outcome.needed = true;
                    let enrollment = world.enrollment(&join);
                    to_joiner.extend(sponsor.enroll(enrollment).unwrap());
                }
                SponsorOutput::Done { device } => outcome.done = Some(device),
                SponsorOutput::Guess => outcome.guesses += 1,
                SponsorOutput::Word(word) => back = Some(word),
                SponsorOutput::Joining { .. } => {}
            }
        }
        for message in std::mem::take(&mut to_joiner) {
            number += 1;
            for message in tamper(number - 1, message) {
                match joiner.handle(&message, &mut world.rng) {
                    Ok(outputs) => {
                        for output in outputs {
                            match output {
                                JoinerOutput::Send(message) => to_sponsor.push(message),
                                JoinerOutput::Words(words) => shown = Some(words),
                                JoinerOutput::Enrollment {
                                    enrollment,
                                    ask_word,
                                    ..
                                } => {
                                    assert_eq!(ask_word, world.by_code);
                                    if ask_word {
                                        joiner.confirm_word(back.as_ref().unwrap()).unwrap();
                                    }
                                    outcome.enrolled = Some(enrollment);
                                    to_sponsor.push(joiner.accept().unwrap());
                                }
                            }
                        }
                    }
                    Err(e) => outcome.joiner = Some(e),
                }
            }
        }
        if outcome.joiner.is_some() {
            return outcome;
        }
        if asked && to_sponsor.is_empty() {
            asked = false;
            let typed = shown.clone().unwrap().join("  ").to_uppercase();
            let mut outputs = sponsor.confirm_words(&typed).unwrap();
            if let Some(SponsorOutput::Word(word)) = outputs.get(1) {
                back = Some(word.clone());
            }
            let SponsorOutput::NeedEnrollment { join, .. } = outputs.remove(0) else {
                panic!()
            };
            outcome.needed = true;
            let enrollment = world.enrollment(&join);
            to_joiner.extend(sponsor.enroll(enrollment).unwrap());
        }
    }
    outcome
}

/// Both ways in, and the messages of an honest run: P1+N1, N2, N3, E1, E2, E3, E4, E5; or P1+C1, C2, C3+N1, and then the same.
const WAYS: [(fn(u64) -> World, usize); 2] = [(World::new, 8), (World::with_code, 10)];

#[test]
fn a_phone_joins() {
    for (trust_code, (world, messages)) in
        [false, true].into_iter().flat_map(|t| WAYS.map(|w| (t, w)))
    {
        let mut world = world(1);
        let mut lengths = Vec::new();
        let outcome = run(&mut world, trust_code, |_, message| {
            lengths.push(message.len());
            vec![message]
        });
        assert_eq!((outcome.joiner, outcome.sponsor), (None, None));
        assert_eq!(outcome.done, Some(world.phone.device_id()));
        assert_eq!(lengths.len(), messages);
        if world.by_code {
            assert_eq!(lengths[..5], [51 + 96, 320, 64 + 48, 96, 64]);
        } else {
            assert_eq!(lengths[..3], [51 + 48, 96, 64]);
        }
        assert_eq!(outcome.guesses, u8::from(world.by_code));
        let enrollment = outcome.enrolled.unwrap();
        let set = enrollment.registry(&world.mesh()).unwrap();
        assert_eq!(set.view().devices[&world.phone.device_id()].name, "phone");
        let epoch = set.view().current_epoch(&DOCS).unwrap();
        assert_eq!(
            registry::open_grant(&world.phone, &DOCS, epoch),
            Ok(world.docs.clone())
        );
        assert_eq!(enrollment.mesh_secret, MeshSecret::from_bytes([4; 32]));
    }
}

#[test]
fn a_wrong_secret_ends_both_before_any_key_is_shown() {
    let mut world = World::new(2);
    let wrong = Ticket {
        secret: Secret::new([0; 32]),
        ..world.ticket.clone()
    };
    let (_, first) = world.joiner_with(&wrong);
    let mut sponsor = world.sponsor(true);
    assert_eq!(sponsor.handle(&first), Err(PairError::WrongSecret));
    let (_, honest) = world.joiner();
    assert_eq!(sponsor.handle(&honest), Err(PairError::Dead));
}

#[test]
fn another_windows_ticket_is_refused() {
    let mut world = World::new(3);
    let old = Ticket {
        session: [0; 16],
        ..world.ticket.clone()
    };
    let (_, first) = world.joiner_with(&old);
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::OtherSession)
    );
}

/// Security tests 16 and 70.
#[test]
fn wrong_words_twice() {
    let mut world = World::new(7);
    let (mut joiner, first) = world.joiner();
    let mut sponsor = world.sponsor(false);
    let words = to_words(&mut world, &mut joiner, &mut sponsor, first);
    assert_eq!(
        sponsor.confirm_words("abandon abandon"),
        Err(WordsWrong { left: 1 })
    );
    assert_eq!(
        sponsor.confirm_words(&words[0]),
        Err(WordsWrong { left: 0 })
    );
    assert_eq!(
        sponsor.confirm_words(&words.join(" ")),
        Err(WordsWrong { left: 0 }),
        "dead, even for the right ones"
    );
    assert_eq!(sponsor.handle(&[0; 32]), Err(PairError::Dead));
}

#[test]
fn right_words_at_the_second_try() {
    let mut world = World::new(8);
    let (mut joiner, first) = world.joiner();
    let mut sponsor = world.sponsor(false);
    let words = to_words(&mut world, &mut joiner, &mut sponsor, first);
    assert_eq!(
        sponsor.confirm_words("table river"),
        Err(WordsWrong { left: 1 })
    );
    let outputs = sponsor
        .confirm_words(&format!("  {}\t{} \n", words[0].to_uppercase(), words[1]))
        .unwrap();
    assert!(matches!(
        outputs[..],
        [SponsorOutput::NeedEnrollment { .. }]
    ));
}

/// Runs up to the question for the words; returns those shown on the joiner.
fn to_words(
    world: &mut World,
    joiner: &mut Joiner,
    sponsor: &mut Sponsor,
    first: Vec<u8>,
) -> [String; 2] {
    let mut to_sponsor = vec![first];
    let mut shown = None;
    while let Some(message) = (!to_sponsor.is_empty()).then(|| to_sponsor.remove(0)) {
        for output in sponsor.handle(&message).unwrap() {
            match output {
                SponsorOutput::Send(answer) => {
                    for output in joiner.handle(&answer, &mut world.rng).unwrap() {
                        match output {
                            JoinerOutput::Send(message) => to_sponsor.push(message),
                            JoinerOutput::Words(words) => shown = Some(words),
                            JoinerOutput::Enrollment { .. } => unreachable!(),
                        }
                    }
                }
                SponsorOutput::AskWords => return shown.unwrap(),
                SponsorOutput::Joining { .. } | SponsorOutput::Guess => {}
                other => panic!("{other:?}"),
            }
        }
    }
    unreachable!()
}

/// One who has read the ticket answers in the sponsor's place: its noise key betrays it before the joiner says who it is.
/// Security test 10.
#[test]
fn a_ticket_thief_is_not_the_sponsor() {
    let mut world = World::new(9);
    let thief = keys(&mut world.rng);
    // It must claim the sponsor's PeerId for the prologue to agree; give it even that.
    let ticket = Ticket {
        transport: thief.public().transport,
        ..world.ticket.clone()
    };
    let (mut joiner, first) = world.joiner_with(&ticket);
    let mut false_sponsor = Sponsor::new(&world.window, &thief, None, true, &mut world.rng);
    let SponsorOutput::Send(answer) = false_sponsor.handle(&first).unwrap().remove(0) else {
        panic!()
    };
    assert_eq!(
        joiner.handle(&answer, &mut world.rng),
        Err(PairError::TicketKeyMismatch)
    );
    // With its own PeerId the handshake does not even agree.
    let (_, first) = world.joiner();
    let mut false_sponsor = Sponsor::new(&world.window, &thief, None, true, &mut world.rng);
    assert_eq!(false_sponsor.handle(&first), Err(PairError::WrongSecret));
}

/// Security test 11.
#[test]
fn transports_must_match_on_both_sides() {
    let mut world = World::new(10);
    let (_, first) = world.joiner();
    let mut sponsor = Sponsor::new(
        &world.window,
        &world.laptop,
        Some([9; 32]),
        true,
        &mut world.rng,
    );
    assert_eq!(sponsor.handle(&first), Err(PairError::TransportMismatch));
    let newcomer = phone(&world.phone, &[9; 32]);
    let refused = Joiner::with_ticket(&world.ticket, newcomer, &mut world.rng);
    assert_eq!(refused.map(|_| ()), Err(PairError::TransportMismatch));
    // another PeerId declared than is used in the handshake's prologue
    let mut declared = first;
    declared[19] ^= 1;
    let mut sponsor = Sponsor::new(&world.window, &world.laptop, None, true, &mut world.rng);
    assert_eq!(sponsor.handle(&declared), Err(PairError::WrongSecret));
}

#[test]
fn a_device_does_not_pair_with_itself() {
    let mut world = World::new(11);
    world.phone = world.laptop.clone();
    let transport = world.phone.public().transport;
    let newcomer = phone(&world.phone, &transport);
    let refused = Joiner::with_ticket(&world.ticket, newcomer, &mut world.rng);
    assert_eq!(refused.map(|_| ()), Err(PairError::OwnKey));
    let refused = Joiner::with_code(&world.code(), &transport, newcomer, &mut world.rng);
    assert_eq!(refused.map(|_| ()), Err(PairError::OwnKey));
}

#[test]
fn names_are_checked_before_anything_is_sent() {
    let mut world = World::new(12);
    let transport = world.phone.public().transport;
    for (name, platform) in [
        ("", "x"),
        ("a\nb", "x"),
        ("phone", ""),
        (&*"x".repeat(129), "x"),
        ("phone", &"x".repeat(65)),
    ] {
        let newcomer = Newcomer {
            name,
            platform,
            ..phone(&world.phone, &transport)
        };
        let refused = Joiner::with_ticket(&world.ticket, newcomer, &mut world.rng);
        assert_eq!(
            refused.map(|_| ()),
            Err(PairError::BadName),
            "{name:?} {platform:?}"
        );
    }
}

/// Reversed check words: what one end shows depends on both nonces and the handshake.
#[test]
fn words_differ_per_pairing() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..30 {
        let mut world = World::new(100 + seed);
        let (mut joiner, first) = world.joiner();
        let mut sponsor = world.sponsor(false);
        seen.insert(to_words(&mut world, &mut joiner, &mut sponsor, first));
    }
    assert_eq!(seen.len(), 30);
}

mod code;
mod enrolment;
mod forged;
mod hostile;
mod tamper;

proptest! {
    /// Security test 18.
    #[test]
    fn random_bytes_never_panic(messages: Vec<Vec<u8>>, hello: bool, by_code: bool) {
        let mut world = World { by_code, ..World::new(17) };
        let (mut joiner, first) = world.joiner();
        let mut sponsor = world.sponsor(true);
        if hello {
            sponsor.handle(&first).unwrap();
        }
        for message in messages {
            let _ = sponsor.handle(&message);
            let _ = joiner.handle(&message, &mut world.rng);
        }
    }
}
