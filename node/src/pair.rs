//! How this device comes into a mesh, and how it lets another one in.
//!
//! The handshake is `ownmesh_crypto::pairing`'s; here it meets the network and the clock. [`join`] is the new device's whole way:
//! find the sponsor, show the words, check what it answers, ask the user, and stop before anything is final, so that the caller can
//! commit its database first and only then tell the sponsor ([`Joined::confirm`]). [`SponsorSession`] is the other side, driven
//! by the engine's events.
//!
//! Guards against a sponsor that is not the ticket's (its PeerId and Noise key are in the ticket) or does not have the code, against guessing
//! (a code is tried with one device and once), against waiting for ever, and against keeping anything of a pairing that did not end well:
//! dropping what is here leaves no trace.

mod password;
mod sponsor;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ownmesh_crypto::pairing::{
    Code, Enrollment, Joiner, JoinerOutput, MAX_ENROLLMENT, MAX_MESSAGE, Nameplate, Newcomer,
    PairError, Ticket, WordsWrong,
};
use ownmesh_crypto::registry::Registry;
use ownmesh_crypto::{DeviceId, DeviceKeys, Label, hash};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::{DialPair, Met, NetError, PairIo, PairSearch, Sought};

pub use crate::net::Tried;
pub(crate) use password::unlock_root;
pub use sponsor::{
    ATTEMPTS, Failure, GUESSES, SponsorEffect, SponsorSession, WINDOW_TIME, WindowEnd,
};

/// How long the sponsor is looked for.
pub const FIND_TIME: Duration = Duration::from_secs(60);
/// The whole pairing: as long as a window is open.
pub const JOIN_TIME: Duration = Duration::from_secs(300);
/// All frames of an enrolment, its pieces' overhead included, bytes.
const ENROLL_TOTAL: usize = MAX_ENROLLMENT + (1 << 20);

/// What the user was given on the other device.
#[derive(Clone, Debug)]
pub enum Invitation {
    /// A ticket.
    Ticket(Box<Ticket>),
    /// A code.
    Code(Code),
}

/// What [`join`] needs.
#[derive(Debug)]
pub struct JoinOptions<'a> {
    /// The ticket or code the sponsor shows.
    pub invitation: Invitation,
    /// Whether that alone is trusted: the user is asked nothing.
    pub trust: bool,
    /// The new device's keys.
    pub keys: &'a DeviceKeys,
    /// What it is to be called.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// Where the sponsor is, if the user says so.
    pub at: Vec<SocketAddr>,
    /// The runtime directory, in which a sponsor on the same machine is found.
    pub runtime_dir: PathBuf,
    /// Whether to look for the sponsor by multicast DNS too.
    pub mdns: bool,
}

/// How far [`join`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinEvent {
    /// The sponsor answers and holds the ticket's key, or has the code.
    Reached,
    /// To be shown: the user types them on the sponsor. Not told when that does not ask for them.
    Words([String; 2]),
    /// To be shown: the mesh it leads into. The answer to `ask` is awaited now.
    Found {
        /// Its name.
        mesh_name: String,
        /// How many devices it has, this one not counted.
        devices: usize,
        /// What the user is to be asked.
        ask: Ask,
    },
    /// This is not the word the sponsor shows; another answer is awaited.
    WordWrong {
        /// How many more.
        left: u8,
    },
}

/// What the new device's own user is asked before anything is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Nothing: ticket or code are trusted.
    Nothing,
    /// Whether to join this mesh. The ticket has shown that it is the right one.
    Agreement,
    /// The word that the sponsor shows: a code does not say whose it is.
    Word,
}

/// The user's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Ask::Agreement`].
    Yes,
    /// To anything.
    No,
    /// To [`Ask::Word`].
    Word(String),
}

