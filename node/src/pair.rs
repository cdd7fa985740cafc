//! How this device comes into a mesh, and how it lets another one in.
//!
//! The handshake is `ownmesh_crypto::pairing`'s; here it meets the network and the clock. [`join`] is the new device's whole way:
//! find the sponsor, show the words, check what it answers, ask the user, and stop before anything is final, so that the caller can
//! commit its database first and only then tell the sponsor ([`Joined::confirm`]). [`SponsorSession`] is the other side, driven
//! by the engine's events.
//!
//! Guards against a sponsor that is not the ticket's (its PeerId and Noise key are in the ticket), against waiting for ever, and
//! against keeping anything of a pairing that did not end well: dropping what is here leaves no trace.

mod sponsor;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ownmesh_crypto::pairing::{
    Enrollment, Joiner, JoinerOutput, MAX_ENROLLMENT, MAX_MESSAGE, PairError, Ticket,
};
use ownmesh_crypto::registry::Registry;
use ownmesh_crypto::{DeviceId, DeviceKeys, Label, hash};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::{DialPair, NetError, PairIo, PairSearch};

pub use crate::net::Tried;
pub use sponsor::{ATTEMPTS, Failure, SponsorEffect, SponsorSession, WINDOW_TIME, WindowEnd};

/// How long the sponsor is looked for.
pub const FIND_TIME: Duration = Duration::from_secs(60);
/// The whole pairing: as long as a window is open.
pub const JOIN_TIME: Duration = Duration::from_secs(300);
/// All frames of an enrolment, its pieces' overhead included, bytes.
const ENROLL_TOTAL: usize = MAX_ENROLLMENT + (1 << 20);

/// What [`join`] needs.
#[derive(Debug)]
pub struct JoinOptions<'a> {
    /// The ticket the sponsor shows.
    pub ticket: Ticket,
    /// The new device's keys.
    pub keys: &'a DeviceKeys,
    /// What it is to be called.
    pub name: String,
    /// What it runs on.
    pub platform: String,
    /// Where the sponsor is, if the user says so.
    pub at: Option<SocketAddr>,
    /// The runtime directory, in which a sponsor on the same machine is found.
    pub runtime_dir: PathBuf,
    /// Whether to look for the sponsor by multicast DNS too.
    pub mdns: bool,
}

/// How far [`join`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinEvent {
    /// The sponsor answers and holds the ticket's key.
    Reached,
    /// To be shown: the user types them on the sponsor.
    Words([String; 2]),
    /// To be shown: the mesh the ticket leads into. The answer to `accept` is awaited now.
    Found {
        /// Its name.
        mesh_name: String,
        /// How many devices it has, this one not counted.
        devices: usize,
    },
}

/// Why joining failed. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody with the ticket's key was found.
    #[error("the other device was not found; tried {}", tried_text(tried))]
    NotFound {
        /// Where it was looked for.
        tried: Vec<Tried>,
    },
    /// The ticket's time is over.
    #[error("pairing took longer than five minutes")]
    Expired,
    /// The sponsor ended the pairing.
    #[error("the other device ended the pairing {}", if *words_shown { "(were the words right?)" } else { "(is the ticket its newest, and the window still open?)" })]
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

/// Joins the mesh a ticket leads to, up to the point where nothing is final.
///
/// `accept` answers the question [`JoinEvent::Found`] puts; send `true` before to skip it. Dropping its sender declines.
pub async fn join(
    options: JoinOptions<'_>,
    events: mpsc::Sender<JoinEvent>,
    accept: oneshot::Receiver<bool>,
) -> Result<Joined, JoinError> {
    let deadline = Instant::now() + JOIN_TIME;
    let (io, sponsor_address) = find(&options).await?;
    timeout_at(
        deadline,
        converse(options, io, sponsor_address, &events, accept),
    )
    .await
    .map_err(|_| JoinError::Expired)?
}

