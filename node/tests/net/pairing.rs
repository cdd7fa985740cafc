//! Pairing end to end: both sides, real sockets, a user who types.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ownmesh_crypto::pairing::{Enrollment, Ticket};
use ownmesh_crypto::registry::{self, By, JoinPath, Registry};
use ownmesh_crypto::{DeviceKeys, MasterKey, MeshSecret, RootKeys, Secret};
use ownmesh_node::net::{NetEvent, Peer};
use ownmesh_node::pair::{
    JoinError, JoinEvent, JoinOptions, Joined, SponsorEffect, SponsorSession, join,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{LONG, Node, keys, run_dir};

/// A mesh of one device, and its open window.
struct Sponsor {
    node: Node,
    registry: Registry,
    secret: MeshSecret,
    session: SponsorSession,
    /// What the window did, by name.
    story: Vec<String>,
}

fn founded(keys: &DeviceKeys) -> (Registry, MeshSecret) {
    let mut rng = StdRng::seed_from_u64(5);
    let master = MasterKey::random(&mut rng);
    let root: RootKeys = master.root(&[3; 16], 0);
    let genesis = registry::genesis(&root, [3; 16], "home", 1).unwrap();
    let mut registry = Registry::new(genesis.bytes()).unwrap();
    let mesh = registry.view().mesh_id;
    let first = registry::device(
        By::Root(&root),
        &mesh,
        "laptop",
        "linux",
        &keys.card(),
        JoinPath::First,
        2,
    )
    .unwrap();
    registry.insert(first.bytes()).unwrap();
    let delegation =
        registry::delegation(By::Root(&root), &mesh, keys.device_id(), true, 3).unwrap();
    registry.insert(delegation.bytes()).unwrap();
    (registry, MeshSecret::random(&mut rng))
}

impl Sponsor {
    async fn open(run: Option<&Path>, trust: bool) -> Self {
        let own = keys(1);
        let (registry, secret) = founded(&own);
        let node = Node::start_in(1, registry.view().mesh_id, run).await;
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let session = SponsorSession::open(
            registry.view().mesh_id,
            own,
            trust,
            Instant::now(),
            &mut rng,
        );
        node.net.open_window(session.name().unwrap());
        Self {
            node,
            registry,
            secret,
            session,
            story: Vec::new(),
        }
    }

    fn ticket(&self, with_hints: bool) -> Ticket {
        let hints = if with_hints {
            vec![self.node.address().to_string()]
        } else {
            vec![]
        };
        self.session.ticket(hints).unwrap().unwrap()
    }

    /// Plays the engine and the user until the window ends or `enough` of the story is told.
    async fn run(
        &mut self,
        words: &mut mpsc::Receiver<String>,
        enough: impl Fn(&[String]) -> bool,
    ) {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        while !enough(&self.story) {
            let event = timeout(LONG, self.node.events.recv())
                .await
                .expect("in time")
                .expect("the net runs");
            let effects = match event {
                NetEvent::PairFrame {
                    stream,
                    remote_transport_pub,
                    bytes,
                } => self.session.handle_frame(
                    Instant::now(),
                    &mut rng,
                    stream,
                    remote_transport_pub,
                    &bytes,
                ),
                NetEvent::PairClosed { stream } => self.session.handle_closed(stream),
                _ => continue,
            };
            self.perform(effects, words).await;
        }
    }

    async fn perform(&mut self, effects: Vec<SponsorEffect>, words: &mut mpsc::Receiver<String>) {
        let mut todo: VecDeque<SponsorEffect> = effects.into();
        while let Some(effect) = todo.pop_front() {
            match effect {
                SponsorEffect::Send { stream, bytes } => {
                    self.node.net.pair_send(stream, bytes).unwrap();
                }
                SponsorEffect::Close { stream } => self.node.net.pair_close(stream),
                SponsorEffect::Joining { name, .. } => self.story.push(format!("joining {name}")),
                SponsorEffect::AskWords | SponsorEffect::WordsWrong { .. } => {
                    let typed = timeout(LONG, words.recv()).await.unwrap().unwrap();
                    todo.extend(self.session.confirm_words(&typed));
                }
                SponsorEffect::NeedEnrollment { join } => {
                    let mesh = self.registry.view().mesh_id;
                    let by = By::Device(&self.node.keys);
                    let admitted = registry::device(
                        by,
                        &mesh,
                        &join.name,
                        &join.platform,
                        &join.card,
                        JoinPath::Ticket,
                        4,
                    )
                    .unwrap();
                    let mut next = self.registry.clone();
                    next.insert(admitted.bytes()).unwrap();
                    let statements = next
                        .statements()
                        .map(|statement| statement.bytes().to_vec())
                        .collect();
                    let enrollment = Enrollment {
                        mesh_secret: self.secret.clone(),
                        statements,
                        keyslots: vec![],
                    };
                    todo.extend(self.session.enroll(enrollment));
                    self.registry = next;
                }
                SponsorEffect::Done { device } => {
                    let public = self.registry.view().devices[&device].public;
                    self.node.net.set_peers(vec![Peer {
                        device,
                        public,
                        addresses: vec![],
                    }]);
                    self.story.push("done".into());
                }
                SponsorEffect::Failed {
                    why, attempts_left, ..
                } => {
                    self.story
                        .push(format!("failed: {why}; {attempts_left} left"));
                }
                SponsorEffect::Closed { end } => {
                    self.node.net.close_window();
                    self.story.push(format!("closed: {end:?}"));
                }
            }
        }
    }
}

fn options<'a>(ticket: Ticket, keys: &'a DeviceKeys, run: Option<&Path>) -> JoinOptions<'a> {
    JoinOptions {
        ticket,
        keys,
        name: "phone".into(),
        platform: "linux".into(),
        at: None,
        runtime_dir: run.map_or_else(|| PathBuf::from("/nonexistent"), Path::to_path_buf),
        mdns: false,
    }
}

