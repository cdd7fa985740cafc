//! The new device's side of pairing.
//!
//! It stores nothing: the caller commits the [`Enrollment`] in one transaction, once its user has agreed to the mesh it names, and
//! only then calls [`Joiner::accept`]. Dropping the machine at any point before leaves no trace.

use rand::CryptoRng;

use crate::ids::MeshId;
use crate::keys::DeviceKeys;
use crate::pairing::handshake::{Channel, Context, Handshake, Path, Psk, fork};
use crate::pairing::message::{self, Enrollment, Gathered, JoinRequest, PairHello};
use crate::pairing::{MAX_EARLY_MESSAGE, PairError, Ticket, handshake, words};
use crate::registry::{Registry, open_grant};

/// What the caller is to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinerOutput {
    /// Send this message.
    Send(Vec<u8>),
    /// Show these words: the user types them on the existing device.
    Words([String; 2]),
    /// The mesh's answer, checked. Show the mesh name and device count of its [`registry`](Enrollment::registry), ask the user,
    /// commit, then [`Joiner::accept`].
    Enrollment(Enrollment),
}

/// The new device's machine. After any error it is dead.
pub struct Joiner {
    keys: DeviceKeys,
    name: String,
    platform: String,
    mesh_id: MeshId,
    sponsor_noise: [u8; 32],
    state: State,
}

enum State {
    Handshake(Handshake),
    SponsorNonce {
        channel: Channel,
        nonce: [u8; 32],
    },
    Enroll {
        channel: Channel,
        gathered: Gathered,
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
    /// `transport_public` is the key of the PeerId the caller really uses; it must be that of `keys`. The caller must have checked
    /// that the peer at the other end has the ticket's transport key, wherever the channel can tell.
    pub fn new<R: CryptoRng + ?Sized>(
        ticket: &Ticket,
        keys: &DeviceKeys,
        name: &str,
        platform: &str,
        transport_public: &[u8; 32],
        rng: &mut R,
    ) -> Result<(Self, Vec<u8>), PairError> {
        if *transport_public != keys.public().transport {
            return Err(PairError::TransportMismatch);
        }
        if ticket.noise == keys.public().noise {
            return Err(PairError::OwnKey);
        }
        let hello = PairHello {
            path: Path::Ticket,
            session: ticket.session,
            transport: *transport_public,
        };
        let first = hello.to_bytes();
        let psk = Psk::from_ticket(&ticket.secret, &ticket.session);
        let context = Context {
            joiner_transport: transport_public,
            sponsor_transport: &ticket.transport,
            before: &first,
        };
        let mut handshake = Handshake::initiator(&psk, &context, keys, fork(rng))?;
        let message = [&first[..], &handshake.write()?].concat();
        let joiner = Self {
            keys: keys.clone(),
            name: name.to_owned(),
            platform: platform.to_owned(),
            mesh_id: ticket.mesh_id,
            sponsor_noise: ticket.noise,
            state: State::Handshake(handshake),
        };
        joiner.request([0; 32]).check()?;
        Ok((joiner, message))
    }

    /// Takes the sponsor's next message.
    pub fn handle<R: CryptoRng + ?Sized>(
        &mut self,
        message: &[u8],
        rng: &mut R,
    ) -> Result<Vec<JoinerOutput>, PairError> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Handshake(handshake) => self.handle_handshake(handshake, message, rng),
            State::SponsorNonce { channel, nonce } => self.handle_nonce(channel, nonce, message),
            State::Enroll { channel, gathered } => self.handle_enroll(channel, gathered, message),
            State::Agree { .. } => Err(PairError::Unexpected),
            State::Dead => Err(PairError::Dead),
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

    /// N2: finishes the handshake and asks to join.
    fn handle_handshake<R: CryptoRng + ?Sized>(
        &mut self,
        mut handshake: Handshake,
        message: &[u8],
        rng: &mut R,
    ) -> Result<Vec<JoinerOutput>, PairError> {
        check_early(message)?;
        handshake.read(message, true)?;
        if handshake.remote_static()? != self.sponsor_noise {
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
        let sponsor = message::read_nonce_sponsor(&channel.read(message)?)?;
        let reveal = channel.write(&message::nonce_joiner(&nonce))?;
        let [first, second, _] = words::words(channel.hash(), &sponsor, &nonce);
        self.state = State::Enroll {
            channel,
            gathered: Gathered::default(),
        };
        Ok(vec![
            JoinerOutput::Send(reveal),
            JoinerOutput::Words([first.to_owned(), second.to_owned()]),
        ])
    }

    /// E4, piece by piece.
    fn handle_enroll(
        &mut self,
        mut channel: Channel,
        mut gathered: Gathered,
        message: &[u8],
    ) -> Result<Vec<JoinerOutput>, PairError> {
        if message.len() > handshake::MAX_FRAME {
            return Err(PairError::TooLarge);
        }
        let Some(enrollment) = gathered.push(&channel.read(message)?)? else {
            self.state = State::Enroll { channel, gathered };
            return Ok(Vec::new());
        };
        let registry = self.check(&enrollment)?;
        self.state = State::Agree {
            channel,
            registry: registry.digest(),
        };
        Ok(vec![JoinerOutput::Enrollment(enrollment)])
    }

    /// The ticket's mesh, every statement valid, this device in it with exactly its keys, every grant to it good.
    pub(super) fn check(&self, enrollment: &Enrollment) -> Result<Registry, PairError> {
        let registry = enrollment.registry(&self.mesh_id)?;
        let view = registry.view();
        let device_id = self.keys.device_id();
        if view
            .devices
            .get(&device_id)
            .is_none_or(|entry| entry.public != self.keys.public())
        {
            return Err(PairError::NotAdmitted);
        }
        for (space, epochs) in &view.epochs {
            for epoch in epochs
                .iter()
                .filter(|epoch| epoch.grants.contains_key(&device_id))
            {
                open_grant(&self.keys, space, epoch).map_err(PairError::BadGrant)?;
            }
        }
        Ok(registry)
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