/// All ways at once: what the ticket and the user say, the network, this machine.
async fn find(options: &JoinOptions<'_>) -> Result<(PairIo, Option<SocketAddr>), JoinError> {
    let ticket = &options.ticket;
    let mut dial = DialPair::new(*options.keys.transport_secret().expose(), &ticket.transport)?;
    let (search, mut news) = PairSearch::start(
        window_name(&ticket.session),
        options.runtime_dir.clone(),
        options.mdns,
    );
    for address in options
        .at
        .into_iter()
        .chain(ticket.hints.iter().filter_map(|hint| hint.parse().ok()))
    {
        dial.add(address);
    }
    let found = timeout(FIND_TIME, dial.connect(&mut news)).await;
    drop(search);
    match found {
        Ok((stream, address)) => Ok((dial.carry(stream), Some(address))),
        Err(_) => Err(JoinError::NotFound {
            tried: dial.tried(),
        }),
    }
}

async fn converse(
    options: JoinOptions<'_>,
    mut io: PairIo,
    sponsor_address: Option<SocketAddr>,
    events: &mpsc::Sender<JoinEvent>,
    accept: oneshot::Receiver<bool>,
) -> Result<Joined, JoinError> {
    let JoinOptions {
        ticket,
        keys,
        name,
        platform,
        ..
    } = options;
    let mut rng = StdRng::from_rng(&mut rand::rng());
    let (mut machine, first) = Joiner::new(
        &ticket,
        keys,
        &name,
        &platform,
        &keys.public().transport,
        &mut rng,
    )?;
    send(&mut io, &first).await?;
    let mut words_shown = false;
    let mut total = 0;
    loop {
        // A sponsor that gives up closes, and the connection may go before the close is read.
        let Ok(Some(message)) = io.recv(MAX_MESSAGE).await else {
            return Err(JoinError::Refused { words_shown });
        };
        total += message.len();
        if total > ENROLL_TOTAL {
            return Err(PairError::TooLarge.into());
        }
        for output in machine.handle(&message, &mut rng)? {
            match output {
                JoinerOutput::Send(bytes) => send(&mut io, &bytes).await?,
                JoinerOutput::Words(words) => {
                    words_shown = true;
                    tell(events, JoinEvent::Reached).await;
                    tell(events, JoinEvent::Words(words)).await;
                }
                JoinerOutput::Enrollment(enrollment) => {
                    let registry = enrollment.registry(&ticket.mesh_id)?;
                    let view = registry.view();
                    let sponsor = view
                        .devices
                        .iter()
                        .find(|(_, entry)| entry.public.transport == ticket.transport);
                    let sponsor = *sponsor.ok_or(PairError::TicketKeyMismatch)?.0;
                    let devices = view.devices.len().saturating_sub(1);
                    tell(
                        events,
                        JoinEvent::Found {
                            mesh_name: view.mesh_name.clone(),
                            devices,
                        },
                    )
                    .await;
                    // A sponsor that ends it now has not enrolled anybody.
                    tokio::select! {
                        biased;
                        answer = accept => {
                            if !answer.unwrap_or(false) {
                                return Err(JoinError::Declined);
                            }
                        }
                        _ = io.recv(MAX_MESSAGE) => return Err(JoinError::Refused { words_shown }),
                    }
                    return Ok(Joined {
                        enrollment,
                        registry,
                        sponsor,
                        sponsor_address,
                        machine,
                        io,
                    });
                }
            }
        }
    }
}

async fn send(io: &mut PairIo, bytes: &[u8]) -> Result<(), JoinError> {
    io.send(bytes).await.map_err(|_| JoinError::Connection)
}

/// Nobody listening is no reason to stop: the answer to `accept` decides.
async fn tell(events: &mpsc::Sender<JoinEvent>, event: JoinEvent) {
    let _ = events.send(event).await;
}

/// The public name of a pairing window, for adverts: it shows which window is open and is of no use for entering it.
pub fn window_name(session: &[u8; 16]) -> [u8; 8] {
    let mut name = [0; 8];
    let hash = hash(Label::PAIR_SALT, &[session]);
    name.copy_from_slice(&hash[..8]);
    name
}
