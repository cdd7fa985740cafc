//! The existing device's side of pairing.
//!
//! Nothing is signed before [`SponsorOutput::NeedEnrollment`]: by then the joiner has proved the shared secret, all its keys, and
//! the user has typed the words the new device shows. What the caller signs stays pending until [`SponsorOutput::Done`].

use rand::CryptoRng;
use rand::rngs::StdRng;

use crate::ids::DeviceId;
use crate::keys::{DeviceKeys, DevicePublic};
use crate::pairing::code::Code;
use crate::pairing::handshake::{Channel, Context, Handshake, Psk, fork};
use crate::pairing::message::{self, Door, Enrollment, JoinRequest, PairHello};
use crate::pairing::pake::{self, Answered, C3_LEN, Ends};
use crate::pairing::{MAX_EARLY_MESSAGE, PairError, WORD_TRIES, Window, WordsWrong, words};
use crate::registry::JoinPath;

/// What the caller is to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SponsorOutput {
    /// Someone tries a code: the message that follows tells it whether that is the right one. Count the guess before sending.
    Guess,
    /// Send this message.
    Send(Vec<u8>),
    /// Someone who has the secret wants to join; for showing.
    Joining {
        /// The name it gives itself.
        name: String,
        /// What it says it runs on.
        platform: String,
        /// Its keys.
        public: DevicePublic,
    },
    /// Ask the user to type the words the new device shows, and give them to [`Sponsor::confirm_words`].
    AskWords,
    /// Show this word: the user types it on the new device, which asks for it.
    Word(String),
    /// Admit it: sign its device statement and the grants, and give everything to [`Sponsor::enroll`].
    NeedEnrollment {
        /// What it sent, verified.
        join: JoinRequest,
        /// What it had: a ticket or a code.
        path: JoinPath,
    },
    /// It has committed. Publish what was signed; the window is spent.
    Done {
        /// The new device.
        device: DeviceId,
    },
}

/// The existing device's machine. After any error it is dead.
pub struct Sponsor {
    keys: DeviceKeys,
    window: Window,
    remote_transport: Option<[u8; 32]>,
    trust_code: bool,
    path: JoinPath,
    nonce: [u8; 32],
    state: State,
}

enum State {
    Hello(StdRng),
    Guess {
        answered: Answered,
        ends: Ends,
        before: Vec<u8>,
        rng: StdRng,
    },
    Handshake {
        handshake: Handshake,
        transport: [u8; 32],
    },
    Join {
        channel: Channel,
        transport: [u8; 32],
        noise: [u8; 32],
    },
    JoinerNonce {
        channel: Channel,
        join: JoinRequest,
    },
    Words {
        channel: Channel,
        join: JoinRequest,
        words: [&'static str; 2],
        third: Option<&'static str>,
        left: u8,
    },
    Enroll {
        channel: Channel,
        join: JoinRequest,
    },
    Receipt {
        channel: Channel,
        join: JoinRequest,
        registry: [u8; 32],
    },
    Dead,
}

impl Sponsor {
    /// Waits for one joiner at an open window.
    ///
    /// `remote_transport_pub` is the key of the PeerId the channel proved, if the channel is direct. With `trust_code` the words
    /// are not asked for: who has the secret is taken for the user's device.
    pub fn new<R: CryptoRng + ?Sized>(
        window: &Window,
        keys: &DeviceKeys,
        remote_transport_pub: Option<[u8; 32]>,
        trust_code: bool,
        rng: &mut R,
    ) -> Self {
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        Self {
            keys: keys.clone(),
            window: window.clone(),
            remote_transport: remote_transport_pub,
            trust_code,
            path: JoinPath::Ticket,
            nonce,
            state: State::Hello(fork(rng)),
        }
    }

