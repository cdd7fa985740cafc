//! A joiner who has the ticket and speaks the protocol, but lies in one place.

use super::*;
use crate::keys::DeviceCard;
use crate::pairing::handshake::{Channel, Context, Handshake, Psk, fork};
use crate::pairing::message::{self, Door, PairHello};
use crate::pairing::words;

/// Handshake with an honest sponsor by hand; returns both with the channel open.
fn channel(world: &mut World, with: &DeviceKeys) -> (Sponsor, Channel) {
    let transport = with.public().transport;
    channel_declaring(world, with, transport)
}

fn channel_declaring(
    world: &mut World,
    with: &DeviceKeys,
    transport: [u8; 32],
) -> (Sponsor, Channel) {
    let mut sponsor = Sponsor::new(&world.window, &world.laptop, None, true, &mut world.rng);
    let hello = PairHello {
        door: Door::Ticket(world.window.session),
        transport,
    }
    .to_bytes();
    let psk = Psk::from_ticket(&world.window.secret, &world.window.session);
    let context = Context {
        joiner_transport: &transport,
        sponsor_transport: &world.ticket.transport,
        before: &hello,
    };
    let mut noise = Handshake::initiator(&psk, &context, with, fork(&mut world.rng)).unwrap();
    let first = [&hello[..], &noise.write().unwrap()].concat();
    let SponsorOutput::Send(answer) = sponsor.handle(&first).unwrap().remove(0) else {
        panic!()
    };
    noise.read(&answer, true).unwrap();
    sponsor.handle(&noise.write().unwrap()).unwrap();
    (sponsor, noise.finish().unwrap())
}

fn request(card: DeviceCard, commit: [u8; 32]) -> JoinRequest {
    JoinRequest {
        name: "phone".into(),
        platform: "x".into(),
        card,
        commit,
    }
}

/// Security test 13.
#[test]
fn a_nonce_other_than_committed() {
    let mut world = World::new(1);
    let phone = world.phone.clone();
    let (mut sponsor, mut channel) = channel(&mut world, &phone);
    let hash = *channel.hash();
    let join = request(phone.card(), words::commit(&hash, &[1; 32])).sign(&phone, &hash);
    sponsor.handle(&channel.write(&join).unwrap()).unwrap();
    let reveal = channel
        .write(&message::nonce_joiner(&[2; 32], false))
        .unwrap();
    assert_eq!(
        sponsor.handle(&reveal),
        Err(PairError::CommitmentMismatch),
        "checked although the words are not asked for"
    );
}

/// Security test 13.
#[test]
fn a_nonce_before_the_sponsors() {
    let mut world = World::new(2);
    let phone = world.phone.clone();
    let (mut sponsor, mut channel) = channel(&mut world, &phone);
    let reveal = channel
        .write(&message::nonce_joiner(&[2; 32], false))
        .unwrap();
    assert_eq!(sponsor.handle(&reveal), Err(PairError::Unexpected));
}

/// Security test 15.
#[test]
fn keys_other_than_used() {
    let mut world = World::new(3);
    let (phone, other) = (world.phone.clone(), keys(&mut world.rng));
    let (mut sponsor, mut channel) = channel(&mut world, &phone);
    let hash = *channel.hash();
    // wholly another device's request, rightly signed by it
    let join = request(other.card(), [0; 32]).sign(&other, &hash);
    assert_eq!(
        sponsor.handle(&channel.write(&join).unwrap()),
        Err(PairError::JoinKeyMismatch)
    );
}

/// Declares the PeerId of a device it is not, on a road where the connection proves none.
/// Security test 15.
#[test]
fn a_peer_id_other_than_declared() {
    let mut world = World::new(10);
    let (phone, other) = (world.phone.clone(), keys(&mut world.rng));
    let (mut sponsor, mut channel) =
        channel_declaring(&mut world, &phone, other.public().transport);
    let hash = *channel.hash();
    let join = request(phone.card(), [0; 32]).sign(&phone, &hash);
    assert_eq!(
        sponsor.handle(&channel.write(&join).unwrap()),
        Err(PairError::TransportMismatch)
    );
}

