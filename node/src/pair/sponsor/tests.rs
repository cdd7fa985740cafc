//! The window from the outside: counting, time, one at a time; and many joiners at once on a network that does what it likes.

use super::*;
use ownmesh_crypto::pairing::{Joiner, JoinerOutput, Newcomer};
use ownmesh_crypto::registry::{self, By, Registry};
use ownmesh_crypto::{DeviceSeed, MasterKey, MeshSecret};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

mod races;

fn keys(seed: u8) -> Arc<DeviceKeys> {
    Arc::new(DeviceKeys::from_seed(&DeviceSeed::from_bytes([seed; 32])))
}

/// A mesh of one laptop, its window open, and everything it has done so far.
struct Laptop {
    registry: Registry,
    session: SponsorSession,
    rng: StdRng,
    now: Instant,
    code: Code,
    ticket: Ticket,
}

impl Laptop {
    fn new(seed: u64, trust: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let root = MasterKey::random(&mut rng).root(&[3; 16], 0);
        let genesis = registry::genesis(&root, [3; 16], "home", 1).unwrap();
        let mut registry = Registry::new(genesis.bytes()).unwrap();
        let mesh = registry.view().mesh_id;
        let own = keys(1);
        let by = By::Root(&root);
        let (card, id) = (own.card(), own.device_id());
        for statement in [
            registry::device(by, &mesh, "laptop", "linux", &card, JoinPath::First, 1),
            registry::delegation(by, &mesh, id, true, 1),
        ] {
            registry.insert(statement.unwrap().bytes()).unwrap();
        }
        let now = Instant::now();
        let session = SponsorSession::open(Window::new(mesh, &mut rng), own, trust, now);
        let (code, ticket) = (
            session.code().unwrap().clone(),
            session.ticket(vec![]).unwrap().unwrap(),
        );
        Self {
            registry,
            session,
            rng,
            now,
            code,
            ticket,
        }
    }

    fn frame(&mut self, stream: u64, from: &DeviceKeys, bytes: &[u8]) -> Vec<SponsorEffect> {
        let transport = from.public().transport;
        let (stream, now) = (PairStream(stream), self.now);
        self.session
            .handle_frame(now, &mut self.rng, stream, transport, bytes)
    }

    fn enrollment(&self, join: &JoinRequest, path: JoinPath) -> Enrollment {
        let (mut set, own) = (self.registry.clone(), keys(1));
        let mesh = set.view().mesh_id;
        let (name, platform) = (&join.name, &join.platform);
        let by = By::Device(&own);
        let device = registry::device(by, &mesh, name, platform, &join.card, path, 2).unwrap();
        set.insert(device.bytes()).unwrap();
        Enrollment {
            mesh_secret: MeshSecret::from_bytes([4; 32]),
            statements: set.statements().map(|s| s.bytes().to_vec()).collect(),
            keyslots: vec![],
        }
    }

    fn joiner_with_code(&mut self, keys: &DeviceKeys, code: &Code) -> (Joiner, Vec<u8>) {
        let (sponsor, transport) = (self::keys(1).public().transport, keys.public().transport);
        Joiner::with_code(code, &sponsor, newcomer(keys, &transport), &mut self.rng).unwrap()
    }
}

fn newcomer<'a>(keys: &'a DeviceKeys, transport: &'a [u8; 32]) -> Newcomer<'a> {
    Newcomer {
        keys,
        name: "phone",
        platform: "linux",
        transport,
    }
}

fn closed(effects: &[SponsorEffect]) -> Option<WindowEnd> {
    effects.iter().find_map(|effect| match effect {
        SponsorEffect::Closed { end } => Some(*end),
        _ => None,
    })
}

fn failed(effects: &[SponsorEffect]) -> Option<(Failure, u8)> {
    effects.iter().find_map(|effect| match effect {
        SponsorEffect::Failed {
            why, attempts_left, ..
        } => Some((why.clone(), *attempts_left)),
        _ => None,
    })
}

