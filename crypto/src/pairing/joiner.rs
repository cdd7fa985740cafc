//! The new device's side of pairing.
//!
//! It stores nothing: the caller commits the [`Enrollment`] in one transaction, once its user has agreed to the mesh it names, and
//! only then calls [`Joiner::accept`]. Dropping the machine at any point before leaves no trace.
//!
//! A ticket names the sponsor's keys; a code does not. Who has the code and stands between could lead a new device into a mesh of its
//! own, so with a code the user's agreement is a word which only the real sponsor shows.

use rand::CryptoRng;

use crate::ids::{DeviceId, MeshId};
use crate::keys::{DeviceKeys, DevicePublic};
use crate::pairing::code::Code;
use crate::pairing::handshake::{Channel, Context, Handshake, Psk, fork};
use crate::pairing::message::{self, Door, Enrollment, Gathered, JoinRequest, PairHello};
use crate::pairing::pake::{self, Asked, Ends};
use crate::pairing::{
    MAX_EARLY_MESSAGE, PairError, Ticket, WORD_TRIES, WordsWrong, handshake, words,
};
use crate::registry::{Registry, open_grant};
use crate::secret::Secret;

/// What the caller is to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinerOutput {
    /// Send this message.
    Send(Vec<u8>),
    /// Show these words: the user types them on the existing device. Not given when that does not ask for them.
    Words([String; 2]),
    /// The mesh's answer, checked. Show the mesh name and device count of its [`registry`](Enrollment::registry), ask the user,
    /// commit, then [`Joiner::accept`].
    Enrollment {
        /// What it gave.
        enrollment: Enrollment,
        /// The mesh it is of.
        mesh_id: MeshId,
        /// The device at the other end.
        sponsor: DeviceId,
        /// Ask the user for the word that the existing device shows, and give it to [`Joiner::confirm_word`]; else ask yes or no.
        ask_word: bool,
    },
}

/// Who wants to join.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// Its keys.
    pub keys: &'a DeviceKeys,
    /// The name it wants.
    pub name: &'a str,
    /// What it runs on.
    pub platform: &'a str,
    /// The key of the PeerId the caller really uses; it must be that of `keys`.
    pub transport: &'a [u8; 32],
}

/// The new device's machine. After any error it is dead.
pub struct Joiner {
    keys: DeviceKeys,
    name: String,
    platform: String,
    expected: Expected,
    /// Whether the user is to type the third word.
    ask_word: bool,
    state: State,
}

/// What must hold of the sponsor.
struct Expected {
    transport: [u8; 32],
    /// With a ticket from the start, with a code what the handshake has shown.
    noise: Option<[u8; 32]>,
    /// With a ticket alone.
    mesh_id: Option<MeshId>,
}

enum State {
    Answer {
        asked: Box<Asked>,
        code: Code,
        ends: Ends,
        before: Vec<u8>,
    },
    Handshake(Handshake),
    SponsorNonce {
        channel: Channel,
        nonce: [u8; 32],
    },
    Enroll {
        channel: Channel,
        gathered: Gathered,
        word: Option<&'static str>,
    },
    Word {
        channel: Channel,
        registry: [u8; 32],
        word: &'static str,
        left: u8,
    },
    Agree {
        channel: Channel,
        registry: [u8; 32],
    },
    Dead,
}

impl Joiner {
    /// Starts from a ticket. Returns the machine and the first message, to be sent to the PeerId the ticket names.
    ///
    /// The caller must have checked that the peer at the other end has the ticket's transport key, wherever the channel can tell.
    pub fn with_ticket<R: CryptoRng + ?Sized>(
        ticket: &Ticket,
        newcomer: Newcomer<'_>,
        rng: &mut R,
    ) -> Result<(Self, Vec<u8>), PairError> {
        if ticket.noise == newcomer.keys.public().noise {
            return Err(PairError::OwnKey);
        }
        let hello = newcomer.hello(Door::Ticket(ticket.session))?;
        let context = Context {
            joiner_transport: newcomer.transport,
            sponsor_transport: &ticket.transport,
            before: &hello,
        };
        let psk = Psk::from_ticket(&ticket.secret, &ticket.session);
        let mut handshake = Handshake::initiator(&psk, &context, newcomer.keys, fork(rng))?;
        let first = [&hello[..], &handshake.write()?].concat();
        let expected = Expected {
            transport: ticket.transport,
            noise: Some(ticket.noise),
            mesh_id: Some(ticket.mesh_id),
        };
        let joiner = Self::new(newcomer, expected, false, State::Handshake(handshake))?;
        Ok((joiner, first))
    }

