//! Finding devices without anybody's help: multicast DNS on the network, files in the runtime directory on this machine.
//!
//! An advert is a nonce and its tag under a key of the mesh: others learn that some device of some mesh is there, not which; the
//! mesh's own devices learn that it is one of theirs, not which either, and dial it for each device they miss. Who it really is
//! only the handshake shows. While a pairing window is open a second advert names the window, for a device that has its ticket, and the
//! public digits of its code, for one that has that.
//!
//! Guards against adverts that cost anything: an unproved one is dropped, all are bounded, and no road of discovery that fails
//! takes another with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ownmesh_crypto::pairing::Nameplate;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::mdns::Mdns;
use super::runtime_files::{Card, OwnFile, Watch};
use super::{Discovery, PairAdvert};

/// How often the runtime directory is looked at while somebody is missing: a start is noticed in half of this on average.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// News that may wait.
const NEWS: usize = 64;

/// What discovery says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// One of ours may be there.
    At {
        source: String,
        addresses: Vec<SocketAddr>,
    },
    /// An advert is gone.
    Gone { source: String },
    /// A way of finding does not work.
    Trouble(String),
}

/// Which window a new device looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sought {
    /// That of its ticket.
    Window([u8; 8]),
    /// One whose code has these public digits.
    Nameplate(Nameplate),
}

impl Sought {
    /// Whether an advert shows it. What an advert lacks fits nothing.
    pub(crate) fn fits(self, window: Option<[u8; 8]>, nameplate: Option<Nameplate>) -> bool {
        match self {
            Sought::Window(sought) => window == Some(sought),
            Sought::Nameplate(sought) => nameplate == Some(sought),
        }
    }
}

/// One node's adverts, and its search for others'. Everything is withdrawn when dropped.
pub(crate) struct Finder {
    config: Option<Discovery>,
    runtime_dir: PathBuf,
    found: mpsc::Sender<Found>,
    mdns: Option<Mdns>,
    file: Option<OwnFile>,
    nonce: [u8; 16],
    port: u16,
    seeking: watch::Sender<bool>,
    own_file: watch::Sender<String>,
    looking: Option<AbortHandle>,
}

impl Finder {
    /// Starts announcing `port`, and looking.
    pub(crate) fn start(
        config: Option<Discovery>,
        runtime_dir: PathBuf,
        port: u16,
    ) -> (Self, mpsc::Receiver<Found>) {
        let (found, news) = mpsc::channel(NEWS);
        let mut nonce = [0; 16];
        let random = getrandom::fill(&mut nonce).is_ok();
        let (seeking, own_file) = (watch::Sender::new(false), watch::Sender::new(String::new()));
        let config = config.filter(|_| random);
        let mut finder = Self {
            config,
            runtime_dir,
            found,
            mdns: None,
            file: None,
            nonce,
            port,
            seeking,
            own_file,
            looking: None,
        };
        finder.begin();
        (finder, news)
    }

    /// Whether some device is missing. Only then anything is polled.
    pub(crate) fn seek(&self, missing: bool) {
        self.seeking
            .send_if_modified(|seeking| std::mem::replace(seeking, missing) != missing);
    }

    /// Announces the pairing window of this name, or no longer.
    pub(crate) fn announce_pairing(&mut self, pairing: Option<PairAdvert>) {
        let Some(config) = self.config.clone() else {
            return;
        };
        self.write_file(&config, pairing);
        if let Some(mdns) = &mut self.mdns {
            let told = mdns.announce_pairing(self.port, pairing.as_ref());
            self.tell(told);
        }
    }

    fn begin(&mut self) {
        let Some(config) = self.config.clone() else {
            return;
        };
        self.write_file(&config, None);
        let look = look(
            self.runtime_dir.clone(),
            config.clone(),
            self.own_file.subscribe(),
            self.seeking.subscribe(),
            self.found.clone(),
        );
        self.looking = Some(tokio::spawn(look).abort_handle());
        if !config.mdns {
            return;
        }
        let mdns = Mdns::start().and_then(|mdns| {
            mdns.announce(self.port, &self.nonce, &(config.tag)(&self.nonce))?;
            let tag = config.tag.clone();
            mdns.browse(
                Box::new(move |nonce, shown| tag(nonce) == *shown),
                self.found.clone(),
            )?;
            Ok(mdns)
        });
        match mdns {
            Ok(mdns) => self.mdns = Some(mdns),
            Err(what) => self.tell(Err(what)),
        }
    }