fn sent(effects: &[SponsorEffect]) -> Vec<u8> {
    effects
        .iter()
        .find_map(|effect| match effect {
            SponsorEffect::Send { bytes, .. } => Some(bytes.clone()),
            _ => None,
        })
        .unwrap()
}

/// The code with another last digit.
fn wrong(code: &Code) -> Code {
    let text = code.format();
    let last = if text.ends_with('0') { "1" } else { "0" };
    Code::parse(&format!("{}{last}", &text[..text.len() - 1])).unwrap()
}

/// Security tests 8 and 70.
#[test]
fn a_window_ends_after_five_attempts_and_by_time() {
    let mut laptop = Laptop::new(1, false);
    for i in 0..u64::from(ATTEMPTS) {
        let effects = laptop.frame(i, &keys(2), b"junk");
        assert_eq!(closed(&effects).is_some(), i == 4, "{effects:?}");
    }
    let session = &laptop.session;
    assert!(!session.is_open() && session.deadline().is_none() && session.ticket(vec![]).is_none());
    assert!(session.code().is_none() && !session.was_guessed_at_in_vain());

    let session = &mut Laptop::new(1, false).session;
    let until = session.deadline().unwrap();
    assert_eq!(until, session.until);
    assert!(
        session
            .handle_time(until - Duration::from_secs(1))
            .is_empty()
    );
    assert_eq!(
        closed(&session.handle_time(until)),
        Some(WindowEnd::Expired)
    );
}

/// Security test 71.
#[test]
fn one_joiner_at_a_time_and_none_that_falls_asleep() {
    let mut laptop = Laptop::new(1, false);
    let phone = keys(2);
    let transport = phone.public().transport;
    let (ticket, now) = (laptop.ticket.clone(), laptop.now);
    let (_, first) =
        Joiner::with_ticket(&ticket, newcomer(&phone, &transport), &mut laptop.rng).unwrap();
    let effects = laptop.frame(1, &phone, &first);
    assert!(
        matches!(effects[..], [SponsorEffect::Send { .. }]),
        "{effects:?}"
    );
    let busy = laptop.frame(2, &keys(9), &first);
    let stream = PairStream(2);
    assert_eq!(busy, [SponsorEffect::Close { stream }]);
    let session = &mut laptop.session;
    assert_eq!(session.deadline(), Some(now + MESSAGE_TIME));
    let effects = session.handle_time(now + MESSAGE_TIME);
    let stream = PairStream(1);
    assert_eq!(effects[0], SponsorEffect::Close { stream });
    assert_eq!(failed(&effects), Some((Failure::Slow, 4)));
    assert!(session.handle_closed(PairStream(1)).is_empty());
    assert_eq!(closed(&session.cancel()), Some(WindowEnd::Cancelled));
}

/// Whoever guesses hears from the answer whether it was right and need not say another word: that counts all the same.
/// Security tests 5 and 70.
#[test]
fn three_guesses_said_aloud_or_not() {
    for silent in [true, false] {
        let mut laptop = Laptop::new(2, true);
        let right = laptop.code.clone();
        for guess in 1..=GUESSES {
            let (mut thief, first) = laptop.joiner_with_code(&keys(66), &wrong(&right));
            let stream = u64::from(guess);
            let effects = laptop.frame(stream, &keys(66), &first);
            assert_eq!(
                thief.handle(&sent(&effects), &mut laptop.rng),
                Err(PairError::WrongSecret)
            );
            let effects = if silent {
                laptop.session.handle_closed(PairStream(stream))
            } else {
                laptop.frame(stream, &keys(66), &[0; 112])
            };
            assert_eq!(
                failed(&effects),
                Some((Failure::WrongCode, GUESSES - guess))
            );
            let end = (guess == GUESSES).then_some(WindowEnd::Attempts);
            assert_eq!(closed(&effects), end);
        }
        assert!(laptop.session.was_guessed_at_in_vain());
        // The right one comes too late.
        let (_, first) = laptop.joiner_with_code(&keys(2), &right);
        let stream = PairStream(9);
        assert_eq!(
            laptop.frame(9, &keys(2), &first),
            [SponsorEffect::Close { stream }]
        );
    }
}