    /// Starts from a code. Returns the machine and the first message, to be sent to `sponsor_transport`'s PeerId and nobody else.
    ///
    /// Every answer to it lets the other side test one guess at the code: begin one such attempt per time the user types it.
    pub fn with_code<R: CryptoRng + ?Sized>(
        code: &Code,
        sponsor_transport: &[u8; 32],
        newcomer: Newcomer<'_>,
        rng: &mut R,
    ) -> Result<(Self, Vec<u8>), PairError> {
        if sponsor_transport == newcomer.transport {
            return Err(PairError::OwnKey);
        }
        let hello = newcomer.hello(Door::Code(code.nameplate()))?;
        let (asked, question) = pake::ask(code, rng)?;
        let first = [&hello[..], &question].concat();
        let expected = Expected {
            transport: *sponsor_transport,
            noise: None,
            mesh_id: None,
        };
        let state = State::Answer {
            asked: Box::new(asked),
            code: code.clone(),
            ends: Ends {
                joiner: *newcomer.transport,
                sponsor: *sponsor_transport,
                nameplate: code.nameplate(),
            },
            before: first.clone(),
        };
        Ok((Self::new(newcomer, expected, true, state)?, first))
    }

    fn new(
        newcomer: Newcomer<'_>,
        expected: Expected,
        ask_word: bool,
        state: State,
    ) -> Result<Self, PairError> {
        let joiner = Self {
            keys: newcomer.keys.clone(),
            name: newcomer.name.to_owned(),
            platform: newcomer.platform.to_owned(),
            expected,
            ask_word,
            state,
        };
        joiner.request([0; 32]).check()?;
        Ok(joiner)
    }

    /// The user takes whoever has the code for the right device: no word is asked for.
    pub fn trust_code(&mut self) {
        self.ask_word = false;
    }

