//! The existing device's side of pairing.
//!
//! Nothing is signed before [`SponsorOutput::NeedEnrollment`]: by then the joiner has proved the shared secret, all its keys, and
//! the user has typed the words the new device shows. What the caller signs stays pending until [`SponsorOutput::Done`].

use rand::CryptoRng;
use rand::rngs::StdRng;

use crate::ids::{DeviceId, MeshId};
use crate::keys::{DeviceKeys, DevicePublic};
use crate::pairing::handshake::{Channel, Context, Handshake, Path, Psk, fork};
use crate::pairing::message::{self, Enrollment, JoinRequest, PairHello};
use crate::pairing::{MAX_EARLY_MESSAGE, PairError, Window, words};

/// Tries at typing the check words.
pub const WORD_TRIES: u8 = 2;

/// What the caller is to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SponsorOutput {
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
    /// Admit it: sign its device statement and the grants, and give everything to [`Sponsor::enroll`].
    NeedEnrollment {
        /// What it sent, verified.
        join: JoinRequest,
    },
    /// It has committed. Publish what was signed; the window is spent.
    Done {
        /// The new device.
        device: DeviceId,
    },
}

/// The words typed are not those the new device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are not the words shown on the new device; {left} tries left")]
pub struct WordsWrong {
    /// Tries left; at zero the pairing is dead and the window is to be closed.
    pub left: u8,
}

/// The existing device's machine. After any error it is dead.
pub struct Sponsor {
    keys: DeviceKeys,
    mesh_id: MeshId,
    session: [u8; 16],
    psk: Psk,
    remote_transport: Option<[u8; 32]>,
    trust_code: bool,
    nonce: [u8; 32],
    state: State,
}

enum State {
    Hello(StdRng),
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
            mesh_id: window.mesh_id,
            session: window.session,
            psk: Psk::from_ticket(&window.secret, &window.session),
            remote_transport: remote_transport_pub,
            trust_code,
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
                ..
            } if words::typed_right(typed, &words) => {
                self.state = State::Enroll {
                    channel,
                    join: join.clone(),
                };
                Ok(vec![SponsorOutput::NeedEnrollment { join }])
            }
            State::Words {
                channel,
                join,
                words,
                left,
            } => {
                let left = left - 1;
                if left > 0 {
                    self.state = State::Words {
                        channel,
                        join,
                        words,
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
        let registry = enrollment.registry(&self.mesh_id)?;
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

    /// P1 and N1: refuses before any secret is used unless the joiner has the shared key.
    fn handle_hello(
        &mut self,
        rng: StdRng,
        message: &[u8],
    ) -> Result<Vec<SponsorOutput>, PairError> {
        let (hello, before, first) = PairHello::parse(message)?;
        if hello.path != Path::Ticket || hello.session != self.session {
            return Err(PairError::OtherSession);
        }
        if self
            .remote_transport
            .is_some_and(|proved| proved != hello.transport)
        {
            return Err(PairError::TransportMismatch);
        }
        let own_transport = self.keys.public().transport;
        if hello.transport == own_transport {
            return Err(PairError::OwnKey);
        }
        let context = Context {
            joiner_transport: &hello.transport,
            sponsor_transport: &own_transport,
            before,
        };
        let mut handshake = Handshake::responder(&self.psk, &context, &self.keys, rng)?;
        handshake.read(first, true)?;
        let answer = handshake.write()?;
        self.state = State::Handshake {
            handshake,
            transport: hello.transport,
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
        let nonce = channel.write(&message::nonce_sponsor(&self.nonce))?;
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
        let nonce = message::read_nonce_joiner(&channel.read(message)?)?;
        if !words::commit_matches(&join.commit, channel.hash(), &nonce) {
            return Err(PairError::CommitmentMismatch);
        }
        if self.trust_code {
            self.state = State::Enroll {
                channel,
                join: join.clone(),
            };
            return Ok(vec![SponsorOutput::NeedEnrollment { join }]);
        }
        let [first, second, _] = words::words(channel.hash(), &self.nonce, &nonce);
        self.state = State::Words {
            channel,
            join,
            words: [first, second],
            left: WORD_TRIES,
        };
        Ok(vec![SponsorOutput::AskWords])
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