/// Why joining failed. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody with the ticket's key, or whose code begins so, was found.
    #[error("{} was not found; tried {}", whom(*nameplate), tried_text(tried))]
    NotFound {
        /// The first digits of the code, if it was one.
        nameplate: Option<Nameplate>,
        /// Where it was looked for.
        tried: Vec<Tried>,
    },
    /// The sponsor has another code.
    #[error("the code is wrong, or another device answers to its first three digits")]
    WrongCode,
    /// The user did not type the word the sponsor shows.
    #[error("the word was wrong: perhaps another device stands between the two")]
    WrongWord,
    /// The ticket's time is over.
    #[error("pairing took longer than five minutes")]
    Expired,
    /// The sponsor ended the pairing.
    #[error("the other device ended the pairing {}", if *words_shown { "(were the words right?)" } else { "(is the window still open, and nobody else in it?)" })]
    Refused {
        /// Whether it was after the words were shown.
        words_shown: bool,
    },
    /// The user did not want to join this mesh.
    #[error("not joined")]
    Declined,
    /// The sponsor is not to be believed.
    #[error("pairing failed: {0}")]
    Pair(#[from] PairError),
    /// The connection failed.
    #[error("the connection to the other device failed")]
    Connection,
    /// The network could not be used.
    #[error("the network cannot be used")]
    Net(#[from] NetError),
}

fn whom(nameplate: Option<Nameplate>) -> String {
    match nameplate {
        Some(digits) => format!("a device whose code begins with {digits}"),
        None => "the other device".into(),
    }
}

fn tried_text(tried: &[Tried]) -> String {
    let mut text: Vec<String> = tried
        .iter()
        .map(|Tried { address, failure }| {
            format!("{address} ({})", failure.as_deref().unwrap_or("no answer"))
        })
        .collect();
    text.push("the local network".into());
    text.push("this machine".into());
    text.join(", ")
}

/// An enrolment that was checked and accepted, and is not yet confirmed.
#[must_use = "the sponsor keeps it pending until it is confirmed"]
pub struct Joined {
    /// What the mesh gave: to be committed in one transaction.
    pub enrollment: Enrollment,
    /// Its registry, checked.
    pub registry: Registry,
    /// Who let us in.
    pub sponsor: DeviceId,
    /// Where it was met.
    pub sponsor_address: Option<SocketAddr>,
    machine: Joiner,
    io: PairIo,
}

impl Joined {
    /// Tells the sponsor that everything is committed. To be called after that, never before.
    ///
    /// A failure here undoes nothing: the sponsor learns of it at the first connection.
    pub async fn confirm(mut self) -> Result<(), JoinError> {
        let receipt = self.machine.accept()?;
        self.io
            .send(&receipt)
            .await
            .map_err(|_| JoinError::Connection)?;
        self.io.finish().await;
        Ok(())
    }
}

impl std::fmt::Debug for Joined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joined")
            .field("sponsor", &self.sponsor)
            .finish_non_exhaustive()
    }
}

/// Joins the mesh a ticket or code leads to, up to the point where nothing is final.
///
/// `answers` has the user's answers to what [`JoinEvent::Found`] asks; dropping its sender declines.
pub async fn join(
    options: JoinOptions<'_>,
    events: mpsc::Sender<JoinEvent>,
    answers: mpsc::Receiver<Answer>,
) -> Result<Joined, JoinError> {
    let deadline = Instant::now() + JOIN_TIME;
    let (met, dial) = find(&options).await?;
    let conversation = Conversation {
        io: dial.carry(met.stream),
        address: met.address,
        transport: met.transport,
        trust: options.trust,
        events,
        answers,
        words_shown: false,
    };
    timeout_at(deadline, conversation.hold(&options))
        .await
        .map_err(|_| JoinError::Expired)?
}

/// All ways at once: what the ticket and the user say, the network, this machine.
async fn find(options: &JoinOptions<'_>) -> Result<(Met, DialPair), JoinError> {
    let (sponsor, sought, hints) = match &options.invitation {
        Invitation::Ticket(ticket) => (
            Some(&ticket.transport),
            Sought::Window(window_name(&ticket.session)),
            &ticket.hints[..],
        ),
        Invitation::Code(code) => (None, Sought::Nameplate(code.nameplate()), &[][..]),
    };
    let mut dial = DialPair::new(*options.keys.transport_secret().expose(), sponsor)?;
    let (search, mut news) = PairSearch::start(sought, options.runtime_dir.clone(), options.mdns);
    let hints = hints.iter().filter_map(|hint| hint.parse().ok());
    for address in options.at.iter().copied().chain(hints) {
        dial.add(address);
    }
    let met = timeout(FIND_TIME, dial.connect(&mut news)).await;
    drop(search);
    match met {
        Ok(met) => Ok((met, dial)),
        Err(_) => Err(JoinError::NotFound {
            nameplate: match sought {
                Sought::Nameplate(nameplate) => Some(nameplate),
                Sought::Window(_) => None,
            },
            tried: dial.tried(),
        }),
    }
}

/// The pairing with a sponsor that was met.
struct Conversation {
    io: PairIo,
    address: SocketAddr,
    transport: [u8; 32],
    trust: bool,
    events: mpsc::Sender<JoinEvent>,
    answers: mpsc::Receiver<Answer>,
    words_shown: bool,
}