    /// Takes the sponsor's next message.
    pub fn handle<R: CryptoRng + ?Sized>(
        &mut self,
        message: &[u8],
        rng: &mut R,
    ) -> Result<Vec<JoinerOutput>, PairError> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Answer {
                asked,
                code,
                ends,
                before,
            } => {
                let (proof, key) = asked.finish(&code, &ends, message, rng)?;
                self.prove(&ends, [&before, message, &proof].concat(), &key, rng)
            }
            State::Handshake(handshake) => self.handle_handshake(handshake, message, rng),
            State::SponsorNonce { channel, nonce } => self.handle_nonce(channel, nonce, message),
            State::Enroll {
                channel,
                gathered,
                word,
            } => self.handle_enroll(channel, gathered, word, message),
            State::Word { .. } | State::Agree { .. } => Err(PairError::Unexpected),
            State::Dead => Err(PairError::Dead),
        }
    }

    /// Compares the word the user typed with the one the existing device must show. After [`WORD_TRIES`] wrong ones, or when none was
    /// asked for, nothing is left.
    pub fn confirm_word(&mut self, typed: &str) -> Result<(), WordsWrong> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Word {
                channel,
                registry,
                word,
                ..
            } if words::typed_right(typed, &[word]) => {
                self.state = State::Agree { channel, registry };
                Ok(())
            }
            State::Word {
                channel,
                registry,
                word,
                left,
            } => {
                let left = left - 1;
                if left > 0 {
                    self.state = State::Word {
                        channel,
                        registry,
                        word,
                        left,
                    };
                }
                Err(WordsWrong { left })
            }
            _ => Err(WordsWrong { left: 0 }),
        }
    }

    /// The receipt to send, after the enrolment has been committed. The machine ends with it.
    pub fn accept(&mut self) -> Result<Vec<u8>, PairError> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Agree {
                mut channel,
                registry,
            } => {
                let receipt = message::enrolled(&self.keys, channel.hash(), &registry);
                channel.write(&receipt)
            }
            State::Dead => Err(PairError::Dead),
            _ => Err(PairError::Unexpected),
        }
    }

    /// C2 fitted our digits: sends C3, and begins the handshake with the key that came out.
    fn prove<R: CryptoRng + ?Sized>(
        &mut self,
        ends: &Ends,
        before: Vec<u8>,
        key: &Secret<64>,
        rng: &mut R,
    ) -> Result<Vec<JoinerOutput>, PairError> {
        let context = Context {
            joiner_transport: &ends.joiner,
            sponsor_transport: &ends.sponsor,
            before: &before,
        };
        let psk = Psk::from_pake(key, &before);
        let mut handshake = Handshake::initiator(&psk, &context, &self.keys, fork(rng))?;
        let proof = &before[before.len() - pake::C3_LEN..];
        let message = [proof, &handshake.write()?].concat();
        self.state = State::Handshake(handshake);
        Ok(vec![JoinerOutput::Send(message)])
    }

    /// N2: finishes the handshake and asks to join.
    fn handle_handshake<R: CryptoRng + ?Sized>(
        &mut self,
        mut handshake: Handshake,
        message: &[u8],
        rng: &mut R,
    ) -> Result<Vec<JoinerOutput>, PairError> {
        check_early(message)?;
        handshake.read(message, true)?;
        let noise = handshake.remote_static()?;
        if *self.expected.noise.get_or_insert(noise) != noise {
            return Err(PairError::TicketKeyMismatch);
        }
        let last = handshake.write()?;
        let mut channel = handshake.finish()?;
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let request = self.request(words::commit(channel.hash(), &nonce));
        let join = request.sign(&self.keys, channel.hash());
        let join = channel.write(&join)?;
        self.state = State::SponsorNonce { channel, nonce };
        Ok(vec![JoinerOutput::Send(last), JoinerOutput::Send(join)])
    }

    /// E2: reveals the nonce and shows the words.
    fn handle_nonce(
        &mut self,
        mut channel: Channel,
        nonce: [u8; 32],
        message: &[u8],
    ) -> Result<Vec<JoinerOutput>, PairError> {
        check_early(message)?;
        let (sponsor, asks) = message::read_nonce_sponsor(&channel.read(message)?)?;
        let reveal = channel.write(&message::nonce_joiner(&nonce, self.ask_word))?;
        let [first, second, third] = words::words(channel.hash(), &sponsor, &nonce);
        self.state = State::Enroll {
            channel,
            gathered: Gathered::default(),
            word: self.ask_word.then_some(third),
        };
        let mut outputs = vec![JoinerOutput::Send(reveal)];
        outputs.extend(asks.then(|| JoinerOutput::Words([first.to_owned(), second.to_owned()])));
        Ok(outputs)
    }

    /// E4, piece by piece.
    fn handle_enroll(
        &mut self,
        mut channel: Channel,
        mut gathered: Gathered,
        word: Option<&'static str>,
        message: &[u8],
    ) -> Result<Vec<JoinerOutput>, PairError> {
        if message.len() > handshake::MAX_FRAME {
            return Err(PairError::TooLarge);
        }
        let Some(enrollment) = gathered.push(&channel.read(message)?)? else {
            self.state = State::Enroll {
                channel,
                gathered,
                word,
            };
            return Ok(Vec::new());
        };
        let (checked, sponsor) = self.check(&enrollment)?;
        let (mesh_id, registry) = (checked.view().mesh_id, checked.digest());
        self.state = match word {
            Some(word) => State::Word {
                channel,
                registry,
                word,
                left: WORD_TRIES,
            },
            None => State::Agree { channel, registry },
        };
        Ok(vec![JoinerOutput::Enrollment {
            enrollment,
            mesh_id,
            sponsor,
            ask_word: word.is_some(),
        }])
    }

    /// The ticket's mesh, every statement valid, the sponsor in it with the keys it used, this device with exactly its keys, every grant to it
    /// good.
    pub(super) fn check(&self, enrollment: &Enrollment) -> Result<(Registry, DeviceId), PairError> {
        let mesh_id = match self.expected.mesh_id {
            Some(mesh_id) => mesh_id,
            None => enrollment.mesh_id()?,
        };
        let registry = enrollment.registry(&mesh_id)?;
        let view = registry.view();
        let device_id = self.keys.device_id();
        if view
            .devices
            .get(&device_id)
            .is_none_or(|entry| entry.public != self.keys.public())
        {
            return Err(PairError::NotAdmitted);
        }
        let met = |public: &DevicePublic| {
            public.transport == self.expected.transport
                && self.expected.noise.as_ref() == Some(&public.noise)
        };
        let sponsor = view.devices.iter().find(|(_, entry)| met(&entry.public));
        let sponsor = *sponsor.ok_or(PairError::NotSponsor)?.0;
        for (space, epochs) in &view.epochs {
            for epoch in epochs
                .iter()
                .filter(|epoch| epoch.grants.contains_key(&device_id))
            {
                open_grant(&self.keys, space, epoch).map_err(PairError::BadGrant)?;
            }
        }
        Ok((registry, sponsor))
    }

    fn request(&self, commit: [u8; 32]) -> JoinRequest {
        JoinRequest {
            name: self.name.clone(),
            platform: self.platform.clone(),
            card: self.keys.card(),
            commit,
        }
    }
}

impl Newcomer<'_> {
    /// P1.
    fn hello(&self, door: Door) -> Result<[u8; message::P1_LEN], PairError> {
        if *self.transport != self.keys.public().transport {
            return Err(PairError::TransportMismatch);
        }
        let transport = *self.transport;
        Ok(PairHello { door, transport }.to_bytes())
    }
}

impl std::fmt::Debug for Joiner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Joiner({})", self.keys.device_id())
    }
}

fn check_early(message: &[u8]) -> Result<(), PairError> {
    if message.len() > MAX_EARLY_MESSAGE {
        Err(PairError::TooLarge)
    } else {
        Ok(())
    }
}