    /// Takes the joiner's next message.
    pub fn handle(&mut self, message: &[u8]) -> Result<Vec<SponsorOutput>, PairError> {
        let state = std::mem::replace(&mut self.state, State::Dead);
        if message.len() > MAX_EARLY_MESSAGE {
            return Err(PairError::TooLarge);
        }
        match state {
            State::Hello(rng) => self.handle_hello(rng, message),
            State::Guess {
                answered,
                ends,
                before,
                rng,
            } => self.handle_proof(answered, &ends, before, rng, message),
            State::Handshake {
                handshake,
                transport,
            } => self.handle_last(handshake, transport, message),
            State::Join {
                channel,
                transport,
                noise,
            } => self.handle_join(channel, transport, noise, message),
            State::JoinerNonce { channel, join } => self.handle_nonce(channel, join, message),
            State::Receipt {
                channel,
                join,
                registry,
            } => handle_receipt(channel, &join, &registry, message),
            State::Words { .. } | State::Enroll { .. } => Err(PairError::Unexpected),
            State::Dead => Err(PairError::Dead),
        }
    }

    /// Compares what the user typed. After [`WORD_TRIES`] wrong answers, or when no words were asked for, nothing is left.
    pub fn confirm_words(&mut self, typed: &str) -> Result<Vec<SponsorOutput>, WordsWrong> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Words {
                channel,
                join,
                words,
                third,
                ..
            } if words::typed_right(typed, &words) => Ok(self.admit(channel, join, third)),
            State::Words {
                channel,
                join,
                words,
                third,
                left,
            } => {
                let left = left - 1;
                if left > 0 {
                    self.state = State::Words {
                        channel,
                        join,
                        words,
                        third,
                        left,
                    };
                }
                Err(WordsWrong { left })
            }
            _ => Err(WordsWrong { left: 0 }),
        }
    }

    /// The messages that hand the enrolment over, in order.
    ///
    /// Checks it first as the joiner will: this mesh, all statements valid, the joiner among the devices with its own keys.
    pub fn enroll(&mut self, enrollment: Enrollment) -> Result<Vec<Vec<u8>>, PairError> {
        let (mut channel, join) = match std::mem::replace(&mut self.state, State::Dead) {
            State::Enroll { channel, join } => (channel, join),
            State::Dead => return Err(PairError::Dead),
            _ => return Err(PairError::Unexpected),
        };
        let registry = enrollment.registry(&self.window.mesh_id)?;
        let public = &join.card.public;
        if registry
            .view()
            .devices
            .get(&public.device_id())
            .is_none_or(|entry| entry.public != *public)
        {
            return Err(PairError::NotAdmitted);
        }
        let messages = enrollment.seal(&mut channel)?;
        self.state = State::Receipt {
            channel,
            join,
            registry: registry.digest(),
        };
        Ok(messages)
    }

    /// P1, and N1 or C1: refuses whoever means another window or does not have the connection it claims.
    fn handle_hello(
        &mut self,
        rng: StdRng,
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let (hello, before, first) = PairHello::parse(message)?;
        let code = self.window.code.clone();
        let right = match hello.door {
            Door::Ticket(session) => session == self.window.session,
            Door::Code(nameplate) => code.as_ref().map(Code::nameplate) == Some(nameplate),
        };
        if !right {
            return Err(PairError::OtherSession);
        }
        if self
            .remote_transport
            .is_some_and(|proved| proved != hello.transport)
        {
            return Err(PairError::TransportMismatch);
        }
        if hello.transport == self.keys.public().transport {
            return Err(PairError::OwnKey);
        }
        match (hello.door, code) {
            (Door::Code(nameplate), Some(code)) => {
                let ends = Ends {
                    joiner: hello.transport,
                    sponsor: self.keys.public().transport,
                    nameplate,
                };
                self.handle_question(&code, ends, message, first, rng)
            }
            _ => {
                let psk = Psk::from_ticket(&self.window.secret, &self.window.session);
                self.respond(&psk, hello.transport, before, first, rng)
            }
        }
    }

    /// C1. The answer is what a guess costs us: with it the joiner knows whether it was right.
    fn handle_question(
        &mut self,
        code: &Code,
        ends: Ends,
        message: &[u8],
        question: &[u8],
        mut rng: StdRng,
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let (answered, answer) = pake::answer(code, &ends, question, &mut rng)?;
        self.path = JoinPath::Code;
        self.state = State::Guess {
            answered,
            ends,
            before: [message, &answer].concat(),
            rng,
        };
        Ok(vec![SponsorOutput::Guess, SponsorOutput::Send(answer)])
    }

    /// C3 and N1: whoever sends these had the right digits.
    fn handle_proof(
        &mut self,
        answered: Answered,
        ends: &Ends,
        mut before: Vec<u8>,
        rng: StdRng,
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let (proof, first) = message
            .split_at_checked(C3_LEN)
            .ok_or(PairError::Malformed)?;
        let key = answered.finish(ends, proof)?;
        before.extend_from_slice(proof);
        let psk = Psk::from_pake(&key, &before);
        self.respond(&psk, ends.joiner, &before, first, rng)
    }

    /// N1: refuses before any key of ours is used unless the joiner has the shared key.
    fn respond(
        &mut self,
        psk: &Psk,
        transport: [u8; 32],
        before: &[u8],
        first: &[u8],
        rng: StdRng,
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let context = Context {
            joiner_transport: &transport,
            sponsor_transport: &self.keys.public().transport,
            before,
        };
        let mut handshake = Handshake::responder(psk, &context, &self.keys, rng)?;
        handshake.read(first, true)?;
        let answer = handshake.write()?;
        self.state = State::Handshake {
            handshake,
            transport,
        };
        Ok(vec![SponsorOutput::Send(answer)])
    }

    /// N3.
    fn handle_last(
        &mut self,
        mut handshake: Handshake,
        transport: [u8; 32],
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        handshake.read(message, false)?;
        let noise = handshake.remote_static()?;
        self.state = State::Join {
            channel: handshake.finish()?,
            transport,
            noise,
        };
        Ok(Vec::new())
    }

    /// E1: the keys it names are those it used, and it can sign with both of its signing keys.
    fn handle_join(
        &mut self,
        mut channel: Channel,
        transport: [u8; 32],
        noise: [u8; 32],
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let join = JoinRequest::verify(&channel.read(message)?, channel.hash())?;
        let public = join.card.public;
        if public.noise != noise {
            return Err(PairError::JoinKeyMismatch);
        }
        if public.transport != transport {
            return Err(PairError::TransportMismatch);
        }
        let nonce = channel.write(&message::nonce_sponsor(&self.nonce, !self.trust_code))?;
        let joining = SponsorOutput::Joining {
            name: join.name.clone(),
            platform: join.platform.clone(),
            public,
        };
        self.state = State::JoinerNonce { channel, join };
        Ok(vec![joining, SponsorOutput::Send(nonce)])
    }

    /// E3: the commitment must open, even if nobody looks at the words.
    fn handle_nonce(
        &mut self,
        mut channel: Channel,
        join: JoinRequest,
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let (nonce, asks) = message::read_nonce_joiner(&channel.read(message)?)?;
        if !words::commit_matches(&join.commit, channel.hash(), &nonce) {
            return Err(PairError::CommitmentMismatch);
        }
        let [first, second, third] = words::words(channel.hash(), &self.nonce, &nonce);
        let third = asks.then_some(third);
        if self.trust_code {
            return Ok(self.admit(channel, join, third));
        }
        self.state = State::Words {
            channel,
            join,
            words: [first, second],
            third,
            left: WORD_TRIES,
        };
        Ok(vec![SponsorOutput::AskWords])
    }

    /// The word for the way back is shown only now: who stands between has failed before.
    fn admit(
        &mut self,
        channel: Channel,
        join: JoinRequest,
        third: Option<&'static str>,
    ) -> Vec<SponsorOutput> {
        self.state = State::Enroll {
            channel,
            join: join.clone(),
        };
        let mut outputs = vec![SponsorOutput::NeedEnrollment {
            join,
            path: self.path,
        }];
        outputs.extend(third.map(|word| SponsorOutput::Word(word.to_owned())));
        outputs
    }
}

/// E5: the new device has committed the registry we sent.
fn handle_receipt(
    mut channel: Channel,
    join: &JoinRequest,
    registry: &[u8; 32],
    message: &[u8],
) -> Result<Vec<SponsorOutput>, PairError> {
    let public = &join.card.public;
    let hash = *channel.hash();
    message::verify_enrolled(&channel.read(message)?, &public.sign, &hash, registry)?;
    Ok(vec![SponsorOutput::Done {
        device: public.device_id(),
    }])
}

impl std::fmt::Debug for Sponsor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sponsor({})", self.keys.device_id())
    }
}