impl Conversation {
    async fn hold(mut self, options: &JoinOptions<'_>) -> Result<Joined, JoinError> {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let newcomer = Newcomer {
            keys: options.keys,
            name: &options.name,
            platform: &options.platform,
            transport: &options.keys.public().transport,
        };
        let by_code = matches!(options.invitation, Invitation::Code(_));
        let (mut machine, first) = match &options.invitation {
            Invitation::Ticket(ticket) => Joiner::with_ticket(ticket, newcomer, &mut rng)?,
            Invitation::Code(code) => Joiner::with_code(code, &self.transport, newcomer, &mut rng)?,
        };
        if self.trust {
            machine.trust_code();
        }
        // Nobody there to agree: the other side need not admit anybody for that.
        if !self.trust && self.answers.is_closed() {
            return Err(JoinError::Declined);
        }
        send(&mut self.io, &first).await?;
        let mut total = 0;
        loop {
            // A sponsor that gives up closes, and the connection may go before the close is read.
            let Ok(Some(message)) = self.io.recv(MAX_MESSAGE).await else {
                return Err(self.refused());
            };
            let begun = total > 0;
            total += message.len();
            if total > ENROLL_TOTAL {
                return Err(PairError::TooLarge.into());
            }
            let outputs = machine
                .handle(&message, &mut rng)
                .map_err(|error| match error {
                    PairError::WrongSecret if by_code && !begun => JoinError::WrongCode,
                    error => error.into(),
                })?;
            if !begun {
                self.tell(JoinEvent::Reached).await;
            }
            for output in outputs {
                match output {
                    JoinerOutput::Send(bytes) => send(&mut self.io, &bytes).await?,
                    JoinerOutput::Words(words) => {
                        self.words_shown = true;
                        self.tell(JoinEvent::Words(words)).await;
                    }
                    JoinerOutput::Enrollment {
                        enrollment,
                        mesh_id,
                        sponsor,
                        ask_word,
                    } => {
                        let registry = enrollment.registry(&mesh_id)?;
                        self.agree(&registry, ask_word, &mut machine).await?;
                        return Ok(Joined {
                            enrollment,
                            registry,
                            sponsor,
                            sponsor_address: Some(self.address),
                            machine,
                            io: self.io,
                        });
                    }
                }
            }
        }
    }

    /// Asks the user. A sponsor that ends it meanwhile has not enrolled anybody.
    async fn agree(
        &mut self,
        registry: &Registry,
        ask_word: bool,
        machine: &mut Joiner,
    ) -> Result<(), JoinError> {
        let ask = match (self.trust, ask_word) {
            (true, _) => Ask::Nothing,
            (false, true) => Ask::Word,
            (false, false) => Ask::Agreement,
        };
        let view = registry.view();
        self.tell(JoinEvent::Found {
            mesh_name: view.mesh_name.clone(),
            devices: view.devices.len().saturating_sub(1),
            ask,
        })
        .await;
        if ask == Ask::Nothing {
            return Ok(());
        }
        loop {
            let answer = tokio::select! {
                biased;
                answer = self.answers.recv() => answer,
                _ = self.io.recv(MAX_MESSAGE) => return Err(self.refused()),
            };
            match (ask, answer) {
                (Ask::Agreement, Some(Answer::Yes)) => return Ok(()),
                (Ask::Word, Some(Answer::Word(typed))) => match machine.confirm_word(&typed) {
                    Ok(()) => return Ok(()),
                    Err(WordsWrong { left: 0 }) => return Err(JoinError::WrongWord),
                    Err(WordsWrong { left }) => self.tell(JoinEvent::WordWrong { left }).await,
                },
                _ => return Err(JoinError::Declined),
            }
        }
    }

    fn refused(&self) -> JoinError {
        JoinError::Refused {
            words_shown: self.words_shown,
        }
    }

    /// Nobody listening is no reason to stop: the answers decide.
    async fn tell(&self, event: JoinEvent) {
        let _ = self.events.send(event).await;
    }
}

async fn send(io: &mut PairIo, bytes: &[u8]) -> Result<(), JoinError> {
    io.send(bytes).await.map_err(|_| JoinError::Connection)
}

/// The public name of a pairing window, for adverts: it shows which window is open and is of no use for entering it.
pub fn window_name(session: &[u8; 16]) -> [u8; 8] {
    let mut name = [0; 8];
    let hash = hash(Label::PAIR_SALT, &[session]);
    name.copy_from_slice(&hash[..8]);
    name
}