#[test]
fn another_windows_code_is_an_attempt_and_no_guess() {
    let mut laptop = Laptop::new(3, true);
    let other = loop {
        let code = Code::random(&mut laptop.rng);
        if code.nameplate() != laptop.code.nameplate() {
            break code;
        }
    };
    for attempt in 1..ATTEMPTS {
        let (_, first) = laptop.joiner_with_code(&keys(2), &other);
        let effects = laptop.frame(u64::from(attempt), &keys(2), &first);
        let why = Failure::Pair(PairError::OtherSession);
        assert_eq!(failed(&effects), Some((why, ATTEMPTS - attempt)));
    }
    assert!(laptop.session.is_open() && !laptop.session.was_guessed_at_in_vain());
}

/// What a joiner of the simulation has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Has {
    Code,
    WrongCode,
    Ticket,
    Nothing,
}

/// One joiner of the simulation, and what is under way between it and the laptop.
struct Phone {
    keys: Arc<DeviceKeys>,
    has: Has,
    machine: Option<Joiner>,
    to_laptop: VecDeque<Vec<u8>>,
    to_phone: VecDeque<Vec<u8>>,
    gone: bool,
    enrolled: bool,
}

impl Phone {
    fn new(number: u8, laptop: &mut Laptop) -> Self {
        let device = keys(number);
        let has =
            [Has::Code, Has::WrongCode, Has::Ticket, Has::Nothing][laptop.rng.random_range(0..4)];
        let (right, ticket) = (laptop.code.clone(), laptop.ticket.clone());
        let transport = device.public().transport;
        let (machine, first) = match has {
            Has::Code => Some(laptop.joiner_with_code(&device, &right)),
            Has::WrongCode => Some(laptop.joiner_with_code(&device, &wrong(&right))),
            Has::Ticket => {
                let newcomer = newcomer(&device, &transport);
                Joiner::with_ticket(&ticket, newcomer, &mut laptop.rng).ok()
            }
            Has::Nothing => None,
        }
        .map_or((None, vec![7; 60]), |(machine, first)| {
            (Some(machine), first)
        });
        Self {
            keys: device,
            has,
            machine,
            to_laptop: [first].into(),
            to_phone: VecDeque::new(),
            gone: false,
            enrolled: false,
        }
    }

    /// Takes what came, as a device would whose user agrees to everything.
    fn take(&mut self, message: &[u8], rng: &mut StdRng) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        machine.trust_code();
        let Ok(outputs) = machine.handle(message, rng) else {
            self.gone = true;
            return;
        };
        for output in outputs {
            match output {
                JoinerOutput::Send(bytes) => self.to_laptop.push_back(bytes),
                JoinerOutput::Words(_) => {}
                JoinerOutput::Enrollment { .. } => {
                    self.enrolled = true;
                    self.to_laptop.push_back(machine.accept().unwrap());
                }
            }
        }
    }
}

/// What a network without manners does to the message at the head: nothing, mostly.
fn disturb(queue: &mut VecDeque<Vec<u8>>, others: &[Vec<u8>], rng: &mut StdRng) -> Option<Vec<u8>> {
    let mut message = queue.pop_front()?;
    match rng.random_range(0..40) {
        0 => return None,
        1 => queue.push_back(message.clone()),
        2 => {
            queue.push_back(message);
            return None;
        }
        3 => message.truncate(message.len() / 2),
        4 if !message.is_empty() => {
            let at = rng.random_range(0..message.len());
            message[at] ^= 1 << rng.random_range(0..8);
        }
        5 if !others.is_empty() => message = others[rng.random_range(0..others.len())].clone(),
        _ => {}
    }
    Some(message)
}