/// Security test 15.
#[test]
fn signatures_of_another_or_of_another_session() {
    for lie in 0..3 {
        let mut world = World::new(4);
        let (phone, other) = (world.phone.clone(), keys(&mut world.rng));
        let (mut sponsor, mut channel) = channel(&mut world, &phone);
        let hash = *channel.hash();
        let join = match lie {
            0 => request(phone.card(), [0; 32]).sign(&other, &hash),
            1 => request(phone.card(), [0; 32]).sign(&phone, &[7; 32]),
            _ => {
                let mut card = phone.card();
                card.public.seal = other.public().seal;
                request(card, [0; 32]).sign(&phone, &hash)
            }
        };
        assert_eq!(
            sponsor.handle(&channel.write(&join).unwrap()),
            Err(PairError::BadSignature),
            "lie {lie}"
        );
    }
}

/// Security test 14.
#[test]
fn a_sealing_key_of_low_order() {
    for point in low_order() {
        let mut world = World::new(5);
        let phone = world.phone.clone();
        let (mut sponsor, mut channel) = channel(&mut world, &phone);
        let hash = *channel.hash();
        let mut card = phone.card();
        card.public.seal = point;
        let join = request(card, [0; 32]).sign(&phone, &hash);
        assert_eq!(
            sponsor.handle(&channel.write(&join).unwrap()),
            Err(PairError::BadSignature)
        );
    }
}

#[test]
fn names_that_move_the_cursor() {
    let mut world = World::new(6);
    let phone = world.phone.clone();
    let (mut sponsor, mut channel) = channel(&mut world, &phone);
    let hash = *channel.hash();
    let join = JoinRequest {
        name: "\u{1b}[2Jlaptop".into(),
        ..request(phone.card(), [0; 32])
    }
    .sign(&phone, &hash);
    assert_eq!(
        sponsor.handle(&channel.write(&join).unwrap()),
        Err(PairError::BadName)
    );
}

/// Static keys of low order, or the sponsor's own: the library takes them, we do not.
/// Security test 14.
#[test]
fn unusable_static_keys() {
    use snow::params::{CipherChoice, DHChoice, HashChoice};
    use snow::resolvers::{CryptoResolver, DefaultResolver};
    use snow::types::{Cipher, Dh, Hash, Random};

    /// X25519 with a public key of the attacker's choice; what it computes with low-order points is zero, as the sponsor's is.
    struct Lying(Box<dyn Dh>, [u8; 32]);
    impl Dh for Lying {
        fn name(&self) -> &'static str {
            "25519"
        }
        fn pub_len(&self) -> usize {
            32
        }
        fn priv_len(&self) -> usize {
            32
        }
        fn set(&mut self, key: &[u8]) {
            self.0.set(key);
        }
        fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
            self.0.generate(rng)
        }
        fn pubkey(&self) -> &[u8] {
            &self.1
        }
        fn privkey(&self) -> &[u8] {
            self.0.privkey()
        }
        fn dh(&self, _: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
            out.fill(0);
            Ok(())
        }
    }
    struct Resolver([u8; 32], std::cell::Cell<bool>);
    impl CryptoResolver for Resolver {
        fn resolve_rng(&self) -> Option<Box<dyn Random>> {
            DefaultResolver.resolve_rng()
        }
        fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
            let honest = DefaultResolver.resolve_dh(choice)?;
            // The static key is resolved first.
            Some(if self.1.replace(false) {
                Box::new(Lying(honest, self.0))
            } else {
                honest
            })
        }
        fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
            DefaultResolver.resolve_hash(choice)
        }
        fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
            DefaultResolver.resolve_cipher(choice)
        }
    }

    for point in low_order() {
        let mut world = World::new(7);
        let mut sponsor = Sponsor::new(&world.window, &world.laptop, None, true, &mut world.rng);
        let transport = world.phone.public().transport;
        let hello = PairHello {
            door: Door::Ticket(world.window.session),
            transport,
        }
        .to_bytes();
        let psk = Psk::from_ticket(&world.window.secret, &world.window.session);
        let context = Context {
            joiner_transport: &transport,
            sponsor_transport: &world.ticket.transport,
            before: &hello,
        };
        let prologue = context.prologue(psk.path);
        let resolver = Box::new(Resolver(point, std::cell::Cell::new(true)));
        let params = "Noise_XXpsk0_25519_ChaChaPoly_SHA256".parse().unwrap();
        let mut noise = snow::Builder::with_resolver(params, resolver)
            .psk(0, psk.key.expose())
            .unwrap()
            .prologue(&prologue)
            .unwrap()
            .local_private_key(&[1; 32])
            .unwrap()
            .build_initiator()
            .unwrap();
        let (mut out, mut payload) = ([0; 256], [0; 256]);
        let length = noise.write_message(&[], &mut out).unwrap();
        let SponsorOutput::Send(answer) = sponsor
            .handle(&[&hello[..], &out[..length]].concat())
            .unwrap()
            .remove(0)
        else {
            panic!()
        };
        noise.read_message(&answer, &mut payload).unwrap();
        let length = noise.write_message(&[], &mut out).unwrap();
        assert_eq!(
            sponsor.handle(&out[..length]),
            Err(PairError::LowOrderKey),
            "{point:?}"
        );
    }
}

