//! Pairing end to end: both sides, real sockets, a user who types.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ownmesh_crypto::pairing::{Code, Enrollment, Ticket, Window};
use ownmesh_crypto::registry::{self, By, JoinPath, Registry};
use ownmesh_crypto::{DeviceKeys, MasterKey, MeshSecret, RootKeys, Secret};
use ownmesh_node::net::{NetEvent, Peer};
use ownmesh_node::pair::{
    Answer, Ask, Invitation, JoinError, JoinEvent, JoinOptions, Joined, SponsorEffect,
    SponsorSession, join,
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
        let window = Window::new(registry.view().mesh_id, &mut rng);
        let session = SponsorSession::open(window, own, trust, Instant::now());
        node.net.open_window(session.advert().unwrap());
        Self {
            node,
            registry,
            secret,
            session,
            story: Vec::new(),
        }
    }

    fn code(&self) -> Code {
        self.session.code().unwrap().clone()
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
                SponsorEffect::Word { word } => self.story.push(format!("word {word}")),
                SponsorEffect::NeedEnrollment { join, path } => {
                    let mesh = self.registry.view().mesh_id;
                    let by = By::Device(&self.node.keys);
                    let admitted = registry::device(
                        by,
                        &mesh,
                        &join.name,
                        &join.platform,
                        &join.card,
                        path,
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

fn options<'a>(
    invitation: impl Into<Given>,
    keys: &'a DeviceKeys,
    run: Option<&Path>,
) -> JoinOptions<'a> {
    JoinOptions {
        invitation: invitation.into().0,
        trust: false,
        keys,
        name: "phone".into(),
        platform: "linux".into(),
        at: vec![],
        runtime_dir: run.map_or_else(|| PathBuf::from("/nonexistent"), Path::to_path_buf),
        mdns: false,
    }
}

/// What a user was given.
struct Given(Invitation);

impl From<Ticket> for Given {
    fn from(ticket: Ticket) -> Self {
        Self(Invitation::Ticket(Box::new(ticket)))
    }
}

impl From<Code> for Given {
    fn from(code: Code) -> Self {
        Self(Invitation::Code(code))
    }
}

/// Joins with a user who types what he sees and agrees.
async fn join_typing(
    options: JoinOptions<'_>,
    typed: mpsc::Sender<String>,
) -> (Result<Joined, JoinError>, Vec<JoinEvent>) {
    let (events, mut shown) = mpsc::channel(8);
    let (yes, answers) = mpsc::channel(4);
    yes.send(Answer::Yes).await.unwrap();
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
    tokio::join!(timeout(LONG, join(options, events, answers)), watch).map_first(Result::unwrap)
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
                devices: 1,
                ask: Ask::Agreement
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
        let (_yes, answers) = mpsc::channel(4);
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
                join(options(ticket.clone(), &new, None), events, answers)
            ),
            watch
        )
        .0
        .unwrap()
    };
    let second = async {
        wait.await.unwrap();
        let (events, _shown) = mpsc::channel(8);
        let (_yes, answers) = mpsc::channel(4);
        let refused = timeout(
            LONG,
            join(options(second_ticket, &second_keys, None), events, answers),
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

/// By the code, found in the runtime directory: the laptop asks for two words and shows a third, which the phone asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_pairs_by_code() {
    let (_temp, run) = run_dir();
    let mut sponsor = Sponsor::open(Some(&run), false).await;
    let code = sponsor.code();
    let new = keys(9);
    let (typed, mut words) = mpsc::channel(4);
    let (events, mut shown) = mpsc::channel(8);
    let (answer, answers) = mpsc::channel(4);
    let (back, mut third) = mpsc::channel::<String>(1);
    let joining = async {
        let joined = timeout(LONG, join(options(code, &new, Some(&run)), events, answers)).await;
        joined.unwrap().unwrap().confirm().await.unwrap();
    };
    let user = async {
        let mut story = Vec::new();
        while let Some(event) = shown.recv().await {
            match &event {
                JoinEvent::Words(words) => typed.send(words.join(" ")).await.unwrap(),
                JoinEvent::Found { ask: Ask::Word, .. } => {
                    answer.send(Answer::Word("slip".into())).await.unwrap();
                }
                JoinEvent::WordWrong { left: 1 } => {
                    let word = third.recv().await.unwrap();
                    answer.send(Answer::Word(word)).await.unwrap();
                }
                _ => {}
            }
            story.push(event);
        }
        story.len()
    };
    let hosting = async {
        let shows_word = |story: &[String]| story.last().is_some_and(|l| l.starts_with("word "));
        sponsor.run(&mut words, shows_word).await;
        let word = sponsor.story.pop().unwrap();
        back.send(word["word ".len()..].to_owned()).await.unwrap();
        let over = |story: &[String]| story.last().is_some_and(|l| l.starts_with("closed"));
        sponsor.run(&mut words, over).await;
    };
    let ((), events, ()) = tokio::join!(joining, user, hosting);
    assert_eq!(events, 4, "reached, words, found, the slip");
    assert_eq!(sponsor.story, ["joining phone", "done", "closed: Used"]);
    assert!(sponsor.session.code().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_code_is_told_to_both() {
    let mut sponsor = Sponsor::open(None, false).await;
    let text = sponsor.code().format();
    let last = if text.ends_with('0') { "1" } else { "0" };
    let wrong = Code::parse(&format!("{}{last}", &text[..text.len() - 1])).unwrap();
    let (typed, mut words) = mpsc::channel(4);
    for left in [2, 1, 0] {
        let new = keys(9);
        let mut by_address = options(wrong.clone(), &new, None);
        by_address.at = vec![sponsor.node.address()];
        let told = format!("failed: the code was wrong, or the connection broke; {left} left");
        let run = sponsor.run(&mut words, |story| story.contains(&told));
        let ((joined, shown), ()) = tokio::join!(join_typing(by_address, typed.clone()), run);
        assert!(matches!(joined, Err(JoinError::WrongCode)), "{joined:?}");
        assert_eq!(shown, [], "nothing of the mesh");
    }
    assert_eq!(sponsor.story.last().unwrap(), "closed: Attempts");
}