/// Up to six joiners at one window, some with the code, some with a wrong one, some with the ticket, some with nothing; every message may be
/// lost, doubled, delayed, cut, changed, or be somebody else's; streams end and time passes when it suits nobody.
/// Security test 7.
#[test]
fn whatever_the_network_does_one_comes_in_at_most_and_only_with_the_secret() {
    let mut tally = [0_u32; 4];
    for seed in 0..1_500 {
        let trust = seed % 2 == 0;
        let mut laptop = Laptop::new(seed, trust);
        let mut dice = StdRng::seed_from_u64(seed ^ 0xd1ce);
        let mut phones: Vec<Phone> = (0..dice.random_range(1..=6))
            .map(|n| Phone::new(10 + n, &mut laptop))
            .collect();
        let (mut done, mut answers, mut seen) = (Vec::new(), 0, Vec::new());
        let mut over = false;
        for _ in 0..200 {
            let at = dice.random_range(0..phones.len());
            let effects = match dice.random_range(0..100) {
                0 => {
                    phones[at].gone = true;
                    laptop.session.handle_closed(PairStream(at as u64))
                }
                1 => {
                    laptop.now += Duration::from_secs(dice.random_range(0..40));
                    let now = laptop.now;
                    laptop.session.handle_time(now)
                }
                2..50 => {
                    let message = disturb(&mut phones[at].to_phone, &seen, &mut dice);
                    if let Some(message) = message.filter(|_| !phones[at].gone) {
                        phones[at].take(&message, &mut laptop.rng);
                    }
                    continue;
                }
                _ => {
                    let Some(message) = disturb(&mut phones[at].to_laptop, &seen, &mut dice) else {
                        continue;
                    };
                    seen.push(message.clone());
                    let from = phones[at].keys.clone();
                    laptop.frame(at as u64, &from, &message)
                }
            };
            let mut todo: VecDeque<SponsorEffect> = effects.into();
            while let Some(effect) = todo.pop_front() {
                assert!(
                    !over || matches!(effect, SponsorEffect::Close { .. }),
                    "seed {seed}: {effect:?} after the end"
                );
                match effect {
                    SponsorEffect::Send { stream, bytes } => {
                        answers += u32::from(bytes.len() == 320);
                        phones[usize::try_from(stream.0).unwrap()]
                            .to_phone
                            .push_back(bytes);
                    }
                    SponsorEffect::Close { stream } => {
                        phones[usize::try_from(stream.0).unwrap()].gone = true;
                    }
                    SponsorEffect::AskWords => {
                        // A user who gets them wrong now and then cannot be told apart from one who sees other words.
                        todo.extend(laptop.session.confirm_words("wrong words"));
                    }
                    SponsorEffect::NeedEnrollment { join, path } => {
                        let owner = phones
                            .iter()
                            .find(|p| p.keys.public() == join.card.public)
                            .unwrap();
                        let fits = match path {
                            JoinPath::Code => owner.has == Has::Code,
                            _ => owner.has == Has::Ticket,
                        };
                        assert!(fits, "seed {seed}: {:?} came in by {path:?}", owner.has);
                        let enrollment = laptop.enrollment(&join, path);
                        todo.extend(laptop.session.enroll(enrollment));
                    }
                    SponsorEffect::Done { device } => done.push(device),
                    SponsorEffect::Closed { .. } => over = true,
                    _ => {}
                }
            }
        }
        assert!(done.len() <= 1, "seed {seed}: {done:?}");
        assert!(
            answers <= u32::from(GUESSES),
            "seed {seed}: {answers} answers"
        );
        let enrolled = phones.iter().filter(|phone| phone.enrolled);
        for phone in enrolled {
            assert!(trust, "seed {seed}: without the words");
            assert!(matches!(phone.has, Has::Code | Has::Ticket), "seed {seed}");
            tally[1] += 1;
        }
        tally[0] += u32::try_from(done.len()).unwrap();
        tally[2] += answers;
        tally[3] += u32::from(over);
    }
    // The simulation has seen what it is about.
    assert!(tally.iter().all(|count| *count > 100), "{tally:?}");
}