/// Joins with a user who types what he sees and agrees.
async fn join_typing(
    options: JoinOptions<'_>,
    typed: mpsc::Sender<String>,
) -> (Result<Joined, JoinError>, Vec<JoinEvent>) {
    let (events, mut shown) = mpsc::channel(8);
    let (yes, accept) = oneshot::channel();
    yes.send(true).unwrap();
    let watch = async {
        let mut all = Vec::new();
        while let Some(event) = shown.recv().await {
            if let JoinEvent::Words(words) = &event {
                typed.send(words.join(" ")).await.unwrap();
            }
            all.push(event);
        }
        all
    };
    tokio::join!(timeout(LONG, join(options, events, accept)), watch).map_first(Result::unwrap)
}

trait MapFirst<A, B> {
    fn map_first<C>(self, map: impl FnOnce(A) -> C) -> (C, B);
}

impl<A, B> MapFirst<A, B> for (A, B) {
    fn map_first<C>(self, map: impl FnOnce(A) -> C) -> (C, B) {
        (map(self.0), self.1)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_pairs_over_real_sockets_and_connects() {
    // Once found by the ticket's hint, once by the runtime directory.
    for by_hint in [true, false] {
        let (_temp, run) = run_dir();
        let mut sponsor = Sponsor::open(Some(&run), false).await;
        let ticket = sponsor.ticket(by_hint);
        let session = ticket.session;
        let (typed, mut words) = mpsc::channel(4);
        let new = keys(9);
        let (sponsor_id, mesh) = (sponsor.node.id(), sponsor.registry.view().mesh_id);
        let hosting = tokio::spawn(async move {
            sponsor
                .run(&mut words, |story| {
                    story.iter().any(|line| line.starts_with("closed"))
                })
                .await;
            sponsor
        });
        let search = if by_hint { None } else { Some(run.as_path()) };
        let (joined, shown) = join_typing(options(ticket, &new, search), typed).await;
        let joined = joined.unwrap();
        assert!(matches!(shown[1], JoinEvent::Words(_)), "{shown:?}");
        assert_eq!(
            shown[2],
            JoinEvent::Found {
                mesh_name: "home".into(),
                devices: 1
            }
        );
        assert_eq!(
            (joined.sponsor, joined.registry.view().mesh_id),
            (sponsor_id, mesh)
        );
        let public = joined.registry.view().devices[&sponsor_id].public;
        timeout(LONG, joined.confirm()).await.unwrap().unwrap();
        let mut sponsor = timeout(LONG, hosting).await.unwrap().unwrap();
        assert_eq!(sponsor.story, ["joining phone", "done", "closed: Used"]);

        // The ticket is dead.
        assert!(sponsor.session.ticket(vec![]).is_none());
        assert_ne!(session, [0; 16]);

        // Both meet as devices of one mesh.
        let mut phone = Node::start_in(9, mesh, None).await;
        phone.net.set_peers(vec![Peer {
            device: sponsor_id,
            public,
            addresses: vec![sponsor.node.address()],
        }]);
        phone.connected(&sponsor.node).await;
        sponsor.node.connected(&phone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_ticket_a_busy_window_and_wrong_words() {
    let mut sponsor = Sponsor::open(None, false).await;
    let ticket = sponsor.ticket(true);
    let (typed, mut words) = mpsc::channel(4);

    // The right session with another secret.
    let mut wrong = ticket.clone();
    wrong.secret = Secret::new([1; 32]);
    let new = keys(9);
    let run = sponsor.run(&mut words, |story| !story.is_empty());
    let (joined, ()) = tokio::join!(join_typing(options(wrong, &new, None), typed.clone()), run);
    assert!(
        matches!(joined.0, Err(JoinError::Refused { words_shown: false })),
        "{joined:?}"
    );
    assert_eq!(sponsor.story.len(), 1);
    assert!(
        sponsor.story[0].ends_with("; 4 left"),
        "{:?}",
        sponsor.story
    );

    // While one joiner shows its words, a second one is turned away; then the user types nonsense twice.
    let (second_keys, second_ticket) = (keys(10), ticket.clone());
    let (nonsense, mut typed_words) = mpsc::channel::<String>(4);
    let (first_shown, wait) = oneshot::channel();
    let first = async {
        let (events, mut shown) = mpsc::channel(8);
        let (_yes, accept) = oneshot::channel();
        let watch = async {
            let mut first_shown = Some(first_shown);
            while let Some(event) = shown.recv().await {
                if matches!(event, JoinEvent::Words(_)) {
                    first_shown.take().unwrap().send(()).unwrap();
                }
            }
        };
        tokio::join!(
            timeout(
                LONG,
                join(options(ticket.clone(), &new, None), events, accept)
            ),
            watch
        )
        .0
        .unwrap()
    };
    let second = async {
        wait.await.unwrap();
        let (events, _shown) = mpsc::channel(8);
        let (_yes, accept) = oneshot::channel();
        let refused = timeout(
            LONG,
            join(options(second_ticket, &second_keys, None), events, accept),
        )
        .await
        .unwrap();
        for _ in 0..2 {
            nonsense.send("no words".into()).await.unwrap();
        }
        refused
    };
    // The sponsor's user is slow: the words are asked for on the side, so that the window goes on hearing others.
    let host = async {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let mut asked = false;
        while sponsor.session.is_open() {
            let effects = tokio::select! {
                event = sponsor.node.events.recv() => match event.unwrap() {
                    NetEvent::PairFrame { stream, remote_transport_pub, bytes } =>
                        sponsor.session.handle_frame(Instant::now(), &mut rng, stream, remote_transport_pub, &bytes),
                    NetEvent::PairClosed { stream } => sponsor.session.handle_closed(stream),
                    _ => vec![],
                },
                Some(words) = typed_words.recv(), if asked => sponsor.session.confirm_words(&words),
            };
            let (ask, rest): (Vec<_>, Vec<_>) = effects.into_iter().partition(|e| {
                matches!(
                    e,
                    SponsorEffect::AskWords | SponsorEffect::WordsWrong { .. }
                )
            });
            asked |= !ask.is_empty();
            sponsor.perform(rest, &mut words).await;
        }
    };
    let (first, second, ()) = tokio::join!(first, second, host);
    assert!(
        matches!(first, Err(JoinError::Refused { words_shown: true })),
        "{first:?}"
    );
    assert!(
        matches!(second, Err(JoinError::Refused { words_shown: false })),
        "{second:?}"
    );
    assert_eq!(
        sponsor.story[1..],
        [
            "joining phone",
            "failed: the words were wrong; 0 left",
            "closed: Attempts"
        ]
    );
}