    fn write_file(&mut self, config: &Discovery, pairing: Option<PairAdvert>) {
        let card = Card {
            pid: std::process::id(),
            port: self.port,
            nonce: self.nonce,
            tag: (config.tag)(&self.nonce),
            pairing,
        };
        match OwnFile::write(&self.runtime_dir, &card) {
            Ok(file) => {
                self.own_file.send_replace(file.name());
                self.file = Some(file);
            }
            Err(error) => self.tell(Err(format!("{}: {error}", self.runtime_dir.display()))),
        }
    }

    fn tell(&self, result: Result<(), String>) {
        if let Err(what) = result {
            let _ = self.found.try_send(Found::Trouble(what));
        }
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
    }
}

/// Reads the runtime directory while somebody is missing.
async fn look(
    dir: PathBuf,
    config: Discovery,
    own: watch::Receiver<String>,
    mut seeking: watch::Receiver<bool>,
    found: mpsc::Sender<Found>,
) {
    let mut known: Vec<(String, u16)> = Vec::new();
    let mut files = Watch::default();
    loop {
        if seeking.wait_for(|seeking| *seeking).await.is_err() {
            return;
        }
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *seeking.borrow() {
            ticks.tick().await;
            let Some(cards) = files.look(&dir) else {
                continue;
            };
            let own = own.borrow().clone();
            let ours: Vec<(String, u16)> = cards
                .into_iter()
                .filter(|(name, card)| *name != own && (config.tag)(&card.nonce) == card.tag)
                .map(|(name, card)| (name, card.port))
                .collect();
            let gone = known
                .iter()
                .filter(|old| !ours.contains(old))
                .map(|(source, _)| Found::Gone {
                    source: source.clone(),
                });
            let new = ours
                .iter()
                .filter(|new| !known.contains(new))
                .map(|(source, port)| at(source, *port));
            for news in gone.chain(new).collect::<Vec<_>>() {
                if found.send(news).await.is_err() {
                    return;
                }
            }
            known = ours;
        }
    }
}

fn at(source: &str, port: u16) -> Found {
    Found::At {
        source: source.to_owned(),
        addresses: vec![(Ipv4Addr::LOCALHOST, port).into()],
    }
}

/// Looks for the sponsor of a pairing window, both ways at once, until dropped.
pub(crate) struct PairSearch {
    _mdns: Option<Mdns>,
    looking: AbortHandle,
}

impl PairSearch {
    /// Starts. `mdns` is `false` where multicast is not wanted.
    pub(crate) fn start(
        sought: Sought,
        runtime_dir: PathBuf,
        mdns: bool,
    ) -> (Self, mpsc::Receiver<Found>) {
        let (found, news) = mpsc::channel(NEWS);
        let mdns = mdns.then(|| {
            let mdns = Mdns::start()?;
            mdns.browse_pairing(sought, found.clone())?;
            Ok::<_, String>(mdns)
        });
        let mdns = match mdns.transpose() {
            Ok(mdns) => mdns,
            Err(what) => {
                let _ = found.try_send(Found::Trouble(what));
                None
            }
        };
        let looking = tokio::spawn(async move {
            let mut files = Watch::default();
            let mut ticks = interval(LOOK_EVERY);
            loop {
                ticks.tick().await;
                for (source, card) in files.look(&runtime_dir).unwrap_or_default() {
                    let shown = card.pairing;
                    if sought.fits(shown.map(|p| p.window), shown.and_then(|p| p.nameplate))
                        && found.send(at(&source, card.port)).await.is_err()
                    {
                        return;
                    }
                }
            }
        });
        (
            Self {
                _mdns: mdns,
                looking: looking.abort_handle(),
            },
            news,
        )
    }
}

impl Drop for PairSearch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}