/// Security test 14.
#[test]
fn the_sponsors_own_static_key() {
    let mut world = World::new(8);
    // a device with the laptop's noise key and another transport key
    let mut sponsor = Sponsor::new(&world.window, &world.laptop, None, true, &mut world.rng);
    let transport = world.phone.public().transport;
    let hello = PairHello {
        door: Door::Ticket(world.window.session),
        transport,
    }
    .to_bytes();
    let psk = Psk::from_ticket(&world.window.secret, &world.window.session);
    let context = Context {
        joiner_transport: &transport,
        sponsor_transport: &world.ticket.transport,
        before: &hello,
    };
    let mut noise =
        Handshake::initiator(&psk, &context, &world.laptop, fork(&mut world.rng)).unwrap();
    let first = [&hello[..], &noise.write().unwrap()].concat();
    let SponsorOutput::Send(answer) = sponsor.handle(&first).unwrap().remove(0) else {
        panic!()
    };
    noise.read(&answer, true).unwrap();
    assert_eq!(
        sponsor.handle(&noise.write().unwrap()),
        Err(PairError::OwnKey)
    );
}

/// A message of one path is refused on the other, not taken for one of its own.
/// Security test 11.
#[test]
fn the_path_cannot_be_changed() {
    let mut world = World::new(9);
    let (_, mut first) = world.joiner();
    first[2] = 2;
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::Malformed),
        "a session is no nameplate"
    );
    first[2] = 3;
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::Malformed)
    );
    first[2] = 1;
    first[0] = 1;
    assert_eq!(
        world.sponsor(true).handle(&first),
        Err(PairError::UnsupportedVersion)
    );
}

proptest! {
    /// What a peer with the right secret can put into the channel.
    /// Security test 18.
    #[test]
    fn random_plaintexts_never_panic(kind in 0u8..7, mut bytes: Vec<u8>) {
        let _ = PairHello::parse(&bytes);
        let _ = minicbor::decode::<Enrollment>(&bytes);
        bytes.insert(0, kind);
        let _ = JoinRequest::verify(&bytes, &[0; 32]);
        let _ = message::read_nonce_sponsor(&bytes);
        let _ = message::read_nonce_joiner(&bytes);
        let _ = message::verify_enrolled(&bytes, &[0; 32], &[0; 32], &[0; 32]);
        let mut gathered = message::Gathered::default();
        for _ in 0..3 {
            let _ = gathered.push(&bytes);
        }
    }
}

/// Security tests 18 and 73.
#[test]
fn an_enrolment_without_end() {
    let mut gathered = message::Gathered::default();
    let piece = [&[4, 1][..], &[0; 60_000]].concat();
    let pieces = MAX_ENROLLMENT / 60_000;
    for _ in 0..pieces {
        assert_eq!(gathered.push(&piece), Ok(None));
    }
    assert_eq!(gathered.push(&piece), Err(PairError::TooLarge));
    assert_eq!(
        message::Gathered::default().push(&[4, 1]),
        Err(PairError::Malformed),
        "no empty pieces without end"
    );
}
